//! The specification: the rules of [`model`] on a map. For tests, and for a reading of what the
//! databases must do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{Hint, Hints, Outcome, Snapshot, StandingIntent, Store, StoreError};
use crate::clock::Clock;
use crate::domain::election::Looked;
use crate::domain::{ComponentName, Generation, LeaseRow, Take, TermKey, model};

/// A store within this process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    rows: Mutex<BTreeMap<String, LeaseRow>>,
    intents: Mutex<BTreeMap<String, StandingIntent>>,
    changed: broadcast::Sender<String>,
}

impl MemoryStore {
    /// The database clock of this store is the given clock's wall clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, rows: Mutex::default(), intents: Mutex::default(), changed: broadcast::channel(64).0 }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, LeaseRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn intents(&self) -> MutexGuard<'_, BTreeMap<String, StandingIntent>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(
        &self,
        component: &ComponentName,
        rule: impl FnOnce(Option<&LeaseRow>, i64) -> Option<LeaseRow>,
    ) -> Outcome {
        let mut rows = self.rows();
        let before = rows.get(component.as_str());
        let Some(after) = rule(before, self.clock.wall_ms()) else { return Outcome::Lost };
        let new_holder = before.is_none_or(|before| before.holder != after.holder);
        rows.insert(component.as_str().to_owned(), after);
        if new_holder {
            // Nobody listening is fine.
            let _ = self.changed.send(component.as_str().to_owned());
        }
        Outcome::Applied
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("rows", &self.rows).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        Ok(Looked {
            row: self.rows().get(component.as_str()).cloned(),
            database_now: self.clock.wall_ms(),
            standing_ttl: self.intents().get(component.as_str()).map(|intent| intent.ttl),
            generation: Generation::default(),
        })
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        if take.generation != Generation::default() {
            return Ok(Outcome::Lost);
        }
        Ok(self.apply(&take.term.component, |row, now| model::take(row, take, now)))
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        Ok(self.apply(&term.component, |row, now| model::renew(row, term, now)))
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        Ok(self.apply(&term.component, |row, _| model::release(row, term)))
    }

    async fn look_all(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot {
            rows: self.rows().clone(),
            intents: self.intents().clone(),
            database_now: self.clock.wall_ms(),
        })
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        self.intents().insert(component.as_str().to_owned(), intent);
        Ok(())
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.intents().remove(component.as_str());
        Ok(())
    }

    fn hints(&self) -> Hints {
        let mut changed = self.changed.subscribe();
        Hints::fed_by(|hints| async move {
            loop {
                let hint = match changed.recv().await {
                    Ok(component) => Hint::Component(component),
                    Err(broadcast::error::RecvError::Lagged(_)) => Hint::Any,
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if !hints.send(hint) {
                    return;
                }
            }
        })
    }

    fn limit_lock_wait(&self, _: Duration) {}
}
