use std::sync::atomic::AtomicU64;

use super::*;
use crate::election::{Expected, HolderId, Take, TermKey};
use crate::store::{LeaseStore, MemoryStore, MemoryTables};

/// Between two polls.
const SECOND: Duration = Duration::from_secs(1);

/// Boot and wall clock alike, in ms.
#[derive(Debug, Default)]
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

fn over_memory(max_ttl: u32) -> (Database, Arc<MemoryStore>, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    clock.pass(1000);
    let store = Arc::new(MemoryStore::with_max_ttl(clock.clone(), Duration::from_secs(max_ttl.into())));
    (Database::new(store.clone(), clock.clone(), 30), store, clock)
}

async fn life(store: &MemoryStore) -> Life {
    store.look_at(&Names::none(), false).await.unwrap().life
}

#[tokio::test]
async fn a_changed_database_is_recorded_and_its_quarantine_ended_while_no_participant_is_there() {
    let (database, store, clock) = over_memory(20);
    let metrics = Metrics::default();
    database.look(SECOND, &metrics).await;
    assert_eq!(database.record(&|_| true).await, Some(Outcome::Lost), "there is nothing to record");
    store.become_another(store.copy());
    database.look(SECOND, &metrics).await;
    assert_eq!(database.record(&|_| true).await, Some(Outcome::Applied));
    assert!(!life(&store).await.is_strange());
    database.look(SECOND, &metrics).await;
    // The longer of what is recorded and what is configured, from the answer that showed the epoch.
    for (seconds, settled) in [(0, false), (29, false), (1, true)] {
        clock.pass(seconds);
        database.look(SECOND, &metrics).await;
        database.record(&|_| true).await;
        assert_eq!(life(&store).await.is_settled(), settled, "after {seconds} s more");
    }
}

#[tokio::test]
async fn nothing_is_recorded_in_a_database_that_may_not_be_written_to() {
    let (database, store, _) = over_memory(20);
    database.look(SECOND, &Metrics::default()).await;
    let known = database.known().database().expect("each database has a UUID");
    store.become_another(MemoryTables::default());
    database.look(SECOND, &Metrics::default()).await;
    let outcome = database.record(&|now| now == Some(known.as_str())).await;
    assert_eq!((outcome, life(&store).await.record()), (None, None));
    assert_eq!(database.record(&|now| now.is_none()).await, Some(Outcome::Applied));
    database.look(SECOND, &Metrics::default()).await;
    assert!(
        database.known().database().is_some_and(|now| now != known),
        "tables that are made anew have another UUID"
    );
}

#[tokio::test]
async fn a_controller_that_has_not_been_looking_waits_the_whole_quarantine_again() {
    let (database, store, clock) = over_memory(30);
    let metrics = Metrics::default();
    database.look(SECOND, &metrics).await;
    store.become_another(store.copy());
    database.look(SECOND, &metrics).await;
    database.record(&|_| true).await;
    database.look(SECOND, &metrics).await;
    clock.pass(30);
    database.start_afresh();
    database.look(SECOND, &metrics).await;
    assert_eq!(database.record(&|_| true).await, Some(Outcome::Lost));
    assert!(!life(&store).await.is_settled());
}

#[tokio::test]
async fn the_longest_ttl_is_the_smaller_of_the_recorded_and_the_configured_one() {
    for (recorded, longest) in [(20, 20), (90, 30)] {
        let (database, ..) = over_memory(recorded);
        assert_eq!(database.known().longest_ttl(), None, "not known before the first look");
        database.look(SECOND, &Metrics::default()).await;
        assert_eq!(database.known().longest_ttl(), Some(longest));
    }
}

fn claimed(database: &Database, components: &[&str]) {
    let names = components.iter().map(|component| ComponentName::new(*component).unwrap());
    database.claim(names);
}

#[tokio::test]
async fn of_a_component_that_no_look_has_asked_for_nothing_is_known() {
    let (database, ..) = over_memory(30);
    let metrics = Metrics::default();
    claimed(&database, &["a"]);
    database.look(SECOND, &metrics).await;
    let b = ComponentName::new("b").unwrap();
    assert!(database.known().looked("a") && !database.known().looked("b"));
    assert!(matches!(database.sight("b"), (StoreSight::Answers, RowSight::Never { .. }, _)));
    assert!(!database.known().lacks_intent(&b, &StandingIntent::ttl(5)));
    claimed(&database, &["a", "b"]);
    assert_eq!(
        database.look(SECOND, &metrics).await,
        Some(Changed::Components(vec!["b".to_owned()])),
        "it has no row"
    );
    assert!(database.known().looked("b"));
    assert!(matches!(database.sight("b"), (StoreSight::Answers, RowSight::Seen { row: None, .. }, _)));
    claimed(&database, &["a"]);
    assert_eq!(database.look(SECOND, &metrics).await, None);
    assert!(!database.known().looked("b"), "what is known of it gets old from now on");
}

#[tokio::test]
async fn hints_of_components_that_nobody_claims_are_passed_over() {
    let (database, store, _) = over_memory(30);
    claimed(&database, &["a"]);
    let mut hints = store.hints();
    tokio::task::yield_now().await;
    let take = async |name: &str| {
        let term = TermKey {
            component: ComponentName::new(name).unwrap(),
            holder: HolderId::new("x").unwrap(),
            version: 1,
        };
        let life_id = life(&store).await.id();
        let expected = Expected::Missing { highest: 0 };
        let take = Take { term, ttl: 5, expected, life_id };
        assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
    };
    let mut concerned = std::pin::pin!(database.concerned(&mut hints));
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
    let (expected, life_id) = (Expected::of(seen.row.as_ref()), seen.life.id());
    let take = Take { term, ttl: 5, expected, life_id };
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn nothing_is_decided_about_a_new_holder_before_it_was_asked_where_it_runs() {
    let (database, store, _) = over_memory(30);
    claimed(&database, &["c"]);
    let metrics = Metrics::default();
    database.look(SECOND, &metrics).await;
    let one = Some(Changed::Components(vec!["c".to_owned()]));
    for holder in ["a", "b"] {
        taken(&store, holder).await;
        assert_eq!(database.look(SECOND, &metrics).await, None, "{holder}");
        assert!(!database.known().knows_holder("c"), "{holder}");
        // Also of one that says nothing of itself.
        assert_eq!(database.look(SECOND, &metrics).await, one, "{holder}");
        assert!(database.known().knows_holder("c"), "{holder}");
    }
    // The next term of a holder that was asked.
    taken(&store, "b").await;
    assert_eq!(database.look(SECOND, &metrics).await, one);
    assert!(database.known().knows_holder("c"));
}

#[tokio::test]
async fn a_holder_is_judged_by_its_name_when_it_cannot_be_asked() {
    let (database, store, _) = over_memory(30);
    claimed(&database, &["c"]);
    let metrics = Metrics::default();
    database.look(SECOND, &metrics).await;
    taken(&store, "a").await;
    database.look(SECOND, &metrics).await;
    {
        // As a look that asks for participants and fails.
        database.rows_mut().failed_with_instances(Moment::ZERO);
    }
    assert_eq!(database.look(SECOND, &metrics).await, Some(Changed::Components(vec!["c".to_owned()])));
    assert!(database.known().knows_holder("c"));
}
