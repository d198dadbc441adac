//! The rules at their edges: each of these was found by `make mutants`, which changed a condition that no test noticed.

use super::conditions::{ConditionType, Reason, Truth};
use super::decide::Lead;
use super::decide::holder::{Rejection, pod_of};
use super::ended::{Doubt, has_ended};
use super::fixtures::*;
use super::floor::EpochRate;
use super::holder_pattern::HolderPattern;
use super::observed::{Memory, Observed, OnDatabaseUnreachable, RowSight, Status, StoreSight};
use super::outcome::Outcome;
use super::pod::{Pod, Requirement, Selector};
use super::report::{holder_pod, report};
use crate::election::LeaseRow;

/// The database is away, labels are to go, and the resource's ttl is not the row's.
fn away(row: LeaseRow, pods: Vec<Pod>) -> Observed {
    let mut o = Observed { store: down(), memory: remembers("b", 7), ..observed(row, pods) };
    o.desired.on_database_unreachable = OnDatabaseUnreachable::Remove;
    o.desired.ttl = 20;
    o
}

fn said(o: &Observed) -> Status {
    report(o, &plan(o), &Outcome::default())
}

fn of(status: &Status, kind: ConditionType) -> (Truth, Reason) {
    let condition = status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
    (condition.status, condition.reason)
}

/// A pod that another lease's selector matches, not this one's.
fn outside(name: &str) -> Pod {
    pod(name).label("app", "other")
}

#[test]
fn labels_go_by_the_ttl_of_the_row_that_is_held_and_without_one_by_the_resources() {
    // A pod knows of a later term than this row: nobody can say who leads until the labels run out.
    let pods = || vec![pod("a").stamp(8), pod("b").marked("leader", 7)];
    for (row, until) in [(held_by("b", 7), S(105)), (row("", 7), S(115))] {
        let o = Observed { now: S(104), ..away(row, pods()) };
        let plan = plan(&o);
        assert!(matches!(plan.lead, Lead::Unknown));
        assert_eq!(plan.next, Some(until), "then it is decided again");
    }
}

#[test]
fn a_foreign_holder_that_follows_another_begins_a_term_also_with_a_version_that_it_raises_itself() {
    let mut memory = remembers("a", 6);
    memory.holder = Some("a".into());
    let o = Observed { memory, ..observed(row("b", 7), vec![pod("a").marked("leader", 6), pod("b")]) };
    let plan = plan(&o);
    assert_eq!((plan.version, plan.transition, labelled(&plan)), (7, true, Some("b")));
}

#[test]
fn a_pod_outside_the_selector_loses_a_leader_label_that_no_other_lease_has_put_there() {
    let o = observed(held_by("b", 7), vec![outside("a").label(KEY, "leader"), pod("b")]);
    let plan = plan(&o);
    assert_eq!(names(&plan.strip), ["a"]);
    assert_eq!(plan.strip[0].labels, [(KEY.to_owned(), None)].into());
}

#[test]
fn a_standby_that_left_the_selector_keeps_nothing_of_ours_either() {
    let o = observed(held_by("b", 7), vec![outside("a").marked("standby", 6), pod("b").marked("leader", 7)]);
    let plan = plan(&o);
    assert_eq!((names(&plan.stamp), plan.strip.len()), (vec!["a"], 0));
    assert_eq!(plan.stamp[0].labels, [(KEY.to_owned(), None)].into());
    assert_eq!(plan.stamp[0].annotations, [(VERSION.to_owned(), None)].into());
}

#[test]
fn the_label_under_the_last_key_leaves_a_candidate_that_has_lost_its_stamp() {
    let old = "example.org/role";
    let mut o = observed(held_by("b", 7), vec![pod("a").label(old, "standby"), pod("b")]);
    o.memory.applied = Some(scheme(old, "leader"));
    assert_eq!(plan(&o).stamp[0].labels, [(KEY.to_owned(), some("standby")), (old.to_owned(), None)].into());
}

#[test]
fn a_lease_that_has_expired_is_said_to_have_once() {
    let expired = |held| {
        let memory = Memory { held, ..remembers("b", 7) };
        plan(&Observed {
            now: S(106),
            memory,
            ..observed(held_by("b", 7), vec![pod("b").marked("leader", 7)])
        })
    };
    assert_eq!([true, false].map(|held| expired(held).events.len()), [1, 0]);
}

#[test]
fn the_pod_of_the_last_term_is_not_taken_for_that_of_a_new_one() {
    let o = Observed {
        memory: remembers("a", 6),
        pods: Err("the pods cannot be listed".into()),
        ..observed(held_by("b", 7), vec![])
    };
    let begun = plan(&o);
    assert!(begun.transition && holder_pod(&o, &begun).is_none());
    let goes_on = Observed { memory: remembers("b", 7), ..o };
    assert_eq!(holder_pod(&goes_on, &plan(&goes_on)).unwrap().name, "b");
    // Recorded again: its containers may have been others in the last term.
    let mut memory = remembers("b", 6);
    memory.holder_pod.as_mut().unwrap().container_ids = vec!["containerd://before".into()];
    let o = Observed { memory, ..observed(held_by("b", 7), vec![pod("b")]) };
    assert_eq!(holder_pod(&o, &plan(&o)).unwrap().container_ids, ["containerd://b"]);
}

#[test]
fn the_beginning_of_another_uid_is_not_that_of_this_pod() {
    let (mut memory, mut held) = (remembers("d", 7), held_by("d", 7));
    held.holder = "d_0123abcd_0badcafe".into();
    memory.holder = Some(held.holder.clone());
    assert_eq!(has_ended(&memory, &held, None, &pod("d")), Err(Doubt::NotOurs));
}

#[test]
fn an_epoch_that_did_not_begin_frees_its_own_place_and_not_an_earlier_one() {
    let mut rate = EpochRate::default();
    assert!(rate.begin(S(0)) && rate.begin(S(1_800)));
    rate.not_begun(S(1_800));
    // The first one is an hour old.
    let begun = (3_600..).map_while(|at| rate.begin(S(at)).then_some(at));
    assert_eq!(begun.count(), 3);
}

#[test]
fn a_doubtful_foreign_holder_is_said_to_be_each_pod_that_it_may_be_once() {
    let pods = ["web", "web-1", "db"].map(pod);
    let selector = Selector::new(vec![Requirement::Exists("app".into())]).unwrap();
    match pod_of(&row("web-1-7", 7), &pods, &selector, "shop", None, None) {
        Err(Rejection::Ambiguous { pods, .. }) => assert_eq!(pods, "web-1, web"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_foreign_holders_pod_may_have_started_as_late_as_the_clocks_may_differ() {
    let selector = Selector::new(vec![Requirement::Exists("app".into())]).unwrap();
    let started = |at| {
        let pods = [Pod { started: Some(at), ..pod("b") }];
        pod_of(&row("b", 7), &pods, &selector, "shop", None, None).map(|pod| pod.name.clone())
    };
    assert_eq!(started(55_000).as_deref(), Ok("b"));
    assert!(matches!(started(55_001), Err(Rejection::StartedLater { .. })));
}

#[test]
fn a_pattern_of_some_length_is_accepted_and_two_are_equal_by_their_text() {
    let long = format!("({}|worker)@(?P<pod>[-a-z0-9.]{{1,63}})", ["abcdefgh"; 32].join("|"));
    let pattern = HolderPattern::new(&long).unwrap();
    assert_eq!(pattern.pod("abcdefgh@d-1"), Some("d-1"));
    let other = HolderPattern::new("(?P<pod>.*)").unwrap();
    assert!(pattern == HolderPattern::new(&long).unwrap() && pattern != other);
}

#[test]
fn a_pod_may_match_whatever_its_labels_do_not_exclude() {
    let selector = |requirement| Selector::new(vec![requirement]).unwrap();
    let none = selector(Requirement::DoesNotExist("x".into()));
    let other = selector(Requirement::NotIn("x".into(), vec!["1".into()]));
    for (labels, not_there, not_in) in
        [(&[][..], true, true), (&[("x", "1")], false, false), (&[("x", "2")], false, true)]
    {
        let labels = strings(labels);
        assert_eq!((none.may_match(&labels), other.may_match(&labels)), (not_there, not_in), "{labels:?}");
    }
}

#[test]
fn a_row_that_was_never_seen_is_unknown_also_when_the_labels_have_run_out() {
    let o = Observed { row: RowSight::Never { since: S(60) }, ..away(held_by("b", 7), vec![pod("b")]) };
    let status = said(&o);
    assert!(matches!(plan(&o).lead, Lead::Vacant(None)));
    let elected = of(&status, ConditionType::LeaderElected).0;
    assert_eq!((elected, status.holder), (Truth::Unknown, remembers("b", 7).holder));
}

#[test]
fn a_row_that_is_gone_has_no_holder_and_one_that_was_released_no_time_of_renewal() {
    let gone = Observed {
        row: RowSight::Seen { row: None, since: S(95) },
        memory: remembers("b", 7),
        ..observed(row("", 7), vec![pod("b")])
    };
    assert_eq!(said(&gone).holder, None);
    let released = LeaseRow { renew_time: 0, ..row("", 7) };
    assert_eq!(said(&observed(released, vec![pod("b")])).renew_time, None);
}

#[test]
fn who_leads_is_not_known_before_the_row_was_seen_nor_from_another_database() {
    let led = || Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), vec![pod("b")]) };
    let never = Observed { row: RowSight::Never { since: S(95) }, ..led() };
    let another = Observed { store: StoreSight::Another("uuid-b".into()), ..led() };
    for (o, reason) in [(never, Reason::NotYetKnown), (another, Reason::AnotherDatabase)] {
        assert_eq!(of(&said(&o), ConditionType::LeaderElected), (Truth::Unknown, reason));
    }
}

#[test]
fn a_database_that_was_not_asked_yet_is_not_said_to_answer() {
    let never = Observed { row: RowSight::Never { since: S(95) }, ..observed(row("", 7), vec![pod("b")]) };
    assert_eq!(of(&said(&never), ConditionType::DatabaseReachable), (Truth::Unknown, Reason::NotYetKnown));
}

#[test]
fn ready_repeats_what_is_wrong_beside_a_database_that_is_away() {
    let pods = vec![pod("a").marked("standby", 7)];
    let o = Observed { store: down(), memory: remembers("b", 7), ..observed(held_by("b", 7), pods) };
    let status = said(&o);
    let (accepted, rejected) = of(&status, ConditionType::HolderAccepted);
    assert_eq!((accepted, of(&status, ConditionType::Ready)), (Truth::False, (Truth::Unknown, rejected)));
}

#[test]
fn the_status_of_a_condition_is_written_as_kubernetes_reads_it() {
    assert_eq!([Truth::True, Truth::False, Truth::Unknown].map(Truth::as_str), ["True", "False", "Unknown"]);
}
