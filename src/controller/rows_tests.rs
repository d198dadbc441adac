use std::sync::atomic::AtomicU64;

use super::*;
use crate::election::{Expected, HolderId, Take, TermKey};
use crate::store::{LeaseStore, MemoryStore, MemoryTables};

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
    let store = Arc::new(MemoryStore::with_max_ttl(clock.clone(), Duration::from_secs(max_ttl.into())));
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

fn claimed(rows: &Rows, components: &[&str]) {
    let names = components.iter().map(|component| ComponentName::new(*component).unwrap());
    *rows.claimed.write().unwrap() = names.collect();
}

#[tokio::test]
async fn of_a_component_that_no_look_has_asked_for_nothing_is_known() {
    let (rows, ..) = over_memory(30);
    let metrics = Metrics::default();
    claimed(&rows, &["a"]);
    rows.look(&metrics).await;
    let b = ComponentName::new("b").unwrap();
    assert!(rows.looked("a") && !rows.looked("b"));
    assert!(matches!(rows.sight("b"), (StoreSight::Answers, RowSight::Never { .. }, _)));
    assert!(!rows.lacks_intent(&b, StandingIntent { ttl: 5 }));
    claimed(&rows, &["a", "b"]);
    assert_eq!(rows.look(&metrics).await, Some(Changed::Components(vec!["b".to_owned()])), "it has no row");
    assert!(rows.looked("b"));
    assert!(matches!(rows.sight("b"), (StoreSight::Answers, RowSight::Seen { row: None, .. }, _)));
    claimed(&rows, &["a"]);
    assert_eq!(rows.look(&metrics).await, None);
    assert!(!rows.looked("b"), "what is known of it gets old from now on");
}

#[tokio::test]
async fn hints_of_components_that_nobody_claims_are_passed_over() {
    let (rows, store, _) = over_memory(30);
    claimed(&rows, &["a"]);
    let mut hints = store.hints();
    tokio::task::yield_now().await;
    let take = async |name: &str| {
        let term = TermKey {
            component: ComponentName::new(name).unwrap(),
            holder: HolderId::new("x").unwrap(),
            version: 1,
        };
        let generation = life(&store).await.generation();
        let expected = Expected::Missing { highest: 0 };
        let take = Take { term, ttl: 5, expected, generation };
        assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
    };
    let mut concerned = std::pin::pin!(rows.concerned(&mut hints));
    for (name, told) in [("b", false), ("c", false), ("a", true)] {
        take(name).await;
        let waited =
            tokio::time::timeout(Duration::from_secs(if told { 10 } else { 0 }), &mut concerned).await;
        assert_eq!(waited.is_ok(), told, "{name}");
    }
}

async fn taken(store: &MemoryStore, holder: &str) {
    let component = ComponentName::new("c").unwrap();
    let seen = store.look(&component).await.unwrap();
    let version = seen.row.as_ref().map_or(0, |row| row.version) + 1;
    let term = TermKey { component, holder: HolderId::new(holder).unwrap(), version };
    let (expected, generation) = (Expected::of(seen.row.as_ref()), seen.life.generation());
    let take = Take { term, ttl: 5, expected, generation };
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn nothing_is_decided_about_a_new_holder_before_it_was_asked_where_it_runs() {
    let (rows, store, _) = over_memory(30);
    claimed(&rows, &["c"]);
    let metrics = Metrics::default();
    rows.look(&metrics).await;
    let one = Some(Changed::Components(vec!["c".to_owned()]));
    for holder in ["a", "b"] {
        taken(&store, holder).await;
        assert_eq!(rows.look(&metrics).await, None, "{holder}");
        assert!(!rows.knows_holder("c"), "{holder}");
        // Also of one that says nothing of itself.
        assert_eq!(rows.look(&metrics).await, one, "{holder}");
        assert!(rows.knows_holder("c"), "{holder}");
    }
    // The next term of a holder that was asked.
    taken(&store, "b").await;
    assert_eq!(rows.look(&metrics).await, one);
    assert!(rows.knows_holder("c"));
}

#[tokio::test]
async fn a_holder_is_judged_by_its_name_when_it_cannot_be_asked() {
    let (rows, store, _) = over_memory(30);
    claimed(&rows, &["c"]);
    let metrics = Metrics::default();
    rows.look(&metrics).await;
    taken(&store, "a").await;
    rows.look(&metrics).await;
    {
        // As a look that asks for participants and fails.
        let mut state = rows.state.write().unwrap();
        state.instances.failed(Moment::ZERO);
        state.by_name = true;
    }
    assert_eq!(rows.look(&metrics).await, Some(Changed::Components(vec!["c".to_owned()])));
    assert!(rows.knows_holder("c"));
}
