//! What one kind of SQL database is to all that is written once: its connection, what its errors mean, what it says
//! of itself and of the tables. Its statements are [`Statements`](super::statement::Statements).

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::address::{Url, misconfigured};
use super::doubt;
use super::migration::{Install, MigrationReport};
use super::pace::PaceCell;
use super::session::Session;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use super::several::SaidSeveral;
use super::slot::{Connect, Slot};
use super::source::Source;
use super::statement::Statement;
use super::table::Table;
use super::value::{Done, Given, Row, Value};
use crate::election::{ComponentName, Expected, Take, TermKey};
use crate::store::error::StoreError;
use crate::store::hints::Hints;

/// A kind of SQL database, and which database of it.
pub(super) trait Dialect: Connect<Session = Session<Self>> {
    /// A connection, with what belongs to it.
    type Line: Send + 'static;

    /// What gives the column of versions more room, as SQL.
    const WIDEN_VERSION: &'static str;

    const ERRORS: Errors;

    fn settings(&self) -> &Settings;

    fn execute(
        line: &mut Self::Line,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Done, sqlx::Error>> + Send;

    fn fetch(
        line: &mut Self::Line,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    /// Looks at the server and at the tables, and sets the session up.
    fn inspect(
        &self,
        line: &mut Self::Line,
        lock_limit: u64,
    ) -> impl Future<Output = Result<Table, StoreError>> + Send;

    /// Lets the server know a statement before it is asked. What cannot be prepared says why when it is asked.
    fn prepare(
        _: &mut Self::Line,
        _: &'static Statement,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        async { Ok(()) }
    }

    /// In ms; 0 for the longest that anything may wait.
    fn limit_lock_wait(
        line: &mut Self::Line,
        ms: u64,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// What the error means for the caller, and what to do about it.
    fn classify(&self, error: sqlx::Error) -> StoreError;

    /// Whether the connection still leads to what the URL names.
    fn is_current(&self, _: &Self::Line) -> bool {
        true
    }

    /// What the statements know the server by (`:server`), where they cannot ask it.
    fn server(_: &Self::Line) -> String {
        String::new()
    }

    /// Begins a term where there are companion tables: one transaction.
    fn take(
        session: &mut Session<Self>,
        take: &Take,
        given: &Given<'_>,
    ) -> impl Future<Output = Result<Taken, sqlx::Error>> + Send {
        let statement = match take.expected {
            Expected::Missing { .. } => &session.table.sql.take_missing,
            Expected::Row { .. } => &session.table.sql.take_row,
        };
        session.take_by(statement, given)
    }

    /// Of the row that a look found.
    fn same_name(&self, _: &ComponentName, _: &Row) -> Result<(), StoreError> {
        Ok(())
    }

    fn beat(
        session: &mut Session<Self>,
        given: &Given<'_>,
        id: Option<i64>,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send {
        async move {
            let statements = session.table.sql;
            if let Some(id) = id
                && session.execute(&statements.move_heartbeat, given).await?.affected > 0
            {
                return Ok(id);
            }
            Ok(session.execute(&statements.begin_instance, given).await?.last_id)
        }
    }

    /// Whether "no row" is what it says: asked where it may not be the whole truth.
    fn doubt(
        &self,
        session: &mut Session<Self>,
        about: &About<'_>,
    ) -> impl Future<Output = Result<Result<(), StoreError>, sqlx::Error>> + Send {
        doubt::ask(self, session, about)
    }

    /// What hides the row that a doubt was about, beside what its columns say.
    fn hidden(&self, _: &Row) -> Result<(), StoreError> {
        Ok(())
    }

    /// Of a call that the server refused for a right that is lacking: which.
    fn denied(
        &self,
        _: &mut Session<Self>,
        _: Call,
        _: &sqlx::Error,
    ) -> impl Future<Output = Option<StoreError>> + Send {
        async { None }
    }

    /// Adds to an error which of the values that were sent are the reason.
    fn naming(error: StoreError, _: &[&str]) -> StoreError {
        error
    }

    /// The callers that wait for a change.
    fn hints(&self, slot: &Slot<Self>) -> Hints;

    fn notify(
        &self,
        _: &Slot<Self>,
        _: &ComponentName,
    ) -> impl Future<Output = Option<Result<(), StoreError>>> + Send {
        async { Some(Ok(())) }
    }
}

/// How a kind of database is opened, by the URL that leads to one.
pub(super) trait Opened: Dialect {
    type Url: Url;

    /// `url` is what the source said just now; every connect asks the source again. `application` is what the
    /// database shows for our connections, where it does. Says what is wrong before anything is connected.
    fn at(source: Source, url: &Self::Url, application: &str) -> Result<Self, StoreError>;

    /// Makes what is missing of the tables.
    fn migrate(
        url: &Self::Url,
        how: Install,
    ) -> impl Future<Output = Result<MigrationReport, StoreError>> + Send;

    /// The servers of this kind.
    #[cfg(test)]
    fn products() -> Vec<Product>;
}

/// A server, with the statements that it is sent.
#[cfg(test)]
pub(super) struct Product {
    pub(super) name: &'static str,
    pub(super) statements: &'static super::statement::Statements,
    /// The statements that it has no need of.
    pub(super) absent: &'static [&'static str],
}

/// Classes of errors, by what follows from them here.
pub(super) struct Errors {
    /// The server refused one statement and the connection is as before. Everything else that goes
    /// wrong ends the connection: the next one looks at the table and the server anew, and says better
    /// what is the matter (the table was dropped, the server became a replica).
    pub(super) leave_connection_in_order: fn(&sqlx::Error) -> bool,
    /// There is a row of this key already, or the history has this version or a later one: a lost race.
    pub(super) are_granted_already: fn(&sqlx::Error) -> bool,
    /// What was asked for is not there, is not what we take it for, or not for this user.
    pub(super) are_not_to_be_read: fn(&sqlx::Error) -> bool,
    /// Somebody closed the connection: the server when it was idle, or somebody in between.
    pub(super) say_closed: fn(&sqlx::Error) -> bool,
    /// The user lacks a right, which [`Dialect::denied`] may name.
    pub(super) are_denied: fn(&sqlx::Error) -> bool,
}

/// For a class that a database does not have.
pub(super) fn never(_: &sqlx::Error) -> bool {
    false
}

/// How a take ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Begun,
    /// The history has a later version.
    Refused,
    /// No row was changed, which something in the database may have seen to.
    NoRow,
}

/// What "no row" is doubted of.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// A renewal or a release.
    Term(&'a TermKey),
    /// A take that was lost twice on one sight.
    Take(&'a Take),
}

impl About<'_> {
    pub(super) fn component(&self) -> &ComponentName {
        match self {
            Self::Term(term) => &term.component,
            Self::Take(take) => &take.term.component,
        }
    }
}

/// What a call needs, for the message when the server refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Look,
    LookAll,
    Take,
    /// A renewal or a release.
    Term,
    Beat,
    Prune,
    /// Which components have a row.
    List,
    ReadHistory,
    EndTerm,
    PruneHistory,
    Intent,
    Record,
    /// A record or a report beside a lease.
    Roster,
}

/// Refuses a database that may forget what it acknowledged.
fn unsafe_backend(place: &impl Display, says: &str) -> StoreError {
    misconfigured(format!(
        "UnsafeBackend: {place}: {says}; or, where two leaders and repeated versions do no harm, say --allow-unsafe-backend"
    ))
}

/// What is shared by all connections of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// What is weaker with somebody else's table is said once, not at every connect.
    said: AtomicBool,
    /// The longest wait for a lock, ms; 0 until somebody sets it.
    lock_limit: AtomicU64,
    pace: PaceCell,
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    said_several: SaidSeveral,
}

impl Settings {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn said_several(&self) -> &SaidSeveral {
        &self.0.said_several
    }

    pub(super) fn lock_limit(&self) -> u64 {
        self.0.lock_limit.load(Ordering::Relaxed)
    }

    pub(super) fn limit_lock_wait(&self, limit: Duration) {
        // 0 would mean no limit at all.
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.0.lock_limit.store(ms, Ordering::Relaxed);
    }

    /// Whether it was all said before; from now on it was.
    pub(super) fn said_before(&self) -> bool {
        self.0.said.swap(true, Ordering::Relaxed)
    }

    /// A backend that forgets what it acknowledged is refused, unless the operator wants it so.
    pub(super) fn refuse_unsafe(
        &self,
        place: &impl Display,
        is_wanted: bool,
        says: &str,
    ) -> Result<(), StoreError> {
        if !is_wanted {
            return Err(unsafe_backend(place, says));
        }
        if !self.0.said.load(Ordering::Relaxed) {
            tracing::warn!("{place}: {says}; allowed by --allow-unsafe-backend");
        }
        Ok(())
    }

    pub(super) fn pace(&self) -> &PaceCell {
        &self.0.pace
    }
}
