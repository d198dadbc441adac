//! Each rule of the controller, on the smallest view that can tell right from wrong.

use std::time::Duration;

use super::super::conditions::EventReason;
use super::super::fixtures::*;
use super::super::observed::{Memory, RowSight};
use super::super::pod::Container;
use super::super::report::holder_pod;
use super::*;
use crate::election::row::LeaseRow;

#[test]
fn the_old_leader_is_stripped_the_others_are_stamped_and_the_new_one_is_labelled() {
    let pods =
        vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6), pod("c").marked("standby", 6)];
    let plan = plan(&Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), pods) });
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec!["c"], Some("b")));
    assert_eq!(plan.strip[0].labels, [(KEY.to_owned(), some("standby"))].into());
    assert_eq!(plan.strip[0].annotations, [(VERSION.to_owned(), some("7"))].into(), "a strip stamps too");
    assert_eq!(plan.stamp[0].labels, [].into(), "what is right already is not written");
    assert_eq!(plan.label.unwrap().labels, [(KEY.to_owned(), some("leader"))].into());
    assert!(plan.foreign.is_empty());
}

#[test]
fn every_change_is_bound_to_the_uid_and_the_resource_version_that_were_seen() {
    let pods = vec![pod("a").marked("leader", 6), pod("b"), pod("c")];
    let plan = plan(&observed(held_by("b", 7), pods));
    for change in plan.strip.iter().chain(&plan.stamp).chain(&plan.label) {
        let pod = pod(&change.name);
        assert_eq!((&change.uid, &change.resource_version), (&pod.uid, &pod.resource_version));
    }
    assert_eq!(plan.strip.len() + plan.stamp.len(), 2);
}

#[test]
fn when_all_is_as_it_should_be_nothing_is_planned() {
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 7)];
    let plan = plan(&Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) });
    assert!(touches_no_pod(&plan) && plan.events.is_empty() && plan.services.is_empty() && !plan.transition);
    assert_eq!((plan.candidates, plan.next), (2, Some(S(105))));
}

#[test]
fn a_pod_that_left_the_selector_keeps_nothing_of_ours() {
    let mut gone = pod("a").marked("leader", 6);
    gone.labels.insert("app".into(), "other".into());
    let plan =
        plan(&Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), vec![gone, pod("b")]) });
    assert_eq!(names(&plan.strip), ["a"]);
    assert_eq!(plan.strip[0].labels, [(KEY.to_owned(), None)].into());
    assert_eq!(plan.strip[0].annotations, [(VERSION.to_owned(), None)].into());
    assert_eq!(plan.candidates, 1);
}

#[test]
fn a_pod_outside_the_selector_that_was_never_ours_is_not_touched() {
    let mut other = pod("a").label(KEY, "whatever");
    other.labels.insert("app".into(), "other".into());
    let plan = plan(&observed(held_by("b", 7), vec![other, pod("b").marked("leader", 7)]));
    assert!(touches_no_pod(&plan));
}

#[test]
fn a_finished_pod_is_cleaned_and_is_no_candidate() {
    let finished = Pod { finished: true, ..pod("a").marked("leader", 7) };
    let never_ours = Pod { finished: true, ..pod("c") };
    let o = observed(held_by("a", 7), vec![finished, pod("b"), never_ours]);
    let plan = plan(&Observed { memory: remembers("a", 7), ..o });
    assert!(matches!(plan.leader, Some(Err(Rejection::Finished { .. }))));
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec!["b"], None));
    assert_eq!(plan.strip[0].labels[KEY], None);
    assert_eq!(plan.candidates, 1);
}

#[test]
fn a_leader_label_that_somebody_else_put_on_is_removed_and_said() {
    let pods = vec![pod("a").marked("leader", 7), pod("b").marked("leader", 7)];
    let plan = plan(&Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) });
    assert_eq!((names(&plan.strip), plan.label.as_ref()), (vec!["a"], None));
    assert_eq!(plan.foreign, ["a"]);
    let event = &plan.events[0];
    assert!(
        event.reason == EventReason::ForeignLabelRemoved && event.warning && event.note.contains("pod a ")
    );
}

#[test]
fn a_pod_born_with_the_label_is_stripped_even_though_it_was_never_stamped() {
    let pods = vec![pod("a").label(KEY, "leader"), pod("b").marked("leader", 7)];
    let plan = plan(&Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) });
    assert_eq!((names(&plan.strip), plan.foreign), (vec!["a"], vec!["a".to_owned()]));
}

#[test]
fn a_lapsed_row_is_nobodys_and_its_pod_is_stripped() {
    let o = Observed {
        memory: remembers("a", 7),
        ..observed(held_by("a", 7), vec![pod("a").marked("leader", 7)])
    };
    let held = plan(&Observed { now: S(105) - Duration::from_millis(1), ..o.clone() });
    assert!(matches!(held.lead, Lead::Held(..)) && touches_no_pod(&held));
    let lapsed = plan(&Observed { now: S(105), ..o });
    assert!(matches!(lapsed.lead, Lead::Expired(_)));
    assert_eq!((names(&lapsed.strip), labelled(&lapsed)), (vec!["a"], None));
    assert_eq!(lapsed.events[0].reason, EventReason::LeaseExpired);
    assert!(!lapsed.transition, "nobody new leads");
}

#[test]
fn a_released_row_strips_its_pod_and_is_said() {
    let o = observed(row("", 7), vec![pod("a").marked("leader", 7)]);
    let plan = plan(&Observed { memory: remembers("a", 7), ..o });
    assert_eq!((names(&plan.strip), labelled(&plan)), (vec!["a"], None));
    assert_eq!(plan.events[0].reason, EventReason::LeaseReleased);
    assert_eq!((plan.version, plan.transition), (7, false));
}

#[test]
fn an_unreachable_leader_pod_is_stripped_like_any_other_once_its_lease_is_lost() {
    // A pod on a dead node, or one that is terminating, is observed as it was; only the row counts.
    let dead = Pod { node: some("dead"), ..pod("a").marked("leader", 6) };
    let still = observed(held_by("a", 6), vec![dead.clone(), pod("b").marked("standby", 6)]);
    assert!(touches_no_pod(&plan(&Observed { memory: remembers("a", 6), ..still })));
    let lost = observed(held_by("b", 7), vec![dead, pod("b").marked("standby", 6)]);
    assert_eq!(names(&plan(&Observed { memory: remembers("a", 6), ..lost }).strip), ["a"]);
}

#[test]
fn a_foreign_holder_that_raises_its_version_at_each_renewal_causes_no_change() {
    let pods = vec![pod("a").marked("leader", 7), pod("b").marked("standby", 7)];
    let mut o = observed(row("a", 93), pods);
    o.memory = Memory { holder: some("a"), ..remembers("a", 7) };
    let plan = plan(&o);
    assert!(touches_no_pod(&plan) && !plan.transition && plan.events.is_empty());
    assert_eq!(plan.version, 7);
}

#[test]
fn a_foreign_holders_new_term_is_one_when_a_stamp_tells_of_another_in_between() {
    // b led with version 8, and the controller that saw that could not write the status.
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 8)];
    let mut o = observed(row("a", 9), pods);
    o.memory = Memory { holder: some("a"), ..remembers("a", 7) };
    let plan = plan(&o);
    assert_eq!((plan.version, plan.transition), (9, true));
    assert_eq!((names(&plan.strip), labelled(&plan)), (vec!["b"], Some("a")));
}

#[test]
fn a_foreign_holder_whose_version_fell_is_shown_as_the_row_has_it() {
    let pods = vec![pod("a").marked("leader", 41)];
    let mut o = Observed { row_confirmed: true, ..observed(row("a", 3), pods) };
    o.memory = Memory { holder: some("a"), ..remembers("a", 41) };
    assert_eq!(plan(&o).version, 3);
}

#[test]
fn a_holder_that_is_no_candidate_strips_everybody_and_labels_nobody() {
    let pods = vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6)];
    let plan = plan(&Observed { memory: remembers("a", 6), ..observed(held_by("stranger", 7), pods) });
    assert!(matches!(plan.leader, Some(Err(Rejection::NoSuchPod { .. }))));
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec!["b"], None));
    let reasons: Vec<_> = plan.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, [EventReason::LeaderElected, EventReason::HolderRejected]);
}

#[test]
fn a_resource_whose_claim_is_taken_touches_nothing() {
    let o = observed(held_by("b", 7), vec![pod("a").marked("leader", 6), pod("b")]);
    let decision = decide(&Observed { claim: Claim::Taken("shop/first".into()), ..o });
    assert!(matches!(decision, Decision::Conflict(by) if by == "shop/first"));
}

#[test]
fn a_term_is_counted_when_the_holder_or_its_version_changes_and_only_then() {
    let transition = |row: LeaseRow, memory: Memory| {
        plan(&Observed { memory, ..observed(row, vec![pod("a"), pod("b")]) }).transition
    };
    assert!(transition(held_by("a", 1), Memory::default()), "the first ever");
    assert!(!transition(held_by("a", 7), remembers("a", 7)), "a renewal");
    assert!(transition(held_by("b", 8), remembers("a", 7)), "another holder");
    assert!(transition(held_by("a", 8), remembers("a", 7)), "the same holder again");
    assert!(!transition(row("", 7), remembers("a", 7)), "a release");
    let stopped = Observed { now: S(105), ..observed(held_by("a", 7), vec![]) };
    assert!(!plan(&Observed { memory: remembers("a", 7), ..stopped }).transition, "an expiry");
}

#[test]
fn the_leaders_containers_are_recorded_once_all_of_them_have_begun() {
    let waiting = Pod {
        containers: vec![running("containerd://a"), Container::default()],
        ..pod("a").marked("leader", 7)
    };
    let mut o = observed(held_by("a", 7), vec![waiting]);
    o.memory = remembers("a", 7);
    o.memory.holder_pod.as_mut().unwrap().container_ids.clear();
    assert!(holder_pod(&o, &plan(&o)).unwrap().container_ids.is_empty());
    o.pods.as_mut().unwrap()[0].containers[1] = running("containerd://b");
    assert_eq!(holder_pod(&o, &plan(&o)).unwrap().container_ids, ["containerd://a", "containerd://b"]);
}

#[test]
fn a_leader_pod_that_has_finished_is_not_forgotten_within_the_term() {
    let finished = Pod { finished: true, ..pod("a").marked("leader", 7) };
    let o = Observed { memory: remembers("a", 7), ..observed(held_by("a", 7), vec![finished]) };
    let plan = plan(&o);
    assert_eq!((names(&plan.strip), holder_pod(&o, &plan)), (vec!["a"], o.memory.holder_pod.clone()));
}

#[test]
fn the_leaders_containers_are_those_of_the_moment_at_which_it_was_labelled() {
    let restarted = Pod { containers: vec![running("containerd://second")], ..pod("a").marked("leader", 7) };
    let same_term = Observed { memory: remembers("a", 7), ..observed(held_by("a", 7), vec![restarted]) };
    assert_eq!(holder_pod(&same_term, &plan(&same_term)).unwrap().container_ids, ["containerd://a"]);
    let next_term =
        Observed { row: RowSight::Seen { row: Some(held_by("a", 8)), since: S(99) }, ..same_term };
    assert_eq!(holder_pod(&next_term, &plan(&next_term)).unwrap().container_ids, ["containerd://second"]);
}
