//! SQLite: one machine, one file. Each call is one prepared statement in a transaction of its own (a take: two in one).

mod connection;
mod errors;
mod hints;
mod schema;
mod url;

use std::sync::OnceLock;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row as _, Sqlite};

use self::connection::Line;
pub(super) use self::connection::Place;
use self::url::SqliteUrl;
#[cfg(test)]
use super::dialect::Product;
use super::dialect::{Dialect, Errors, Opened, Settings, Taken, never};
use super::driver;
use super::migration::{Install, MigrationReport};
use super::session::Session;
use super::slot::Slot;
use super::source::Source;
use super::statement::{Places, Statement, Statements};
use super::table::Table;
use super::value::{Cell, Done, Given, Row, Value};
use crate::election::{Expected, Take};
use crate::store::error::StoreError;
use crate::store::hints::Hints;

const PLACES: Places = Places { mark: '?', numbered: true };

/// Made once.
pub(super) fn statements() -> &'static Statements {
    static MADE: OnceLock<&'static Statements> = OnceLock::new();
    MADE.get_or_init(|| Statements::read(include_str!("statements.sql"), &[], PLACES, |text| text))
}

impl Dialect for Place {
    type Line = Line;

    const WIDEN_VERSION: &'static str = "make its type BIGINT";

    const ERRORS: Errors = Errors {
        leave_connection_in_order: errors::leaves_connection_in_order,
        // Nothing is inserted but where there is no conflict: a constraint is somebody else's.
        are_granted_already: never,
        are_not_to_be_read: errors::is_not_to_be_read,
        say_closed: never,
        are_denied: never,
    };

    fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn execute(
        line: &mut Line,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Done, sqlx::Error> {
        execute(&mut line.connection, statement, values).await
    }

    async fn fetch(
        line: &mut Line,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.connection.fetch_all(bound(statement, values)).await?;
        driver::rows(&rows, cell)
    }

    async fn inspect(&self, line: &mut Line, lock_limit: u64) -> Result<Table, StoreError> {
        let limited = connection::limit_lock_wait(&mut line.connection, lock_limit).await;
        limited.map_err(|error| self.classify(error))?;
        connection::inspect(&mut line.connection, self).await
    }

    async fn limit_lock_wait(line: &mut Line, ms: u64) -> Result<(), sqlx::Error> {
        connection::limit_lock_wait(&mut line.connection, ms).await
    }

    fn classify(&self, error: sqlx::Error) -> StoreError {
        errors::classify(error, self)
    }

    fn is_current(&self, line: &Line) -> bool {
        let is_current = line.is_of(self);
        if !is_current {
            tracing::warn!("{self}: the file was removed or replaced; what is there now is another database");
        }
        is_current
    }

    fn server(line: &Line) -> String {
        line.name.clone()
    }

    async fn take(session: &mut Session<Self>, take: &Take, given: &Given<'_>) -> Result<Taken, sqlx::Error> {
        let sql = session.table.sql;
        let statement = match take.expected {
            Expected::Missing { .. } => &sql.take_missing,
            Expected::Row { .. } => &sql.take_row,
        };
        let mut transaction = session.line.connection.begin_with("BEGIN IMMEDIATE").await?;
        let taken = execute(&mut transaction, statement, &statement.values(given)?).await?;
        let kept = match taken.affected {
            0 => false,
            _ => match execute(&mut transaction, &sql.write_history, &sql.write_history.values(given)?).await
            {
                Err(error) if errors::is_constraint(&error) => false,
                // None: a trigger made something else of the row.
                written => written?.affected > 0,
            },
        };
        if !kept {
            transaction.rollback().await?;
            return Ok(Taken::NoRow);
        }
        transaction.commit().await?;
        Ok(Taken::Begun)
    }

    fn hints(&self, _: &Slot<Self>) -> Hints {
        let place = self.clone();
        Hints::fed_by(move |sender| hints::watch(place, sender)).of_every_commit()
    }
}

impl Opened for Place {
    type Url = SqliteUrl;

    fn at(source: Source, url: &SqliteUrl, _: &str) -> Result<Self, StoreError> {
        Ok(Self::new(url.path.clone(), source.allows_unsafe_backend()))
    }

    async fn migrate(url: &SqliteUrl, how: Install) -> Result<MigrationReport, StoreError> {
        schema::migrate(url, how).await
    }

    #[cfg(test)]
    fn products() -> Vec<Product> {
        // A file has room, and tells of every commit.
        vec![Product { name: "SQLite", statements: statements(), absent: &["notify", "has_room"] }]
    }
}

async fn execute(
    connection: &mut SqliteConnection,
    statement: &'static Statement,
    values: &[Value<'_>],
) -> Result<Done, sqlx::Error> {
    let done = connection.execute(bound(statement, values)).await?;
    Ok(Done { affected: done.rows_affected(), last_id: done.last_insert_rowid() })
}

fn bound(statement: &'static Statement, values: &[Value<'_>]) -> Query<'static, Sqlite, SqliteArguments> {
    driver::bound(statement, values, |query, names| query.bind(names.json().to_owned()))
}

fn cell(row: &SqliteRow, index: usize, kind: &str) -> Result<Cell, sqlx::Error> {
    match kind {
        "INTEGER" | "BOOLEAN" => row.try_get_unchecked(index).map(Cell::Int),
        _ => row.try_get(index).map(Cell::Text),
    }
}

/// Several statements, or one that takes no values.
async fn script(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
}
