//! Terms of which something is the case: since when.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::election::{Moment, TermKey};

/// By the UID of a resource, the term whose holder has ended, or is not ready, and when that was first seen on our own
/// boot clock. What has ended does not begin again, so a look that shows less later on changes nothing here; what is
/// ready again is forgotten.
#[derive(Debug, Default)]
pub(super) struct Endings(Mutex<HashMap<String, (TermKey, Moment)>>);

impl Endings {
    pub(super) fn first_seen(&self, lease: &str, term: &TermKey, now: Moment) -> Moment {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(lease) {
            Some((known, since)) if known == term => *since,
            _ => {
                all.insert(lease.to_owned(), (term.clone(), now));
                now
            }
        }
    }

    pub(super) fn forget(&self, lease: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }
}

/// By the UID of a resource, when its newest terms began, on our own boot clock, the newest first.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<HashMap<String, Vec<Moment>>>);

impl Changes {
    pub(super) fn of(&self, lease: &str) -> Option<Vec<Moment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(lease).cloned()
    }

    pub(super) fn keep(&self, lease: &str, begins: Vec<Moment>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.to_owned(), begins);
    }

    pub(super) fn forget(&self, lease: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }

    /// Another replica has acted since: it may know better.
    pub(super) fn forget_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What the leader of a term was asked, because its pod is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandOver {
    pub(super) term: TermKey,
    /// Of the request in the database.
    pub(super) id: String,
    /// From then on it is taken back; `None` once it was.
    pub(super) until: Option<Moment>,
}

/// By the UID of a resource. A leader is asked once while its pod is not ready, whatever becomes of that.
#[derive(Debug, Default)]
pub(super) struct HandOvers(Mutex<HashMap<String, HandOver>>);

impl HandOvers {
    pub(super) fn of(&self, lease: &str) -> Option<HandOver> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(lease).cloned()
    }

    pub(super) fn keep(&self, lease: &str, asked: HandOver) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.to_owned(), asked);
    }

    pub(super) fn forget(&self, lease: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }
}
