//! What goes into a statement and what comes out of it, whichever database it is.

use crate::store::names::Names;

/// A value for a place in a statement. A missing one is NULL.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
    Bool(Option<bool>),
    Names(&'a Names),
}

/// The values of a call, each with the name that statements know it by.
pub(super) type Given<'a> = [(&'static str, Value<'a>)];

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(Some(value))
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(value: Option<bool>) -> Self {
        Self::Bool(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(value: &'a Option<String>) -> Self {
        Self::Text(value.as_deref())
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a Names> for Value<'a> {
    fn from(value: &'a Names) -> Self {
        Self::Names(value)
    }
}

/// What a column of a row holds. A boolean is 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// A row, read by the names of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row(Vec<(String, Cell)>);

impl Row {
    pub(super) fn new(cells: Vec<(String, Cell)>) -> Self {
        Self(cells)
    }

    fn cell(&self, name: &str) -> Result<&Cell, sqlx::Error> {
        let found = self.0.iter().find(|(column, _)| column == name);
        found.map(|(_, cell)| cell).ok_or_else(|| sqlx::Error::ColumnNotFound(name.to_owned()))
    }

    pub(super) fn int_or_none(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
        match self.cell(name)? {
            Cell::Null => Ok(None),
            Cell::Int(value) => Ok(Some(*value)),
            Cell::Text(_) => Err(unread(name, "a text, where a number is needed")),
        }
    }

    pub(super) fn text_or_none(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        match self.cell(name)? {
            Cell::Null => Ok(None),
            Cell::Text(value) => Ok(Some(value.clone())),
            Cell::Int(_) => Err(unread(name, "a number, where a text is needed")),
        }
    }

    pub(super) fn yes_or_none(&self, name: &str) -> Result<Option<bool>, sqlx::Error> {
        Ok(self.int_or_none(name)?.map(|value| value != 0))
    }

    pub(super) fn int(&self, name: &str) -> Result<i64, sqlx::Error> {
        self.int_or_none(name)?.ok_or_else(|| unread(name, "NULL"))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, sqlx::Error> {
        self.text_or_none(name)?.ok_or_else(|| unread(name, "NULL"))
    }

    pub(super) fn yes(&self, name: &str) -> Result<bool, sqlx::Error> {
        self.yes_or_none(name)?.ok_or_else(|| unread(name, "NULL"))
    }
}

fn unread(name: &str, what: &str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: name.to_owned(), source: format!("it is {what}").into() }
}

/// What a statement that changes rows has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) affected: u64,
    /// Of a row that was inserted, where the database says so.
    pub(super) last_id: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_by_name_and_says_what_cannot_be_read() {
        let row = Row::new(vec![
            ("version".to_owned(), Cell::Int(41)),
            ("holder".to_owned(), Cell::Text("a".to_owned())),
            ("settled".to_owned(), Cell::Int(0)),
            ("pod".to_owned(), Cell::Null),
        ]);
        assert_eq!((row.int("version").unwrap(), row.text("holder").unwrap().as_str()), (41, "a"));
        assert!(!row.yes("settled").unwrap());
        assert_eq!((row.text_or_none("pod").unwrap(), row.int_or_none("pod").unwrap()), (None, None));
        for (error, piece) in [
            (row.int("holder").unwrap_err(), "holder"),
            (row.text("version").unwrap_err(), "version"),
            (row.text("pod").unwrap_err(), "NULL"),
            (row.int("ttl").unwrap_err(), "ttl"),
        ] {
            assert!(error.to_string().contains(piece), "{error}");
        }
    }
}
