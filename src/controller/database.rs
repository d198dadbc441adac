//! The database as the controller uses it: the rows that resources claim, by one query a look, every second and at
//! once when the store hints at a change of one of them. Rows of others are not read: anybody may use the table.
//! What the looks have shown is in [`Rows`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::metrics::Metrics;
use super::rows::{Changed, Rows};
use crate::clock::Clock;
use crate::election::{ComponentName, Life, Moment};
use crate::rate::budget::Budget;
use crate::rate::repeats::{Repeats, kind_of};
use crate::routing::floor::EpochRate;
use crate::routing::observed::{Quarantined, RowSight, StoreSight};
use crate::store::{Directory, Hint, Hints, Names, Outcome, Said, StandingIntent, StoreError};

/// A look is given up after this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Two looks are at least this far apart, however many hints come.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Hints may cost this many looks above one per second that find nothing: they come with every commit, or
/// from any role that may connect.
const BURST: u32 = 5;
/// With such a store a quiet second needs no look.
const SLOW_POLL: u32 = 5;

/// One database, and what is known of it.
pub(super) struct Database {
    store: Arc<dyn Directory>,
    pub(super) clock: Arc<dyn Clock>,
    /// Seconds; what the controller is configured with.
    max_ttl: u32,
    /// What the next look asks for.
    claimed: RwLock<Names>,
    /// Whether resources may claim something else by now.
    claims_changed: AtomicBool,
    rows: RwLock<Rows>,
    look_now: Notify,
    looks: watch::Sender<Moment>,
    /// When the last look ended, however it ended.
    last_look: Mutex<Moment>,
    warned: Mutex<Repeats>,
    /// Whether it could be used since this process began; before that, what was wrong.
    usable: Mutex<Result<(), String>>,
    /// Until when the last quarantine lasts, as people read it: clocks drift, and a time that changes is a status that is
    /// written.
    quarantined: Mutex<Option<Quarantined>>,
    /// How many epochs may begin because resources remember later versions.
    epoch_rate: Mutex<EpochRate>,
}

impl Database {
    pub(super) fn new(store: Arc<dyn Directory>, clock: Arc<dyn Clock>, max_ttl: u32) -> Self {
        let rows = RwLock::new(Rows::new(clock.boot(), max_ttl));
        Self {
            store,
            clock,
            max_ttl,
            claimed: RwLock::default(),
            claims_changed: AtomicBool::new(true),
            rows,
            look_now: Notify::new(),
            looks: watch::channel(Moment::ZERO).0,
            last_look: Mutex::new(Moment::ZERO),
            warned: Mutex::default(),
            usable: Mutex::new(Err("the database has not been asked yet".to_owned())),
            quarantined: Mutex::default(),
            epoch_rate: Mutex::default(),
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn Directory> {
        &self.store
    }

    /// What the looks have shown so far. Not to be kept while anything is waited for.
    pub(super) fn known(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next look asks who takes part.
    pub(super) fn want_instances(&self) {
        self.rows_mut().instances.want();
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a decision about this component may go by, and as of when.
    pub(super) fn sight(&self, component: &str) -> (StoreSight, RowSight, Moment) {
        self.known().sight(component, self.clock.boot())
    }

    /// Whether nobody takes a lease of this database, and until when, as far as its last answer tells.
    pub(super) fn quarantined(&self) -> Option<Quarantined> {
        let now = self.clock.boot();
        let until = self.known().quarantine.until(now)?;
        let mut quarantined = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner);
        if quarantined.as_ref().is_none_or(|known| known.until != until) {
            let left = until.saturating_sub(now).as_secs() + 1;
            let end = jiff::Timestamp::from_second(self.clock.wall_ms() / 1000 + i64::try_from(left).ok()?);
            *quarantined = Some(Quarantined { until, told: end.ok()?.to_string() });
        }
        quarantined.clone()
    }

    /// What was just written need not be written again before the next look.
    pub(super) fn wrote_intent(&self, component: &ComponentName, intent: StandingIntent) {
        self.rows_mut().wrote_intent(component, intent);
    }

    /// Likewise.
    pub(super) fn wrote_pause(&self, component: &ComponentName, paused: Option<Said>) {
        self.rows_mut().wrote_pause(component, paused);
    }

    pub(super) fn epoch_rate<T>(&self, of: impl FnOnce(&mut EpochRate) -> T) -> T {
        of(&mut self.epoch_rate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn claimed(&self) -> Names {
        self.claimed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(test)]
    pub(super) fn claim(&self, components: impl IntoIterator<Item = ComponentName>) {
        *self.claimed.write().unwrap_or_else(PoisonError::into_inner) = components.into_iter().collect();
    }

    /// A resource claims this component. A look follows at once if it is a new one.
    pub(super) fn is_claimed(&self, component: &ComponentName) {
        if !self.claimed().contains(component.as_str()) {
            self.claims_changed();
        }
    }

    /// Resources may have come or gone.
    pub(super) fn claims_changed(&self) {
        self.claims_changed.store(true, Ordering::Release);
        self.look_now.notify_one();
    }

    /// Forget what was seen: a controller that has not been looking for a while gives every row one ttl.
    pub(super) fn start_afresh(&self) {
        *self.rows_mut() = Rows::new(self.clock.boot(), self.max_ttl);
        *self.last_look.lock().unwrap_or_else(PoisonError::into_inner) = Moment::ZERO;
    }

    /// Waits for a look that was sent after now, for as long as a look may take.
    /// False when it did not succeed.
    pub(super) async fn look_again(&self) -> bool {
        let now = self.clock.boot();
        let mut looks = self.looks.subscribe();
        self.look_now.notify_one();
        matches!(tokio::time::timeout(LOOK_TIMEOUT, looks.wait_for(|fresh| *fresh > now)).await, Ok(Ok(_)))
    }

    /// Boot clock when the last look ended, however it ended.
    pub(super) fn last_look(&self) -> Moment {
        *self.last_look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the database could be used since this process began; what comes later is no matter of readiness, as a
    /// restart would not help.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn usable(&self) -> Result<(), String> {
        self.usable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn used(&self, how: Result<(), &str>) {
        let mut usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        if usable.is_err() {
            *usable = how.map_err(|error| format!("the database cannot be used yet: {error}"));
        }
    }

    /// Asks the database for nothing: a replica that stands by finds out whether it could act.
    pub(super) async fn try_out(&self) {
        let (names, asked) = (Names::none(), self.store.describe());
        let error = match tokio::time::timeout(LOOK_TIMEOUT, self.store.look_at(&names, false)).await {
            Ok(Ok(_)) => return self.used(Ok(())),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{asked} did not answer within {LOOK_TIMEOUT:?}"),
        };
        if self.may_warn(&error) {
            warn!(store = asked, error, "this replica stands by and could not use the database");
        }
        self.used(Err(&error));
    }

    /// Whether a warning with this text is due: one of a kind once a minute.
    pub(super) fn may_warn(&self, error: &str) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.is_due(&kind_of(error), self.clock.boot())
    }

    /// Looks until dropped. `interval` is the pause after each look; `claims` says what resources claim; `may_write` tells whether epochs may be
    /// recorded in the database of this UUID.
    pub(super) async fn poll(
        &self,
        interval: Duration,
        metrics: &Metrics,
        claims: impl Fn() -> Names,
        changed: impl Fn(Changed),
        may_write: impl Fn(Option<&str>) -> bool,
    ) {
        let mut hints = self.store.hints();
        let every_commit = hints.tells_every_commit();
        let pause = if every_commit { interval * SLOW_POLL } else { interval };
        let mut budget = Budget::new(BURST, interval, self.clock.boot());
        loop {
            if self.claims_changed.swap(false, Ordering::AcqRel) {
                *self.claimed.write().unwrap_or_else(PoisonError::into_inner) = claims();
            }
            let change = self.look(interval, metrics).await;
            let recorded = self.record(&may_write).await;
            match change {
                Some(change) => {
                    budget.restore(self.clock.boot());
                    changed(change);
                }
                // Only what turns out to be a mere renewal is rationed: handovers in quick
                // succession must not wait for each other.
                None => budget.spend(self.clock.boot()),
            }
            tokio::time::sleep(LEAST_PAUSE).await;
            // A failing database is asked as often as ever, so that its return is noticed.
            let pause = match recorded {
                Some(Outcome::Applied) => Duration::ZERO,
                _ if self.known().failing() => interval,
                _ => pause.min(self.known().until_next_expiry(self.clock.boot())),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.look_now.notified() => {}
                () = self.concerned(&mut hints) => {
                    tokio::time::sleep(budget.wait(self.clock.boot())).await;
                }
            }
            hints.drain();
        }
    }

    /// Waits for a hint that may concern a claimed component. Others may use the table too, and anybody who may
    /// connect may notify.
    async fn concerned(&self, hints: &mut Hints) {
        loop {
            match hints.next().await {
                Hint::Component(component) if !self.claimed().contains(&component) => {}
                Hint::Component(_) | Hint::Any => return,
            }
        }
    }

    /// Records that the database is another one than before, or that the quarantine which follows
    /// was waited out: without it, nobody would who starts while no participant is there.
    async fn record(&self, may_write: &impl Fn(Option<&str>) -> bool) -> Option<Outcome> {
        if self.known().life().is_none_or(Life::is_settled) {
            return Some(Outcome::Lost);
        }
        if !may_write(self.known().database().as_deref()) {
            return None;
        }
        let (begin, settle) = {
            let mut rows = self.rows_mut();
            if rows.failing() {
                return None;
            }
            let again = rows.quarantine.length();
            (rows.quarantine.new_epoch(), rows.quarantine.to_settle(self.clock.boot(), again))
        };
        let what = if begin.is_some() { "a new epoch" } else { "the end of the quarantine" };
        let recording = async {
            match (self.store.epochs(), &begin, &settle) {
                (Some(epochs), Some(new), _) => epochs.begin_epoch(new).await,
                (Some(epochs), None, Some(waited_out)) => epochs.settle(waited_out).await,
                (None, ..) | (Some(_), None, None) => Ok(Outcome::Lost),
            }
        };
        let outcome = match tokio::time::timeout(LOOK_TIMEOUT, recording).await {
            Ok(Ok(Outcome::Applied)) => {
                info!(store = self.store.describe(), "recorded {what}");
                Ok(Outcome::Applied)
            }
            // Somebody else was first, which the next look shows.
            Ok(Ok(Outcome::Lost)) => Ok(Outcome::Lost),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {LOOK_TIMEOUT:?}")),
        };
        if let Err(error) = &outcome
            && self.may_warn(error)
        {
            warn!(store = self.store.describe(), error, "{what} could not be recorded; trying again");
        }
        outcome.ok()
    }

    async fn look(&self, interval: Duration, metrics: &Metrics) -> Option<Changed> {
        let asked = self.clock.boot();
        let with_instances = self.known().instances.due(asked, interval);
        let names = self.claimed();
        let call = self.store.look_at(&names, with_instances);
        let answer = tokio::time::timeout(LOOK_TIMEOUT, call).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(StoreError::retryable(format!(
                "{} did not answer within {LOOK_TIMEOUT:?}",
                self.store.describe()
            )))
        });
        let now = self.clock.boot();
        metrics.polled(answer.as_ref().err(), now.saturating_sub(asked));
        let changed = match answer {
            Ok(snapshot) => {
                let (rows, claimed) = (snapshot.rows.len(), names.as_slice().len());
                self.used(Ok(()));
                let learned = self.rows_mut().saw(snapshot, names, asked, with_instances, now);
                if learned.is_news {
                    info!(store = self.store.describe(), rows, claimed, "the database answers");
                }
                if learned.look_again {
                    self.look_now.notify_one();
                }
                self.looks.send_replace(asked);
                learned.changed
            }
            Err(error) => {
                let text = error.to_string();
                self.used(Err(&text));
                let logged = self.may_warn(&text);
                if logged {
                    warn!(
                        store = self.store.describe(),
                        error = text,
                        "the poll failed; labels stay as they are"
                    );
                }
                let mut rows = self.rows_mut();
                if with_instances {
                    rows.failed_with_instances(asked);
                }
                rows.failed(error, logged, now)
            }
        };
        *self.last_look.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.boot();
        changed
    }
}

#[cfg(test)]
#[path = "database_tests.rs"]
mod tests;
