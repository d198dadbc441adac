//! What every store does with the participants that tell of themselves.

use std::time::Duration;

use component_lease::clock::{Clock, SystemClock};
use component_lease::election::HolderId;
use component_lease::election::machine::Past;
use component_lease::membership::{Instance, Mode, Promise, SeenInstance, Whereabouts};
use component_lease::store::Store;
use component_lease_testkit::mysql::Kind;
use component_lease_testkit::wait;

use crate::stores::{Bench, SOON, alive_at, component, look_at};

pub(crate) fn instance(name: &str, holder: &str) -> Instance {
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
            node: given("node-ü"),
            address: given("10.0.0.7"),
        },
        program_version: given("1.2.3"),
        mode: Some(Mode::Beside),
        promise: Some(Promise { longest: Duration::from_millis(6_001), outside: true }),
        healthy: true,
        leads: None,
    }
}

async fn alive(store: &dyn Store) -> Vec<SeenInstance> {
    let mut all = alive_at(store, &["c", "other"]).await.instances.unwrap();
    all.sort_by_key(|seen| seen.id);
    all
}

async fn a_start_is_written_down_with_all_that_is_known_of_it(bench: &Bench) {
    let id = bench.store.beat(&instance("c", "a"), None).await.unwrap().unwrap();
    let snapshot = alive_at(&*bench.store, &["c"]).await;
    let seen = snapshot.instances.unwrap().remove(0);
    assert!(seen.start_time == seen.heartbeat && seen.heartbeat <= snapshot.database_now, "{seen:?}");
    let expected = SeenInstance::begin(id, &instance("c", "a"), seen.start_time);
    assert_eq!(seen, expected);
    assert_eq!((snapshot.rows.len(), snapshot.intents.len()), (0, 0), "an instance is no row");
}

async fn what_is_not_known_is_left_out(bench: &Bench) {
    let poor = Instance {
        whereabouts: Whereabouts::default(),
        program_version: None,
        mode: None,
        promise: None,
        healthy: false,
        leads: Some(i64::MAX),
        ..instance("c", "a")
    };
    bench.store.beat(&poor, None).await.unwrap();
    let seen = alive(&*bench.store).await.remove(0);
    assert_eq!(seen, SeenInstance::begin(seen.id, &poor, seen.start_time));
}

async fn how_each_kind_of_participant_works_and_what_it_promises_reads_as_it_was_told(bench: &Bench) {
    let longest = |ms| Some(Promise { longest: Duration::from_millis(ms), outside: false });
    let kinds = [
        (Mode::Embedded, Some(Promise::NONE)),
        (Mode::Around, longest(500)),
        (Mode::Beside, longest(1_080_000)),
        (Mode::Embedded, None),
    ];
    for (mode, promise) in kinds {
        let says = Instance { mode: Some(mode), promise, ..instance("c", "a") };
        let id = bench.store.beat(&says, None).await.unwrap();
        // It does not change with the heartbeats that follow.
        bench.store.beat(&Instance { leads: Some(41), ..says }, id).await.unwrap();
        let seen = alive(&*bench.store).await.pop().unwrap();
        assert_eq!((seen.mode, seen.promise, seen.leads), (Some(mode), promise, Some(41)));
    }
}

async fn a_heartbeat_moves_the_row_and_says_what_is_now(bench: &Bench) {
    let id = bench.store.beat(&instance("c", "a"), None).await.unwrap();
    let before = alive(&*bench.store).await.remove(0);
    let leading = Instance { leads: Some(41), healthy: false, lasts: 90, ..instance("c", "a") };
    wait::until_true(SOON, "a later heartbeat", async || {
        assert_eq!(bench.store.beat(&leading, id).await.unwrap(), id, "it is the same life");
        alive(&*bench.store).await[0].heartbeat > before.heartbeat
    })
    .await
    .unwrap();
    let after = alive(&*bench.store).await;
    assert_eq!(after.len(), 1);
    let (heartbeat, lasts) = (after[0].heartbeat, 90);
    assert_eq!(after[0], SeenInstance { heartbeat, lasts, healthy: false, leads: Some(41), ..before });
}

async fn a_heartbeat_that_is_out_of_date_stays_and_a_new_row_begins(bench: &Bench) {
    let short = Instance { lasts: 1, ..instance("c", "a") };
    let first = bench.store.beat(&short, None).await.unwrap();
    let old = alive(&*bench.store).await.remove(0);
    wait::until_true(SOON, "the heartbeat to be out of date", async || alive(&*bench.store).await.is_empty())
        .await
        .unwrap();
    let second = bench.store.beat(&instance("c", "a"), first).await.unwrap();
    assert!(second > first, "ids rise with the beginning of lives: {first:?}, {second:?}");
    let alive = alive(&*bench.store).await;
    assert_eq!(alive.iter().map(|seen| Some(seen.id)).collect::<Vec<_>>(), [second]);
    assert!(alive[0].start_time > old.heartbeat);
}

async fn nobody_moves_somebody_elses_heartbeat(bench: &Bench) {
    let a = bench.store.beat(&instance("c", "a"), None).await.unwrap();
    let b = bench.store.beat(&instance("c", "b"), a).await.unwrap();
    let other = bench.store.beat(&instance("other", "a"), a).await.unwrap();
    assert!(b > a && other > b, "{a:?} {b:?} {other:?}");
    let gone = bench.store.beat(&instance("c", "a"), Some(i64::MAX)).await.unwrap();
    assert!(gone > other && gone < Some(i64::MAX), "a row that is gone is made anew");
}

async fn rows_and_instances_come_in_one_look_and_a_plain_look_has_none(bench: &Bench) {
    crate::stores::held(&*bench.store, "c", "a").await;
    let id = bench.store.beat(&instance("never-led", "b"), None).await.unwrap();
    let names = ["c", "never-led"];
    let (snapshot, plain) = (alive_at(&*bench.store, &names).await, look_at(&*bench.store, &names).await);
    assert_eq!(snapshot.rows, plain.rows);
    assert_eq!((snapshot.rows.len(), &snapshot.life), (1, &plain.life));
    assert_eq!(snapshot.instances.unwrap().iter().map(|seen| Some(seen.id)).collect::<Vec<_>>(), [id]);
    assert_eq!(plain.instances, None);
    let other = alive_at(&*bench.store, &["c", "Never-led"]).await;
    assert_eq!(
        (other.rows.len(), other.instances),
        (1, Some(Vec::new())),
        "nobody else's instances are read"
    );
}

async fn of_many_instances_the_holder_comes_first_then_who_says_that_it_leads_then_the_newest(bench: &Bench) {
    const MOST: usize = 256;
    crate::stores::held(&*bench.store, "c", "holder").await;
    let mut ids = Vec::new();
    let leading = Instance { leads: Some(7), ..instance("c", "liar") };
    for says in [instance("c", "holder"), leading]
        .into_iter()
        .chain((0..MOST + 3).map(|n| instance("c", &format!("p{n}"))))
    {
        ids.push(bench.store.beat(&says, None).await.unwrap().unwrap());
    }
    bench.store.beat(&instance("other", "holder"), None).await.unwrap();
    let all = alive(&*bench.store).await;
    let (of_c, of_other): (Vec<_>, Vec<_>) = all.into_iter().partition(|seen| seen.component == "c");
    let expected: Vec<_> = ids[..2].iter().chain(&ids[ids.len() - (MOST - 2)..]).copied().collect();
    assert_eq!(of_c.iter().map(|seen| seen.id).collect::<Vec<_>>(), expected);
    assert_eq!(of_other.len(), 1, "many of one component leave room for another");
}

async fn a_component_that_the_history_does_not_know_has_lived_if_somebody_says_that_it_led_it(bench: &Bench) {
    let past = async |name: &str| bench.store.look(&component(name)).await.unwrap().past;
    let following = instance("c", "a");
    let id = bench.store.beat(&following, None).await.unwrap();
    assert_eq!(past("c").await, Past::NeverLived, "to compete is not to lead");
    let leading = Instance { leads: Some(41), ..following.clone() };
    bench.store.beat(&leading, id).await.unwrap();
    assert_eq!((past("c").await, past("other").await), (Past::Claimed(41), Past::NeverLived));
    bench.store.beat(&Instance { leads: Some(40), ..instance("c", "b") }, None).await.unwrap();
    assert_eq!(past("c").await, Past::Claimed(41));
    for (leads, highest) in [(9, 41), (100, 100), (41, 100)] {
        bench.store.beat(&Instance { leads: Some(leads), ..following.clone() }, id).await.unwrap();
        assert_eq!(past("c").await, Past::Claimed(highest));
    }
    // That it has stopped, or died, does not undo that.
    bench.store.beat(&following, id).await.unwrap();
    assert_eq!(past("c").await, Past::Claimed(100));
    // An insertion is bound to the history, and the history then knows.
    crate::stores::held(&*bench.store, "c", "d").await;
    assert_eq!(past("c").await, Past::Lived(1));
}

async fn instances_that_ended_long_ago_can_be_pruned_and_the_others_stay(bench: &Bench) {
    bench.store.beat(&instance("c", "a"), None).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(bench.store.prune_instances(hour).await.unwrap(), 0);
    let begun = SystemClock.boot();
    wait::until_true(SOON, "some time to pass", async || {
        SystemClock.boot() > begun + Duration::from_millis(60)
    })
    .await
    .unwrap();
    let id = bench.store.beat(&instance("c", "b"), None).await.unwrap();
    assert_eq!(bench.store.prune_instances(Duration::from_millis(30)).await.unwrap(), 1);
    assert_eq!(alive(&*bench.store).await.iter().map(|seen| Some(seen.id)).collect::<Vec<_>>(), [id]);
}

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        behaviours!(each: memory = super::Bench::memory(); $($name),*);
        behaviours!(each: sqlite = super::Bench::sqlite().await; $($name),*);
        behaviours!(each: postgres = super::Bench::postgres().await; $($name),*);
        behaviours!(each: postgres_18 = super::Bench::postgres_18().await; $($name),*);
        behaviours!(each: pgbouncer = super::Bench::pgbouncer().await; $($name),*);
        behaviours!(each: mariadb_10_11 = super::Bench::mysql(super::Kind::MariaDb10_11).await; $($name),*);
        behaviours!(each: mariadb_11_8 = super::Bench::mysql(super::Kind::MariaDb11_8).await; $($name),*);
        behaviours!(each: mysql_9 = super::Bench::mysql(super::Kind::MySql9).await; $($name),*);
    };
    (each: $store:ident = $bench:expr; $($name:ident),*) => {
        mod $store {
            $(#[tokio::test] async fn $name() { super::$name(&$bench).await; })*
        }
    };
}

behaviours!(
    a_start_is_written_down_with_all_that_is_known_of_it,
    what_is_not_known_is_left_out,
    how_each_kind_of_participant_works_and_what_it_promises_reads_as_it_was_told,
    a_heartbeat_moves_the_row_and_says_what_is_now,
    a_heartbeat_that_is_out_of_date_stays_and_a_new_row_begins,
    nobody_moves_somebody_elses_heartbeat,
    rows_and_instances_come_in_one_look_and_a_plain_look_has_none,
    of_many_instances_the_holder_comes_first_then_who_says_that_it_leads_then_the_newest,
    a_component_that_the_history_does_not_know_has_lived_if_somebody_says_that_it_led_it,
    instances_that_ended_long_ago_can_be_pruned_and_the_others_stay,
);
