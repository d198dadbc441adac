//! What a take, a renewal, a release, an epoch and the end of a quarantine do, rule by rule.

use std::time::Duration;

use super::*;
use crate::election::life::{DATE_MAX, EPOCH_ZERO, NARROW_STEP, Quarantine};
use crate::election::{ComponentName, HolderId};

fn term(holder: &str, version: i64) -> TermKey {
    TermKey { component: ComponentName::new("c").unwrap(), holder: HolderId::new(holder).unwrap(), version }
}

fn attempt(holder: &str, version: i64, row: Option<&LeaseRow>) -> Take {
    Take { term: term(holder, version), ttl: 5, expected: Expected::of(row), life_id: LifeId::default() }
}

#[test]
fn of_two_takes_made_on_the_same_sight_only_the_first_succeeds() {
    let first = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
    assert_eq!((first.version, first.renew_time, first.lease_time), (1, 1000, 1000));
    assert_eq!(take(Some(&first), 1, &attempt("b", 1, None), 1000), None);
}

#[test]
fn a_renewal_between_sight_and_take_makes_the_take_fail() {
    let seen = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
    let renewed = renew(Some(&seen), &term("a", 1), 1000).unwrap();
    assert_eq!(take(Some(&renewed), 1, &attempt("b", 2, Some(&seen)), 9000), None);
}

#[test]
fn a_renewal_changes_the_row_even_when_the_database_clock_stands_or_goes_back() {
    let row = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
    let same = renew(Some(&row), &term("a", 1), 1000).unwrap();
    let back = renew(Some(&same), &term("a", 1), 10).unwrap();
    assert_eq!((same.renew_time, back.renew_time), (1001, 1002));
}

#[test]
fn an_expired_term_that_nobody_seized_can_be_renewed() {
    let row = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
    assert!(renew(Some(&row), &term("a", 1), 1_000_000).is_some());
}

#[test]
fn only_holder_and_version_together_renew_or_release() {
    let row = take(None, 0, &attempt("a", 4, None), 1000).unwrap();
    for wrong in [term("a", 3), term("b", 4)] {
        assert_eq!(renew(Some(&row), &wrong, 2000), None);
        assert_eq!(release(Some(&row), &wrong), None);
    }
    assert_eq!(renew(None, &term("a", 4), 2000), None);
}

#[test]
fn a_release_keeps_the_version_so_that_the_fence_does_not_start_again() {
    let row = take(None, 0, &attempt("a", 4, None), 1000).unwrap();
    let free = release(Some(&row), &term("a", 4)).unwrap();
    assert!(free.is_free());
    assert_eq!((free.version, free.renew_time), (4, 0));
}

#[test]
fn a_version_that_the_history_knows_is_never_granted_again() {
    let free = LeaseRow { holder: String::new(), lease_time: 0, renew_time: 0, version: 4, ttl: 5 };
    assert_eq!(take(Some(&free), 5, &attempt("a", 5, Some(&free)), 1000), None);
    assert!(take(Some(&free), 5, &attempt("a", 6, Some(&free)), 1000).is_some());
}

#[test]
fn a_take_changes_the_row_even_when_the_database_clock_stands_or_goes_back() {
    let seen = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
    let taken = take(Some(&seen), 1, &attempt("b", 2, Some(&seen)), 1000).unwrap();
    assert_eq!((taken.renew_time, taken.lease_time), (1001, 1000));
    let later = take(Some(&taken), 2, &attempt("c", 3, Some(&taken)), 10).unwrap();
    assert_eq!((later.renew_time, later.lease_time), (1002, 10));
}

#[test]
fn only_the_server_that_is_recorded_and_that_the_decision_saw_is_the_same_life() {
    let seen = life("a", "a", 1, true);
    let on = seen.id();
    assert!(same_life(&on, &seen));
    for other in [
        life("b", "a", 1, true),
        life("a", "b", 1, true),
        life("b", "b", 1, true),
        life("a", "a", 2, true),
        Life::Unknown,
    ] {
        assert!(!same_life(&on, &other), "{other:?}");
    }
    let unrecorded = Life::Unrecorded { identity: "a".to_owned(), step: 1 };
    assert!(!same_life(&unrecorded.id(), &unrecorded));
    // Nobody can tell lives apart there, and takes are not bound to one.
    assert!(same_life(&LifeId::default(), &Life::Unknown));
}

#[test]
fn a_late_release_needs_the_same_life_and_one_that_can_be_told_from_others() {
    let row = take(None, 0, &attempt("a", 4, None), 1000).unwrap();
    let (held, seen) = (term("a", 4), life("a", "a", 1, true));
    let free = release_late(Some(&row), &held, &seen.id(), &seen).unwrap();
    assert!(free.is_free() && free.version == 4);
    let other = life("a", "a", 2, true);
    assert_eq!(release_late(Some(&row), &held, &seen.id(), &other), None);
    assert_eq!(release_late(Some(&row), &held, &LifeId::default(), &Life::Unknown), None);
    assert_eq!(release_late(Some(&row), &term("a", 5), &seen.id(), &seen), None);
}

#[test]
fn a_holder_id_and_a_component_are_printed_as_they_stand() {
    let term = term("me_1_00000001", 1);
    assert_eq!(format!("{}/{}", term.component, term.holder), "c/me_1_00000001");
}

/// 2026-11-22, in ms.
const NOW: i64 = (EPOCH_ZERO + 28_000_000) * 1000;

fn record(identity: &str, epoch: i64, settled: bool) -> LifeRecord {
    LifeRecord { identity: identity.into(), epoch, settled, max_ttl: 30 }
}

fn life(server: &str, recorded: &str, epoch: i64, settled: bool) -> Life {
    Life::Recorded { identity: server.into(), step: STEP, record: record(recorded, epoch, settled) }
}

fn new_epoch(seen: &LifeRecord) -> NewEpoch {
    NewEpoch { seen: Some(seen.clone()), at_least: 0, max_ttl: 30, deliberate: false }
}

fn of(identity: &str, epoch: i64) -> LifeId {
    LifeId { identity: identity.into(), epoch }
}

fn recorded(identity: &str, epoch: i64) -> Life {
    let record = LifeRecord { identity: identity.into(), epoch, settled: true, max_ttl: 30 };
    Life::Recorded { identity: identity.into(), step: STEP, record }
}

fn reaches(quarantine: &mut Quarantine, at: u64, life: Life, highest: i64) -> bool {
    quarantine.answered(Duration::from_secs(at), life);
    quarantine.reaches(Duration::from_secs(at), highest)
}

#[test]
fn an_epoch_is_the_date_so_that_two_standbys_promoted_in_turn_do_not_count_to_the_same() {
    assert_eq!(next_epoch(0, 0, NOW, STEP), 28_000_000);
    assert_eq!(next_epoch(0, 0, NOW + 1000, STEP), 28_000_001);
}

#[test]
fn an_epoch_rises_whatever_the_database_clock_says() {
    for now in [i64::MIN, -1, 0, NOW, i64::MAX] {
        let epoch = next_epoch(28_000_005, 0, now, STEP);
        assert!(epoch > 28_000_005, "{now}");
    }
}

#[test]
fn the_versions_of_every_epoch_stay_below_2_to_the_53() {
    const { assert!((EPOCH_MAX + 1) * STEP <= 1 << 53) };
    assert!(next_epoch(0, 0, i64::MAX, STEP) <= DATE_MAX);
    assert_eq!(next_epoch(EPOCH_MAX - 1, i64::MAX, i64::MAX, STEP), EPOCH_MAX);
    let full = record("a", EPOCH_MAX, true);
    assert_eq!(begin(Some(&full), &new_epoch(&full), "b", NOW, STEP), None, "never the same epoch twice");
}

#[test]
fn a_narrow_version_column_counts_epochs_by_one_and_knows_no_dates() {
    assert_eq!(next_epoch(3, 0, NOW, NARROW_STEP), 4);
}

#[test]
fn an_epoch_begins_by_compare_and_set_on_what_was_seen_and_clears_settled() {
    let seen = record("a", 7, true);
    let begun = begin(Some(&seen), &new_epoch(&seen), "b", NOW, STEP).unwrap();
    assert_eq!((begun.identity.as_str(), begun.epoch, begun.settled), ("b", 28_000_000, false));
    assert_eq!(begin(Some(&begun), &new_epoch(&seen), "b", NOW, STEP), None, "somebody else was first");
}

#[test]
fn the_recorded_server_itself_begins_no_epoch_unless_asked_for() {
    let seen = record("a", 7, true);
    assert_eq!(begin(Some(&seen), &new_epoch(&seen), "a", NOW, STEP), None);
    let asked = NewEpoch { deliberate: true, at_least: 20_000_000, ..new_epoch(&seen) };
    assert_eq!(begin(Some(&seen), &asked, "a", NOW, STEP).unwrap().epoch, 28_000_000);
}

#[test]
fn a_record_that_is_gone_is_made_anew_with_a_date() {
    let new = NewEpoch { seen: None, at_least: 0, max_ttl: 45, deliberate: false };
    let begun = begin(None, &new, "a", NOW, STEP).unwrap();
    assert_eq!((begun.epoch, begun.settled, begun.max_ttl), (28_000_000, false, 45));
}

#[test]
fn settled_is_bound_to_identity_epoch_and_the_server_that_answers() {
    let recorded = record("a", 7, false);
    assert!(settle(Some(&recorded), &of("a", 7), "a").unwrap().settled);
    assert_eq!(settle(Some(&recorded), &of("a", 6), "a"), None);
    assert_eq!(settle(Some(&recorded), &of("b", 7), "a"), None);
    // The record is replicated: a promoted standby has it as it was.
    assert_eq!(settle(Some(&recorded), &of("a", 7), "b"), None);
}

#[test]
fn an_epoch_that_was_asked_for_does_not_begin_above_the_one_that_the_date_explains() {
    let seen = record("a", 0, true);
    let asked = |at_least| NewEpoch { at_least, deliberate: true, ..new_epoch(&seen) };
    let begun = |at_least| begin(Some(&seen), &asked(at_least), "a", NOW, STEP).map(|record| record.epoch);
    assert_eq!(begun(2), Some(28_000_000));
    assert_eq!(begun(28_000_000), Some(28_000_000));
    for beyond in [28_000_001, DATE_MAX, i64::MAX] {
        assert_eq!(begun(beyond), None, "{beyond}");
    }
}

#[test]
fn versions_of_an_epoch_fit_a_column_or_not() {
    for (epoch, step, version_max, fit) in [
        (0, NARROW_STEP, 999, true),
        (0, NARROW_STEP, 998, false),
        (31, NARROW_STEP, i16::MAX.into(), true),
        (32, NARROW_STEP, i16::MAX.into(), false),
        (2_147_482, NARROW_STEP, i32::MAX.into(), true),
        (2_147_483, NARROW_STEP, i32::MAX.into(), false),
        (EPOCH_MAX, STEP, i64::MAX, true),
        (i64::MAX, STEP, i64::MAX, false),
    ] {
        assert_eq!(fits(epoch, step, version_max), fit, "{epoch} {step} {version_max}");
    }
}

#[test]
fn a_history_that_ends_before_what_was_seen_begins_a_quarantine_and_an_epoch_above_it() {
    let mut quarantine = Quarantine::new(30);
    assert!(!reaches(&mut quarantine, 100, recorded("a", 0), 41));
    assert!(!reaches(&mut quarantine, 101, recorded("a", 0), 42));
    assert!(quarantine.is_over(Duration::from_secs(101)) && quarantine.new_epoch().is_none());
    assert!(reaches(&mut quarantine, 102, recorded("a", 0), 41));
    let new = quarantine.new_epoch().unwrap();
    assert!(new.deliberate, "{new:?}");
    // Also where the database's clock says a date of long ago.
    assert!(
        begin(quarantine.life().unwrap().record(), &new, "a", 0, STEP).is_some_and(|begun| begun.epoch == 1)
    );
    assert!(!quarantine.is_over(Duration::from_secs(131)), "whatever somebody else has settled");
    // The epoch has begun: nothing more is wanted.
    assert!(!reaches(&mut quarantine, 103, recorded("a", 28), 41));
    assert_eq!(quarantine.new_epoch(), None);
    assert!(quarantine.is_over(Duration::from_secs(133)));
}
