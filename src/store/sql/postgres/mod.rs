//! PostgreSQL 13 and newer. Each call is one prepared statement in a transaction of its own (READ COMMITTED).

mod access;
mod connection;
mod errors;
mod hints;
mod identity;
mod schema;
mod statements;
mod table;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Executor, Postgres, Row as _};

pub(super) use self::connection::Place;
#[cfg(test)]
pub(super) use self::schema::SCHEMA;
pub(super) use self::schema::migrate;
use super::dialect::{Call, Dialect, Errors, Settings};
use super::slot::Slot;
use super::statement::Statement;
use super::table::Table;
use super::value::{Cell, Done, Given, Row, Value};
use super::{Session, driver};
use crate::election::ComponentName;
use crate::store::{Hints, StoreError};

impl Dialect for Place {
    type Line = PgConnection;

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
        line: &mut PgConnection,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Done, sqlx::Error> {
        let done = line.execute(bound(statement, values)).await?;
        Ok(Done { affected: done.rows_affected(), last_id: 0 })
    }

    async fn fetch(
        line: &mut PgConnection,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.fetch_all(bound(statement, values)).await?;
        driver::rows(&rows, cell)
    }

    async fn inspect(&self, line: &mut PgConnection, lock_limit: u64) -> Result<Table, StoreError> {
        table::inspect(line, lock_limit, self).await
    }

    async fn prepare(line: &mut PgConnection, statement: &'static Statement) -> Result<(), sqlx::Error> {
        connection::prepare(line, statement).await
    }

    async fn limit_lock_wait(line: &mut PgConnection, ms: u64) -> Result<(), sqlx::Error> {
        connection::limit_lock_wait(line, ms).await
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
        let why = access::lacks(&mut session.line, call, self).await?;
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

#[cfg(test)]
pub(super) fn statements() -> &'static super::statement::Statements {
    statements::of(identity::Form::from_number(0))
}

fn bound(statement: &'static Statement, values: &[Value<'_>]) -> Query<'static, Postgres, PgArguments> {
    driver::bound(statement, values, |query, names| query.bind(names.as_slice().to_vec()))
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
