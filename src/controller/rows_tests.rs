use std::sync::atomic::AtomicU64;

use super::*;
use crate::store::{MemoryStore, MemoryTables};

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
    let old = Seen { row: row.clone(), since: Duration::from_secs(10), given_up: false };
    let renewed = LeaseRow { renew_time: 2, ..row.clone() };
    assert!(!means_something(&old, &renewed));
    assert!(means_something(&Seen { given_up: true, ..old.clone() }, &renewed));
    assert!(means_something(&old, &LeaseRow { version: 2, ..row }));
}

/// Boot and wall clock alike, in ms.
#[derive(Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }
}

fn over_memory(max_ttl: u32) -> (Rows, Arc<MemoryStore>, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    clock.pass(1000);
    let store = Arc::new(MemoryStore::with_max_ttl(clock.clone(), max_ttl));
    (Rows::new(store.clone(), clock.clone(), 30), store, clock)
}

async fn life(store: &MemoryStore) -> Life {
    store.look_at(&Names::none(), false).await.unwrap().life
}

#[tokio::test]
async fn a_changed_database_is_recorded_and_its_quarantine_ended_while_no_participant_is_there() {
    let (rows, store, clock) = over_memory(20);
    let metrics = Metrics::default();
    let mut repeats = Repeats::default();
    rows.look(&metrics).await;
    assert_eq!(rows.record(&|_| true, &mut repeats).await, Some(Outcome::Lost), "there is nothing to record");
    store.become_another(store.copy());
    rows.look(&metrics).await;
    assert_eq!(rows.record(&|_| true, &mut repeats).await, Some(Outcome::Applied));
    assert!(!life(&store).await.is_strange());
    rows.look(&metrics).await;
    // The longer of what is recorded and what is configured, from the answer that showed the epoch.
    for (seconds, settled) in [(0, false), (29, false), (1, true)] {
        clock.pass(seconds);
        rows.look(&metrics).await;
        rows.record(&|_| true, &mut repeats).await;
        assert_eq!(life(&store).await.is_settled(), settled, "after {seconds} s more");
    }
}

#[tokio::test]
async fn nothing_is_recorded_in_a_database_that_may_not_be_written_to() {
    let (rows, store, _) = over_memory(20);
    rows.look(&Metrics::default()).await;
    let known = rows.database().expect("each database has a UUID");
    store.become_another(MemoryTables::default());
    rows.look(&Metrics::default()).await;
    let mut repeats = Repeats::default();
    let outcome = rows.record(&|now| now == Some(known.as_str()), &mut repeats).await;
    assert_eq!((outcome, life(&store).await.record()), (None, None));
    assert_eq!(rows.record(&|now| now.is_none(), &mut repeats).await, Some(Outcome::Applied));
    rows.look(&Metrics::default()).await;
    assert!(rows.database().is_some_and(|now| now != known), "tables that are made anew have another UUID");
}

#[tokio::test]
async fn whoever_has_not_been_looking_waits_the_whole_quarantine_again() {
    let (rows, store, clock) = over_memory(30);
    let metrics = Metrics::default();
    rows.look(&metrics).await;
    store.become_another(store.copy());
    rows.look(&metrics).await;
    rows.record(&|_| true, &mut Repeats::default()).await;
    rows.look(&metrics).await;
    clock.pass(30);
    rows.start_afresh();
    rows.look(&metrics).await;
    assert_eq!(rows.record(&|_| true, &mut Repeats::default()).await, Some(Outcome::Lost));
    assert!(!life(&store).await.is_settled());
}

#[tokio::test]
async fn the_longest_ttl_is_the_smaller_of_the_recorded_and_the_configured_one() {
    for (recorded, longest) in [(20, 20), (90, 30)] {
        let (rows, ..) = over_memory(recorded);
        assert_eq!(rows.longest_ttl(), None, "not known before the first look");
        rows.look(&Metrics::default()).await;
        assert_eq!(rows.longest_ttl(), Some(longest));
    }
}
