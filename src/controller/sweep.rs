//! Takes our marks off pods whose lease is gone. There is no finalizer: with the controller
//! uninstalled, every delete of a resource or a namespace would hang.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use super::caches::{Lease, Scope};
use super::cluster::{Cluster, FIELD_MANAGER};
use super::database::Database;
use super::error::text;
use super::pods::{self, KubePod};
use crate::api::ComponentLease;
use crate::election::{ComponentName, Moment};
use crate::membership::namespace::key_in;
use crate::routing::pod::Marks;

const INTENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Start-up records are kept for so long after the last sign of life.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const PRUNED_EVERY: Duration = Duration::from_secs(3600);
const PRUNE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sweeps every pod of the scope that carries the stamp of a lease that does not exist; the keys of
/// their components, unless they named others. Only ever called with filled caches: a failed list is no proof that anything is gone.
pub(super) async fn sweep(scope: &Scope, cluster: &Cluster) -> BTreeSet<ComponentName> {
    let client = &cluster.client;
    let mut asked = BTreeMap::new();
    for pod in scope.pods.state() {
        let namespace = pod.namespace().unwrap_or_default();
        if cluster.lookout.leaves(&namespace) {
            continue;
        }
        let seen = pods::pod(&pod);
        let mut labels = BTreeSet::new();
        let mut annotations = BTreeSet::new();
        for (lease, label) in Marks::stamps(&seen) {
            if scope.leases.get(&ObjectRef::new(lease).within(&namespace)).is_some() {
                continue;
            }
            let key = (namespace.clone(), lease.to_owned());
            let gone = match asked.get(&key) {
                Some(gone) => *gone,
                None => is_gone(client, &namespace, lease).await,
            };
            asked.insert(key, gone);
            if gone {
                let marks = Marks::of(lease);
                annotations.extend([marks.version, marks.label]);
                labels.insert(label);
            }
        }
        if annotations.is_empty() {
            continue;
        }
        // The pod may claim any key; a patch that removes one which is not ours is refused as a whole.
        labels.retain(|key| seen.labels.contains_key(key) && cluster.may_write(key));
        annotations.retain(|key| seen.annotations.contains_key(key));
        let gone = |keys: &BTreeSet<String>| {
            keys.iter().map(|key| (key.clone(), serde_json::Value::Null)).collect::<serde_json::Map<_, _>>()
        };
        let patch = json!({ "metadata": {
            "uid": seen.uid,
            "resourceVersion": seen.resource_version,
            "labels": gone(&labels),
            "annotations": gone(&annotations),
        }});
        let api: Api<KubePod> = Api::namespaced(client.clone(), &namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&seen.name, &params, &Patch::Merge(patch)).await {
            Ok(answer) => {
                info!(
                    namespace,
                    pod = seen.name,
                    "removed the labels and annotations of a deleted resource from the pod"
                );
                scope.remember(answer);
            }
            // Gone, or changed: then its watch event brings another sweep.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                let error = text(&error);
                warn!(
                    namespace,
                    pod = seen.name,
                    error,
                    "could not remove the labels and annotations of a deleted resource from the pod; retrying later"
                );
            }
        }
    }
    let gone = asked.into_iter().filter(|(_, gone)| *gone);
    gone.filter_map(|((namespace, lease), _)| key_in(&namespace, &lease).ok()).collect()
}

/// Asks the API server itself: a pod may be seen with the stamp of a resource that is so new that
/// the watch of resources, which is another one, has not shown it yet.
async fn is_gone(client: &Client, namespace: &str, lease: &str) -> bool {
    let leases: Api<ComponentLease> = Api::namespaced(client.clone(), namespace);
    match leases.get_metadata_opt(lease).await {
        Ok(found) => found.is_none(),
        Err(error) => {
            let error = text(&error);
            warn!(namespace, lease, error, "could not check whether the resource is gone; retrying later");
            false
        }
    }
}

/// Withdraws what the resources of these components asked of the participants, where no other
/// resource claims the component; those that have to be tried again. Only after a deletion that was
/// seen, or that left marks on pods: somebody else's controller may look after the same database.
pub(super) async fn intents(
    database: &Database,
    cluster: &Cluster,
    gone: BTreeSet<ComponentName>,
) -> BTreeSet<ComponentName> {
    let mut again = BTreeSet::new();
    for component in gone {
        let of_ours = |lease: &&ComponentLease| cluster.is_of_our_class(lease);
        let claims =
            |lease: &Lease| lease.0.as_ref().ok().filter(of_ours).and_then(|lease| cluster.component(lease));
        let claimed = |lease: &Lease| claims(lease).as_ref() == Some(&component);
        if cluster.leases().iter().any(|lease| claimed(lease)) {
            continue;
        }
        let cleared = tokio::time::timeout(INTENT_TIMEOUT, database.store().clear_intent(&component)).await;
        let failure = match cleared {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {INTENT_TIMEOUT:?}"),
        };
        warn!(
            %component,
            error = failure,
            "could not delete the ttl of a deleted resource from the database; retrying later"
        );
        again.insert(component);
    }
    again
}

/// Deletes old start-up records now and then: participants have no right to. Returns when that was last tried.
pub(super) async fn prune(database: &Database, last: Option<Moment>) -> Option<Moment> {
    let now = database.clock.boot();
    if last.is_some_and(|last| now < last + PRUNED_EVERY) {
        return last;
    }
    match tokio::time::timeout(PRUNE_TIMEOUT, database.store().prune_instances(KEPT)).await {
        Ok(Ok(0)) => {}
        Ok(Ok(rows)) => info!(rows, "deleted old rows of component_instance"),
        Ok(Err(error)) => {
            warn!(%error, "could not delete old rows of component_instance; retrying in an hour");
        }
        Err(_) => {
            warn!("deleting old rows of component_instance took too long; retrying in an hour");
        }
    }
    Some(now)
}
