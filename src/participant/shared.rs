//! What the parts of a participant share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::counters::Counters;
use super::term_cell::TermCell;
use crate::clock::Clock;
use crate::election::{ComponentName, Moment};

/// What the handle, the terms and the watchdog share with the loop.
pub(super) struct Shared {
    pub(super) component: ComponentName,
    pub(super) clock: Arc<dyn Clock>,
    /// The term that is led or whose work is being stopped.
    pub(super) term: ArcSwapOption<TermCell>,
    pub(super) watchdog: Arc<OnceLock<Thread>>,
    beat: AtomicU64,
    /// When the last take or renewal was sent that was acknowledged.
    renewal: AtomicU64,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(component: ComponentName, clock: Arc<dyn Clock>) -> Self {
        let beat = AtomicU64::new(ms(clock.boot()));
        Self {
            component,
            clock,
            term: ArcSwapOption::empty(),
            watchdog: Arc::default(),
            beat,
            renewal: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    pub(super) fn is_leader(&self) -> bool {
        self.term.load().as_ref().is_some_and(|term| !term.valid_for().is_zero())
    }

    pub(super) fn term(&self) -> Option<Arc<TermCell>> {
        self.term.load_full()
    }

    /// The loop turns.
    pub(super) fn beat(&self, now: Moment) {
        self.beat.store(ms(now), Ordering::Relaxed);
    }

    /// A take or a renewal was acknowledged that was sent then.
    pub(super) fn renewed(&self, sent: Moment) {
        self.renewal.store(ms(sent), Ordering::Relaxed);
    }

    /// Boot clock, ms resolution.
    pub(super) fn last_renewal(&self) -> Moment {
        Duration::from_millis(self.renewal.load(Ordering::Relaxed))
    }

    /// Boot clock, ms resolution.
    pub(super) fn last_beat(&self) -> Moment {
        Duration::from_millis(self.beat.load(Ordering::Relaxed))
    }
}

fn ms(moment: Moment) -> u64 {
    u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
}

/// What the handle asks of the loop.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Healthy(bool),
    StepDown,
    /// Requests are judged by the program from now on.
    Deliberate,
    /// For the request of this id.
    MakeWay(String),
    /// No longer for the request of this id.
    Stay(String),
    Drain,
    /// Drain once the work has stopped, or when it has had this long.
    Shutdown(Duration),
}
