use std::collections::{BTreeMap, BTreeSet};

use super::outlook::{Hindrance, Loss, Outlook, outlook};
use super::promotion::{Position, Record, Report, may_promote};
use super::quorum::Quorum;

type Members = BTreeSet<u8>;

/// Every subset of the members.
fn subsets(of: &[u8]) -> Vec<Members> {
    let chosen = |n: u32| of.iter().enumerate().filter(move |(at, _)| n >> at & 1 == 1).map(|(_, m)| *m);
    (0..1 << of.len()).map(|n| chosen(n).collect()).collect()
}

fn record(voters: &Members, acks: usize, asynchronous: bool, members: &[u8]) -> Option<Record<u8>> {
    let quorum = Quorum::any(acks, voters.clone())?;
    Some(Record { primary: 0, quorum, asynchronous, system: 7, members: members.iter().copied().collect() })
}

/// All records of databases with two to five members, of which 0 is the primary.
fn records() -> Vec<Record<u8>> {
    let mut all = Vec::new();
    for size in 2..=5 {
        let members: Vec<u8> = (0..size).collect();
        for voters in subsets(&members[1..]) {
            let records = (0..=voters.len()).flat_map(|acks| {
                [false, true].map(|asynchronous| record(&voters, acks, asynchronous, &members))
            });
            all.extend(records.flatten());
        }
    }
    all
}

/// Whether the rule promotes one of these, all of which are sealed with the same data.
fn somebody_is_promoted(record: &Record<u8>, alive: &Members) -> bool {
    let position = Position { term: 4, end: 100 };
    let report = Report { version: 5, system: 7, position };
    let reports: BTreeMap<u8, Report> =
        alive.iter().filter(|member| **member != 0).map(|member| (*member, report.clone())).collect();
    reports.keys().any(|candidate| may_promote(candidate, 5, record, &reports).is_ok())
}

#[test]
fn it_is_ready_exactly_where_the_rule_would_promote_somebody_and_enough_others_would_acknowledge() {
    let (mut ready, mut alone, mut not) = (0, 0, 0);
    for record in records() {
        let members: Vec<u8> = record.members.iter().copied().collect();
        for alive in subsets(&members) {
            let promoted = somebody_is_promoted(&record, &alive);
            let others = alive.iter().filter(|member| **member != 0).count();
            let goes_on = others > record.quorum.acks();
            match outlook(&record, &alive) {
                Outlook::Ready { candidates, .. } => {
                    assert!(promoted && goes_on, "{record:?} {alive:?}");
                    assert!(!candidates.is_empty() && candidates.is_subset(&alive), "{candidates:?}");
                    assert!(!candidates.contains(&0), "the dead primary is promoted: {record:?}");
                    ready += 1;
                }
                Outlook::NotReady(Hindrance::NobodyToAcknowledge { .. }) => {
                    assert!(promoted && !goes_on, "{record:?} {alive:?}");
                    alone += 1;
                }
                Outlook::NotReady(_) => {
                    assert!(!promoted, "{record:?} {alive:?}");
                    not += 1;
                }
            }
        }
    }
    assert!(ready > 100 && alone > 10 && not > 100, "{ready} {alone} {not}");
}

#[test]
fn so_many_as_it_asks_for_are_enough_and_one_less_is_not() {
    for record in records() {
        let members: Vec<u8> = record.members.iter().copied().collect();
        for alive in subsets(&members) {
            let Outlook::NotReady(
                Hindrance::TooFew { missing, needed } | Hindrance::NobodyToAcknowledge { missing, needed },
            ) = outlook(&record, &alive)
            else {
                continue;
            };
            assert!(needed > 0 && missing.is_disjoint(&alive), "{record:?} {alive:?}: {missing:?}");
            assert!(!missing.contains(&0), "it is to do without its primary: {record:?}");
            let with = |number: usize| -> Members {
                alive.iter().chain(missing.iter().take(number)).copied().collect()
            };
            let fewer = outlook(&record, &with(needed - 1));
            assert!(matches!(fewer, Outlook::NotReady(_)), "{record:?} {alive:?}");
            // A voter that comes back may leave too few that acknowledge: that is a hindrance of its own.
            if missing.len() >= needed {
                let enough = outlook(&record, &with(needed));
                let same = matches!(enough, Outlook::NotReady(Hindrance::TooFew { .. }));
                assert!(!same, "{record:?} {alive:?}: {enough:?}");
            }
        }
    }
}

#[test]
fn of_three_members_of_which_one_must_acknowledge_both_others_are_needed() {
    let record = record(&[1, 2].into(), 1, false, &[0, 1, 2]).unwrap();
    let ready = Outlook::Ready { candidates: [1, 2].into(), loss: Loss::Nothing };
    assert_eq!(outlook(&record, &[0, 1, 2].into()), ready);
    assert_eq!(outlook(&record, &[1, 2].into()), ready, "whether the primary lives makes no difference");
    let too_few = Hindrance::TooFew { missing: [2].into(), needed: 1 };
    assert_eq!(outlook(&record, &[0, 1].into()), Outlook::NotReady(too_few));
}

#[test]
fn the_only_voter_has_everything_and_needs_another_member_that_follows_it() {
    let record = record(&[1].into(), 1, false, &[0, 1, 2]).unwrap();
    let ready = Outlook::Ready { candidates: [1].into(), loss: Loss::Nothing };
    assert_eq!(outlook(&record, &[1, 2].into()), ready, "2 follows 1, and cannot be promoted itself");
    let alone = Hindrance::NobodyToAcknowledge { missing: [2].into(), needed: 1 };
    assert_eq!(outlook(&record, &[1].into()), Outlook::NotReady(alone));
    let lost = Hindrance::TooFew { missing: [1].into(), needed: 1 };
    assert_eq!(outlook(&record, &[2].into()), Outlook::NotReady(lost));
}

#[test]
fn a_primary_that_acknowledges_alone_is_replaced_only_where_its_users_accept_a_loss() {
    let alone = record(&[].into(), 0, false, &[0, 1, 2]).unwrap();
    assert_eq!(outlook(&alone, &[0, 1, 2].into()), Outlook::NotReady(Hindrance::NobodyElse));
    let accepted = record(&[].into(), 0, true, &[0, 1, 2]).unwrap();
    let ready = Outlook::Ready { candidates: [1, 2].into(), loss: Loss::Unreplicated };
    assert_eq!(outlook(&accepted, &[0, 1, 2].into()), ready);
}

#[test]
fn who_is_not_declared_does_not_count() {
    let record = record(&[1].into(), 1, false, &[0, 1]).unwrap();
    let alone = Hindrance::NobodyToAcknowledge { missing: [].into(), needed: 1 };
    assert_eq!(outlook(&record, &[1, 9].into()), Outlook::NotReady(alone));
}
