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

#[cfg(any(feature = "postgres", feature = "mysql"))]
/// What to do when a text is longer than its column of the table `component_lease`, if that stays as it is.
pub(super) fn shorter(column: &str) -> &'static str {
    match column {
        // A namespace in front of the name is the usual reason.
        "component_name" => {
            "use a shorter key: --component-key KEY for every participant, spec.componentName: KEY in a ComponentLease, and KEY allowed when the controller is installed (allowedComponents)"
        }
        _ => "choose a shorter name",
    }
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
