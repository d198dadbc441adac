//! A term as its leader keeps it.

use crate::election::life::Generation;
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
    /// The life of the database in which it was taken.
    pub(super) generation: Generation,
}

impl Term {
    /// From here it is no longer led.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.timing.deadline(self.t0)
    }

    /// By here its work must have stopped.
    #[must_use]
    pub fn abort(&self) -> Moment {
        self.timing.abort(self.t0)
    }
}
