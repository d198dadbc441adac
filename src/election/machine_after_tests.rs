//! What becomes of a term that is over while the row still says that it is led.

use super::super::fixtures::{self, S, election, row};
use super::super::life::LifeId;
use super::*;

fn life(server: &str, recorded: &str, epoch: i64) -> Life {
    fixtures::life(server, recorded, epoch, true)
}

fn look_in(e: &mut Election, at: Moment, row: LeaseRow, life: Life) {
    let past = if life == Life::Unknown { Past::Unknown } else { Past::Lived(row.version) };
    e.looked(at, Looked { row: Some(row), past, life, ..Looked::default() }, 0.0);
}

fn look(e: &mut Election, at: Moment, row: LeaseRow) {
    look_in(e, at, row, life("a", "a", 0));
}

/// What it would send after a take of the free row 41, in the life `a`, epoch 0.
fn take(e: &mut Election, life: Life) -> Take {
    look_in(e, S(100), row("", 41, 0), life);
    let Action::Take(take) = e.next(S(100)) else { panic!("a free row is taken") };
    take
}

/// It leads version 42 since t0 = 100 s; its deadline is at 108 s.
fn leader() -> Election {
    let mut e = election();
    let take = take(&mut e, life("a", "a", 0));
    e.took(S(100), S(100), &take, Some(true));
    e
}

/// The deadline passed without an acknowledged renewal, and its work has stopped.
fn overdue() -> Election {
    let mut e = leader();
    e.renewed(S(104), S(105), None, 0.0);
    assert_eq!(e.next(S(108)), Action::AwaitWork);
    assert_eq!(e.work_stopped(S(108)), None, "nothing is sent before a look tells what there is");
    assert_eq!(e.next(S(108)), Action::Look);
    e
}

/// The version that it releases, bound to the life in which it was taken.
fn releases(e: &mut Election, at: Moment) -> Option<i64> {
    let Action::Release(Release { term, within }) = e.next(at) else { return None };
    assert_eq!(within, Some(LifeId { identity: "a".into(), epoch: 0 }));
    assert_eq!(term.holder.as_str(), "me");
    Some(term.version)
}

#[test]
fn a_term_that_ended_at_its_deadline_is_released_as_soon_as_the_database_answers() {
    let mut e = overdue();
    e.look_failed(S(108), S(110), 0.0);
    // A renewal that was queued has changed the row.
    look(&mut e, S(150), row("me", 42, 149));
    assert_eq!(releases(&mut e, S(150)), Some(42));
    e.released(S(150), Some(true), 0.0);
    assert_eq!(e.next(S(150)), Action::Look);
    look(&mut e, S(150), row("", 42, 0));
    assert!(matches!(e.next(S(150)), Action::Take(_)), "it may take the free row like everybody");
}

#[test]
fn nothing_is_released_while_the_work_may_still_run() {
    let mut e = leader();
    assert_eq!(e.next(S(108)), Action::AwaitWork);
    look(&mut e, S(109), row("me", 42, 1));
    assert_eq!(e.next(S(109)), Action::AwaitWork);
}

#[test]
fn work_that_was_asked_to_stop_and_stopped_after_the_deadline_is_released_late() {
    let mut e = leader();
    e.step_down();
    assert_eq!(e.work_stopped(S(109)), None);
    look(&mut e, S(110), row("me", 42, 1));
    assert_eq!(releases(&mut e, S(110)), Some(42), "also while it stays away");
}

#[test]
fn a_release_in_time_is_not_bound_to_a_life_and_one_without_an_answer_is_tried_again_late() {
    let mut e = leader();
    e.step_down();
    let in_time = e.work_stopped(S(102)).unwrap();
    assert_eq!((in_time.term.version, in_time.within), (42, None), "the database may have been restarted");
    e.released(S(103), None, 0.0);
    look(&mut e, S(112), row("me", 42, 1));
    assert_eq!(releases(&mut e, S(112)), Some(42));
}

#[test]
fn a_release_that_was_answered_is_not_sent_again() {
    for answer in [true, false] {
        let mut e = leader();
        e.step_down();
        assert!(e.work_stopped(S(102)).is_some());
        e.released(S(103), Some(answer), 0.0);
        look(&mut e, S(112), row("me", 42, 1));
        assert_eq!(releases(&mut e, S(112)), None);
    }
}

#[test]
fn the_right_ends_with_the_first_other_row() {
    for other in [row("other", 43, 9), row("", 42, 0), row("me", 41, 9), row("other", 42, 9)] {
        let mut e = overdue();
        look(&mut e, S(109), other);
        let _ = e.next(S(109));
        look(&mut e, S(110), row("me", 42, 9));
        assert_eq!(releases(&mut e, S(110)), None);
    }
    // A missing row is another one too.
    let mut e = overdue();
    let missing = Looked { past: Past::Lived(42), life: life("a", "a", 0), ..Looked::default() };
    e.looked(S(109), missing, 0.0);
    look(&mut e, S(110), row("me", 42, 9));
    assert_eq!(releases(&mut e, S(110)), None);
}

#[test]
fn the_right_ends_with_another_life_of_the_database_for_good() {
    for other in [life("b", "a", 0), life("b", "b", 28), life("a", "a", 28), life("a", "b", 0), Life::Unknown]
    {
        let mut e = overdue();
        look_in(&mut e, S(109), row("me", 42, 9), other.clone());
        assert_eq!(releases(&mut e, S(109)), None, "{other:?}");
        look(&mut e, S(110), row("me", 42, 9));
        assert_eq!(releases(&mut e, S(110)), None, "it was {other:?} in between");
    }
}

#[test]
fn a_renewal_that_found_another_row_ends_the_right() {
    let mut e = leader();
    e.renewed(S(104), S(104), Some(false), 0.0);
    assert_eq!(e.work_stopped(S(104)), None);
    look(&mut e, S(105), row("me", 42, 9));
    assert_eq!(releases(&mut e, S(105)), None);
}

#[test]
fn on_a_table_whose_lives_nobody_can_tell_apart_the_term_is_left_to_lapse() {
    let mut e = election();
    let take = take(&mut e, Life::Unknown);
    e.took(S(100), S(100), &take, Some(true));
    assert_eq!(e.next(S(108)), Action::AwaitWork);
    assert_eq!(e.work_stopped(S(108)), None);
    look_in(&mut e, S(109), row("me", 42, 9), Life::Unknown);
    assert!(!matches!(e.next(S(109)), Action::Release(_)));
}

#[test]
fn a_take_without_an_answer_that_is_seen_to_be_ones_own_is_released() {
    let mut e = election();
    let take = take(&mut e, life("a", "a", 0));
    e.took(S(100), S(108), &take, None);
    // It may be applied later than it was given up.
    look(&mut e, S(109), row("", 41, 0));
    assert!(matches!(e.next(S(109)), Action::Take(_)));
    e.took(S(109), S(109), &take, Some(false));
    look(&mut e, S(110), row("me", 42, 9));
    assert_eq!(releases(&mut e, S(110)), Some(42));
}

#[test]
fn a_take_without_an_answer_that_was_beaten_gives_no_right() {
    let mut e = election();
    let take = take(&mut e, life("a", "a", 0));
    e.took(S(100), S(108), &take, None);
    look(&mut e, S(109), row("other", 42, 9));
    look(&mut e, S(110), row("me", 42, 9));
    assert_eq!(releases(&mut e, S(110)), None);
}

#[test]
fn a_take_that_was_acknowledged_too_late_is_released() {
    let mut e = election();
    let take = take(&mut e, life("a", "a", 0));
    e.took(S(100), S(108), &take, Some(true));
    assert_eq!(e.standing(), Standing::Following);
    look(&mut e, S(108), row("me", 42, 9));
    assert_eq!(releases(&mut e, S(108)), Some(42));
}

#[test]
fn the_right_ends_when_it_takes_again() {
    let mut e = overdue();
    look(&mut e, S(109), row("me", 42, 9));
    for _ in 0..3 {
        assert_eq!(releases(&mut e, S(109)), Some(42));
        e.released(S(109), None, 0.0);
        look(&mut e, S(109), row("me", 42, 9));
    }
    assert_eq!(releases(&mut e, S(109)), None, "what fails again and again is left to lapse");
    look(&mut e, S(119), row("me", 42, 9));
    let Action::Take(take) = e.next(S(119)) else {
        panic!("a lapsed row of its own is seized like any other")
    };
    e.took(S(119), S(119), &take, Some(true));
    assert_eq!(e.next(S(127)), Action::AwaitWork);
    assert_eq!(e.work_stopped(S(127)), None);
    look(&mut e, S(128), row("me", 42, 9));
    assert_eq!(releases(&mut e, S(128)), None, "43 is the term that it may release");
}

#[test]
fn a_process_that_ends_tries_once_without_a_look() {
    let mut e = leader();
    e.drain();
    assert_eq!(e.work_stopped(S(109)), None, "the work took too long");
    assert_eq!(releases(&mut e, S(109)), Some(42));
    e.released(S(110), None, 0.0);
    assert_eq!(e.next(S(110)), Action::Ended);
    // The same for a take that it gave up.
    let mut e = election();
    let take = take(&mut e, life("a", "a", 0));
    e.drain();
    e.took(S(100), S(101), &take, None);
    assert_eq!(releases(&mut e, S(101)), Some(42));
    e.released(S(101), Some(true), 0.0);
    assert_eq!(e.next(S(101)), Action::Ended);
}

/// How long it waits after each of six looks that are given up after this long.
fn waits(e: &mut Election, given_up_after: Duration) -> Vec<Duration> {
    let mut now = S(108);
    let wait = |_| {
        let began = now;
        now += given_up_after;
        e.look_failed(began, now, 0.9);
        let Action::Wait(until) = e.next(now) else { panic!("it waits") };
        let wait = until - now;
        now = until;
        wait
    };
    (0..6).map(wait).collect()
}

#[test]
fn looks_that_time_out_are_followed_by_the_next_sooner_than_looks_that_are_refused() {
    let follower = || {
        let mut e = election();
        look(&mut e, S(100), row("other", 42, 9));
        e
    };
    let (third, sixth) = (S(10) / 3, S(10) / 6);
    assert_eq!(waits(&mut follower(), Duration::ZERO).last(), Some(&third));
    let timed_out = waits(&mut follower(), sixth);
    assert!(timed_out.iter().all(|wait| *wait <= third - sixth), "{timed_out:?}");
}

#[test]
fn who_may_have_something_to_release_looks_twice_a_second_whatever_the_ttl() {
    let sixth = S(10) / 6;
    for waits in [waits(&mut overdue(), Duration::ZERO), waits(&mut overdue(), sixth)] {
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(500)), "{waits:?}");
    }
    let timing = Timing::new(300, S(1)).unwrap();
    let me = HolderId::new("me").unwrap();
    let mut e = Election::new(ComponentName::new("c").unwrap(), me, timing, S(10)).with_max_ttl(300);
    let take = take(&mut e, life("a", "a", 0));
    e.took(S(100), S(100) + timing.attempt_counts_for(), &take, None);
    assert!(waits(&mut e, Duration::ZERO).iter().all(|wait| *wait <= Duration::from_millis(500)));
}
