//! Each rule of a follower, one step at a time.

use super::super::fixtures::{MS, S, election, leader, look, row, take_of};
use super::super::row::Expected;
use super::*;

#[test]
fn a_missing_row_is_inserted_at_once_with_version_1() {
    let mut e = election();
    assert_eq!(e.next(S(100)), Action::Look);
    look(&mut e, S(100), None);
    let take = take_of(e.next(S(100)));
    assert_eq!((take.expected, take.term.version, take.ttl), (Expected::Missing { highest: 0 }, 1, 10));
}

#[test]
fn a_free_row_is_taken_at_once_with_the_next_version() {
    let mut e = election();
    look(&mut e, S(100), Some(row("", 41, 0)));
    let take = take_of(e.next(S(100)));
    assert_eq!(take.term.version, 42);
    assert_eq!(take.expected, Expected::Row { version: 41, renew_time: 0 });
}

#[test]
fn a_held_row_is_seized_only_after_a_whole_ttl_without_change_on_my_own_clock() {
    let mut e = election();
    look(&mut e, S(100), Some(row("other", 7, 1)));
    look(&mut e, MS(109_999), Some(row("other", 7, 1)));
    assert!(matches!(e.next(MS(109_999)), Action::Wait(_)));
    look(&mut e, S(110), Some(row("other", 7, 1)));
    assert_eq!(take_of(e.next(S(110))).term.version, 8);
}

#[test]
fn a_row_that_is_years_old_by_the_databases_clock_is_not_seized_by_a_fresh_follower() {
    let mut e = election();
    e.looked(
        S(100),
        Looked { row: Some(row("other", 7, 1)), database_now: i64::MAX, ..Looked::default() },
        0.0,
    );
    assert!(matches!(e.next(S(100)), Action::Wait(_)));
}

#[test]
fn any_change_of_the_row_starts_the_watch_again() {
    let mut e = election();
    look(&mut e, S(100), Some(row("other", 7, 1)));
    look(&mut e, S(109), Some(row("other", 7, 2)));
    look(&mut e, S(110), Some(row("other", 7, 2)));
    assert!(matches!(e.next(S(110)), Action::Wait(_)));
    look(&mut e, S(119), Some(row("other", 7, 2)));
    assert!(matches!(e.next(S(119)), Action::Take(_)));
}

#[test]
fn a_row_that_seems_seizable_is_looked_at_once_more_before_it_is_seized() {
    let mut e = election();
    look(&mut e, S(100), Some(row("other", 7, 1)));
    // The wait ends when the row could be seized; then a look, never a take on an old sight.
    let mut now = S(100);
    for _ in 0..100 {
        match e.next(now) {
            Action::Wait(until) => now = until,
            Action::Look => {
                if now >= S(110) {
                    return;
                }
                look(&mut e, now, Some(row("other", 7, 1)));
            }
            other => panic!("{other:?} at {now:?}"),
        }
    }
    panic!("never looked again");
}

#[test]
fn a_row_with_my_own_holder_id_proves_nothing() {
    let mut e = election();
    look(&mut e, S(100), Some(row("me", 7, 1)));
    assert!(matches!(e.next(S(100)), Action::Wait(_)));
    assert_eq!(e.standing(), Standing::Following);
}

#[test]
fn a_lost_race_is_followed_by_a_look() {
    let mut e = election();
    look(&mut e, S(100), None);
    let take = take_of(e.next(S(100)));
    e.took(S(100), MS(100_010), &take, Some(false));
    assert_eq!(e.standing(), Standing::Following);
    assert_eq!(e.next(MS(100_010)), Action::Look);
}

#[test]
fn takes_that_fail_on_the_same_sight_again_and_again_are_tried_ever_more_seldom() {
    let mut e = election();
    let (mut now, mut pauses) = (S(100), Vec::new());
    for _ in 0..8 {
        look(&mut e, now, Some(row("", 4, 0)));
        let take = take_of(e.next(now));
        e.took(now, now, &take, None);
        let next = match e.next(now) {
            Action::Look => now,
            Action::Wait(until) => until,
            other => panic!("{other:?}"),
        };
        pauses.push(next - now);
        now = next;
    }
    assert_eq!(pauses[0], Duration::ZERO, "the first may have been bad luck");
    assert!(pauses[1..4].is_sorted_by(|a, b| a < b), "{pauses:?}");
    assert_eq!(pauses[7], e.timing().renew_interval(), "and no more seldom than a follower looks");
    // What is seen to have changed is tried at once.
    look(&mut e, now, Some(row("", 40, 0)));
    let take = take_of(e.next(now));
    e.took(now, now, &take, Some(false));
    assert_eq!(e.next(now), Action::Look);
}

#[test]
fn a_follower_looks_just_after_the_holders_next_renewal_is_due() {
    let mut e = election();
    let seen = Looked { row: Some(row("other", 7, 50_000)), database_now: 52_000, ..Looked::default() };
    e.looked(S(100), seen, 0.0);
    let due = S(10) / 3 - S(2) + S(10) / 60;
    assert_eq!(e.next(S(100)), Action::Wait(S(100) + due));
}

#[test]
fn a_database_clock_that_is_far_off_never_keeps_a_follower_from_looking_for_longer_than_a_third() {
    for database_now in [i64::MIN, -1, 0, 50_000, i64::MAX] {
        let mut e = election();
        let seen = Looked { row: Some(row("other", 7, 50_000)), database_now, ..Looked::default() };
        e.looked(S(100), seen, 0.0);
        let Action::Wait(until) = e.next(S(100)) else { panic!() };
        assert!(until > S(100) && until <= S(100) + S(10) / 3, "{database_now}: {until:?}");
    }
}

#[test]
fn failed_looks_back_off_to_a_third_of_the_ttl_and_no_further() {
    let mut e = election();
    let mut now = S(100);
    for _ in 0..20 {
        e.look_failed(now, now, 1.0);
        let Action::Wait(until) = e.next(now) else { panic!() };
        assert!(until - now <= S(10) / 3);
        now = until;
    }
}

#[test]
fn a_follower_that_nobody_tells_looks_every_second_and_one_that_is_told_when_something_is_due() {
    let wait = |told: bool, jitter: f64| {
        let mut e = election();
        e.set_told(told);
        let seen = Looked { row: Some(row("other", 7, 50_000)), database_now: 50_000, ..Looked::default() };
        e.looked(S(100), seen, jitter);
        let Action::Wait(until) = e.next(S(100)) else { panic!() };
        until - S(100)
    };
    assert!(wait(true, 0.0) > S(3));
    assert_eq!((wait(false, 0.0), wait(false, 1.0)), (S(1), Duration::from_millis(750)));
    // After a failure it backs off all the same.
    let mut e = election();
    e.set_told(false);
    for _ in 0..9 {
        e.look_failed(S(100), S(100), 1.0);
    }
    assert!(matches!(e.next(S(100)), Action::Wait(until) if until > S(102)));
}

#[test]
fn a_hint_makes_a_follower_look_now_and_a_leader_do_nothing() {
    let mut e = election();
    look(&mut e, S(100), Some(row("other", 7, 1)));
    e.hinted(S(101));
    assert_eq!(e.next(S(101)), Action::Look);
    let mut e = leader();
    e.hinted(S(101));
    assert!(matches!(e.next(S(101)), Action::Wait(_)));
}

#[test]
fn a_version_that_cannot_be_counted_up_is_not_taken_over_with_a_smaller_one() {
    let mut e = election();
    look(&mut e, S(100), Some(row("", i64::MAX, 0)));
    assert!(!matches!(e.next(S(100)), Action::Take(_)));
}

#[test]
fn takes_that_fail_in_another_life_of_the_database_are_counted_anew() {
    use super::super::life::{LifeRecord, STEP};
    let free = |epoch| {
        let record = LifeRecord { identity: "a".into(), epoch, settled: true, max_ttl: 30 };
        let life = Life::Recorded { identity: "a".into(), step: STEP, record };
        Looked { row: Some(row("", 41, 0)), past: Past::Lived(41), life, ..Looked::default() }
    };
    let mut e = election();
    let mut now = S(100);
    for (epoch, waits) in [(0, false), (0, true), (1, false), (1, true)] {
        now += S(40);
        e.looked(now, free(epoch), 0.0);
        if epoch == 1 && !waits {
            // It is settled, so that there is nothing to wait for.
            assert!(e.quarantine().is_over(now));
        }
        let take = take_of(e.next(now));
        e.took(now, now, &take, Some(false));
        assert_eq!(matches!(e.next(now), Action::Wait(_)), waits, "epoch {epoch}");
    }
}

#[test]
fn a_follower_of_a_long_term_looks_every_half_minute_though_it_is_told_of_changes() {
    let own = Timing::new(3600, S(1)).unwrap();
    let mut e = Election::new(ComponentName::new("c").unwrap(), HolderId::new("me").unwrap(), own, S(10));
    e.set_told(true);
    e.looked(
        S(100),
        Looked { row: Some(LeaseRow { ttl: 3600, ..row("other", 7, 1) }), ..Looked::default() },
        1.0,
    );
    let Action::Wait(until) = e.next(S(100)) else { panic!() };
    assert!((S(120)..=S(130)).contains(&until), "{until:?}");
}

#[test]
fn followers_look_at_different_moments_after_a_row_may_be_taken_and_none_before() {
    let (jitters, mut looks) = ([0.0, 0.5, 1.0], Vec::new());
    for jitter in jitters {
        let mut e = election();
        // Overdue since long, and a fresh sight: what is waited for is the end of the ttl.
        for at in [S(100), MS(109_900)] {
            e.looked(at, Looked { row: Some(row("other", 7, 1)), ..Looked::default() }, jitter);
        }
        let Action::Wait(until) = e.next(MS(109_900)) else { panic!("it may not be taken yet") };
        assert!(until >= S(110) && until <= MS(110_500), "{jitter}: {until:?}");
        looks.push(until);
    }
    assert!(looks[0] == S(110) && looks.is_sorted_by(|one, two| one < two), "{looks:?}");
}

#[test]
fn after_a_release_that_failed_it_looks_a_moment_later_and_after_one_that_was_answered_at_once() {
    for (answer, pause) in [(Some(true), S(0)), (Some(false), S(0)), (None, S(10) / 30)] {
        let mut e = leader();
        e.step_down();
        assert_eq!(e.next(S(101)), Action::AwaitWork);
        assert!(e.work_stopped(S(101)).is_some());
        e.released(S(102), answer, 0.0);
        match e.next(S(102)) {
            Action::Wait(until) => assert_eq!((answer, until), (None, S(102) + pause)),
            Action::Look => assert_eq!(pause, S(0)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_seen_last_can_be_asked_for() {
    let mut e = election();
    assert_eq!(e.sight(), None);
    look(&mut e, S(100), Some(row("other", 7, 1)));
    let sight = e.sight().unwrap();
    assert_eq!((sight.row.as_ref().unwrap().version, sight.since), (7, S(100)));
}
