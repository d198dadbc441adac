//! The library that a service embeds: compete for a component, know at every moment whether you lead.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use component_lease::{clock::SystemClock, participant::{Participant, component}, store::MemoryStore};
//! # async fn work(version: i64) {}
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
//! let participant = Participant::builder(store, component("scheduler")?).ttl(30).start()?;
//!
//! // Each turn of this loop is one term. `lead` waits until this process leads.
//! while let Some(leadership) = participant.lead().await {
//!     tokio::select! {
//!         () = work(leadership.version()) => {}     // hand the version to what can refuse an older one
//!         reason = leadership.lost() => eprintln!("stopping: {reason:?}"),
//!     }
//!     // Dropping the leadership says that the work has stopped: only then is the lease released.
//! }
//! # Ok(()) }
//! ```
//! Code that only asks in passing uses [`Participant::is_leader`] (two atomic loads and a clock
//! reading) or, for the version and the time that is left, [`Participant::guard`].

mod attempt;
mod guard;
mod notice;
mod presence;
mod runner;
mod surroundings;
mod trouble;
mod watchdog;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use guard::{Guard, Leadership};
pub use surroundings::{component, surroundings};
pub use watchdog::Overrun;

use crate::clock::{Clock, SystemClock};
use crate::election::life::MAX_TTL_DEFAULT_SECONDS;
use crate::election::timing::TTL_DEFAULT_SECONDS;
use crate::election::{
    ComponentName, Election, HolderId, Ineligible, LeaseRow, Moment, NameError, StopReason, Timing,
    TimingError,
};
use crate::membership::holder_id;
use crate::membership::{Instance, Mode, Promise, Whereabouts};
use crate::store::LeaseStore;
use guard::TermCell;
use notice::Notice;
use presence::Presence;
use runner::{Command, Runner, Shared};
use trouble::Trouble;
use watchdog::OnOverrun;

/// Why a participant cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Timing(#[from] TimingError),
    #[error(
        "a ttl of {ttl} s is longer than the longest that any lease of the database may have, {max_ttl} s; shorten it, or raise the maximum for all participants and in the database"
    )]
    TtlAboveMax { ttl: u32, max_ttl: u32 },
    #[error("a participant must be started within a tokio runtime")]
    NoRuntime,
    #[error("the watchdog thread cannot be started")]
    Watchdog(#[source] std::io::Error),
}

/// How the election loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After [`Participant::drain`]: nothing is held any more.
    Drained,
    /// It panicked or was dropped with its runtime; the row lapses by itself.
    Failed,
}

/// What a participant sees. Given out on every change that is not a mere renewal.
#[derive(Debug, Clone, Default)]
pub struct View {
    guard: Option<Guard>,
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
    pub fn leads(&self) -> Option<&Guard> {
        self.guard.as_ref().filter(|guard| guard.is_valid())
    }

    fn differs_from(&self, other: &Self) -> bool {
        let term = |view: &Self| view.row.as_ref().map(|row| (row.holder.clone(), row.version));
        self.guard != other.guard
            || term(self) != term(other)
            || self.ineligible != other.ineligible
            || self.problem != other.problem
    }
}

/// How often things happened since the start.
#[derive(Debug, Default)]
pub struct Counters {
    pub looks: AtomicU64,
    pub looks_failed: AtomicU64,
    pub takes_won: AtomicU64,
    pub takes_lost: AtomicU64,
    pub takes_unknown: AtomicU64,
    pub renewals: AtomicU64,
    pub renewals_lost: AtomicU64,
    pub renewals_unknown: AtomicU64,
    pub releases: AtomicU64,
    pub ended_lost: AtomicU64,
    pub ended_deadline: AtomicU64,
    pub ended_unhealthy: AtomicU64,
    pub ended_stepped_down: AtomicU64,
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

/// Sets up a [`Participant`].
pub struct Builder {
    store: Arc<dyn LeaseStore>,
    component: ComponentName,
    name: String,
    origin: String,
    ttl: u32,
    stop_grace: Option<Duration>,
    cooldown: Option<Duration>,
    max_ttl: Option<u32>,
    whereabouts: Whereabouts,
    program_version: Option<String>,
    mode: Mode,
    promise: Option<Promise>,
    clock: Arc<dyn Clock>,
    on_overrun: OnOverrun,
}

impl Builder {
    /// First part of the holder id, for people; default: the host name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Second part of the holder id, cut to 8 characters: the pod's uid; default: the process id.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = origin.into();
        self
    }

    /// Seconds that a term lasts without renewal, 1 to 3600; default 30. A `ComponentLease` resource overrides it.
    #[must_use]
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.ttl = seconds;
        self
    }

    /// What is kept for stopping the work, at most 0.3 of the ttl; default 0.2 of the ttl in force.
    /// A participant whose own choice does not fit the ttl of a `ComponentLease` takes nothing.
    #[must_use]
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = Some(grace);
        self
    }

    /// How long this participant stays away after it was unhealthy or stepped down; default one ttl.
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = Some(cooldown);
        self
    }

    /// Seconds; the longest ttl that any lease of this database may have, the same for every participant
    /// and when the tables were made. A longer ttl, also a resource's, is cut to it. After a change of the
    /// database nothing is taken for this long. Default 30, or this participant's own ttl if that is longer.
    #[must_use]
    pub fn max_ttl(mut self, seconds: u32) -> Self {
        self.max_ttl = Some(seconds);
        self
    }

    /// Where this participant runs, for people and for the controller: see [`Whereabouts::from_variables`].
    #[must_use]
    pub fn whereabouts(mut self, whereabouts: Whereabouts) -> Self {
        self.whereabouts = whereabouts;
        self
    }

    /// Which version of the program this is, for people.
    #[must_use]
    pub fn program_version(mut self, version: impl Into<String>) -> Self {
        self.program_version = Some(version.into());
        self
    }

    /// How this participant works with its program, and the longest promise that it ever gives to another process;
    /// default: [`Mode::Embedded`] and [`Promise::NONE`]. When all containers of a leader's pod have ended, the controller
    /// releases its lease; it first waits until nobody can believe such a promise any more. So a program that tells
    /// other processes that it leads must say so here (`None`: not known, such a lease is left to expire), must never tell
    /// them for longer, and must keep its [`Leadership`] until all that it told is void.
    #[must_use]
    pub fn works(mut self, mode: Mode, promise: Option<Promise>) -> Self {
        (self.mode, self.promise) = (mode, promise);
        self
    }

    /// For tests and simulations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Called by a plain OS thread at the abort moment of a term whose [`Leadership`] is still
    /// alive. The default ends the process.
    #[must_use]
    pub fn on_overrun(mut self, act: impl Fn(&Overrun) + Send + Sync + 'static) -> Self {
        self.on_overrun = Box::new(act);
        self
    }

    /// Begins to compete.
    pub fn start(self) -> Result<Participant, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let Self {
            store,
            component,
            name,
            origin,
            ttl,
            stop_grace,
            cooldown,
            max_ttl,
            whereabouts,
            program_version,
            mode,
            promise,
            clock,
            on_overrun,
        } = self;
        let me = holder_id::compose(&name, &origin, fastrand::u32(..))?;
        let ttl_time = Duration::from_secs(u64::from(ttl));
        let timing = match stop_grace {
            Some(grace) => Timing::new(ttl, grace),
            None => Timing::with_default_grace(ttl),
        }?;
        let cooldown = cooldown.unwrap_or(ttl_time);
        let max_ttl = max_ttl.unwrap_or(MAX_TTL_DEFAULT_SECONDS.max(ttl));
        if ttl > max_ttl {
            return Err(BuildError::TtlAboveMax { ttl, max_ttl });
        }

        let shared = Arc::new(Shared::new(component.clone(), Arc::clone(&clock)));
        let watchdog = watchdog::spawn(&shared, on_overrun).map_err(BuildError::Watchdog)?;
        // Just made: nobody else can have set it.
        let _ = shared.watchdog.set(watchdog);
        let presence = Presence::new(Instance {
            component: component.clone(),
            holder: me.clone(),
            lasts: ttl,
            whereabouts,
            program_version,
            mode: Some(mode),
            promise,
            healthy: true,
            leads: None,
        });
        let (commands, inbox) = mpsc::unbounded_channel();
        let (view, seen) = watch::channel(View::default());
        let (hints, clock_now) = (store.hints(), clock.boot());
        let runner = Runner {
            notice: Notice::new(clock_now, hints.tells_every_commit()),
            hints,
            store,
            shared: Arc::clone(&shared),
            election: Election::new(component, me.clone(), timing, cooldown).with_max_ttl(max_ttl),
            presence,
            commands: inbox,
            view,
            trouble: Trouble::default(),
            lock_wait: Duration::ZERO,
            untold: false,
            handle_gone: false,
            draining: false,
            shutdown: None,
        };
        let (end, ended) = watch::channel(None);
        let task = runtime.spawn(runner.run());
        runtime.spawn(async move {
            let outcome = if task.await.is_ok() { End::Drained } else { End::Failed };
            end.send_replace(Some(outcome));
        });
        Ok(Participant { me, shared, commands, seen, ended, healthy: Mutex::new(true) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("store", &self.store)
            .field("component", &self.component)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A process that competes for a component. Dropping it drains it in the background.
pub struct Participant {
    me: HolderId,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    seen: watch::Receiver<View>,
    ended: watch::Receiver<Option<End>>,
    /// As was last said.
    healthy: Mutex<bool>,
}

impl Participant {
    /// Give each participant a store of its own ([`crate::store::open`]): a store has one connection, and a take
    /// that the database is slow to commit would keep another participant's renewals waiting.
    #[must_use]
    pub fn builder(store: Arc<dyn LeaseStore>, component: ComponentName) -> Builder {
        Builder {
            store,
            component,
            name: host_name(),
            origin: std::process::id().to_string(),
            ttl: TTL_DEFAULT_SECONDS,
            stop_grace: None,
            cooldown: None,
            max_ttl: None,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: Mode::Embedded,
            promise: Some(Promise::NONE),
            clock: Arc::new(SystemClock),
            on_overrun: Box::new(watchdog::abort_process),
        }
    }

    /// Unique for this start of the process.
    #[must_use]
    pub fn holder(&self) -> &HolderId {
        &self.me
    }

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

    /// The term that this process leads: its version and how long it is certain to last.
    #[must_use]
    pub fn guard(&self) -> Option<Guard> {
        self.shared.term().filter(|term| !term.valid_for().is_zero()).map(|cell| Guard { cell })
    }

    /// Changes of what this participant sees.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<View> {
        self.seen.clone()
    }

    /// Waits until this process leads and begins work. `None` when the participant has ended.
    pub async fn lead(&self) -> Option<Leadership> {
        let mut seen = self.seen.clone();
        loop {
            // Marked as seen before the term is read, so that no change falls between the two.
            seen.borrow_and_update();
            let term = self.shared.term();
            let begin = |term| TermCell::begin_work(term, Arc::clone(&self.shared));
            if let Some(leadership) = term.as_ref().and_then(begin) {
                return Some(leadership);
            }
            seen.changed().await.ok()?;
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
    /// somebody else has led.
    pub fn step_down(&self) {
        self.tell(Command::StepDown);
    }

    /// Stop for good; [`Participant::ended`] resolves when the row is released.
    pub fn drain(&self) {
        self.tell(Command::Drain);
    }

    /// Stop for good and in order: work is asked to stop ([`Leadership::asked_to_stop`]) and may go on for as long as
    /// `limit`, in which the lease is renewed; then, or as soon as it has stopped, as [`Participant::drain`]. Once
    /// this was asked for nothing is taken and no work begins. Said again, the shorter time counts. Keep `limit` and
    /// the time that the work needs after [`Leadership::lost`] below what the process is given to end.
    pub fn shutdown(&self, limit: Duration) {
        self.tell(Command::Shutdown(limit));
    }

    fn tell(&self, command: Command) {
        // A loop that has ended needs to be told nothing.
        let _ = self.commands.send(command);
    }

    /// Resolves when the election loop is over.
    pub async fn ended(&self) -> End {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or(End::Failed)
    }

    /// Boot clock when the election loop last turned: at most a sixth of the ttl (a take: nine
    /// tenths) and a second ago while it is alive.
    #[must_use]
    pub fn last_beat(&self) -> Moment {
        self.shared.last_beat()
    }

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
