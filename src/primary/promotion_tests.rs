use std::collections::{BTreeMap, BTreeSet};

use super::promotion::{Blocked, Position, Record, Report, may_begin, may_follow, may_promote};
use super::quorum::Quorum;

const SYSTEM: u64 = 7;

fn set(members: &[u8]) -> BTreeSet<u8> {
    members.iter().copied().collect()
}

/// Member 0 is the recorded primary of five.
fn record(acks: usize, voters: &[u8]) -> Record<u8> {
    Record {
        primary: 0,
        quorum: Quorum::any(acks, set(voters)).unwrap_or_else(Quorum::alone),
        asynchronous: false,
        system: SYSTEM,
        members: set(&[0, 1, 2, 3, 4]),
    }
}

fn at(term: i64, end: u64) -> Report {
    Report { version: 9, system: SYSTEM, position: Position { term, end } }
}

fn reports(all: &[(u8, Report)]) -> BTreeMap<u8, Report> {
    all.iter().cloned().collect()
}

#[test]
fn one_more_than_could_be_left_out_of_a_commit_must_be_sealed() {
    let one_of_three = record(1, &[1, 2, 3]);
    let two = reports(&[(1, at(8, 50)), (2, at(8, 50))]);
    assert_eq!(
        may_promote(&1, 9, &one_of_three, &two),
        Err(Blocked::TooFew { missing: set(&[0, 3]), needed: 1 }),
        "the third may be the one that has it"
    );
    assert_eq!(may_promote(&1, 9, &record(2, &[1, 2, 3]), &two), Ok(()));
    // A member that is no voter adds nothing.
    let with_other = reports(&[(1, at(8, 50)), (2, at(8, 50)), (4, at(8, 50))]);
    assert!(may_promote(&1, 9, &one_of_three, &with_other).is_err());
    let three = reports(&[(1, at(8, 50)), (2, at(8, 50)), (3, at(8, 50))]);
    assert_eq!(may_promote(&1, 9, &one_of_three, &three), Ok(()));
}

#[test]
fn the_recorded_primary_is_enough_whatever_acknowledged() {
    let sealed = reports(&[(0, at(8, 70)), (4, at(8, 40))]);
    assert_eq!(may_promote(&0, 9, &record(1, &[1, 2, 3]), &sealed), Ok(()));
    assert_eq!(may_promote(&4, 9, &record(1, &[1, 2, 3]), &sealed), Err(Blocked::Behind { best: 0 }));
}

#[test]
fn after_a_primary_that_acknowledged_alone_only_its_own_data_will_do_unless_loss_is_accepted() {
    let sealed = reports(&[(1, at(8, 50)), (2, at(8, 50)), (3, at(8, 50)), (4, at(8, 50))]);
    let alone = record(0, &[]);
    assert_eq!(may_promote(&1, 9, &alone, &sealed), Err(Blocked::TooFew { missing: set(&[0]), needed: 1 }));
    let asynchronous = Record { asynchronous: true, ..alone };
    assert_eq!(may_promote(&1, 9, &asynchronous, &sealed), Ok(()));
    let few = reports(&[(1, at(8, 50)), (2, at(8, 50))]);
    assert_eq!(
        may_promote(&1, 9, &asynchronous, &few),
        Err(Blocked::TooFew { missing: set(&[0, 3, 4]), needed: 1 })
    );
}

#[test]
fn the_term_comes_before_the_length() {
    let sealed = reports(&[(1, at(8, 50)), (2, at(7, 900)), (3, at(8, 50))]);
    assert_eq!(may_promote(&1, 9, &record(1, &[1, 2, 3]), &sealed), Ok(()));
    assert_eq!(may_promote(&2, 9, &record(1, &[1, 2, 3]), &sealed), Err(Blocked::Behind { best: 3 }));
}

#[test]
fn seals_at_another_version_other_data_and_members_that_were_not_declared_do_not_count() {
    let earlier = Report { version: 8, ..at(8, 50) };
    let other = Report { system: 6, ..at(8, 50) };
    let record = record(1, &[1, 2]);
    for no_report in [earlier.clone(), other.clone()] {
        let sealed = reports(&[(1, at(8, 50)), (2, no_report)]);
        assert!(matches!(may_promote(&1, 9, &record, &sealed), Err(Blocked::TooFew { .. })));
    }
    assert_eq!(
        may_promote(&1, 9, &record, &reports(&[(1, earlier), (2, at(8, 50))])),
        Err(Blocked::NotSealed)
    );
    assert_eq!(may_promote(&1, 9, &record, &reports(&[(1, other), (2, at(8, 50))])), Err(Blocked::OtherData));
    assert_eq!(
        may_promote(&7, 9, &record, &reports(&[(7, at(8, 90)), (0, at(8, 50))])),
        Err(Blocked::NotSealed)
    );
    // One that was not declared does not hold a declared one back either.
    assert_eq!(may_promote(&0, 9, &record, &reports(&[(7, at(8, 90)), (0, at(8, 50))])), Ok(()));
}

#[test]
fn a_sealed_member_follows_no_primary_of_an_older_term() {
    assert!(may_follow(9, 9) && may_follow(8, 9));
    assert!(!may_follow(9, 8));
}

#[test]
fn the_first_primary_needs_every_declared_member_sealed_with_the_same_data_and_the_most_of_it() {
    let members = set(&[0, 1, 2]);
    let all = reports(&[(0, at(0, 50)), (1, at(0, 70)), (2, at(0, 60))]);
    assert_eq!(may_begin(&1, 9, &members, &all), Ok(()));
    assert_eq!(may_begin(&0, 9, &members, &all), Err(Blocked::Behind { best: 1 }));
    let two = reports(&[(0, at(0, 50)), (1, at(0, 70))]);
    assert_eq!(may_begin(&1, 9, &members, &two), Err(Blocked::TooFew { missing: set(&[2]), needed: 1 }));
    let other = Report { system: 6, ..at(0, 60) };
    assert_eq!(
        may_begin(&1, 9, &members, &reports(&[(0, at(0, 50)), (1, at(0, 70)), (2, other)])),
        Err(Blocked::OtherData)
    );
    assert_eq!(may_begin(&7, 9, &members, &reports(&[(7, at(0, 90))])), Err(Blocked::NotSealed));
}
