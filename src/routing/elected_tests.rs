//! Why nobody is elected and until when, and what a version of 14 digits means.

use super::conditions::{Condition, ConditionType, Reason, Truth};
use super::fixtures::*;
use super::observed::{Memory, Observed, Place, Quarantined, RowSight, Status};
use super::outcome::Outcome;
use super::report::report;

fn said(o: &Observed) -> Status {
    report(o, &plan(o), &Outcome::default())
}

fn elected(o: &Observed) -> Condition {
    said(o).condition(ConditionType::LeaderElected).unwrap().clone()
}

fn led() -> Observed {
    Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), vec![pod("b").marked("leader", 7)]) }
}

fn quarantined(o: Observed) -> Observed {
    let quarantine = Some(Quarantined { until: S(130), told: "2026-11-29T10:00:00Z".into() });
    Observed { quarantine, ..o }
}

#[test]
fn while_nobody_may_take_a_lease_that_is_why_nobody_leads_and_until_when() {
    let expired = Observed { now: S(106), ..led() };
    let released = Observed { row: RowSight::Seen { row: Some(row("", 7)), since: S(95) }, ..led() };
    let gone = Observed { row: RowSight::Seen { row: None, since: S(95) }, row_confirmed: true, ..led() };
    let never = Observed { memory: Memory::default(), ..gone.clone() };
    for (o, reason, says) in [
        (expired, Reason::Expired, "stopped renewing version 7"),
        (released, Reason::Vacant, "the last holder released the lease"),
        (gone, Reason::Vacant, "the row is gone"),
        (never, Reason::Vacant, "no participant has ever taken"),
    ] {
        let before = elected(&o);
        assert_eq!((before.status, before.reason), (Truth::False, reason));
        assert!(!before.message.contains("before 2026"), "{}", before.message);
        let during = elected(&quarantined(o));
        assert_eq!((during.status, during.reason), (Truth::False, Reason::Quarantine));
        let until = "; nobody takes the lease before 2026-11-29T10:00:00Z: the database was restarted";
        assert!(during.message.contains(says) && during.message.contains(until), "{}", during.message);
    }
}

#[test]
fn a_leader_who_goes_on_through_it_is_not_bothered_with_a_quarantine() {
    assert_eq!(said(&quarantined(led())), said(&led()));
}

#[test]
fn a_version_is_shown_by_its_epoch_and_what_it_counts_there() {
    for (version, step, shown) in [
        (41, Some(1_000_000), Some((0, 41))),
        (28_800_123_000_007, Some(1_000_000), Some((28_800_123, 7))),
        (3_002, Some(1_000), Some((3, 2))),
        (41, None, None),
        (0, Some(1_000_000), None),
    ] {
        let pods = vec![pod("b").marked("leader", version)];
        let o = Observed { epoch_step: step, ..observed(held_by("b", version), pods) };
        let place = shown.map(|(epoch, number)| Place { epoch, number });
        let status = said(&o);
        assert_eq!(status.place, place, "{version}");
        assert_eq!(status.remembered().place, place);
        let explained = elected(&o).message.contains("of epoch");
        assert_eq!(explained, place.is_some_and(|place| place.epoch > 0), "{}", elected(&o).message);
    }
    let long = observed(held_by("b", 28_800_123_000_007), vec![pod("b")]);
    let message = elected(&long).message;
    assert!(
        message.contains("version 28800123000007 (number 7 of epoch 28800123 of the database)"),
        "{message}"
    );
}

#[test]
fn what_was_known_of_the_epoch_stays_while_the_row_has_not_been_seen() {
    let o = Observed { row: RowSight::Never { since: S(95) }, epoch_step: None, store: down(), ..led() };
    assert_eq!(said(&o).place, Some(Place { epoch: 0, number: 7 }));
}
