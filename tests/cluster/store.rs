//! The Kubernetes store against the contract of every store, on a real API server.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use async_trait::async_trait;
use component_lease::clock::SystemClock;
use component_lease::contract::Bench;
use component_lease::store::kubernetes::KubernetesStore;
use component_lease::store::{LeaseStore, StoreError};
use component_lease::{election::ComponentName, store_contract};
use component_lease_testkit::control_plane::{self, Namespace};
use kube::{Client, Config};

use crate::support::client;

/// A namespace with no `Lease` in it.
struct Leases {
    admin: Client,
    namespace: Namespace<'static>,
}

impl Leases {
    async fn none_yet() -> Self {
        let plane = control_plane::shared().await.unwrap();
        let namespace = plane.namespace("contract").await.unwrap();
        Self { admin: client(plane.kubeconfig()).await.unwrap(), namespace }
    }

    fn of(&self, client: Client) -> KubernetesStore {
        KubernetesStore::new(client, self.namespace.name(), Arc::new(SystemClock))
    }
}

#[async_trait]
impl Bench for Leases {
    fn open(&self) -> Arc<dyn LeaseStore> {
        Arc::new(self.of(self.admin.clone()))
    }

    async fn retryable(&self) -> Option<StoreError> {
        let nobody = Config::new("http://127.0.0.1:1".parse().unwrap());
        let store = self.of(Client::try_from(nobody).unwrap());
        store.look(&ComponentName::new("c").unwrap()).await.err()
    }
}

store_contract! {
    kubernetes: Leases::none_yet().await,
    left_out: {
        Epochs: "etcd forgets nothing that it acknowledged",
        Directory: "no controller looks for components there",
        names_are_compared_byte_by_byte: "the name of an object is a DNS subdomain",
        the_longest_names_and_largest_versions_are_kept_whole: "leaseTransitions has 32 bits",
        a_change_of_holder_wakes_who_listens: "a watch would cost a connection for each replica: they poll",
    }
}
