//! The row of `component_lease`, and what a participant asks of it. What a store does then is `store/rules.rs`.

use std::time::Duration;

use serde::Serialize;

use super::life::LifeId;
use super::timing::judged_ttl;
use crate::name::{ComponentName, HolderId};

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
    /// Whether nobody holds it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.holder.is_empty()
    }

    /// How long the row must be unchanged, on the judge's own boot clock, to be nobody's.
    #[must_use]
    pub fn judged_ttl(&self) -> Duration {
        judged_ttl(self.ttl)
    }

    /// Whether this term holds it.
    #[must_use]
    pub fn is_term(&self, term: &TermKey) -> bool {
        self.holder == term.holder.as_str() && self.version == term.version
    }
}

/// Names one term: who, and under which version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TermKey {
    /// What is led.
    pub component: ComponentName,
    /// Who leads.
    pub holder: HolderId,
    /// The fencing token.
    pub version: i64,
}

/// What must still be there for a take to succeed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Expected {
    /// No row, and this is the highest version that the history knows of the component (0: none).
    Missing { highest: i64 },
    /// This version, last renewed at this time.
    Row { version: i64, renew_time: i64 },
}

impl Expected {
    /// For a component without a history.
    #[must_use]
    pub fn of(row: Option<&LeaseRow>) -> Self {
        match row {
            None => Self::Missing { highest: 0 },
            Some(row) => Self::Row { version: row.version, renew_time: row.renew_time },
        }
    }
}

/// A compare-and-set that begins a term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Take {
    /// The term to begin.
    pub term: TermKey,
    /// Seconds.
    pub ttl: u32,
    /// What is compared.
    pub expected: Expected,
    /// Which life of the database the decision was made on.
    pub life_id: LifeId,
}
