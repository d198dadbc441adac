//! Which pods are stripped, stamped and labelled.

use std::collections::BTreeMap;

use super::super::observed::Observed;
use super::super::pod::{DELETION_COST, Marks, Pod, default_label_key};
use super::lead::Lead;
use super::plan::PodChange;

pub(in crate::routing) fn is_candidate(o: &Observed, pod: &Pod) -> bool {
    !pod.finished && o.desired.selector.matches(&pod.labels)
}

/// What must change on which pods.
#[derive(Default)]
pub(super) struct PodChanges {
    pub(super) strip: Vec<PodChange>,
    pub(super) stamp: Vec<PodChange>,
    pub(super) label: Option<PodChange>,
    pub(super) foreign: Vec<String>,
}

/// `leader` is the pod that may be routed to, if there is one; `version` that of the term.
pub(super) fn change_pods(
    o: &Observed,
    marks: &Marks,
    pods: &[Pod],
    lead: &Lead,
    leader: Option<&Pod>,
    version: i64,
) -> PodChanges {
    let mut changes = PodChanges::default();
    let known = o.memory.holder_pod.as_ref().map(|known| known.uid.as_str());
    let leader = match lead {
        Lead::Unknown => {
            // Whatever pod was labelled stays so, and no other one is. The status may be older than the
            // labels: only while its pod still carries the label is every other one foreign.
            let stays = |pod: &Pod| known == Some(pod.uid.as_str()) && carries_leader_label(o, marks, pod);
            if !pods.iter().any(stays) {
                return changes;
            }
            known
        }
        _ => leader.map(|pod| pod.uid.as_str()),
    };
    for pod in pods {
        let leads = leader == Some(pod.uid.as_str());
        let labelled = carries_leader_label(o, marks, pod);
        let stamp = (!matches!(lead, Lead::Unknown)).then_some(version);
        let Some(change) = change_of(o, marks, pod, stamp, leads) else { continue };
        if leads {
            changes.label = Some(change);
        } else if labelled {
            if known != Some(pod.uid.as_str()) {
                changes.foreign.push(pod.name.clone());
            }
            changes.strip.push(change);
        } else {
            changes.stamp.push(change);
        }
    }
    changes
}

/// The leader label as the resource has it now, as it had it when it was last applied, or under the
/// key that this pod was stamped with.
fn carries_leader_label(o: &Observed, marks: &Marks, pod: &Pod) -> bool {
    let now = &o.desired.labels;
    let before = o.memory.applied.as_ref();
    let carries = |key: &str, value: &str| pod.has_label(key, value) && !of_another_lease(o, marks, pod, key);
    carries(&now.key, &now.leader)
        || before.is_some_and(|b| carries(&b.key, &b.leader))
        || stamped_key(o, marks, pod).is_some_and(|key| carries(&key, &now.leader))
}

/// Two leases may use one key as long as no pod competes for both: what the other has stamped under
/// it is the other's to label. Marks of a lease that does not exist are swept.
fn of_another_lease(o: &Observed, marks: &Marks, pod: &Pod, key: &str) -> bool {
    let theirs = |(lease, used): (&str, String)| lease != o.desired.name && used == key;
    !is_candidate(o, pod) && !pod.annotations.contains_key(&marks.version) && Marks::stamps(pod).any(theirs)
}

/// The label key that was in use when the pod was stamped.
fn stamped_key(o: &Observed, marks: &Marks, pod: &Pod) -> Option<String> {
    let key = || pod.annotations.get(&marks.label).cloned();
    pod.annotations
        .contains_key(&marks.version)
        .then(|| key().unwrap_or_else(|| default_label_key(&o.desired.name)))
}

/// What must change on one pod; `None` when all is as it should be. `version` is what to stamp it with, `None` where
/// there is no row to go by: then the last stamp stands.
fn change_of(o: &Observed, marks: &Marks, pod: &Pod, version: Option<i64>, leads: bool) -> Option<PodChange> {
    let scheme = &o.desired.labels;
    let candidate = is_candidate(o, pod);
    let stamped = pod.annotations.contains_key(&marks.version);
    let mut labels: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut annotations: BTreeMap<String, Option<String>> = BTreeMap::new();
    let ours = candidate || leads;
    let was_ours = stamped || carries_leader_label(o, marks, pod);
    if ours {
        let standby = || o.standby_values.get(&pod.name).unwrap_or(&scheme.standby);
        let value = if leads { &scheme.leader } else { standby() };
        labels.insert(scheme.key.clone(), Some(value.clone()));
        // It is lowered only on the database's word.
        let later = |version| pod.stamped(marks).is_some_and(|stamp| stamp > version) && !o.row_confirmed;
        if let Some(version) = version.filter(|version| !later(*version)) {
            annotations.insert(marks.version.clone(), Some(version.to_string()));
        }
        let other_key = scheme.key != default_label_key(&o.desired.name);
        annotations.insert(marks.label.clone(), other_key.then(|| scheme.key.clone()));
    } else if was_ours {
        // No candidate (any more): nothing of ours stays.
        labels.insert(scheme.key.clone(), None);
        annotations.insert(marks.version.clone(), None);
        annotations.insert(marks.label.clone(), None);
    }
    annotations.extend(change_cost(o, marks, pod, leads));
    // Others may use that key for purposes of their own.
    let used_by_status =
        o.memory.applied.as_ref().filter(|_| ours || was_ours).map(|applied| applied.key.clone());
    for old in used_by_status.into_iter().chain(stamped_key(o, marks, pod)) {
        // A key that the selector reads was never ours to write.
        if old != scheme.key && !o.desired.selector.mentions(&old) {
            labels.insert(old, None);
        }
    }
    labels.retain(|key, value| pod.labels.get(key) != value.as_ref());
    annotations.retain(|key, value| pod.annotations.get(key) != value.as_ref());
    (!labels.is_empty() || !annotations.is_empty()).then(|| PodChange {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        resource_version: pod.resource_version.clone(),
        labels,
        annotations,
    })
}

/// The leader's pod costs what the resource says, unless somebody else has said what it costs. What we gave a pod goes
/// with the label.
fn change_cost(o: &Observed, marks: &Marks, pod: &Pod, leads: bool) -> Vec<(String, Option<String>)> {
    let (ours, now) = (pod.cost_of_ours(marks), pod.annotations.get(DELETION_COST));
    let wanted = o.desired.deletion_cost.filter(|_| leads && (now.is_none() || ours.is_some()));
    match wanted {
        Some(cost) => {
            [marks.cost.clone(), DELETION_COST.to_owned()].map(|key| (key, Some(cost.to_string()))).into()
        }
        None if pod.annotations.contains_key(&marks.cost) => {
            let cost = ours.map(|_| (DELETION_COST.to_owned(), None));
            std::iter::once((marks.cost.clone(), None)).chain(cost).collect()
        }
        None => Vec::new(),
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod cost_tests;
