//! What every [`LeaseStore`](crate::store::LeaseStore) does.

#![expect(missing_docs, reason = "each name is the sentence that is tried")]

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::{Faulty, component, held, life_id, row, take, taking, term, until};
use super::{Bench, SOON};
use crate::election::{Expected, LeaseRow};
use crate::participant::Participant;
use crate::store::{LeaseStore as _, Outcome};

pub async fn a_missing_row_is_seen_as_missing_with_the_databases_clock(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let looked = store.look(&component("c")).await.unwrap();
    assert_eq!((looked.row, looked.standing_ttl), (None, None));
    // 2025 to 2100, in ms.
    assert!((1_735_689_600_000..4_102_444_800_000).contains(&looked.database_now), "{}", looked.database_now);
}

pub async fn a_take_on_a_missing_row_begins_a_term_at_the_databases_time(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let before = store.look(&component("c")).await.unwrap().database_now;
    let term = term("c", "a", 5);
    assert_eq!(taking(&*store, &take(&term, None)).await.unwrap(), Outcome::Applied);
    let looked = store.look(&component("c")).await.unwrap();
    let LeaseRow { holder, lease_time, renew_time, version, ttl } = looked.row.unwrap();
    assert_eq!((holder.as_str(), version, ttl), ("a", 5, 7));
    assert_eq!(lease_time, renew_time);
    assert!((before..=looked.database_now).contains(&renew_time), "{before} {renew_time}");
}

pub async fn a_take_that_expects_no_row_is_lost_where_there_is_one(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    let before = row(&*store, "c").await;
    assert_eq!(taking(&*store, &take(&term("c", "b", 2), None)).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*store, "c").await, before);
}

pub async fn a_take_that_expects_a_row_is_lost_where_there_is_none(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let mut take = take(&term("c", "b", 2), None);
    take.expected = Expected::Row { version: 1, renew_time: 1 };
    assert_eq!(taking(&*store, &take).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*store, "c").await, None);
}

pub async fn a_take_is_lost_when_version_or_renew_time_is_not_as_seen(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await.unwrap();
    for expected in [
        Expected::Row { version: seen.version + 1, renew_time: seen.renew_time },
        Expected::Row { version: seen.version, renew_time: seen.renew_time - 1 },
    ] {
        let mut take = take(&term("c", "b", 2), None);
        take.expected = expected;
        assert_eq!(taking(&*store, &take).await.unwrap(), Outcome::Lost);
    }
    assert_eq!(row(&*store, "c").await, Some(seen));
}

pub async fn a_renewal_between_sight_and_take_makes_the_take_fail(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    let seize = take(&term("c", "b", 2), seen.as_ref());
    assert_eq!(taking(&*store, &seize).await.unwrap(), Outcome::Lost);
}

pub async fn a_row_that_is_as_seen_can_be_seized(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await.unwrap();
    assert_eq!(taking(&*store, &take(&term("c", "b", 2), Some(&seen))).await.unwrap(), Outcome::Applied);
    let now = row(&*store, "c").await.unwrap();
    assert_eq!((now.holder.as_str(), now.version), ("b", 2));
    assert!(now.renew_time > seen.renew_time && now.lease_time >= seen.lease_time);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Lost);
}

pub async fn of_many_takes_at_once_exactly_one_is_applied(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let mut seen = None;
    for round in 1..=5 {
        let mut racers = JoinSet::new();
        for racer in 0..8 {
            let store = bench.open();
            let take = take(&term("c", &format!("racer{racer}"), round), seen.as_ref());
            racers.spawn(async move { (taking(&*store, &take).await.unwrap(), take.term) });
        }
        let won: Vec<_> =
            racers.join_all().await.into_iter().filter(|(outcome, _)| *outcome == Outcome::Applied).collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        seen = row(&*store, "c").await;
        assert!(seen.as_ref().unwrap().is_term(&won[0].1), "round {round}: {won:?} but {seen:?}");
    }
}

pub async fn a_renewal_always_raises_renew_time_and_changes_nothing_else(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    let mut last = row(&*store, "c").await.unwrap();
    for _ in 0..20 {
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        let now = row(&*store, "c").await.unwrap();
        assert!(now.renew_time > last.renew_time, "{now:?} after {last:?}");
        assert_eq!(LeaseRow { renew_time: last.renew_time, ..now.clone() }, last);
        last = now;
    }
}

pub async fn only_holder_and_version_together_renew_or_release(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    let before = row(&*store, "c").await;
    for wrong in [term("c", "b", 1), term("c", "a", 2), term("c", "A", 1), term("other", "a", 1)] {
        assert_eq!(store.renew(&wrong).await.unwrap(), Outcome::Lost, "{wrong:?}");
        assert_eq!(store.release(&wrong).await.unwrap(), Outcome::Lost, "{wrong:?}");
    }
    assert_eq!(row(&*store, "c").await, before);
}

pub async fn a_release_empties_the_holder_and_keeps_row_and_version(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    let before = row(&*store, "c").await.unwrap();
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    let free = row(&*store, "c").await.unwrap();
    assert_eq!(free, LeaseRow { holder: String::new(), renew_time: 0, ..before });
    assert!(free.is_free());
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Lost);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Lost);
}

pub async fn a_released_row_can_be_taken_with_the_next_version(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    store.release(&a).await.unwrap();
    let free = row(&*store, "c").await;
    let b = term("c", "b", 2);
    assert_eq!(taking(&*store, &take(&b, free.as_ref())).await.unwrap(), Outcome::Applied);
    let now = row(&*store, "c").await.unwrap();
    assert!(now.is_term(&b) && now.renew_time > 0, "{now:?}");
    // Another participant that saw the free row comes too late.
    let late = take(&term("c", "x", 2), free.as_ref());
    assert_eq!(taking(&*store, &late).await.unwrap(), Outcome::Lost);
}

pub async fn names_are_compared_byte_by_byte(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let names = ["engine", "Engine", "ENGINE", "engine-", "éngine", "e\u{301}ngine", "%", "';--"];
    for name in names {
        held(&*store, name, &format!("holder-of-{name}")).await;
    }
    for name in names {
        let row = row(&*store, name).await.unwrap();
        assert_eq!(row.holder, format!("holder-of-{name}"));
    }
    if let Some(directory) = store.directory() {
        let asked = names.iter().map(|name| component(name)).collect();
        assert_eq!(directory.look_at(&asked, false).await.unwrap().rows.len(), names.len());
    }
}

pub async fn the_longest_names_and_largest_versions_are_kept_whole(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let (name, holder) = ("ü".repeat(253), "ö".repeat(255));
    let version = (1 << 53) - 1;
    let term = term(&name, &holder, version);
    assert_eq!(taking(&*store, &take(&term, None)).await.unwrap(), Outcome::Applied);
    assert!(row(&*store, &name).await.unwrap().is_term(&term));
    assert_eq!(store.renew(&term).await.unwrap(), Outcome::Applied);
}

pub async fn a_change_of_holder_wakes_who_listens(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let listener = bench.open();
    // A store may listen beside the connection for statements only.
    row(&*listener, "c").await;
    let mut hints = listener.hints();
    until("hints to flow", async || hints.flow()).await;
    hints.drain();
    let a = held(&*store, "c", "a").await;
    store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.expect("a hint of the first take");
    store.release(&a).await.unwrap();
    store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.expect("a hint of the release");
    let free = row(&*store, "c").await;
    taking(&*store, &take(&term("c", "b", 2), free.as_ref())).await.unwrap();
    store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.expect("a hint of the next take");
}

pub async fn a_call_that_is_dropped_leaves_the_store_usable(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    for after_us in [0, 50, 200, 1000, 5000] {
        let _ = timeout(Duration::from_micros(after_us), store.renew(&a)).await;
    }
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

pub async fn calls_at_once_on_one_store_all_get_their_own_answer(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let mut calls = JoinSet::new();
    for number in 0..20_i64 {
        let store = Arc::clone(&store);
        calls.spawn(async move {
            let name = format!("c{number}");
            let term = term(&name, "a", number + 1);
            assert_eq!(taking(&*store, &take(&term, None)).await.unwrap(), Outcome::Applied);
            assert!(row(&*store, &name).await.unwrap().is_term(&term));
        });
    }
    calls.join_all().await;
}

/// The state machine on top: an error of this kind ends nothing.
pub async fn a_retryable_error_delays_a_participant_and_costs_no_term(bench: Arc<dyn Bench>) {
    let sample = bench.retryable().await.expect("a sample of an error that is called retryable");
    assert_eq!(sample.kind(), "retryable", "{sample}");
    let store = bench.open();
    if let Some(epochs) = store.epochs() {
        // Nobody is waited for: nothing was led here before.
        epochs.settle(&life_id(&*store).await).await.unwrap();
    }
    let faulty = Arc::new(Faulty::new(store, sample));
    faulty.fails(&[("look", 1), ("take", 1)]);
    let participant = Participant::builder(faulty.clone(), component("c"))
        .name("a")
        // A server that stalls for some seconds must not cost the term.
        .ttl(Duration::from_secs(12))
        // It fails this test, and does not end the process with all the others.
        .on_overrun(|overrun| panic!("{overrun:?}"))
        .start()
        .unwrap();
    // Where lives cannot be told apart, the take of unknown outcome has to lapse first.
    let leadership = timeout(SOON * 2, participant.lead())
        .await
        .expect("a term in time")
        .expect("the loop goes on")
        .expect("a term");
    assert_eq!(faulty.still_fails(), 0, "no call was tried again");
    let before = row(&*faulty, "c").await.unwrap();
    faulty.fails(&[("renew", 1)]);
    until("a renewal after the one that failed", async || {
        faulty.still_fails() == 0 && row(&*faulty, "c").await.unwrap().renew_time > before.renew_time
    })
    .await;
    let now = row(&*faulty, "c").await.unwrap();
    assert!(participant.is_leader(), "{now:?}");
    assert_eq!((now.holder, now.version, now.lease_time), (before.holder, before.version, before.lease_time));
    drop(leadership);
    // Whether a release was applied is unknown, too, and it is tried again in the same life of the database only: a
    // store that cannot tell lives apart lets the term run out.
    let tells_lives_apart = faulty.epochs().is_some();
    if tells_lives_apart {
        faulty.fails(&[("release", 1)]);
    }
    participant.drain();
    timeout(SOON, participant.ended()).await.expect("an end in time").expect("it drained");
    assert!(row(&*faulty, "c").await.unwrap().is_free(), "a release that failed was not tried again");
}
