//! A plain OS thread that sees to it that no work outlives its term. Not an async task: the case
//! that it is there for is the one in which every async worker is blocked.

use std::io::Write as _;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::shared::Shared;
use super::term_cell::TermCell;

/// Work that still ran when its term's abort moment had come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overrun {
    /// What was led.
    pub component: String,
    /// The term's version.
    pub version: i64,
}

pub(super) type OnOverrun = Box<dyn Fn(&Overrun) + Send + Sync>;

/// How often the boot clock is read while work runs: the wait for a moment could sleep through a
/// suspend. Small beside the tenth of a ttl that is left after the abort moment.
const TICK: Duration = Duration::from_millis(50);
/// How often an idle watchdog looks whether it is still needed.
const IDLE: Duration = Duration::from_secs(1);

/// The default: end the process. Work that cannot stop in time must not go on.
pub(super) fn abort_process(overrun: &Overrun) {
    // Whether anybody reads it or not: a panic here would leave the work running.
    let _ = writeln!(
        std::io::stderr(),
        "component-lease: the work of {} (version {}) did not stop before its lease ran out; ending the process so that there are never two leaders",
        overrun.component,
        overrun.version
    );
    std::process::abort();
}

pub(super) fn spawn(shared: &Arc<Shared>, on_overrun: OnOverrun) -> std::io::Result<thread::Thread> {
    let shared = Arc::downgrade(shared);
    let handle = thread::Builder::new()
        .name("lease-watchdog".to_owned())
        .spawn(move || watch(&shared, &on_overrun))?;
    Ok(handle.thread().clone())
}

fn watch(shared: &Weak<Shared>, on_overrun: &OnOverrun) {
    let mut told: Option<Weak<TermCell>> = None;
    while let Some(strong) = shared.upgrade() {
        let term = strong.term().filter(|term| term.work_runs());
        if let Some(term) = &term
            && strong.clock.boot() >= term.aborts_at()
            && told.as_ref().is_none_or(|told| told.as_ptr() != Arc::as_ptr(term))
        {
            told = Some(Arc::downgrade(term));
            on_overrun(&Overrun { component: strong.component.to_string(), version: term.version() });
        }
        // Holding no reference while asleep lets a dropped participant end.
        drop(strong);
        thread::park_timeout(if term.is_some() { TICK } else { IDLE });
    }
}
