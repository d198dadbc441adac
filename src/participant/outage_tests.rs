//! A database that answers nothing for a while and then does all that it was asked, in paused time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::fixtures::TestClock;
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::election::machine::Looked;
use crate::election::{ComponentName, LeaseRow, LifeId, NewEpoch, StopReason, Take, TermKey};
use crate::store::{Directory, Epochs, Hints, LeaseStore, MemoryStore, Outcome, Roster, StoreError};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Frozen {
    Nothing,
    Takes,
    All,
}

/// What is asked of it while it is frozen is done when it thaws, whether or not anybody still waits.
#[derive(Debug, Clone)]
struct Freezable {
    inner: Arc<MemoryStore>,
    frozen: watch::Sender<Frozen>,
}

impl Freezable {
    async fn done<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
        is_take: bool,
    ) -> Result<T, StoreError> {
        let mut frozen = self.frozen.subscribe();
        let done = tokio::spawn(async move {
            let held = |frozen: &Frozen| *frozen == Frozen::All || is_take && *frozen == Frozen::Takes;
            frozen.wait_for(|frozen| !held(frozen)).await.map(drop).unwrap();
            call.await
        });
        done.await.unwrap()
    }
}

#[async_trait::async_trait]
impl LeaseStore for Freezable {
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
        None
    }
    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        let (inner, component) = (self.inner.clone(), component.clone());
        self.done(async move { inner.look(&component).await }, false).await
    }
    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        let (inner, take) = (self.inner.clone(), take.clone());
        self.done(async move { inner.take(&take).await }, true).await
    }
    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let (inner, term) = (self.inner.clone(), term.clone());
        self.done(async move { inner.renew(&term).await }, false).await
    }
    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let (inner, term) = (self.inner.clone(), term.clone());
        self.done(async move { inner.release(&term).await }, false).await
    }
    fn hints(&self) -> Hints {
        Hints::none()
    }
    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }
    fn limit_lock_wait(&self, _: Duration) {}
    fn pace(&self) -> Option<crate::election::Pace> {
        None
    }
}

#[async_trait::async_trait]
impl Epochs for Freezable {
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        self.inner.begin_epoch(new).await
    }
    async fn settle(&self, waited_out: &LifeId) -> Result<Outcome, StoreError> {
        self.inner.settle(waited_out).await
    }
    async fn release_late(&self, term: &TermKey, within: &LifeId) -> Result<Outcome, StoreError> {
        let (inner, term, within) = (self.inner.clone(), term.clone(), within.clone());
        self.done(async move { inner.release_late(&term, &within).await }, false).await
    }
}

struct Rig {
    clock: Arc<TestClock>,
    store: Freezable,
}

impl Rig {
    fn new() -> Self {
        let clock = TestClock::new();
        let inner = Arc::new(MemoryStore::new(clock.clone()));
        Self { clock, store: Freezable { inner, frozen: watch::Sender::new(Frozen::Nothing) } }
    }

    fn start(&self, name: &str) -> Participant {
        let component = ComponentName::new("c").unwrap();
        let builder = Participant::builder(Arc::new(self.store.clone()), component)
            .name(name)
            .ttl(Duration::from_secs(10));
        builder.clock(self.clock.clone()).on_overrun(|_| {}).start().unwrap()
    }

    async fn row(&self) -> LeaseRow {
        self.store.inner.look(&ComponentName::new("c").unwrap()).await.unwrap().row.unwrap()
    }

    fn freeze(&self, what: Frozen) {
        self.store.frozen.send_replace(what);
    }

    /// How long it takes from now until one of them leads a term after this one.
    async fn until_led_after(&self, version: i64, of: &[&Participant]) -> Duration {
        let began = self.clock.boot();
        while !of.iter().any(|p| p.term().is_some_and(|guard| guard.version() > version)) {
            if self.clock.boot() >= began + Duration::from_secs(60) {
                let now = self.store.inner.look(of[0].component()).await.unwrap();
                let views: Vec<_> = of.iter().map(|p| (p.watch().borrow().clone(), p.counters())).collect();
                panic!("nobody leads since {began:?}: {now:?}; {views:?}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.clock.boot() - began
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_somebody_leads_within_a_second() {
    for lasts in 10..40 {
        let rig = Rig::new();
        let first = rig.start("first");
        let held = first.lead().await.unwrap().unwrap();
        let second = rig.start("second");
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.freeze(Frozen::All);
        assert_eq!(held.lost().await, StopReason::Deadline);
        drop(held);
        tokio::time::sleep(Duration::from_millis(500 * lasts)).await;
        rig.freeze(Frozen::Nothing);
        let took = rig.until_led_after(1, &[&first, &second]).await;
        assert!(took <= Duration::from_secs(1), "{took:?} after {lasts} half seconds");
        assert_eq!(first.counters().releases.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_nothing_is_released_while_the_work_still_runs() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    rig.freeze(Frozen::All);
    held.lost().await;
    rig.freeze(Frozen::Nothing);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.row().await.holder, first.holder().as_str());
    drop(held);
    rig.until_led_after(1, &[&first]).await;
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_applied_after_it_was_given_up_blocks_nobody_for_a_ttl() {
    let rig = Rig::new();
    rig.freeze(Frozen::Takes);
    let first = rig.start("first");
    // Long enough to be given up, and to be tried again.
    tokio::time::sleep(Duration::from_secs(9)).await;
    rig.freeze(Frozen::Nothing);
    let took = rig.until_led_after(0, &[&first]).await;
    assert!(took <= Duration::from_secs(4), "a look at most every third of the ttl: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_during_an_outage_does_not_wait_for_its_end() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    rig.freeze(Frozen::All);
    held.lost().await;
    drop(held);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = rig.clock.boot();
    first.drain();
    assert_eq!(first.ended().await.unwrap(), Drained::LeftToLapse);
    assert!(rig.clock.boot() - began <= Duration::from_secs(2), "one try of a sixth of the ttl");
    // That one may be applied later, and is.
    rig.freeze(Frozen::Nothing);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(rig.row().await.is_free());
}

#[tokio::test(start_paused = true)]
async fn an_older_state_under_the_same_identity_makes_no_second_leader_of_who_saw_the_later_one() {
    for reloaded_after in 0..30 {
        let rig = Rig::new();
        let first = rig.start("first");
        drop(first.lead().await.unwrap().unwrap());
        rig.freeze(Frozen::Takes);
        let second = rig.start("second");
        first.step_down();
        while !rig.row().await.is_free() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let backup = rig.store.inner.copy();
        rig.freeze(Frozen::Nothing);
        let held = second.lead().await.unwrap().unwrap();
        let mut view = first.watch();
        view.wait_for(|view| view.row.as_ref().is_some_and(|row| row.version == held.version()))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100 * reloaded_after)).await;
        rig.store.inner.reload(backup);
        // Nobody may take the free row before the leader has noticed, at its next renewal.
        while second.is_leader() {
            assert!(!first.is_leader(), "two lead, {reloaded_after} tenths of a second after the last look");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(held);
        let took = rig.until_led_after(2, &[&first, &second]).await;
        assert!(took <= Duration::from_secs(45), "a quarantine of 30 s, then somebody leads: {took:?}");
        assert!(rig.row().await.version > 1_000_000, "in an epoch of its own");
    }
}

#[tokio::test(start_paused = true)]
async fn no_work_begins_after_the_deadline_though_nobody_has_noticed_it_yet() {
    let rig = Rig::new();
    let first = rig.start("first");
    while !first.is_leader() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The machine slept: the loop has not turned since.
    rig.clock.suspend(Duration::from_secs(9));
    let held = first.lead().await.unwrap().unwrap();
    assert!(held.is_valid() && held.version() == 2, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_loop_itself_says_so_whatever_renewal_is_under_way() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    let deadline = rig.clock.boot() + held.valid_for();
    rig.freeze(Frozen::All);
    while rig.clock.boot() < deadline + Duration::from_millis(5) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(first.counters().ended_deadline.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_during_a_take_without_an_answer_waits_for_two_attempts_at_most() {
    let rig = Rig::new();
    rig.freeze(Frozen::Takes);
    let first = rig.start("first");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = rig.clock.boot();
    first.drain();
    assert_eq!(first.ended().await.unwrap(), Drained::LeftToLapse, "the take may still be applied");
    let took = rig.clock.boot() - began;
    assert!(took <= 2 * Duration::from_secs(10) / 6 + Duration::from_millis(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_nobody_acknowledged_is_told_from_one_that_was() {
    let rig = Rig::new();
    let first = rig.start("first");
    drop(first.lead().await.unwrap().unwrap());
    rig.freeze(Frozen::All);
    assert_eq!(first.shutdown(Duration::from_secs(5)).await.unwrap(), Drained::LeftToLapse);
    assert!(!rig.row().await.is_free());
    rig.freeze(Frozen::Nothing);
    // Nothing is owed for a term that somebody else has ended.
    let second = rig.start("second");
    drop(second.lead().await.unwrap().unwrap());
    rig.freeze(Frozen::All);
    tokio::time::sleep(Duration::from_secs(11)).await;
    rig.freeze(Frozen::Nothing);
    let third = rig.start("third");
    rig.until_led_after(2, &[&second, &third]).await;
    let led = if second.is_leader() { &second } else { &third };
    assert_eq!(led.shutdown(Duration::ZERO).await.unwrap(), Drained::Released);
    for other in [&second, &third] {
        assert_eq!(other.shutdown(Duration::ZERO).await.unwrap(), Drained::Released);
    }
}

#[test]
fn a_term_ends_with_the_runtime_of_its_participant() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (participant, guard) = runtime.block_on(async {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let participant = Participant::builder(store, ComponentName::new("c").unwrap())
            .ttl(Duration::from_secs(30))
            .start()
            .unwrap();
        let held = participant.lead().await.unwrap().unwrap();
        let guard = held.observer();
        (participant, guard)
    });
    assert!(guard.is_valid() && participant.is_leader());
    drop(runtime);
    assert!(!guard.is_valid() && !participant.is_leader(), "nobody renews it any more");
}
