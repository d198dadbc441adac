//! Takes our marks off pods whose lease is gone. There is no finalizer: with the controller
//! uninstalled, every delete of a resource or a namespace would hang.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use super::caches::{Lease, Scope};
use super::cluster::{Cluster, FIELD_MANAGER};
use super::database::Database;
use super::error::text;
use super::pods::{self, KubePod};
use crate::api::{ComponentLease, LeaseDatabase};
use crate::election::ComponentName;
use crate::membership::namespace::key_in;
use crate::routing::pause::is_of_a_resource;
use crate::routing::pod::{DELETION_COST, Marks, marked_database};
use crate::store::{Outcome, StoreError};

const INTENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sweeps every pod of the scope that carries the stamp of a lease that does not exist; the keys of
/// their components, unless they named others. Only ever called with filled caches: a failed list is no proof that anything is gone.
pub(super) async fn sweep(scope: &Scope, cluster: &Cluster) -> BTreeSet<ComponentName> {
    let client = &cluster.client;
    let mut asked = BTreeMap::new();
    for pod in scope.pods.all() {
        let namespace = pod.namespace().unwrap_or_default();
        if cluster.lookout.leaves(&namespace) {
            continue;
        }
        let seen = pods::pod(&pod);
        let mut labels = BTreeSet::new();
        let mut annotations = BTreeSet::new();
        for (lease, label) in Marks::stamps(&seen) {
            if scope.has(&namespace, lease) {
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
                let cost = seen.cost_of_ours(&marks).map(|_| DELETION_COST.to_owned());
                annotations.extend([marks.version, marks.label, marks.cost].into_iter().chain(cost));
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
                scope.behind.answered(&answer);
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
    let gone = asked.into_iter().filter(|((_, lease), gone)| *gone && marked_database(lease).is_none());
    gone.filter_map(|((namespace, lease), _)| key_in(&namespace, &lease).ok()).collect()
}

/// Asks the API server itself: a pod may be seen with the stamp of a resource that is so new that
/// the watch of resources, which is another one, has not shown it yet.
async fn is_gone(client: &Client, namespace: &str, lease: &str) -> bool {
    let found = match marked_database(lease) {
        Some(database) => {
            let databases: Api<LeaseDatabase> = Api::namespaced(client.clone(), namespace);
            databases.get_metadata_opt(database).await.map(|found| found.is_some())
        }
        None => {
            let leases: Api<ComponentLease> = Api::namespaced(client.clone(), namespace);
            leases.get_metadata_opt(lease).await.map(|found| found.is_some())
        }
    };
    match found {
        Ok(exists) => !exists,
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
        let cleared = tokio::time::timeout(INTENT_TIMEOUT, clear(database, &component)).await;
        let failure = match cleared {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {INTENT_TIMEOUT:?}"),
        };
        warn!(
            %component,
            error = failure,
            "could not delete what a deleted resource asked for from the database; retrying later"
        );
        again.insert(component);
    }
    again
}

/// Its ttl, and a pause that a resource wanted: nobody would end it any more.
async fn clear(database: &Database, component: &ComponentName) -> Result<(), StoreError> {
    let store = database.store();
    store.clear_intent(component).await?;
    let mut seen = store.look_at(&std::iter::once(component.clone()).collect(), false).await?;
    let paused = seen.asked.remove(component.as_str()).and_then(|asked| asked.paused);
    if let Some(paused) = paused.filter(|paused| is_of_a_resource(paused.by())) {
        // Lost: somebody else has paused it meanwhile, and may go on doing so.
        if store.resume(component, Some(paused.by())).await? == Outcome::Applied {
            info!(%component, "the resource that paused the election is gone: the election goes on");
            // Costs speed only.
            let _ = store.notify(component).await;
        }
    }
    Ok(())
}
