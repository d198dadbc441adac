//! The handle of a participant.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::counters::Counters;
use super::outcome::{Drained, ElectionFailed};
use super::shared::{Command, Shared};
use super::term::{HeldTerm, TermObserver};
use super::view::View;
use crate::election::{ComponentName, HolderId, LeaseRow};

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
    pub(super) me: HolderId,
    pub(super) ttl: Duration,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) seen: watch::Receiver<View>,
    pub(super) ended: watch::Receiver<Option<Result<Drained, ElectionFailed>>>,
    /// As was last said.
    pub(super) healthy: Mutex<bool>,
}

impl Participant {
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

    /// What it was configured with.
    #[cfg(feature = "cli")]
    pub(crate) const fn ttl(&self) -> Duration {
        self.ttl
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
            let begin = |term| HeldTerm::begin(term, Arc::clone(&self.shared));
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
        // Held until the command is sent: of two threads that disagree, the one that was remembered is obeyed.
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

    /// Stop for good, at once: the work sees that the term is lost. Returns at once; [`Participant::ended`] resolves when
    /// the row is released.
    pub fn drain(&self) {
        self.tell(Command::Drain);
    }

    /// Begins a [`Participant::shutdown`] and returns at once.
    pub fn begin_shutdown(&self, limit: Duration) {
        self.tell(Command::Shutdown(limit));
    }

    /// Stop for good and in order: work is asked to stop ([`TermObserver::asked_to_stop`]) and may go on for as long as
    /// `limit`, in which the lease is renewed; then, or as soon as it has stopped, as [`Participant::drain`]. Resolves
    /// when nothing is held any more, and tells whether the release was acknowledged. Once this was asked for, nothing
    /// is taken and no work begins. Asked again, the shorter time counts.
    ///
    /// Keep `limit` and the time that the work needs after [`TermObserver::lost`] below what the process is given to
    /// end.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future takes nothing back: the participant ends in the background.
    ///
    /// # Errors
    /// [`ElectionFailed`] when the election loop is gone without having been drained.
    pub async fn shutdown(&self, limit: Duration) -> Result<Drained, ElectionFailed> {
        self.begin_shutdown(limit);
        self.ended().await
    }

    /// Resolves when the election loop is over: after [`Participant::drain`] or [`Participant::shutdown`] once all work
    /// has stopped and its release was answered or given up. Cancel safe.
    ///
    /// # Errors
    /// [`ElectionFailed`] when it ended without having been asked to.
    pub async fn ended(&self) -> Result<Drained, ElectionFailed> {
        let mut ended = self.ended.clone();
        let known = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        // Nobody is left to tell: the runtime is gone.
        known.unwrap_or(Err(ElectionFailed { cause: None }))
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

    /// How long ago the last take or renewal was sent that was acknowledged; `None` while this participant does not
    /// lead. A renewal is due after a third of the ttl.
    #[must_use]
    pub fn renewal_age(&self) -> Option<Duration> {
        self.is_leader().then(|| self.shared.clock.boot().saturating_sub(self.shared.last_renewal()))
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
