//! The rows that resources claim, by one query a look: every second, and at once when the store hints at
//! a change of one of them. Rows of others are not read: anybody may use the table. Compared in memory; only what means something is passed on. Renewals are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::instances::Instances;
use super::metrics::Metrics;
use crate::clock::Clock;
use crate::election::life::Quarantine;
use crate::election::{ComponentName, LeaseRow, Life, Moment};
use crate::membership::SeenInstance;
use crate::rate::budget::Budget;
use crate::rate::repeats::{Repeats, kind_of};
use crate::routing::observed::{RowSight, StoreSight};
use crate::routing::split_brain::Belief;
use crate::store::{Directory, Hint, Hints, Names, Outcome, Snapshot, StandingIntent, StoreError};

/// A look is given up after this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// A database that misses a look or two is not yet called unreachable.
const FAILURE_GRACE: Duration = Duration::from_secs(3);
/// Two looks are at least this far apart, however many hints come.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Hints may cost this many looks above one per second that find nothing: they come with every commit, or
/// from whoever may connect.
const BURST: u32 = 5;
/// With such a store a quiet second needs no look.
const SLOW_POLL: u32 = 5;

/// What is known of one row.
#[derive(Debug, Clone)]
struct Seen {
    row: LeaseRow,
    /// On our own boot clock, after the answer arrived.
    since: Moment,
    /// A look has shown it unchanged for a whole ttl.
    given_up: bool,
}

impl Seen {
    /// When it will be nobody's if it is not renewed before; `None` when it is so already.
    fn until(&self) -> Option<Moment> {
        (!self.given_up && !self.row.is_free()).then(|| self.since + self.row.judged_ttl())
    }
}

/// Looks that have failed in a row.
#[derive(Debug, Clone)]
struct Failure {
    /// The first of its kind: a text that changes from look to look is no news.
    error: StoreError,
    since: Moment,
    /// It was logged.
    said: bool,
    /// Everybody has been told.
    told: bool,
}

#[derive(Debug)]
struct State {
    /// What the last look that succeeded asked for.
    asked: Names,
    /// `None` until the first look succeeds.
    rows: Option<BTreeMap<String, Seen>>,
    intents: BTreeMap<String, StandingIntent>,
    quarantine: Quarantine,
    instances: Instances,
    /// Components whose holder is new and may have said where it runs: the next look asks for that.
    untold: BTreeSet<String>,
    /// That look failed: go by the names of holders.
    by_name: bool,
    last_look: Moment,
    /// When the last look that succeeded was sent.
    answered: Moment,
    failure: Option<Failure>,
    repeats: Repeats,
    since: Moment,
}

impl State {
    /// Whether anything is known of this component, be it that it has no row.
    fn has_looked_at(&self, component: &str) -> bool {
        self.rows.is_some() && self.asked.contains(component)
    }

    fn new(since: Moment, max_ttl: u32) -> Self {
        Self {
            asked: Names::none(),
            rows: None,
            intents: BTreeMap::new(),
            quarantine: Quarantine::new(max_ttl),
            instances: Instances::default(),
            untold: BTreeSet::new(),
            by_name: false,
            last_look: Moment::ZERO,
            answered: Moment::ZERO,
            failure: None,
            repeats: Repeats::default(),
            since,
        }
    }
}

/// What changed for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    Components(Vec<String>),
    Everything,
}

/// The controller's view of the database.
pub(super) struct Rows {
    store: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    /// Seconds; what the controller is configured with.
    max_ttl: u32,
    /// What the next look asks for.
    claimed: RwLock<Names>,
    /// Whether resources may claim something else by now.
    claims_changed: AtomicBool,
    state: RwLock<State>,
    look_now: Notify,
    looks: watch::Sender<Moment>,
}

impl Rows {
    pub(super) fn new(store: Arc<dyn Directory>, clock: Arc<dyn Clock>, max_ttl: u32) -> Self {
        let state = RwLock::new(State::new(clock.boot(), max_ttl));
        Self {
            store,
            clock,
            max_ttl,
            claimed: RwLock::default(),
            claims_changed: AtomicBool::new(true),
            state,
            look_now: Notify::new(),
            looks: watch::channel(Moment::ZERO).0,
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn Directory> {
        &self.store
    }

    fn claimed(&self) -> Names {
        self.claimed.read().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Whether a look has ended that was to show this component, one way or the other: before that there is nothing
    /// to go by.
    pub(super) fn looked(&self, component: &str) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.has_looked_at(component) || state.failure.is_some()
    }

    /// What a decision about this component may go by, and as of when. While the database answers
    /// that is the last look: a row that has not been looked at lately has not expired.
    pub(super) fn sight(&self, component: &str) -> (StoreSight, RowSight, Moment) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let known = state.has_looked_at(component);
        let row = match state.rows.as_ref().filter(|_| known) {
            None => RowSight::Never { since: state.since },
            Some(rows) => {
                let seen = rows.get(component);
                RowSight::Seen {
                    row: seen.map(|seen| seen.row.clone()),
                    since: seen.map_or(state.since, |seen| seen.since),
                }
            }
        };
        let now = self.clock.boot();
        match &state.failure {
            Some(failure) if !known || now >= failure.since + FAILURE_GRACE => {
                let store = match &failure.error {
                    StoreError::Retryable(text) => StoreSight::Unreachable(text.clone()),
                    error @ (StoreError::Misconfigured(_) | StoreError::Bug(_)) => {
                        StoreSight::Misconfigured(error.to_string())
                    }
                };
                (store, row, now)
            }
            _ => (StoreSight::Answers, row, state.answered),
        }
    }

    /// Who competes for the component and is alive.
    pub(super) fn instances(&self, component: &str) -> Vec<SeenInstance> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).instances.of(component)
    }

    /// What the component's holder last told of itself, also if it is not alive any more.
    pub(super) fn holder_told(&self, component: &str) -> Option<SeenInstance> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).instances.holder(component)
    }

    /// Whether the holder of the component has been asked where it runs. Nothing is decided before: it may be in
    /// another namespace, and have the name of a pod of this one. Changes are told when it has been.
    pub(super) fn knows_holder(&self, component: &str) -> bool {
        !self.state.read().unwrap_or_else(PoisonError::into_inner).untold.contains(component)
    }

    /// Who goes on saying that it leads the component although the row says otherwise.
    pub(super) fn disputed(&self, component: &str) -> Vec<Belief> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).instances.disputed(component)
    }

    /// Whether the database, as far as it is known, lacks this intent.
    pub(super) fn lacks_intent(&self, component: &ComponentName, intent: StandingIntent) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let known = state.has_looked_at(component.as_str()) && state.failure.is_none();
        known && state.intents.get(component.as_str()) != Some(&intent)
    }

    /// Which life of which database the last look that succeeded came from.
    pub(super) fn life(&self) -> Option<Life> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).quarantine.life().cloned()
    }

    /// The UUID of the database that answered last; `None` where it says none, or has not answered.
    pub(super) fn database(&self) -> Option<String> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.quarantine.life().and_then(Life::database).map(ToOwned::to_owned)
    }

    /// Seconds; `None` where the database says nothing about it.
    pub(super) fn longest_ttl(&self) -> Option<u32> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let quarantine = &state.quarantine;
        quarantine.life().and_then(Life::record).map(|_| quarantine.longest_ttl())
    }

    /// Forget what was seen: whoever has not been looking for a while gives every row one ttl.
    pub(super) fn start_afresh(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State::new(self.clock.boot(), self.max_ttl);
    }

    /// Waits for a look that was sent after now, for as long as a look may take.
    /// False when it did not succeed.
    pub(super) async fn look_again(&self) -> bool {
        let now = self.clock.boot();
        let mut looks = self.looks.subscribe();
        self.look_now.notify_one();
        matches!(tokio::time::timeout(LOOK_TIMEOUT, looks.wait_for(|fresh| *fresh > now)).await, Ok(Ok(_)))
    }

    /// What was just written need not be written again before the next look.
    pub(super) fn knows_intent(&self, component: &ComponentName, intent: StandingIntent) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.intents.insert(component.as_str().to_owned(), intent);
    }

    /// Boot clock when the last look ended, however it ended.
    pub(super) fn last_look(&self) -> Moment {
        self.state.read().unwrap_or_else(PoisonError::into_inner).last_look
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
        let mut repeats = Repeats::default();
        loop {
            if self.claims_changed.swap(false, Ordering::AcqRel) {
                *self.claimed.write().unwrap_or_else(PoisonError::into_inner) = claims();
            }
            let change = self.look(metrics).await;
            let recorded = self.record(&may_write, &mut repeats).await;
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
                _ if self.failing() => interval,
                _ => pause.min(self.until_next_expiry()),
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
    async fn record(
        &self,
        may_write: &impl Fn(Option<&str>) -> bool,
        repeats: &mut Repeats,
    ) -> Option<Outcome> {
        if self.is_settled() {
            return Some(Outcome::Lost);
        }
        if !may_write(self.database().as_deref()) {
            return None;
        }
        let (begin, settle) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let state = &mut *state;
            if state.failure.is_some() {
                return None;
            }
            let again = state.quarantine.length();
            (state.quarantine.new_epoch(), state.quarantine.to_settle(self.clock.boot(), again))
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
            && repeats.is_due(&kind_of(error), self.clock.boot())
        {
            warn!(store = self.store.describe(), error, "{what} could not be recorded; trying again");
        }
        outcome.ok()
    }

    /// There is nothing to record.
    fn is_settled(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.quarantine.life().is_none_or(Life::is_settled)
    }

    fn failing(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).failure.is_some()
    }

    /// A row that is about to expire is looked at when it does.
    fn until_next_expiry(&self) -> Duration {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let rows = state.rows.iter().flat_map(BTreeMap::values);
        let next = rows.filter_map(Seen::until).min();
        next.map_or(Duration::MAX, |until| until.saturating_sub(self.clock.boot()))
    }

    async fn look(&self, metrics: &Metrics) -> Option<Changed> {
        let asked = self.clock.boot();
        let with_instances = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state.instances.due(asked)
        };
        let names = self.claimed();
        let call = self.store.look_at(&names, with_instances);
        let answer = tokio::time::timeout(LOOK_TIMEOUT, call).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(StoreError::Retryable(format!(
                "{} did not answer within {LOOK_TIMEOUT:?}",
                self.store.describe()
            )))
        });
        metrics.looked(answer.as_ref().err());
        let changed = match answer {
            Ok(snapshot) => {
                let changed = self.saw(snapshot, names, asked, with_instances);
                self.looks.send_replace(asked);
                changed
            }
            Err(error) => {
                if with_instances {
                    let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                    state.instances.failed(asked);
                    state.by_name = true;
                }
                self.failed(error)
            }
        };
        self.state.write().unwrap_or_else(PoisonError::into_inner).last_look = self.clock.boot();
        changed
    }

    fn saw(&self, snapshot: Snapshot, names: Names, asked: Moment, with_instances: bool) -> Option<Changed> {
        let now = self.clock.boot();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let first = state.rows.is_none();
        let failure = state.failure.take();
        if first || failure.as_ref().is_some_and(|failure| failure.said) {
            info!(
                store = self.store.describe(),
                rows = snapshot.rows.len(),
                claimed = names.as_slice().len(),
                "the database answers"
            );
        }
        let mut components = Vec::new();
        if with_instances {
            state.instances.saw(asked, snapshot.instances, &snapshot.rows, &mut components);
        }
        let mut before = state.rows.take().unwrap_or_default();
        let mut rows = BTreeMap::new();
        for (component, row) in snapshot.rows {
            let seen = match before.remove(&component) {
                Some(mut seen) if seen.row == row => {
                    if seen.until().is_some_and(|until| asked >= until) {
                        seen.given_up = true;
                        components.push(component.clone());
                    }
                    seen
                }
                old => {
                    let new_holder = old.as_ref().is_none_or(|old| old.row.holder != row.holder);
                    if old.is_none_or(|old| means_something(&old, &row)) {
                        if new_holder && state.instances.lacks(&component, &row.holder) && !with_instances {
                            // Who that is may be known to the table only.
                            state.untold.insert(component.clone());
                            state.instances.want();
                            self.look_now.notify_one();
                        } else {
                            state.untold.remove(&component);
                            components.push(component.clone());
                        }
                    }
                    Seen { row, since: now, given_up: false }
                }
            };
            rows.insert(component, seen);
        }
        if with_instances || state.by_name {
            components.extend(std::mem::take(&mut state.untold));
            state.by_name = false;
        }
        components.extend(before.into_keys());
        components.extend(differing(&state.intents, &snapshot.intents));
        if state.asked != names {
            // Also who has no row waits for this answer.
            components.extend(names.as_slice().iter().filter(|name| !state.asked.contains(name)).cloned());
            state.asked = names;
        }
        state.rows = Some(rows);
        state.intents = snapshot.intents;
        // What resources say of their floors depends on it.
        let another_life = state.quarantine.answered(now, snapshot.life);
        state.answered = asked;
        if first || another_life || failure.is_some_and(|failure| failure.told) {
            return Some(Changed::Everything);
        }
        (!components.is_empty()).then_some(Changed::Components(components))
    }

    /// Everybody is told once: at once when nothing is known, else when the grace has passed,
    /// which is when decisions begin to differ.
    fn failed(&self, error: StoreError) -> Option<Changed> {
        let now = self.clock.boot();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let nothing_known = state.rows.is_none();
        let said = error.to_string();
        let kind = error.kind();
        let since = state.failure.as_ref().map_or(now, |failure| failure.since);
        let known = state.failure.take().filter(|failure| failure.error.kind() == kind);
        let due = state.repeats.is_due(&kind_of(&said), now);
        if due {
            warn!(
                store = self.store.describe(),
                error = said,
                "the database did not answer as hoped; labels stay as they are"
            );
        }
        let mut failure = known.unwrap_or(Failure { error, since, said: false, told: false });
        failure.said |= due;
        let tell = !failure.told && (nothing_known || now >= since + FAILURE_GRACE);
        failure.told |= tell;
        state.failure = Some(failure);
        tell.then_some(Changed::Everything)
    }
}

/// Beyond a mere renewal: another holder or term, or a sign of life from a row that was given up.
fn means_something(old: &Seen, row: &LeaseRow) -> bool {
    old.given_up || old.row.holder != row.holder || old.row.version != row.version || old.row.ttl != row.ttl
}

fn differing(
    before: &BTreeMap<String, StandingIntent>,
    after: &BTreeMap<String, StandingIntent>,
) -> Vec<String> {
    let all = before.keys().chain(after.keys());
    all.filter(|component| before.get(*component) != after.get(*component)).cloned().collect()
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
