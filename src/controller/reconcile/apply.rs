//! Carries a plan out, in the order of [`crate::routing::carry_out`]. Every patch carries the pod's UID and resource
//! version, so one that was made on an older view fails.

use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;

use super::services;
use crate::controller::caches::Scope;
use crate::controller::cluster::FIELD_MANAGER;
use crate::controller::error::text;
use crate::controller::pods::KubePod;
use crate::routing::carry_out::{CarryOut, Patched};
use crate::routing::decide::{Plan, PodChange};
use crate::routing::outcome::Outcome;

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
    pub(in crate::controller) fn kind(&self) -> &'static str {
        match self {
            Self::Incomplete(_) => "incomplete",
            Self::Contended => "contended",
        }
    }
}

/// Whether all of a plan was carried out.
pub(in crate::controller) fn complete(outcome: &Outcome) -> Result<(), Error> {
    outcome.failed().map_or(Ok(()), |why| Err(Error::Incomplete(why)))
}

pub(in crate::controller) async fn apply(
    client: &Client,
    scope: &Scope,
    lease: &impl Resource<DynamicType = ()>,
    plan: &Plan,
) -> Outcome {
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
    for change in &plan.services {
        match services::carry_out(client, lease, change).await {
            Ok(()) => {}
            Err(services::Error::Invalid(why)) => outcome.service_invalid = Some(why),
            Err(services::Error::Failed(why)) => outcome.service_failed = Some(why),
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
            scope.behind.answered(&answer);
            Patched::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            scope.behind.is_known_to_be_gone(namespace, &change.name, &change.uid);
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
            scope.behind.answered(&pod);
            Patched::Conflict
        }
        Ok(_) => {
            scope.behind.is_known_to_be_gone(namespace, &change.name, &change.uid);
            Patched::Gone
        }
        Err(error) => Patched::Unknown(text(&error)),
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
