//! Whether users are led to the leader's pod, as the status says it: the labels, the Service, and what serves it.

use super::conditions::{Condition, ConditionType, Reason, Truth};
use super::decide::marks::is_candidate;
use super::decide::{Lead, Plan, ServiceChange, ServiceWrite};
use super::observed::{Observed, RowSight, SeenService, ServiceSight, StoreSight};
use super::outcome::Outcome;
use super::reach::reaches_the_leader;

/// Why nothing can be said about the row.
pub(super) fn not_known(o: &Observed, kind: ConditionType) -> Condition {
    let (reason, message) = match (&o.row, &o.store) {
        (_, StoreSight::Another(why)) => (Reason::AnotherDatabase, why.as_str()),
        (RowSight::Never { .. }, StoreSight::Answers) => {
            (Reason::NotYetKnown, "the row has not been seen yet")
        }
        (RowSight::Never { .. }, _) => {
            (Reason::DatabaseUnreachable, "the database has not answered since the controller started")
        }
        (RowSight::Seen { .. }, _) => (
            Reason::DatabaseUnreachable,
            "a pod carries a later version than the row that was last seen, and the database does not answer",
        ),
    };
    Condition::new(kind, Truth::Unknown, reason, message)
}

pub(super) fn routed(o: &Observed, plan: &Plan, outcome: &Outcome) -> Condition {
    let c = |status: Truth, reason, message: String| {
        Condition::new(ConditionType::Routed, status, reason, message)
    };
    let no = |reason, message: String| c(Truth::False, reason, message);
    if let Err(error) = &o.pods {
        return c(Truth::Unknown, Reason::Forbidden, error.clone());
    }
    if !outcome.strip_failed.is_empty() {
        return no(Reason::StripFailed, outcome.strip_failed.join("; "));
    }
    if let Some(error) = &outcome.label_failed {
        return no(Reason::LabelFailed, error.clone());
    }
    if !plan.foreign.is_empty() {
        let pods = plan.foreign.join(", ");
        return no(
            Reason::ForeignLabel,
            format!("somebody else put the leader label on {pods}; it was removed"),
        );
    }
    if let Some(problem) = service_problem(o, plan, outcome) {
        return problem;
    }
    match (&plan.lead, &plan.leader) {
        (Lead::Unknown, _) => not_known(o, ConditionType::Routed),
        (_, Some(Ok(pod))) => match &outcome.unserved {
            Some(unserved) => c(unserved.truth(), unserved.reason, unserved.why.clone()),
            None => c(
                Truth::True,
                Reason::LabelApplied,
                format!(
                    "pod {} alone carries {}={}{}",
                    pod.name,
                    o.desired.labels.key,
                    o.desired.labels.leader,
                    also_unready(o)
                ),
            ),
        },
        _ if scaled_to_zero(o, plan) => no(
            Reason::ScaledToZero,
            "no pod matches spec.selector, nobody leads, and somebody did before: the workload is scaled to nothing".into(),
        ),
        _ if plan.candidates == 0 => {
            no(Reason::NoCandidates, "spec.selector matches no running pod in this namespace".into())
        }
        (_, Some(Err(_))) => no(Reason::HolderRejected, "the holder is no pod that may be routed to".into()),
        (_, None) => no(Reason::NoLeader, "nobody leads, so no pod carries the leader label".into()),
    }
}

/// A workload that led before and of which nothing is left, not even somebody who competes: that is what somebody
/// wanted. One that never had a leader may as well have a wrong selector.
fn scaled_to_zero(o: &Observed, plan: &Plan) -> bool {
    let led_before = o.memory.transitions > 0 || plan.version > 0;
    let nobody_leads = matches!(plan.lead, Lead::Vacant(_) | Lead::Expired(_));
    let known = o.store == StoreSight::Answers && o.pods.is_ok();
    known && plan.candidates == 0 && nobody_leads && led_before && o.instances.is_empty()
}

/// It changes nothing about which pod is reached, so it is only told.
fn also_unready(o: &Observed) -> String {
    match (&o.desired.service, &o.service) {
        (Some(service), ServiceSight::Exists(seen)) if seen.publishes_unready => format!(
            "; Service {} reaches it also while it is not ready, because of publishNotReadyAddresses: unset that unless it is meant so",
            service.name
        ),
        _ => String::new(),
    }
}

/// What is wrong with the Service that a resource names, in the words of the condition `Routed`.
#[must_use]
pub fn service_problem(o: &Observed, plan: &Plan, outcome: &Outcome) -> Option<Condition> {
    let service = o.desired.service.as_ref()?;
    let c = |status: Truth, reason, message: String| {
        Some(Condition::new(ConditionType::Routed, status, reason, message))
    };
    let (name, field) = (&service.name, o.desired.service_field);
    if let Some(error) = &outcome.service_invalid {
        return c(Truth::False, Reason::ServiceInvalid, error.clone());
    }
    if let Some(error) = &outcome.service_failed {
        return c(Truth::False, Reason::ServiceFailed, error.clone());
    }
    match &o.service {
        ServiceSight::Unknown(error) => c(Truth::Unknown, Reason::Forbidden, error.clone()),
        ServiceSight::Missing if !service.managed => c(
            Truth::False,
            Reason::ServiceMissing,
            format!("Service {name} does not exist; create it, or set {field}.policy: Manage"),
        ),
        ServiceSight::Exists(seen) if service.managed && !seen.ours && !seen.abandoned => c(
            Truth::False,
            Reason::ServiceNotOurs,
            format!(
                "Service {name} exists and does not belong to this resource alone; it is left as it is. Delete it, choose another name, or set {field}.policy: Check"
            ),
        ),
        ServiceSight::Exists(seen) => {
            // What it selects by then, where that has been corrected by now.
            let seen = match plan.services.first() {
                Some(ServiceChange::Update(ServiceWrite { selector, .. })) => {
                    &SeenService { selector: selector.clone(), external_name: false, ..seen.clone() }
                }
                Some(ServiceChange::Delete { name, .. }) if name == &service.name => return None,
                _ => seen,
            };
            let leader = plan.leader.as_ref().and_then(|leader| leader.as_ref().ok());
            let candidates = o.pods.iter().flatten().filter(|pod| is_candidate(o, pod));
            let mismatch = reaches_the_leader(&o.desired, seen, leader, candidates).err()?;
            let why = mismatch.explained(name, &o.desired.labels);
            c(Truth::False, Reason::ServiceSelectorMismatch, why)
        }
        _ => None,
    }
}
