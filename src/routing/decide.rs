//! The controller's rule: what was observed goes in, a plan comes out. No client, no clock.
//!
//! ```text
//! who leads?       the row, judged by our own boot clock        [`Lead`]
//! which pod?       the holder, believed only to be a candidate  [`super::holder`]
//! strip            everybody else who carries the leader label, and have it confirmed
//! stamp            every candidate with the version: a patch made on an older view now fails
//! label            the leader's pod, last
//! ```
//! Every change carries the pod's UID and resource version. So no write of ours ever makes a
//! second labelled pod, however many controllers run and however old their view is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conditions::EventReason;
use super::ended::{Suspicion, suspected};
use super::holder::{Rejection, pod_of};
use super::observed::{
    Claim, DesiredService, HolderPod, Observed, OnStoreUnreachable, RowSight, ServiceSight, StoreSight,
};
use super::pod::{Marks, Pod, default_label_key};
use super::reach::managed_selector;
use crate::election::row::LeaseRow;
use crate::election::timing::Moment;
use crate::membership::holder_id::OwnFormat;

/// Who leads, as far as the row tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// Not looked at for long enough to tell.
    Unknown,
    /// No row, or a row without a holder.
    Vacant(Option<LeaseRow>),
    /// The holder has not renewed for a ttl of our own boot clock.
    Expired(LeaseRow),
    /// Held until this moment, if it is not renewed before.
    Held(LeaseRow, Moment),
    /// Held when the database last answered, which is too long ago to tell more.
    LastKnown(LeaseRow),
}

impl Lead {
    #[must_use]
    pub fn row(&self) -> Option<&LeaseRow> {
        match self {
            Self::Unknown => None,
            Self::Vacant(row) => row.as_ref(),
            Self::Expired(row) | Self::Held(row, _) | Self::LastKnown(row) => Some(row),
        }
    }
}

/// A patch of one pod's metadata: `None` removes a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodChange {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

/// What to do with the managed Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceChange {
    Create(DesiredService, BTreeMap<String, String>),
    /// Against this resource version.
    Update(DesiredService, BTreeMap<String, String>, String),
}

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub reason: EventReason,
    pub warning: bool,
    pub note: String,
}

/// The outcome of the decision, in the order in which it is carried out.
#[derive(Debug, Clone)]
pub struct Plan {
    pub lead: Lead,
    /// The pod that the holder is; `Err` when there is a holder and it is no pod that we may route to.
    pub leader: Option<Result<Pod, Rejection>>,
    /// The version of the term for everything outward. A foreign program that raises the version at
    /// each renewal has not begun another term.
    pub version: i64,
    /// A new term began since the status was written.
    pub transition: bool,
    /// Whether participants may be told what the resource asks for: not while the holder says that it runs in
    /// another namespace.
    pub intend: bool,
    pub candidates: usize,
    /// That the holder seems to have ended: a fresh look can prove it.
    pub ended: Option<Suspicion>,
    pub strip: Vec<PodChange>,
    pub stamp: Vec<PodChange>,
    pub label: Option<PodChange>,
    pub service: Option<ServiceChange>,
    /// Pods on which somebody else put the leader label.
    pub foreign: Vec<String>,
    pub events: Vec<Event>,
    /// When to decide again if nothing happens before.
    pub next: Option<Moment>,
}

/// What to do about one resource.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Another resource was first: touch nothing.
    Conflict(String),
    /// A pod carries a later version than the row that we saw: somebody knows more than we do.
    /// Look at the row again before anything is touched.
    LookAgain,
    Act(Box<Plan>),
}

/// The row, judged by our own boot clock. A controller that has just begun gives a row one ttl.
fn who_leads(o: &Observed) -> Lead {
    if let StoreSight::Another(_) = o.store {
        return Lead::Unknown;
    }
    let remove = o.desired.on_store_unreachable == OnStoreUnreachable::Remove;
    match (&o.row, &o.store) {
        (RowSight::Seen { row: Some(row), since }, store) if !row.is_free() => {
            let until = *since + row.judged_ttl();
            match store {
                _ if o.now < until => Lead::Held(row.clone(), until),
                StoreSight::Answers => Lead::Expired(row.clone()),
                _ if remove => Lead::Expired(row.clone()),
                _ => Lead::LastKnown(row.clone()),
            }
        }
        (RowSight::Seen { row, .. }, _) => Lead::Vacant(row.clone()),
        (RowSight::Never { .. }, StoreSight::Unreachable(_) | StoreSight::Misconfigured(_)) if ran_out(o) => {
            Lead::Vacant(None)
        }
        (RowSight::Never { .. }, _) => Lead::Unknown,
    }
}

/// When labels are to go because the database has not answered for a whole lease, if ever.
fn runs_out(o: &Observed) -> Option<Moment> {
    let (since, ttl) = match &o.row {
        RowSight::Seen { row: Some(row), since } if !row.is_free() => (*since, row.judged_ttl()),
        RowSight::Seen { since, .. } | RowSight::Never { since } => {
            (*since, Duration::from_secs(u64::from(o.desired.ttl)))
        }
    };
    let remove = o.desired.on_store_unreachable == OnStoreUnreachable::Remove;
    (remove && !matches!(o.store, StoreSight::Another(_))).then(|| since + ttl)
}

fn ran_out(o: &Observed) -> bool {
    runs_out(o).is_some_and(|at| o.now >= at)
}

/// The rule.
#[must_use]
pub fn decide(o: &Observed) -> Decision {
    if let Claim::Taken(by) = &o.claim {
        return Decision::Conflict(by.clone());
    }
    let no_pods = Vec::new();
    let pods = o.pods.as_ref().unwrap_or(&no_pods);
    let marks = Marks::of(&o.desired.name);
    let mut lead = who_leads(o);
    let row_version = match &o.row {
        RowSight::Seen { row, .. } => row.as_ref().map_or(0, |row| row.version),
        RowSight::Never { .. } => o.memory.version,
    };
    let newest_stamp = pods.iter().filter_map(|pod| pod.stamped(&marks)).max();
    let behind = !o.row_confirmed && newest_stamp.is_some_and(|stamp| stamp > row_version);
    if behind && !matches!(lead, Lead::Unknown) {
        if o.store == StoreSight::Answers {
            return Decision::LookAgain;
        }
        // It cannot be asked. Whoever acted on this row all the same would undo what somebody did
        // who knows more; only what has run out may be taken back.
        if !ran_out(o) {
            lead = Lead::Unknown;
        }
    }

    let leader = match &lead {
        Lead::Held(row, _) | Lead::LastKnown(row) if o.pods.is_ok() => {
            let (namespace, told) = (&o.desired.namespace, o.told(&row.holder));
            let pattern = o.desired.holder_pattern.as_ref();
            Some(pod_of(row, pods, &o.desired.selector, namespace, told, pattern).cloned())
        }
        _ => None,
    };
    let holder = lead.row().map(|row| row.holder.as_str()).filter(|holder| !holder.is_empty());
    let same_holder = holder.is_some() && holder == o.memory.holder.as_deref();
    // Unless somebody has seen another term in between, or the versions began again.
    let bumps_without_end = same_holder
        && holder.is_some_and(|h| OwnFormat::parse(h).is_none())
        && newest_stamp.is_none_or(|stamp| stamp <= o.memory.version)
        && o.memory.version <= row_version;
    let version = if bumps_without_end { o.memory.version } else { row_version };
    let transition = holder.is_some() && (!same_holder || version != o.memory.version);

    let elsewhere = holder.is_some_and(|holder| o.elsewhere(holder).is_some());

    let mut plan = Plan {
        intend: !elsewhere && !matches!(o.store, StoreSight::Another(_)),
        candidates: pods.iter().filter(|pod| is_candidate(o, pod)).count(),
        ended: suspected(o, &lead).filter(|_| !elsewhere),
        strip: Vec::new(),
        stamp: Vec::new(),
        label: None,
        service: None,
        foreign: Vec::new(),
        events: events(o, &lead, leader.as_ref(), transition),
        next: match &lead {
            Lead::Held(_, until) => Some(*until),
            Lead::Unknown => runs_out(o),
            _ => None,
        },
        lead,
        leader,
        version,
        transition,
    };
    change_pods(o, &marks, pods, &mut plan);
    plan.service = change_service(o);
    Decision::Act(Box::new(plan))
}

pub(super) fn is_candidate(o: &Observed, pod: &Pod) -> bool {
    !pod.finished && o.desired.selector.matches(&pod.labels)
}

fn change_pods(o: &Observed, marks: &Marks, pods: &[Pod], plan: &mut Plan) {
    let leader = match (&plan.lead, &plan.leader) {
        (Lead::Unknown, _) => {
            // Whoever was labelled stays so, and nobody else is. The status may be older than the
            // labels: only while its pod still carries the label is every other one foreign.
            let known = o.memory.holder_pod.as_ref().map(|known| known.uid.as_str());
            let stays = |pod: &Pod| known == Some(pod.uid.as_str()) && carries_leader_label(o, marks, pod);
            if !pods.iter().any(stays) {
                return;
            }
            known
        }
        (_, Some(Ok(pod))) => Some(pod.uid.as_str()),
        _ => None,
    };
    for pod in pods {
        let leads = leader == Some(pod.uid.as_str());
        let labelled = carries_leader_label(o, marks, pod);
        let Some(change) = change_of(o, marks, pod, plan, leads) else { continue };
        if leads {
            plan.label = Some(change);
        } else if labelled {
            if o.memory.holder_pod.as_ref().is_none_or(|known| known.uid != pod.uid) {
                plan.foreign.push(pod.name.clone());
                plan.events.push(Event {
                    reason: EventReason::ForeignLabelRemoved,
                    warning: true,
                    note: format!("pod {} carried the leader label, but does not lead", pod.name),
                });
            }
            plan.strip.push(change);
        } else {
            plan.stamp.push(change);
        }
    }
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

/// What must change on one pod; `None` when all is as it should be.
fn change_of(o: &Observed, marks: &Marks, pod: &Pod, plan: &Plan, leads: bool) -> Option<PodChange> {
    let scheme = &o.desired.labels;
    let candidate = is_candidate(o, pod);
    let stamped = pod.annotations.contains_key(&marks.version);
    let mut labels: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut annotations: BTreeMap<String, Option<String>> = BTreeMap::new();
    let ours = candidate || leads;
    let was_ours = stamped || carries_leader_label(o, marks, pod);
    if ours {
        let value = if leads { &scheme.leader } else { &scheme.standby };
        labels.insert(scheme.key.clone(), Some(value.clone()));
        // Without a row to go by the last stamp stands, and it is lowered only on the database's word.
        let later = pod.stamped(marks).is_some_and(|stamp| stamp > plan.version) && !o.row_confirmed;
        if !later && !matches!(plan.lead, Lead::Unknown) {
            annotations.insert(marks.version.clone(), Some(plan.version.to_string()));
        }
        let other_key = scheme.key != default_label_key(&o.desired.name);
        annotations.insert(marks.label.clone(), other_key.then(|| scheme.key.clone()));
    } else if was_ours {
        // No candidate (any more): nothing of ours stays.
        labels.insert(scheme.key.clone(), None);
        annotations.insert(marks.version.clone(), None);
        annotations.insert(marks.label.clone(), None);
    }
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

fn change_service(o: &Observed) -> Option<ServiceChange> {
    let service = o.desired.service.as_ref().filter(|service| service.managed)?;
    let wanted = managed_selector(&o.desired);
    match &o.service {
        ServiceSight::Missing => Some(ServiceChange::Create(service.clone(), wanted)),
        ServiceSight::Exists(seen)
            if seen.ours && (seen.selector != wanted || seen.ports != service.ports) =>
        {
            Some(ServiceChange::Update(service.clone(), wanted, seen.resource_version.clone()))
        }
        _ => None,
    }
}

fn events(
    o: &Observed,
    lead: &Lead,
    leader: Option<&Result<Pod, Rejection>>,
    transition: bool,
) -> Vec<Event> {
    use super::conditions::Phase;
    let event = |reason, warning, note: String| Event { reason, warning, note };
    let mut events = Vec::new();
    let was = o.memory.phase;
    match lead {
        Lead::Held(row, _) if transition => events.push(event(
            EventReason::LeaderElected,
            false,
            format!("{} leads {} with version {}", row.holder, o.desired.component, row.version),
        )),
        Lead::Expired(row) if was == Some(Phase::Held) => events.push(event(
            EventReason::LeaseExpired,
            true,
            format!(
                "{} has not renewed version {} for {} s",
                row.holder,
                row.version,
                row.judged_ttl().as_secs()
            ),
        )),
        Lead::Vacant(_) if was == Some(Phase::Held) && matches!(o.row, RowSight::Seen { .. }) => {
            events.push(event(
                EventReason::LeaseReleased,
                false,
                format!(
                    "nobody leads {} any more; {} was the last",
                    o.desired.component,
                    o.memory.holder.as_deref().unwrap_or("?")
                ),
            ));
        }
        _ => {}
    }
    if let Some(Err(rejection)) = leader
        && transition
    {
        events.push(event(EventReason::HolderRejected, true, rejection.to_string()));
    }
    events
}

/// The leader's pod for the status. Its containers are those of the moment at which it was
/// labelled: what they become later is compared with them.
#[must_use]
pub fn holder_pod(o: &Observed, plan: &Plan) -> Option<HolderPod> {
    match (&plan.lead, &plan.leader) {
        (Lead::Unknown, _) => o.memory.holder_pod.clone(),
        (_, Some(Ok(pod))) => {
            // Not all of them may have been known then; what is recorded is complete.
            let known =
                o.memory.holder_pod.as_ref().filter(|known| {
                    known.uid == pod.uid && !plan.transition && !known.container_ids.is_empty()
                });
            Some(known.cloned().unwrap_or_else(|| HolderPod {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                node: pod.node.clone(),
                container_ids: pod.container_ids(),
            }))
        }
        // The pods cannot be listed just now, or the pod has finished: what was recorded when it was
        // labelled stays.
        (Lead::Held(..) | Lead::LastKnown(_), None | Some(Err(Rejection::Finished { .. })))
            if !plan.transition =>
        {
            o.memory.holder_pod.clone()
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "decide_keys_tests.rs"]
mod keys_tests;

#[cfg(test)]
#[path = "decide_blind_tests.rs"]
mod blind_tests;
