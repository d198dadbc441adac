//! What every store does that keeps [`Epochs`](crate::store::Epochs).

#![expect(missing_docs, reason = "each name is the sentence that is tried")]

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Bench;
use super::support::{begin_epoch, component, epochs, held, insertion, life_id, record, row, take, term};
use crate::election::machine::Past;
use crate::election::{Life, LifeId, NewEpoch, Take};
use crate::store::Outcome;

pub async fn a_take_is_applied_in_its_own_epoch_only(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let before = insertion(&*store, "a", 1, 0).await;
    let begun = begin_epoch(&*store).await;
    assert_eq!(store.take(&before).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*store, "c").await, None);
    let after = insertion(&*store, "a", 1, 0).await;
    assert_eq!(after.life_id.epoch, begun);
    assert_eq!(store.take(&after).await.unwrap(), Outcome::Applied);
}

pub async fn an_epoch_begins_once_however_many_saw_the_change(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let seen = record(&*store).await;
    let new = NewEpoch { seen: Some(seen.clone()), at_least: 0, max_ttl: 30, deliberate: true };
    let mut racers = JoinSet::new();
    for _ in 0..8 {
        let (store, new) = (bench.open(), new.clone());
        racers.spawn(async move { epochs(&*store).begin_epoch(&new).await.unwrap() });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Applied).count(), 1);
    let now = record(&*store).await;
    assert!(now.epoch > seen.epoch && !now.settled && now.max_ttl == seen.max_ttl, "{now:?}");
}

pub async fn the_recorded_server_itself_begins_no_epoch_unless_asked_for(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let seen = record(&*store).await;
    let new = NewEpoch { seen: Some(seen.clone()), at_least: 0, max_ttl: 30, deliberate: false };
    assert_eq!(epochs(&*store).begin_epoch(&new).await.unwrap(), Outcome::Lost);
    let beyond = NewEpoch { at_least: 800_000_000, deliberate: true, ..new.clone() };
    assert_eq!(
        epochs(&*store).begin_epoch(&beyond).await.unwrap(),
        Outcome::Lost,
        "the database's date does not explain it"
    );
    assert_eq!(record(&*store).await, seen);
    let asked = NewEpoch { at_least: 20_000_000, deliberate: true, ..new };
    assert_eq!(epochs(&*store).begin_epoch(&asked).await.unwrap(), Outcome::Applied);
    let epoch = record(&*store).await.epoch;
    assert!((20_000_000..800_000_000).contains(&epoch), "{epoch}");
    assert_eq!(
        epochs(&*store).begin_epoch(&asked).await.unwrap(),
        Outcome::Lost,
        "it is no longer as it was seen"
    );
}

pub async fn settled_is_written_for_exactly_this_generation_and_cleared_with_the_next(bench: Arc<dyn Bench>) {
    let store = bench.open();
    begin_epoch(&*store).await;
    let now = life_id(&*store).await;
    for other in [
        LifeId { epoch: now.epoch - 1, ..now.clone() },
        LifeId { identity: "another".to_owned(), ..now.clone() },
    ] {
        assert_eq!(epochs(&*store).settle(&other).await.unwrap(), Outcome::Lost);
        assert!(!record(&*store).await.settled);
    }
    assert_eq!(epochs(&*store).settle(&now).await.unwrap(), Outcome::Applied);
    assert!(record(&*store).await.settled);
    begin_epoch(&*store).await;
    assert!(!record(&*store).await.settled);
    assert_eq!(epochs(&*store).settle(&now).await.unwrap(), Outcome::Lost, "an answer to the epoch before");
}

pub async fn the_history_has_a_line_for_each_term(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let past = async || store.look(&component("c")).await.unwrap().past;
    assert_eq!(past().await, Past::NeverLived);
    let a = held(&*store, "c", "a").await;
    assert_eq!(past().await, Past::Lived(1));
    store.renew(&a).await.unwrap();
    store.release(&a).await.unwrap();
    let free = row(&*store, "c").await;
    let life_id = life_id(&*store).await;
    let b = Take { life_id, ..take(&term("c", "b", 28_000_000_000_001), free.as_ref()) };
    assert_eq!(store.take(&b).await.unwrap(), Outcome::Applied);
    assert_eq!(past().await, Past::Lived(28_000_000_000_001));
    assert_eq!(store.look(&component("other")).await.unwrap().past, Past::NeverLived);
}

pub async fn of_many_insertions_one_is_applied_and_its_history_is_written_with_it(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let mut racers = JoinSet::new();
    for racer in 0..8 {
        let store = bench.open();
        // Versions of their own: nothing but the row decides.
        let take = insertion(&*store, &format!("r{racer}"), 1 + racer, 0).await;
        racers.spawn(async move { (store.take(&take).await.unwrap(), take.term) });
    }
    let outcomes = racers.join_all().await;
    let won: Vec<_> = outcomes.iter().filter(|(outcome, _)| *outcome == Outcome::Applied).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let looked = store.look(&component("c")).await.unwrap();
    assert!(looked.row.unwrap().is_term(&won[0].1));
    assert_eq!(looked.past, Past::Lived(won[0].1.version));
}

pub async fn an_insertion_looks_at_the_history(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let wrong = insertion(&*store, "a", 42, 41).await;
    assert_eq!(store.take(&wrong).await.unwrap(), Outcome::Lost, "there is no version 41");
    assert_eq!(row(&*store, "c").await, None);
    assert!(matches!(store.look(&component("c")).await.unwrap().life, Life::Recorded { .. }));
}

pub async fn a_late_release_is_applied_in_the_life_of_its_term_only(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    let within = life_id(&*store).await;
    let before = row(&*store, "c").await;
    let other = |holder: &str, version| term("c", holder, version);
    for (term, within) in [
        (a.clone(), LifeId::default()),
        (a.clone(), LifeId { identity: "another".to_owned(), ..within.clone() }),
        (a.clone(), LifeId { epoch: within.epoch + 1, ..within.clone() }),
        (other("b", a.version), within.clone()),
        (other("A", a.version), within.clone()),
        (other("a", a.version + 1), within.clone()),
    ] {
        assert_eq!(
            epochs(&*store).release_late(&term, &within).await.unwrap(),
            Outcome::Lost,
            "{term:?} {within:?}"
        );
        assert_eq!(row(&*store, "c").await, before);
    }
    assert_eq!(epochs(&*store).release_late(&a, &within).await.unwrap(), Outcome::Applied);
    let free = row(&*store, "c").await.unwrap();
    assert!(free.is_free() && free.renew_time == 0 && free.version == a.version, "{free:?}");
    assert_eq!(epochs(&*store).release_late(&a, &within).await.unwrap(), Outcome::Lost, "it was released");
    // Of a life that is over.
    let b = Take { life_id: within.clone(), ..take(&term("c", "b", 2), Some(&free)) };
    assert_eq!(store.take(&b).await.unwrap(), Outcome::Applied);
    begin_epoch(&*store).await;
    assert_eq!(epochs(&*store).release_late(&b.term, &within).await.unwrap(), Outcome::Lost);
    let now = life_id(&*store).await;
    assert_eq!(epochs(&*store).release_late(&b.term, &now).await.unwrap(), Outcome::Applied);
}
