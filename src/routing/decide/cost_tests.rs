//! What the leader's pod costs to delete.

use super::*;
use crate::routing::fixtures::*;
use crate::routing::observed::RowSight;

const MARK: &str = "componentlease.io/web-deletion-cost";

fn costing(mut pod: Pod, cost: &str, mark: Option<&str>) -> Pod {
    pod.annotations.insert(DELETION_COST.to_owned(), cost.to_owned());
    pod.annotations.extend(mark.map(|mark| (MARK.to_owned(), mark.to_owned())));
    pod
}

/// `b` leads, after `a`.
fn led(cost: Option<i32>, pods: Vec<Pod>) -> Observed {
    let mut o = observed(held_by("b", 7), pods);
    o.memory = remembers("a", 6);
    o.desired.deletion_cost = cost;
    o
}

/// What a change says of the cost.
fn said(change: &PodChange) -> Vec<(&str, Option<&str>)> {
    let of_cost = |key: &&String| [DELETION_COST, MARK].contains(&key.as_str());
    let said = change.annotations.iter().filter(|(key, _)| of_cost(key));
    said.map(|(key, value)| (key.as_str(), value.as_deref())).collect()
}

#[test]
fn the_cost_comes_with_the_label_and_goes_with_it_in_the_same_patches() {
    let a = costing(pod("a").marked("leader", 6), "100", Some("100"));
    let plan = plan(&led(Some(100), vec![a, pod("b").marked("standby", 6), pod("c").marked("standby", 6)]));
    assert_eq!(names(&plan.strip), ["a"]);
    assert_eq!(said(&plan.strip[0]), [(MARK, None), (DELETION_COST, None)]);
    let label = plan.label.as_ref().unwrap();
    assert_eq!(label.labels, [(KEY.to_owned(), some("leader"))].into());
    assert_eq!(said(label), [(MARK, Some("100")), (DELETION_COST, Some("100"))]);
    assert_eq!((names(&plan.stamp), said(&plan.stamp[0])), (vec!["c"], vec![]));
}

#[test]
fn a_cost_that_changes_or_is_not_asked_for_any_more_is_corrected_while_the_pod_leads() {
    let leads = || costing(pod("b").marked("leader", 7), "100", Some("100"));
    assert!(touches_no_pod(&plan(&led(Some(100), vec![leads()]))));
    let now = plan(&led(Some(-7), vec![leads()]));
    assert_eq!(said(now.label.as_ref().unwrap()), [(MARK, Some("-7")), (DELETION_COST, Some("-7"))]);
    let none = plan(&led(None, vec![leads()]));
    assert_eq!(said(none.label.as_ref().unwrap()), [(MARK, None), (DELETION_COST, None)]);
}

#[test]
fn a_cost_that_somebody_else_has_written_is_left_alone() {
    let theirs = costing(pod("b").marked("leader", 7), "5", None);
    assert!(touches_no_pod(&plan(&led(Some(100), vec![theirs]))));
    // Over ours: from now on it is theirs, also when the pod does not lead any more.
    let over = |pod| costing(pod, "5", Some("100"));
    let leads = plan(&led(Some(100), vec![over(pod("b").marked("leader", 7))]));
    assert_eq!(said(leads.label.as_ref().unwrap()), [(MARK, None)]);
    let led_before = over(pod("a").marked("leader", 6));
    let follows = plan(&led(Some(100), vec![led_before, pod("b").marked("standby", 6)]));
    assert_eq!(said(&follows.strip[0]), [(MARK, None)]);
}

#[test]
fn who_took_the_cost_away_finds_it_again_and_one_without_a_leader_has_none() {
    let mut leads = costing(pod("b").marked("leader", 7), "100", Some("100"));
    leads.annotations.remove(DELETION_COST);
    let again = plan(&led(Some(100), vec![leads.clone()]));
    assert_eq!(said(again.label.as_ref().unwrap()), [(DELETION_COST, Some("100"))]);
    let mut free = led(Some(100), vec![costing(leads, "100", Some("100"))]);
    free.row = RowSight::Seen { row: Some(row("", 7)), since: S(99) };
    let plan = plan(&free);
    assert_eq!(said(&plan.strip[0]), [(MARK, None), (DELETION_COST, None)]);
}
