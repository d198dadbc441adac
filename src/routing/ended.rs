//! Has the holder ended? A pod whose containers have all ended cannot lead, so its term need not be
//! waited for. What proves it, and nothing less:
//!
//! * the holder carries our random end, and this pod's UID or has told it: a restarted process is another holder;
//! * **each** container that ran when the leader was labelled is reported as ended, by its id. One of
//!   two proves nothing, as a program may outlive its agent; the pod's phase alone proves nothing; a
//!   pod that is gone proves nothing, as its node may be out of reach and its containers alive;
//! * whatever runs now took the place of one of those;
//! * they ended well after the term began. What a kubelet reports lags behind: the containers that
//!   were seen at the labelling may have been the ones *before* those that lead.
//!
//! What a participant told others outlives it: a program that was restarted beside its agent may have asked the
//! agent once more before that was killed, and believes the answer for as long as the answer said. [`promised`]
//! says how long that is after the end was seen. Where nothing runs in the pod any more, nobody within it
//! believes anything, nor does what took the place of the only container; somebody outside who was told may.

use std::time::Duration;

use super::decide::holder::CLOCK_TOLERANCE;
use super::decide::lead::Lead;
use super::observed::{HolderPod, Memory, Observed, StoreSight};
use super::pod::{Container, Incarnation, Pod};
use crate::election::HolderId;
use crate::election::row::LeaseRow;
use crate::election::row::TermKey;
use crate::membership::holder_id::{OwnFormat, POD_UID_PART};
use crate::membership::instance::{SeenInstance, Whereabouts};

/// Why it is not certain that nothing of the holder is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error(
        "the holder was not made by this pod in our own format: a restarted process could go by its name"
    )]
    NotOurs,
    #[error("the pod's containers were not recorded for this very term")]
    NothingRecorded,
    #[error("it is another pod of the same name")]
    OtherPod,
    #[error("container {0} is not reported as ended")]
    MayRun(String),
    #[error("the kubelet does not know how container {0} ended")]
    Guessed(String),
    #[error("container {0} ended before the term began, or too shortly after: another one may lead")]
    Earlier(String),
    #[error("a container runs that was not there when the leader was labelled, {0}")]
    NewContainer(String),
    #[error("the holder did not tell for how long others may believe that it leads")]
    PromiseUnknown,
    #[error("processes outside of the pod may have been told that it leads")]
    PromisedOutside,
}

/// The pod as it was recorded, if this is the term that it was recorded for and the holder is that pod.
fn recorded<'m>(
    memory: &'m Memory,
    row: &LeaseRow,
    told: Option<&Whereabouts>,
) -> Result<&'m HolderPod, Doubt> {
    let same_term = memory.holder.as_deref() == Some(row.holder.as_str()) && memory.version == row.version;
    let known = memory.holder_pod.as_ref().filter(|known| same_term && !known.container_ids.is_empty());
    let known = known.ok_or(Doubt::NothingRecorded)?;
    let own = OwnFormat::parse(&row.holder).ok_or(Doubt::NotOurs)?;
    let named = own.name == known.name;
    let made_there = own.origin.len() == POD_UID_PART && known.uid.starts_with(own.origin);
    let told = told.is_some_and(|at| at.pod_uid.as_deref() == Some(known.uid.as_str()));
    if named && made_there || told { Ok(known) } else { Err(Doubt::NotOurs) }
}

/// Whether this look at the pod proves that nothing of the holder is left.
///
/// # Errors
/// The first [`Doubt`].
pub fn has_ended(
    memory: &Memory,
    row: &LeaseRow,
    told: Option<&Whereabouts>,
    pod: &Pod,
) -> Result<(), Doubt> {
    let known = recorded(memory, row, told)?;
    if pod.uid != known.uid || pod.name != known.name {
        return Err(Doubt::OtherPod);
    }
    for id in &known.container_ids {
        let incarnations = pod.containers.iter().flat_map(Container::incarnations);
        let Some(ended) = incarnations.filter(|one| one.id() == Some(id)).find_map(Incarnation::end) else {
            return Err(Doubt::MayRun(id.clone()));
        };
        if ended.guessed {
            return Err(Doubt::Guessed(id.clone()));
        }
        if ended.at.is_none_or(|at| at <= row.lease_time.saturating_add(CLOCK_TOLERANCE)) {
            return Err(Doubt::Earlier(id.clone()));
        }
    }
    let replaces = |before: Option<&Incarnation>| {
        before.and_then(Incarnation::id).is_some_and(|id| known.container_ids.iter().any(|known| known == id))
    };
    let stranger = pod.containers.iter().find(|container| {
        matches!(container.now, Incarnation::Running { .. }) && !replaces(container.before.as_ref())
    });
    match stranger {
        Some(container) => Err(Doubt::NewContainer(container.now.id().unwrap_or("without an id").to_owned())),
        None => Ok(()),
    }
}

/// How long after the end of the holder was first seen somebody may still believe that it leads, because it said
/// so: its longest promise and a ninth of it, because the clock of the one who waits may run 5 % faster than real time,
/// and that of the one who believes 5 % slower.
///
/// # Errors
/// A [`Doubt`] if that cannot be known: then the lease is left to expire.
pub fn promised(memory: &Memory, told: Option<&SeenInstance>, pod: &Pod) -> Result<Duration, Doubt> {
    let promise = told.and_then(|seen| seen.promise).ok_or(Doubt::PromiseUnknown)?;
    if promise.longest.is_zero() {
        return Ok(Duration::ZERO);
    }
    if promise.outside || pod.host_network {
        return Err(Doubt::PromisedOutside);
    }
    // A container that is reported as waiting may have begun by now, and one whose end was guessed may run.
    let is_over = |container: &Container| container.now.end().is_some_and(|end| !end.guessed);
    // Of a pod with one container the holder was in that one: what takes its place begins after the holder's end.
    let alone = match memory.holder_pod.as_ref().map(|known| known.container_ids.as_slice()) {
        Some([alone]) => Some(alone.as_str()),
        _ => None,
    };
    let came_after = |container: &Container| {
        alone.is_some() && container.before.as_ref().and_then(Incarnation::id) == alone
    };
    if pod.containers.iter().all(|container| is_over(container) || came_after(container)) {
        return Ok(Duration::ZERO);
    }
    Ok(promise.longest.saturating_add(promise.longest / 9))
}

/// What suggests that a holder has ended: worth a fresh look, which alone can prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    pub term: TermKey,
    /// The pod's name.
    pub pod: String,
    /// So long after the end was first seen somebody may believe that it leads.
    pub promised: Duration,
}

/// Whether what was observed suggests that the holder has ended.
#[must_use]
pub fn suspected(o: &Observed, lead: &Lead) -> Option<Suspicion> {
    let Lead::Held(row, _) = lead else { return None };
    if o.store != StoreSight::Answers {
        return None;
    }
    let told = o.told(&row.holder);
    let known = recorded(&o.memory, row, told).ok()?;
    let pod = o.pods.as_ref().ok()?.iter().find(|pod| pod.uid == known.uid)?;
    has_ended(&o.memory, row, told, pod).ok()?;
    let promised = promised(&o.memory, o.told_by(&row.holder), pod).ok()?;
    let holder = HolderId::new(row.holder.clone()).ok()?;
    let term = TermKey { component: o.desired.component.clone(), holder, version: row.version };
    Some(Suspicion { term, pod: known.name.clone(), promised })
}

#[cfg(test)]
#[path = "ended_tests.rs"]
mod tests;
