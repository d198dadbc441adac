//! What PostgreSQL's answers mean for the caller, by SQLSTATE.

use std::io;

use sqlx::error::DatabaseError;

use super::connection::Place;
use crate::store::StoreError;
use crate::store::tls::advice;

/// The server refused one statement and the connection is as before. Everything else that goes
/// wrong ends the connection: the next one looks at the table and the server anew, and says better
/// what is the matter (the table was dropped, the server became a standby).
pub(super) fn leaves_connection_in_order(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code.starts_with("40") || CANNOT_HOLD.contains(&&*code))
}

/// Whether another host may do better: nobody there, or not yet; not a refusal of us.
pub(super) fn is_of_this_host(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"),
        _ => false,
    }
}

/// The history has this version or a later one: the take was rolled back, and is a lost race.
pub(super) fn is_granted_already(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("23505") && error.table() == Some("component_lease_history")
}

/// What was asked for is not there, is not what we take it for, or not for this user.
pub(super) fn is_not_to_be_read(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("42501" | "42P01" | "42703"))
}

/// No connection is left, by the word of the server or of a pooler in between.
pub(super) fn has_run_out(error: &sqlx::Error) -> bool {
    let error = match error {
        sqlx::Error::PoolTimedOut => return true,
        sqlx::Error::Database(error) => error,
        _ => return false,
    };
    // Poolers have no codes for it: PgBouncer, Supavisor, RDS Proxy.
    let words = [
        "query_wait_timeout",
        "max_client_conn",
        "no more connections allowed",
        "max clients",
        "acquire database connection",
        "pool_size",
        "too many",
    ];
    let says = error.message().to_ascii_lowercase();
    error.code().as_deref() == Some("53300") || words.iter().any(|words| says.contains(words))
}

pub(super) fn classify(error: sqlx::Error, place: &Place) -> StoreError {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            by_code(&code, error.message(), place)
        }
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
        sqlx::Error::Protocol(text) => StoreError::Retryable(format!("{place}: unexpected answer: {text}")),
        sqlx::Error::Configuration(error) => StoreError::Misconfigured(format!("{place}: {error}")),
        other => StoreError::Bug(format!("{place}: {other}")),
    }
}

fn tls(text: &str, place: &Place) -> StoreError {
    StoreError::Misconfigured(format!(
        "{place}: no trusted TLS connection: {text}; {}",
        advice(text, "sslrootcert")
    ))
}

fn by_code(code: &str, message: &str, place: &Place) -> StoreError {
    let says = format!("{place}: {message} (SQLSTATE {code})");
    let user = &place.user;
    match code {
        "28000" | "28P01" => StoreError::Misconfigured(format!(
            "{place}: the server does not let in the user {user}: {message}; check the user, the password and pg_hba.conf"
        )),
        "3D000" => {
            StoreError::Misconfigured(format!("{place}: {message}; check the database's name in the URL"))
        }
        "42501" => StoreError::Misconfigured(format!("{says}; {}", grants(user))),
        "42P01" | "42703" | "3F000" => {
            StoreError::Misconfigured(format!("{says}; run `component-lease migrate`"))
        }
        code if CANNOT_HOLD.contains(&code) => StoreError::Misconfigured(format!(
            "{says}: the database's encoding cannot hold a character of it; choose a name of ASCII characters, or a database WITH ENCODING 'UTF8'"
        )),
        "26000" | "42P05" => StoreError::Misconfigured(format!(
            "{says}: a connection pooler in between mixes up prepared statements; connect to the server itself, use session pooling, or PgBouncer 1.21 or newer with max_prepared_statements above 0"
        )),
        "55P03" => StoreError::Retryable(format!(
            "{place}: another transaction holds the row's lock for longer than this call may wait"
        )),
        "25006" => StoreError::Retryable(format!(
            "{place}: the server has become read-only; waiting for a connection that can write"
        )),
        "23505" if message.contains("component_instance_pkey") => StoreError::Misconfigured(format!(
            "{says}: the sequence of component_instance is behind its rows, as in a copy by logical replication; run `component-lease migrate`, which moves it"
        )),
        _ => match code.get(..2).unwrap_or_default() {
            // 0A: "cached plan must not change result type", after somebody altered the table.
            "08" | "0A" | "40" | "53" | "55" | "57" | "58" | "XX" => StoreError::Retryable(says),
            "28" => StoreError::Misconfigured(says),
            // A constraint, trigger or type of somebody else's table.
            "22" | "23" | "44" | "P0" => StoreError::Misconfigured(format!(
                "{says}: the table component_lease does not accept what component-lease must write; see docs/databases.md"
            )),
            _ => StoreError::Bug(says),
        },
    }
}

/// A character that the database's encoding lacks, or that it lets nobody write.
const CANNOT_HOLD: [&str; 2] = ["22P05", "22021"];

/// Says which of the values that were sent the database's encoding cannot hold.
pub(super) fn naming(error: StoreError, sent: &[&str]) -> StoreError {
    match error {
        StoreError::Misconfigured(text)
            if CANNOT_HOLD.iter().any(|code| text.contains(&format!("(SQLSTATE {code})"))) =>
        {
            let sent: Vec<String> =
                sent.iter().filter(|value| !value.is_ascii()).map(|value| format!("{value:?}")).collect();
            StoreError::Misconfigured(format!("{text} ({})", sent.join(", ")))
        }
        other => other,
    }
}

fn grants(user: &str) -> String {
    let role = user.replace('"', "\"\"");
    format!(
        "as the tables' owner run, for a participant: GRANT SELECT, INSERT, UPDATE ON component_lease, component_lease_store, component_instance TO \"{role}\"; GRANT SELECT, INSERT ON component_lease_history TO \"{role}\"; GRANT SELECT ON component_lease_intent, component_lease_schema TO \"{role}\"; (for the controller: GRANT SELECT, UPDATE (holder_id, renew_time) ON component_lease TO \"{role}\"; GRANT SELECT ON component_lease_history, component_lease_schema TO \"{role}\"; GRANT SELECT, INSERT, UPDATE ON component_lease_intent, component_lease_store TO \"{role}\"; GRANT SELECT, DELETE ON component_instance TO \"{role}\";)"
    )
}
