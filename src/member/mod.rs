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

mod heeding;
mod held;
mod leading;
mod outage;
mod says;
mod standing;
mod standing_by;
mod state;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use self::held::Held;
use self::says::{Record, Says};
pub use self::standing::{Said, Standing};
use self::state::GRACE;
pub use self::state::State;
use self::wishes::Heeding;
pub use self::wishes::{Answer, AnswerState, What, Wish};
use crate::clock::Clock;
use crate::database::{Cloning, End, Engine, Member};
use crate::election::{ComponentName, Moment};
use crate::participant::{ElectionFailed, Participant, TermObserver};
use crate::primary::writable::Proof;
use crate::rate::repeats::Repeats;
use crate::store::{Roster, StoreError};

/// How often a standby looks at the lease, and a primary that waits at what it waits for.
const LOOK: Duration = Duration::from_millis(200);
/// How long a server that ends in order may take to hand its log to those that follow.
const IN_ORDER: Duration = Duration::from_secs(10);

/// What is known of a member before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lease "who is primary", also the name of the database.
    pub component: ComponentName,
    /// Which of the members this is.
    pub member: Member,
    /// All that are declared.
    pub members: BTreeSet<Member>,
    /// Where the others reach its server.
    pub host: String,
    pub port: u16,
    /// How many other members must have a commit before it is acknowledged; 1 or more.
    pub acks: usize,
    /// Whether it may be copied anew.
    pub cloning: Cloning,
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
    /// Since when this member leaves the lease to its primary, which could not renew it either.
    leaves_it: Mutex<Option<Moment>>,
    heeding: Mutex<Heeding>,
}

impl<E> fmt::Debug for Supervisor<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<E: Engine + 'static> Supervisor<E> {
    /// Nothing begins before [`Supervisor::run`].
    pub fn new(
        settings: Settings,
        engine: E,
        store: Arc<dyn Roster>,
        participant: Participant,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = watch::Sender::new(State::Alone);
        // Only a member knows whether another could be promoted.
        participant.deliberate();
        let engine = Arc::new(engine);
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
            heeding: Mutex::default(),
        }
    }

    /// What it is now.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
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

    /// Until `stop` resolves; then the server is ended, and the lease released if it was held.
    ///
    /// When this is dropped or panics, the participant is drained, and the server of a primary is ended before its lease is
    /// released. That needs the runtime for a moment more.
    ///
    /// # Errors
    /// [`ElectionFailed`] when the participant's loop is gone.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), ElectionFailed> {
        tokio::pin!(stop);
        let unfinished = DrainOnDrop(&self.participant);
        loop {
            if self.participant.term().is_some() {
                // The term may have ended just now.
                let held = tokio::select! {
                    held = self.participant.lead() => held?,
                    () = sleep(LOOK) => continue,
                };
                let Some(held) = held else { break };
                let (stopped, held) = self.lead(held, &mut stop).await;
                let held = held.map(Held::over);
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
                    sleep(LOOK).await;
                } => {}
            }
        }
        self.participant.begin_shutdown(Duration::ZERO);
        self.end_in_order().await;
        self.participant.ended().await?;
        drop(unfinished);
        Ok(())
    }

    async fn end_in_order(&self) {
        let how = End::InOrder { within: IN_ORDER };
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

    async fn report(&self, says: &Says) -> Result<(), StoreError> {
        let says = self.signed(says);
        self.store.report(&self.settings.component, &self.settings.member, &says.text()).await
    }

    /// The highest version at which a member is sealed.
    fn promised(&self, said: &BTreeMap<Member, Says>) -> i64 {
        let own = self.engine.sealed().unwrap_or(0);
        said.values().filter_map(|says| Some(says.sealed.as_ref()?.version)).fold(own, i64::max)
    }

    /// The lease, and what is said beside it.
    async fn read(&self) -> Result<Seen, StoreError> {
        let found = self.store.read_roster(&self.settings.component, &self.settings.members).await?;
        let record = match found.record.as_deref().map(Record::parse) {
            None => None,
            Some(Ok(record)) => Some(record),
            // Nobody is promoted on a guess.
            Some(Err(why)) => {
                return Err(StoreError::misconfigured(format!(
                    "the record beside lease {} cannot be read: {why}; restore what it was, or remove it if no member has data that are still needed",
                    self.settings.component
                )));
            }
        };
        let said: BTreeMap<Member, Says> = found
            .reports
            .iter()
            .filter_map(|(member, text)| Some((member.clone(), Says::parse(text)?)))
            .collect();
        self.remember(said.get(&self.settings.member));
        let wishes = found
            .wishes
            .iter()
            .filter_map(|(member, text)| Some((member.clone(), Wish::parse(text)?)))
            .collect();
        let version = found.row.as_ref().map_or(0, |row| row.version);
        let promised = self.promised(&said);
        // Somebody has deleted the lease: it would begin below what members have promised.
        if promised > version {
            self.store.begin_above(&self.settings.component, promised);
        }
        Ok(Seen {
            version,
            promised,
            is_held: found.row.is_some_and(|row| !row.is_free()),
            record,
            said,
            wishes,
        })
    }
}

/// A supervisor that does nothing any more holds nothing.
struct DrainOnDrop<'p>(&'p Participant);

impl Drop for DrainOnDrop<'_> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// One look at the lease and what stands beside it.
struct Seen {
    version: i64,
    /// The highest version at which a member is sealed, as far as is known here.
    promised: i64,
    is_held: bool,
    record: Option<Record>,
    said: BTreeMap<Member, Says>,
    wishes: BTreeMap<Member, Wish>,
}
