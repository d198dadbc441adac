//! MySQL 8 and newer, MariaDB 10.6 and newer. Each call is one prepared statement in a transaction
//! of its own (READ COMMITTED, autocommit); a take is several in one text.

mod connection;
mod errors;
mod inspect;
mod schema;
mod url;

use std::fmt::Write as _;

use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor, MySql, Row as _, SqlSafeStr as _};

pub(super) use self::connection::Place;
use self::connection::set_up;
#[cfg(test)]
use self::inspect::statements;
use self::url::MySqlUrl;
#[cfg(test)]
use super::dialect::Product;
use super::dialect::{Dialect, Errors, Opened, Settings, Taken, never};
use super::driver;
use super::migration::{Install, MigrationReport};
use super::session::Session;
use super::slot::Slot;
use super::source::Source;
use super::statement::Statement;
use super::table::Table;
use super::value::{Cell, Done, Given, Row, Value};
use crate::election::{ComponentName, Expected, Take};
use crate::store::error::StoreError;
use crate::store::hints::Hints;

impl Dialect for Place {
    type Line = MySqlConnection;

    const WIDEN_VERSION: &'static str = "ALTER TABLE component_lease MODIFY version BIGINT NOT NULL";

    const ERRORS: Errors = Errors {
        leave_connection_in_order: errors::leaves_connection_in_order,
        are_granted_already: errors::is_granted_already,
        are_not_to_be_read: errors::is_not_to_be_read,
        say_closed: errors::says_closed,
        are_denied: never,
    };

    fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn execute(
        line: &mut MySqlConnection,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Done, sqlx::Error> {
        let done = line.execute(bound(statement, values)).await?;
        let last_id = i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX);
        Ok(Done { affected: done.rows_affected(), last_id })
    }

    async fn fetch(
        line: &mut MySqlConnection,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.fetch_all(bound(statement, values)).await?;
        driver::rows(&rows, cell)
    }

    async fn inspect(&self, line: &mut MySqlConnection, lock_limit: u64) -> Result<Table, StoreError> {
        inspect::inspect(line, &set_up(lock_limit), self).await
    }

    async fn prepare(line: &mut MySqlConnection, statement: &'static Statement) -> Result<(), sqlx::Error> {
        line.prepare(statement.text().into_sql_str()).await.map(drop)
    }

    async fn limit_lock_wait(line: &mut MySqlConnection, ms: u64) -> Result<(), sqlx::Error> {
        connection::limit_lock_wait(line, ms).await
    }

    fn classify(&self, error: sqlx::Error) -> StoreError {
        errors::classify(error, self)
    }

    async fn take(session: &mut Session<Self>, take: &Take, given: &Given<'_>) -> Result<Taken, sqlx::Error> {
        let statement = match take.expected {
            Expected::Missing { .. } => &session.table.sql.take_missing,
            Expected::Row { .. } => &session.table.sql.take_row,
        };
        let text = AssertSqlSafe(statement.written(given, literal)?);
        match session.line.fetch_one(sqlx::raw_sql(text)).await {
            Ok(row) if row.try_get::<i64, _>("taken")? == 0 => Ok(Taken::NoRow),
            Ok(_) => Ok(Taken::Begun),
            // The transaction is still open. Without a COMMIT nothing is applied: where the connection is
            // closed, the server rolls back.
            Err(error) if errors::leaves_connection_in_order(&error) => {
                session.line.execute(sqlx::raw_sql("ROLLBACK")).await?;
                if errors::is_granted_already(&error) { Ok(Taken::NoRow) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// A table whose collation takes two names for one has room for one of them only.
    fn same_name(&self, component: &ComponentName, row: &Row) -> Result<(), StoreError> {
        match row.text_or_none("name").map_err(|error| self.classify(error))? {
            Some(found) if found != component.as_str() => Err(StoreError::misconfigured(format!(
                "{self}: the table component_lease takes {:?} for {found:?}, which has a row there, because of the collation of its column component_name: choose another name, or as its owner convert the column to COLLATE utf8mb4_bin",
                component.as_str()
            ))),
            _ => Ok(()),
        }
    }

    fn hidden(&self, row: &Row) -> Result<(), StoreError> {
        match row.yes("is_table") {
            Ok(false) => Err(errors::no_table(self, "component_lease")),
            _ => Ok(()),
        }
    }

    /// Neither server notifies anybody of anything.
    fn hints(&self, _: &Slot<Self>) -> Hints {
        Hints::none()
    }
}

impl Opened for Place {
    type Url = MySqlUrl;

    fn at(source: Source, url: &MySqlUrl, _: &str) -> Result<Self, StoreError> {
        Ok(Self::new(source, url))
    }

    async fn migrate(url: &MySqlUrl, how: Install) -> Result<MigrationReport, StoreError> {
        schema::migrate(url, how).await
    }

    #[cfg(test)]
    fn products() -> Vec<Product> {
        // They notify nobody; a take is one text.
        let absent = &["write_history", "notify", "has_room"];
        [("MySQL", false), ("MariaDB", true)]
            .map(|(name, mariadb)| Product { name, statements: statements(mariadb, None), absent })
            .into()
    }
}

fn bound(statement: &'static Statement, values: &[Value<'_>]) -> Query<'static, MySql, MySqlArguments> {
    driver::bound(statement, values, |query, names| query.bind(names.json().to_owned()))
}

/// Needs no escaping.
fn literal(value: Value<'_>) -> String {
    match value {
        Value::Int(Some(value)) => value.to_string(),
        Value::Bool(Some(value)) => i32::from(value).to_string(),
        Value::Text(Some(text)) => hexadecimal(text),
        Value::Names(names) => hexadecimal(names.json()),
        Value::Int(None) | Value::Bool(None) | Value::Text(None) => "NULL".to_owned(),
    }
}

fn hexadecimal(text: &str) -> String {
    let mut literal = String::from("_utf8mb4 X'");
    for byte in text.bytes() {
        write!(literal, "{byte:02X}").expect("a String takes all");
    }
    literal + "'"
}

/// The servers disagree on the types of texts in their catalogues, not on the bytes.
fn cell(row: &MySqlRow, index: usize, kind: &str) -> Result<Cell, sqlx::Error> {
    if kind.contains("UNSIGNED") {
        let value: u64 = row.try_get_unchecked(index)?;
        return Ok(Cell::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }
    if kind.contains("INT") || kind == "BOOLEAN" {
        return row.try_get_unchecked(index).map(Cell::Int);
    }
    let bytes: Vec<u8> = row.try_get_unchecked(index)?;
    String::from_utf8(bytes).map(Cell::Text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_text_of_a_take_cannot_be_taken_for_sql() {
        let given = [
            ("component", "';--\\".into()),
            ("holder", "\u{fc}\"`".into()),
            ("version", (-7_i64).into()),
            ("ttl", 9_u32.into()),
            ("highest", 3_i64.into()),
            ("seen_version", 1_i64.into()),
            ("seen_renew_time", 2_i64.into()),
            ("identity", "a'b".into()),
            ("epoch", 4_i64.into()),
        ];
        let sql = statements(false, None);
        for statement in [&sql.take_missing, &sql.take_row] {
            let text = statement.written(&given, literal).unwrap();
            for piece in ["';", "\\", "\u{fc}", "\"", "`", "a'b"] {
                let ours = text.replace("X'", "").matches(piece).count();
                assert_eq!(ours, 0, "{piece} in {text}");
            }
            assert!(
                text.contains("_utf8mb4 X'273B2D2D5C'") && text.contains("_utf8mb4 X'C3BC2260'"),
                "{text}"
            );
        }
    }
}
