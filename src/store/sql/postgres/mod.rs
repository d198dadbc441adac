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
use sqlx::{Column as _, Executor, Postgres, Row as _, TypeInfo as _, ValueRef as _};

pub(super) use self::connection::Place;
#[cfg(test)]
pub(super) use self::schema::SCHEMA;
pub(super) use self::schema::migrate;
use super::Session;
use super::dialect::{Call, Dialect, Settings};
use super::slot::Slot;
use super::statement::Statement;
use super::table::Table;
use super::value::{Cell, Done, Given, Row, Value};
use crate::election::ComponentName;
use crate::store::{Hints, StoreError};

impl Dialect for Place {
    type Line = PgConnection;

    const WIDEN_VERSION: &'static str = "ALTER TABLE component_lease ALTER COLUMN version TYPE BIGINT";

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
        rows.iter().map(row).collect()
    }

    async fn inspect(&self, line: &mut PgConnection, lock_limit: u64) -> Result<Table, StoreError> {
        table::inspect(line, lock_limit, self).await
    }

    async fn limit_lock_wait(line: &mut PgConnection, ms: u64) -> Result<(), sqlx::Error> {
        connection::limit_lock_wait(line, ms).await
    }

    fn classify(&self, error: sqlx::Error) -> StoreError {
        errors::classify(error, self)
    }

    fn leaves_connection_in_order(error: &sqlx::Error) -> bool {
        errors::leaves_connection_in_order(error)
    }

    fn is_granted_already(error: &sqlx::Error) -> bool {
        errors::is_granted_already(error)
    }

    fn is_not_to_be_read(error: &sqlx::Error) -> bool {
        errors::is_not_to_be_read(error)
    }

    fn says_closed(error: &sqlx::Error) -> bool {
        errors::says_closed(error)
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
        if !errors::is_denied(error) {
            return None;
        }
        let why = access::lacks(&mut session.line, call, self).await?;
        Some(errors::denied(error, &why, self))
    }

    fn is_denied(error: &sqlx::Error) -> bool {
        errors::is_denied(error)
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

fn bound<'v>(statement: &'static Statement, values: &[Value<'v>]) -> Query<'static, Postgres, PgArguments> {
    values.iter().fold(sqlx::query(statement.text()), |query, value| match *value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value.map(ToOwned::to_owned)),
        Value::Bool(value) => query.bind(value),
        Value::Names(names) => query.bind(names.as_slice().to_vec()),
    })
}

fn row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let cell = |index: usize| -> Result<Cell, sqlx::Error> {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(Cell::Null);
        }
        match value.type_info().name() {
            "BOOL" => row.try_get(index).map(|yes: bool| Cell::Int(yes.into())),
            "INT2" => row.try_get(index).map(|number: i16| Cell::Int(number.into())),
            "INT4" => row.try_get(index).map(|number: i32| Cell::Int(number.into())),
            "INT8" => row.try_get(index).map(Cell::Int),
            "VOID" => Ok(Cell::Null),
            _ => row.try_get(index).map(Cell::Text),
        }
    };
    let cells = row.columns().iter().map(|column| Ok((column.name().to_owned(), cell(column.ordinal())?)));
    cells.collect::<Result<_, sqlx::Error>>().map(Row::new)
}
