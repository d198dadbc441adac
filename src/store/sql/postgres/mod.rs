//! PostgreSQL 13 and newer. Each call is one statement in a transaction of its own (READ COMMITTED): prepared, or as
//! text where a pooler is in between.

mod access;
mod connection;
mod errors;
mod hints;
mod identity;
mod pooler;
mod schema;
mod statement;
mod statements;
mod table;
mod url;

use sqlx::postgres::PgRow;
use sqlx::{Connection as _, Row as _};

use self::connection::Connected;
pub(super) use self::connection::Place;
#[cfg(test)]
pub(super) use self::schema::SCHEMA;
use self::statement::Statement as Sent;
use self::url::PostgresUrl;
#[cfg(test)]
use super::dialect::Product;
use super::dialect::{Call, Dialect, Errors, Opened, Settings};
use super::driver;
use super::migration::{Install, MigrationReport};
use super::session::Session;
use super::slot::Slot;
use super::source::Source;
use super::statement::Statement;
use super::table::Table;
use super::value::{Cell, Done, Given, Row, Value};
use crate::election::ComponentName;
use crate::store::error::StoreError;
use crate::store::hints::Hints;

impl Dialect for Place {
    type Line = Connected;

    const WIDEN_VERSION: &'static str = "ALTER TABLE component_lease ALTER COLUMN version TYPE BIGINT";

    const ERRORS: Errors = Errors {
        leave_connection_in_order: errors::leaves_connection_in_order,
        are_granted_already: errors::is_granted_already,
        are_not_to_be_read: errors::is_not_to_be_read,
        say_closed: errors::says_closed,
        are_denied: errors::is_denied,
    };

    fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn execute(
        line: &mut Connected,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Done, sqlx::Error> {
        let affected = line.line().execute(sent(statement, values)).await?;
        Ok(Done { affected, last_id: 0 })
    }

    async fn fetch(
        line: &mut Connected,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.line().fetch_all(sent(statement, values)).await?;
        driver::rows(&rows, cell)
    }

    async fn inspect(&self, line: &mut Connected, lock_limit: u64) -> Result<Table, StoreError> {
        let (table, identity) = table::inspect(&mut line.connection, &mut line.how, lock_limit, self).await?;
        self.seen.set(&identity);
        Ok(table)
    }

    async fn prepare(line: &mut Connected, statement: &'static Statement) -> Result<(), sqlx::Error> {
        // On a session that is shared nothing is prepared; how long an answer takes is asked all the same.
        if line.how.is_shared() {
            return line.connection.ping().await;
        }
        connection::prepare(&mut line.connection, statement).await
    }

    async fn limit_lock_wait(line: &mut Connected, ms: u64) -> Result<(), sqlx::Error> {
        line.limit_lock_wait(ms).await
    }

    fn classify(&self, error: sqlx::Error) -> StoreError {
        errors::classify(error, self)
    }

    /// One statement moves the row or begins another one.
    async fn beat(
        session: &mut Session<Self>,
        given: &Given<'_>,
        _: Option<i64>,
    ) -> Result<i64, sqlx::Error> {
        let statement = &session.table.sql.begin_instance;
        session.fetch_one(statement, given).await?.int("id")
    }

    fn hidden(&self, row: &Row) -> Result<(), StoreError> {
        let veils = row.text("veils").map_err(|error| self.classify(error))?;
        access::refuse_veils(&veils.lines().map(ToOwned::to_owned).collect::<Vec<_>>(), self)
    }

    async fn denied(
        &self,
        session: &mut Session<Self>,
        call: Call,
        error: &sqlx::Error,
    ) -> Option<StoreError> {
        let why = access::lacks(&mut session.line.line(), call, self).await?;
        Some(errors::denied(error, &why, self))
    }

    fn naming(error: StoreError, sent: &[&str]) -> StoreError {
        errors::naming(error, sent)
    }

    fn hints(&self, slot: &Slot<Self>) -> Hints {
        let (place, slot) = (self.clone(), slot.clone());
        Hints::fed_by(move |sender| hints::listen(place, slot, sender))
    }

    /// What listens has nothing better to do, and may wait.
    async fn notify(&self, slot: &Slot<Self>, component: &ComponentName) -> Option<Result<(), StoreError>> {
        slot.notify(component.as_str()).await
    }
}

impl Opened for Place {
    type Url = PostgresUrl;

    fn at(source: Source, url: &PostgresUrl, application: &str) -> Result<Self, StoreError> {
        source.read_direct::<PostgresUrl>()?;
        Ok(Self::new(source, url, application))
    }

    async fn migrate(url: &PostgresUrl, how: Install) -> Result<MigrationReport, StoreError> {
        schema::migrate(url, how).await
    }

    #[cfg(test)]
    fn products() -> Vec<Product> {
        let statements = statements::of(identity::Form::from_number(0));
        // A beat is one statement; a take, too.
        vec![Product { name: "PostgreSQL", statements, absent: &["move_heartbeat", "write_history"] }]
    }
}

/// Prepared, or as a text where a pooler is in between.
fn sent<'v>(statement: &'static Statement, values: &[Value<'v>]) -> Sent<'v> {
    values.iter().fold(Sent::new(statement.text()), |sent, value| match *value {
        Value::Int(value) => sent.bind(value),
        Value::Text(value) => sent.bind(value),
        Value::Bool(value) => sent.bind(value),
        Value::Names(names) => sent.bind(names.as_slice()),
    })
}

fn cell(row: &PgRow, index: usize, kind: &str) -> Result<Cell, sqlx::Error> {
    match kind {
        "BOOL" => row.try_get(index).map(|yes: bool| Cell::Int(yes.into())),
        "INT2" => row.try_get(index).map(|number: i16| Cell::Int(number.into())),
        "INT4" => row.try_get(index).map(|number: i32| Cell::Int(number.into())),
        "INT8" => row.try_get(index).map(Cell::Int),
        _ => row.try_get(index).map(Cell::Text),
    }
}
