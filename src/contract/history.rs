//! What every [`Directory`] tells of what has been.

#![expect(missing_docs, reason = "each name is the sentence that is tried")]

use std::sync::Arc;
use std::time::Duration;

use super::Bench;
use super::support::{component, directory, held, look_at, row, take, taking, term, until};
use crate::election::{HolderId, Request, Verb};
use crate::store::{End, EndReason, Ending, LeaseStore, Outcome, Retention, Said, Term, When};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// So many terms of a component, one after the other.
async fn led(store: &dyn LeaseStore, name: &str, terms: i64) {
    for version in 1..=terms {
        let next = term(name, &format!("h{version}"), version);
        let seen = row(store, name).await;
        assert_eq!(taking(store, &take(&next, seen.as_ref())).await.unwrap(), Outcome::Applied);
    }
}

async fn history(store: &dyn LeaseStore, name: &str) -> Vec<Term> {
    directory(store).history(&component(name), None, 1_000).await.unwrap()
}

async fn versions(store: &dyn LeaseStore, name: &str) -> Vec<i64> {
    history(store, name).await.iter().map(|term| term.version).collect()
}

async fn end(store: &dyn LeaseStore, version: i64, ending: Ending) -> Outcome {
    directory(store).end_term(&component("c"), version, &ending).await.unwrap()
}

async fn prune(store: &dyn LeaseStore, newest: u32, age: Duration) -> u64 {
    directory(store).prune_history(&component("c"), Retention { newest, age }).await.unwrap()
}

pub async fn components_are_listed_by_their_rows_in_order_and_page_by_page(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let list = async |after, limit| directory(&*store).components(after, limit).await.unwrap();
    assert_eq!(list(None, 10).await, Vec::<String>::new());
    for name in ["b", "a/2", "\u{fc}", "B", "a/10"] {
        held(&*store, name, "x").await;
    }
    let all = ["B", "a/10", "a/2", "b", "\u{fc}"];
    assert_eq!(list(None, 10).await, all);
    assert_eq!(list(None, 2).await, all[..2]);
    assert_eq!(list(Some("a/10"), 2).await, all[2..4]);
    assert_eq!(list(Some("a/1"), 1).await, all[1..2], "from where no component is");
    assert_eq!(list(Some("\u{fc}"), 2).await, Vec::<String>::new());
}

pub async fn terms_are_told_newest_first_and_page_by_page(bench: Arc<dyn Bench>) {
    let store = bench.open();
    assert_eq!(history(&*store, "c").await, []);
    led(&*store, "c", 5).await;
    held(&*store, "other", "x").await;
    let all = history(&*bench.open(), "c").await;
    assert_eq!(all.iter().map(|term| term.version).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    let newest = row(&*store, "c").await.unwrap();
    let told = Term { version: 5, holder: "h5".to_owned(), lease_time: newest.lease_time, ttl: 7, end: None };
    assert_eq!(all[0], told);
    let page =
        async |before, limit| directory(&*store).history(&component("c"), before, limit).await.unwrap();
    assert_eq!(page(None, 2).await, all[..2]);
    assert_eq!(page(Some(4), 2).await, all[2..4]);
    assert_eq!(page(Some(1), 2).await, []);
    assert_eq!(page(Some(i64::MIN), 2).await, []);
}

pub async fn the_end_of_a_term_is_written_once_and_nothing_else_of_its_line(bench: Arc<dyn Bench>) {
    let store = bench.open();
    led(&*store, "c", 2).await;
    let before = history(&*store, "c").await;
    assert_eq!(
        end(&*store, 3, Ending::now(EndReason::Released)).await,
        Outcome::Lost,
        "there is no such term"
    );
    let seen = Ending { at: When::At(before[1].lease_time + 5), ..Ending::now(EndReason::Expired) };
    assert_eq!(end(&*store, 1, seen).await, Outcome::Applied);
    assert_eq!(end(&*store, 1, Ending::now(EndReason::Unhealthy)).await, Outcome::Lost);
    let ended = End { at: before[1].lease_time + 5, reason: EndReason::Expired, said: None };
    assert_eq!(history(&*store, "c").await[1], Term { end: Some(ended), ..before[1].clone() });
    // Now, of the database's clock; and never before it began.
    let at = look_at(&*store, &[]).await.database_now;
    assert_eq!(end(&*store, 2, Ending::now(EndReason::DatabaseChanged)).await, Outcome::Applied);
    let written = history(&*store, "c").await[0].end.clone().unwrap();
    assert!(written.at >= at && written.at <= look_at(&*store, &[]).await.database_now, "{written:?}");
    led(&*store, "other", 1).await;
    let early = Ending { at: When::At(1), ..Ending::now(EndReason::Foreign) };
    directory(&*store).end_term(&component("other"), 1, &early).await.unwrap();
    let other = history(&*store, "other").await.remove(0);
    assert_eq!(other.end.unwrap().at, other.lease_time);
    // So long ago as was counted by who tells it.
    led(&*store, "last", 1).await;
    let begun = history(&*store, "last").await[0].lease_time;
    until("a second to pass there", async || look_at(&*store, &[]).await.database_now > begun + 1_000).await;
    let ago = Ending { at: When::Ago(Duration::from_millis(400)), ..Ending::now(EndReason::Deadline) };
    directory(&*store).end_term(&component("last"), 1, &ago).await.unwrap();
    let (written, now) =
        (history(&*store, "last").await[0].end.clone().unwrap().at, look_at(&*store, &[]).await.database_now);
    assert!(written > begun && written <= now - 400, "{written} {now}");
    // The row knows nothing of it.
    assert_eq!(row(&*store, "c").await.unwrap().holder, "h2");
}

pub async fn who_asked_for_the_end_of_a_term_is_told_with_it(bench: Arc<dyn Bench>) {
    let store = bench.open();
    led(&*store, "c", 2).await;
    let said = Said::new("ada@example.org", "the node is drained \u{2014} 'now'").unwrap();
    let target = Some(HolderId::new("b").unwrap());
    let away = Duration::ZERO;
    let request = Request { id: "r1".to_owned(), verb: Verb::Switchover, version: 2, target, away };
    directory(&*store).ask(&component("c"), &request, &said, None).await.unwrap();
    let by = |id: &str| Ending { request: Some(id.to_owned()), ..Ending::now(EndReason::SwitchedOver) };
    // A request about another term asked for nothing here.
    assert_eq!(end(&*store, 1, by("r1")).await, Outcome::Applied);
    assert_eq!(end(&*store, 2, by("r1")).await, Outcome::Applied);
    let said_of = async |at: usize| history(&*store, "c").await[at].end.clone().unwrap().said;
    assert_eq!((said_of(1).await, said_of(0).await), (None, Some(said)));
    // Nor did one that was replaced, as far as anybody can tell.
    led(&*store, "other", 1).await;
    directory(&*store).end_term(&component("other"), 1, &by("r2")).await.unwrap();
    assert_eq!(history(&*store, "other").await[0].end.clone().unwrap().said, None);
}

pub async fn old_terms_are_forgotten_and_never_the_last(bench: Arc<dyn Bench>) {
    let store = bench.open();
    assert_eq!(prune(&*store, 1, DAY).await, 0);
    led(&*store, "c", 6).await;
    led(&*store, "other", 3).await;
    assert_eq!(prune(&*store, 6, DAY).await, 0);
    assert_eq!(prune(&*store, 4, DAY).await, 2);
    assert_eq!(versions(&*store, "c").await, [6, 5, 4, 3]);
    // By age, since they ended.
    let at = look_at(&*store, &[]).await.database_now;
    until("two seconds to pass there", async || look_at(&*store, &[]).await.database_now > at + 2_000).await;
    assert_eq!(end(&*store, 4, Ending::now(EndReason::Released)).await, Outcome::Applied);
    assert_eq!(prune(&*store, 100, Duration::from_secs(1)).await, 2);
    assert_eq!(versions(&*store, "c").await, [6, 4]);
    assert_eq!(prune(&*store, 0, Duration::ZERO).await, 1);
    assert_eq!(versions(&*store, "c").await, [6]);
    assert_eq!(prune(&*store, 0, Duration::ZERO).await, 0);
    assert_eq!(versions(&*store, "other").await, [3, 2, 1]);
    // The next term counts on.
    led_next(&*store).await;
    assert_eq!(versions(&*store, "c").await, [7, 6]);
}

async fn led_next(store: &dyn LeaseStore) {
    let (seen, next) = (row(store, "c").await, term("c", "z", 7));
    assert_eq!(taking(store, &take(&next, seen.as_ref())).await.unwrap(), Outcome::Applied);
}
