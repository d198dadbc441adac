//! Terms whose holder has ended: since when.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::election::{Moment, TermKey};

/// By the UID of a resource, the term whose holder has ended, and when that was first seen on our own boot clock. What
/// has ended does not begin again, so a look that shows less later on changes nothing here.
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
