//! The behaviours that every store has. Each function is run on memory (the specification), on
//! SQLite, PostgreSQL (also behind PgBouncer, which pools transactions), MariaDB and MySQL; the macro at the end makes a test of each pair.

use std::time::Duration;

use component_lease::election::{Expected, LeaseRow};
use component_lease::store::{Outcome, StandingIntent};
use component_lease_testkit::mysql::Kind;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stores::{Bench, SOON, component, held, look_at, row, take, taking, term};

async fn a_missing_row_is_seen_as_missing_with_the_databases_clock(bench: &Bench) {
    let looked = bench.store.look(&component("c")).await.unwrap();
    assert_eq!((looked.row, looked.standing_ttl), (None, None));
    // 2025 to 2100, in ms.
    assert!((1_735_689_600_000..4_102_444_800_000).contains(&looked.database_now), "{}", looked.database_now);
}

async fn a_take_on_a_missing_row_begins_a_term_at_the_databases_time(bench: &Bench) {
    let before = bench.store.look(&component("c")).await.unwrap().database_now;
    let term = term("c", "a", 5);
    assert_eq!(taking(&*bench.store, &take(&term, None)).await.unwrap(), Outcome::Applied);
    let looked = bench.store.look(&component("c")).await.unwrap();
    let LeaseRow { holder, lease_time, renew_time, version, ttl } = looked.row.unwrap();
    assert_eq!((holder.as_str(), version, ttl), ("a", 5, 7));
    assert_eq!(lease_time, renew_time);
    assert!((before..=looked.database_now).contains(&renew_time), "{before} {renew_time}");
}

async fn a_take_that_expects_no_row_is_lost_where_there_is_one(bench: &Bench) {
    held(&*bench.store, "c", "a").await;
    let before = row(&*bench.store, "c").await;
    assert_eq!(taking(&*bench.store, &take(&term("c", "b", 2), None)).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*bench.store, "c").await, before);
}

async fn a_take_that_expects_a_row_is_lost_where_there_is_none(bench: &Bench) {
    let mut take = take(&term("c", "b", 2), None);
    take.expected = Expected::Row { version: 1, renew_time: 1 };
    assert_eq!(taking(&*bench.store, &take).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*bench.store, "c").await, None);
}

async fn a_take_is_lost_when_version_or_renew_time_is_not_as_seen(bench: &Bench) {
    held(&*bench.store, "c", "a").await;
    let seen = row(&*bench.store, "c").await.unwrap();
    for expected in [
        Expected::Row { version: seen.version + 1, renew_time: seen.renew_time },
        Expected::Row { version: seen.version, renew_time: seen.renew_time - 1 },
    ] {
        let mut take = take(&term("c", "b", 2), None);
        take.expected = expected;
        assert_eq!(taking(&*bench.store, &take).await.unwrap(), Outcome::Lost);
    }
    assert_eq!(row(&*bench.store, "c").await, Some(seen));
}

async fn a_renewal_between_sight_and_take_makes_the_take_fail(bench: &Bench) {
    let a = held(&*bench.store, "c", "a").await;
    let seen = row(&*bench.store, "c").await;
    assert_eq!(bench.store.renew(&a).await.unwrap(), Outcome::Applied);
    let seize = take(&term("c", "b", 2), seen.as_ref());
    assert_eq!(taking(&*bench.store, &seize).await.unwrap(), Outcome::Lost);
}

async fn a_row_that_is_as_seen_can_be_seized(bench: &Bench) {
    let a = held(&*bench.store, "c", "a").await;
    let seen = row(&*bench.store, "c").await.unwrap();
    assert_eq!(
        taking(&*bench.store, &take(&term("c", "b", 2), Some(&seen))).await.unwrap(),
        Outcome::Applied
    );
    let now = row(&*bench.store, "c").await.unwrap();
    assert_eq!((now.holder.as_str(), now.version), ("b", 2));
    assert!(now.renew_time > seen.renew_time && now.lease_time >= seen.lease_time);
    assert_eq!(bench.store.renew(&a).await.unwrap(), Outcome::Lost);
}

async fn of_many_takes_at_once_exactly_one_is_applied(bench: &Bench) {
    let mut seen = None;
    for round in 1..=5 {
        let mut racers = JoinSet::new();
        for racer in 0..8 {
            let store = bench.another();
            let take = take(&term("c", &format!("racer{racer}"), round), seen.as_ref());
            racers.spawn(async move { (taking(&*store, &take).await.unwrap(), take.term) });
        }
        let won: Vec<_> =
            racers.join_all().await.into_iter().filter(|(outcome, _)| *outcome == Outcome::Applied).collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        seen = row(&*bench.store, "c").await;
        assert!(seen.as_ref().unwrap().is_term(&won[0].1), "round {round}: {won:?} but {seen:?}");
    }
}

async fn a_renewal_always_raises_renew_time_and_changes_nothing_else(bench: &Bench) {
    let a = held(&*bench.store, "c", "a").await;
    let mut last = row(&*bench.store, "c").await.unwrap();
    for _ in 0..20 {
        assert_eq!(bench.store.renew(&a).await.unwrap(), Outcome::Applied);
        let now = row(&*bench.store, "c").await.unwrap();
        assert!(now.renew_time > last.renew_time, "{now:?} after {last:?}");
        assert_eq!(LeaseRow { renew_time: last.renew_time, ..now.clone() }, last);
        last = now;
    }
}

async fn only_holder_and_version_together_renew_or_release(bench: &Bench) {
    held(&*bench.store, "c", "a").await;
    let before = row(&*bench.store, "c").await;
    for wrong in [term("c", "b", 1), term("c", "a", 2), term("c", "A", 1), term("other", "a", 1)] {
        assert_eq!(bench.store.renew(&wrong).await.unwrap(), Outcome::Lost, "{wrong:?}");
        assert_eq!(bench.store.release(&wrong).await.unwrap(), Outcome::Lost, "{wrong:?}");
    }
    assert_eq!(row(&*bench.store, "c").await, before);
}

async fn a_release_empties_the_holder_and_keeps_row_and_version(bench: &Bench) {
    let a = held(&*bench.store, "c", "a").await;
    let before = row(&*bench.store, "c").await.unwrap();
    assert_eq!(bench.store.release(&a).await.unwrap(), Outcome::Applied);
    let free = row(&*bench.store, "c").await.unwrap();
    assert_eq!(free, LeaseRow { holder: String::new(), renew_time: 0, ..before });
    assert!(free.is_free());
    assert_eq!(bench.store.release(&a).await.unwrap(), Outcome::Lost);
    assert_eq!(bench.store.renew(&a).await.unwrap(), Outcome::Lost);
}

async fn a_released_row_can_be_taken_with_the_next_version(bench: &Bench) {
    let a = held(&*bench.store, "c", "a").await;
    bench.store.release(&a).await.unwrap();
    let free = row(&*bench.store, "c").await;
    let b = term("c", "b", 2);
    assert_eq!(taking(&*bench.store, &take(&b, free.as_ref())).await.unwrap(), Outcome::Applied);
    let now = row(&*bench.store, "c").await.unwrap();
    assert!(now.is_term(&b) && now.renew_time > 0, "{now:?}");
    // Whoever saw the free row too comes too late.
    let late = take(&term("c", "x", 2), free.as_ref());
    assert_eq!(taking(&*bench.store, &late).await.unwrap(), Outcome::Lost);
}

async fn names_are_compared_byte_by_byte(bench: &Bench) {
    let names = ["engine", "Engine", "ENGINE", "engine-", "éngine", "e\u{301}ngine", "%", "';--"];
    for name in names {
        held(&*bench.store, name, &format!("holder-of-{name}")).await;
    }
    for name in names {
        let row = row(&*bench.store, name).await.unwrap();
        assert_eq!(row.holder, format!("holder-of-{name}"));
    }
    assert_eq!(look_at(&*bench.store, &names).await.rows.len(), names.len());
}

async fn the_longest_names_and_largest_versions_are_kept_whole(bench: &Bench) {
    let (name, holder) = ("ü".repeat(253), "ö".repeat(255));
    let version = (1 << 53) - 1;
    let term = term(&name, &holder, version);
    assert_eq!(taking(&*bench.store, &take(&term, None)).await.unwrap(), Outcome::Applied);
    assert!(row(&*bench.store, &name).await.unwrap().is_term(&term));
    assert_eq!(bench.store.renew(&term).await.unwrap(), Outcome::Applied);
}

async fn a_standing_ttl_is_seen_by_every_look_until_it_is_cleared(bench: &Bench) {
    let (store, c) = (&bench.store, component("c"));
    let seen = async || store.look(&c).await.unwrap().standing_ttl;
    store.set_intent(&c, StandingIntent { ttl: 15 }).await.unwrap();
    assert_eq!(seen().await, Some(15), "before there is a row");
    held(&**store, "c", "a").await;
    store.set_intent(&c, StandingIntent { ttl: 20 }).await.unwrap();
    assert_eq!(seen().await, Some(20));
    assert_eq!(store.look(&component("other")).await.unwrap().standing_ttl, None);
    store.clear_intent(&c).await.unwrap();
    assert_eq!(seen().await, None);
    store.clear_intent(&c).await.unwrap();
    store.set_intent(&c, StandingIntent { ttl: 9 }).await.unwrap();
    assert_eq!(seen().await, Some(9), "after it was cleared");
}

async fn a_look_shows_rows_and_intents_of_those_it_asks_for_and_of_nobody_else(bench: &Bench) {
    let everybody = ["row-only", "both", "cleared", "intent-only", "gone", "never-there"];
    let empty = look_at(&*bench.store, &everybody).await;
    assert!(empty.rows.is_empty() && empty.intents.is_empty() && empty.database_now > 0, "{empty:?}");
    for name in ["row-only", "both", "cleared"] {
        held(&*bench.store, name, "a").await;
    }
    for (name, ttl) in [("intent-only", 11), ("both", 12), ("cleared", 13), ("gone", 14)] {
        bench.store.set_intent(&component(name), StandingIntent { ttl }).await.unwrap();
    }
    for name in ["cleared", "gone"] {
        bench.store.clear_intent(&component(name)).await.unwrap();
    }
    let all = look_at(&*bench.another(), &everybody).await;
    assert_eq!(all.rows.keys().collect::<Vec<_>>(), ["both", "cleared", "row-only"]);
    let intents: Vec<_> = all.intents.iter().map(|(name, intent)| (name.as_str(), intent.ttl)).collect();
    assert_eq!(intents, [("both", 12), ("intent-only", 11)]);
    assert_eq!(all.rows.get("both"), row(&*bench.store, "both").await.as_ref());
    let some = look_at(&*bench.store, &["row-only", "intent-only", "Row-Only", "row-only2", "'\"\\[]"]).await;
    assert_eq!(some.rows.into_keys().collect::<Vec<_>>(), ["row-only"]);
    assert_eq!(some.intents.into_keys().collect::<Vec<_>>(), ["intent-only"]);
    let nobody = look_at(&*bench.store, &[]).await;
    assert!(nobody.rows.is_empty() && nobody.intents.is_empty() && nobody.database_now > 0, "{nobody:?}");
    assert_eq!(nobody.life, all.life);
}

async fn ten_thousand_components_are_looked_at_by_one_call(bench: &Bench) {
    let there = ["engine/00042", "ü/09999", "q\"'\\"];
    for name in there {
        held(&*bench.store, name, "a").await;
    }
    let names: Vec<String> =
        (0..10_000).flat_map(|n| [format!("engine/{n:05}"), format!("ü/{n:05}")]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).step_by(2).chain(there).collect();
    for _ in 0..2 {
        let seen = timeout(SOON, look_at(&*bench.store, &names)).await.expect("an answer");
        assert_eq!(seen.rows.into_keys().collect::<Vec<_>>(), ["engine/00042", "q\"'\\", "ü/09999"]);
    }
}

async fn a_change_of_holder_wakes_who_listens(bench: &Bench) {
    let listener = bench.another();
    // Nothing listens but beside the connection for statements.
    look_at(&*listener, &[]).await;
    let mut hints = listener.hints();
    if !bench.is_memory() {
        // Says that it listens from now on.
        timeout(SOON, hints.next()).await.expect("a first hint");
    }
    let a = held(&*bench.store, "c", "a").await;
    bench.store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.expect("a hint of the first take");
    bench.store.release(&a).await.unwrap();
    bench.store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.expect("a hint of the release");
    let free = row(&*bench.store, "c").await;
    taking(&*bench.store, &take(&term("c", "b", 2), free.as_ref())).await.unwrap();
    bench.store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.expect("a hint of the next take");
}

async fn a_call_that_is_dropped_leaves_the_store_usable(bench: &Bench) {
    let a = held(&*bench.store, "c", "a").await;
    for after_us in [0, 50, 200, 1000, 5000] {
        let _ = timeout(Duration::from_micros(after_us), bench.store.renew(&a)).await;
    }
    assert_eq!(bench.store.renew(&a).await.unwrap(), Outcome::Applied);
}

async fn calls_at_once_on_one_store_all_get_their_own_answer(bench: &Bench) {
    let mut calls = JoinSet::new();
    for number in 0..20_i64 {
        let store = bench.store.clone();
        calls.spawn(async move {
            let name = format!("c{number}");
            let term = term(&name, "a", number + 1);
            assert_eq!(taking(&*store, &take(&term, None)).await.unwrap(), Outcome::Applied);
            assert!(row(&*store, &name).await.unwrap().is_term(&term));
        });
    }
    calls.join_all().await;
}

macro_rules! behaviours {
    (everywhere: $($name:ident),* $(,)?; where_changes_are_notified: $($notified:ident),* $(,)?) => {
        mod memory {
            use super::Bench;
            $(#[tokio::test] async fn $name() { super::$name(&Bench::memory()).await; })*
            $(#[tokio::test] async fn $notified() { super::$notified(&Bench::memory()).await; })*
        }
        mod sqlite {
            use super::Bench;
            $(#[tokio::test] async fn $name() { super::$name(&Bench::sqlite().await).await; })*
            $(#[tokio::test] async fn $notified() { super::$notified(&Bench::sqlite().await).await; })*
        }
        mod postgres {
            use super::Bench;
            $(#[tokio::test] async fn $name() { super::$name(&Bench::postgres().await).await; })*
            $(#[tokio::test] async fn $notified() { super::$notified(&Bench::postgres().await).await; })*
        }
        mod postgres_18 {
            use super::Bench;
            $(#[tokio::test] async fn $name() { super::$name(&Bench::postgres_18().await).await; })*
            $(#[tokio::test] async fn $notified() { super::$notified(&Bench::postgres_18().await).await; })*
        }
        mod pgbouncer {
            use super::Bench;
            $(#[tokio::test] async fn $name() { super::$name(&Bench::pgbouncer().await).await; })*
        }
        mod mariadb_10_11 {
            use super::{Bench, Kind};
            $(#[tokio::test] async fn $name() { super::$name(&Bench::mysql(Kind::MariaDb10_11).await).await; })*
        }
        mod mariadb_11_8 {
            use super::{Bench, Kind};
            $(#[tokio::test] async fn $name() { super::$name(&Bench::mysql(Kind::MariaDb11_8).await).await; })*
        }
        mod mysql_9 {
            use super::{Bench, Kind};
            $(#[tokio::test] async fn $name() { super::$name(&Bench::mysql(Kind::MySql9).await).await; })*
        }
    };
}

behaviours!(
    everywhere:
    a_missing_row_is_seen_as_missing_with_the_databases_clock,
    a_take_on_a_missing_row_begins_a_term_at_the_databases_time,
    a_take_that_expects_no_row_is_lost_where_there_is_one,
    a_take_that_expects_a_row_is_lost_where_there_is_none,
    a_take_is_lost_when_version_or_renew_time_is_not_as_seen,
    a_renewal_between_sight_and_take_makes_the_take_fail,
    a_row_that_is_as_seen_can_be_seized,
    of_many_takes_at_once_exactly_one_is_applied,
    a_renewal_always_raises_renew_time_and_changes_nothing_else,
    only_holder_and_version_together_renew_or_release,
    a_release_empties_the_holder_and_keeps_row_and_version,
    a_released_row_can_be_taken_with_the_next_version,
    names_are_compared_byte_by_byte,
    the_longest_names_and_largest_versions_are_kept_whole,
    a_standing_ttl_is_seen_by_every_look_until_it_is_cleared,
    a_look_shows_rows_and_intents_of_those_it_asks_for_and_of_nobody_else,
    ten_thousand_components_are_looked_at_by_one_call,
    a_call_that_is_dropped_leaves_the_store_usable,
    calls_at_once_on_one_store_all_get_their_own_answer,
    ;
    where_changes_are_notified:
    a_change_of_holder_wakes_who_listens,
);
