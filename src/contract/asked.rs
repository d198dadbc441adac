//! What every [`Directory`] does with what operators ask.

#![expect(missing_docs, reason = "each name is the sentence that is tried")]

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Bench;
use super::support::{component, directory, held, life_id, look_at, row, take, taking, term, until};
use crate::election::{HolderId, Request, Verb};
use crate::participant::Participant;
use crate::store::{Asked, LeaseStore, Outcome, Posted, Said, StandingIntent};

fn said() -> Said {
    Said::new("ada@example.org", "the node is drained \u{2014} \"at once\"; 'now'").unwrap()
}

fn request(id: &str, version: i64) -> Request {
    let target = Some(HolderId::new("b_1_00000001").unwrap());
    Request { id: id.to_owned(), verb: Verb::Switchover, version, target, away: Duration::from_secs(60) }
}

/// By somebody who saw this request there.
async fn ask(store: &dyn LeaseStore, name: &str, request: &Request, replaces: Option<&str>) -> Outcome {
    directory(store).ask(&component(name), request, &said(), replaces).await.unwrap()
}

async fn seen(store: &dyn LeaseStore, name: &str) -> Option<Request> {
    store.look(&component(name)).await.unwrap().request
}

pub async fn a_request_is_seen_by_every_look_until_it_is_taken_back(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    held(&*store, "other", "a").await;
    assert_eq!(seen(&*store, "c").await, None);
    let wanted = request("1", 1);
    assert_eq!(ask(&*store, "c", &wanted, None).await, Outcome::Applied);
    assert_eq!(seen(&*bench.open(), "c").await, Some(wanted.clone()));
    assert_eq!(seen(&*store, "other").await, None);
    let withdraw = async |id| directory(&*store).withdraw(&component("c"), id).await.unwrap();
    assert_eq!(withdraw("2").await, Outcome::Lost);
    assert_eq!(seen(&*store, "c").await, Some(wanted));
    assert_eq!(withdraw("1").await, Outcome::Applied);
    assert_eq!(seen(&*store, "c").await, None);
    assert_eq!(withdraw("1").await, Outcome::Lost);
    assert_eq!(
        ask(&*store, "c", &request("3", 1), None).await,
        Outcome::Applied,
        "after the first was withdrawn"
    );
}

pub async fn a_request_is_written_in_its_own_term_only(bench: Arc<dyn Bench>) {
    let store = bench.open();
    assert_eq!(ask(&*store, "c", &request("1", 1), None).await, Outcome::Lost, "there is no row");
    held(&*store, "c", "a").await;
    for version in [0, 2, i64::MAX] {
        assert_eq!(ask(&*store, "c", &request("1", version), None).await, Outcome::Lost);
    }
    assert_eq!(ask(&*store, "other", &request("1", 1), None).await, Outcome::Lost);
    assert_eq!(seen(&*store, "c").await, None);
    assert_eq!(ask(&*store, "c", &request("1", 1), None).await, Outcome::Applied);
    // It stays when the term ends, as what was asked last. Its version says that it is void.
    store.release(&term("c", "a", 1)).await.unwrap();
    let free = row(&*store, "c").await;
    assert_eq!(taking(&*store, &take(&term("c", "b", 2), free.as_ref())).await.unwrap(), Outcome::Applied);
    assert_eq!(seen(&*store, "c").await.map(|request| request.version), Some(1));
}

pub async fn of_two_operators_at_once_one_is_heard(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    let mut all = JoinSet::new();
    for n in 0..8 {
        let (store, request) = (bench.open(), request(&format!("r{n}"), 1));
        all.spawn(async move {
            // A database may give up one of two that wait for each other: that one asks again.
            loop {
                match directory(&*store).ask(&component("c"), &request, &said(), None).await {
                    Ok(outcome) => return (request.id, outcome),
                    Err(error) => assert_eq!(error.kind(), "retryable", "{error}"),
                }
            }
        });
    }
    let heard: Vec<String> = all
        .join_all()
        .await
        .into_iter()
        .filter(|(_, outcome)| *outcome == Outcome::Applied)
        .map(|(id, _)| id)
        .collect();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(seen(&*store, "c").await.map(|request| request.id), heard.first().cloned());
    let (first, second) = (heard.first().map(String::as_str), request("next", 1));
    assert_eq!(ask(&*store, "c", &second, Some("somebody else's")).await, Outcome::Lost);
    assert_eq!(ask(&*store, "c", &second, first).await, Outcome::Applied);
    assert_eq!(ask(&*store, "c", &request("late", 1), first).await, Outcome::Lost);
}

pub async fn a_request_carries_all_that_was_asked(bench: Arc<dyn Bench>) {
    let store = bench.open();
    held(&*store, "c", "a").await;
    let names = ["c", "other", "paused"];
    assert!(look_at(&*store, &names).await.asked.is_empty());
    let mut replaces: Option<String> = None;
    for (n, verb) in Verb::ALL.into_iter().enumerate() {
        for target in [None, Some(HolderId::new("\u{fc}".repeat(255)).unwrap())] {
            let id = format!("{}-{}", "x".repeat(60), n * 2 + usize::from(target.is_some()));
            let wanted = Request { verb, target, away: Duration::from_secs(3600), ..request(&id, 1) };
            let before = look_at(&*store, &[]).await.database_now;
            assert_eq!(ask(&*store, "c", &wanted, replaces.as_deref()).await, Outcome::Applied);
            assert_eq!(seen(&*store, "c").await, Some(wanted.clone()));
            let mut snapshot = look_at(&*store, &names).await;
            let posted = snapshot.asked.get_mut("c").and_then(|asked| asked.request.take()).unwrap();
            assert!(posted.at >= before && posted.at <= snapshot.database_now, "{posted:?}");
            assert_eq!(posted, Posted { request: wanted, said: said(), at: posted.at });
            replaces = Some(id);
        }
    }
    let everything = Said::new("\u{fc}".repeat(253), "\u{fc}".repeat(1024)).unwrap();
    directory(&*store).pause(&component("paused"), &everything, None).await.unwrap();
    let snapshot = look_at(&*store, &names).await;
    assert_eq!(snapshot.asked.keys().collect::<Vec<_>>(), ["c", "paused"]);
    assert_eq!(
        snapshot.asked.get("paused"),
        Some(&Asked { paused: Some(everything), request: None }),
        "it never had a row"
    );
}

pub async fn while_paused_no_row_is_taken_and_the_leader_goes_on(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let (c, other) = (component("c"), component("other"));
    let directory = directory(&*store);
    assert_eq!(directory.pause(&c, &said(), None).await.unwrap(), Outcome::Applied);
    assert!(store.look(&c).await.unwrap().paused && !store.look(&other).await.unwrap().paused);
    let first = take(&term("c", "a", 1), None);
    assert_eq!(taking(&*store, &first).await.unwrap(), Outcome::Lost, "a missing row");
    assert_eq!(row(&*store, "c").await, None);
    held(&*store, "other", "a").await;
    assert_eq!(directory.resume(&c, None).await.unwrap(), Outcome::Applied);
    assert_eq!(directory.resume(&c, None).await.unwrap(), Outcome::Lost, "it is not paused any more");
    assert!(!store.look(&c).await.unwrap().paused);
    assert_eq!(taking(&*store, &first).await.unwrap(), Outcome::Applied);

    assert_eq!(directory.pause(&c, &said(), None).await.unwrap(), Outcome::Applied);
    let led = term("c", "a", 1);
    assert_eq!(store.renew(&led).await.unwrap(), Outcome::Applied, "the leader goes on");
    let seen = row(&*store, "c").await;
    let seize = take(&term("c", "b", 2), seen.as_ref());
    assert_eq!(taking(&*store, &seize).await.unwrap(), Outcome::Lost, "a lapsed row stays nobody's");
    assert_eq!(store.release(&led).await.unwrap(), Outcome::Applied);
    let free = row(&*store, "c").await;
    let again = take(&term("c", "b", 2), free.as_ref());
    assert_eq!(taking(&*store, &again).await.unwrap(), Outcome::Lost, "so does a released one");
    directory.pause(&c, &Said::new("bo", "").unwrap(), Some(said().by())).await.unwrap();
    let paused = look_at(&*store, &["c"]).await.asked.remove("c").and_then(|asked| asked.paused);
    assert_eq!(paused, Some(Said::new("bo", "").unwrap()), "who said it last");
    directory.resume(&c, None).await.unwrap();
    assert_eq!(taking(&*store, &again).await.unwrap(), Outcome::Applied);
}

pub async fn a_pause_is_made_and_ended_only_in_place_of_the_one_that_was_seen(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let c = component("c");
    let (ada, bo) = (Said::new("ada", "drill").unwrap(), Said::new("bo", "backup").unwrap());
    let directory = directory(&*store);
    let paused = async || {
        let seen = look_at(&*store, &["c"]).await.asked.remove("c").and_then(|asked| asked.paused);
        seen.map(|said| (said.by().to_owned(), said.reason().to_owned()))
    };
    let is = |said: &Said| Some((said.by().to_owned(), said.reason().to_owned()));
    assert_eq!(directory.pause(&c, &bo, Some("ada")).await.unwrap(), Outcome::Lost, "nobody has paused it");
    assert_eq!(directory.resume(&c, Some("ada")).await.unwrap(), Outcome::Lost);
    assert_eq!(paused().await, None);
    assert_eq!(directory.pause(&c, &ada, None).await.unwrap(), Outcome::Applied);
    // Somebody who saw none, and somebody who saw another one.
    for over in [None, Some("bo"), Some("")] {
        assert_eq!(directory.pause(&c, &bo, over).await.unwrap(), Outcome::Lost, "{over:?}");
    }
    assert_eq!(directory.resume(&c, Some("bo")).await.unwrap(), Outcome::Lost, "it is not that one's to end");
    assert_eq!(paused().await, is(&ada));
    for _ in 0..2 {
        assert_eq!(directory.pause(&c, &ada, Some("ada")).await.unwrap(), Outcome::Applied, "the same again");
    }
    assert_eq!(directory.pause(&c, &bo, Some("ada")).await.unwrap(), Outcome::Applied);
    assert_eq!(paused().await, is(&bo));
    assert_eq!(directory.resume(&c, Some("ada")).await.unwrap(), Outcome::Lost, "it has changed hands");
    assert_eq!(directory.resume(&c, Some("bo")).await.unwrap(), Outcome::Applied);
    assert_eq!(paused().await, None);
    // After an end, as at the very beginning.
    assert_eq!(directory.pause(&c, &bo, None).await.unwrap(), Outcome::Applied);
    assert_eq!(directory.resume(&c, None).await.unwrap(), Outcome::Applied, "of anybody");
    // Of several at once, one is heard.
    let mut all = JoinSet::new();
    for n in 0..8 {
        let (store, c) = (bench.open(), c.clone());
        all.spawn(async move {
            let said = Said::new(format!("r{n}"), "").unwrap();
            loop {
                match super::support::directory(&*store).pause(&c, &said, None).await {
                    Ok(outcome) => return (said, outcome),
                    Err(error) => assert_eq!(error.kind(), "retryable", "{error}"),
                }
            }
        });
    }
    let all = all.join_all().await;
    let heard: Vec<&Said> = all.iter().filter(|(_, how)| *how == Outcome::Applied).map(|(s, _)| s).collect();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(paused().await, is(heard[0]));
}

pub async fn requests_pauses_and_ttls_do_not_touch_each_other(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let c = component("c");
    held(&*store, "c", "a").await;
    let all = async || {
        let looked = store.look(&c).await.unwrap();
        (looked.standing_ttl, looked.paused, looked.request.map(|request| request.id))
    };
    let directory = directory(&*store);
    directory.set_intent(&c, StandingIntent::ttl(9)).await.unwrap();
    ask(&*store, "c", &request("1", 1), None).await;
    assert_eq!(directory.pause(&c, &said(), None).await.unwrap(), Outcome::Applied);
    assert_eq!(all().await, (Some(9), true, Some("1".to_owned())));
    directory.clear_intent(&c).await.unwrap();
    assert_eq!(all().await, (None, true, Some("1".to_owned())));
    directory.resume(&c, None).await.unwrap();
    assert_eq!(all().await, (None, false, Some("1".to_owned())));
    directory.set_intent(&c, StandingIntent::ttl(8)).await.unwrap();
    directory.withdraw(&c, "1").await.unwrap();
    assert_eq!(all().await, (Some(8), false, None));
}

pub async fn a_leader_makes_way_for_the_target_of_a_request(bench: Arc<dyn Bench>) {
    let c = component("c");
    let settled = bench.open();
    if let Some(epochs) = settled.epochs() {
        // Nobody is waited for: nothing was led here before.
        epochs.settle(&life_id(&*settled).await).await.unwrap();
    }
    let begin = |name: &str| {
        // Long enough for the target's head start to be no accident.
        let ttl = Duration::from_secs(12);
        Participant::builder(bench.open(), c.clone()).name(name).ttl(ttl).start().unwrap()
    };
    let first = begin("a");
    until("the first to lead", async || first.is_leader()).await;
    let others = [begin("b"), begin("z")];
    let follows = |other: &Participant| other.watch().borrow().row.is_some();
    until("the others to follow", async || others.iter().all(follows)).await;
    let store = bench.open();
    let version = row(&*store, "c").await.unwrap().version;
    let asks = Request { target: Some(others[1].holder().clone()), ..request("1", version) };
    assert_eq!(ask(&*store, "c", &asks, None).await, Outcome::Applied);
    store.notify(&c).await.unwrap();
    until("the target to lead", async || others[1].is_leader()).await;
    assert!(!first.is_leader() && !others[0].is_leader());
    assert_eq!(row(&*store, "c").await.unwrap().version, version + 1, "at the first take");
    for participant in [first].into_iter().chain(others) {
        participant.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}
