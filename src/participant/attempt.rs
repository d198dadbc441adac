//! One call of the store, within its time.

use std::time::Duration;

use tokio::time::timeout;

use crate::store::{Outcome, StoreError};

/// A call that is given up after `limit`. Its future is dropped then, and with it the connection.
pub(super) async fn attempt<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out(limit)))
}

/// The same of a store that may keep no epochs: then nothing was changed.
pub(super) async fn attempt_if_any(
    limit: Duration,
    call: Option<impl Future<Output = Result<Outcome, StoreError>>>,
) -> Result<Outcome, StoreError> {
    match call {
        Some(call) => attempt(limit, call).await,
        None => Ok(Outcome::Lost),
    }
}

pub(super) fn timed_out(limit: Duration) -> StoreError {
    StoreError::retryable(format!("no answer within {limit:?}"))
}
