//! What can go wrong between us and a database, by what the caller can do about it.

/// A call that did not end in an [`Outcome`](super::Outcome). Texts never contain credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Passing: the server is away, busy, or the connection broke. Whether the statement was
    /// applied is unknown. Trying again is right.
    #[error("{0}")]
    Retryable(String),
    /// Will not pass by itself: the message says what to change.
    #[error("{0}")]
    Misconfigured(String),
    /// A statement of ours that the server does not understand.
    #[error("{0} (this is a bug in component-lease)")]
    Bug(String),
}

impl StoreError {
    /// For metrics: a bounded set of words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retryable(_) => "retryable",
            Self::Misconfigured(_) => "misconfigured",
            Self::Bug(_) => "bug",
        }
    }
}
