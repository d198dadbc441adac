//! What every store does that keeps a [`Roster`].

#![expect(missing_docs, reason = "each name is the sentence that is tried")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Bench;
use super::support::{component, held, row, take, taking, term};
use crate::election::{Expected, Take};
use crate::store::{LeaseStore, Outcome, Roster, Rostered, TEXT_MAX};

/// Of a store that says that it has one.
fn roster(store: &dyn LeaseStore) -> &dyn Roster {
    store.roster().unwrap()
}

async fn read(store: &dyn LeaseStore, members: &[&str]) -> Rostered {
    let members: BTreeSet<String> = members.iter().map(|name| (*name).to_owned()).collect();
    roster(store).read_roster(&component("c"), &members).await.unwrap()
}

pub async fn a_record_is_written_by_the_leader_of_its_term_only_and_outlives_it(bench: Arc<dyn Bench>) {
    let store = bench.open();
    assert_eq!(read(&*store, &[]).await, Rostered::default());
    assert_eq!(roster(&*store).record(&term("c", "a", 1), "early").await.unwrap(), Outcome::Lost);
    let a = held(&*store, "c", "a").await;
    for other in [term("c", "b", 1), term("c", "a", 2), term("other", "a", 1)] {
        assert_eq!(roster(&*store).record(&other, "no").await.unwrap(), Outcome::Lost, "{other:?}");
    }
    assert_eq!(read(&*store, &[]).await.record, None);
    assert_eq!(roster(&*store).record(&a, "first").await.unwrap(), Outcome::Applied);
    assert_eq!(roster(&*store).record(&a, "second").await.unwrap(), Outcome::Applied);
    store.release(&a).await.unwrap();
    assert_eq!(roster(&*store).record(&a, "late").await.unwrap(), Outcome::Lost);
    // Another process sees it beside the row that it was read with.
    let seen = read(&*bench.open(), &[]).await;
    assert_eq!(seen.record.as_deref(), Some("second"));
    assert_eq!(seen.row, row(&*store, "c").await);
}

pub async fn of_a_leader_and_its_successor_only_one_can_write_the_record(bench: Arc<dyn Bench>) {
    let (old, new) = (bench.open(), bench.open());
    let a = held(&*old, "c", "a").await;
    assert_eq!(roster(&*old).record(&a, "of a").await.unwrap(), Outcome::Applied);
    // The old one has not looked since.
    let b = term("c", "b", 2);
    let seen = row(&*new, "c").await;
    assert_eq!(taking(&*new, &take(&b, seen.as_ref())).await.unwrap(), Outcome::Applied);
    assert_eq!(roster(&*old).record(&a, "of a, too late").await.unwrap(), Outcome::Lost);
    assert_eq!(
        read(&*new, &[]).await.record.as_deref(),
        Some("of a"),
        "the successor reads what is still true"
    );
    assert_eq!(roster(&*new).record(&b, "of b").await.unwrap(), Outcome::Applied);
    assert_eq!(roster(&*old).record(&a, "of a, too late").await.unwrap(), Outcome::Lost);
    assert_eq!(read(&*old, &[]).await.record.as_deref(), Some("of b"));
}

pub async fn each_member_says_its_own_and_others_are_read_by_name(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for (member, says) in [("m-0", "zero"), ("m-1", "one, \u{fc}"), ("m-2", "two"), ("m-1", "one again")] {
        roster(&*store).report(&component("c"), member, says).await.unwrap();
    }
    let says = |all: &[(&str, &str)]| {
        all.iter()
            .map(|(member, says)| ((*member).to_owned(), (*says).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let seen = read(&*bench.open(), &["m-0", "m-1", "m-9"]).await;
    assert_eq!(seen.reports, says(&[("m-0", "zero"), ("m-1", "one again")]));
    assert_eq!((seen.row, seen.record), (None, None), "a report is no lease");
    assert_eq!(
        roster(&*store).read_roster(&component("other"), &["m-0".to_owned()].into()).await.unwrap(),
        Rostered::default()
    );
}

pub async fn what_is_asked_of_a_member_stands_beside_what_it_says_until_it_is_taken_back(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    let wish = async |member: &str, wish: Option<&str>| {
        roster(&*store).wish(&component("c"), member, wish).await.unwrap();
    };
    // Before the member has ever said anything.
    wish("m-0", Some("first")).await;
    let seen = read(&*bench.open(), &["m-0", "m-1"]).await;
    assert_eq!(seen.wishes, [("m-0".to_owned(), "first".to_owned())].into());
    assert_eq!(seen.reports, BTreeMap::default());
    roster(&*store).report(&component("c"), "m-0", "says").await.unwrap();
    wish("m-0", Some("second, \u{fc}")).await;
    wish("m-1", Some("other")).await;
    let seen = read(&*bench.open(), &["m-0"]).await;
    assert_eq!(seen.wishes, [("m-0".to_owned(), "second, \u{fc}".to_owned())].into());
    assert_eq!(seen.reports, [("m-0".to_owned(), "says".to_owned())].into());
    wish("m-0", None).await;
    wish("m-0", None).await;
    let seen = read(&*store, &["m-0", "m-1"]).await;
    assert_eq!(seen.wishes, [("m-1".to_owned(), "other".to_owned())].into());
    assert_eq!(seen.reports, [("m-0".to_owned(), "says".to_owned())].into());
    let longer = "x".repeat(TEXT_MAX + 1);
    let refused = roster(&*store).wish(&component("c"), "m-0", Some(&longer)).await.unwrap_err();
    assert!(refused.to_string().contains("16385 bytes"), "{refused}");
}

pub async fn a_record_and_a_renewal_do_not_undo_each_other(bench: Arc<dyn Bench>) {
    // Two processes of one leader: each has seen the row before the other changed it.
    let (renewing, recording) = (bench.open(), bench.open());
    let a = held(&*renewing, "c", "a").await;
    assert!(row(&*recording, "c").await.is_some());
    for number in 0..5 {
        let before = row(&*renewing, "c").await.unwrap().renew_time;
        let text = format!("record {number}");
        assert_eq!(renewing.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(roster(&*recording).record(&a, &text).await.unwrap(), Outcome::Applied);
        assert_eq!(renewing.renew(&a).await.unwrap(), Outcome::Applied);
        let seen = read(&*recording, &[]).await;
        assert_eq!(seen.record, Some(text));
        assert!(seen.row.is_some_and(|row| row.is_term(&a) && row.renew_time > before));
    }
}

pub async fn what_is_too_long_is_refused_and_nothing_is_changed(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let a = held(&*store, "c", "a").await;
    let (longest, longer) = ("x".repeat(TEXT_MAX), "x".repeat(TEXT_MAX + 1));
    let roster = roster(&*store);
    assert_eq!(roster.record(&a, &longest).await.unwrap(), Outcome::Applied);
    roster.report(&component("c"), "m-0", &longest).await.unwrap();
    let refused = [
        roster.record(&a, &longer).await.unwrap_err(),
        roster.report(&component("c"), "m-0", &longer).await.unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.to_string().contains("16385 bytes")), "{refused:?}");
    let seen = read(&*store, &["m-0"]).await;
    assert_eq!(seen.record.as_ref(), Some(&longest));
    assert_eq!(seen.reports.get("m-0"), Some(&longest));
}

pub async fn a_take_begins_above_what_its_store_was_told(bench: Arc<dyn Bench>) {
    let store = bench.open();
    // The lease was deleted, then taken below what was granted before.
    for (told, holder) in [(40, "a"), (90, "b")] {
        roster(&*store).begin_above(&component("c"), told);
        roster(&*store).begin_above(&component("c"), 7);
        roster(&*store).begin_above(&component("other"), 500);
        let looked = store.look(&component("c")).await.unwrap();
        assert_eq!(looked.past.highest(), told);
        let version = looked.past.highest() + 1;
        let expected = match &looked.row {
            None => Expected::Missing { highest: looked.past.recorded() },
            Some(_) => Expected::of(looked.row.as_ref()),
        };
        let take = Take { expected, ..take(&term("c", holder, version), None) };
        assert_eq!(taking(&*store, &take).await.unwrap(), Outcome::Applied);
        assert_eq!(row(&*store, "c").await.unwrap().version, version);
    }
}
