//! What errors of the client library mean, whichever server it talks to. What servers say is each dialect's own.

use std::fmt::Display;
use std::io;

use super::tls::advice;
use crate::store::error::StoreError;

/// `parameter` names the certificates' authority in a URL.
pub(super) fn classify(
    error: sqlx::Error,
    parameter: &str,
    place: &impl Display,
    by_server: impl FnOnce(&dyn sqlx::error::DatabaseError) -> StoreError,
) -> StoreError {
    let says = match &error {
        sqlx::Error::Database(error) => by_server(&**error),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            tls(&error.to_string(), parameter, place)
        }
        sqlx::Error::Tls(error) => tls(&error.to_string(), parameter, place),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreError::retryable(format!("{place}: the server closed the connection"))
        }
        sqlx::Error::Io(error) => StoreError::retryable(format!("{place}: {error}")),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            StoreError::retryable(format!("{place}: no connection in time"))
        }
        sqlx::Error::WorkerCrashed => StoreError::retryable(format!("{place}: the connection ended")),
        sqlx::Error::Protocol(text) => StoreError::retryable(format!("{place}: unexpected answer: {text}")),
        sqlx::Error::Configuration(error) => StoreError::misconfigured(format!("{place}: {error}")),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::misconfigured(format!(
            "{place}: a value in the tables cannot be read: {error}; somebody else may have written it, or changed a column"
        )),
        // The like of these comes from what we send, not from what the server is.
        sqlx::Error::Encode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. } => StoreError::bug(format!("{place}: {error}")),
        other => StoreError::retryable(format!("{place}: {other}")),
    };
    says.caused_by(error)
}

fn tls(text: &str, parameter: &str, place: &impl Display) -> StoreError {
    let advice = advice(text, parameter);
    StoreError::misconfigured(format!("{place}: no trusted TLS connection: {text}; {advice}"))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn what_the_client_library_said_is_the_source_of_our_error() {
        let errors = [
            sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionRefused)),
            sqlx::Error::Io(io::Error::from(io::ErrorKind::InvalidData)),
            sqlx::Error::Io(io::Error::from(io::ErrorKind::UnexpectedEof)),
            sqlx::Error::PoolTimedOut,
            sqlx::Error::Protocol("?".to_owned()),
            sqlx::Error::RowNotFound,
            sqlx::Error::ColumnNotFound("ttl".to_owned()),
        ];
        for error in errors {
            let says = error.to_string();
            let ours = classify(error, "ssl-ca", &"there", |_| unreachable!("no server said it"));
            let source = ours.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
            assert_eq!(source.map(ToString::to_string), Some(says), "{ours}");
        }
    }
}
