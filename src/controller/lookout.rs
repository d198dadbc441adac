//! Looks out for other releases of our class, by their Leases: which namespaces are theirs ([`super::releases`] judges).

use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use super::caches::Patience;
use super::error::text;
use super::releases::{Release, Releases};
use crate::clock::Clock;
use crate::store::kubernetes::FIELD_MANAGER;

/// Label of a release's Lease: its class.
const CLASS: &str = "componentlease.io/class";
/// Annotation of a release's Lease: the namespaces that it watches, separated by commas; empty is all.
const NAMESPACES: &str = "componentlease.io/namespaces";

/// How long a release that goes before others waits for them to notice: their watches tell them at once.
const NOTICE: Duration = Duration::from_secs(3);
/// A look that failed is repeated after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The Lease by which the replicas of this release elect.
pub(super) struct OwnLease {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) struct Lookout {
    class: String,
    /// What this release watches; empty is every namespace.
    namespaces: Vec<String>,
    /// `None` where there is no election: then others cannot see this controller, nor it them.
    own: Option<OwnLease>,
    /// The releases in front of this one; `None` until it is known whether there are any.
    front: RwLock<Option<Vec<Release>>>,
}

impl Lookout {
    pub(super) fn new(class: String, namespaces: Vec<String>, own: Option<OwnLease>) -> Self {
        let front = if own.is_some() { None } else { Some(Vec::new()) };
        Self { class, namespaces, own, front: RwLock::new(front) }
    }

    pub(super) fn class(&self) -> &str {
        &self.class
    }

    fn with_front<T>(&self, read: impl FnOnce(Option<&[Release]>) -> T) -> T {
        read(self.front.read().unwrap_or_else(PoisonError::into_inner).as_deref())
    }

    /// Whether it is known which namespaces are left to others.
    pub(super) fn knows(&self) -> bool {
        self.with_front(|front| front.is_some())
    }

    /// Whether nothing may be done in this namespace: it is another release's, or may be.
    pub(super) fn leaves(&self, namespace: &str) -> bool {
        self.with_front(|front| {
            front.is_none_or(|front| front.iter().any(|release| release.watches(namespace)))
        })
    }

    /// Whether this release leaves any namespace to another one.
    pub(super) fn stands_back(&self) -> bool {
        self.with_front(|front| front.is_some_and(|front| !front.is_empty()))
    }

    /// This replica does not act any more. What it knew may be out of date when it acts again.
    pub(super) fn forget(&self) {
        if self.own.is_some() {
            *self.front.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// While this replica leads its release: keeps an eye on the others, until dropped. Before the first look it says
    /// on our own Lease what we watch, so that of two releases that begin at the same time one at least sees the other.
    pub(super) async fn watch(&self, changed: impl Fn()) {
        let Some(own) = &self.own else { return std::future::pending().await };
        let ours = self.mark(own).await;
        let mut releases = Releases::new(ours);
        let Some(leases) = self.first_look(own, &mut releases).await else {
            self.learn(&releases, &changed);
            return std::future::pending().await;
        };
        if releases.displaces() {
            info!(
                class = self.class,
                "this release is older than others of its class and takes over; it gives them time to notice"
            );
            tokio::time::sleep(NOTICE).await;
        }
        self.learn(&releases, &changed);
        let config = watcher::Config::default().labels(&self.selector());
        let mut events = std::pin::pin!(watch(leases.clone(), config).backoff(Patience::default()));
        loop {
            let due = releases.due().map(|due| due.saturating_sub(own.clock.boot()));
            tokio::select! {
                Some(event) = events.next() => match event {
                    Ok(Event::Apply(lease) | Event::InitApply(lease)) => {
                        releases.saw(release(&lease), own.clock.boot());
                    }
                    Ok(Event::Delete(lease)) => releases.gone(&release(&lease).name),
                    Ok(Event::Init | Event::InitDone) => {}
                    Err(error) => warn!(class = self.class, %error, "the Leases of other releases cannot be watched; trying again"),
                },
                () = tokio::time::sleep(due.unwrap_or(Duration::MAX)) => {
                    if let Err(error) = self.list(own, &leases, &mut releases).await {
                        self.failed(&text(&error));
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
            self.learn(&releases, &changed);
        }
    }

    fn selector(&self) -> String {
        format!("{CLASS}={}", self.class)
    }

    fn failed(&self, error: &impl Display) {
        warn!(class = self.class, %error, "other releases cannot be looked for; trying again");
    }

    /// Says on our own Lease what this release watches. Nothing changes where it says so already.
    async fn mark(&self, own: &OwnLease) -> Release {
        let leases: Api<Lease> = Api::namespaced(own.client.clone(), &own.namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": {
            "labels": { CLASS: self.class },
            "annotations": { NAMESPACES: self.namespaces.join(",") },
        }}));
        loop {
            match leases.patch(&own.name, &params, &patch).await {
                Ok(lease) => return release(&lease),
                Err(error) => self.failed(&text(&error)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The Leases that may be watched: of all namespaces, or of our own; `None` where neither is allowed.
    async fn first_look(&self, own: &OwnLease, releases: &mut Releases) -> Option<Api<Lease>> {
        let mut narrower = Some(Api::namespaced(own.client.clone(), &own.namespace));
        let mut leases = Api::all(own.client.clone());
        loop {
            match self.list(own, &leases, releases).await {
                Ok(()) => return Some(leases),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    info!(
                        class = self.class,
                        "releases in other namespaces are not noticed: {} (rbac.otherReleases in the values of the chart)",
                        status.message
                    );
                    leases = narrower.take()?;
                }
                Err(error) => {
                    self.failed(&text(&error));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn list(
        &self,
        own: &OwnLease,
        leases: &Api<Lease>,
        releases: &mut Releases,
    ) -> Result<(), kube::Error> {
        let asked = own.clock.boot();
        let all = leases.list(&ListParams::default().labels(&self.selector())).await?;
        releases.listed(all.iter().map(release).collect(), asked, own.clock.boot());
        Ok(())
    }

    fn learn(&self, releases: &Releases, changed: &impl Fn()) {
        let front = releases.in_front();
        let shows = |front: &[Release]| -> Vec<(String, Vec<String>)> {
            front.iter().map(|release| (release.name.clone(), release.namespaces.clone())).collect()
        };
        let before = self.with_front(|before| before.map(shows));
        let (now, known) = (shows(&front), before.is_some());
        if before.as_ref() == Some(&now) {
            return;
        }
        for (name, namespaces) in now.iter().filter(|it| !before.iter().flatten().any(|old| old == *it)) {
            let namespaces = if namespaces.is_empty() { "all".to_owned() } else { namespaces.join(", ") };
            warn!(
                class = self.class,
                release = name,
                namespaces,
                "an older release of the same class looks after these namespaces, so this one leaves them alone; give one of the two another class or other namespaces"
            );
        }
        if known && now.is_empty() {
            info!(class = self.class, "no older release of this class watches these namespaces any more");
        }
        *self.front.write().unwrap_or_else(PoisonError::into_inner) = Some(front);
        changed();
    }
}

fn release(lease: &Lease) -> Release {
    let spec = lease.spec.as_ref();
    let namespaces = lease.annotations().get(NAMESPACES).map(String::as_str).unwrap_or_default();
    let made = lease.creation_timestamp().map_or(0, |made| made.0.as_second());
    let ttl = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|ttl| u64::try_from(ttl).ok());
    Release {
        name: format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any()),
        age: (made, lease.uid().unwrap_or_default()),
        namespaces: namespaces.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect(),
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map_or(0, |at| at.0.as_millisecond()),
        ttl: Duration::from_secs(ttl.unwrap_or(0)),
    }
}
