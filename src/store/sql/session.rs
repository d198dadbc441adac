//! A connection that has been looked at, and what is known of the tables behind it.

use super::dialect::{Dialect, Taken};
use super::slot::First;
use super::statement::Statement;
use super::table::Table;
use super::value::{Done, Given, Row, Value};
use crate::election::TermKey;
use crate::store::error::StoreError;

/// A connection that has been looked at.
pub(super) struct Session<D: Dialect> {
    pub(super) line: D::Line,
    /// The limit that this connection was told, ms; 0 for none.
    pub(super) lock_limit: u64,
    /// Since the tables were looked for.
    pub(super) looks: u32,
    pub(super) table: Table,
}

impl<D: Dialect> Session<D> {
    pub(super) fn new(line: D::Line, lock_limit: u64, table: Table) -> Self {
        Self { line, lock_limit, looks: 0, table }
    }

    /// On a connection that was made just now.
    pub(super) async fn begin(place: &D, mut line: D::Line, first: First) -> Result<Self, StoreError> {
        let lock_limit = place.settings().lock_limit();
        let table = place.inspect(&mut line, lock_limit).await?;
        prepare(place, &mut line, &table, first).await?;
        Ok(Self::new(line, lock_limit, table))
    }

    pub(super) async fn execute(
        &mut self,
        statement: &'static Statement,
        given: &Given<'_>,
    ) -> Result<Done, sqlx::Error> {
        D::execute(&mut self.line, statement, &statement.values(given)?).await
    }

    pub(super) async fn fetch(
        &mut self,
        statement: &'static Statement,
        given: &Given<'_>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        D::fetch(&mut self.line, statement, &statement.values(given)?).await
    }

    pub(super) async fn take_by(
        &mut self,
        statement: &'static Statement,
        given: &Given<'_>,
    ) -> Result<Taken, sqlx::Error> {
        match self.execute(statement, given).await {
            Ok(done) if done.affected == 0 => Ok(Taken::NoRow),
            Ok(_) => Ok(Taken::Begun),
            Err(error) if (D::ERRORS.are_granted_already)(&error) => Ok(Taken::Refused),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn fetch_one(
        &mut self,
        statement: &'static Statement,
        given: &Given<'_>,
    ) -> Result<Row, sqlx::Error> {
        self.fetch(statement, given).await?.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }
}

/// What will be asked first, so that it takes one round trip then.
pub(super) async fn prepare<D: Dialect>(
    place: &D,
    line: &mut D::Line,
    table: &Table,
    first: First,
) -> Result<(), StoreError> {
    let sql = table.sql;
    let look = if table.companions { &sql.look } else { &sql.look_bare };
    let beats = [&sql.begin_instance, &sql.move_heartbeat];
    let mut beats = beats.into_iter().filter(|statement| table.instances && !statement.is_empty());
    let statements: Vec<_> = match first {
        First::Other => Vec::new(),
        First::Renew => [&sql.renew].into_iter().chain(beats.next_back()).collect(),
        First::Look if table.instances => [&sql.renew, look, &sql.claimed].into_iter().chain(beats).collect(),
        First::Look => vec![&sql.renew, look],
    };
    for statement in statements {
        let measured = place.settings().pace().begin();
        match D::prepare(line, statement).await {
            Ok(()) if std::ptr::eq(statement, &raw const sql.renew) => measured.round_trip(),
            Ok(()) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(place.classify(error)),
        }
    }
    Ok(())
}

pub(super) fn of_term(term: &TermKey) -> [(&'static str, Value<'_>); 3] {
    [
        ("component", term.component.as_str().into()),
        ("holder", term.holder.as_str().into()),
        ("version", term.version.into()),
    ]
}
