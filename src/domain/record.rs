//! The row of `component_lease`, as every database gives it back.

use std::time::Duration;

use serde::Serialize;

use super::model::TermKey;
use super::timing::judged_ttl;

/// One row. Two equal rows mean that nobody took, renewed or released in between: a renewal always
/// raises `renew_time`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct LeaseRow {
    /// Empty means nobody, and that alone means free.
    pub holder: String,
    /// When this term began: database time, ms since 1970 UTC. For people and foreign programs.
    pub lease_time: i64,
    /// Last renewal: database time, ms since 1970 UTC; 0 when released.
    pub renew_time: i64,
    /// The term: the fencing token.
    pub version: i64,
    /// Seconds; fixed for the term.
    pub ttl: i64,
}

impl LeaseRow {
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.holder.is_empty()
    }

    /// How long the row must be unchanged, on the judge's own boot clock, to be nobody's.
    #[must_use]
    pub fn judged_ttl(&self) -> Duration {
        judged_ttl(self.ttl)
    }

    #[must_use]
    pub fn is_term(&self, term: &TermKey) -> bool {
        self.holder == term.holder.as_str() && self.version == term.version
    }
}
