//! What can go wrong between us and a database, by what the caller can do about it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A call that did not end in an [`Outcome`](super::Outcome). Texts never contain credentials.
///
/// The message is complete: it says what a cause says, and what to do about it. [`Error::source`] is for programs that
/// want to look at the cause itself, such as the error of the client library; where there is none, the refusal is our
/// own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StoreError {
    /// Passing: the server is away, busy, or the connection broke. Whether the statement was
    /// applied is unknown. Trying again is right.
    #[non_exhaustive]
    Retryable {
        /// For people.
        message: String,
        /// What the client library said.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// Will not pass by itself: the message says what to change.
    #[non_exhaustive]
    Misconfigured {
        /// For people.
        message: String,
        /// What the client library said.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// A statement of ours that the server does not understand.
    #[non_exhaustive]
    Bug {
        /// For people.
        message: String,
        /// What the client library said.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
}

impl StoreError {
    /// [`StoreError::Retryable`], without a cause.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::Retryable { message: message.into(), source: None }
    }

    /// [`StoreError::Misconfigured`], without a cause.
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self::Misconfigured { message: message.into(), source: None }
    }

    /// [`StoreError::Bug`], without a cause.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::Bug { message: message.into(), source: None }
    }

    /// The same error with its cause, in place of another one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        let (Self::Retryable { source, .. } | Self::Misconfigured { source, .. } | Self::Bug { source, .. }) =
            &mut self;
        *source = Some(Arc::new(cause));
        self
    }

    /// For metrics: a bounded set of words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retryable { .. } => "retryable",
            Self::Misconfigured { .. } => "misconfigured",
            Self::Bug { .. } => "bug",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retryable { message, .. } | Self::Misconfigured { message, .. } => f.write_str(message),
            Self::Bug { message, .. } => write!(f, "{message} (this is a bug in component-lease)"),
        }
    }
}

/// By hand, because what a derive would give out is the [`Arc`], which no caller can look into.
impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let (Self::Retryable { source, .. } | Self::Misconfigured { source, .. } | Self::Bug { source, .. }) =
            self;
        source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leads_to_its_cause_and_its_text_stays_the_same() {
        let cause = "x".parse::<u8>().unwrap_err();
        for error in [StoreError::retryable("no"), StoreError::misconfigured("no"), StoreError::bug("no")] {
            assert!(error.source().is_none());
            let caused = error.clone().caused_by(cause.clone());
            assert_eq!((caused.to_string(), caused.kind()), (error.to_string(), error.kind()));
            let found = caused.source().and_then(|source| source.downcast_ref::<std::num::ParseIntError>());
            assert_eq!(found, Some(&cause));
        }
    }
}
