//! Services as they are cached, and what of them a decision is made of.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{ComponentLease, LeaseDatabase};
use crate::routing::decide::service::MADE_BY;
use crate::routing::observed::{Desired, FormerService, SeenService, ServicePort};
use crate::routing::pod::marked_database;

/// The type of a Service that reaches no pod, whatever it selects.
pub(super) const EXTERNAL_NAME: &str = "ExternalName";

/// The Service that a resource names.
pub(super) fn seen(service: &Service, desired: &Desired) -> SeenService {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().into_iter().map(|port| ServicePort {
        name: port.name,
        port: port.port,
        target: port.target_port.map(|target| match target {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name,
        }),
        protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol,
    });
    let ours = owned_by(service, &desired.uid);
    SeenService {
        ours,
        abandoned: !ours && is_abandoned(service, desired),
        uid: service.uid().unwrap_or_default(),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        outward: spec.type_.as_deref().is_some_and(|kind| kind != "ClusterIP")
            || spec.external_ips.is_some_and(|addresses| !addresses.is_empty()),
        labels: service.labels().clone(),
        annotations: service.annotations().clone(),
        selector: spec.selector.unwrap_or_default(),
        external_name: spec.type_.as_deref() == Some(EXTERNAL_NAME),
        publishes_unready: spec.publish_not_ready_addresses == Some(true),
        ports: ports.collect(),
        resource_version: service.resource_version().unwrap_or_default(),
    }
}

/// Of Services that this resource may own, those that it has made and does not name any more.
pub(super) fn former(owned: Vec<Arc<Service>>, desired: &Desired) -> Vec<FormerService> {
    let named = desired.service.as_ref().map(|service| service.name.as_str());
    let former = |service: &Arc<Service>| {
        service.metadata.namespace.as_deref() == Some(desired.namespace.as_str())
            && owned_by(service, &desired.uid)
            && carries_our_mark(service)
            && service.metadata.name.as_deref() != named
    };
    let former = owned.into_iter().filter(former).map(|service| FormerService {
        name: service.name_any(),
        uid: service.uid().unwrap_or_default(),
        resource_version: service.resource_version().unwrap_or_default(),
    });
    former.collect()
}

/// Owned by this resource alone: what somebody else owns too is not ours to change, to release or to delete.
fn owned_by(service: &Service, uid: &str) -> bool {
    let owners = service.owner_references();
    !owners.is_empty() && owners.iter().all(|owner| owner.uid == uid)
}

fn carries_our_mark(service: &Service) -> bool {
    service.labels().get(MADE_BY.0).map(String::as_str) == Some(MADE_BY.1)
}

/// Made by this program, and owned by nobody, or by a resource of this kind and name that was made again.
fn is_abandoned(service: &Service, desired: &Desired) -> bool {
    let (kind, name) = match marked_database(&desired.name) {
        Some(database) => (LeaseDatabase::kind(&()), database),
        None => (ComponentLease::kind(&()), desired.name.as_str()),
    };
    let of_that_name = |owner: &OwnerReference| owner.kind == kind && owner.name == name;
    carries_our_mark(service) && service.owner_references().iter().all(of_that_name)
}

/// What is not read is not kept; labels and annotations only where they may be written.
pub(super) fn slim(service: &mut Service) {
    let kinds = [ComponentLease::kind(&()), LeaseDatabase::kind(&())];
    let of_a_resource = |owner: &OwnerReference| kinds.iter().any(|kind| owner.kind == *kind);
    let ours = carries_our_mark(service) || service.owner_references().iter().any(of_a_resource);
    let ObjectMeta { name, namespace, uid, resource_version, owner_references, labels, annotations, .. } =
        std::mem::take(&mut service.metadata);
    let (labels, annotations) = if ours { (labels, annotations) } else { (None, None) };
    service.metadata = ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        owner_references,
        labels,
        annotations,
        ..ObjectMeta::default()
    };
    let spec = service.spec.take();
    service.spec = spec.map(|spec| ServiceSpec {
        selector: spec.selector,
        ports: spec.ports,
        type_: spec.type_,
        publish_not_ready_addresses: spec.publish_not_ready_addresses,
        cluster_ip: spec.cluster_ip,
        external_ips: spec.external_ips,
        ..ServiceSpec::default()
    });
    service.status = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::{held_by, observed};

    fn owned_by_a(kind: &str, name: &str, uid: &str) -> Service {
        let owner = OwnerReference {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        let mut service = Service::default();
        service.metadata.owner_references = Some(vec![owner]);
        service.metadata.labels = Some([(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())].into());
        service
    }

    #[test]
    fn a_service_of_ours_is_not_taken_back_and_one_of_a_resource_that_was_made_again_is() {
        let of = |name: &str| Desired { name: name.to_owned(), ..observed(held_by("a", 1), vec![]).desired };
        let (lease, database) = (of("web"), of("web_role"));
        let judged = |desired: &Desired, kind: &str, uid: &str| {
            let seen = seen(&owned_by_a(kind, "web", uid), desired);
            (seen.ours, seen.abandoned)
        };
        let (component, other) = ("ComponentLease", "LeaseDatabase");
        assert_eq!(judged(&lease, component, &lease.uid), (true, false), "nothing is to be written");
        assert_eq!(judged(&lease, component, "older"), (false, true));
        assert_eq!(judged(&database, other, "older"), (false, true));
        assert_eq!(judged(&lease, other, "older"), (false, false), "of another kind");
        assert_eq!(judged(&database, component, "older"), (false, false));
    }

    #[test]
    fn a_service_that_somebody_else_owns_too_is_not_ours() {
        let owner = |uid: &str| OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() };
        let owned = |owners: &[&str]| {
            let mut service = Service::default();
            service.metadata.owner_references = Some(owners.iter().map(|uid| owner(uid)).collect());
            owned_by(&service, "ours")
        };
        assert!(owned(&["ours"]));
        assert!(!owned(&[]) && !owned(&["theirs"]) && !owned(&["ours", "theirs"]));
    }
}
