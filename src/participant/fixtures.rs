//! A participant on the memory store, in paused time: tokio's clock and the boot clock move together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::builder::ParticipantBuilder;
use super::handle::Participant;
use crate::clock::Clock;
use crate::election::machine::Looked;
use crate::election::{ComponentName, LeaseRow, Pace, Request, Take, TermKey};
use crate::membership::Instance;
use crate::store::{
    Directory, Ending, Epochs, Hints, LeaseStore, MemoryStore, Names, Outcome, Retention, Roster, Said,
    Snapshot, StandingIntent, StoreError, Term,
};

/// A boot clock that follows tokio's (paused) time, plus what a test adds for a suspend.
#[derive(Debug)]
pub(super) struct TestClock {
    start: tokio::time::Instant,
    jump: Mutex<Duration>,
}

impl TestClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { start: tokio::time::Instant::now(), jump: Mutex::default() })
    }

    pub(super) fn suspend(&self, length: Duration) {
        *self.jump.lock().unwrap() += length;
    }
}

impl Clock for TestClock {
    fn boot(&self) -> Duration {
        Duration::from_secs(1000) + self.start.elapsed() + *self.jump.lock().unwrap()
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.boot().as_millis()).unwrap()
    }
}

pub(super) struct Rig {
    pub(super) clock: Arc<TestClock>,
    pub(super) store: Arc<MemoryStore>,
    /// Calls of a store that is far away, which were dropped before their end.
    pub(super) given_up: Arc<AtomicU64>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let clock = TestClock::new();
        Self { store: Arc::new(MemoryStore::new(clock.clone())), clock, given_up: Arc::default() }
    }

    pub(super) fn component() -> ComponentName {
        ComponentName::new("c").unwrap()
    }

    pub(super) fn builder(&self, name: &str) -> ParticipantBuilder {
        Participant::builder(self.store.clone(), Self::component())
            .name(name)
            .ttl(Duration::from_secs(10))
            .clock(self.clock.clone())
            .on_overrun(|_| {})
    }

    pub(super) fn start(&self, name: &str) -> Participant {
        self.builder(name).start().unwrap()
    }

    pub(super) async fn row(&self) -> LeaseRow {
        self.store.look(&Self::component()).await.unwrap().row.unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Flaw {
    SignsAreRefused,
    SignsHang,
    FarewellsAreLost,
    /// An account without the right to change the history.
    EndsAreRefused,
    EndsHang,
    /// As a pooler between us and `LISTEN`: it looks as if notifications came.
    HintsAreSwallowed,
    LooksTakeTheirTime,
    /// A round trip takes 300 ms, and what is asked for the first time takes two.
    IsFarAway,
    /// Each is applied.
    ReleasesAreNotAnswered,
}

/// What is not waited for to its end is counted.
struct Awaited<'a>(&'a AtomicU64, bool);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Does everything but one thing.
#[derive(Debug)]
struct Flawed(Arc<MemoryStore>, Flaw, Arc<AtomicU64>);

impl Flawed {
    /// The way there and back, twice, if it is far.
    async fn travel(&self) {
        if self.1 == Flaw::IsFarAway {
            let mut awaited = Awaited(&self.2, false);
            tokio::time::sleep(Duration::from_millis(600)).await;
            awaited.1 = true;
        }
    }
}

#[async_trait::async_trait]
impl LeaseStore for Flawed {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn epochs(&self) -> Option<&dyn Epochs> {
        (self.1 == Flaw::ReleasesAreNotAnswered).then_some(&*self.0 as &dyn Epochs)
    }
    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn roster(&self) -> Option<&dyn Roster> {
        None
    }
    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        if self.1 == Flaw::LooksTakeTheirTime {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.0.look(component).await
    }
    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        self.0.take(take).await
    }
    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.0.renew(term).await
    }
    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let released = self.0.release(term).await;
        if self.1 == Flaw::ReleasesAreNotAnswered { Err(StoreError::retryable("lost")) } else { released }
    }
    fn hints(&self) -> Hints {
        if self.1 != Flaw::HintsAreSwallowed {
            return self.0.hints();
        }
        Hints::fed_by(|hints| async move {
            hints.set_flowing(true);
            hints.closed().await;
        })
    }
    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        self.travel().await;
        Ok(())
    }
    fn limit_lock_wait(&self, _: Duration) {}
    fn pace(&self) -> Option<Pace> {
        let ms = Duration::from_millis;
        (self.1 == Flaw::IsFarAway).then(|| Pace { connect: ms(3600), round_trip: ms(300) })
    }
}

#[async_trait::async_trait]
impl Directory for Flawed {
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        self.0.look_at(names, instances).await
    }
    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        match self.1 {
            Flaw::SignsAreRefused => Err(StoreError::misconfigured("permission denied")),
            Flaw::SignsHang => std::future::pending().await,
            Flaw::FarewellsAreLost if says.lasts == 0 => Err(StoreError::retryable("lost")),
            _ => {
                self.travel().await;
                self.0.beat(says, id).await
            }
        }
    }
    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.0.prune_instances(older_than).await
    }
    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        self.0.set_intent(component, intent).await
    }
    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.0.clear_intent(component).await
    }
    async fn pause(
        &self,
        component: &ComponentName,
        said: &Said,
        over: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.0.pause(component, said, over).await
    }
    async fn resume(&self, component: &ComponentName, of: Option<&str>) -> Result<Outcome, StoreError> {
        self.0.resume(component, of).await
    }
    async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.0.ask(component, request, said, replaces).await
    }
    async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError> {
        self.0.withdraw(component, id).await
    }
    async fn components(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.0.components(after, limit).await
    }
    async fn history(
        &self,
        component: &ComponentName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Term>, StoreError> {
        self.0.history(component, before, limit).await
    }
    async fn end_term(
        &self,
        component: &ComponentName,
        version: i64,
        ending: &Ending,
    ) -> Result<Outcome, StoreError> {
        match self.1 {
            Flaw::EndsAreRefused => Err(StoreError::misconfigured("permission denied")),
            Flaw::EndsHang => std::future::pending().await,
            _ => {
                self.travel().await;
                self.0.end_term(component, version, ending).await
            }
        }
    }
    async fn prune_history(&self, component: &ComponentName, kept: Retention) -> Result<u64, StoreError> {
        self.0.prune_history(component, kept).await
    }
}

impl Rig {
    pub(super) fn flawed(&self, flaw: Flaw) -> Participant {
        let store = Arc::new(Flawed(self.store.clone(), flaw, self.given_up.clone()));
        let builder = Participant::builder(store, Self::component())
            .ttl(Duration::from_secs(10))
            .clock(self.clock.clone());
        builder.on_overrun(|_| {}).start().unwrap()
    }
}
