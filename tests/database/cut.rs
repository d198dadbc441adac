//! A store from which a member can be cut off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use component_lease::ComponentName;
use component_lease::election::machine::Looked;
use component_lease::election::{LifeId, NewEpoch, Pace, Take, TermKey};
use component_lease::store::{
    Directory, Epochs, Hints, LeaseStore, MemoryStore, Outcome, Roster, Rostered, StoreError,
};

/// As one member reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    inner: Arc<MemoryStore>,
    away: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

impl Cut {
    pub(crate) fn new(inner: Arc<MemoryStore>) -> Self {
        Self { inner, away: Arc::default(), hangs: Arc::default() }
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Answers nothing, not even that it is away.
    pub(crate) fn set_hanging(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    async fn there(&self) -> Result<&MemoryStore, StoreError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::retryable("no connection"));
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl LeaseStore for Cut {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn epochs(&self) -> Option<&dyn Epochs> {
        Some(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.there().await?.look(component).await
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        self.there().await?.take(take).await
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.there().await?.renew(term).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.there().await?.release(term).await
    }

    fn hints(&self) -> Hints {
        self.inner.hints()
    }

    async fn notify(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.there().await?.notify(component).await
    }

    fn limit_lock_wait(&self, _: Duration) {}

    fn pace(&self) -> Option<Pace> {
        None
    }
}

#[async_trait]
impl Epochs for Cut {
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        self.there().await?.begin_epoch(new).await
    }

    async fn settle(&self, waited_out: &LifeId) -> Result<Outcome, StoreError> {
        self.there().await?.settle(waited_out).await
    }

    async fn release_late(&self, term: &TermKey, within: &LifeId) -> Result<Outcome, StoreError> {
        self.there().await?.release_late(term, within).await
    }
}

#[async_trait]
impl Roster for Cut {
    async fn read_roster(
        &self,
        component: &ComponentName,
        members: &BTreeSet<String>,
    ) -> Result<Rostered, StoreError> {
        self.there().await?.read_roster(component, members).await
    }

    async fn record(&self, term: &TermKey, record: &str) -> Result<Outcome, StoreError> {
        self.there().await?.record(term, record).await
    }

    fn begin_above(&self, component: &ComponentName, version: i64) {
        self.inner.begin_above(component, version);
    }

    async fn report(&self, component: &ComponentName, member: &str, says: &str) -> Result<(), StoreError> {
        self.there().await?.report(component, member, says).await
    }
}
