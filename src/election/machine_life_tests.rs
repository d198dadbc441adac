//! The participant when the database changes under it. Each test is a trap that made two leaders,
//! or granted a version twice, in an earlier wording.

use super::super::fixtures::{S, election, life, row};
use super::super::life::LifeId;
use super::super::row::Expected;
use super::*;

fn look(e: &mut Election, at: Moment, row: impl Into<Option<LeaseRow>>, past: Past, life: Life) {
    e.looked(at, Looked { row: row.into(), past, life, ..Looked::default() }, 0.0);
}

fn takes(e: &mut Election, at: Moment) -> Option<Take> {
    match e.next(at) {
        Action::Take(take) => Some(take),
        _ => None,
    }
}

#[test]
fn a_free_row_is_not_taken_in_a_quarantine() {
    let mut e = election();
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), life("a", "a", 0, false));
    assert_eq!(takes(&mut e, S(100)), None);
    look(&mut e, S(129), row("", 41, 0), Past::Lived(41), life("a", "a", 0, false));
    assert_eq!(takes(&mut e, S(129)), None);
}

#[test]
fn a_missing_row_that_never_lived_is_not_inserted_in_a_quarantine() {
    let mut e = election();
    look(&mut e, S(100), None, Past::NeverLived, life("a", "a", 0, false));
    assert_eq!(takes(&mut e, S(100)), None);
}

#[test]
fn a_held_row_that_was_watched_before_the_change_is_not_seized_right_after_it() {
    let mut e = election();
    look(&mut e, S(100), row("other", 7, 1), Past::Lived(7), life("a", "a", 0, true));
    look(&mut e, S(109), row("other", 7, 1), Past::Lived(7), life("b", "b", 28, false));
    look(&mut e, S(111), row("other", 7, 1), Past::Lived(7), life("b", "b", 28, false));
    assert_eq!(takes(&mut e, S(111)), None);
    // Nor when somebody else has settled: what was seen in another life does not count.
    look(&mut e, S(112), row("other", 7, 1), Past::Lived(7), life("b", "b", 28, true));
    assert_eq!(takes(&mut e, S(112)), None);
    look(&mut e, S(119), row("other", 7, 1), Past::Lived(7), life("b", "b", 28, true));
    assert!(takes(&mut e, S(119)).is_some());
}

#[test]
fn a_participant_that_wakes_between_two_looks_still_says_that_the_quarantine_is_over() {
    let mut e = election();
    let unsettled = || life("a", "a", 28, false);
    look(&mut e, S(100), row("other", 41, 1), Past::Lived(41), unsettled());
    look(&mut e, S(129), row("other", 41, 2), Past::Lived(41), unsettled());
    for woken in 129..132 {
        assert!(!matches!(e.next(S(woken)), Action::Settle(_)), "only a fresh look decides");
    }
    look(&mut e, S(132), row("other", 41, 3), Past::Lived(41), unsettled());
    assert!(matches!(e.next(S(132)), Action::Settle(_)));
}

#[test]
fn at_the_end_of_the_quarantine_it_is_said_for_the_others_and_then_taken() {
    let mut e = election();
    let unsettled = || life("a", "a", 28, false);
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), unsettled());
    assert_eq!(takes(&mut e, S(100)), None);
    assert_eq!(e.next(S(130)), Action::Look);
    look(&mut e, S(130), row("", 41, 0), Past::Lived(41), unsettled());
    let said = LifeId { identity: "a".into(), epoch: 28 };
    assert_eq!(e.next(S(130)), Action::Settle(said.clone()));
    e.recorded(S(130), true, 0.0);
    assert_eq!(e.next(S(130)), Action::Look);
    // It had no effect, for instance for want of a privilege: that keeps nobody from taking.
    look(&mut e, S(130), row("", 41, 0), Past::Lived(41), unsettled());
    let take = takes(&mut e, S(130)).unwrap();
    assert_eq!((take.life_id, take.term.version), (said, 28_000_001));
}

#[test]
fn the_end_of_a_quarantine_is_said_also_by_a_follower_that_woke_up_in_order_to_look() {
    let mut e = election();
    let unsettled = || life("a", "a", 28, false);
    look(&mut e, S(100), row("other", 7, 1), Past::Lived(7), unsettled());
    assert!(matches!(e.next(S(100)), Action::Wait(_)));
    // Nothing is decided on the sight of before; it must not count as said.
    assert_eq!(e.next(S(131)), Action::Look);
    look(&mut e, S(131), row("other", 7, 2), Past::Lived(7), unsettled());
    assert!(matches!(e.next(S(131)), Action::Settle(_)));
}

#[test]
fn a_look_is_planned_for_the_end_of_the_quarantine() {
    let mut e = election();
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), life("a", "a", 0, false));
    look(&mut e, S(129), row("", 41, 0), Past::Lived(41), life("a", "a", 0, false));
    assert_eq!(e.next(S(129)), Action::Wait(S(130)));
}

#[test]
fn a_later_starter_skips_a_quarantine_that_was_settled() {
    let mut e = election();
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), life("a", "a", 28, true));
    assert!(takes(&mut e, S(100)).is_some());
}

#[test]
fn settled_in_the_life_of_another_server_shortens_no_wait() {
    let mut e = election();
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), life("b", "a", 28, true));
    let Action::BeginEpoch(new) = e.next(S(100)) else { panic!("an epoch must begin first") };
    assert_eq!((new.seen.unwrap().epoch, new.deliberate), (28, false));
    e.recorded(S(100), true, 0.0);
    // Not even after a long time, as long as it is not recorded.
    look(&mut e, S(500), row("", 41, 0), Past::Lived(41), life("b", "a", 28, true));
    assert!(matches!(e.next(S(500)), Action::BeginEpoch(_)));
}

#[test]
fn an_epoch_that_somebody_else_records_begins_the_quarantine_again() {
    let mut e = election();
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), life("b", "a", 0, true));
    look(&mut e, S(125), row("", 41, 0), Past::Lived(41), life("b", "b", 28, false));
    look(&mut e, S(131), row("", 41, 0), Past::Lived(41), life("b", "b", 28, false));
    assert_eq!(takes(&mut e, S(131)), None);
}

#[test]
fn a_deleted_row_is_inserted_only_after_a_quarantine_and_with_a_later_version() {
    let mut e = election();
    let calm = || life("a", "a", 0, true);
    look(&mut e, S(100), None, Past::Lived(41), calm());
    assert_eq!(takes(&mut e, S(100)), None);
    look(&mut e, S(129), None, Past::Lived(41), calm());
    assert_eq!(takes(&mut e, S(129)), None);
    look(&mut e, S(130), None, Past::Lived(41), calm());
    let take = takes(&mut e, S(130)).unwrap();
    assert_eq!((take.expected, take.term.version), (Expected::Missing { highest: 41 }, 42));
}

#[test]
fn a_row_that_came_and_went_unseen_starts_the_watch_again() {
    let mut e = election();
    let calm = || life("a", "a", 0, true);
    look(&mut e, S(100), None, Past::Lived(41), calm());
    look(&mut e, S(120), None, Past::Lived(42), calm());
    look(&mut e, S(130), None, Past::Lived(42), calm());
    assert_eq!(takes(&mut e, S(130)), None);
    look(&mut e, S(150), None, Past::Lived(42), calm());
    assert_eq!(takes(&mut e, S(150)).unwrap().term.version, 43);
}

#[test]
fn a_row_whose_history_is_gone_too_waits_where_a_participant_says_that_it_leads() {
    let mut e = election();
    let calm = || life("a", "a", 0, true);
    look(&mut e, S(100), None, Past::Claimed(41), calm());
    assert_eq!(takes(&mut e, S(100)), None);
    // It has stopped saying so: what was known stays known.
    look(&mut e, S(101), None, Past::NeverLived, calm());
    assert_eq!(takes(&mut e, S(101)), None);
    look(&mut e, S(131), None, Past::NeverLived, calm());
    let take = takes(&mut e, S(131)).unwrap();
    assert_eq!((take.expected, take.term.version), (Expected::Missing { highest: 0 }, 42));
}

#[test]
fn a_participant_that_has_seen_a_term_waits_although_the_database_has_forgotten_all_of_it() {
    let calm = || life("a", "a", 0, true);
    let mut e = election();
    look(&mut e, S(100), row("other", 41, 1), Past::Lived(41), calm());
    look(&mut e, S(101), None, Past::NeverLived, calm());
    assert_eq!(takes(&mut e, S(101)), None, "its holder goes on until its next renewal");
    // Its own term counts as well.
    let mut e = election();
    look(&mut e, S(100), None, Past::NeverLived, calm());
    let take = takes(&mut e, S(100)).unwrap();
    e.took(S(100), S(100), &take, Some(true));
    e.renewed(S(104), S(104), Some(false), 0.0);
    e.work_stopped(S(104));
    look(&mut e, S(104), None, Past::NeverLived, calm());
    assert_eq!(takes(&mut e, S(104)), None);
    // A first insertion whose answer was lost does not: if it was not applied, nobody ever led.
    let mut e = election();
    look(&mut e, S(100), None, Past::NeverLived, calm());
    let take = takes(&mut e, S(100)).unwrap();
    e.took(S(100), S(102), &take, None);
    look(&mut e, S(103), None, Past::NeverLived, calm());
    assert!(takes(&mut e, S(103)).is_some());
}

#[test]
fn what_was_seen_before_a_term_does_not_count_as_watched_since() {
    // In somebody else's bare table a missing row looks the same for ever.
    let mut e = election();
    look(&mut e, S(100), None, Past::Unknown, Life::Unknown);
    look(&mut e, S(130), None, Past::Unknown, Life::Unknown);
    let take = takes(&mut e, S(130)).unwrap();
    e.took(S(130), S(130), &take, Some(true));
    // It was stopped; meanwhile another led, and somebody deleted the row.
    assert!(matches!(e.next(S(200)), Action::AwaitWork));
    assert_eq!(e.work_stopped(S(200)), None);
    look(&mut e, S(200), None, Past::Unknown, Life::Unknown);
    assert_eq!(takes(&mut e, S(200)), None, "the other one may go on until its next renewal");
    look(&mut e, S(230), None, Past::Unknown, Life::Unknown);
    assert!(takes(&mut e, S(230)).is_some());
}

#[test]
fn where_nothing_is_recorded_and_nothing_need_be_waited_for_a_missing_row_is_made_anew_at_once() {
    // As a Kubernetes Lease that somebody deleted.
    let mut e = election();
    look(&mut e, S(100), row("other", 41, 1), Past::NeverLived, Life::Unknown);
    look(&mut e, S(101), None, Past::NeverLived, Life::Unknown);
    assert!(takes(&mut e, S(101)).is_some());
}

#[test]
fn a_claim_that_no_version_of_ours_can_be_only_says_that_it_lived() {
    assert_eq!(Past::of(true, None, Some(i64::MAX)), Past::Claimed(0));
    assert_eq!(Past::of(true, Some(7), Some(41)), Past::Lived(7), "the history knows better");
    assert_eq!(Past::of(false, None, Some(41)), Past::Unknown);
    assert_eq!(Past::of(true, None, None), Past::NeverLived);
}

#[test]
fn a_missing_row_of_a_bare_table_waits_too() {
    let mut e = election();
    look(&mut e, S(100), None, Past::Unknown, Life::Unknown);
    assert_eq!(takes(&mut e, S(100)), None);
    look(&mut e, S(130), None, Past::Unknown, Life::Unknown);
    assert_eq!(takes(&mut e, S(130)).unwrap().term.version, 1);
}

#[test]
fn a_version_is_above_row_history_epoch_and_everything_ever_seen() {
    for (row_version, past, epoch, next) in [
        (41, 41, 0, 42),
        (3, 41, 0, 42),
        (41, 7, 0, 42),
        (41, 41, 28, 28_000_001),
        (29_000_000, 7, 28, 29_000_001),
    ] {
        let mut e = election();
        look(&mut e, S(100), row("", row_version, 0), Past::Lived(past), life("a", "a", epoch, true));
        assert_eq!(takes(&mut e, S(100)).unwrap().term.version, next);
    }
    let mut e = election();
    look(&mut e, S(100), row("x", 41, 0), Past::Lived(41), life("a", "a", 0, true));
    // A foreign program has put the row back; the history knows.
    look(&mut e, S(101), row("", 5, 0), Past::Lived(41), life("a", "a", 0, true));
    assert_eq!(takes(&mut e, S(101)).unwrap().term.version, 42);
}

/// It has seen version 41 of another, and then an older state under the same identity.
fn bereft(row_now: Option<LeaseRow>, past: Past) -> Election {
    let mut e = election();
    look(&mut e, S(100), row("other", 41, 1), Past::Lived(41), life("a", "a", 0, true));
    look(&mut e, S(101), row_now, past, life("a", "a", 0, true));
    e
}

#[test]
fn a_history_that_ends_before_what_was_seen_is_not_taken_on_but_begins_an_epoch() {
    for (row, past) in [
        (Some(row("", 40, 0)), Past::Lived(40)),
        (Some(row("third", 40, 7)), Past::Lived(40)),
        (None, Past::NeverLived),
        (None, Past::Claimed(41)),
    ] {
        let mut e = bereft(row.clone(), past);
        let Action::BeginEpoch(new) = e.next(S(101)) else { panic!("an epoch must begin: {past:?}") };
        assert!(new.deliberate, "{new:?}");
        e.recorded(S(101), true, 0.0);
        look(&mut e, S(101), row.clone(), past, life("a", "a", 28, false));
        assert_eq!(takes(&mut e, S(101)), None, "the other goes on until its next renewal");
        look(&mut e, S(131), row.clone(), past, life("a", "a", 28, true));
        assert!(takes(&mut e, S(131)).is_some(), "a quarantine is longer than any ttl");
    }
}

#[test]
fn where_the_epoch_cannot_be_recorded_nothing_is_taken() {
    let mut e = bereft(Some(row("", 40, 0)), Past::Lived(40));
    for at in 101..200 {
        assert!(matches!(e.next(S(at)), Action::BeginEpoch(_)), "{at}");
        e.recorded(S(at), false, 0.0);
        assert!(matches!(e.next(S(at)), Action::Wait(_)), "a refusal is not repeated at once");
        look(&mut e, S(at + 1), row("", 40, 0), Past::Lived(40), life("a", "a", 0, true));
    }
}

#[test]
fn what_somebody_else_settled_does_not_end_the_wait_of_who_saw_the_loss() {
    let mut e = bereft(Some(row("", 40, 0)), Past::Lived(40));
    look(&mut e, S(102), row("", 40, 0), Past::Lived(40), life("a", "a", 28, true));
    assert_eq!(takes(&mut e, S(102)), None);
}

#[test]
fn a_version_that_cannot_be_counted_up_is_never_taken() {
    let mut e = election();
    look(&mut e, S(100), row("", i64::MAX, 0), Past::Lived(1), life("a", "a", 0, true));
    assert_eq!(takes(&mut e, S(100)), None);
}

#[test]
fn no_lease_has_a_longer_ttl_than_every_participant_waits_for() {
    let mut e = election();
    let looked = Looked { standing_ttl: Some(60), life: life("a", "a", 0, true), ..Looked::default() };
    e.looked(S(100), looked, 0.0);
    assert_eq!(takes(&mut e, S(100)).unwrap().ttl, 30);
    let timing = Timing::new(60, S(1)).unwrap();
    let me = HolderId::new("me").unwrap();
    let mut e = Election::new(ComponentName::new("c").unwrap(), me, timing, S(10)).with_max_ttl(60);
    look(&mut e, S(100), None, Past::NeverLived, life("a", "a", 0, true));
    assert_eq!(takes(&mut e, S(100)).unwrap().ttl, 30);
}

#[test]
fn a_leader_renews_through_a_change_of_the_database() {
    let mut e = election();
    look(&mut e, S(100), None, Past::NeverLived, life("a", "a", 0, true));
    let take = takes(&mut e, S(100)).unwrap();
    e.took(S(100), S(100), &take, Some(true));
    // A look that was under way brings news of another life.
    look(&mut e, S(101), row("me", 1, 1), Past::Lived(1), life("b", "a", 0, true));
    assert!(matches!(e.next(S(104)), Action::Renew(_)));
}

#[test]
fn a_leader_that_lost_its_term_with_the_database_waits_like_everybody() {
    let mut e = election();
    look(&mut e, S(100), row("", 41, 0), Past::Lived(41), life("a", "a", 0, true));
    let take = takes(&mut e, S(100)).unwrap();
    e.took(S(100), S(100), &take, Some(true));
    e.renewed(S(104), S(104), Some(false), 0.0);
    assert_eq!(e.work_stopped(S(104)), None);
    look(&mut e, S(104), row("", 41, 0), Past::Lived(41), life("b", "b", 28, false));
    assert_eq!(takes(&mut e, S(104)), None);
}
