//! What a look tells the state machine, and what it says: what to do, where it stands, why leadership
//! ended, why nothing is taken.

use std::time::Duration;

use super::term::Term;
use crate::election::intent::{Request, Verb};
use crate::election::life::{Life, LifeId, NewEpoch};
use crate::election::row::{LeaseRow, Take, TermKey};
use crate::election::sight::Past;
use crate::election::timing::{Moment, TimingError};
use crate::name::HolderId;

/// Where a participant stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Leads nothing, and has nothing to stop.
    Following,
    /// Leads until the term's deadline; an answer after that must not say so.
    Leading(&'a Term),
    /// The term is over for this participant, and its work has not been confirmed to have stopped.
    Stopping(&'a Term, StopReason),
}

/// What one look brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Looked {
    /// The component's row, if there is one.
    pub row: Option<LeaseRow>,
    /// The database's clock at the look, ms. Only a hint for when to look again.
    pub database_now: i64,
    /// The ttl that the resource asks for, seconds; beats this participant's own from the next term on.
    pub standing_ttl: Option<u32>,
    /// Whom the resource would like to lead next: the others wait a little.
    pub preferred: Option<HolderId>,
    /// For so long, and at most for a third of a ttl, all leave a free row alone: its holder changes too often.
    pub cooldown: Duration,
    /// Nobody takes anything until this is over; a leader goes on.
    pub paused: bool,
    /// What an operator asks of one of the component's terms.
    pub request: Option<Request>,
    /// What the database knows of the component beside its row.
    pub past: Past,
    /// Of the database that answered.
    pub life: Life,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the row; give up after the attempt time-out of [`Election::timing`](super::Election::timing).
    Look,
    /// Try to begin this term. The acknowledgement counts until [`Timing::attempt_counts_for`](crate::election::Timing::attempt_counts_for).
    Take(Take),
    /// Extend this term.
    Renew(TermKey),
    /// Give back a term that this participant no longer leads.
    Release(Release),
    /// Record that the database is another one than before.
    BeginEpoch(NewEpoch),
    /// Record that the quarantine of this life is over.
    Settle(LifeId),
    /// Nothing before this moment, unless there is news.
    Wait(Moment),
    /// The work of a term that is over has not been confirmed to have stopped; nothing else can be done.
    AwaitWork,
    /// Drained: nothing held, nothing will be taken.
    Ended,
}

/// A release to send.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// Which term.
    pub term: TermKey,
    /// The only life of the database in which it may be applied; `None` while the term still runs, when no
    /// other can have begun.
    pub within: Option<LifeId>,
}

/// Why a leader stopped leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The row carries another holder or version.
    Lost,
    /// No acknowledged renewal until the deadline.
    Deadline,
    /// The program's health check failed.
    Unhealthy,
    /// Somebody asked it to step down.
    SteppedDown,
    /// An operator asked it to make way.
    SwitchedOver,
    /// An operator asked it to make way for another participant.
    Promoted,
    /// The process is ending.
    Draining,
}

impl From<Verb> for StopReason {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Switchover => Self::SwitchedOver,
            Verb::StepDown => Self::SteppedDown,
            Verb::Promote | Verb::PromoteNow => Self::Promoted,
        }
    }
}

/// Why a participant that could take does not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ineligible {
    /// It takes nothing ever again.
    Draining,
    /// Its health check fails.
    Unhealthy,
    /// An operator paused the election: nobody takes anything.
    Paused,
    /// Its priority is 0.
    NeverLeads,
    /// Until the moment, or until somebody else has begun a term.
    StaysAway {
        /// Boot clock.
        until: Moment,
    },
    /// The ttl set by the resource and this participant's stop grace do not go together.
    Timing(TimingError),
}
