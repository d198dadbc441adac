//! The loop, the guards and the watchdog on the memory store, in paused time: tokio's clock and the
//! boot clock move together.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::election::machine::Looked;
use crate::election::{Take, TermKey, TimingError};
use crate::membership::{Instance, Whereabouts};
use crate::store::{
    Directory, Epochs, Hints, LeaseStore, MemoryStore, Names, Outcome, Snapshot, StandingIntent, StoreError,
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

struct Rig {
    clock: Arc<TestClock>,
    store: Arc<MemoryStore>,
}

impl Rig {
    fn new() -> Self {
        let clock = TestClock::new();
        Self { store: Arc::new(MemoryStore::new(clock.clone())), clock }
    }

    fn component() -> ComponentName {
        ComponentName::new("c").unwrap()
    }

    fn builder(&self, name: &str) -> ParticipantBuilder {
        Participant::builder(self.store.clone(), Self::component())
            .name(name)
            .ttl(Duration::from_secs(10))
            .clock(self.clock.clone())
            .on_overrun(|_| {})
    }

    fn start(&self, name: &str) -> Participant {
        self.builder(name).start().unwrap()
    }

    async fn row(&self) -> LeaseRow {
        self.store.look(&Self::component()).await.unwrap().row.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_leads_and_the_second_follows_when_the_first_drains() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    assert_eq!(held.version(), 1);
    let second = rig.start("second");
    first.drain();
    assert_eq!(held.lost().await, StopReason::Draining);
    assert!(!first.is_leader() && !second.is_leader());
    drop(held);
    assert_eq!(second.lead().await.unwrap().unwrap().version(), 2);
    assert_eq!(first.ended().await.unwrap(), Drained::Released);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_released_while_the_work_still_runs() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    first.step_down();
    held.lost().await;
    assert_eq!(rig.row().await.holder, first.holder().as_str());
    drop(held);
    while !rig.row().await.is_free() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_for_as_long_as_it_lives() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(first.is_leader() && held.is_valid());
    assert_eq!(rig.row().await.version, 1);
    assert!(first.counters().renewals.load(Ordering::Relaxed) >= 29, "every third of the ttl");
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_longer_than_the_term_the_first_ask_says_no() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    rig.clock.suspend(Duration::from_secs(9));
    assert!(!first.is_leader());
    assert!(first.term().is_none() && held.valid_for().is_zero());
    assert!(first.watch().borrow().term().is_none(), "a view says no more than is_leader()");
}

#[tokio::test(start_paused = true)]
async fn a_seized_term_ends_at_the_next_renewal_and_is_not_released() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    let seen = rig.row().await;
    let thief = TermKey { component: Rig::component(), holder: HolderId::new("thief").unwrap(), version: 2 };
    let take = Take {
        term: thief,
        ttl: 10,
        expected: crate::election::Expected::of(Some(&seen)),
        generation: rig.store.look(&Rig::component()).await.unwrap().life.generation(),
    };
    rig.store.take(&take).await.unwrap();
    assert_eq!(held.lost().await, StopReason::Lost);
    drop(held);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.row().await.holder, "thief");
}

#[tokio::test(start_paused = true)]
async fn the_resources_ttl_reaches_the_next_term() {
    let rig = Rig::new();
    rig.store.set_intent(&Rig::component(), StandingIntent { ttl: 20 }).await.unwrap();
    let first = rig.start("first");
    let _held = first.lead().await.unwrap().unwrap();
    assert_eq!(rig.row().await.ttl, 20);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_ends_the_term_and_gives_the_row_back() {
    let rig = Rig::new();
    let first = rig.start("first");
    drop(first.lead().await.unwrap().unwrap());
    drop(first);
    while !rig.row().await.is_free() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn work_that_does_not_stop_is_ended_by_the_watchdog_even_when_every_worker_is_blocked() {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let first = Participant::builder(store, Rig::component())
        .ttl(Duration::from_secs(1))
        .on_overrun(move |overrun| {
            assert_eq!(overrun.version, 1);
            told.store(true, Ordering::SeqCst);
        })
        .start()
        .unwrap();
    let held = first.lead().await.unwrap().unwrap();
    let clock = SystemClock;
    let began = clock.boot();
    // This test's runtime has one worker, and it is blocked from here on: nothing renews.
    while !ended.load(Ordering::SeqCst) {
        assert!(clock.boot() - began < Duration::from_secs(10), "the watchdog never acted");
        std::thread::yield_now();
    }
    assert!(clock.boot() >= held.abort_at());
    assert!(!first.is_leader());
}

#[test]
fn work_that_outlives_its_participant_and_runtime_is_still_ended() {
    let (tell, told) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runtime.block_on(async {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let builder = Participant::builder(store, Rig::component()).ttl(Duration::from_secs(1));
        let participant =
            builder.on_overrun(move |overrun| tell.send(overrun.version).unwrap()).start().unwrap();
        participant.lead().await.unwrap().unwrap()
    });
    drop(runtime);
    assert!(!held.is_valid());
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_grace_that_nobody_chose_fits_every_ttl_of_a_resource() {
    let rig = Rig::new();
    rig.store.set_intent(&Rig::component(), StandingIntent { ttl: 5 }).await.unwrap();
    let participant = rig.builder("a").ttl(Duration::from_secs(30)).start().unwrap();
    let held = participant.lead().await.unwrap().unwrap();
    assert_eq!(held.stop_grace(), Duration::from_secs(1));
    assert_eq!(rig.row().await.ttl, 5);
}

#[tokio::test]
async fn a_stop_grace_that_cannot_fit_is_refused_at_the_start() {
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let refused = Participant::builder(store, Rig::component())
        .ttl(Duration::from_secs(10))
        .stop_grace(Duration::from_secs(4))
        .start();
    assert!(matches!(refused, Err(BuildError::Timing(TimingError::StopGraceTooLong { .. }))));
}

/// A store whose takes are answered late.
#[derive(Debug)]
struct SlowTakes(MemoryStore);

#[async_trait::async_trait]
impl LeaseStore for SlowTakes {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn epochs(&self) -> Option<&dyn Epochs> {
        None
    }
    fn directory(&self) -> Option<&dyn Directory> {
        None
    }
    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.0.look(component).await
    }
    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.take(take).await
    }
    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.0.renew(term).await
    }
    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.0.release(term).await
    }
    fn hints(&self) -> Hints {
        self.0.hints()
    }
    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }
    fn limit_lock_wait(&self, limit: Duration) {
        self.0.limit_lock_wait(limit);
    }
    fn pace(&self) -> Option<crate::election::Pace> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_won_while_draining_is_released_at_once() {
    let clock = TestClock::new();
    let store = Arc::new(SlowTakes(MemoryStore::new(clock.clone())));
    let first = Participant::builder(store.clone(), Rig::component())
        .ttl(Duration::from_secs(10))
        .clock(clock)
        .start()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.drain();
    // Fails by running for ever if the loop waits for work that never began.
    assert_eq!(first.ended().await.unwrap(), Drained::Released);
    let row = store.look(&Rig::component()).await.unwrap().row.unwrap();
    assert!(row.is_free() && row.version == 1, "taken, then given back: {row:?}");
}

impl Rig {
    async fn instances(&self) -> Vec<crate::membership::SeenInstance> {
        let names = [Self::component()].into_iter().collect();
        self.store.look_at(&names, true).await.unwrap().instances.unwrap()
    }

    /// Waits until an instance is as wanted.
    async fn sees(&self, wanted: impl Fn(&crate::membership::SeenInstance) -> bool) {
        let seen = async {
            while !self.instances().await.iter().any(&wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(60);
        assert!(
            tokio::time::timeout(limit, seen).await.is_ok(),
            "not within {limit:?}: {:?}",
            self.instances().await
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_start_is_written_down_with_where_it_is_whether_it_is_well_and_what_it_leads() {
    let rig = Rig::new();
    let place = Whereabouts { pod: Some("d-0".into()), ..Whereabouts::default() };
    let first = rig.builder("first").whereabouts(place.clone()).program_version("1.2").start().unwrap();
    let held = first.lead().await.unwrap().unwrap();
    rig.sees(|seen| seen.leads == Some(1) && seen.whereabouts == place).await;
    let second = rig.start("second");
    rig.sees(|seen| seen.holder == second.holder().as_str() && seen.leads.is_none() && seen.healthy).await;
    second.set_healthy(false);
    rig.sees(|seen| seen.holder == second.holder().as_str() && !seen.healthy).await;
    first.step_down();
    held.lost().await;
    drop(held);
    rig.sees(|seen| seen.holder == first.holder().as_str() && seen.leads.is_none()).await;
    let all = rig.instances().await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0].program_version.as_deref(), Some("1.2"));
}

#[tokio::test(start_paused = true)]
async fn whoever_slept_through_its_heartbeats_begins_another_life() {
    let rig = Rig::new();
    let first = rig.start("first");
    rig.sees(|seen| seen.id == 1).await;
    rig.clock.suspend(Duration::from_secs(100));
    rig.sees(|seen| seen.id == 2 && seen.holder == first.holder().as_str()).await;
    assert_eq!(rig.instances().await.len(), 1, "the first life is over");
}

#[tokio::test(start_paused = true)]
async fn whoever_dies_is_not_alive_for_long() {
    let rig = Rig::new();
    let first = rig.start("first");
    rig.sees(|seen| seen.id == 1).await;
    first.drain();
    first.ended().await.unwrap();
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(rig.instances().await, []);
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    SignsAreRefused,
    SignsHang,
    /// As a pooler between us and `LISTEN`: it looks as if notifications came.
    HintsAreSwallowed,
    LooksTakeTheirTime,
}

/// Does everything but one thing.
#[derive(Debug)]
struct Flawed(Arc<MemoryStore>, Flaw);

#[async_trait::async_trait]
impl LeaseStore for Flawed {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn epochs(&self) -> Option<&dyn Epochs> {
        None
    }
    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
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
        self.0.release(term).await
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
        Ok(())
    }
    fn limit_lock_wait(&self, _: Duration) {}
    fn pace(&self) -> Option<crate::election::Pace> {
        None
    }
}

#[async_trait::async_trait]
impl Directory for Flawed {
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        self.0.look_at(names, instances).await
    }
    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        match self.1 {
            Flaw::SignsAreRefused => Err(StoreError::Misconfigured("permission denied".into())),
            Flaw::SignsHang => std::future::pending().await,
            Flaw::HintsAreSwallowed | Flaw::LooksTakeTheirTime => self.0.beat(says, id).await,
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
}

impl Rig {
    fn flawed(&self, flaw: Flaw) -> Participant {
        let store = Arc::new(Flawed(self.store.clone(), flaw));
        let builder = Participant::builder(store, Self::component())
            .ttl(Duration::from_secs(10))
            .clock(self.clock.clone());
        builder.on_overrun(|_| {}).start().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_misses_a_notification_once_looks_every_second_from_then_on() {
    let rig = Rig::new();
    let mut leader = rig.flawed(Flaw::HintsAreSwallowed);
    drop(leader.lead().await.unwrap().unwrap());
    let mut follower = rig.flawed(Flaw::HintsAreSwallowed);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let mut view = follower.watch();
        view.wait_for(|view| view.row.as_ref().is_some_and(|row| !row.is_free())).await.unwrap();
        // At some moment between two looks, when there is nothing else to see for a while.
        tokio::time::sleep(Duration::from_millis(5_400)).await;
        let asked = rig.clock.boot();
        leader.step_down();
        drop(follower.lead().await.unwrap().unwrap());
        waits.push(rig.clock.boot() - asked);
        (leader, follower) = (follower, leader);
    }
    assert!(waits[2..].iter().all(|wait| *wait <= Duration::from_millis(1_100)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_notified_looks_no_more_often_for_having_seen_a_change() {
    let rig = Rig::new();
    let (leader, follower) = (rig.start("leader"), rig.start("follower"));
    drop(leader.lead().await.unwrap().unwrap());
    for (leader, follower) in [(&leader, &follower), (&follower, &leader), (&leader, &follower)] {
        leader.step_down();
        drop(follower.lead().await.unwrap().unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = leader.counters().looks.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(30)).await;
        let looks = leader.counters().looks.load(Ordering::Relaxed) - before;
        assert!(looks < 25, "{looks} looks in 30 s; a renewal is due nine times");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_says_again_and_again_that_it_is_well_disturbs_no_look() {
    let rig = Rig::new();
    let first = rig.flawed(Flaw::LooksTakeTheirTime);
    let well = async {
        loop {
            first.set_healthy(true);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let led = tokio::time::timeout(Duration::from_secs(30), first.lead());
    let led = tokio::select! {
        led = led => led,
        () = well => unreachable!(),
    };
    assert_eq!(led.unwrap().unwrap().unwrap().version(), 1);
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_that_fail_or_hang_end_no_term_and_delay_no_renewal() {
    for flaw in [Flaw::SignsAreRefused, Flaw::SignsHang] {
        let rig = Rig::new();
        let first = rig.flawed(flaw);
        let held = first.lead().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(held.is_valid() && first.is_leader(), "{flaw:?}");
        let renewals = first.counters().renewals.load(Ordering::Relaxed);
        assert!(renewals >= 29, "{renewals} renewals in ten ttls; {flaw:?}");
        assert!(first.watch().borrow().problem.is_none(), "it is no problem of the election");
    }
}

#[path = "run_tests.rs"]
mod run;
#[path = "shutdown_tests.rs"]
mod shutdown;
