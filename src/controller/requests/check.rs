//! Whether a request may be asked, as far as Kubernetes tells: which resource it is about, and whom it may name.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use super::super::caches::{Lease, Scope};
use super::super::claims::claim;
use super::super::cluster::Cluster;
use super::{Error, UNFINISHED_MAX, Watched};
use crate::api::{self, ComponentLease, LeaseRequest};
use crate::election::{HolderId, LeaseRow};
use crate::operator::Plan;
use crate::routing::conditions::RequestReason;
use crate::routing::decide::holder::pod_of;
use crate::routing::observed::{Claim, Desired};
use crate::store::Snapshot;

/// Why a request is not asked: one word, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct No {
    pub(super) reason: &'static str,
    pub(super) why: String,
}

impl No {
    pub(super) fn new(reason: RequestReason, why: impl Into<String>) -> Self {
        Self { reason: reason.as_str(), why: why.into() }
    }
}

/// The resource that a request is about.
pub(super) enum About {
    Ours(Arc<Lease>),
    /// Of another class: its controller answers.
    Others,
    /// The watch does not show it yet.
    NotYet,
    Nothing,
}

/// Which resource it is about. What the watch does not show, the API server is asked for: the two are watched apart.
pub(super) async fn about(
    request: &LeaseRequest,
    watched: &Watched,
    cluster: &Cluster,
) -> Result<About, Error> {
    let namespace = request.namespace().unwrap_or_default();
    if let Some(lease) = known(request, &watched.scope) {
        return Ok(if cluster.looks_after(&lease) { About::Ours(lease) } else { About::Others });
    }
    let leases: Api<ComponentLease> = Api::namespaced(cluster.client.clone(), &namespace);
    let found = leases.get_metadata_opt(&request.spec.lease).await.map_err(Error::Lease)?;
    Ok(if found.is_some() { About::NotYet } else { About::Nothing })
}

/// The resource, as far as the watch shows it.
pub(super) fn known(request: &LeaseRequest, scope: &Scope) -> Option<Arc<Lease>> {
    let namespace = request.namespace().unwrap_or_default();
    scope.leases.get(&ObjectRef::new(&request.spec.lease).within(&namespace))
}

/// What the resource asks for, where it may act.
pub(super) fn usable<'l>(
    lease: &'l Lease,
    scope: &Scope,
    cluster: &Cluster,
) -> Result<(&'l ComponentLease, Desired), No> {
    let lease = lease.0.as_ref().map_err(|unreadable| {
        No::new(RequestReason::InvalidSpec, format!("the ComponentLease is invalid: {}", unreadable.error))
    })?;
    let desired = cluster.desired(lease);
    let desired = desired.as_ref().as_ref().map_err(|invalid| {
        let reason = match invalid {
            api::InvalidSpec::ComponentNotAllowed(_) => RequestReason::ComponentNotAllowed,
            _ => RequestReason::InvalidSpec,
        };
        No::new(reason, invalid.to_string())
    })?;
    let pods = scope.pods_of(desired, None, "").unwrap_or_default();
    match claim(lease, desired, scope, cluster, &pods) {
        Claim::First => Ok((lease, desired.clone())),
        Claim::Taken(by) => Err(No::new(RequestReason::Conflict, by)),
    }
}

/// Whether the database that answered is the one that the resource has known, and its leader one of this namespace.
pub(super) fn right_place(
    lease: &ComponentLease,
    desired: &Desired,
    seen: &Snapshot,
    cluster: &Cluster,
) -> Result<(), No> {
    let known = lease.status.as_ref().and_then(|status| status.internal.as_ref()?.database_uuid.as_deref());
    cluster
        .check_database(known, seen.life.database())
        .map_err(|another| No::new(RequestReason::AnotherDatabase, another.to_string()))?;
    let component = desired.component.as_str();
    let holder = seen.rows.get(component).map(|row| row.holder.as_str()).filter(|holder| !holder.is_empty());
    let told = seen.instances.iter().flatten().rev();
    let told =
        told.filter(|told| told.component == component).find(|told| Some(told.holder.as_str()) == holder);
    match told.and_then(|told| told.whereabouts.elsewhere(&desired.namespace)) {
        None => Ok(()),
        Some(namespace) => Err(No::new(
            RequestReason::HolderElsewhere,
            format!(
                "{} leads and says that it runs in namespace {namespace}: find out why a program of that namespace competes for this component",
                holder.unwrap_or_default()
            ),
        )),
    }
}

/// Whether the target is a candidate of the resource: nobody else would be routed to.
pub(super) fn candidate(plan: &Plan, desired: &Desired, seen: &Snapshot, scope: &Scope) -> Result<(), No> {
    let Some(target) = plan.request.target.as_ref().map(HolderId::as_str) else { return Ok(()) };
    let told = seen.instances.iter().flatten().rev();
    let told = told.filter(|told| told.component == desired.component.as_str());
    let told = told.filter(|told| told.holder == target).map(|told| &told.whereabouts).next();
    let named = told.and_then(|told| told.pod.as_deref()).unwrap_or(target);
    let pods = scope
        .pods_of(desired, None, named)
        .map_err(|trouble| No::new(RequestReason::PodsUnknown, trouble))?;
    // As it would be judged if it led. It takes the lease later than any pod that there is now has started.
    let row = LeaseRow { holder: target.to_owned(), lease_time: i64::MAX, renew_time: 0, version: 1, ttl: 1 };
    let pattern = desired.holder_pattern.as_ref();
    match pod_of(&row, &pods, &desired.selector, &desired.namespace, told, pattern) {
        Ok(_) => Ok(()),
        Err(rejection) => Err(No::new(
            RequestReason::TargetOutsideSelector,
            format!("the target is no candidate of the ComponentLease: {rejection}"),
        )),
    }
}

/// Whether so many requests of the namespace that are older are not over that this one is not looked at.
pub(super) fn room(request: &LeaseRequest, watched: &Watched) -> Result<(), No> {
    let age = |request: &LeaseRequest| (request.creation_timestamp(), request.uid());
    let (namespace, mine) = (request.namespace(), age(request));
    let unfinished = |other: &super::Guarded| {
        let other = other.0.as_ref().ok().filter(|other| other.metadata.namespace == namespace);
        other.is_some_and(|other| {
            let is_over = other.status.as_ref().is_some_and(|status| status.state.is_final());
            !is_over && age(other) < mine
        })
    };
    let older = watched.store.state_filter(unfinished).len();
    if older < UNFINISHED_MAX {
        return Ok(());
    }
    Err(No::new(
        RequestReason::TooManyRequests,
        format!(
            "{older} older requests of this namespace are not over, and no more than {UNFINISHED_MAX} are looked at: delete those that nobody needs, then ask again"
        ),
    ))
}
