//! What errors of the client library mean, whichever server it talks to. What servers say is each dialect's own.

use std::fmt::Display;
use std::io;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use super::tls::advice;
use crate::store::StoreError;

/// `parameter` names the certificates' authority in a URL.
pub(super) fn classify(
    error: sqlx::Error,
    parameter: &str,
    place: &impl Display,
    by_server: impl FnOnce(&dyn sqlx::error::DatabaseError) -> StoreError,
) -> StoreError {
    match error {
        sqlx::Error::Database(error) => by_server(&*error),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            tls(&error.to_string(), parameter, place)
        }
        sqlx::Error::Tls(error) => tls(&error.to_string(), parameter, place),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreError::Retryable(format!("{place}: the server closed the connection"))
        }
        sqlx::Error::Io(error) => StoreError::Retryable(format!("{place}: {error}")),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            StoreError::Retryable(format!("{place}: no connection in time"))
        }
        sqlx::Error::WorkerCrashed => StoreError::Retryable(format!("{place}: the connection ended")),
        sqlx::Error::Protocol(text) => StoreError::Retryable(format!("{place}: unexpected answer: {text}")),
        sqlx::Error::Configuration(error) => StoreError::Misconfigured(format!("{place}: {error}")),
        error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            StoreError::Misconfigured(format!(
                "{place}: a value in the tables cannot be read: {error}; somebody else may have written it, or changed a column"
            ))
        }
        // The like of these comes from what we send, not from what the server is.
        error @ (sqlx::Error::Encode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }) => StoreError::Bug(format!("{place}: {error}")),
        other => StoreError::Retryable(format!("{place}: {other}")),
    }
}

fn tls(text: &str, parameter: &str, place: &impl Display) -> StoreError {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    let text = format!("{text}; {}", advice(text, parameter));
    let _ = parameter;
    StoreError::Misconfigured(format!("{place}: no trusted TLS connection: {text}"))
}
