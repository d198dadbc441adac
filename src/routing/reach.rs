//! Whom a Service reaches. Two leases of a namespace may share a label key only while no Service can reach the
//! pods of both.

use std::collections::BTreeMap;

use super::observed::Desired;

type Labels = BTreeMap<String, String>;

/// What a managed Service selects: the leader label, and what `matchLabels` would.
#[must_use]
pub fn managed_selector(desired: &Desired) -> Labels {
    let candidates = desired.selector.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
    candidates.chain([(desired.labels.key.clone(), desired.labels.leader.clone())]).collect()
}

/// Whether the managed Service of one lease may reach a pod of another one that uses the same key, whichever
/// pods there are.
fn may_reach(one: &Desired, other: &Desired) -> bool {
    let values = [&other.labels.leader, &other.labels.standby];
    one.service.as_ref().is_some_and(|service| service.managed)
        && values.contains(&&one.labels.leader)
        && other.selector.may_match(&managed_selector(one))
}

/// Whether a Service reaches one of these pods once a lease has labelled it.
fn reaches<'p>(service: &Labels, lease: &Desired, pods: impl IntoIterator<Item = &'p Labels>) -> bool {
    let given =
        |key: &str, pod: &'p Labels, value: &str| pod.get(key).is_some_and(|carried| carried == value);
    let selects = |pod: &'p Labels, label: &String| {
        service.iter().all(
            |(key, value)| {
                if *key == lease.labels.key { value == label } else { given(key, pod, value) }
            },
        )
    };
    pods.into_iter()
        .filter(|pod| lease.selector.matches(pod))
        .any(|pod| selects(pod, &lease.labels.leader) || selects(pod, &lease.labels.standby))
}

/// Whether a Service reaches, or may reach, the pods of two leases that use the same key. `services` are the
/// selectors of those that exist in the namespace, by name; `pods` the labels of its pods.
#[must_use]
pub fn shared<'s>(
    one: &Desired,
    other: &Desired,
    services: impl IntoIterator<Item = (&'s str, &'s Labels)>,
    pods: &[Labels],
) -> Option<String> {
    let managed = |desired: &Desired| desired.service.as_ref().map(|service| service.name.clone());
    if may_reach(one, other) {
        return managed(one);
    }
    if may_reach(other, one) {
        return managed(other);
    }
    let key = &one.labels.key;
    let by_key = services.into_iter().filter(|(_, selector)| selector.contains_key(key));
    let mut both =
        by_key.filter(|(_, selector)| reaches(selector, one, pods) && reaches(selector, other, pods));
    both.next().map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::observed::DesiredService;
    use super::super::pod::{Requirement, Selector};
    use super::*;

    fn lease(requirement: Requirement, managed: bool) -> Desired {
        let service = DesiredService { name: "web".into(), managed, ports: Vec::new() };
        Desired {
            selector: Selector::new(vec![requirement]).unwrap(),
            service: Some(service),
            ..observed(held_by("a", 1), Vec::new()).desired
        }
    }

    fn of(values: &[&str]) -> Requirement {
        Requirement::In("app".into(), values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn a_managed_service_that_cannot_say_which_pods_shares_the_key_with_nobody() {
        for (one, other, shares) in [
            (of(&["a"]), of(&["b"]), false),
            (of(&["a", "c"]), of(&["b", "d"]), true),
            (of(&["a"]), of(&["b", "d"]), true),
            (of(&["a"]), Requirement::NotIn("app".into(), vec!["a".into()]), true),
            (Requirement::Exists("a".into()), Requirement::Exists("b".into()), true),
        ] {
            let (one, other) = (lease(one, true), lease(other, true));
            assert_eq!(shared(&one, &other, [], &[]).is_some(), shares, "{:?}", other.selector);
            assert_eq!(shared(&other, &one, [], &[]).is_some(), shares, "{:?}", other.selector);
        }
        let (one, mut other) = (lease(of(&["a", "c"]), true), lease(of(&["b"]), false));
        assert!(shared(&one, &other, [], &[]).is_some());
        (other.labels.leader, other.labels.standby) = ("primary".into(), "secondary".into());
        assert_eq!(shared(&one, &other, [], &[]), None, "other values under the same key");
    }

    #[test]
    fn a_service_that_somebody_made_is_judged_by_the_pods_that_it_would_reach() {
        let (one, other) = (lease(of(&["a"]), false), lease(of(&["b"]), false));
        let pods = ["a", "b"].map(|app| strings(&[("app", app), ("team", "t")]));
        for (selector, pods, shares) in [
            (strings(&[(KEY, "leader")]), &pods[..], true),
            (strings(&[(KEY, "standby")]), &pods[..], true),
            (strings(&[(KEY, "leader"), ("team", "t")]), &pods[..], true),
            (strings(&[(KEY, "leader"), ("app", "a")]), &pods[..], false),
            (strings(&[(KEY, "other")]), &pods[..], false),
            (strings(&[(KEY, "leader")]), &pods[..1], false),
            (strings(&[("team", "t")]), &pods[..], false),
        ] {
            let found = shared(&one, &other, [("theirs", &selector)], pods);
            assert_eq!(found.is_some(), shares, "{selector:?} {pods:?}");
        }
    }
}
