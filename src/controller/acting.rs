//! Which of several replicas acts: the one that leads by a Kubernetes Lease.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::lookout::Lookout;
use crate::clock::Clock;
use crate::election::ComponentName;
use crate::participant::{BuildError, Participant, TermObserver};
use crate::store::kubernetes::KubernetesStore;

/// Of that Lease.
const TTL: Duration = Duration::from_secs(15);
/// How long the end of a replica waits until its Lease is released.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Acting {
    /// `None` where there is only this replica.
    election: Option<Arc<Participant>>,
    lookout: Arc<Lookout>,
}

impl Acting {
    pub(super) fn alone(lookout: Arc<Lookout>) -> Self {
        Self { election: None, lookout }
    }

    /// By the Lease of this name. `identity` and `origin` are the pod's name and UID.
    pub(super) fn elected(
        client: &Client,
        namespace: &str,
        name: ComponentName,
        identity: &str,
        origin: Option<&str>,
        clock: &Arc<dyn Clock>,
        lookout: Arc<Lookout>,
    ) -> Result<Self, BuildError> {
        let store = KubernetesStore::new(client.clone(), namespace, Arc::clone(clock));
        let builder = Participant::builder(Arc::new(store), name).name(identity).ttl(TTL);
        let builder = match origin {
            Some(origin) => builder.origin(origin),
            None => builder,
        };
        // What the controller does is guarded call by call: there is no work to stop.
        let builder = builder.stop_grace(Duration::ZERO);
        Ok(Self { election: Some(Arc::new(builder.start()?)), lookout })
    }

    /// Whether this replica acts, once it is known where another release does. An overlap of two is harmless: every
    /// patch is guarded.
    pub(super) fn acts(&self) -> bool {
        self.election.as_ref().is_none_or(|participant| participant.is_leader()) && self.lookout.knows()
    }

    /// Waits until this replica acts; its term, if it is elected for one.
    pub(super) async fn begun(&self) -> Option<TermObserver> {
        let election = self.election.as_ref()?;
        // Dropped at once: nothing has to be stopped before the Lease is released.
        let term = match election.lead().await {
            Ok(Some(held)) => held.observer(),
            // Another task watches how the election ends.
            Ok(None) | Err(_) => std::future::pending().await,
        };
        info!("this replica is the acting one");
        Some(term)
    }

    /// Waits until the election has ended by itself; `stop` is the shutdown that ends it in order.
    pub(super) async fn ended(&self, stop: &CancellationToken) {
        if let Some(election) = &self.election
            && !(election.ended().await.is_ok() && stop.is_cancelled())
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Gives the Lease back.
    pub(super) async fn release(&self) {
        if let Some(election) = &self.election {
            election.drain();
            let _ = tokio::time::timeout(RELEASE_LIMIT, election.ended()).await;
        }
    }

    /// How long ago the election last turned, if there is one.
    pub(super) fn heartbeat_age(&self) -> Option<Duration> {
        self.election.as_ref().map(|election| election.heartbeat_age())
    }
}

/// Waits until a term is over; for ever without one.
pub(super) async fn lost(term: Option<&TermObserver>) {
    let Some(term) = term else { return std::future::pending().await };
    while term.is_valid() {
        tokio::time::sleep(term.valid_for().min(Duration::from_secs(1))).await;
    }
}
