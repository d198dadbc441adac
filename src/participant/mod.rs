//! The library that a service embeds: compete for a component, know at every moment whether you lead.
//!
//! [`Participant::run`] does the work of each term and gives the lease back; the crate's front page shows it. Who wants
//! to hold terms by hand, for work that must be stopped in a way of its own, uses [`Participant::lead`]:
//!
//! ```
//! # use std::{error::Error, sync::Arc, time::Duration};
//! # use component_lease::{ComponentName, MemoryStore, Participant, SystemClock};
//! # async fn work(version: i64) -> Result<(), Box<dyn Error>> { if version == 1 { Err("once")? } Ok(()) }
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn Error>> {
//! # let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
//! # let started = Participant::builder(store.clone(), ComponentName::new("scheduler")?);
//! # let participant = started.cooldown(Duration::from_millis(100)).start()?;
//! // Each turn of this loop is one term, until the participant is drained.
//! while let Some(held) = participant.lead().await? {
//!     tokio::select! {
//!         outcome = work(held.version()) => match outcome {
//!             // The lease is given back once `held` is dropped, and not asked for again;
//!             Ok(()) => participant.drain(),
//!             // or another process may try, and this one after the cooldown.
//!             Err(problem) => {
//!                 eprintln!("stopping: {problem}");
//!                 participant.step_down();
//!             }
//!         },
//!         reason = held.lost() => eprintln!("stopping: {}", reason.as_str()),
//!     }
//!     // `work` is dropped here and so has stopped. Dropping `held` says so: only then is the lease released.
//! }
//! # assert_eq!(participant.ended().await?, component_lease::Drained::Released);
//! # let row = component_lease::LeaseStore::look(&*store, participant.component()).await?.row.ok_or("no row")?;
//! # assert!(row.is_free() && row.version == 2, "{row:?}");
//! # Ok(()) }
//! ```
//! Do not leave such a loop by `?` or a panic of the work: a participant that is dropped drains in the background, and where
//! the process ends at once the row stays held for a ttl. `run` waits in these cases too.

mod attempt;
mod builder;
mod calls;
mod notice;
mod presence;
mod run;
mod runner;
mod surroundings;
mod term;
mod trouble;
mod watchdog;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use builder::{BuildError, ParticipantBuilder};
pub use run::{Drained, ElectionFailed};
pub use surroundings::{component, surroundings};
pub use term::{HeldTerm, TermObserver};
pub use watchdog::Overrun;

use crate::election::{ComponentName, HolderId, Ineligible, LeaseRow, StopReason};
use crate::store::LeaseStore;
use runner::{Command, Shared};
use term::TermCell;

/// What a participant sees. Given out on every change that is not a mere renewal.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct View {
    term: Option<TermObserver>,
    /// The row as it was last seen; while this participant leads, as it was before it took it.
    pub row: Option<LeaseRow>,
    /// Why this participant would not take even a free row.
    pub ineligible: Option<Ineligible>,
    /// What the database last failed with, if it did.
    pub problem: Option<String>,
}

impl View {
    /// The term that this participant leads *now*: a view that has been lying about for too long
    /// says `None`, as [`Participant::is_leader`] would.
    #[must_use]
    pub fn term(&self) -> Option<&TermObserver> {
        self.term.as_ref().filter(|term| term.is_valid())
    }

    fn differs_from(&self, other: &Self) -> bool {
        let row = |view: &Self| view.row.as_ref().map(|row| (row.holder.clone(), row.version));
        self.term != other.term
            || row(self) != row(other)
            || self.ineligible != other.ineligible
            || self.problem != other.problem
    }
}

/// How often things happened since the start.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Looks at the row that were answered.
    pub looks: AtomicU64,
    /// Looks that failed or got no answer in time.
    pub looks_failed: AtomicU64,
    /// Takes that began a term.
    pub takes_won: AtomicU64,
    /// Takes that somebody else was faster than.
    pub takes_lost: AtomicU64,
    /// Takes whose outcome is not known.
    pub takes_unknown: AtomicU64,
    /// Renewals that were acknowledged.
    pub renewals: AtomicU64,
    /// Renewals that found the term lost.
    pub renewals_lost: AtomicU64,
    /// Renewals whose outcome is not known.
    pub renewals_unknown: AtomicU64,
    /// Releases that were acknowledged.
    pub releases: AtomicU64,
    /// Terms that ended by [`StopReason::Lost`].
    pub ended_lost: AtomicU64,
    /// Terms that ended by [`StopReason::Deadline`].
    pub ended_deadline: AtomicU64,
    /// Terms that ended by [`StopReason::Unhealthy`].
    pub ended_unhealthy: AtomicU64,
    /// Terms that ended by [`StopReason::SteppedDown`].
    pub ended_stepped_down: AtomicU64,
    /// Terms that ended by [`StopReason::Draining`].
    pub ended_draining: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, reason: StopReason) -> &AtomicU64 {
        match reason {
            StopReason::Lost => &self.ended_lost,
            StopReason::Deadline => &self.ended_deadline,
            StopReason::Unhealthy => &self.ended_unhealthy,
            StopReason::SteppedDown => &self.ended_stepped_down,
            StopReason::Draining => &self.ended_draining,
        }
    }
}

/// The election loop has not turned for longer than it may: see [`Participant::check_alive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the election loop last turned {} s ago", .since.as_secs())]
#[non_exhaustive]
pub struct Stalled {
    /// How long ago it last turned.
    pub since: Duration,
}

/// How late the election loop may be before it counts as dead, beyond one ttl.
const LATE: Duration = Duration::from_secs(5);

/// A process that competes for a component. Dropping it drains it in the background, which needs the runtime for a
/// moment more: a program that ends with its `main` awaits [`Participant::shutdown`] instead, or uses
/// [`Participant::run`], so that its successor does not wait for a whole ttl.
///
/// All methods take `&self`: share it in an [`Arc`].
pub struct Participant {
    me: HolderId,
    ttl: Duration,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    seen: watch::Receiver<View>,
    ended: watch::Receiver<Option<Result<Drained, ElectionFailed>>>,
    /// As was last said.
    healthy: Mutex<bool>,
}

impl Participant {
    /// Give each participant a store of its own ([`crate::store::open`]): a store has one connection, and a take
    /// that the database is slow to commit would keep another participant's renewals waiting.
    #[must_use]
    pub fn builder(store: Arc<dyn LeaseStore>, component: ComponentName) -> ParticipantBuilder {
        ParticipantBuilder::new(store, component)
    }

    /// The holder id: unique for this start of the process.
    #[must_use]
    pub fn holder(&self) -> &HolderId {
        &self.me
    }

    /// What is competed for.
    #[must_use]
    pub fn component(&self) -> &ComponentName {
        &self.shared.component
    }

    /// Whether this process leads at this very moment: the boot clock against the term's deadline.
    /// No lock, no I/O, no task that could be late.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.shared.is_leader()
    }

    /// The term that this process leads: its version and how long it is certain to last. Holds nothing.
    #[must_use]
    pub fn term(&self) -> Option<TermObserver> {
        self.shared.term().filter(|term| !term.valid_for().is_zero()).map(|cell| TermObserver { cell })
    }

    /// Changes of what this participant sees.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<View> {
        self.seen.clone()
    }

    /// Waits until this process leads and begins work. `Ok(None)` when the participant has been drained and there will
    /// be no other term. While a term lasts, each call hands out the same one.
    ///
    /// Cancel safe: dropping the future loses no term; the next call hands it out.
    ///
    /// # Errors
    /// [`ElectionFailed`] when the election loop is gone without having been drained.
    pub async fn lead(&self) -> Result<Option<HeldTerm>, ElectionFailed> {
        let mut seen = self.seen.clone();
        loop {
            // Marked as seen before the term is read, so that no change falls between the two.
            seen.borrow_and_update();
            let term = self.shared.term();
            let begin = |term| TermCell::begin_work(term, Arc::clone(&self.shared));
            if let Some(held) = term.as_ref().and_then(begin) {
                return Ok(Some(held));
            }
            if seen.changed().await.is_err() {
                return self.ended().await.map(|_| None);
            }
        }
    }

    /// A program that is not healthy stops leading, and does not take, until it is healthy again. May be said
    /// again and again: only a change does anything.
    pub fn set_healthy(&self, healthy: bool) {
        // Held until it is told: of two threads that disagree, the one that was remembered is obeyed.
        let mut said = self.healthy.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *said, healthy) != healthy {
            self.tell(Command::Healthy(healthy));
        }
    }

    /// Stop leading, release once the work has stopped, and stay away for the cooldown or until
    /// somebody else has led. Returns at once.
    pub fn step_down(&self) {
        self.tell(Command::StepDown);
    }

    fn tell(&self, command: Command) {
        // A loop that has ended needs to be told nothing.
        let _ = self.commands.send(command);
    }

    /// How long ago the election loop last turned (boot clock): at most a sixth of the ttl (during a take: nine
    /// tenths) and a second while it is alive.
    #[must_use]
    pub fn heartbeat_age(&self) -> Duration {
        self.shared.clock.boot().saturating_sub(self.shared.last_beat())
    }

    /// For a liveness probe: whether the election loop turns. A database that is away does not make it fail, as a
    /// restart would not bring that back. Not for readiness: a standby is ready too.
    ///
    /// # Errors
    /// [`Stalled`] when the loop has not turned for the ttl (its own, or the row's if that is longer) and 5 s.
    pub fn check_alive(&self) -> Result<(), Stalled> {
        let row_ttl = self.seen.borrow().row.as_ref().map(LeaseRow::judged_ttl);
        let since = self.heartbeat_age();
        if since <= row_ttl.unwrap_or_default().max(self.ttl) + LATE {
            Ok(())
        } else {
            Err(Stalled { since })
        }
    }

    /// How often things happened since the start, for metrics.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("component", &self.shared.component)
            .field("holder", &self.me)
            .field("term", &self.shared.term())
            .finish_non_exhaustive()
    }
}

/// What this machine calls itself; within a pod, the pod's name.
pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    if name.is_empty() { "localhost".to_owned() } else { name.into_owned() }
}

#[cfg(test)]
mod outage_tests;
#[cfg(test)]
mod tests;
