//! What a participant hands out about a term: a [`TermObserver`] that answers by the boot clock at the
//! call, and a [`HeldTerm`] whose life is the life of the work.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::shared::Shared;
use super::term_cell::TermCell;
use crate::election::{Moment, StopReason};

/// Watches one term and holds nothing: it answers at the call, by the boot clock, whether the term still runs.
///
/// As many copies as one likes may be handed around; they keep no lease from being released.
#[derive(Clone)]
pub struct TermObserver {
    pub(super) cell: Arc<TermCell>,
}

impl TermObserver {
    /// The fencing token: hand it to everything that can refuse an older one. Rises from term to term.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.cell.version()
    }

    /// How long this term is certain to last, without a renewal; zero once it is over. Start nothing that takes longer.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.cell.valid_for()
    }

    /// Whether this process leads by this term at this very moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.valid_for().is_zero()
    }

    /// The time between the end of the term and the moment by which its work must have stopped.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.cell.stop_grace()
    }

    /// Boot clock by which the work must have stopped. Moves on with each renewal until the term is over.
    #[must_use]
    pub fn abort_at(&self) -> Moment {
        self.cell.aborts_at()
    }

    /// The span of this term (`term`, with component and version), for what its work logs.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.cell.span()
    }

    /// Resolves when [`Participant::shutdown`](super::Participant::shutdown) asks the work to stop: begin nothing new,
    /// end what runs, then return (or drop the [`HeldTerm`]). The term is renewed meanwhile; [`TermObserver::lost`]
    /// still says when the work must stop. Also resolves when the term is over.
    ///
    /// Cancel safe: it may be dropped and called again.
    pub async fn asked_to_stop(&self) {
        self.cell.asked_to_stop().await;
    }

    /// Resolves as soon as the work must stop, at the term's deadline at the latest. The term is over then for good.
    ///
    /// Cancel safe: it may be dropped and called again.
    pub async fn lost(&self) -> StopReason {
        self.cell.lost().await
    }
}

impl fmt::Debug for TermObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}

impl PartialEq for TermObserver {
    /// The same term, not merely the same version.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }
}

/// Holds one term for the work that is done in it, as a mutex guard holds a lock: while it lives, the lease is not
/// released. It answers all that a [`TermObserver`] answers.
///
/// **Dropping it says that the work has stopped.** That does not end the term: the participant goes on leading, and
/// [`Participant::lead`](super::Participant::lead) hands the term out again. To give the lease back, also call
/// [`step_down`](super::Participant::step_down), [`drain`](super::Participant::drain) or
/// [`shutdown`](super::Participant::shutdown); [`run`](super::Participant::run) does all of that by itself.
/// If it is still alive at [`abort_at`](TermObserver::abort_at), the process is ended
/// ([`on_overrun`](super::ParticipantBuilder::on_overrun)): so never leak one.
#[must_use = "dropping a HeldTerm says that the work has stopped"]
pub struct HeldTerm {
    observer: TermObserver,
    _watched: Arc<Shared>,
}

impl HeldTerm {
    /// Begins work, unless the term is over. `watched` is what the watchdog lives by: work may outlive its participant and
    /// runtime, and is watched to its end.
    pub(super) fn begin(cell: &Arc<TermCell>, watched: Arc<Shared>) -> Option<Self> {
        cell.begin_work()
            .then(|| Self { observer: TermObserver { cell: Arc::clone(cell) }, _watched: watched })
    }

    /// The work has come to its end by itself. For the history, and before it says that it has stopped.
    pub(crate) fn work_ended(&self, succeeded: bool) {
        self.observer.cell.work_ended(succeeded);
    }

    /// What was done under this term goes on by another right than the term, which is over: nothing is released, so that nobody is invited to take
    /// the lease. It lapses, unless this participant takes it again.
    #[cfg(feature = "cli")]
    pub(crate) fn leave(self) {
        self.observer.cell.leave();
    }

    /// A copy of what may be handed around.
    #[must_use]
    pub fn observer(&self) -> TermObserver {
        self.observer.clone()
    }
}

impl Deref for HeldTerm {
    type Target = TermObserver;

    fn deref(&self) -> &TermObserver {
        &self.observer
    }
}

impl fmt::Debug for HeldTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldTerm").field("observer", &self.observer).finish_non_exhaustive()
    }
}

impl Drop for HeldTerm {
    fn drop(&mut self) {
        self.observer.cell.end_work();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::election::ComponentName;

    /// A boot clock that stands still until it is set.
    #[derive(Debug, Default)]
    struct SetClock(Mutex<Moment>);

    impl Clock for SetClock {
        fn boot(&self) -> Moment {
            *self.0.lock().unwrap()
        }

        fn wall_ms(&self) -> i64 {
            0
        }
    }

    #[test]
    fn no_work_begins_after_the_deadline() {
        let s = Duration::from_secs;
        let clock = Arc::new(SetClock::default());
        let shared = || Arc::new(Shared::new(ComponentName::new("c").unwrap(), clock.clone()));
        let cell = Arc::new(TermCell::new(1, clock.clone(), Arc::default(), s(7), s(9), Span::none()));
        *clock.0.lock().unwrap() = s(7) - Duration::from_nanos(1);
        assert!(HeldTerm::begin(&cell, shared()).is_some());
        // The loop has said nothing yet: it may be late, and so may the process that was told to begin.
        *clock.0.lock().unwrap() = s(7);
        assert!(HeldTerm::begin(&cell, shared()).is_none());
        assert!(!cell.work_runs());
        assert!(cell.extend(s(17), s(19)));
        assert!(HeldTerm::begin(&cell, shared()).is_some());
        cell.ask_to_stop();
        assert!(HeldTerm::begin(&cell, shared()).is_none(), "nor when it is to stop");
    }

    #[tokio::test]
    async fn work_that_was_told_at_the_deadline_to_stop_is_not_told_otherwise_by_a_renewal_that_becomes_known_then()
     {
        let s = Duration::from_secs;
        let clock = Arc::new(SetClock::default());
        let cell = || TermCell::new(1, clock.clone(), Arc::default(), s(7), s(9), Span::none());
        let (stops, asked, free) = (cell(), cell(), cell());
        *clock.0.lock().unwrap() = s(7);
        assert_eq!(stops.lost().await, StopReason::Deadline);
        asked.asked_to_stop().await;
        for told in [stops, asked] {
            assert!(!told.extend(s(17), s(19)));
            assert_eq!((told.valid_for(), told.aborts_at()), (Duration::ZERO, s(9)));
            assert_eq!(told.lost().await, StopReason::Deadline);
        }
        assert!(free.extend(s(17), s(19)), "nobody has stopped anything");
    }
}
