//! Writes Services as a plan says. One is created, never adopted; all else is done to the very state that was seen.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::controller::cluster::FIELD_MANAGER;
use crate::controller::error::text;
use crate::routing::decide::{ServiceChange, ServiceWrite};
use crate::routing::observed::DesiredService;

/// Why a Service could not be written.
pub(super) enum Error {
    /// As it is described, never.
    Invalid(String),
    /// Another time it may work.
    Failed(String),
}

pub(super) async fn carry_out(
    client: &Client,
    lease: &impl Resource<DynamicType = ()>,
    change: &ServiceChange,
) -> Result<(), Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), &lease.namespace().unwrap_or_default());
    let (name, done) = match change {
        ServiceChange::Create(write) => (&write.wanted.name, create(&services, lease, write).await),
        ServiceChange::Update(write) => {
            (&write.wanted.name, patch(&services, &write.wanted.name, update(lease, write)).await)
        }
        ServiceChange::Release { name, labels, annotations, resource_version } => {
            let operations = release(labels, annotations, resource_version);
            (name, patch(&services, name, operations).await)
        }
        ServiceChange::Delete { name, uid, resource_version } => {
            let seen =
                Preconditions { uid: Some(uid.clone()), resource_version: Some(resource_version.clone()) };
            let params = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
            (name, services.delete(name, &params).await.map(drop))
        }
    };
    match done {
        Ok(()) => Ok(()),
        // Somebody was faster; the watch will show what is there now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(Error::Invalid(format!(
            "Service {name} cannot be made as it is described: {}",
            status.message
        ))),
        Err(error) => {
            let what = if matches!(change, ServiceChange::Delete { .. }) { "deleted" } else { "written" };
            Err(Error::Failed(format!("Service {name} could not be {what}: {}", text(&error))))
        }
    }
}

/// Somebody else's Service of that name makes it fail.
async fn create(
    services: &Api<Service>,
    lease: &impl Resource<DynamicType = ()>,
    write: &ServiceWrite,
) -> kube::Result<()> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let service = Service {
        metadata: ObjectMeta {
            name: Some(write.wanted.name.clone()),
            labels: Some(write.labels.clone()),
            annotations: Some(write.annotations.clone()),
            owner_references: owner(lease).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(write.selector.clone()),
            ports: Some(ports(&write.wanted)),
            cluster_ip: write.wanted.headless.then(|| "None".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    services.create(&params, &service).await.map(drop)
}

async fn patch(services: &Api<Service>, name: &str, operations: Value) -> kube::Result<()> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let operations = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    services.patch(name, &params, &Patch::Json::<()>(operations)).await.map(drop)
}

/// A Service that has changed since makes it a conflict.
fn seen(resource_version: &str) -> Value {
    json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": resource_version })
}

fn update(lease: &impl Resource<DynamicType = ()>, write: &ServiceWrite) -> Value {
    json!([
        seen(&write.resource_version),
        { "op": "add", "path": "/metadata/labels", "value": write.labels },
        { "op": "add", "path": "/metadata/annotations", "value": write.annotations },
        { "op": "add", "path": "/metadata/ownerReferences", "value": owner(lease).into_iter().collect::<Vec<_>>() },
        { "op": "add", "path": "/spec/type", "value": "ClusterIP" },
        { "op": "add", "path": "/spec/externalIPs", "value": [] },
        { "op": "add", "path": "/spec/selector", "value": write.selector },
        { "op": "add", "path": "/spec/ports", "value": ports(&write.wanted) },
    ])
}

fn release(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    resource_version: &str,
) -> Value {
    json!([
        seen(resource_version),
        { "op": "add", "path": "/metadata/labels", "value": labels },
        { "op": "add", "path": "/metadata/annotations", "value": annotations },
        { "op": "add", "path": "/metadata/ownerReferences", "value": [] },
    ])
}

/// It would ask for a right on the finalizers of the lease where the API server enforces that, and
/// a lease is never kept from going by its Service.
fn owner(lease: &impl Resource<DynamicType = ()>) -> Option<OwnerReference> {
    let owner = lease.controller_owner_ref(&());
    owner.map(|owner| OwnerReference { block_owner_deletion: None, ..owner })
}

fn ports(wanted: &DesiredService) -> Vec<ServicePort> {
    let port = |port: &crate::routing::observed::ServicePort| ServicePort {
        name: port.name.clone(),
        port: port.port,
        target_port: port.target.as_ref().map(|target| match target.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(target.clone()),
        }),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
        ..ServicePort::default()
    };
    wanted.ports.iter().map(port).collect()
}
