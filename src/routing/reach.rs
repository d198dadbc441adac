//! Whom a Service reaches: pods, by their labels. One that somebody made should reach the pod that leads and no other
//! one; and two leases of a namespace may share a label key only while no Service can reach the pods of both.

use std::collections::BTreeMap;
use std::fmt;

use super::observed::{Desired, LabelScheme, SeenService};
use super::pod::Pod;

type Labels = BTreeMap<String, String>;

/// So many pods are named in a message.
const PODS_NAMED: usize = 3;

/// What a managed Service selects: the leader label, and what `matchLabels` would, since another lease with other
/// pods may use the same key.
#[must_use]
pub fn managed_selector(desired: &Desired) -> Labels {
    let candidates = desired.selector.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
    candidates.chain([(desired.labels.key.clone(), desired.labels.leader.clone())]).collect()
}

/// Why a Service does not reach exactly the pod that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// Of type `ExternalName`: its name leads to a host, and its selector counts for nothing.
    ExternalName,
    /// Somebody else writes its endpoints.
    NoSelector,
    /// It asks for another value of the leader label's key. The followers' value reaches these pods, any other none.
    OtherValue { value: String, reaches: Vec<String> },
    /// It does not ask for the leader label, so it reaches these pods whether they lead or not.
    IgnoresLabel { reaches: Vec<String> },
    /// It asks for labels that this pod does not carry, and for the leader label or not.
    OtherLabels { pod: String, lacks: Labels, asks_for_leader: bool },
}

/// Judges a Service by the pods that it reaches once those of this lease are labelled. Readiness plays no part: a
/// pod that is not ready now may be so in a moment. Nor does which pod leads just now, but for one thing: only the
/// leader has to carry the other labels that the Service asks for.
///
/// # Errors
/// Why the Service does not reach exactly the pod that leads.
pub fn reaches_the_leader<'p>(
    desired: &Desired,
    service: &SeenService,
    leader: Option<&'p Pod>,
    candidates: impl IntoIterator<Item = &'p Pod>,
) -> Result<(), Mismatch> {
    if service.external_name {
        return Err(Mismatch::ExternalName);
    }
    let selector = &service.selector;
    if selector.is_empty() {
        return Err(Mismatch::NoSelector);
    }
    let candidates: Vec<&Pod> = candidates.into_iter().collect();
    let scheme = &desired.labels;
    let as_followers =
        candidates.iter().filter(|pod| selects(desired, selector, &pod.labels, &scheme.standby));
    let reaches: Vec<String> = as_followers.map(|pod| pod.name.clone()).collect();
    let value = selector.get(&scheme.key);
    if let Some(value) = value.filter(|value| **value != scheme.leader) {
        return Err(Mismatch::OtherValue { value: value.clone(), reaches });
    }
    let lacks = |pod: &Pod| -> Labels {
        let carries = |key: &String, value: &String| *key == scheme.key || pod.labels.get(key) == Some(value);
        let lacks = selector.iter().filter(|(key, value)| !carries(key, value));
        lacks.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    // Where nobody leads, it is wrong only if it would reach no candidate.
    let judged = leader.or_else(|| candidates.iter().copied().min_by_key(|pod| lacks(pod).len()));
    let asks_for_leader = value.is_some();
    match judged.map(|pod| (pod, lacks(pod))) {
        Some((pod, lacks)) if !lacks.is_empty() && (asks_for_leader || reaches.is_empty()) => {
            Err(Mismatch::OtherLabels { pod: pod.name.clone(), lacks, asks_for_leader })
        }
        _ if asks_for_leader => Ok(()),
        _ => Err(Mismatch::IgnoresLabel { reaches }),
    }
}

impl Mismatch {
    /// What is wrong with the Service of this name, and what to change.
    #[must_use]
    pub fn explained(&self, name: &str, scheme: &LabelScheme) -> String {
        let LabelScheme { key, leader, .. } = scheme;
        match self {
            Self::ExternalName => format!(
                "Service {name} is of type ExternalName, so it leads to a host and never to a pod: change its type to ClusterIP and select {key}={leader}"
            ),
            Self::NoSelector => format!(
                "Service {name} has no selector, so it reaches what its EndpointSlices say and does not follow the leader: give it a selector with {key}={leader}, and delete the EndpointSlices that were made for it by hand"
            ),
            Self::OtherValue { value, reaches } => {
                let whom = match &reaches[..] {
                    [] => "no pod".to_owned(),
                    pods => format!(
                        "{} only while {} not lead",
                        Pods(pods),
                        if pods.len() == 1 { "it does" } else { "they do" }
                    ),
                };
                format!(
                    "Service {name} selects {key}={value}, so it reaches {whom}: change that to {key}={leader} in its selector"
                )
            }
            Self::IgnoresLabel { reaches } => {
                let whom = match &reaches[..] {
                    [] => "pods whether they lead".to_owned(),
                    pods => format!(
                        "{} whether {}",
                        Pods(pods),
                        if pods.len() == 1 { "it leads" } else { "they lead" }
                    ),
                };
                format!(
                    "Service {name} does not select {key}={leader}, so it reaches {whom} or not: add that to its selector"
                )
            }
            Self::OtherLabels { pod, lacks, asks_for_leader } => {
                let lacks: Vec<_> = lacks.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let lacks = lacks.join(",");
                if *asks_for_leader {
                    format!(
                        "Service {name} selects {lacks} beside the leader label, and pod {pod} does not carry that, so the Service does not reach it: remove {lacks} from its selector, or add it to the labels of the pods"
                    )
                } else {
                    format!(
                        "Service {name} selects {lacks}, which pod {pod} does not carry, so the Service does not reach it: select {key}={leader} instead"
                    )
                }
            }
        }
    }
}

/// Pods in a message: the first few by name.
struct Pods<'p>(&'p [String]);

impl fmt::Display for Pods<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.iter().take(PODS_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let word = if self.0.len() == 1 { "pod" } else { "pods" };
        match self.0.len().saturating_sub(PODS_NAMED) {
            0 => write!(f, "{word} {named}"),
            more => write!(f, "{word} {named} and {more} more"),
        }
    }
}

/// Whether a selector reaches a pod with these labels once the lease has given it this value of its label.
fn selects(lease: &Desired, selector: &Labels, pod: &Labels, value: &String) -> bool {
    selector.iter().all(
        |(key, wanted)| if *key == lease.labels.key { wanted == value } else { pod.get(key) == Some(wanted) },
    )
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
    let LabelScheme { leader, standby, .. } = &lease.labels;
    pods.into_iter()
        .filter(|pod| lease.selector.matches(pod))
        .any(|pod| selects(lease, service, pod, leader) || selects(lease, service, pod, standby))
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
#[path = "reach_tests.rs"]
mod tests;
