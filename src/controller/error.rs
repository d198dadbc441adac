//! What a reconcile can fail with. The chain of causes is joined once, here at the edge.

use std::error::Error as _;

pub(super) use crate::store::kubernetes::{chain, text};

/// Why a reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
    #[error("the floor's copy could not be written")]
    Floor(#[source] kube::Error),
    /// What became of the plan; the status says it too.
    #[error("{0}")]
    Incomplete(String),
    #[error("the pods change faster than they can be labelled")]
    Contended,
    #[error("the row could not be looked at again")]
    Stale,
    #[error("the watch does not show yet what was written to pods")]
    WatchBehind,
}

impl Error {
    /// For metrics: a bounded set of words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Floor(_) => "floor",
            Self::Incomplete(_) => "incomplete",
            Self::Contended => "contended",
            Self::Stale => "stale",
            Self::WatchBehind => "watch_behind",
        }
    }
}

impl Error {
    pub(super) fn chain(&self) -> String {
        match self.source().and_then(|source| source.downcast_ref::<kube::Error>()) {
            Some(source) => format!("{self}: {}", text(source)),
            None => chain(self),
        }
    }
}
