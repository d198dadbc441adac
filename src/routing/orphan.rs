//! Whether the leader's pod has fallen out of its workload. A workload whose selector asks for another value of our label
//! releases the pod that is labelled: it goes on leading, and nothing replaces it when it ends.

use super::conditions::{Condition, ConditionType, Reason};
use super::decide::Plan;
use super::decide::marks::is_candidate;
use super::observed::Observed;
use super::pod::Pod;

/// Labels that only a workload puts on its pods.
const MADE_BY_WORKLOADS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

pub(super) fn orphaned(o: &Observed, plan: &Plan) -> Option<Condition> {
    let Some(Ok(leader)) = &plan.leader else { return None };
    if leader.workload.is_some() {
        return None;
    }
    let marked = MADE_BY_WORKLOADS.iter().any(|label| leader.labels.contains_key(*label));
    let candidates = o.pods.iter().flatten().filter(|pod| is_candidate(o, pod));
    let mut workloads = candidates.filter_map(|pod| pod.workload.as_deref());
    let workload = workloads.find(|workload| marked || has_made(workload, leader));
    if !marked && workload.is_none() {
        return None;
    }
    let theirs = workload.map(|it| format!(", while other candidates belong to {it}")).unwrap_or_default();
    Some(Condition::new(
        ConditionType::LeaderOrphaned,
        true,
        Reason::ReleasedByWorkload,
        format!(
            "pod {} leads, and no workload owns it{theirs}: nothing will replace it. If the selector of its workload asks for label {}, which the controller changes, remove that label from the selector and from the pod template; then delete the pod",
            leader.name, o.desired.labels.key
        ),
    ))
}

/// Pods have the name of their workload, and more behind it. `workload` is a kind and a name.
fn has_made(workload: &str, pod: &Pod) -> bool {
    let name = workload.rsplit(' ').next().unwrap_or_default();
    !name.is_empty() && pod.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::*;

    const OWNER: &str = "ReplicaSet web-7d9";

    fn of(owner: Option<&str>, name: &str) -> Pod {
        Pod { workload: owner.map(ToOwned::to_owned), ..pod(name) }
    }

    fn said(pods: Vec<Pod>) -> Option<String> {
        let o = observed(held_by(&pods[0].name.clone(), 7), pods);
        orphaned(&o, &plan(&o)).map(|condition| condition.message)
    }

    #[test]
    fn a_leader_that_its_workload_has_released_is_said_with_what_to_change() {
        let released = said(vec![of(None, "web-7d9-a"), of(Some(OWNER), "web-7d9-b")]).unwrap();
        for piece in ["pod web-7d9-a leads", "belong to ReplicaSet web-7d9:", KEY] {
            assert!(released.contains(piece), "{released}");
        }
        // Alone, and known by what its workload wrote on it.
        let alone = said(vec![of(None, "web-7d9-a").label("pod-template-hash", "7d9")]).unwrap();
        assert!(alone.contains("no workload owns it: nothing"), "{alone}");
    }

    #[test]
    fn a_leader_that_belongs_to_a_workload_or_was_made_by_hand_is_no_orphan() {
        assert_eq!(said(vec![of(Some(OWNER), "web-7d9-a"), of(None, "web-7d9-b")]), None);
        assert_eq!(said(vec![of(None, "web-7d9"), of(Some(OWNER), "web-7d9-b")]), None);
        assert_eq!(said(vec![of(None, "by-hand"), of(Some(OWNER), "web-7d9-b")]), None);
        assert_eq!(said(vec![of(None, "a"), of(None, "b")]), None);
    }
}
