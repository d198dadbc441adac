//! What SQLite's result codes mean for the caller.

use sqlx::error::DatabaseError;

use super::connection::Place;
use crate::store::error::StoreError;
use crate::store::sql::errors;

const ERROR: i64 = 1;
const BUSY: i64 = 5;
const LOCKED: i64 = 6;
const CONSTRAINT: i64 = 19;

/// SQLite refused one statement because somebody else is at work, and the connection is as before.
pub(super) fn leaves_connection_in_order(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(BUSY | LOCKED))
}

fn primary_code(error: &sqlx::Error) -> Option<i64> {
    error.as_database_error().and_then(code)
}

/// The result code without its extension.
fn code(error: &dyn DatabaseError) -> Option<i64> {
    error.code()?.parse::<i64>().ok().map(|code| code & 0xff)
}

/// Of the line in the history: it has this version or a later one, so the take is a lost race.
pub(super) fn is_constraint(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(CONSTRAINT)
}

/// What was asked for is not there.
pub(super) fn is_not_to_be_read(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(ERROR)
}

pub(super) fn classify(error: sqlx::Error, place: &Place) -> StoreError {
    errors::classify(error, "", place, |error| by_code(error, place))
}

fn by_code(database: &dyn DatabaseError, place: &Place) -> StoreError {
    let code = code(database);
    let message = database.message();
    let says = format!("{place}: {message} (SQLite code {})", code.unwrap_or(-1));
    match code {
        Some(BUSY | LOCKED) => StoreError::retryable(format!(
            "{place}: another process holds the file's lock for longer than this call may wait"
        )),
        // A table or column that somebody dropped, or a name that is a view's: SQLite has one code for all.
        Some(ERROR) if message.contains("no such table") || message.contains("no such column") => {
            StoreError::misconfigured(format!("{says}; run `component-lease migrate`"))
        }
        Some(ERROR) if message.contains("syntax error") => StoreError::bug(says),
        Some(ERROR) => StoreError::misconfigured(format!(
            "{says}; a trigger, view or column of somebody else's may be the reason: see docs/databases.md"
        )),
        // INTERNAL; ABORT; NOMEM; INTERRUPT; IOERR; NOTFOUND; FULL; PROTOCOL: a race for the lock; EMPTY;
        // SCHEMA: somebody altered the table under way.
        Some(2 | 4 | 7 | 9 | 10 | 12 | 13 | 15 | 16 | 17) => StoreError::retryable(says),
        Some(22) => StoreError::misconfigured(format!("{says}; the file system cannot hold a file so large")),
        // MISUSE; RANGE.
        Some(21 | 25) => StoreError::bug(says),
        Some(3 | 8 | 23) => StoreError::misconfigured(format!(
            "{says}; this process needs write permission on the file, on the -wal and -shm files beside it, and on the folder"
        )),
        Some(11 | 24 | 26) => StoreError::misconfigured(format!(
            "{says}; this is no SQLite database, or it is damaged: name another file"
        )),
        Some(14) => {
            StoreError::misconfigured(format!("{says}; check the path and the permissions of its folder"))
        }
        // A constraint, trigger or type of somebody else's table.
        Some(18..=20) => StoreError::misconfigured(format!(
            "{says}: the table component_lease does not accept what component-lease must write; see docs/databases.md"
        )),
        _ => StoreError::retryable(format!("{says}; component-lease does not know this kind of error")),
    }
}
