use std::collections::BTreeSet;

use super::quorum::{Change, Names, Quorum, may_record, next_change};

fn set(voters: &[u8]) -> BTreeSet<u8> {
    voters.iter().copied().collect()
}

fn any(acks: usize, voters: &[u8]) -> Quorum<u8> {
    Quorum::any(acks, set(voters)).unwrap()
}

/// Each quorum of members 1 to 4.
fn all() -> Vec<Quorum<u8>> {
    (0..16_u8)
        .map(|bits| (1..=4).filter(|member| bits & (1 << (member - 1)) != 0).collect::<BTreeSet<u8>>())
        .flat_map(|voters| (0..=voters.len()).filter_map(move |acks| Quorum::any(acks, voters.clone())))
        .collect()
}

/// Each set of members of which some commit may be on exactly these.
fn may_hold(quorum: &Quorum<u8>) -> Vec<BTreeSet<u8>> {
    (0..16_u8)
        .map(|bits| (1..=4).filter(|member| bits & (1 << (member - 1)) != 0).collect::<BTreeSet<u8>>())
        .filter(|on| quorum.voters().intersection(on).count() >= quorum.acks())
        .collect()
}

#[test]
fn no_quorum_waits_for_more_than_there_are_and_none_has_voters_that_nobody_waits_for() {
    assert_eq!(Quorum::any(2, set(&[1])), None);
    assert_eq!(Quorum::any(0, set(&[1])), None);
    assert_eq!(any(0, &[]), Quorum::alone());
}

#[test]
fn names_are_covered_exactly_when_every_quorum_of_seals_meets_every_commit_they_acknowledge() {
    for record in all().into_iter().filter(|record| record.acks() > 0) {
        for names in all() {
            let seals: Vec<BTreeSet<u8>> = may_hold(&any(1, &[1, 2, 3, 4]))
                .into_iter()
                .filter(|sealed| record.is_met_by(sealed))
                .collect();
            let always_met = may_hold(&names)
                .iter()
                .all(|on| seals.iter().all(|sealed| sealed.intersection(on).next().is_some()));
            assert_eq!(
                Names::Quorum(names.clone()).are_covered_by(&record),
                always_met,
                "names {names:?}, record {record:?}"
            );
        }
    }
}

#[test]
fn from_any_quorum_to_any_other_it_takes_three_allowed_steps_at_most() {
    let everybody = set(&[1, 2, 3, 4]);
    for begin in all() {
        for wanted in all() {
            let (mut record, mut names) = (begin.clone(), Names::Quorum(begin.clone()));
            let mut steps = 0;
            loop {
                match next_change(&record, &names, &wanted, &everybody) {
                    Change::None => break,
                    Change::Names(next) => {
                        assert!(
                            Names::Quorum(next.clone()).are_covered_by(&record),
                            "{begin:?} to {wanted:?}"
                        );
                        names = Names::Quorum(next);
                    }
                    Change::Record(next) => {
                        assert!(may_record(&next, &names, &everybody), "{begin:?} to {wanted:?}");
                        record = next;
                    }
                    Change::CatchUp(missing) => panic!("all have caught up, {missing:?} have not"),
                }
                steps += 1;
                assert!(steps <= 3, "{begin:?} to {wanted:?}");
            }
            assert_eq!((&record, &names), (&wanted, &Names::Quorum(wanted.clone())));
        }
    }
}

#[test]
fn a_record_waits_for_voters_that_lack_what_was_acknowledged_before() {
    let (record, names) = (any(1, &[1, 2]), Names::Quorum(any(1, &[2])));
    assert_eq!(next_change(&record, &names, &any(1, &[2]), &set(&[1])), Change::CatchUp(set(&[2])));
    assert_eq!(next_change(&record, &names, &any(1, &[2]), &set(&[2])), Change::Record(any(1, &[2])));
}

#[test]
fn a_promoted_server_that_acknowledges_nothing_may_record_any_quorum_that_has_its_first_row() {
    for wanted in all() {
        let none = next_change(&Quorum::alone(), &Names::Nobody, &wanted, &BTreeSet::new());
        let expected = match wanted.acks() {
            0 => Change::Names(Quorum::alone()),
            _ => Change::CatchUp(wanted.voters().clone()),
        };
        assert_eq!(none, expected);
        assert!(may_record(&wanted, &Names::Nobody, wanted.voters()));
    }
}

#[test]
fn a_voter_that_is_lost_leaves_without_waiting_for_it_and_the_last_one_by_way_of_the_record() {
    // Of two one is lost: the names stop waiting for it first.
    let (both, left) = (any(1, &[1, 2]), any(1, &[2]));
    assert_eq!(next_change(&both, &Names::Quorum(both.clone()), &left, &set(&[2])), Change::Names(left));
    // Alone: the record says so first, or a promotion would not look at the primary.
    let alone = Quorum::alone();
    assert_eq!(
        next_change(&both, &Names::Quorum(both.clone()), &alone, &set(&[])),
        Change::Record(alone.clone())
    );
    assert_eq!(next_change(&alone, &Names::Quorum(both), &alone, &set(&[])), Change::Names(alone));
}
