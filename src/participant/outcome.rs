//! How a participant ends.

use std::sync::Arc;

use tokio::task::JoinError;

/// How a participant ended that was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// It holds nothing: the release was acknowledged, or there was nothing to release.
    Released,
    /// The database did not acknowledge the release in time. If the row is still held, it is free for others one ttl
    /// after its last renewal.
    LeftToLapse,
}

/// The election loop has ended without having been drained: it panicked, or the runtime that it ran on is gone.
/// Nothing is led any more; a row that was held lapses by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the election loop has failed; what it held lapses by itself")]
#[non_exhaustive]
pub struct ElectionFailed {
    #[source]
    pub(super) cause: Option<Arc<JoinError>>,
}

impl From<JoinError> for ElectionFailed {
    fn from(cause: JoinError) -> Self {
        Self { cause: Some(Arc::new(cause)) }
    }
}
