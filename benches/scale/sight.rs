//! What users see: which pods carry the leader label, and what the statuses say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use component_lease::api::ComponentLease;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, NAMESPACE};

/// When a pod was first seen with the leader label, and a resource Ready with a term of its own.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) labelled: HashMap<String, Instant>,
    pub(crate) ready: HashMap<String, Instant>,
    /// What was the case before: the same again is no news.
    leaders: HashMap<String, bool>,
    versions: HashMap<String, i64>,
}

pub(crate) struct Sight {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    _watches: JoinSet<()>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sight {
    pub(crate) async fn watch(cluster: &Cluster) -> Result<Self> {
        let (seen, changed) = (Arc::<Mutex<Seen>>::default(), Arc::new(Notify::new()));
        let client = cluster.client().await?;
        let mut watches = JoinSet::new();
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let (all, told) = (Arc::clone(&seen), Arc::clone(&changed));
        watches.spawn(follow(pods, move |pod| {
            let leads = pod
                .labels()
                .iter()
                .any(|(key, value)| key.starts_with("componentlease.io/") && value == "leader");
            let mut seen = lock(&all);
            if seen.leaders.insert(pod.name_any(), leads) != Some(leads) && leads {
                seen.labelled.insert(pod.name_any(), Instant::now());
                told.notify_waiters();
            }
        }));
        let leases: Api<ComponentLease> = Api::namespaced(client, NAMESPACE);
        let (all, told) = (Arc::clone(&seen), Arc::clone(&changed));
        watches.spawn(follow(leases, move |lease: ComponentLease| {
            let Some(status) = &lease.status else { return };
            let ready =
                status.conditions.iter().any(|c| c.type_ == "Ready" && format!("{:?}", c.status) == "True");
            let version = status.term.as_ref().map_or(0, |term| term.version);
            let mut seen = lock(&all);
            if ready && seen.versions.get(&lease.name_any()) != Some(&version) {
                seen.versions.insert(lease.name_any(), version);
                seen.ready.insert(lease.name_any(), Instant::now());
                told.notify_waiters();
            }
        }));
        Ok(Self { seen, changed, _watches: watches })
    }

    /// Only what is new from now on counts.
    pub(crate) fn forget(&self) {
        let mut seen = lock(&self.seen);
        seen.labelled.clear();
        seen.ready.clear();
    }

    pub(crate) async fn until(
        &self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Seen) -> bool,
    ) -> Result<()> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if holds(&lock(&self.seen)) {
                    return;
                }
                changed.await;
            }
        };
        let outcome = tokio::time::timeout(limit, wait).await;
        let seen = lock(&self.seen);
        outcome
            .with_context(|| format!("{what}: {} labelled, {} Ready", seen.labelled.len(), seen.ready.len()))
    }

    /// Seconds from then until each label and each status was seen.
    pub(crate) fn since(&self, then: Instant) -> (Vec<f64>, Vec<f64>) {
        let seen = lock(&self.seen);
        let times = |all: &HashMap<String, Instant>| -> Vec<f64> {
            all.values().map(|at| at.saturating_duration_since(then).as_secs_f64()).collect()
        };
        (times(&seen.labelled), times(&seen.ready))
    }
}

async fn follow<K>(api: Api<K>, mut saw: impl FnMut(K))
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = std::pin::pin!(watch(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
            saw(object);
        }
    }
}
