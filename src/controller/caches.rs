//! What Kubernetes tells: the resources, pods, Services and endpoints of the watched namespaces, cached.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector as reflect};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::endpoints::{self, Endpoints, KubeSlice};
use super::pods::{KubePod, pod};
use super::services::{self, EXTERNAL_NAME};
use crate::api::ComponentLease;
use crate::membership::Whereabouts;
use crate::routing::observed::{self, Desired, FormerService, LabelScheme, Pods, ServiceSight};
use crate::routing::pod::{Marks, PREFIX, Pod};

const LEASES: &str = "componentleases";
const PODS: &str = "pods";
const SERVICES: &str = "services";
const SLICES: &str = "endpointslices";

/// A resource that may be unreadable: one among many must not stop the others.
pub(super) type Lease = DeserializeGuard<ComponentLease>;
pub(super) type LeaseRef = ObjectRef<Lease>;

/// A pod, and how it was answered; `None` is gone.
type Fresh = (ObjectRef<KubePod>, Option<KubePod>);

/// One watched namespace, or all of them.
pub(super) struct Scope {
    pub(super) leases: Store<Lease>,
    pub(super) pods: Store<KubePod>,
    pub(super) services: Store<Service>,
    endpoints: Endpoints,
    /// `None` is all of them.
    namespace: Option<String>,
    trouble: Mutex<HashMap<&'static str, Trouble>>,
    /// Pods as a patch or a fresh read answered them, until the watch has caught up; `None` is gone.
    fresh: Mutex<HashMap<String, Fresh>>,
    /// Told after each event of the pods' watch.
    pods_seen: Notify,
}

/// Objects of one answer to a list, which is held as a whole while it is read: an object may have more than a megabyte.
const PAGE: u32 = 50;

/// How long a decision waits for the watch to show what is known already.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Why a kind cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    text: String,
    /// Nobody may read it for us. Anything else passes, and what was seen before is still good to
    /// act upon: every patch is guarded.
    forbidden: bool,
}

/// What a watch saw.
pub(super) enum Seen<'a> {
    Lease(&'a Lease),
    LeaseGone(&'a Lease),
    /// A kind was listed anew, or cannot be: everything is to be looked at.
    Anew,
    Pod(&'a KubePod),
    PodGone(&'a KubePod),
    Service(&'a Service),
    /// The endpoints of this Service have changed.
    Endpoints {
        namespace: &'a str,
        service: &'a str,
    },
}

/// The writing halves of a scope's caches.
pub(super) struct Feeds {
    api: (Api<Lease>, Api<KubePod>, Api<Service>, Api<KubeSlice>),
    leases: reflector::store::Writer<Lease>,
    pods: reflector::store::Writer<KubePod>,
    services: reflector::store::Writer<Service>,
}

impl Scope {
    /// `None` is every namespace.
    pub(super) fn new(client: &Client, namespace: Option<&str>) -> (Self, Feeds) {
        let (leases, leases_writer) = reflector::store();
        let (pods, pods_writer) = reflector::store();
        let (services, services_writer) = reflector::store();
        let feeds = Feeds {
            api: (
                api(client, namespace),
                api(client, namespace),
                api(client, namespace),
                api(client, namespace),
            ),
            leases: leases_writer,
            pods: pods_writer,
            services: services_writer,
        };
        let scope = Self {
            leases,
            pods,
            services,
            endpoints: Endpoints::default(),
            namespace: namespace.map(ToOwned::to_owned),
            trouble: Mutex::default(),
            fresh: Mutex::default(),
            pods_seen: Notify::new(),
        };
        (scope, feeds)
    }

    /// Keeps the caches until dropped, and passes on what happens.
    pub(super) async fn watch(&self, feeds: Feeds, seen: impl Fn(Seen<'_>)) {
        let Feeds { api: (leases, pods, services, slices), leases: l, pods: p, services: s } = feeds;
        futures::join!(
            self.watch_kind(
                LEASES,
                reflect(l, events(leases).modify(slim_lease)),
                |event| match event {
                    Event::Apply(lease) => seen(Seen::Lease(lease)),
                    Event::Delete(lease) => seen(Seen::LeaseGone(lease)),
                    Event::InitDone => seen(Seen::Anew),
                    Event::Init | Event::InitApply(_) => {}
                },
                || seen(Seen::Anew)
            ),
            self.watch_kind(
                PODS,
                reflect(p, events(pods)),
                |event| {
                    self.pods_seen.notify_waiters();
                    match event {
                        Event::Apply(pod) => seen(Seen::Pod(pod)),
                        Event::Delete(pod) => seen(Seen::PodGone(pod)),
                        Event::InitDone => seen(Seen::Anew),
                        Event::Init | Event::InitApply(_) => {}
                    }
                },
                || seen(Seen::Anew)
            ),
            self.watch_kind(
                SERVICES,
                reflect(s, events(services).modify(services::slim)),
                |event| match event {
                    Event::Apply(service) | Event::Delete(service) => seen(Seen::Service(service)),
                    Event::InitDone => seen(Seen::Anew),
                    Event::Init | Event::InitApply(_) => {}
                },
                || seen(Seen::Anew)
            ),
            self.watch_kind(
                SLICES,
                events(slices),
                |event| match self.endpoints.saw(event) {
                    endpoints::Changed::Nothing => {}
                    endpoints::Changed::Of { namespace, service } => {
                        seen(Seen::Endpoints { namespace: &namespace, service: &service });
                    }
                    endpoints::Changed::Everything => seen(Seen::Anew),
                },
                || seen(Seen::Anew)
            ),
        );
    }

    async fn watch_kind<K>(
        &self,
        kind: &'static str,
        events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
        on: impl Fn(&Event<K>),
        troubled: impl Fn(),
    ) {
        let mut events = std::pin::pin!(events.backoff(Patience::default()));
        while let Some(event) = events.next().await {
            match event {
                // The list that follows may fail like the one before.
                Ok(event @ Event::Init) => on(&event),
                Ok(event) => {
                    self.well(kind);
                    on(&event);
                }
                Err(error) => {
                    if self.note(kind, explain(kind, &error)) {
                        troubled();
                    }
                }
            }
        }
    }

    fn well(&self, kind: &'static str) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).remove(kind).is_some() {
            info!(kind, "watching again");
        }
    }

    /// True when it makes a difference to decisions.
    fn note(&self, kind: &'static str, trouble: Trouble) -> bool {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.get(kind);
        if before == Some(&trouble) {
            return false;
        }
        warn!(kind, "{}", trouble.text);
        let differs = before.is_none_or(|before| before.forbidden != trouble.forbidden);
        all.insert(kind, trouble);
        differs
    }

    /// Why this kind cannot be gone by, if it cannot.
    fn unknown(&self, kind: &'static str, listed: bool) -> Option<String> {
        let all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(kind) {
            Some(trouble) if trouble.forbidden || !listed => Some(trouble.text.clone()),
            None if !listed => Some(format!("the {kind} have not been listed yet")),
            _ => None,
        }
    }

    /// Which kinds have been listed once.
    fn listed(&self) -> [(&'static str, bool); 4] {
        let now = |ready: Option<Result<(), _>>| ready.is_some_and(|outcome| outcome.is_ok());
        [
            (LEASES, now(self.leases.wait_until_ready().now_or_never())),
            (PODS, now(self.pods.wait_until_ready().now_or_never())),
            (SERVICES, now(self.services.wait_until_ready().now_or_never())),
            (SLICES, self.endpoints.listed()),
        ]
    }

    /// Whether each kind has been listed, or is known to be out of reach.
    pub(super) fn settled(&self) -> bool {
        let all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        self.listed().iter().all(|(kind, listed)| *listed || all.contains_key(kind))
    }

    /// Whether the caches have been filled once. A failed list never counts as an empty one.
    pub(super) fn filled(&self) -> bool {
        self.listed().iter().all(|(_, listed)| *listed)
    }

    /// The kinds that cannot be watched, and why.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|trouble| trouble.text.clone())
            .collect()
    }

    /// The pods that concern a resource: its candidates, those that carry marks of it, and those that
    /// its holder may name. A holder may be no candidate, and a pod outside the selector may carry
    /// our label. Both are to be said.
    pub(super) fn pods_of(&self, desired: &Desired, applied: Option<&LabelScheme>, holder: &str) -> Pods {
        let listed = self.listed()[1].1;
        if let Some(trouble) = self.unknown(PODS, listed) {
            return Err(trouble);
        }
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let version = Marks::of(&desired.name).version;
        let named = |pod: &KubePod| {
            let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
            pod.metadata.name.as_deref().is_some_and(|name| holder.starts_with(name))
                || ips.into_iter().flatten().any(|ip| holder.starts_with(&ip.ip))
        };
        // Only these are copied: a namespace may have thousands.
        let concerns = |pod: &KubePod| {
            desired.selector.matches(pod.labels())
                || pod.annotations().contains_key(&version)
                || pod.labels().contains_key(&desired.labels.key)
                || applied.is_some_and(|applied| pod.labels().contains_key(&applied.key))
                || named(pod)
        };
        let here = |pod: &KubePod| pod.metadata.namespace.as_deref() == Some(desired.namespace.as_str());
        let gone = |cached: &KubePod| {
            cached.uid().and_then(|uid| fresh.get(&uid)).is_some_and(|(_, known)| known.is_none())
        };
        let seen = |cached: Arc<KubePod>| (concerns(&cached) && !gone(&cached)).then(|| pod(&cached));
        let mut pods: Vec<Pod> = self.pods.state_filter(here).into_iter().filter_map(seen).collect();
        // So that plans are repeatable.
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Whether a participant ran in a pod that is gone, or has finished; false where that cannot be told.
    pub(super) fn is_gone(&self, at: &Whereabouts) -> bool {
        let (Some(namespace), Some(name), Some(uid)) = (&at.namespace, &at.pod, &at.pod_uid) else {
            return false;
        };
        let watched = self.namespace.as_ref().is_none_or(|watched| watched == namespace);
        if !watched || self.unknown(PODS, self.listed()[1].1).is_some() {
            return false;
        }
        let seen = self.pods.get(&ObjectRef::new(name).within(namespace)).map(|seen| pod(&seen));
        seen.is_none_or(|seen| seen.uid != *uid || seen.finished)
    }

    /// Remembers how a patch or a read answered until the watch has caught up.
    pub(super) fn remember(&self, answer: KubePod) {
        let Some(uid) = answer.uid() else { return };
        self.insert(uid, ObjectRef::from_obj(&answer), Some(answer));
    }

    /// The pod with this UID is gone, whatever the watch shows.
    pub(super) fn forget(&self, namespace: &str, name: &str, uid: &str) {
        self.insert(uid.to_owned(), ObjectRef::new(name).within(namespace), None);
    }

    fn insert(&self, uid: String, reference: ObjectRef<KubePod>, known: Option<KubePod>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.insert(uid, (reference, known));
    }

    /// The pods that the watch has to catch up with, by UID: their resource version, or `None` if they are gone.
    #[cfg(test)]
    pub(super) fn awaited(&self) -> BTreeMap<String, Option<String>> {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let version = |known: &Option<KubePod>| known.as_ref().and_then(KubePod::resource_version);
        fresh.iter().map(|(uid, (_, known))| (uid.clone(), version(known))).collect()
    }

    /// Waits until the watch shows all that patches and reads have answered; false when it does not.
    ///
    /// Nothing newer is ever laid over what the watch shows: it shows one moment of the past, and
    /// that is what the guards rest on. One pod as it is now, beside others as they were before a
    /// pod was born that another controller labels, makes two labelled pods (`tests/sim/labels.rs`).
    /// Only a pod that is gone may be left out: nobody can label it any more.
    pub(super) async fn caught_up(&self) -> bool {
        let shown = async {
            loop {
                let seen = self.pods_seen.notified();
                if self.shows_all_that_is_known() {
                    return;
                }
                seen.await;
            }
        };
        tokio::time::timeout(CATCH_UP, shown).await.is_ok()
    }

    fn shows_all_that_is_known(&self) -> bool {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        // What the watch has seen by now, or has seen deleted, need not be kept.
        fresh.retain(|uid, (reference, known)| {
            self.pods.get(reference).is_some_and(|cached| {
                cached.uid().as_ref() == Some(uid)
                    && known.as_ref().is_none_or(|known| newer_than(known, &cached))
            })
        });
        fresh.values().all(|(_, known)| known.is_none())
    }

    /// The selectors of the Services of a namespace that reach pods by them, by name.
    pub(super) fn selectors(&self, namespace: &str) -> Vec<(String, BTreeMap<String, String>)> {
        let is_external = |service: &Service| {
            service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some(EXTERNAL_NAME)
        };
        let here = |service: &Service| {
            service.metadata.namespace.as_deref() == Some(namespace) && !is_external(service)
        };
        let services = self.services.state_filter(here).into_iter();
        services
            .filter_map(|service| Some((service.name_any(), service.spec.as_ref()?.selector.clone()?)))
            .collect()
    }

    /// The labels of the pods of a namespace.
    pub(super) fn labels_of_pods(&self, namespace: &str) -> Vec<BTreeMap<String, String>> {
        let here = |pod: &KubePod| pod.metadata.namespace.as_deref() == Some(namespace);
        self.pods.state_filter(here).iter().map(|pod| pod.labels().clone()).collect()
    }

    /// Whether the Service that the resource names selects by one of these labels.
    pub(super) fn service_selects_by(&self, desired: &Desired, labels: &BTreeSet<String>) -> bool {
        let Some(named) = &desired.service else { return false };
        let service = self.services.get(&ObjectRef::new(&named.name).within(&desired.namespace));
        let selector = service.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref());
        selector.is_some_and(|selector| labels.iter().any(|key| selector.contains_key(key)))
    }

    /// The Services that this resource has made and does not name any more.
    pub(super) fn former_services_of(&self, desired: &Desired) -> Vec<FormerService> {
        services::former(&self.services, desired)
    }

    pub(super) fn service_of(&self, desired: &Desired) -> ServiceSight {
        let Some(wanted) = &desired.service else { return ServiceSight::NotAsked };
        let listed = self.listed()[2].1;
        if let Some(trouble) = self.unknown(SERVICES, listed) {
            return ServiceSight::Unknown(trouble);
        }
        let reference = ObjectRef::new(&wanted.name).within(&desired.namespace);
        let Some(service) = self.services.get(&reference) else { return ServiceSight::Missing };
        ServiceSight::Exists(services::seen(&service, desired))
    }

    /// The endpoints of the Service that the resource names.
    pub(super) fn endpoints_of(&self, desired: &Desired) -> observed::Endpoints {
        let Some(named) = &desired.service else { return Ok(Vec::new()) };
        match self.unknown(SLICES, self.endpoints.listed()) {
            Some(trouble) => Err(trouble),
            None => Ok(self.endpoints.of(&desired.namespace, &named.name)),
        }
    }
}

/// What a watch shows of a kind.
fn events<K>(api: Api<K>) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher::watcher(api, watcher::Config { page_size: Some(PAGE), ..watcher::Config::default() })
}

/// Of what others write, what is not read is not kept.
fn slim_lease(lease: &mut Lease) {
    lease.managed_fields_mut().clear();
    lease.annotations_mut().retain(|key, _| key.starts_with(PREFIX));
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Kubernetes compares resource versions of one kind as numbers since 1.35, and they were numbers before.
fn newer_than(pod: &KubePod, other: &KubePod) -> bool {
    let number = |pod: &KubePod| pod.resource_version().and_then(|v| v.parse::<u64>().ok());
    pod.uid() == other.uid() && number(pod) > number(other)
}

/// What a failed watch means for people.
fn explain(kind: &str, error: &watcher::Error) -> Trouble {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    let forbidden = status.is_some_and(|status| status.code == 403);
    let text = match status.map(|status| (status.code, status.message.as_str())) {
        Some((404, _)) if kind == LEASES => {
            "the cluster does not know componentleases yet: apply the CustomResourceDefinition (component-lease crd | kubectl apply -f -); waiting for it".to_owned()
        }
        Some((403, message)) => {
            format!("the controller may not list and watch {kind}: {message}; grant it (see the chart's templates/rbac.yaml); waiting for it")
        }
        Some((code, message)) => format!("watching {kind} failed: {message} ({code}); trying again"),
        None => format!("watching {kind} failed: {error}; trying again"),
    };
    Trouble { text, forbidden }
}

/// How long a broken watch waits: 0.2 s, doubling to 3 s. Longer would keep a repaired cluster waiting.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    failures: u32,
    last: Option<Instant>,
}

/// A watch that was well for so long begins anew.
const WELL_AGAIN: Duration = Duration::from_secs(10);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_none_or(|last| last.elapsed() > WELL_AGAIN) {
            self.failures = 0;
        }
        self.last = Some(Instant::now());
        let wait = Duration::from_millis(200 << self.failures.min(4)).min(Duration::from_secs(3));
        self.failures += 1;
        Some(wait)
    }
}

impl Backoff for Patience {
    /// Called at the beginning of every attempt, so it means nothing.
    fn reset(&mut self) {}
}
