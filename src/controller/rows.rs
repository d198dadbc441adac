//! All rows of the database, by one query a look: every second, and at once when the store hints at
//! a change. Compared in memory; only what means something is passed on. Renewals are not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::metrics::Metrics;
use crate::clock::Clock;
use crate::domain::observed::{RowSight, StoreSight};
use crate::domain::{ComponentName, LeaseRow, Moment};
use crate::store::{Snapshot, StandingIntent, Store, StoreError};

/// A look is given up after this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// A database that misses a look or two is not yet called unreachable.
const FAILURE_GRACE: Duration = Duration::from_secs(3);
/// Two looks are at least this far apart, however many hints come.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Hints of a store that hints at every commit may cost this many looks above one per second.
const BURST: f64 = 5.0;
/// With such a store a quiet second needs no look.
const SLOW_POLL: u32 = 5;

/// What is known of one row.
#[derive(Debug, Clone)]
struct Seen {
    row: LeaseRow,
    /// On our own boot clock, after the answer arrived.
    since: Moment,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until the first look succeeds.
    rows: Option<BTreeMap<String, Seen>>,
    intents: BTreeMap<String, StandingIntent>,
    last_look: Moment,
    failure: Option<(StoreError, Moment)>,
    since: Moment,
}

/// What changed for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    Components(Vec<String>),
    Everything,
}

/// The controller's view of the database.
pub(super) struct Rows {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    look_now: Notify,
    looks: watch::Sender<Moment>,
}

impl Rows {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let state = RwLock::new(State { since: clock.boot(), ..State::default() });
        Self { store, clock, state, look_now: Notify::new(), looks: watch::channel(Moment::ZERO).0 }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What a decision about this component may go by.
    pub(super) fn sight(&self, component: &str) -> (StoreSight, RowSight) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let row = match &state.rows {
            None => RowSight::Never { since: state.since },
            Some(rows) => {
                let seen = rows.get(component);
                RowSight::Seen {
                    row: seen.map(|seen| seen.row.clone()),
                    since: seen.map_or(state.since, |seen| seen.since),
                }
            }
        };
        let store = match &state.failure {
            Some((error, since)) if state.rows.is_none() || self.clock.boot() >= *since + FAILURE_GRACE => {
                match error {
                    StoreError::Retryable(text) => StoreSight::Unreachable(text.clone()),
                    StoreError::Misconfigured(_) | StoreError::Bug(_) => {
                        StoreSight::Misconfigured(error.to_string())
                    }
                }
            }
            _ => StoreSight::Answers,
        };
        (store, row)
    }

    /// Whether the database, as far as it is known, lacks this intent.
    pub(super) fn lacks_intent(&self, component: &ComponentName, intent: StandingIntent) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let known = state.rows.is_some() && state.failure.is_none();
        known && state.intents.get(component.as_str()) != Some(&intent)
    }

    /// Forget what was seen: whoever has not been looking for a while gives every row one ttl.
    pub(super) fn start_afresh(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { since: self.clock.boot(), ..State::default() };
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

    /// Looks until dropped. `interval` is the pause after each look.
    pub(super) async fn poll(&self, interval: Duration, metrics: &Metrics, changed: impl Fn(Changed)) {
        let mut hints = self.store.hints();
        let every_commit = hints.tells_every_commit();
        let pause = if every_commit { interval * SLOW_POLL } else { interval };
        let mut budget = Budget { left: BURST, at: self.clock.boot(), interval };
        loop {
            if let Some(change) = self.look(metrics).await {
                changed(change);
            }
            tokio::time::sleep(LEAST_PAUSE).await;
            // A failing database is asked as often as ever, so that its return is noticed.
            let pause = if self.failing() { interval } else { pause };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.look_now.notified() => {}
                _ = hints.next() => {
                    if every_commit {
                        tokio::time::sleep(budget.wait(self.clock.boot())).await;
                    }
                }
            }
            hints.drain();
            budget.spend(self.clock.boot());
        }
    }

    fn failing(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).failure.is_some()
    }

    async fn look(&self, metrics: &Metrics) -> Option<Changed> {
        let asked = self.clock.boot();
        let answer = tokio::time::timeout(LOOK_TIMEOUT, self.store.look_all()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(StoreError::Retryable(format!(
                "{} did not answer within {LOOK_TIMEOUT:?}",
                self.store.describe()
            )))
        });
        metrics.looked(answer.as_ref().err());
        let changed = match answer {
            Ok(snapshot) => {
                let changed = self.saw(snapshot);
                self.looks.send_replace(asked);
                changed
            }
            Err(error) => self.failed(error),
        };
        self.state.write().unwrap_or_else(PoisonError::into_inner).last_look = self.clock.boot();
        changed
    }

    fn saw(&self, snapshot: Snapshot) -> Option<Changed> {
        let now = self.clock.boot();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let first = state.rows.is_none();
        let healed = state.failure.take().is_some();
        if first || healed {
            info!(store = self.store.describe(), rows = snapshot.rows.len(), "the database answers");
        }
        let mut before = state.rows.take().unwrap_or_default();
        let mut components = Vec::new();
        let mut rows = BTreeMap::new();
        for (component, row) in snapshot.rows {
            let seen = match before.remove(&component) {
                Some(seen) if seen.row == row => seen,
                old => {
                    if old.is_none_or(|old| means_something(&old, &row, now)) {
                        components.push(component.clone());
                    }
                    Seen { row, since: now }
                }
            };
            rows.insert(component, seen);
        }
        components.extend(before.into_keys());
        components.extend(differing(&state.intents, &snapshot.intents));
        state.rows = Some(rows);
        state.intents = snapshot.intents;
        if first || healed {
            return Some(Changed::Everything);
        }
        (!components.is_empty()).then_some(Changed::Components(components))
    }

    fn failed(&self, error: StoreError) -> Option<Changed> {
        let now = self.clock.boot();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let text = error.to_string();
        let (since, said) = match &state.failure {
            Some((old, since)) => (*since, old.to_string() == text),
            None => (now, false),
        };
        if !said {
            warn!(
                store = self.store.describe(),
                error = text,
                "the database did not answer as hoped; labels stay as they are"
            );
        }
        let first_of_all = state.rows.is_none() && state.failure.is_none();
        // Told once more when the grace has passed, which is when decisions begin to differ.
        let grace_over = now >= since + FAILURE_GRACE && now < since + FAILURE_GRACE + LOOK_TIMEOUT * 2;
        state.failure = Some((error, since));
        (first_of_all || grace_over || !said).then_some(Changed::Everything)
    }
}

/// Beyond a mere renewal: another holder or term, or a sign of life from a row that was given up.
fn means_something(old: &Seen, row: &LeaseRow, now: Moment) -> bool {
    old.row.holder != row.holder
        || old.row.version != row.version
        || old.row.ttl != row.ttl
        || now >= old.since + old.row.judged_ttl()
}

fn differing(
    before: &BTreeMap<String, StandingIntent>,
    after: &BTreeMap<String, StandingIntent>,
) -> Vec<String> {
    let all = before.keys().chain(after.keys());
    all.filter(|component| before.get(*component) != after.get(*component)).cloned().collect()
}

/// One look per interval on average, with a burst.
struct Budget {
    left: f64,
    at: Moment,
    interval: Duration,
}

impl Budget {
    fn refill(&mut self, now: Moment) {
        let earned = now.saturating_sub(self.at).as_secs_f64() / self.interval.as_secs_f64();
        self.left = (self.left + earned).min(BURST);
        self.at = now;
    }

    fn wait(&mut self, now: Moment) -> Duration {
        self.refill(now);
        self.interval.mul_f64((1.0 - self.left).max(0.0))
    }

    fn spend(&mut self, now: Moment) {
        self.refill(now);
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_never_end_cost_one_look_per_interval() {
        let mut budget = Budget { left: BURST, at: Moment::ZERO, interval: Duration::from_secs(1) };
        let mut now = Moment::ZERO;
        let mut looks = 0;
        while now < Duration::from_secs(60) {
            now += budget.wait(now) + Duration::from_millis(100);
            budget.spend(now);
            looks += 1;
        }
        assert!((60..=66).contains(&looks), "{looks}");
    }

    #[test]
    fn a_renewal_means_nothing_unless_the_row_was_given_up() {
        let row = LeaseRow { holder: "a".into(), lease_time: 1, renew_time: 1, version: 1, ttl: 5 };
        let old = Seen { row: row.clone(), since: Duration::from_secs(10) };
        let renewed = LeaseRow { renew_time: 2, ..row.clone() };
        assert!(!means_something(&old, &renewed, Duration::from_secs(14)));
        assert!(means_something(&old, &renewed, Duration::from_secs(15)));
        assert!(means_something(&old, &LeaseRow { version: 2, ..row }, Duration::from_secs(11)));
    }
}
