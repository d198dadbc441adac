//! A leader that should make way by itself, and who could lead instead: one whose pod is not ready, where the resource
//! asks for a handover then, and one whose node is cordoned.

use std::time::Duration;

use super::decide::{Lead, Plan};
use super::observed::Observed;
use super::preference::{fittest, fittest_that_stays};
use crate::election::{HolderId, LeaseRow};

/// Why a leader should make way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause<'p> {
    /// Its pod is not ready: why, in a few words.
    NotReady(&'p str),
    /// Its node takes no new pods, and what runs there is about to be evicted.
    Cordoned(&'p str),
}

/// A leader that should make way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakesWay<'p> {
    pub row: &'p LeaseRow,
    pub pod: &'p str,
    pub cause: Cause<'p>,
    /// For so long this has to be the case.
    pub after: Duration,
    /// A healthy participant in a ready candidate, of a node that is not cordoned where that is the cause; `None` if
    /// no other participant is fit.
    pub instead: Option<HolderId>,
}

/// `None` where nobody leads, and while all is well with the leader.
#[must_use]
pub fn makes_way<'p>(o: &Observed, plan: &'p Plan) -> Option<MakesWay<'p>> {
    let Lead::Held(row, _) = &plan.lead else { return None };
    let pod = plan.leader.as_ref()?.as_ref().ok()?;
    let because = |cause, after, instead| MakesWay { row, pod: &pod.name, cause, after, instead };
    let not_ready = o.desired.hand_over_after.zip(pod.unready.as_deref());
    let not_ready = not_ready.map(|(after, why)| because(Cause::NotReady(why), after, fittest(o)));
    // One that is going away makes way in any case.
    let cordoned = o.desired.hand_over_when_cordoned && pod.cordoned && !pod.terminating;
    let cordoned = pod.node.as_deref().filter(|_| cordoned).map(|node| {
        let instead = fittest_that_stays(o);
        because(Cause::Cordoned(node), Duration::ZERO, instead)
    });
    // Where all nodes are cordoned, it may be worth while all the same.
    cordoned.filter(|cordoned| cordoned.instead.is_some() || not_ready.is_none()).or(not_ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::*;

    /// `b` leads. Each pod has a healthy participant, and a node of its own.
    fn led(unready: &[&str], cordoned: &[&str]) -> Observed {
        let mut o = observed(held_by("b", 7), ["a", "b", "c"].map(pod).to_vec());
        o.desired.hand_over_after = Some(S(30));
        for (id, pod) in (1_i64..).zip(o.pods.as_mut().unwrap()) {
            pod.unready = unready.contains(&pod.name.as_str()).then(|| "its probe fails".to_owned());
            pod.node = Some(format!("node-{}", pod.name));
            pod.cordoned = cordoned.contains(&pod.name.as_str());
            let mut seen = instance(&pod.name);
            (seen.id, seen.whereabouts.pod_uid) = (id, Some(pod.uid.clone()));
            o.instances.push(seen);
        }
        o
    }

    fn instead(o: &Observed) -> Option<String> {
        makes_way(o, &plan(o)).unwrap().instead.map(|holder| holder.as_str().to_owned())
    }

    fn of(name: &str) -> String {
        instance(name).holder
    }

    #[test]
    fn a_leader_that_is_ready_or_nobodys_lease_is_no_reason() {
        let mut o = led(&["a", "c"], &["a"]);
        assert_eq!(makes_way(&o, &plan(&o)), None);
        o = led(&["b"], &[]);
        o.desired.hand_over_after = None;
        assert_eq!(makes_way(&o, &plan(&o)), None, "the resource does not ask for it");
        let o = observed(row("", 7), vec![pod("b")]);
        assert_eq!(makes_way(&o, &plan(&o)), None);
    }

    #[test]
    fn only_a_healthy_participant_in_a_ready_pod_could_lead_instead() {
        let o = led(&["b"], &[]);
        let plan = plan(&o);
        let found = makes_way(&o, &plan).unwrap();
        assert_eq!((found.pod, found.row.version, found.after), ("b", 7, S(30)));
        assert_eq!(found.cause, Cause::NotReady("its probe fails"));
        assert_eq!(instead(&o), Some(of("a")), "the one that has been alive for longest");
        assert_eq!(instead(&led(&["a", "b"], &[])), Some(of("c")));
        assert_eq!(instead(&led(&["a", "b", "c"], &[])), None);
        let mut o = led(&["a", "b"], &[]);
        o.instances[2].healthy = false;
        assert_eq!(instead(&o), None);
    }

    #[test]
    fn the_leader_of_a_cordoned_node_makes_way_at_once_for_one_of_a_node_that_is_not() {
        let o = led(&[], &["a", "b"]);
        let plan_of = plan(&o);
        let found = makes_way(&o, &plan_of).unwrap();
        assert_eq!((found.cause, found.after), (Cause::Cordoned("node-b"), S(0)));
        assert_eq!(instead(&o), Some(of("c")));
        assert_eq!(instead(&led(&[], &["a", "b", "c"])), None, "there would be no end of it");
        assert_eq!(instead(&led(&["c"], &["a", "b"])), None, "c is not ready");
        let mut o = led(&[], &["b"]);
        o.pods.as_mut().unwrap()[1].terminating = true;
        assert_eq!(makes_way(&o, &plan(&o)), None, "it is being evicted already");
        let mut o = led(&[], &["b"]);
        o.desired.hand_over_when_cordoned = false;
        assert_eq!(makes_way(&o, &plan(&o)), None, "the resource does not want it");
    }

    #[test]
    fn a_leader_that_is_not_ready_makes_way_although_all_nodes_are_cordoned() {
        let o = led(&["b"], &["a", "b", "c"]);
        let plan_of = plan(&o);
        let found = makes_way(&o, &plan_of).unwrap();
        assert_eq!((found.cause, found.after), (Cause::NotReady("its probe fails"), S(30)));
        assert_eq!(instead(&o), Some(of("a")));
        let o = led(&["b"], &["b"]);
        let plan_of = plan(&o);
        assert_eq!(makes_way(&o, &plan_of).unwrap().after, S(0), "what is sooner comes first");
    }
}
