//! Between our values and rows and those of the client library.

use sqlx::query::Query;
use sqlx::{Column as _, ColumnIndex, Database, Encode, Type, TypeInfo as _, ValueRef as _};

use super::statement::Statement;
use super::value::{Cell, Row, Value};
use crate::store::names::Names;

type Bound<DB> = Query<'static, DB, <DB as Database>::Arguments>;

/// `names` binds a set of names as the database takes one.
pub(super) fn bound<DB: Database>(
    statement: &'static Statement,
    values: &[Value<'_>],
    names: impl Fn(Bound<DB>, &Names) -> Bound<DB>,
) -> Bound<DB>
where
    Option<i64>: Encode<'static, DB> + Type<DB>,
    Option<String>: Encode<'static, DB> + Type<DB>,
    Option<bool>: Encode<'static, DB> + Type<DB>,
{
    values.iter().fold(sqlx::query(statement.text()), |query, value| match *value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value.map(ToOwned::to_owned)),
        Value::Bool(value) => query.bind(value),
        Value::Names(given) => names(query, given),
    })
}

/// `cell` reads the column at this index that is not NULL and has a type of this name.
pub(super) fn rows<R: sqlx::Row>(
    rows: &[R],
    cell: impl Fn(&R, usize, &str) -> Result<Cell, sqlx::Error>,
) -> Result<Vec<Row>, sqlx::Error>
where
    usize: ColumnIndex<R>,
{
    let read = |row: &R, index: usize| -> Result<Cell, sqlx::Error> {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(Cell::Null);
        }
        cell(row, index, value.type_info().name())
    };
    let row = |row: &R| {
        let columns = row.columns().iter();
        let cells = columns.map(|column| Ok((column.name().to_owned(), read(row, column.ordinal())?)));
        cells.collect::<Result<_, sqlx::Error>>().map(Row::new)
    };
    rows.iter().map(row).collect()
}
