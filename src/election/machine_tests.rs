//! Each rule of a leader, one step at a time.

use super::super::fixtures::{MS, S, election, leader, look, row, take_of};
use super::*;

#[test]
fn stepping_down_during_a_take_without_an_answer_keeps_away_from_the_next() {
    let mut e = election();
    look(&mut e, S(100), Some(row("", 4, 0)));
    let take = take_of(e.next(S(100)));
    e.step_down();
    e.took(S(100), S(101), &take, None);
    assert_eq!(e.ineligible(S(110)), Some(Ineligible::StaysAway { until: S(111) }));
}

#[test]
fn a_take_without_an_answer_is_no_leadership_and_its_version_is_not_asked_for_again() {
    let mut e = election();
    look(&mut e, S(100), Some(row("", 4, 0)));
    let take = take_of(e.next(S(100)));
    e.took(S(100), S(105), &take, None);
    assert_eq!(e.next(S(105)), Action::Look);
    look(&mut e, S(105), Some(row("", 4, 0)));
    assert_eq!(take_of(e.next(S(105))).term.version, 6);
}

#[test]
fn a_take_acknowledged_after_its_own_deadline_is_no_leadership() {
    let mut e = election();
    look(&mut e, S(100), None);
    let take = take_of(e.next(S(100)));
    e.took(S(100), S(108), &take, Some(true));
    assert_eq!(e.standing(), Standing::Following);
}

#[test]
fn deadline_and_abort_count_from_before_the_request() {
    let mut e = election();
    look(&mut e, S(99), None);
    let take = take_of(e.next(S(99)));
    e.took(S(100), S(103), &take, Some(true));
    let Standing::Leading(term) = e.standing() else { panic!() };
    assert_eq!((term.deadline(), term.abort()), (S(108), S(109)));
}

#[test]
fn a_leader_renews_every_third_of_the_ttl_and_each_acknowledgement_moves_the_deadline() {
    let mut e = leader();
    let due = S(100) + S(10) / 3;
    assert_eq!(e.next(S(101)), Action::Wait(due));
    assert!(matches!(e.next(due), Action::Renew(_)));
    e.renewed(due, due + MS(50), Some(true), 0.0);
    let Standing::Leading(term) = e.standing() else { panic!() };
    assert_eq!(term.deadline(), due + S(8));
}

#[test]
fn an_unknown_renewal_does_not_move_the_deadline_and_is_tried_again() {
    let mut e = leader();
    e.renewed(S(104), S(105), None, 0.0);
    let Standing::Leading(term) = e.standing() else { panic!() };
    assert_eq!(term.deadline(), S(108));
    assert_eq!(e.next(S(105)), Action::Wait(S(105) + S(10) / 30));
}

#[test]
fn zero_renewed_rows_end_the_term_at_once_and_nothing_is_released() {
    let mut e = leader();
    e.renewed(S(104), S(104), Some(false), 0.0);
    assert!(matches!(e.standing(), Standing::Stopping(_, StopReason::Lost)));
    assert_eq!(e.work_stopped(S(104)), None);
}

#[test]
fn at_the_deadline_the_term_is_over_and_a_late_acknowledgement_does_not_revive_it() {
    let mut e = leader();
    e.renewed(S(107), S(108), Some(true), 0.0);
    assert!(matches!(e.standing(), Standing::Stopping(_, StopReason::Deadline)));
    assert_eq!(e.next(S(108)), Action::AwaitWork);
    assert_eq!(e.work_stopped(S(108)), None, "nothing is released before a look");
}

#[test]
fn a_release_is_sent_only_after_the_work_has_stopped() {
    let mut e = leader();
    e.drain();
    assert_eq!(e.next(S(101)), Action::AwaitWork);
    assert_eq!(e.work_stopped(S(102)).map(|release| release.term.version), Some(1));
    assert_eq!(e.next(S(102)), Action::Ended);
}

#[test]
fn a_participant_that_stepped_down_stays_away_for_the_cooldown() {
    let mut e = leader();
    e.step_down();
    assert!(e.work_stopped(S(101)).is_some());
    look(&mut e, S(101), Some(row("", 1, 0)));
    assert!(!matches!(e.next(S(101)), Action::Take(_)));
    look(&mut e, S(111), Some(row("", 1, 0)));
    assert!(matches!(e.next(S(111)), Action::Take(_)));
}

#[test]
fn a_term_that_is_won_after_it_was_asked_to_step_down_is_given_back_at_once() {
    let mut e = election();
    look(&mut e, S(100), None);
    let take = take_of(e.next(S(100)));
    e.step_down();
    e.took(S(100), S(101), &take, Some(true));
    assert!(matches!(e.standing(), Standing::Stopping(_, StopReason::SteppedDown)));
    assert_eq!(e.work_stopped(S(101)), Some(Release { term: take.term, within: None }));
    assert_eq!(e.ineligible(S(110)), Some(Ineligible::StaysAway { until: S(111) }));
}

#[test]
fn stepping_down_during_a_take_that_is_lost_says_nothing_of_the_next_one() {
    let mut e = election();
    look(&mut e, S(100), Some(row("", 41, 0)));
    let take = take_of(e.next(S(100)));
    e.step_down();
    e.took(S(100), S(101), &take, Some(false));
    look(&mut e, S(102), Some(row("", 43, 0)));
    let take = take_of(e.next(S(102)));
    e.took(S(102), S(102), &take, Some(true));
    assert!(matches!(e.standing(), Standing::Leading(_)));
}

#[test]
fn a_participant_that_stepped_down_may_return_early_once_another_has_led() {
    let mut e = leader();
    e.step_down();
    assert!(e.work_stopped(S(101)).is_some());
    look(&mut e, S(103), Some(row("", 2, 0)));
    assert_eq!(take_of(e.next(S(103))).term.version, 3);
}

#[test]
fn a_sick_leader_stops_and_a_sick_follower_does_not_take() {
    let mut e = leader();
    e.set_healthy(false);
    assert!(matches!(e.standing(), Standing::Stopping(_, StopReason::Unhealthy)));
    assert!(e.work_stopped(S(101)).is_some());
    look(&mut e, S(150), Some(row("", 9, 0)));
    assert_eq!(e.ineligible(S(150)), Some(Ineligible::Unhealthy));
    assert!(!matches!(e.next(S(150)), Action::Take(_)));
    e.set_healthy(true);
    look(&mut e, S(151), Some(row("", 9, 0)));
    assert!(matches!(e.next(S(151)), Action::Take(_)));
}

#[test]
fn the_resources_ttl_is_in_force_from_the_next_term() {
    let mut e = election();
    let looked = Looked { standing_ttl: Some(20), ..Looked::default() };
    e.looked(S(100), looked, 0.0);
    let take = take_of(e.next(S(100)));
    assert_eq!(take.ttl, 20);
    e.took(S(100), S(100), &take, Some(true));
    assert_eq!(e.timing().ttl_seconds(), 20);
}

#[test]
fn a_resource_ttl_that_leaves_no_time_for_the_stop_grace_keeps_the_participant_from_taking() {
    let mut e = election();
    e.looked(S(100), Looked { standing_ttl: Some(2), ..Looked::default() }, 0.0);
    assert!(matches!(e.ineligible(S(100)), Some(Ineligible::Timing(_))));
    assert!(matches!(e.next(S(100)), Action::Wait(_)));
}

#[test]
fn a_term_that_is_won_after_the_program_fell_ill_or_was_asked_to_end_is_given_back_at_once() {
    for (ill, reason) in [(true, StopReason::Unhealthy), (false, StopReason::Draining)] {
        let mut e = election();
        look(&mut e, S(100), None);
        let take = take_of(e.next(S(100)));
        if ill {
            e.set_healthy(false);
        } else {
            e.drain();
        }
        e.took(S(100), S(101), &take, Some(true));
        assert!(matches!(e.standing(), Standing::Stopping(_, stopped) if stopped == reason));
        assert!(e.work_stopped(S(101)).is_some());
    }
}

#[test]
fn a_leader_renews_a_third_of_its_ttl_after_the_last_renewal_began_and_not_before() {
    let mut e = leader();
    e.renewed(S(103), MS(103_500), Some(true), 0.0);
    assert_eq!(e.next(MS(103_500)), Action::Wait(S(103) + S(10) / 3));
    assert!(matches!(e.next(S(103) + S(10) / 3), Action::Renew(_)));
}

#[test]
fn work_that_stops_at_the_very_deadline_releases_nothing_at_once() {
    for (at, in_time) in [(MS(107_999), true), (S(108), false)] {
        let mut e = leader();
        assert_eq!(e.timing().deadline(S(100)), S(108));
        e.step_down();
        assert_eq!(e.work_stopped(at).is_some(), in_time, "{at:?}");
    }
}
