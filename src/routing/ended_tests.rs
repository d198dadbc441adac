//! Each thing that must be there for a proof, by what happens without it.

use std::time::Duration;

use super::super::pod::End;
use super::*;
use crate::membership::instance::{Mode, Promise};

const UID: &str = "8b7e12c0-1111-4222-8333-444455556666";
const TAKEN: i64 = 1_000_000;
/// Well after the take.
const LATER: i64 = TAKEN + 60_000;

fn running(id: &str) -> Container {
    Container { now: Incarnation::Running { id: Some(id.into()) }, before: None }
}

fn ended(id: &str) -> Incarnation {
    Incarnation::Ended { id: Some(id.into()), end: End { at: Some(LATER), guessed: false } }
}

/// Ended, and nothing in its place.
fn over(id: &str) -> Container {
    Container { now: ended(id), before: None }
}

/// Ended and begun again.
fn restarted(id: &str, again: &str) -> Container {
    Container { before: Some(ended(id)), ..running(again) }
}

fn pod(containers: Vec<Container>) -> Pod {
    Pod { name: "d-0".into(), uid: UID.into(), containers, ..Pod::default() }
}

fn row() -> LeaseRow {
    let holder = "d-0_8b7e12c0_1f0c9a3d".to_owned();
    LeaseRow { holder, lease_time: TAKEN, renew_time: TAKEN, version: 7, ttl: 30 }
}

/// What was recorded when the containers with these ids ran.
fn remembers(ids: &[&str]) -> Memory {
    Memory {
        holder: Some(row().holder),
        holder_pod: Some(HolderPod {
            name: "d-0".into(),
            uid: UID.into(),
            node: None,
            container_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }),
        version: 7,
        ..Memory::default()
    }
}

fn judge(ids: &[&str], containers: Vec<Container>) -> Result<(), Doubt> {
    has_ended(&remembers(ids), &row(), None, &pod(containers))
}

#[test]
fn a_pod_of_which_every_recorded_container_has_ended_is_no_leader_any_more() {
    for containers in [
        vec![over("a")],
        vec![restarted("a", "a2")],
        // Between its end and its next beginning.
        vec![Container { now: Incarnation::Waiting, before: Some(ended("a")) }],
        // What had ended by then was not recorded, and what never began cannot lead.
        vec![over("a"), over("init"), Container::default()],
    ] {
        assert_eq!(judge(&["a"], containers.clone()), Ok(()), "{containers:?}");
    }
    assert_eq!(judge(&["a", "b"], vec![over("a"), restarted("b", "b2")]), Ok(()));
}

/// A participant that told this of itself.
fn told(mode: Mode, promise: Option<Promise>) -> SeenInstance {
    SeenInstance {
        id: 1,
        component: "c".into(),
        holder: row().holder,
        start_time: TAKEN,
        heartbeat: TAKEN,
        lasts: 45,
        whereabouts: Whereabouts::default(),
        program_version: None,
        mode: Some(mode),
        promise,
        priority: None,
        healthy: true,
        leads: Some(7),
    }
}

fn within_the_pod(seconds: u64) -> Promise {
    Promise { longest: Duration::from_secs(seconds), outside: false }
}

fn outside(seconds: u64) -> Promise {
    Promise { longest: Duration::from_secs(seconds), outside: true }
}

/// A leader of two containers.
fn two() -> Memory {
    remembers(&["program", "agent"])
}

#[test]
fn what_took_the_place_of_an_ended_container_may_hold_the_last_promise_for_as_long_as_that_was_given() {
    // The program was restarted and asked the agent once more; then the agent was killed.
    let beside_it = || vec![restarted("program", "again"), over("agent")];
    let waiting = || Container { now: Incarnation::Waiting, before: Some(ended("program")) };
    let guess = Incarnation::Ended { id: Some("again".into()), end: End { at: Some(LATER), guessed: true } };
    for containers in [
        beside_it(),
        vec![over("program"), restarted("agent", "again")],
        // It may have begun by now.
        vec![waiting(), over("agent")],
        vec![Container { now: guess, before: Some(ended("program")) }, over("agent")],
    ] {
        let pod = pod(containers);
        assert_eq!(has_ended(&remembers(&["program", "agent"]), &row(), None, &pod), Ok(()), "{pod:?}");
        for mode in [Mode::Embedded, Mode::Around, Mode::Beside] {
            let wait = promised(&two(), Some(&told(mode, Some(within_the_pod(9)))), &pod);
            assert_eq!(wait, Ok(Duration::from_secs(10)), "{mode:?} {pod:?}");
            assert_eq!(promised(&two(), Some(&told(mode, Some(Promise::NONE))), &pod), Ok(Duration::ZERO));
            assert_eq!(
                promised(&two(), Some(&told(mode, Some(outside(9)))), &pod),
                Err(Doubt::PromisedOutside)
            );
        }
    }
    let on_its_node = Pod { host_network: true, ..pod(beside_it()) };
    let wait = |promise| promised(&two(), Some(&told(Mode::Beside, Some(promise))), &on_its_node);
    assert_eq!(wait(within_the_pod(9)), Err(Doubt::PromisedOutside), "its loopback interface is the node's");
    assert_eq!(wait(Promise::NONE), Ok(Duration::ZERO));
}

#[test]
fn what_took_the_place_of_the_only_container_was_told_nothing_by_what_ran_in_it_before() {
    let holder = told(Mode::Around, Some(within_the_pod(9)));
    let waiting = || Container { now: Incarnation::Waiting, before: Some(ended("a")) };
    for containers in [vec![restarted("a", "a2")], vec![waiting()], vec![over("init"), restarted("a", "a2")]]
    {
        assert_eq!(promised(&remembers(&["a"]), Some(&holder), &pod(containers)), Ok(Duration::ZERO));
    }
    // Which of two the holder was in is not known.
    let beside = pod(vec![restarted("a", "a2"), over("b")]);
    assert_eq!(promised(&remembers(&["a", "b"]), Some(&holder), &beside), Ok(Duration::from_secs(10)));
    // Not recorded as the leader's, so it may have asked.
    let stranger = pod(vec![restarted("a", "a2"), running("debugger")]);
    assert_eq!(promised(&remembers(&["a"]), Some(&holder), &stranger), Ok(Duration::from_secs(10)));
    let to_others = told(Mode::Around, Some(outside(9)));
    let restarted = pod(vec![restarted("a", "a2")]);
    assert_eq!(promised(&remembers(&["a"]), Some(&to_others), &restarted), Err(Doubt::PromisedOutside));
}

/// The whole way, as a decision goes it.
#[test]
fn a_decision_carries_how_long_the_holder_may_be_believed_also_when_its_heartbeat_is_out_of_date() {
    use super::super::fixtures;
    let mut leader = fixtures::pod("a");
    let mut o = fixtures::observed(fixtures::held_by("a", 7), vec![leader.clone(), fixtures::pod("b")]);
    o.memory = fixtures::remembers("a", 7);
    let row = fixtures::held_by("a", 7);
    let known = o.memory.holder_pod.as_mut().unwrap();
    known.container_ids = vec!["program".into(), "agent".into()];
    leader.containers = vec![restarted("program", "again"), over("agent")];
    o.pods = Ok(vec![leader, fixtures::pod("b")]);
    assert_eq!(fixtures::plan(&o).ended, None, "it is not known what it promised");
    o.holder_told = Some(SeenInstance { holder: row.holder, ..told(Mode::Beside, Some(within_the_pod(9))) });
    let suspicion = fixtures::plan(&o).ended.unwrap();
    assert_eq!((suspicion.pod.as_str(), suspicion.promised), ("a", Duration::from_secs(10)));
    o.holder_told = Some(SeenInstance { holder: "a_another".into(), ..o.holder_told.unwrap() });
    assert_eq!(fixtures::plan(&o).ended, None, "another holder told that");
}

#[test]
fn a_wait_covers_a_believer_whose_clock_is_slow_and_a_waiter_whose_clock_is_fast() {
    let pod = pod(vec![restarted("program", "again"), over("agent")]);
    for seconds in [1, 6, 1080] {
        let wait = promised(&two(), Some(&told(Mode::Beside, Some(within_the_pod(seconds)))), &pod)
            .unwrap()
            .as_secs_f64();
        let believed = Duration::from_secs(seconds).as_secs_f64() / 0.95;
        assert!(wait / 1.05 > believed && wait >= 1.1 * Duration::from_secs(seconds).as_secs_f64());
    }
}

#[test]
fn in_a_pod_of_which_nothing_runs_nobody_believes_anything_but_somebody_outside_may() {
    let all_over = pod(vec![over("program"), over("agent"), over("init")]);
    for mode in [Mode::Embedded, Mode::Around, Mode::Beside] {
        let wait = |promise| promised(&two(), Some(&told(mode, Some(promise))), &all_over);
        assert_eq!(wait(within_the_pod(9)), Ok(Duration::ZERO));
        assert_eq!(wait(outside(9)), Err(Doubt::PromisedOutside));
        let on_its_node = Pod { host_network: true, ..all_over.clone() };
        let wait = promised(&two(), Some(&told(mode, Some(within_the_pod(9)))), &on_its_node);
        assert_eq!(wait, Err(Doubt::PromisedOutside));
    }
}

#[test]
fn a_holder_that_told_nothing_may_have_promised_anything_to_anybody() {
    for containers in [vec![over("a")], vec![restarted("a", "again")]] {
        let pod = pod(containers);
        assert_eq!(promised(&two(), None, &pod), Err(Doubt::PromiseUnknown));
        // As the row of a program of an earlier release reads.
        let older = SeenInstance { mode: None, ..told(Mode::Beside, None) };
        assert_eq!(promised(&two(), Some(&older), &pod), Err(Doubt::PromiseUnknown));
    }
}

#[test]
fn one_ended_container_of_two_proves_nothing() {
    for containers in
        [vec![over("a"), running("b")], vec![restarted("a", "a2"), running("b")], vec![over("a")]]
    {
        assert_eq!(judge(&["a", "b"], containers), Err(Doubt::MayRun("b".into())));
    }
}

#[test]
fn a_container_that_has_restarted_twice_is_not_reported_any_more() {
    assert_eq!(judge(&["a"], vec![restarted("a2", "a3")]), Err(Doubt::MayRun("a".into())));
}

#[test]
fn an_end_that_the_kubelet_guessed_is_none() {
    let guess = Incarnation::Ended { id: Some("a".into()), end: End { at: Some(LATER), guessed: true } };
    let guessed = Container { now: guess, before: None };
    assert_eq!(judge(&["a"], vec![guessed]), Err(Doubt::Guessed("a".into())));
}

#[test]
fn a_pod_that_has_finished_without_telling_of_its_containers_proves_nothing() {
    let lost = Pod { finished: true, ..pod(vec![]) };
    assert_eq!(has_ended(&remembers(&["a"]), &row(), None, &lost), Err(Doubt::MayRun("a".into())));
}

#[test]
fn a_container_that_came_later_may_be_a_part_of_the_leader() {
    let debugger = judge(&["a"], vec![over("a"), running("debugger")]);
    assert_eq!(debugger, Err(Doubt::NewContainer("debugger".into())));
    let nameless = Container { now: Incarnation::Running { id: None }, before: None };
    assert!(matches!(judge(&["a"], vec![over("a"), nameless]), Err(Doubt::NewContainer(_))));
}

#[test]
fn a_container_that_ended_before_the_term_was_not_the_leaders() {
    for at in [None, Some(TAKEN - 1), Some(TAKEN), Some(TAKEN + CLOCK_TOLERANCE)] {
        let early = Incarnation::Ended { id: Some("a".into()), end: End { at, guessed: false } };
        let stale = Container { before: Some(early), ..running("a2") };
        assert_eq!(judge(&["a"], vec![stale]), Err(Doubt::Earlier("a".into())), "{at:?}");
    }
}

#[test]
fn another_pod_of_the_same_name_tells_nothing_of_this_one() {
    let other = Pod { uid: "8b7e12c0-another".into(), ..pod(vec![over("a")]) };
    assert_eq!(has_ended(&remembers(&["a"]), &row(), None, &other), Err(Doubt::OtherPod));
}

#[test]
fn only_what_was_recorded_for_this_very_term_counts() {
    let pod = pod(vec![over("a")]);
    let known = remembers(&["a"]);
    for memory in [
        Memory { version: 6, ..known.clone() },
        Memory { holder: Some("d-0_8b7e12c0_00000000".into()), ..known.clone() },
        Memory { holder_pod: None, ..known },
        remembers(&[]),
    ] {
        assert_eq!(has_ended(&memory, &row(), None, &pod), Err(Doubt::NothingRecorded), "{memory:?}");
    }
}

#[test]
fn a_holder_without_our_random_end_or_this_pods_uid_may_be_somebody_elses() {
    for holder in ["d-0", "d-0:8080", "d-0_8b7e12c0", "d-0_4711_1f0c9a3d", "d-1_8b7e12c0_1f0c9a3d"] {
        let row = LeaseRow { holder: holder.into(), ..row() };
        let memory = Memory { holder: Some(holder.into()), ..remembers(&["a"]) };
        assert_eq!(has_ended(&memory, &row, None, &pod(vec![over("a")])), Err(Doubt::NotOurs), "{holder}");
    }
}

#[test]
fn a_holder_of_another_name_that_has_told_its_pod_is_that_pod_if_it_has_our_random_end() {
    let at = |uid: &str| Whereabouts { pod_uid: Some(uid.to_owned()), ..Whereabouts::default() };
    let judge = |holder: &str, told: &Whereabouts| {
        let row = LeaseRow { holder: holder.into(), ..row() };
        let memory = Memory { holder: Some(holder.into()), ..remembers(&["a"]) };
        has_ended(&memory, &row, Some(told), &pod(vec![over("a")]))
    };
    assert_eq!(judge("berlin_4711_1f0c9a3d", &at(UID)), Ok(()));
    assert_eq!(judge("berlin_4711_1f0c9a3d", &at("another")), Err(Doubt::NotOurs));
    assert_eq!(judge("berlin", &at(UID)), Err(Doubt::NotOurs));
}
