//! Deletes from the database what nobody needs any more: participants have no right to. Once an hour, in small
//! statements, so that nobody waits for a lock.

use std::time::Duration;

use tracing::{info, warn};

use super::database::Database;
use crate::election::{ComponentName, Moment};
use crate::store::{PRUNED_AT_ONCE, Retention, StoreError};

/// Start-up records are kept for so long after the last sign of life.
const INSTANCES_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const EVERY: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(5);
/// What takes longer goes on in an hour.
const LIMIT: Duration = Duration::from_secs(60);
/// So many statements for one component at a time: a table that was never pruned is not done at once.
const STATEMENTS_EACH: u32 = 20;

/// When what was last deleted, and what is kept.
#[derive(Debug)]
pub(super) struct Pruning {
    kept: Retention,
    instances: Option<Moment>,
    histories: Option<Moment>,
    /// Where the last turn over the histories stopped before its end.
    next: Option<ComponentName>,
}

impl Pruning {
    pub(super) fn new(kept: Retention) -> Self {
        Self { kept, instances: None, histories: None, next: None }
    }

    /// Whatever is due.
    pub(super) async fn turn(&mut self, database: &Database) {
        let now = database.clock.boot();
        let due = |last: Option<Moment>| last.is_none_or(|last| now >= last + EVERY);
        if due(self.instances) {
            self.instances = Some(now);
            instances(database).await;
        }
        // Before the first look nobody knows what resources claim.
        let claimed = database.claimed();
        if due(self.histories) && !claimed.as_slice().is_empty() {
            self.histories = Some(now);
            let claimed = claimed.as_slice().iter().filter_map(|name| ComponentName::new(name.clone()).ok());
            // They are in order.
            let from = self.next.take();
            let left = claimed.skip_while(|name| from.as_ref().is_some_and(|from| name < from));
            self.next = histories(database, left, self.kept).await;
        }
    }
}

async fn instances(database: &Database) {
    match tokio::time::timeout(TIMEOUT, database.store().prune_instances(INSTANCES_KEPT)).await {
        Ok(Ok(0)) => {}
        Ok(Ok(rows)) => info!(rows, "deleted old rows of component_instance"),
        Ok(Err(error)) => {
            warn!(%error, "could not delete old rows of component_instance; retrying in an hour");
        }
        Err(_) => {
            warn!("deleting old rows of component_instance took too long; retrying in an hour");
        }
    }
}

/// Of the components that resources claim: others are somebody else's, like their rows. The one to go on with in an hour, if
/// not all were looked at.
async fn histories(
    database: &Database,
    claimed: impl Iterator<Item = ComponentName>,
    kept: Retention,
) -> Option<ComponentName> {
    let until = database.clock.boot() + LIMIT;
    let (mut rows, mut stopped) = (0, None);
    for component in claimed {
        if database.clock.boot() > until {
            stopped = Some(component);
            break;
        }
        match history(database, &component, kept).await {
            Ok(deleted) => rows += deleted,
            Err(error) => {
                warn!(%component, %error, "could not delete old lines of component_lease_history; retrying in an hour");
                stopped = Some(component);
                break;
            }
        }
    }
    if rows > 0 {
        info!(rows, "deleted old lines of component_lease_history");
    }
    stopped
}

async fn history(database: &Database, component: &ComponentName, kept: Retention) -> Result<u64, StoreError> {
    let mut rows = 0;
    for _ in 0..STATEMENTS_EACH {
        let call = database.store().prune_history(component, kept);
        let deleted = tokio::time::timeout(TIMEOUT, call).await;
        let deleted = deleted
            .unwrap_or_else(|_| Err(StoreError::retryable(format!("no answer within {TIMEOUT:?}"))))?;
        rows += deleted;
        if deleted < u64::from(PRUNED_AT_ONCE) {
            break;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::election::{Expected, HolderId, Take, TermKey};
    use crate::store::{Directory, LeaseStore, MemoryStore, Outcome};

    fn component() -> ComponentName {
        ComponentName::new("shop/c").unwrap()
    }

    async fn led(store: &MemoryStore, terms: i64) {
        for version in 1..=terms {
            let looked = store.look(&component()).await.unwrap();
            let term = TermKey { component: component(), holder: HolderId::new("a").unwrap(), version };
            let (expected, life_id) = (Expected::of(looked.row.as_ref()), looked.life.id());
            let take = Take { term, ttl: 5, expected, life_id };
            assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn histories_are_cut_once_an_hour_to_what_is_kept_of_what_is_claimed() {
        let (store, clock) = (Arc::new(MemoryStore::new(Arc::new(SystemClock))), Arc::new(SystemClock));
        let database = Database::new(store.clone(), clock, 30);
        let mut pruning = Pruning::new(Retention { newest: 3, age: Duration::from_secs(3600) });
        led(&store, 2_010).await;
        let lines = async || store.history(&component(), None, 5_000).await.unwrap().len();
        pruning.turn(&database).await;
        assert_eq!(lines().await, 2_010, "nobody claims it yet");
        database.claim([component()]);
        pruning.turn(&database).await;
        assert_eq!(lines().await, 3, "in several statements");
        assert_eq!(store.history(&component(), None, 1).await.unwrap()[0].version, 2_010);
        led_more(&store).await;
        pruning.turn(&database).await;
        assert_eq!(lines().await, 4, "not before an hour has passed");
    }

    async fn led_more(store: &MemoryStore) {
        let looked = store.look(&component()).await.unwrap();
        let term = TermKey { component: component(), holder: HolderId::new("b").unwrap(), version: 2_011 };
        let (expected, life_id) = (Expected::of(looked.row.as_ref()), looked.life.id());
        store.take(&Take { term, ttl: 5, expected, life_id }).await.unwrap();
    }
}
