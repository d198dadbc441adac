//! What the behaviours are written with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::SOON;
use crate::election::machine::Looked;
use crate::election::{
    ComponentName, Expected, HolderId, LeaseRow, LifeId, LifeRecord, NewEpoch, Pace, Take, TermKey,
};
use crate::membership::{Instance, Mode, Promise, SeenInstance, Whereabouts};
use crate::store::{Directory, Epochs, Hints, LeaseStore, Outcome, Roster, Snapshot, StoreError};

pub(super) fn component(name: &str) -> ComponentName {
    ComponentName::new(name).unwrap()
}

pub(super) fn term(name: &str, holder: &str, version: i64) -> TermKey {
    TermKey { component: component(name), holder: HolderId::new(holder).unwrap(), version }
}

/// Of a store that says that it has them.
pub(super) fn epochs(store: &dyn LeaseStore) -> &dyn Epochs {
    store.epochs().unwrap()
}

/// Of a store that says that it has one.
pub(super) fn directory(store: &dyn LeaseStore) -> &dyn Directory {
    store.directory().unwrap()
}

/// A take of this term by somebody who saw this row; for [`taking`].
pub(super) fn take(term: &TermKey, seen: Option<&LeaseRow>) -> Take {
    Take { term: term.clone(), ttl: 7, expected: Expected::of(seen), life_id: LifeId::default() }
}

/// The call, in the life of the database that this very moment is.
pub(super) async fn taking(store: &dyn LeaseStore, take: &Take) -> Result<Outcome, StoreError> {
    let life_id = store.look(&take.term.component).await?.life.id();
    store.take(&Take { life_id, ..take.clone() }).await
}

/// The first term of a component, taken on a missing row.
pub(super) async fn held(store: &dyn LeaseStore, name: &str, holder: &str) -> TermKey {
    let term = term(name, holder, 1);
    assert_eq!(taking(store, &take(&term, None)).await.unwrap(), Outcome::Applied);
    term
}

/// On what the store says now, but with a sight of no row.
pub(super) async fn insertion(store: &dyn LeaseStore, holder: &str, version: i64, highest: i64) -> Take {
    let life_id = life_id(store).await;
    Take { life_id, expected: Expected::Missing { highest }, ..take(&term("c", holder, version), None) }
}

pub(super) async fn row(store: &dyn LeaseStore, name: &str) -> Option<LeaseRow> {
    store.look(&component(name)).await.unwrap().row
}

pub(super) async fn record(store: &dyn LeaseStore) -> LifeRecord {
    store.look(&component("c")).await.unwrap().life.record().unwrap().clone()
}

pub(super) async fn life_id(store: &dyn LeaseStore) -> LifeId {
    store.look(&component("c")).await.unwrap().life.id()
}

/// Begins an epoch because somebody says so; which one.
pub(super) async fn begin_epoch(store: &dyn LeaseStore) -> i64 {
    let new = NewEpoch { seen: Some(record(store).await), at_least: 0, max_ttl: 30, deliberate: true };
    assert_eq!(epochs(store).begin_epoch(&new).await.unwrap(), Outcome::Applied);
    record(store).await.epoch
}

/// One look at these components, without instances.
pub(super) async fn look_at(store: &dyn LeaseStore, names: &[&str]) -> Snapshot {
    directory(store).look_at(&names.iter().map(|name| component(name)).collect(), false).await.unwrap()
}

/// One look at these components and their instances.
pub(super) async fn alive_at(store: &dyn LeaseStore, names: &[&str]) -> Snapshot {
    directory(store).look_at(&names.iter().map(|name| component(name)).collect(), true).await.unwrap()
}

pub(super) async fn alive(store: &dyn LeaseStore) -> Vec<SeenInstance> {
    let mut all = alive_at(store, &["c", "other"]).await.instances.unwrap();
    all.sort_by_key(|seen| seen.id);
    all
}

pub(super) fn instance(name: &str, holder: &str) -> Instance {
    let given = |text: &str| Some(text.to_owned());
    Instance {
        component: component(name),
        holder: HolderId::new(holder).unwrap(),
        lasts: 60,
        whereabouts: Whereabouts {
            namespace: given("shop"),
            pod: given("d-0"),
            pod_uid: given("8b7e12c0-1111-4222-8333-444455556666"),
            container: given("main"),
            node: given("node-\u{fc}"),
            address: given("10.0.0.7"),
        },
        program_version: given("1.2.3"),
        mode: Some(Mode::Beside),
        promise: Some(Promise { longest: Duration::from_millis(6_001), outside: true }),
        priority: Some(7),
        healthy: true,
        leads: None,
    }
}

/// Waits until it is so, and fails where that takes too long.
pub(super) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(SOON, wait).await.is_ok(), "waited {SOON:?} for {what}");
}

/// A store of which some calls fail with an error of its own, before they reach it.
pub(super) struct Faulty {
    inner: Arc<dyn LeaseStore>,
    error: StoreError,
    failures: Mutex<BTreeMap<&'static str, usize>>,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn LeaseStore>, error: StoreError) -> Self {
        Self { inner, error, failures: Mutex::default() }
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many of the next calls.
    pub(super) fn fails(&self, calls: &[(&'static str, usize)]) {
        self.failures().extend(calls.iter().copied());
    }

    /// How many failures nobody has met.
    pub(super) fn still_fails(&self) -> usize {
        self.failures().values().sum()
    }

    fn pass(&self, call: &str) -> Result<(), StoreError> {
        match self.failures().get_mut(call) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(self.error.clone())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl LeaseStore for Faulty {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn epochs(&self) -> Option<&dyn Epochs> {
        self.inner.epochs()
    }

    fn directory(&self) -> Option<&dyn Directory> {
        self.inner.directory()
    }

    fn roster(&self) -> Option<&dyn Roster> {
        self.inner.roster()
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.pass("look")?;
        self.inner.look(component).await
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        self.pass("take")?;
        self.inner.take(take).await
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.pass("renew")?;
        self.inner.renew(term).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.pass("release")?;
        self.inner.release(term).await
    }

    fn hints(&self) -> Hints {
        self.inner.hints()
    }

    async fn notify(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.inner.notify(component).await
    }

    fn limit_lock_wait(&self, limit: Duration) {
        self.inner.limit_lock_wait(limit);
    }

    fn pace(&self) -> Option<Pace> {
        self.inner.pace()
    }
}
