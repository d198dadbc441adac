//! What every [`Directory`] does.

#![expect(missing_docs, reason = "each name is the sentence that is tried")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::support::{alive, alive_at, component, directory, held, instance, look_at, row, until};
use super::{Bench, SOON};
use crate::election::HolderId;
use crate::election::machine::Past;
use crate::membership::{Instance, Mode, Promise, SeenInstance, Whereabouts};
use crate::store::StandingIntent;

pub async fn a_standing_ttl_is_seen_by_every_look_until_it_is_cleared(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let c = component("c");
    let seen = async || store.look(&c).await.unwrap().standing_ttl;
    directory(&*store).set_intent(&c, StandingIntent::ttl(15)).await.unwrap();
    assert_eq!(seen().await, Some(15), "before there is a row");
    held(&*store, "c", "a").await;
    directory(&*store).set_intent(&c, StandingIntent::ttl(20)).await.unwrap();
    assert_eq!(seen().await, Some(20));
    assert_eq!(store.look(&component("other")).await.unwrap().standing_ttl, None);
    directory(&*store).clear_intent(&c).await.unwrap();
    assert_eq!(seen().await, None);
    directory(&*store).clear_intent(&c).await.unwrap();
    directory(&*store).set_intent(&c, StandingIntent::ttl(9)).await.unwrap();
    assert_eq!(seen().await, Some(9), "after it was cleared");
}

pub async fn whom_a_resource_prefers_is_seen_by_every_look_and_cleared_with_the_ttl(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let c = component("c");
    let longest = HolderId::new("\u{fc}".repeat(255)).unwrap();
    let prefer = async |(preferred, cooldown): (Option<HolderId>, u32)| {
        let intent = StandingIntent { ttl: 9, preferred, cooldown };
        directory(&*store).set_intent(&c, intent.clone()).await.unwrap();
        let looked = store.look(&c).await.unwrap();
        let listed = look_at(&*store, &["c"]).await.intents.remove("c");
        assert_eq!((looked.standing_ttl, &looked.preferred), (Some(9), &intent.preferred));
        assert_eq!(looked.cooldown, Duration::from_secs(cooldown.into()));
        assert_eq!(listed, Some(intent));
    };
    for wanted in [(Some(longest), 0), (None, 1200), (Some(HolderId::new("a").unwrap()), 4)] {
        prefer(wanted).await;
    }
    directory(&*store).clear_intent(&c).await.unwrap();
    let cleared = store.look(&c).await.unwrap();
    assert_eq!((cleared.preferred, cleared.cooldown.as_secs()), (None, 0));
}

pub async fn a_look_shows_rows_and_intents_of_those_it_asks_for_and_of_nobody_else(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let everybody = ["row-only", "both", "cleared", "intent-only", "gone", "never-there"];
    let empty = look_at(&*store, &everybody).await;
    assert!(empty.rows.is_empty() && empty.intents.is_empty() && empty.database_now > 0, "{empty:?}");
    for name in ["row-only", "both", "cleared"] {
        held(&*store, name, "a").await;
    }
    for (name, ttl) in [("intent-only", 11), ("both", 12), ("cleared", 13), ("gone", 14)] {
        directory(&*store).set_intent(&component(name), StandingIntent::ttl(ttl)).await.unwrap();
    }
    for name in ["cleared", "gone"] {
        directory(&*store).clear_intent(&component(name)).await.unwrap();
    }
    let all = look_at(&*bench.open(), &everybody).await;
    assert_eq!(all.rows.keys().collect::<Vec<_>>(), ["both", "cleared", "row-only"]);
    let intents: Vec<_> = all.intents.iter().map(|(name, intent)| (name.as_str(), intent.ttl)).collect();
    assert_eq!(intents, [("both", 12), ("intent-only", 11)]);
    assert_eq!(all.rows.get("both"), row(&*store, "both").await.as_ref());
    let some = look_at(&*store, &["row-only", "intent-only", "Row-Only", "row-only2", "'\"\\[]"]).await;
    assert_eq!(some.rows.into_keys().collect::<Vec<_>>(), ["row-only"]);
    assert_eq!(some.intents.into_keys().collect::<Vec<_>>(), ["intent-only"]);
    let nobody = look_at(&*store, &[]).await;
    assert!(nobody.rows.is_empty() && nobody.intents.is_empty() && nobody.database_now > 0, "{nobody:?}");
    assert_eq!(nobody.life, all.life);
}

pub async fn ten_thousand_components_are_looked_at_by_one_call(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let there = ["engine/00042", "ü/09999", "q\"'\\"];
    for name in there {
        held(&*store, name, "a").await;
    }
    let names: Vec<String> =
        (0..10_000).flat_map(|n| [format!("engine/{n:05}"), format!("ü/{n:05}")]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).step_by(2).chain(there).collect();
    for _ in 0..2 {
        let seen = timeout(SOON, look_at(&*store, &names)).await.expect("an answer");
        assert_eq!(seen.rows.into_keys().collect::<Vec<_>>(), ["engine/00042", "q\"'\\", "ü/09999"]);
    }
}

/// Instances of a component that are read.
const MOST: usize = 256;

pub async fn a_start_is_written_down_with_all_that_is_known_of_it(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let id = directory(&*store).beat(&instance("c", "a"), None).await.unwrap().unwrap();
    let snapshot = alive_at(&*store, &["c"]).await;
    let seen = snapshot.instances.unwrap().remove(0);
    assert!(seen.start_time == seen.heartbeat && seen.heartbeat <= snapshot.database_now, "{seen:?}");
    let expected = SeenInstance::begin(id, &instance("c", "a"), seen.start_time);
    assert_eq!(seen, expected);
    assert_eq!((snapshot.rows.len(), snapshot.intents.len()), (0, 0), "an instance is no row");
}

pub async fn what_is_not_known_is_left_out(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let poor = Instance {
        whereabouts: Whereabouts::default(),
        program_version: None,
        mode: None,
        promise: None,
        priority: None,
        healthy: false,
        leads: Some(i64::MAX),
        ..instance("c", "a")
    };
    directory(&*store).beat(&poor, None).await.unwrap();
    let seen = alive(&*store).await.remove(0);
    assert_eq!(seen, SeenInstance::begin(seen.id, &poor, seen.start_time));
}

pub async fn how_each_kind_of_participant_works_and_what_it_promises_reads_as_it_was_told(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    let longest = |ms| Some(Promise { longest: Duration::from_millis(ms), outside: false });
    let kinds = [
        (Mode::Embedded, Some(Promise::NONE)),
        (Mode::Around, longest(500)),
        (Mode::Beside, longest(1_080_000)),
        (Mode::Embedded, None),
    ];
    for (mode, promise) in kinds {
        let says = Instance { mode: Some(mode), promise, ..instance("c", "a") };
        let id = directory(&*store).beat(&says, None).await.unwrap();
        // It does not change with the heartbeats that follow.
        directory(&*store).beat(&Instance { leads: Some(41), ..says }, id).await.unwrap();
        let seen = alive(&*store).await.pop().unwrap();
        assert_eq!((seen.mode, seen.promise, seen.leads), (Some(mode), promise, Some(41)));
    }
}

pub async fn a_heartbeat_moves_the_row_and_says_what_is_now(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let id = directory(&*store).beat(&instance("c", "a"), None).await.unwrap();
    let before = alive(&*store).await.remove(0);
    let leading = Instance { leads: Some(41), healthy: false, lasts: 90, ..instance("c", "a") };
    until("a later heartbeat", async || {
        assert_eq!(directory(&*store).beat(&leading, id).await.unwrap(), id, "it is the same life");
        alive(&*store).await[0].heartbeat > before.heartbeat
    })
    .await;
    let after = alive(&*store).await;
    assert_eq!(after.len(), 1);
    let (heartbeat, lasts) = (after[0].heartbeat, 90);
    assert_eq!(after[0], SeenInstance { heartbeat, lasts, healthy: false, leads: Some(41), ..before });
}

pub async fn a_heartbeat_that_is_out_of_date_stays_and_a_new_row_begins(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let short = Instance { lasts: 1, ..instance("c", "a") };
    let first = directory(&*store).beat(&short, None).await.unwrap();
    let old = alive(&*store).await.remove(0);
    until("the heartbeat to be out of date", async || alive(&*store).await.is_empty()).await;
    let second = directory(&*store).beat(&instance("c", "a"), first).await.unwrap();
    assert!(second > first, "ids rise with the beginning of lives: {first:?}, {second:?}");
    let alive = alive(&*store).await;
    assert_eq!(alive.iter().map(|seen| Some(seen.id)).collect::<Vec<_>>(), [second]);
    assert!(alive[0].start_time > old.heartbeat);
}

pub async fn a_life_that_says_it_has_ended_is_over_at_once(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let id = directory(&*store).beat(&instance("c", "a"), None).await.unwrap();
    assert_eq!(alive(&*store).await.len(), 1);
    let ended = Instance { lasts: 0, healthy: false, ..instance("c", "a") };
    assert_eq!(directory(&*store).beat(&ended, id).await.unwrap(), id, "it is the same life");
    // Far sooner than its heartbeat would have been out of date.
    until("it is not alive", async || alive(&*store).await.is_empty()).await;
}

pub async fn nobody_moves_somebody_elses_heartbeat(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = directory(&*store).beat(&instance("c", "a"), None).await.unwrap();
    let b = directory(&*store).beat(&instance("c", "b"), a).await.unwrap();
    let other = directory(&*store).beat(&instance("other", "a"), a).await.unwrap();
    assert!(b > a && other > b, "{a:?} {b:?} {other:?}");
    let gone = directory(&*store).beat(&instance("c", "a"), Some(i64::MAX)).await.unwrap();
    assert!(gone > other && gone < Some(i64::MAX), "a row that is gone is made anew");
}

pub async fn rows_and_instances_come_in_one_look_and_a_plain_look_has_none(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    let id = directory(&*store).beat(&instance("never-led", "b"), None).await.unwrap();
    let names = ["c", "never-led"];
    let (snapshot, plain) = (alive_at(&*store, &names).await, look_at(&*store, &names).await);
    assert_eq!(snapshot.rows, plain.rows);
    assert_eq!((snapshot.rows.len(), &snapshot.life), (1, &plain.life));
    assert_eq!(snapshot.instances.unwrap().iter().map(|seen| Some(seen.id)).collect::<Vec<_>>(), [id]);
    assert_eq!(plain.instances, None);
    let other = alive_at(&*store, &["c", "Never-led"]).await;
    assert_eq!(
        (other.rows.len(), other.instances),
        (1, Some(Vec::new())),
        "nobody else's instances are read"
    );
}

pub async fn of_many_instances_the_holder_comes_first_then_who_says_that_it_leads_then_the_newest(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    held(&*store, "c", "holder").await;
    let mut ids = Vec::new();
    let leading = Instance { leads: Some(7), ..instance("c", "liar") };
    for says in [instance("c", "holder"), leading]
        .into_iter()
        .chain((0..MOST + 3).map(|n| instance("c", &format!("p{n}"))))
    {
        ids.push(directory(&*store).beat(&says, None).await.unwrap().unwrap());
    }
    directory(&*store).beat(&instance("other", "holder"), None).await.unwrap();
    let all = alive(&*store).await;
    let (of_c, of_other): (Vec<_>, Vec<_>) = all.into_iter().partition(|seen| seen.component == "c");
    let expected: Vec<_> = ids[..2].iter().chain(&ids[ids.len() - (MOST - 2)..]).copied().collect();
    assert_eq!(of_c.iter().map(|seen| seen.id).collect::<Vec<_>>(), expected);
    assert_eq!(of_other.len(), 1, "many of one component leave room for another");
}

pub async fn a_component_that_the_history_does_not_know_has_lived_if_somebody_says_that_it_led_it(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    let past = async |name: &str| store.look(&component(name)).await.unwrap().past;
    let following = instance("c", "a");
    let id = directory(&*store).beat(&following, None).await.unwrap();
    assert_eq!(past("c").await, Past::NeverLived, "to compete is not to lead");
    let leading = Instance { leads: Some(41), ..following.clone() };
    directory(&*store).beat(&leading, id).await.unwrap();
    assert_eq!((past("c").await, past("other").await), (Past::Claimed(41), Past::NeverLived));
    directory(&*store).beat(&Instance { leads: Some(40), ..instance("c", "b") }, None).await.unwrap();
    assert_eq!(past("c").await, Past::Claimed(41));
    for (leads, highest) in [(9, 41), (100, 100), (41, 100)] {
        directory(&*store).beat(&Instance { leads: Some(leads), ..following.clone() }, id).await.unwrap();
        assert_eq!(past("c").await, Past::Claimed(highest));
    }
    // That it has stopped, or died, does not undo that.
    directory(&*store).beat(&following, id).await.unwrap();
    assert_eq!(past("c").await, Past::Claimed(100));
    // An insertion is bound to the history, and the history then knows.
    held(&*store, "c", "d").await;
    assert_eq!(past("c").await, Past::Lived(1));
}

pub async fn instances_that_ended_long_ago_can_be_pruned_and_the_others_stay(bench: Arc<dyn Bench>) {
    let store = bench.open();
    directory(&*store).beat(&instance("c", "a"), None).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(directory(&*store).prune_instances(hour).await.unwrap(), 0);
    let begun = alive(&*store).await[0].heartbeat;
    until("two seconds to pass there", async || alive_at(&*store, &[]).await.database_now > begun + 2_000)
        .await;
    let id = directory(&*store).beat(&instance("c", "b"), None).await.unwrap();
    assert_eq!(directory(&*store).prune_instances(Duration::from_secs(1)).await.unwrap(), 1);
    assert_eq!(alive(&*store).await.iter().map(|seen| Some(seen.id)).collect::<Vec<_>>(), [id]);
}
