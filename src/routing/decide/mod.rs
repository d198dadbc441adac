//! The controller's rule: what was observed goes in, a plan comes out. No client, no clock.
//!
//! ```text
//! who leads?       the row, judged by our own boot clock        [`lead`]
//! which pod?       the holder, believed only to be a candidate  [`holder`]
//! strip            every other pod that carries the leader label, and have it confirmed [`marks`]
//! stamp            every candidate with the version: a patch made on an older view now fails
//! label            the leader's pod, last
//! Service          made, corrected, released, deleted           [`service`]
//! ```
//! Every change carries the pod's UID and resource version. So no write of ours ever makes a
//! second labelled pod, however many controllers run and however old their view is.

mod events;
pub mod holder;
pub mod lead;
pub(super) mod marks;
pub mod plan;
pub mod service;

use super::ended::suspected;
use super::observed::{Claim, Observed, StoreSight};
use super::pod::{Marks, Pod};
use crate::membership::holder_id::OwnFormat;
use holder::{Rejection, pod_of};
pub use lead::Lead;
pub use plan::{Decision, Event, Plan, PodChange, ServiceChange, ServiceWrite};

/// The rule.
#[must_use]
pub fn decide(o: &Observed) -> Decision {
    if let Claim::Taken(by) = &o.claim {
        return Decision::Conflict(by.clone());
    }
    let pods: &[Pod] = o.pods.as_deref().unwrap_or_default();
    let marks = Marks::of(&o.desired.name);
    let newest_stamp = pods.iter().filter_map(|pod| pod.stamped(&marks)).max();
    let Some(lead) = lead::judge(o, newest_stamp) else { return Decision::LookAgain };
    let leader = which_pod(o, &lead, pods);
    let term = Term::of(o, &lead, newest_stamp);
    let may_lead = leader.as_ref().and_then(|leader| leader.as_ref().ok());
    let changes = marks::change_pods(o, &marks, pods, &lead, may_lead, term.version);
    let elsewhere = holder_of(&lead).is_some_and(|holder| o.elsewhere(holder).is_some());
    Decision::Act(Box::new(Plan {
        intend: !elsewhere && !matches!(o.store, StoreSight::Another(_)),
        candidates: pods.iter().filter(|pod| marks::is_candidate(o, pod)).count(),
        ended: suspected(o, &lead).filter(|_| !elsewhere),
        events: events::events(o, &lead, leader.as_ref(), term.is_news, &changes.foreign),
        strip: changes.strip,
        stamp: changes.stamp,
        label: changes.label,
        foreign: changes.foreign,
        services: service::change_services(o),
        next: match &lead {
            Lead::Held(_, until) => Some(*until),
            Lead::Unknown => lead::runs_out(o),
            _ => None,
        },
        version: term.version,
        transition: term.is_news,
        lead,
        leader,
    }))
}

/// The pod that the holder is, where there is a holder and the pods are known.
fn which_pod(o: &Observed, lead: &Lead, pods: &[Pod]) -> Option<Result<Pod, Rejection>> {
    let (Lead::Held(row, _) | Lead::LastKnown(row)) = lead else { return None };
    o.pods.as_ref().ok()?;
    let (namespace, told) = (&o.desired.namespace, o.told(&row.holder));
    let pattern = o.desired.holder_pattern.as_ref();
    Some(pod_of(row, pods, &o.desired.selector, namespace, told, pattern).cloned())
}

fn holder_of(lead: &Lead) -> Option<&str> {
    lead.row().map(|row| row.holder.as_str()).filter(|holder| !holder.is_empty())
}

/// The term as the status shows it.
struct Term {
    version: i64,
    /// It began since the status was written.
    is_news: bool,
}

impl Term {
    fn of(o: &Observed, lead: &Lead, newest_stamp: Option<i64>) -> Self {
        let (holder, row_version) = (holder_of(lead), lead::row_version(o));
        let same_holder = holder.is_some() && holder == o.memory.holder.as_deref();
        // Unless somebody has seen another term in between, or the versions began again.
        let bumps_without_end = same_holder
            && holder.is_some_and(|holder| OwnFormat::parse(holder).is_none())
            && newest_stamp.is_none_or(|stamp| stamp <= o.memory.version)
            && o.memory.version <= row_version;
        let version = if bumps_without_end { o.memory.version } else { row_version };
        Self { version, is_news: holder.is_some() && (!same_holder || version != o.memory.version) }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "keys_tests.rs"]
mod keys_tests;

#[cfg(test)]
#[path = "blind_tests.rs"]
mod blind_tests;
