//! One term as the loop, its readers and the watchdog share it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::Span;

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
    /// Work was told at the deadline that the term is over, so it is: no renewal brings it back.
    told: bool,
    /// The work came to its end by itself: whether it succeeded.
    succeeded: Option<bool>,
    /// It goes on by another right than the term.
    left: bool,
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

/// Longest sleep between two readings of the boot clock: tokio's timers stand still in suspend.
const RECHECK: Duration = Duration::from_millis(500);

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

    pub(super) fn stop_grace(&self) -> Duration {
        self.stop_grace
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

    /// Nothing is extended, and false is answered, when work was told already that the deadline has passed. That can
    /// happen although the renewal was in time: this process may be stopped between its answer and this call.
    #[must_use]
    pub(super) fn extend(&self, deadline: Moment, abort: Moment) -> bool {
        let work = self.lock();
        if work.told {
            return false;
        }
        // The abort first: nobody may ever see a deadline that the watchdog does not know of.
        self.abort.store(nanos(abort), Ordering::Release);
        self.deadline.store(nanos(deadline), Ordering::Release);
        true
    }

    /// Whether the deadline has passed. Work that hears so stops.
    fn tell_the_deadline(&self) -> bool {
        let mut work = self.lock();
        work.told |= self.valid_for().is_zero();
        work.told
    }

    /// From here on no answer says that this term is led. False when it was over already.
    pub(super) fn end(&self, reason: StopReason) -> bool {
        self.deadline.store(0, Ordering::Release);
        let first = self.lock().over.replace(reason).is_none();
        self.changed.notify_waiters();
        first
    }

    /// The work has come to its end by itself. One that was asked to stop does as it was asked.
    pub(super) fn work_ended(&self, succeeded: bool) {
        let mut work = self.lock();
        work.succeeded = (!work.asked).then_some(succeeded);
    }

    /// Whether the work succeeded, if it came to its end by itself.
    pub(super) fn succeeded(&self) -> Option<bool> {
        self.lock().succeeded
    }

    /// The work goes on by another right than this term.
    #[cfg(feature = "cli")]
    pub(super) fn leave(&self) {
        self.lock().left = true;
    }

    /// Whether the work goes on without the term.
    pub(super) fn is_left(&self) -> bool {
        self.lock().left
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

    /// Whether the work that is asked for may begin. It counts as running then.
    pub(super) fn begin_work(&self) -> bool {
        {
            let mut work = self.lock();
            if work.asked || work.over.is_some() || self.valid_for().is_zero() {
                return false;
            }
            work.running += 1;
        }
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.unpark();
        }
        true
    }

    pub(super) fn end_work(&self) {
        self.lock().running -= 1;
        self.changed.notify_waiters();
    }

    /// Resolves when the work is asked to stop, or the term is over.
    pub(super) async fn asked_to_stop(&self) {
        loop {
            let changed = self.changed.notified();
            let (asked, over) = {
                let work = self.lock();
                (work.asked, work.over.is_some())
            };
            if asked || over || self.tell_the_deadline() {
                return;
            }
            let _ = timeout(self.valid_for().min(RECHECK), changed).await;
        }
    }

    /// Resolves when the term is over, at its deadline at the latest.
    pub(super) async fn lost(&self) -> StopReason {
        loop {
            let changed = self.changed.notified();
            if let Some(reason) = self.over() {
                return reason;
            }
            if self.tell_the_deadline() {
                return StopReason::Deadline;
            }
            let _ = timeout(self.valid_for().min(RECHECK), changed).await;
        }
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
