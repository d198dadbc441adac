//! The right to release a term of one's own that nobody leads any more, however late.
//!
//! A leader that could not renew stops at its deadline, and its row would keep everybody out for one more ttl.
//! The same holds for a take whose answer never came. So the former holder releases exactly that term, once
//! its work is confirmed stopped, as soon as the database answers. The right ends
//!
//! * with the first other row or other life of the database that it sees,
//! * when it takes again,
//! * with the process (which tries once when it ends in order).
//!
//! The release is bound to the life of the database in which the term was taken, by the statement itself: a
//! failover may bring the old row back while another participant leads. A table without companions cannot
//! tell its lives apart, so nothing is released late there.

use super::term::Term;
use super::words::Release;
use crate::election::life::{Life, LifeId};
use crate::election::row::{Expected, LeaseRow, Take, TermKey};
use crate::election::sight::Past;

/// How often a release is tried that gets no answer though looks do; then the term is left to lapse.
const TRIES: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leftover {
    term: TermKey,
    life_id: LifeId,
    /// What the take expected, where it is not known whether it was applied.
    awaited: Option<Expected>,
    failures: u32,
}

impl Leftover {
    /// After a term that was led, and whose work has stopped.
    pub(super) fn led(term: &Term) -> Option<Self> {
        Self::new(&term.key, &term.life_id, None)
    }

    /// After a take that was acknowledged too late to be used.
    pub(super) fn unused(take: &Take) -> Option<Self> {
        Self::new(&take.term, &take.life_id, None)
    }

    /// After a take that was never answered: it may have been applied, or may be applied later.
    pub(super) fn unanswered(take: &Take) -> Option<Self> {
        Self::new(&take.term, &take.life_id, Some(take.expected.clone()))
    }

    fn new(term: &TermKey, life_id: &LifeId, awaited: Option<Expected>) -> Option<Self> {
        let told_apart = *life_id != LifeId::default();
        told_apart.then(|| Self { term: term.clone(), life_id: life_id.clone(), awaited, failures: 0 })
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether the right is still there after a look.
    pub(super) fn outlives(&self, row: Option<&LeaseRow>, past: Past, life: &Life) -> bool {
        let same_life = !life.is_strange() && life.id() == self.life_id;
        let still = row.is_some_and(|row| row.is_term(&self.term));
        same_life && (still || self.awaited == Some(past.expects(row)))
    }

    /// Whether the row says that the term is held.
    pub(super) fn is_due(&self, row: Option<&LeaseRow>) -> bool {
        row.is_some_and(|row| row.is_term(&self.term))
    }

    pub(super) fn release(&self) -> Release {
        Release { term: self.term.clone(), within: Some(self.life_id.clone()) }
    }

    pub(super) fn after_a_failure(mut self) -> Option<Self> {
        self.failures += 1;
        (self.failures < TRIES).then_some(self)
    }
}
