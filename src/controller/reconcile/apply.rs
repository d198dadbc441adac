//! Carries a plan out, in the order of [`crate::routing::carry_out`]. Every patch carries the pod's UID and resource
//! version, so one that was made on an older view fails.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::ComponentLease;
use crate::controller::caches::Scope;
use crate::controller::cluster::FIELD_MANAGER;
use crate::controller::error::text;
use crate::controller::pods::KubePod;
use crate::routing::carry_out::{CarryOut, Patched};
use crate::routing::decide::{Plan, PodChange, ServiceChange};
use crate::routing::observed::DesiredService;
use crate::routing::report::Outcome;

/// Why a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub(in crate::controller) enum Error {
    /// What became of the plan; the status says it too.
    #[error("{0}")]
    Incomplete(String),
    #[error("the pods change faster than they can be labelled")]
    Contended,
}

impl Error {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Incomplete(_) => "incomplete",
            Self::Contended => "contended",
        }
    }
}

/// Whether all of a plan was carried out.
pub(super) fn complete(outcome: &Outcome) -> Result<(), Error> {
    outcome.failed().map_or(Ok(()), |why| Err(Error::Incomplete(why)))
}

pub(super) async fn apply(client: &Client, scope: &Scope, lease: &ComponentLease, plan: &Plan) -> Outcome {
    let pods: Api<KubePod> = Api::namespaced(client.clone(), &lease.namespace().unwrap_or_default());
    let mut carry_out = CarryOut::new(plan);
    loop {
        let open: Vec<(usize, PodChange)> = carry_out.open().map(|(n, change)| (n, change.clone())).collect();
        if open.is_empty() {
            break;
        }
        let answers = join_all(open.iter().map(|(_, change)| patch_pod(&pods, scope, change))).await;
        for ((number, _), how) in open.iter().zip(answers) {
            carry_out.answered(*number, how);
        }
    }
    let mut outcome = carry_out.outcome();
    if let Some(change) = &plan.service {
        match write_service(client, lease, change).await {
            Ok(()) => {}
            Err(ServiceError::Invalid(why)) => outcome.service_invalid = Some(why),
            Err(ServiceError::Failed(why)) => outcome.service_failed = Some(why),
        }
    }
    outcome
}

async fn patch_pod(pods: &Api<KubePod>, scope: &Scope, change: &PodChange) -> Patched {
    let namespace = pods.namespace().unwrap_or_default();
    let mut metadata = json!({ "uid": change.uid, "resourceVersion": change.resource_version });
    if !change.labels.is_empty() {
        metadata["labels"] = json!(change.labels);
    }
    if !change.annotations.is_empty() {
        metadata["annotations"] = json!(change.annotations);
    }
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match pods.patch(&change.name, &params, &Patch::Merge(json!({ "metadata": metadata }))).await {
        Ok(answer) => {
            scope.remember(answer);
            Patched::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            scope.forget(namespace, &change.name, &change.uid);
            Patched::Gone
        }
        Err(kube::Error::Api(status)) if status.code == 409 => reread(pods, scope, change).await,
        // Too many requests, or a webhook or proxy that took too long: another time it may work.
        Err(kube::Error::Api(status))
            if matches!(status.code, 400..500) && !matches!(status.code, 408 | 429) =>
        {
            Patched::Refused(text(&kube::Error::Api(status)))
        }
        Err(error) => Patched::Unknown(text(&error)),
    }
}

/// After a conflict: the cache may lag behind, and the next decision waits until it does not.
async fn reread(pods: &Api<KubePod>, scope: &Scope, change: &PodChange) -> Patched {
    let namespace = pods.namespace().unwrap_or_default();
    match pods.get_opt(&change.name).await {
        Ok(Some(pod)) if pod.uid().as_deref() == Some(change.uid.as_str()) => {
            scope.remember(pod);
            Patched::Conflict
        }
        Ok(_) => {
            scope.forget(namespace, &change.name, &change.uid);
            Patched::Gone
        }
        Err(error) => Patched::Unknown(text(&error)),
    }
}

/// Why a Service could not be written.
enum ServiceError {
    /// As it is described, never.
    Invalid(String),
    /// Another time it may work.
    Failed(String),
}

/// Created, never adopted: somebody else's Service of that name makes the creation fail.
async fn write_service(
    client: &Client,
    lease: &ComponentLease,
    change: &ServiceChange,
) -> Result<(), ServiceError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &lease.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let (name, written) = match change {
        ServiceChange::Create(wanted, selector) => {
            let service = service(lease, wanted, selector);
            let params =
                PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            (&wanted.name, services.create(&params, &service).await)
        }
        ServiceChange::Update(wanted, selector, resource_version) => {
            let spec = service(lease, wanted, selector).spec;
            let operations = json!([
                // A Service that has changed since makes this a conflict.
                { "op": "replace", "path": "/metadata/resourceVersion", "value": resource_version },
                { "op": "add", "path": "/spec/selector", "value": selector },
                { "op": "add", "path": "/spec/ports", "value": spec.map(|spec| spec.ports) },
            ]);
            let operations = serde_json::from_value(operations)
                .map_err(|error: serde_json::Error| ServiceError::Failed(error.to_string()))?;
            (&wanted.name, services.patch(&wanted.name, &params, &Patch::Json::<()>(operations)).await)
        }
    };
    match written {
        Ok(_) => Ok(()),
        // Somebody was faster; the watch will show what is there now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(ServiceError::Invalid(format!(
            "Service {name} cannot be made as it is described: {}",
            status.message
        ))),
        Err(error) => {
            Err(ServiceError::Failed(format!("Service {name} could not be written: {}", text(&error))))
        }
    }
}

fn service(lease: &ComponentLease, wanted: &DesiredService, selector: &BTreeMap<String, String>) -> Service {
    // It would ask for a right on the finalizers of the lease where the API server enforces that, and
    // a lease is never kept from going by its Service.
    let owner =
        lease.controller_owner_ref(&()).map(|owner| OwnerReference { block_owner_deletion: None, ..owner });
    let ports = wanted.ports.iter().map(|port| ServicePort {
        name: port.name.clone(),
        port: port.port,
        target_port: port.target.as_ref().map(|target| match target.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(target.clone()),
        }),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
        ..ServicePort::default()
    });
    let mark = ("app.kubernetes.io/managed-by".to_owned(), "component-lease".to_owned());
    let labels = wanted.labels.clone().into_iter().chain([mark]);
    Service {
        metadata: ObjectMeta {
            name: Some(wanted.name.clone()),
            labels: Some(labels.collect()),
            annotations: Some(wanted.annotations.clone()),
            owner_references: Some(owner.into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(selector.clone()),
            cluster_ip: wanted.headless.then(|| "None".to_owned()),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
