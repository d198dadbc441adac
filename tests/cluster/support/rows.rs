//! The database of a test: rows that the test writes as participants would, and a store for the
//! controller that can be made to fail and counts what it is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use component_lease::clock::SystemClock;
use component_lease::election::machine::Looked;
use component_lease::election::{
    ComponentName, Expected, HolderId, LifeId, NewEpoch, Pace, Request, Take, TermKey,
};
use component_lease::membership::Instance;
use component_lease::membership::namespace::key_in;
use component_lease::store::{
    Asked, Directory, EndReason, Ending, Epochs, Hints, LeaseStore, MemoryStore, MemoryTables, Names,
    Outcome, Retention, Roster, Said, Snapshot, StandingIntent, StoreError, Term,
};

/// What the store does when it is asked.
#[derive(Debug, Clone, Default)]
pub enum Mood {
    #[default]
    Answers,
    Fails(StoreError),
    /// Only releases fail.
    KeepsRows(StoreError),
    Hangs,
}

/// Rows in memory. A component that is named without a slash is one of the site's namespace.
pub struct Rows {
    namespace: String,
    inner: Arc<dyn Directory>,
    memory: Option<Arc<MemoryStore>>,
    mood: Mutex<Mood>,
    asked: AtomicU64,
    /// Microseconds that looks at all rows have taken.
    looking: AtomicU64,
    terms: Mutex<BTreeMap<String, TermKey>>,
}

impl Rows {
    /// In memory.
    pub fn of(namespace: &str) -> Self {
        let memory = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        Self { memory: Some(Arc::clone(&memory)), ..Self::on(memory, namespace) }
    }

    /// On a real database.
    pub fn on(inner: Arc<dyn Directory>, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            inner,
            memory: None,
            mood: Mutex::default(),
            asked: AtomicU64::new(0),
            looking: AtomicU64::new(0),
            terms: Mutex::default(),
        }
    }

    /// The same database as others reach it: what this one does when it is asked is no matter there.
    pub fn beside(&self) -> Self {
        Self { memory: self.memory.clone(), ..Self::on(Arc::clone(&self.inner), &self.namespace) }
    }

    /// What operators ask of the component.
    pub async fn asked_of(&self, component: &str) -> Result<Asked> {
        let key = self.key(component)?;
        let mut seen = self.inner.look_at(&std::iter::once(key.clone()).collect(), false).await?;
        Ok(seen.asked.remove(key.as_str()).unwrap_or_default())
    }

    /// The key of a component.
    pub fn key(&self, component: &str) -> Result<ComponentName> {
        if component.contains('/') {
            return Ok(ComponentName::new(component)?);
        }
        Ok(key_in(&self.namespace, component)?)
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    pub fn unreachable(&self) {
        self.set_mood(Mood::Fails(StoreError::retryable("connection refused")));
    }

    fn memory(&self) -> &MemoryStore {
        self.memory.as_ref().expect("these rows are in memory")
    }

    pub fn backup(&self) -> MemoryTables {
        self.memory().copy()
    }

    /// Reads a backup into the running database, which cannot tell.
    pub fn reload(&self, backup: MemoryTables) {
        self.memory().reload(backup);
    }

    /// What nobody but an administrator by hand does.
    pub fn delete(&self, component: &ComponentName) {
        self.memory().delete_row(component);
    }

    /// The epoch that is recorded.
    pub async fn epoch(&self) -> Result<i64> {
        Ok(self.inner.look_at(&Names::none(), false).await?.life.id().epoch)
    }

    /// Whose the component is; empty when it is nobody's.
    pub async fn holder_of(&self, component: &str) -> Result<String> {
        let row = self.inner.look(&self.key(component)?).await?.row;
        Ok(row.map(|row| row.holder).unwrap_or_default())
    }

    /// How often all rows were asked for.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How long all looks at all rows have taken.
    pub fn looking(&self) -> Duration {
        Duration::from_micros(self.looking.load(Ordering::Relaxed))
    }

    /// The holder takes the component, whether or not another one has it; the version.
    pub async fn take(&self, component: &str, holder: &str, ttl: u32) -> Result<i64> {
        self.take_next(self.key(component)?, holder, ttl).await
    }

    /// [`Rows::take`] of a component whose key is this bare name.
    pub async fn take_bare(&self, component: &str, holder: &str, ttl: u32) -> Result<i64> {
        self.take_next(ComponentName::new(component)?, holder, ttl).await
    }

    async fn take_next(&self, component: ComponentName, holder: &str, ttl: u32) -> Result<i64> {
        let seen = self.inner.look(&component).await?;
        let version = seen.row.as_ref().map_or(0, |row| row.version) + 1;
        self.take_as(component, holder, ttl, version).await
    }

    /// With a version of one's own choice.
    pub async fn take_as(
        &self,
        component: ComponentName,
        holder: &str,
        ttl: u32,
        version: i64,
    ) -> Result<i64> {
        let seen = self.inner.look(&component).await?;
        let term = TermKey { component: component.clone(), holder: HolderId::new(holder)?, version };
        let take = Take {
            term: term.clone(),
            ttl,
            expected: Expected::of(seen.row.as_ref()),
            life_id: seen.life.id(),
        };
        ensure!(self.inner.take(&take).await? == Outcome::Applied, "{component} could not be taken");
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).insert(component.as_str().to_owned(), term);
        Ok(version)
    }

    fn term(&self, component: &str) -> TermKey {
        let terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.key(component).expect("the name of a component");
        terms.get(key.as_str()).cloned().expect("somebody has taken it before")
    }

    pub async fn renew(&self, component: &str) -> Result<()> {
        let outcome = self.inner.renew(&self.term(component)).await?;
        ensure!(outcome == Outcome::Applied, "{component} could not be renewed");
        Ok(())
    }

    pub async fn release(&self, component: &str) -> Result<()> {
        let outcome = self.inner.release(&self.term(component)).await?;
        ensure!(outcome == Outcome::Applied, "{component} could not be released");
        Ok(())
    }

    /// Writes down how the term of this version ended.
    pub async fn end(&self, component: &str, version: i64, ending: &Ending) -> Result<()> {
        let outcome = self.inner.end_term(&self.key(component)?, version, ending).await?;
        ensure!(outcome == Outcome::Applied, "the end of {component} was written before");
        Ok(())
    }

    /// The reason for which the term of this version ended.
    pub async fn end_reason(&self, component: &str, version: i64) -> Result<Option<EndReason>> {
        let terms = self.inner.history(&self.key(component)?, Some(version + 1), 1).await?;
        Ok(terms.into_iter().next().and_then(|term| term.end).map(|end| end.reason))
    }

    /// The holder that the participants leave a free lease to.
    pub async fn preferred(&self, component: &str) -> Result<Option<String>> {
        let looked = self.inner.look(&self.key(component)?).await?;
        Ok(looked.preferred.map(|holder| holder.as_str().to_owned()))
    }

    /// What the participants find.
    pub async fn intended_ttl(&self, component: &str) -> Result<Option<u32>> {
        Ok(self.inner.look(&self.key(component)?).await?.standing_ttl)
    }

    fn epochs_within(&self) -> &dyn Epochs {
        self.inner.epochs().expect("the stores of these tests tell lives apart")
    }

    async fn mood(&self) -> Result<(), StoreError> {
        let mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match mood {
            Mood::Answers | Mood::KeepsRows(_) => Ok(()),
            Mood::Fails(error) => Err(error),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl LeaseStore for Rows {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn epochs(&self) -> Option<&dyn Epochs> {
        Some(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn roster(&self) -> Option<&dyn Roster> {
        None
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.mood().await?;
        self.inner.look(component).await
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.take(take).await
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.renew(term).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.mood().await?;
        if let Mood::KeepsRows(why) = &*self.mood.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(why.clone());
        }
        self.inner.release(term).await
    }

    fn hints(&self) -> Hints {
        self.inner.hints()
    }

    async fn notify(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.mood().await?;
        self.inner.notify(component).await
    }

    fn limit_lock_wait(&self, limit: Duration) {
        self.inner.limit_lock_wait(limit);
    }

    fn pace(&self) -> Option<Pace> {
        None
    }
}

#[async_trait]
impl Epochs for Rows {
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.epochs_within().begin_epoch(new).await
    }

    async fn settle(&self, waited_out: &LifeId) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.epochs_within().settle(waited_out).await
    }

    async fn release_late(&self, term: &TermKey, within: &LifeId) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.epochs_within().release_late(term, within).await
    }
}

#[async_trait]
impl Directory for Rows {
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.mood().await?;
        let began = Instant::now();
        let seen = self.inner.look_at(names, instances).await;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.looking.fetch_add(took, Ordering::Relaxed);
        seen
    }

    async fn beat(&self, instance: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        self.mood().await?;
        self.inner.beat(instance, id).await
    }

    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.mood().await?;
        self.inner.prune_instances(older_than).await
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        self.mood().await?;
        self.inner.set_intent(component, intent).await
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.mood().await?;
        self.inner.clear_intent(component).await
    }

    async fn pause(
        &self,
        component: &ComponentName,
        said: &Said,
        over: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.pause(component, said, over).await
    }

    async fn resume(&self, component: &ComponentName, of: Option<&str>) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.resume(component, of).await
    }

    async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.ask(component, request, said, replaces).await
    }

    async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.withdraw(component, id).await
    }

    async fn components(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.mood().await?;
        self.inner.components(after, limit).await
    }

    async fn history(
        &self,
        component: &ComponentName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Term>, StoreError> {
        self.mood().await?;
        self.inner.history(component, before, limit).await
    }

    async fn end_term(
        &self,
        component: &ComponentName,
        version: i64,
        ending: &Ending,
    ) -> Result<Outcome, StoreError> {
        self.mood().await?;
        self.inner.end_term(component, version, ending).await
    }

    async fn prune_history(&self, component: &ComponentName, kept: Retention) -> Result<u64, StoreError> {
        self.mood().await?;
        self.inner.prune_history(component, kept).await
    }
}
