//! One member of a database: its participant competes for the lease "who is primary", and its server does what the lease,
//! the record beside it and the reports of the others say. The rules are those of [`primary`](crate::primary).
//!
//! ```text
//!                 a new version of the lease: seal, report            its primary says that it leads: follow, or come back
//!   standby ──────────────────────────────────────────▶ sealed ───────────────────────────────────────────────▶ standby
//!                                                         │ it holds the lease, and may be promoted
//!                                                         ▼
//!   (ended) ◀── the term is over, or the server ended ── primary: closed, then recorded, then open
//! ```
//! No step relies on a clock of another machine, nor on when it is taken: what makes it safe is checked by the store
//! (the record, by compare-and-set) and by the engine (no primary below the seal).

mod away;
mod held;
mod introducing;
mod leading;
mod looking;
mod outage;
mod pace;
mod rivals;
mod says;
mod standing;
mod standing_by;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use self::away::Aways;
use self::pace::{LOOK, Pace};
use self::rivals::Rivals;
use self::says::{Record, Says};
pub use self::standing::{Said, Standing};
use self::state::GRACE;
pub use self::state::State;
use crate::clock::Clock;
use crate::database::{Cloning, End, Engine, Member};
use crate::election::{ComponentName, Moment};
use crate::participant::{ElectionFailed, Participant, TermObserver};
use crate::primary::Stamp;
use crate::primary::bearer::bearer;
use crate::primary::writable::Proof;
use crate::rate::repeats::Repeats;
use crate::store::Roster;

/// How long a call of the store may take: who waits for it does nothing else.
const ANSWER: Duration = Duration::from_secs(6);
/// How long a server that ends in order may take to hand its log to those that follow.
const IN_ORDER: Duration = Duration::from_secs(10);

/// What is known of a member before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lease "who is primary", also the name of the database.
    pub component: ComponentName,
    /// Which of the members this is: its name.
    pub member: Member,
    /// Of its data directory: two that bear one name are two ([`bearer`]).
    pub identity: String,
    /// The names of all that are declared.
    pub members: BTreeSet<Member>,
    /// Where the others reach its server.
    pub host: String,
    pub port: u16,
    /// How many other members must have a commit before it is acknowledged; 1 or more.
    pub acks: usize,
    /// Whether it may be copied anew.
    pub cloning: Cloning,
}

impl Settings {
    /// What this member is to the rules and to the servers of the others.
    #[must_use]
    pub fn bearer(&self) -> Member {
        bearer(&self.member, &self.identity)
    }
}

/// Why a member's work is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// Another process bears its name.
    GaveWay,
    /// Its data are older than what was said of them. They are another bearer's from the next start on.
    OlderThanItSaid,
}

/// One member at work.
pub struct Supervisor<E> {
    settings: Settings,
    engine: Arc<E>,
    store: Arc<dyn Roster>,
    participant: Participant,
    clock: Arc<dyn Clock>,
    state: watch::Sender<State>,
    said: Mutex<Repeats>,
    /// The newest of this server.
    proof: Mutex<Option<Proof>>,
    /// Until when the store was away, and the last renewal before: this member leaves the lease to a primary, which could not renew it either.
    leaves_it: Mutex<Option<(Moment, Renewed)>>,
    /// Why it does not compete.
    away: Aways,
    rivals: Mutex<Rivals>,
    /// What was said last.
    last_said: Mutex<Says>,
    /// Who bears the names of the other members, as they say.
    bearers: Mutex<BTreeSet<Member>>,
    /// Of the last record that this process has written.
    serial: AtomicU64,
    /// What was seen last of all that stands beside the lease.
    standing: watch::Sender<Option<Standing>>,
    ended: watch::Sender<Ended>,
    pace: Mutex<Pace>,
    /// The record beside the lease that was found to be older than what is known, at the last look.
    doubted: Mutex<Option<Stamp>>,
}

impl<E> fmt::Debug for Supervisor<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<E: Engine + 'static> Supervisor<E> {
    /// Nothing begins before [`Supervisor::run`]. The participant competes once this member may lead: let it begin as one that is not healthy
    /// ([`ParticipantBuilder::healthy`](crate::participant::ParticipantBuilder::healthy)).
    pub fn new(
        settings: Settings,
        engine: E,
        store: Arc<dyn Roster>,
        participant: Participant,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = watch::Sender::new(State::Alone);
        let engine = Arc::new(engine);
        participant.set_healthy(false);
        let rivals = Mutex::new(Rivals::new(&settings.identity));
        Self {
            settings,
            engine,
            store,
            participant,
            clock,
            state,
            said: Mutex::default(),
            proof: Mutex::default(),
            leaves_it: Mutex::default(),
            away: Aways::new(),
            rivals,
            last_said: Mutex::default(),
            bearers: Mutex::default(),
            serial: AtomicU64::new(0),
            standing: watch::Sender::new(None),
            ended: watch::Sender::new(Ended::Stopped),
            pace: Mutex::default(),
            doubted: Mutex::default(),
        }
    }

    /// What it is now.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// What was seen last beside the lease, also while its store does not answer. `None` before the first look.
    pub fn standing(&self) -> Option<Standing> {
        self.standing.borrow().clone()
    }

    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For what an operator asks of the participant.
    pub const fn participant(&self) -> &Participant {
        &self.participant
    }

    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Until `stop` resolves, or the member has to end by itself; then the server is ended, and the lease released if it was held.
    ///
    /// When this is dropped or panics, the participant is drained, and the server of a primary is ended before its lease is
    /// released. That needs the runtime for a moment more.
    ///
    /// # Errors
    /// [`ElectionFailed`] when the participant's loop is gone.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<Ended, ElectionFailed> {
        tokio::pin!(stop);
        let unfinished = DrainOnDrop(&self.participant);
        while self.has_to_end().is_none() {
            if self.participant.term().is_some() {
                // The term may have ended just now.
                let held = tokio::select! {
                    held = self.participant.lead() => held?,
                    () = sleep(LOOK) => continue,
                };
                let Some(held) = held else { break };
                let (stopped, held) = self.lead(held, &mut stop).await;
                let held = held.over();
                if stopped {
                    self.participant.begin_shutdown(Duration::ZERO);
                    break;
                }
                // What made it the primary is over, so others need not wait for the end of the term.
                if let Some(held) = held.filter(TermObserver::is_valid) {
                    self.participant.step_down();
                    // Or this very term would be handed out again.
                    held.lost().await;
                }
                continue;
            }
            // Coming back may take hours. What is given up is begun anew.
            tokio::select! {
                () = &mut stop => break,
                () = async {
                    self.stand_by().await;
                    self.until_the_next_look().await;
                } => {}
            }
        }
        let ended = self.has_to_end();
        self.participant.begin_shutdown(Duration::ZERO);
        self.end_the_server(ended).await;
        self.participant.ended().await?;
        drop(unfinished);
        Ok(ended.unwrap_or(Ended::Stopped))
    }

    /// Why it has to end by itself, if it has to.
    fn has_to_end(&self) -> Option<Ended> {
        Some(*self.ended.borrow()).filter(|ended| *ended != Ended::Stopped)
    }

    async fn end_the_server(&self, ended: Option<Ended>) {
        let how = match ended {
            None | Some(Ended::Stopped) => End::InOrder { within: IN_ORDER },
            // Nothing that it acknowledges counts.
            Some(_) => End::AtOnce { grace: GRACE },
        };
        if let Err(error) = self.engine.end(how).await {
            self.complain("end", &format!("the server does not end: {error}"));
        }
    }

    fn becomes(&self, state: State) {
        if self.state.send_replace(state) != state {
            info!(member = %self.settings.member, ?state, "this member of the database has another state");
        }
    }

    /// Once a minute for each kind.
    fn complain(&self, kind: &str, why: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_due(kind, self.clock.boot()) {
            warn!(member = %self.settings.member, "{why}");
        }
    }
}

/// A supervisor that does nothing any more holds nothing.
struct DrainOnDrop<'p>(&'p Participant);

impl Drop for DrainOnDrop<'_> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// A version of the lease, and when it was renewed last, by the store's clock.
type Renewed = (i64, i64);

/// One look at the lease and what stands beside it.
struct Seen {
    version: i64,
    /// The highest version that was ever granted, as far as is known here.
    granted: i64,
    is_held: bool,
    renewed: Renewed,
    record: Option<Record>,
    said: BTreeMap<Member, Says>,
}
