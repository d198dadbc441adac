//! A term as its leader keeps it.

use crate::election::life::LifeId;
use crate::election::row::TermKey;
use crate::election::timing::{Moment, Timing};

/// What a term is made of while it is led.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// Which term.
    pub key: TermKey,
    /// The durations that it was taken with.
    pub timing: Timing,
    /// Boot clock when the last acknowledged attempt began.
    pub(super) t0: Moment,
    /// When the next renewal is tried.
    pub(super) next_attempt: Moment,
    /// When it is next looked whether an operator asks for something.
    pub(super) next_look: Moment,
    /// The life of the database in which it was taken.
    pub(super) life_id: LifeId,
}

impl Term {
    /// From here it is no longer led.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.timing.deadline(self.t0)
    }

    /// Whether it is looked for requests at all now. Not while renewals fail: they must not wait for a look.
    pub(super) fn listens(&self) -> bool {
        self.next_look < Moment::MAX
    }

    /// Looks for requests from `at` on. A bare table has no place for any.
    pub(super) fn listen_from(&mut self, at: Moment) {
        let has_requests = self.life_id != LifeId::default();
        self.next_look = if has_requests { at } else { Moment::MAX };
    }

    pub(super) fn listen_after_renewal(&mut self) {
        self.next_look = Moment::MAX;
    }

    /// By here its work must have stopped.
    #[must_use]
    pub fn abort(&self) -> Moment {
        self.timing.abort(self.t0)
    }
}
