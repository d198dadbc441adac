//! What a participant sees.

use super::term::TermObserver;
use crate::election::{Ineligible, LeaseRow};

/// What a participant sees. Given out on every change that is not a mere renewal.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct View {
    pub(super) term: Option<TermObserver>,
    /// The row as it was last seen; while this participant leads, as it was before it took it.
    pub row: Option<LeaseRow>,
    /// Why this participant would not take even a free row.
    pub ineligible: Option<Ineligible>,
    /// What the database last failed with, if it did.
    pub problem: Option<String>,
}

impl View {
    /// The term that this participant leads *now*: a view that has been lying about for too long
    /// says `None`, as [`Participant::is_leader`](super::Participant::is_leader) would.
    #[must_use]
    pub fn term(&self) -> Option<&TermObserver> {
        self.term.as_ref().filter(|term| term.is_valid())
    }

    pub(super) fn differs_from(&self, other: &Self) -> bool {
        let row = |view: &Self| view.row.as_ref().map(|row| (row.holder.clone(), row.version));
        self.term != other.term
            || row(self) != row(other)
            || self.ineligible != other.ineligible
            || self.problem != other.problem
    }
}
