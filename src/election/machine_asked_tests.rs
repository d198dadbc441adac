//! What operators ask: a leader makes way once, a target has a head start, a pause keeps everybody out.

use super::super::fixtures::{MS, S, election, life, row, take_of};
use super::super::intent::{Request, Verb};
use super::*;
use crate::election::life::Life;

/// Of a ttl of 10 s.
const HEAD_START: Duration = Duration::from_nanos(3_333_333_333);

fn recorded() -> Life {
    life("a", "a", 0, true)
}

fn asked(verb: Verb, version: i64, target: Option<&str>) -> Request {
    let target = target.map(|holder| HolderId::new(holder).unwrap());
    Request { id: "1".into(), verb, version, target, away: S(20) }
}

fn looked(row: LeaseRow, request: Option<Request>) -> Looked {
    let past = Past::Lived(row.version);
    Looked { row: Some(row), past, life: recorded(), request, ..Looked::default() }
}

fn see(e: &mut Election, at: Moment, row: LeaseRow, request: Option<Request>) {
    e.looked(at, looked(row, request), 0.0);
}

/// It leads version 42 since t0 = 100 s; its deadline is at 108 s.
fn leader() -> Election {
    let mut e = election();
    see(&mut e, S(100), row("", 41, 0), None);
    let take = take_of(e.next(S(100)));
    e.took(S(100), S(100), &take, Some(true));
    e
}

/// Whether and why the leader of version 42 makes way.
fn makes_way(request: Request) -> Option<StopReason> {
    let mut e = leader();
    see(&mut e, S(101), row("me", 42, 100), Some(request));
    match e.standing() {
        Standing::Stopping(_, reason) => Some(reason),
        _ => None,
    }
}

#[test]
fn a_leader_makes_way_for_a_request_about_its_term_and_for_no_other() {
    for (verb, reason) in [
        (Verb::Switchover, StopReason::SwitchedOver),
        (Verb::StepDown, StopReason::SteppedDown),
        (Verb::Promote, StopReason::Promoted),
        (Verb::PromoteNow, StopReason::Promoted),
    ] {
        assert_eq!(makes_way(asked(verb, 42, Some("other"))), Some(reason));
        assert_eq!(makes_way(asked(verb, 42, None)), Some(reason));
        for version in [41, 43] {
            assert_eq!(makes_way(asked(verb, version, Some("other"))), None, "version {version}");
        }
        assert_eq!(makes_way(asked(verb, 42, Some("me"))), None, "nobody makes way for itself");
    }
}

#[test]
fn the_next_leader_does_not_obey_the_request_again() {
    let mut e = election();
    let request = asked(Verb::Switchover, 41, None);
    see(&mut e, S(100), row("", 41, 0), Some(request.clone()));
    let take = take_of(e.next(S(100)));
    e.took(S(100), S(100), &take, Some(true));
    see(&mut e, S(101), row("me", 42, 100), Some(request));
    assert!(matches!(e.standing(), Standing::Leading(_)));
}

#[test]
fn a_leader_without_notifications_looks_for_requests_every_second_and_a_hint_makes_it_look_at_once() {
    let mut e = leader();
    e.set_told(false);
    see(&mut e, S(101), row("me", 42, 100), None);
    assert_eq!(e.next(S(101)), Action::Wait(S(102)));
    assert_eq!(e.next(S(102)), Action::Look);
    e.set_told(true);
    see(&mut e, S(102), row("me", 42, 100), None);
    let Action::Wait(renewal) = e.next(S(102)) else { panic!("it has time") };
    assert_eq!(renewal, S(100) + HEAD_START, "the renewal comes first");
    e.hinted(S(103));
    assert_eq!(e.next(S(103)), Action::Look);
}

#[test]
fn no_look_for_requests_delays_a_renewal_that_is_due_or_is_tried_again() {
    let mut e = leader();
    e.hinted(S(104));
    let Action::Renew(_) = e.next(S(104)) else { panic!("the renewal is due") };
    e.renewed(S(104), S(105), None, 0.0);
    e.hinted(S(105));
    let Action::Wait(again) = e.next(S(105)) else { panic!("renewals fail") };
    assert!(again < S(106), "{again:?}");
    let Action::Renew(_) = e.next(again) else { panic!("it is tried again") };
    e.renewed(again, again, Some(true), 0.0);
    assert_eq!(e.next(again), Action::Look, "what was missed meanwhile");
    e.look_failed(again, again + MS(1), 0.0);
    assert!(matches!(e.next(again + MS(1)), Action::Wait(_)), "not before the next renewal");
}

#[test]
fn a_leader_on_a_bare_table_looks_for_no_requests() {
    let mut e = super::super::fixtures::leader();
    e.hinted(S(101));
    assert_eq!(e.next(S(101)), Action::Wait(S(100) + HEAD_START));
}

#[test]
fn a_leader_that_is_shown_another_term_renews_at_once_because_a_read_proves_nothing() {
    let mut e = leader();
    see(&mut e, S(101), row("other", 43, 101), None);
    assert!(matches!(e.standing(), Standing::Leading(_)));
    assert!(matches!(e.next(S(101)), Action::Renew(_)));
    e.renewed(S(101), S(101), Some(false), 0.0);
    assert!(matches!(e.standing(), Standing::Stopping(_, StopReason::Lost)));
}

/// Version 42 was released when it was asked for something, and the leader looks again.
fn made_way(request: &Request, at: Moment) -> Election {
    let mut e = leader();
    see(&mut e, at, row("me", 42, 100), Some(request.clone()));
    assert_eq!(e.work_stopped(at).map(|release| release.term.version), Some(42), "released in time");
    e.released(at, Some(true), 0.0);
    see(&mut e, at, row("", 42, 0), Some(request.clone()));
    e
}

#[test]
fn a_leader_that_made_way_may_lead_again_after_the_head_start() {
    let request = asked(Verb::Switchover, 42, Some("other"));
    let mut e = made_way(&request, S(101));
    assert!(matches!(e.next(S(101)), Action::Wait(_)), "the target comes first");
    let over = S(101) + HEAD_START;
    see(&mut e, over, row("", 42, 0), Some(request));
    assert_eq!(take_of(e.next(over)).term.version, 43, "a target that died keeps nobody out");
}

#[test]
fn a_leader_that_was_asked_to_step_down_stays_away_for_as_long_as_was_asked() {
    let mut e = made_way(&asked(Verb::StepDown, 42, None), S(101));
    assert_eq!(e.ineligible(S(101)), Some(Ineligible::StaysAway { until: S(121) }));
    let request = Request { away: Duration::ZERO, ..asked(Verb::StepDown, 42, None) };
    let mut alone = made_way(&request, S(101));
    assert_eq!(take_of(alone.next(S(101))).term.version, 43, "nobody else could lead");
    // A step down of its own is another thing.
    e = leader();
    e.step_down();
    e.work_stopped(S(101));
    assert_eq!(e.ineligible(S(101)), Some(Ineligible::StaysAway { until: S(111) }));
}

#[test]
fn a_leader_that_makes_way_for_nobody_in_particular_does_not_win_against_those_it_made_way_for() {
    let anybody = Request { away: Duration::from_secs(4), ..asked(Verb::Switchover, 42, None) };
    let mut e = made_way(&anybody, S(101));
    assert_eq!(e.ineligible(S(101)), Some(Ineligible::StaysAway { until: S(105) }));
    assert_eq!(take_of(e.next(S(105))).term.version, 43, "nobody else took it");
}

/// What a follower does that sees the row for the first time, free at 100 s.
fn follower(request: Option<Request>) -> Action {
    let mut e = election();
    see(&mut e, S(100), row("", 41, 0), request);
    e.next(S(100))
}

#[test]
fn the_target_takes_a_free_row_at_once_and_the_others_after_its_head_start() {
    for verb in [Verb::Switchover, Verb::Promote, Verb::PromoteNow] {
        assert!(matches!(follower(Some(asked(verb, 41, Some("me")))), Action::Take(_)));
        assert!(matches!(follower(Some(asked(verb, 41, Some("other")))), Action::Wait(_)));
        assert!(matches!(follower(Some(asked(verb, 41, None))), Action::Take(_)), "anybody may");
        assert!(matches!(follower(Some(asked(verb, 40, Some("other")))), Action::Take(_)), "it is void");
    }
    assert!(matches!(follower(Some(asked(Verb::StepDown, 41, None))), Action::Take(_)));
}

#[test]
fn a_follower_that_waits_out_a_head_start_looks_when_it_is_over() {
    let mut e = election();
    see(&mut e, S(100), row("", 41, 0), Some(asked(Verb::Switchover, 41, Some("other"))));
    let Action::Wait(until) = e.next(S(100)) else { panic!("the target comes first") };
    assert_eq!(until, S(100) + HEAD_START);
    assert_eq!(e.next(until), Action::Look);
}

/// When a row that another holds, unchanged since 100 s, is first taken.
fn seized_at(request: Option<&Request>) -> Option<Moment> {
    let mut e = election();
    (0..400).map(|step| S(100) + MS(50) * step).find(|at| {
        see(&mut e, *at, row("other", 41, 7), request.cloned());
        matches!(e.next(*at), Action::Take(_))
    })
}

#[test]
fn a_lapsed_row_is_taken_by_the_target_when_anybody_could_and_by_the_others_a_head_start_later() {
    let ttl = S(110);
    assert_eq!(seized_at(None), Some(ttl));
    assert_eq!(seized_at(Some(&asked(Verb::Promote, 41, Some("me")))), Some(ttl));
    let others = seized_at(Some(&asked(Verb::Promote, 41, Some("third")))).unwrap();
    assert!(others >= ttl + HEAD_START && others < ttl + HEAD_START + MS(51), "{others:?}");
    assert_eq!(seized_at(Some(&asked(Verb::Promote, 40, Some("third")))), Some(ttl), "it is void");
}

#[test]
fn promoted_now_the_target_alone_takes_while_another_still_renews() {
    assert_eq!(seized_at(Some(&asked(Verb::PromoteNow, 41, Some("me")))), Some(S(100)));
    assert!(seized_at(Some(&asked(Verb::PromoteNow, 41, Some("third")))) > Some(S(110)));
    assert_eq!(seized_at(Some(&asked(Verb::PromoteNow, 40, Some("me")))), Some(S(110)), "it is void");
}

#[test]
fn no_request_skips_a_quarantine_and_the_head_start_begins_when_that_is_over() {
    let now = asked(Verb::PromoteNow, 41, Some("me"));
    let unsettled = |request: &Request| Looked {
        life: life("a", "a", 0, false),
        ..looked(row("", 41, 0), Some(request.clone()))
    };
    let mut e = election();
    e.looked(S(100), unsettled(&now), 0.0);
    assert!(!matches!(e.next(S(100)), Action::Take(_)));
    e.looked(S(130), unsettled(&now), 0.0);
    let mut next = e.next(S(130));
    if matches!(next, Action::Settle(_)) {
        e.recorded(S(130), true, 0.0);
        e.looked(S(130), unsettled(&now), 0.0);
        next = e.next(S(130));
    }
    assert!(matches!(next, Action::Take(_)), "{next:?}");

    let others = asked(Verb::Switchover, 41, Some("other"));
    let mut e = election();
    let taken = (0..100).map(|step| S(100) + MS(500) * step).find(|at| {
        e.looked(*at, unsettled(&others), 0.0);
        matches!(e.next(*at), Action::Take(_))
    });
    assert!(taken > Some(S(130) + HEAD_START) && taken < Some(S(135)), "{taken:?}");
}

#[test]
fn while_paused_nobody_takes_anything_and_a_leader_goes_on() {
    let paused = |row: LeaseRow| Looked { paused: true, ..looked(row, None) };
    let mut e = election();
    for at in [100, 105, 150] {
        e.looked(S(at), paused(row("", 41, 0)), 0.0);
        assert_eq!(e.ineligible(S(at)), Some(Ineligible::Paused));
        assert!(matches!(e.next(S(at)), Action::Wait(_)));
    }
    see(&mut e, S(151), row("", 41, 0), None);
    assert!(matches!(e.next(S(151)), Action::Take(_)), "resumed");

    let mut e = leader();
    e.looked(S(101), paused(row("me", 42, 100)), 0.0);
    assert!(matches!(e.standing(), Standing::Leading(_)));
    assert!(matches!(e.next(S(104)), Action::Renew(_)));
}

#[test]
fn a_target_that_may_not_take_does_not() {
    let mut e = election();
    e.set_healthy(false);
    see(&mut e, S(100), row("other", 41, 7), Some(asked(Verb::PromoteNow, 41, Some("me"))));
    assert!(!matches!(e.next(S(100)), Action::Take(_)), "excluded beats preferred");
}

/// What a follower does that sees the row free for the first time at 100 s, while somebody is preferred.
fn prefers(preferred: &str, request: Option<Request>) -> Action {
    let mut e = election();
    let preferred = Some(HolderId::new(preferred).unwrap());
    e.looked(S(100), Looked { preferred, ..looked(row("", 41, 0), request) }, 0.0);
    e.next(S(100))
}

#[test]
fn the_preferred_takes_a_free_row_at_once_and_the_others_a_moment_later() {
    assert!(matches!(prefers("me", None), Action::Take(_)));
    assert!(matches!(prefers("other", None), Action::Wait(_)));
    let mut e = election();
    let preferred = Some(HolderId::new("other").unwrap());
    let free = Looked { preferred: preferred.clone(), ..looked(row("", 41, 0), None) };
    e.looked(S(100), free.clone(), 0.0);
    e.looked(S(102), free, 0.0);
    assert_eq!(take_of(e.next(S(102))).term.version, 42, "one that died keeps nobody out for longer");
    // A row that lapsed: one ttl after it was last seen to change, and the moment.
    let mut e = election();
    let held = Looked { preferred, ..looked(row("gone", 41, 7), None) };
    e.looked(S(100), held.clone(), 0.0);
    e.looked(S(111), held.clone(), 0.0);
    assert!(matches!(e.next(S(111)), Action::Wait(_)));
    e.looked(S(112), held, 0.0);
    assert_eq!(take_of(e.next(S(112))).term.version, 42);
}

#[test]
fn a_request_for_a_target_beats_what_the_resource_prefers_and_one_without_does_not() {
    let for_me = asked(Verb::Switchover, 41, Some("me"));
    assert!(matches!(prefers("other", Some(for_me)), Action::Take(_)));
    assert!(matches!(prefers("other", Some(asked(Verb::StepDown, 41, None))), Action::Wait(_)));
    let void = asked(Verb::Switchover, 40, Some("me"));
    assert!(matches!(prefers("other", Some(void)), Action::Wait(_)), "it is about another term");
}

/// How long after its first sight this row is taken, if the holder changes too often.
fn taken_after(
    row: LeaseRow,
    preferred: Option<&str>,
    request: Option<Request>,
    cooldown: Duration,
) -> Duration {
    let mut e = election();
    let preferred = preferred.map(|holder| HolderId::new(holder).unwrap());
    let seen = Looked { preferred, cooldown, ..looked(row, request) };
    let at = (0..200).map(|step| S(100) + MS(100) * step).find(|at| {
        e.looked(*at, seen.clone(), 0.0);
        matches!(e.next(*at), Action::Take(_))
    });
    at.unwrap() - S(100)
}

#[test]
fn a_lease_that_changes_hands_too_often_is_left_alone_for_a_while_when_it_was_given_back_and_never_longer() {
    let free = || row("", 41, 0);
    let near = |found: Duration, wanted: Duration| {
        assert!(found >= wanted && found < wanted + MS(200), "{found:?} {wanted:?}");
    };
    near(taken_after(free(), None, None, S(1)), S(1));
    let longest = HEAD_START - (HEAD_START / 2).min(S(2));
    near(taken_after(free(), None, None, S(3600)), longest);
    near(taken_after(free(), Some("me"), None, S(3600)), longest);
    near(taken_after(free(), Some("other"), None, S(3600)), HEAD_START);
    // One that lapsed has cost a ttl already, and people are not kept waiting.
    near(taken_after(row("gone", 41, 7), None, None, S(3600)), S(10));
    for verb in [Verb::Switchover, Verb::Promote] {
        near(taken_after(free(), None, Some(asked(verb, 41, Some("me"))), S(3600)), S(0));
    }
    near(taken_after(free(), None, Some(asked(Verb::StepDown, 41, None)), S(3600)), S(0));
    near(taken_after(free(), None, Some(asked(Verb::StepDown, 40, None)), S(3600)), longest);
}

#[test]
fn a_participant_that_never_leads_takes_nothing_whatever_it_sees() {
    let mut e = election().that_never_leads();
    let promoted = asked(Verb::PromoteNow, 41, Some("me"));
    see(&mut e, S(100), row("", 41, 0), Some(promoted));
    assert_eq!(e.ineligible(S(100)), Some(Ineligible::NeverLeads));
    assert!(matches!(e.next(S(100)), Action::Wait(_)));
    e.set_healthy(true);
    assert_eq!(e.ineligible(S(100)), Some(Ineligible::NeverLeads), "health does not change that");
}
