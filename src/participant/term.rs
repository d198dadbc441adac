//! What a participant hands out about a term: a [`TermObserver`] that answers by the boot clock at the
//! call, and a [`HeldTerm`] whose life is the life of the work.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::Span;

use super::runner::Shared;
use crate::clock::Clock;
use crate::election::{Moment, StopReason};

/// One term as all its readers share it.
pub(super) struct TermCell {
    version: i64,
    clock: Arc<dyn Clock>,
    /// Boot clock, ns; 0 once the term is over.
    deadline: AtomicU64,
    /// Boot clock, ns.
    abort: AtomicU64,
    stop_grace: Duration,
    work: Mutex<Work>,
    changed: Notify,
    span: Span,
    /// Told when there is work to watch.
    watchdog: Arc<OnceLock<Thread>>,
}

#[derive(Debug, Default)]
struct Work {
    running: usize,
    /// No more work may begin, and what runs is to stop; the term goes on meanwhile.
    asked: bool,
    /// No more work may begin.
    over: Option<StopReason>,
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

impl TermCell {
    pub(super) fn new(
        version: i64,
        clock: Arc<dyn Clock>,
        watchdog: Arc<OnceLock<Thread>>,
        deadline: Moment,
        abort: Moment,
        span: Span,
    ) -> Self {
        Self {
            version,
            span,
            clock,
            watchdog,
            deadline: AtomicU64::new(nanos(deadline)),
            abort: AtomicU64::new(nanos(abort)),
            // By how much the one comes before the other, however often both are moved.
            stop_grace: abort.saturating_sub(deadline),
            work: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn version(&self) -> i64 {
        self.version
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// The whole of `is_leader()`: two atomic loads and a clock reading.
    pub(super) fn valid_for(&self) -> Duration {
        let deadline = Duration::from_nanos(self.deadline.load(Ordering::Acquire));
        deadline.saturating_sub(self.clock.boot())
    }

    pub(super) fn extend(&self, deadline: Moment, abort: Moment) {
        // The abort first: nobody may ever see a deadline that the watchdog does not know of.
        self.abort.store(nanos(abort), Ordering::Release);
        self.deadline.store(nanos(deadline), Ordering::Release);
    }

    /// From here on nobody is told that this term is led.
    /// False when it was over already.
    pub(super) fn end(&self, reason: StopReason) -> bool {
        self.deadline.store(0, Ordering::Release);
        let first = self.lock().over.replace(reason).is_none();
        self.changed.notify_waiters();
        first
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> Option<StopReason> {
        self.lock().over
    }

    /// The work is to stop, and is waited for.
    pub(super) fn ask_to_stop(&self) {
        if !std::mem::replace(&mut self.lock().asked, true) {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn work_runs(&self) -> bool {
        self.lock().running > 0
    }

    pub(super) fn aborts_at(&self) -> Moment {
        Duration::from_nanos(self.abort.load(Ordering::Acquire))
    }

    /// Resolves when no work of this term runs.
    pub(super) async fn work_stopped(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.work_runs() {
                return;
            }
            changed.await;
        }
    }

    /// Begins work, unless the term is over. `watched` is what the watchdog lives by: work may
    /// outlive its participant and runtime, and is watched to its end.
    pub(super) fn begin_work(cell: &Arc<Self>, watched: Arc<Shared>) -> Option<HeldTerm> {
        {
            let mut work = cell.lock();
            if work.asked || work.over.is_some() || cell.valid_for().is_zero() {
                return None;
            }
            work.running += 1;
        }
        if let Some(watchdog) = cell.watchdog.get() {
            watchdog.unpark();
        }
        Some(HeldTerm { observer: TermObserver { cell: Arc::clone(cell) }, _watched: watched })
    }
}

impl fmt::Debug for TermCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("version", &self.version)
            .field("valid_for", &self.valid_for())
            .finish_non_exhaustive()
    }
}

/// Watches one term and holds nothing: it answers at the call, by the boot clock, whether the term still runs.
///
/// As many copies as one likes may be handed around; they keep no lease from being released.
#[derive(Clone)]
pub struct TermObserver {
    pub(super) cell: Arc<TermCell>,
}

/// Longest sleep between two readings of the boot clock: tokio's timers stand still in suspend.
const RECHECK: Duration = Duration::from_millis(500);

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
        self.cell.stop_grace
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
        let cell = &self.cell;
        loop {
            let changed = cell.changed.notified();
            let (asked, over) = {
                let work = cell.lock();
                (work.asked, work.over.is_some())
            };
            let left = cell.valid_for();
            if asked || over || left.is_zero() {
                return;
            }
            let _ = tokio::time::timeout(left.min(RECHECK), changed).await;
        }
    }

    /// Resolves as soon as the work must stop, at the term's deadline at the latest.
    ///
    /// Cancel safe: it may be dropped and called again.
    pub async fn lost(&self) -> StopReason {
        let cell = &self.cell;
        loop {
            let changed = cell.changed.notified();
            if let Some(reason) = cell.over() {
                return reason;
            }
            let left = cell.valid_for();
            if left.is_zero() {
                return StopReason::Deadline;
            }
            let _ = tokio::time::timeout(left.min(RECHECK), changed).await;
        }
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
        self.observer.cell.lock().running -= 1;
        self.observer.cell.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(TermCell::begin_work(&cell, shared()).is_some());
        // The loop has said nothing yet: it may be late, and so may the process that was told to begin.
        *clock.0.lock().unwrap() = s(7);
        assert!(TermCell::begin_work(&cell, shared()).is_none());
        assert!(!cell.work_runs());
        cell.extend(s(17), s(19));
        assert!(TermCell::begin_work(&cell, shared()).is_some());
        cell.ask_to_stop();
        assert!(TermCell::begin_work(&cell, shared()).is_none(), "nor when it is to stop");
    }
}
