//! What the answers of MySQL and MariaDB mean for the caller, by error number (SQLSTATE says too
//! little there).

use std::io;

use sqlx::mysql::MySqlDatabaseError;

use super::connection::Place;
use crate::store::StoreError;
use crate::store::tls::advice;

const NOT_NULL: u16 = 1048;
const DUPLICATE: u16 = 1062;
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;

fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// There is a row of this key already, or the history has a later version (see
/// `Statements::take`): a lost race.
pub(super) fn is_granted_already(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(DUPLICATE | NOT_NULL))
}

/// What was asked for is not there, is not what we take it for, or not for this user.
pub(super) fn is_not_to_be_read(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1044 | 1054 | 1142 | 1143 | 1146))
}

/// The server refused one statement and the connection is as before. Everything else that goes
/// wrong ends the connection: the next one looks at the table and the server anew, and says better
/// what is the matter (the table was dropped, the server became a replica).
pub(super) fn leaves_connection_in_order(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(DUPLICATE | NOT_NULL | LOCK_WAIT_TIMEOUT | DEADLOCK))
}

pub(super) fn classify(error: sqlx::Error, place: &Place) -> StoreError {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => by_number(error, place),
            None => StoreError::Bug(format!("{place}: {error}")),
        },
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            tls(&error.to_string(), place)
        }
        sqlx::Error::Tls(error) => tls(&error.to_string(), place),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreError::Retryable(format!("{place}: the server closed the connection"))
        }
        sqlx::Error::Io(error) => StoreError::Retryable(format!("{place}: {error}")),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            StoreError::Retryable(format!("{place}: no connection in time"))
        }
        sqlx::Error::Protocol(text) if text.contains("unknown authentication plugin") => {
            StoreError::Misconfigured(format!(
                "{place}: {text}; component-lease knows caching_sha2_password, mysql_native_password and sha256_password: give the user {} one of these",
                place.user
            ))
        }
        sqlx::Error::Protocol(text) => StoreError::Retryable(format!("{place}: unexpected answer: {text}")),
        sqlx::Error::Configuration(error) if error.to_string().contains("RSA") => {
            StoreError::Misconfigured(format!(
                "{place}: the server asks for the password of {} itself, which is only given over TLS: leave out ssl-mode=DISABLED, and let the server have a certificate",
                place.user
            ))
        }
        sqlx::Error::Configuration(error) => StoreError::Misconfigured(format!("{place}: {error}")),
        other => StoreError::Bug(format!("{place}: {other}")),
    }
}

fn tls(text: &str, place: &Place) -> StoreError {
    StoreError::Misconfigured(format!(
        "{place}: no trusted TLS connection: {text}; {}",
        advice(text, "ssl-ca")
    ))
}

fn by_number(error: &MySqlDatabaseError, place: &Place) -> StoreError {
    let (number, message, user) = (error.number(), error.message(), &place.user);
    let says = format!("{place}: {message} (error {number})");
    match number {
        1045 | 1698 | 1130 | 1129 | 1862 | 1820 | 3118 | 4151 | 1251 => StoreError::Misconfigured(format!(
            "{place}: the server does not let in the user {user}: {message}; check the user, the password, from which host the user may come, and whether the server wants TLS (ssl-mode in the URL)"
        )),
        3159 | 1839 => StoreError::Misconfigured(format!("{says}; use ssl-mode=VERIFY_IDENTITY in the URL")),
        1049 => StoreError::Misconfigured(format!("{says}; check the database's name in the URL")),
        1044 => StoreError::Misconfigured(format!(
            "{says}; there is no database {0}, or the user may not use it: CREATE DATABASE {0}, then as an administrator what `component-lease migrate` prints; for `migrate` itself GRANT CREATE, SELECT, INSERT, UPDATE ON {0}.* TO '{user}'@'%'",
            place.database
        )),
        1142 | 1143 | 1227 => StoreError::Misconfigured(format!("{says}; {}", grants(&place.database, user))),
        1146 | 1054 | 1051 => StoreError::Misconfigured(format!("{says}; run `component-lease migrate`")),
        1243 => StoreError::Misconfigured(format!(
            "{says}: a proxy in between mixes up prepared statements; connect to the server itself"
        )),
        1665 => StoreError::Misconfigured(format!("{says}; set binlog_format = ROW on the server")),
        LOCK_WAIT_TIMEOUT => StoreError::Retryable(format!(
            "{place}: another transaction holds the row's or the table's lock for longer than this call may wait"
        )),
        1040 | 1203 | 1226 => StoreError::Retryable(format!(
            "{says}: no connection is free; component-lease keeps one for each participant and controller"
        )),
        // 1290 has other causes too; none of them concerns our statements.
        1290 | 1792 | 1836 | 1874 => StoreError::Retryable(format!(
            "{place}: the server has become read-only; waiting for a connection that can write ({message})"
        )),
        _ => by_state(error.code().unwrap_or_default(), says),
    }
}

fn by_state(state: &str, says: String) -> StoreError {
    match state.get(..2).unwrap_or_default() {
        // A constraint, trigger or type of somebody else's table.
        "22" | "23" | "44" | "45" => StoreError::Misconfigured(format!(
            "{says}: the table component_lease does not accept what component-lease must write; see docs/databases.md"
        )),
        "28" => StoreError::Misconfigured(says),
        "42" | "21" | "07" => StoreError::Bug(says),
        // HY000 is everything else: full disks, shutdowns, replication, kills.
        _ => StoreError::Retryable(says),
    }
}

fn grants(database: &str, user: &str) -> String {
    format!(
        "as an administrator run, in the database {database}, what `component-lease migrate` prints: for a participant GRANT SELECT, INSERT, UPDATE ON component_lease TO '{user}'@'%'; the same on component_lease_store and component_instance; SELECT, INSERT on component_lease_history; SELECT on component_lease_intent and component_lease_schema. (For the controller: SELECT, UPDATE (holder_id, renew_time) on component_lease; SELECT on component_lease_history and component_lease_schema; SELECT, INSERT, UPDATE on component_lease_intent and component_lease_store; SELECT, DELETE on component_instance)"
    )
}
