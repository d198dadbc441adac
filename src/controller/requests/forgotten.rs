//! Requests that stand in the database although their objects are gone: they were deleted while no controller acted, or
//! while another one took over. They are taken back, so that nobody obeys what nobody wants any more.
//!
//! The id in the database names the object and the resource that it is about. So a request of somebody else is never
//! taken for one of ours: an operator's who has only the database, or one of another cluster that shares the database.

use std::collections::HashSet;

use futures::FutureExt as _;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt as _};
use tracing::{debug, info, warn};

use super::asked::CALL_LIMIT;
use super::{Requests, Watched};
use crate::api::{ComponentLease, LeaseRequest};
use crate::controller::error::text;
use crate::controller::handles::Handles;
use crate::election::ComponentName;

/// Characters of a resource's UID that are part of the id: with the object's UID they fit.
const OF_THE_RESOURCE: usize = 23;

/// The id of a request in the database.
pub(super) fn id_of(request_uid: &str, lease_uid: &str) -> String {
    let lease: String = lease_uid.chars().take(OF_THE_RESOURCE).collect();
    format!("{request_uid}.{lease}")
}

/// The UID of the object, where the request is about this resource.
fn object_of<'i>(id: &'i str, lease_uid: &str) -> Option<&'i str> {
    let (request_uid, _) = id.split_once('.')?;
    (!request_uid.is_empty() && id == id_of(request_uid, lease_uid)).then_some(request_uid)
}

impl Requests {
    /// Takes back what stands in the database, is not over, and has no object any more.
    pub(in crate::controller) async fn take_back_forgotten(&self, handles: &Handles) {
        for watched in self.watched.iter() {
            // Before they were listed, none is known to be gone.
            if watched.store.wait_until_ready().now_or_never().is_none_or(|listed| listed.is_err()) {
                continue;
            }
            for (component, id, namespace, uid) in suspects(watched, handles) {
                if !exists(handles, &namespace, &uid).await {
                    withdraw(handles, &component, &id).await;
                }
            }
        }
    }
}

/// Component and id of requests whose objects this process does not know, with the namespace and UID of each object.
fn suspects(watched: &Watched, handles: &Handles) -> Vec<(ComponentName, String, String, String)> {
    let exist: HashSet<String> = watched.store.state().iter().filter_map(|request| request.uid()).collect();
    let suspect = |lease: &ComponentLease| {
        let component = handles.cluster.component(lease)?;
        let id = handles.database.known().pending(component.as_str())?;
        let uid = object_of(&id, lease.metadata.uid.as_deref()?)?.to_owned();
        (!exist.contains(&uid)).then(|| (component, id, lease.namespace().unwrap_or_default(), uid))
    };
    let leases = watched.scope.leases.state();
    let ours = leases.iter().filter(|lease| handles.cluster.looks_after(lease));
    ours.filter_map(|lease| suspect(lease.0.as_ref().ok()?)).collect()
}

/// Asks the API server itself: the watch may lag behind a request that another replica has carried on.
async fn exists(handles: &Handles, namespace: &str, uid: &str) -> bool {
    let api: Api<DeserializeGuard<LeaseRequest>> = Api::namespaced(handles.cluster.client.clone(), namespace);
    match api.list_metadata(&ListParams::default()).await {
        Ok(found) => found.iter().any(|request| request.metadata.uid.as_deref() == Some(uid)),
        Err(error) => {
            debug!(
                namespace,
                error = text(&error),
                "could not check whether a request is gone; retrying later"
            );
            true
        }
    }
}

async fn withdraw(handles: &Handles, component: &ComponentName, id: &str) {
    let store = handles.database.store();
    match tokio::time::timeout(CALL_LIMIT, store.withdraw(component, id)).await {
        Ok(Ok(_)) => {
            info!(%component, id, "a request was deleted while no controller acted, and was taken back");
            // Who has seen it looks again. Costs speed only.
            let _ = tokio::time::timeout(CALL_LIMIT, store.notify(component)).await;
        }
        Ok(Err(error)) => {
            warn!(%component, id, %error, "a request whose object is gone could not be taken back; trying again");
        }
        Err(_) => {
            warn!(%component, id, "a request whose object is gone could not be taken back: no answer; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_object_and_the_resource_of_one_cluster_alone() {
        let (request, lease) =
            ("0e8400f2-1c5e-4f0a-9d3b-2b1f6a7c8d9e", "b19f7a52-0c1d-4e6f-8a9b-000102030405");
        let id = id_of(request, lease);
        assert!(id.len() <= 64, "{id}");
        assert_eq!(object_of(&id, lease), Some(request));
        assert_eq!(object_of(&id, "b19f7a52-0c1d-4e6f-8a9c-000102030405"), None, "of another cluster");
        // As the command line makes them on a database, and as the controller does for an unready leader.
        for id in [request, "unready-b19f7a52-0c1d-4e6f-8a9b-000102030405-7", "", "."] {
            assert_eq!(object_of(id, lease), None, "{id}");
        }
    }
}
