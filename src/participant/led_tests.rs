//! The loop, the terms that it hands out, and the watchdog.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;

use super::fixtures::{Rig, TestClock};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::election::machine::Looked;
use crate::election::{ComponentName, HolderId, StopReason, Take, TermKey, TimingError};
use crate::store::{
    Directory, Epochs, Hints, LeaseStore, MemoryStore, Outcome, Roster, StandingIntent, StoreError,
};

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
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
async fn one_that_begins_unhealthy_takes_nothing_before_it_is_said_to_be_healthy() {
    let rig = Rig::new();
    let first = rig.builder("first").healthy(false).start().unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!first.is_leader() && rig.store.look(&Rig::component()).await.unwrap().row.is_none());
    first.set_healthy(true);
    assert_eq!(first.lead().await.unwrap().unwrap().version(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_term_whose_work_goes_on_by_another_right_is_never_released_and_lapses() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    // The process slept beyond its term, in which nobody renewed.
    rig.clock.suspend(Duration::from_secs(60));
    assert_eq!(held.lost().await, StopReason::Deadline);
    held.leave();
    for _ in 0..50 {
        let row = rig.row().await;
        assert!(!row.is_free(), "it invites others");
        if row.version > 1 {
            return assert_eq!(first.lead().await.unwrap().unwrap().version(), 2);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("it does not take it again");
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
async fn a_leader_says_how_long_ago_it_renewed_and_how_long_its_calls_took() {
    let rig = Rig::new();
    let first = rig.start("first");
    assert_eq!(first.renewal_age(), None, "it does not lead");
    let held = first.lead().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(
        first.renewal_age().unwrap() <= Duration::from_secs(4),
        "a third of the ttl and what a call takes"
    );
    rig.clock.suspend(Duration::from_secs(9));
    assert_eq!(first.renewal_age(), None, "the term is over");
    drop(held);
    first.drain();
    first.ended().await.unwrap();
    let counters = first.counters();
    let calls = |times: &Latencies| times.buckets().iter().map(|(_, count)| count).sum::<u64>();
    let renewals = counters.renewals.load(Ordering::Relaxed);
    assert!(calls(&counters.renew_times) >= renewals && renewals > 0);
    assert_eq!(calls(&counters.look_times), counters.looks.load(Ordering::Relaxed));
    let takes = [&counters.takes_won, &counters.takes_lost, &counters.takes_unknown];
    let takes: u64 = takes.iter().map(|takes| takes.load(Ordering::Relaxed)).sum();
    assert!(calls(&counters.take_times) == takes && takes > 0);
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
        life_id: rig.store.look(&Rig::component()).await.unwrap().life.id(),
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
    rig.store.set_intent(&Rig::component(), StandingIntent::ttl(20)).await.unwrap();
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
    rig.store.set_intent(&Rig::component(), StandingIntent::ttl(5)).await.unwrap();
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

/// The clock of a process that is stopped once its renewal is acknowledged, for longer than its term had left before.
/// Its work goes on first.
#[derive(Debug)]
struct Stopped {
    clock: Arc<TestClock>,
    leads: Mutex<Option<(Arc<Participant>, TermObserver)>>,
    told: AtomicBool,
}

impl Clock for Stopped {
    fn boot(&self) -> Duration {
        let now = self.clock.boot();
        let renewed = |(first, _): &mut (Arc<Participant>, _)| count(&first.counters().renewals) > 0;
        let stopped = self.leads.lock().unwrap().take_if(renewed);
        if let Some((_, work)) = stopped {
            self.clock.suspend(Duration::from_secs(4));
            let told = work.lost().now_or_never();
            self.told.store(told == Some(StopReason::Deadline), Ordering::Relaxed);
        }
        now
    }

    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }
}

/// A supervisor that has ended its program must not lead on without it because the renewal counted.
#[tokio::test(start_paused = true)]
async fn a_process_stopped_between_a_renewal_and_its_publication_does_not_lead_without_its_work() {
    let rig = Rig::new();
    let clock =
        Arc::new(Stopped { clock: rig.clock.clone(), leads: Mutex::default(), told: AtomicBool::default() });
    let first = Arc::new(rig.builder("first").clock(clock.clone()).start().unwrap());
    let held = first.lead().await.unwrap().unwrap();
    *clock.leads.lock().unwrap() = Some((first.clone(), held.observer()));
    // Until after the renewal, and before the next one.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(clock.told.load(Ordering::Relaxed));
    // What waits for the end of the term once more does not wait for ever.
    let over = tokio::time::timeout(Duration::from_secs(60), held.lost()).await;
    assert_eq!(over, Ok(StopReason::Deadline));
    assert!(!first.is_leader() && held.valid_for().is_zero());
    assert_eq!(count(&first.counters().ended_deadline), 1);
    drop(held);
    assert_eq!(first.lead().await.unwrap().unwrap().version(), 2);
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

    fn roster(&self) -> Option<&dyn Roster> {
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
