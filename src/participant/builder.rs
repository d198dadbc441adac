//! How a participant is set up.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::endings::Endings;
use super::handle::Participant;
use super::notice::Notice;
use super::outcome::{Drained, ElectionFailed};
use super::presence::Presence;
use super::runner::Runner;
use super::shared::Shared;
use super::surroundings::host_name;
use super::trouble::Trouble;
use super::view::View;
use super::watchdog::{self, OnOverrun, Overrun};
use crate::clock::{Clock, SystemClock};
use crate::election::life::MAX_TTL_DEFAULT_SECONDS;
use crate::election::timing::TTL_DEFAULT_SECONDS;
use crate::election::{ComponentName, Election, NameError, Timing, TimingError};
use crate::membership::holder_id;
use crate::membership::{Instance, Mode, Promise, Whereabouts};
use crate::store::LeaseStore;

/// Why a participant cannot be started. Nothing was asked of the database yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Name and origin make no holder id.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Ttl and stop grace do not go together.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The row carries whole seconds.
    #[error("the ttl {0:?} is not a whole number of seconds")]
    FractionOfASecond(Duration),
    /// The ttl is longer than [`ParticipantBuilder::max_ttl`].
    #[error(
        "a ttl of {} s is longer than the longest that any lease of the database may have, {} s; shorten it, or raise the maximum for all participants and in the database",
        .ttl.as_secs(),
        .max_ttl.as_secs()
    )]
    TtlAboveMax {
        /// What was asked for.
        ttl: Duration,
        /// What is allowed.
        max_ttl: Duration,
    },
    /// [`ParticipantBuilder::start`] was called outside of a tokio runtime.
    #[error("a participant must be started within a tokio runtime")]
    NoRuntime,
    /// The operating system gives no thread for the watchdog.
    #[error("the watchdog thread cannot be started")]
    Watchdog(#[source] std::io::Error),
}

/// Sets up a [`Participant`]: what is not said has the default that its method names.
pub struct ParticipantBuilder {
    store: Arc<dyn LeaseStore>,
    component: ComponentName,
    name: String,
    origin: String,
    ttl: Duration,
    stop_grace: Option<Duration>,
    cooldown: Option<Duration>,
    max_ttl: Option<Duration>,
    whereabouts: Whereabouts,
    program_version: Option<String>,
    mode: Mode,
    promise: Option<Promise>,
    priority: u8,
    healthy: bool,
    clock: Arc<dyn Clock>,
    on_overrun: OnOverrun,
}

impl Participant {
    /// Give each participant a store of its own ([`crate::store::open`]): a store has one connection, and a take
    /// that the database is slow to commit would keep another participant's renewals waiting.
    #[must_use]
    pub fn builder(store: Arc<dyn LeaseStore>, component: ComponentName) -> ParticipantBuilder {
        ParticipantBuilder::new(store, component)
    }
}

/// Of a participant of which nothing is said: there is room above and below.
const PRIORITY: u8 = 100;

impl ParticipantBuilder {
    pub(super) fn new(store: Arc<dyn LeaseStore>, component: ComponentName) -> Self {
        Self {
            store,
            component,
            name: host_name(),
            origin: std::process::id().to_string(),
            ttl: Duration::from_secs(u64::from(TTL_DEFAULT_SECONDS)),
            stop_grace: None,
            cooldown: None,
            max_ttl: None,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: Mode::Embedded,
            promise: Some(Promise::NONE),
            priority: PRIORITY,
            healthy: true,
            clock: Arc::new(SystemClock),
            on_overrun: Box::new(watchdog::abort_process),
        }
    }

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

    /// How long a term lasts without renewal: whole seconds, 1 to 3600; default 30 s. A `ComponentLease` resource
    /// overrides it.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
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

    /// The longest ttl that any lease of this database may have, in whole seconds: the same for every participant
    /// and when the tables were made. A longer ttl, also a resource's, is cut to it. After a change of the
    /// database nothing is taken for this long. Default 30 s, or this participant's own ttl if that is longer.
    #[must_use]
    pub fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = Some(max_ttl);
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

    /// How this participant works with its program, for people; default [`Mode::Embedded`].
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How much this participant is preferred among those that could lead; default 100. The controller of a ComponentLease
    /// goes by it when nobody leads: the others then wait for up to 2 s. Without one it decides nothing, but for 0: such a
    /// participant never leads.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Whether the program is healthy when it begins, until [`Participant::set_healthy`] says otherwise; default true.
    #[must_use]
    pub fn healthy(mut self, healthy: bool) -> Self {
        self.healthy = healthy;
        self
    }

    /// The longest promise that this participant ever gives to another process; default [`Promise::NONE`]. When all
    /// containers of a leader's pod have ended, the controller releases its lease; it first waits until nobody can
    /// believe such a promise any more. So a program that tells other processes that it leads must say so here (`None`:
    /// not known, such a lease is left to expire), must never tell them for longer, and must keep its
    /// [`HeldTerm`](super::HeldTerm) until all that it told is void.
    #[must_use]
    pub fn promise(mut self, promise: Option<Promise>) -> Self {
        self.promise = promise;
        self
    }

    /// The clocks that are read; default [`SystemClock`]. Another one is for tests and simulations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Called by a plain OS thread at the abort moment of a term whose work is still running
    /// (whose [`HeldTerm`](super::HeldTerm) is alive). The default writes a line to standard error and aborts the process.
    #[must_use]
    pub fn on_overrun(mut self, act: impl Fn(&Overrun) + Send + Sync + 'static) -> Self {
        self.on_overrun = Box::new(act);
        self
    }

    /// Begins to compete: spawns the election loop on the runtime of the caller, and a watchdog thread. Does not wait
    /// for the database.
    ///
    /// # Errors
    /// [`BuildError`]: what was configured cannot work, or there is no runtime.
    pub fn start(self) -> Result<Participant, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
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
            priority,
            healthy,
            clock,
            on_overrun,
        } = self;
        let me = holder_id::compose(&name, &origin, fastrand::u32(..))?;
        let ttl_seconds = whole_seconds(ttl)?;
        let timing = match stop_grace {
            Some(grace) => Timing::new(ttl_seconds, grace),
            None => Timing::with_default_grace(ttl_seconds),
        }?;
        let cooldown = cooldown.unwrap_or(ttl);
        let max_ttl_seconds = match max_ttl {
            Some(max_ttl) if ttl > max_ttl => return Err(BuildError::TtlAboveMax { ttl, max_ttl }),
            Some(max_ttl) => whole_seconds(max_ttl)?,
            None => MAX_TTL_DEFAULT_SECONDS.max(ttl_seconds),
        };

        let shared = Arc::new(Shared::new(component.clone(), Arc::clone(&clock)));
        let watchdog = watchdog::spawn(&shared, on_overrun).map_err(BuildError::Watchdog)?;
        // Just made: nobody else can have set it.
        let _ = shared.watchdog.set(watchdog);
        let presence = Presence::new(Instance {
            component: component.clone(),
            holder: me.clone(),
            lasts: ttl_seconds,
            whereabouts,
            program_version,
            mode: Some(mode),
            promise,
            priority: Some(priority),
            healthy,
            leads: None,
        });
        let election = Election::new(component, me.clone(), timing, cooldown).with_max_ttl(max_ttl_seconds);
        let election = if priority == 0 { election.that_never_leads() } else { election };
        let mut election = election;
        election.set_healthy(healthy);
        let (commands, inbox) = mpsc::unbounded_channel();
        let (view, seen) = watch::channel(View::default());
        let (hints, clock_now) = (store.hints(), clock.boot());
        let runner = Runner {
            notice: Notice::new(clock_now, hints.tells_every_commit()),
            hints,
            store,
            shared: Arc::clone(&shared),
            election,
            presence,
            commands: inbox,
            view,
            trouble: Trouble::default(),
            lock_wait: Duration::ZERO,
            endings: Endings::default(),
            untold: false,
            unreleased: None,
            left: None,
            handle_gone: false,
            draining: false,
            shutdown: None,
        };
        let (end, ended) = watch::channel::<Option<Result<Drained, ElectionFailed>>>(None);
        let task = runtime.spawn(runner.run());
        runtime.spawn(async move {
            let outcome = task.await.map_err(ElectionFailed::from);
            end.send_replace(Some(outcome));
        });
        Ok(Participant { me, ttl, shared, commands, seen, ended, healthy: Mutex::new(healthy) })
    }
}

impl fmt::Debug for ParticipantBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParticipantBuilder")
            .field("store", &self.store)
            .field("component", &self.component)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// As the row carries it. Longer than any ttl stays so.
fn whole_seconds(ttl: Duration) -> Result<u32, BuildError> {
    if ttl.subsec_nanos() == 0 {
        Ok(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX))
    } else {
        Err(BuildError::FractionOfASecond(ttl))
    }
}
