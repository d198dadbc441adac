//! What the state machine says: what to do, why leadership ended, why nothing is taken.

use crate::domain::life::{Generation, NewEpoch};
use crate::domain::model::{Take, TermKey};
use crate::domain::timing::{Moment, TimingError};

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the row; give up after the attempt time-out of [`Election::timing`](super::Election::timing).
    Look,
    /// Try to begin this term. The acknowledgement counts until [`Timing::attempt_counts_for`](crate::domain::Timing::attempt_counts_for).
    Take(Take),
    Renew(TermKey),
    /// Record that the database is another one than before.
    BeginEpoch(NewEpoch),
    /// Record that the quarantine of this generation is over.
    Settle(Generation),
    /// Nothing before this moment, unless something is told.
    Wait(Moment),
    /// The work of a term that is over has not been confirmed to have stopped; nothing else can be done.
    AwaitWork,
    /// Drained: nothing held, nothing will be taken.
    Ended,
}

/// Why a leader stopped leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The row carries another holder or version.
    Lost,
    /// No acknowledged renewal until the deadline.
    Deadline,
    /// The program's health check failed.
    Unhealthy,
    /// Somebody asked it to step down.
    SteppedDown,
    /// The process is ending.
    Draining,
}

impl StopReason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Deadline => "deadline",
            Self::Unhealthy => "unhealthy",
            Self::SteppedDown => "stepped_down",
            Self::Draining => "draining",
        }
    }
}

/// Why a participant that could take does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ineligible {
    Draining,
    Unhealthy,
    /// Until the moment, or until somebody else has begun a term.
    StaysAway {
        until: Moment,
    },
    /// The ttl set by the resource and this participant's stop grace do not go together.
    Timing(TimingError),
}
