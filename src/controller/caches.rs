//! What Kubernetes tells: the resources, pods, Services and endpoints of the watched namespaces, cached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector as reflect};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::behind::Behind;
use super::endpoints::{self, Endpoints, KubeSlice};
use super::index::{By, Index, beginnings};
use super::pods::{KubePod, pod};
use super::services::{self, EXTERNAL_NAME};
use super::troubles::{Trouble, Troubles};
use crate::api::{ComponentLease, LeaseDatabase};
use crate::membership::Whereabouts;
use crate::routing::observed::{self, Desired, FormerService, LabelScheme, Pods, ServiceSight};
use crate::routing::pod::{Marks, PREFIX, Pod, marked_database};

const LEASES: &str = "componentleases";
const PODS: &str = "pods";
const SERVICES: &str = "services";
/// Without them everything else goes on, so they are not among the kinds that must have been listed.
pub(super) const REQUESTS: &str = "leaserequests";
const SLICES: &str = "endpointslices";
/// As requests: where they cannot be watched, everything else goes on.
pub(super) const DATABASES: &str = "leasedatabases";
/// The Leases by which members of databases elect.
pub(super) const MEMBERS: &str = "leases";

/// A resource that may be unreadable: one among many must not stop the others.
pub(super) type Lease = DeserializeGuard<ComponentLease>;
pub(super) type LeaseRef = ObjectRef<Lease>;
/// As well.
pub(super) type Database = DeserializeGuard<LeaseDatabase>;
pub(super) type DatabaseRef = ObjectRef<Database>;

/// One watched namespace, or all of them.
pub(super) struct Scope {
    pub(super) leases: Store<Lease>,
    /// The same, to be found by what they say.
    pub(super) by: Index<Lease>,
    pub(super) databases: Store<Database>,
    /// Until somebody writes it.
    databases_writer: Mutex<Option<reflector::store::Writer<Database>>>,
    pub(super) pods: Index<KubePod>,
    services: Index<Service>,
    endpoints: Endpoints,
    /// `None` is all of them.
    namespace: Option<String>,
    pub(super) troubles: Troubles,
    /// How far the watch of pods is behind what we know.
    pub(super) behind: Behind,
}

/// Objects of one answer to a list, which is held as a whole while it is read: an object may have more than a megabyte.
const PAGE: u32 = 50;

/// What a watch saw.
pub(super) enum Seen<'a> {
    Lease(&'a Lease),
    LeaseGone(&'a Lease),
    /// A kind was listed anew, or cannot be: everything is to be looked at.
    Anew,
    /// A pod, and what it was before.
    Pod(&'a KubePod, Option<Arc<KubePod>>),
    PodGone(&'a KubePod, Option<Arc<KubePod>>),
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
}

impl Scope {
    /// `None` is every namespace.
    pub(super) fn new(client: &Client, namespace: Option<&str>) -> (Self, Feeds) {
        let (leases, leases_writer) = reflector::store();
        let (databases, databases_writer) = reflector::store();
        let feeds = Feeds {
            api: (
                api(client, namespace),
                api(client, namespace),
                api(client, namespace),
                api(client, namespace),
            ),
            leases: leases_writer,
        };
        let scope = Self {
            leases,
            by: Index::default(),
            databases,
            databases_writer: Mutex::new(Some(databases_writer)),
            pods: Index::default(),
            services: Index::default(),
            endpoints: Endpoints::default(),
            namespace: namespace.map(ToOwned::to_owned),
            troubles: Troubles::default(),
            behind: Behind::default(),
        };
        (scope, feeds)
    }

    /// Keeps the caches until dropped, and passes on what happens.
    pub(super) async fn watch(&self, feeds: Feeds, seen: impl Fn(Seen<'_>)) {
        let Feeds { api: (leases, pods, services, slices), leases: l } = feeds;
        futures::join!(
            self.watch_kind(
                LEASES,
                reflect(l, events(leases).modify(slim_lease)),
                |event| {
                    self.by.saw(event);
                    match event {
                        Event::Apply(lease) => seen(Seen::Lease(lease)),
                        Event::Delete(lease) => seen(Seen::LeaseGone(lease)),
                        Event::InitDone => seen(Seen::Anew),
                        Event::Init | Event::InitApply(_) => {}
                    }
                },
                || seen(Seen::Anew)
            ),
            self.watch_kind(
                PODS,
                events(pods),
                |event| {
                    let before = self.pods.saw(event);
                    self.behind.saw(event, &self.pods);
                    match event {
                        Event::Apply(pod) => seen(Seen::Pod(pod, before)),
                        Event::Delete(pod) => seen(Seen::PodGone(pod, before)),
                        Event::InitDone => seen(Seen::Anew),
                        Event::Init | Event::InitApply(_) => {}
                    }
                },
                || seen(Seen::Anew)
            ),
            self.watch_kind(
                SERVICES,
                events(services).modify(services::slim),
                |event| {
                    self.services.saw(event);
                    match event {
                        Event::Apply(service) | Event::Delete(service) => seen(Seen::Service(service)),
                        Event::InitDone => seen(Seen::Anew),
                        Event::Init | Event::InitApply(_) => {}
                    }
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

    pub(super) async fn watch_kind<K>(
        &self,
        kind: &'static str,
        events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
        on: impl Fn(&Event<K>),
        troubled: impl Fn(),
    ) {
        self.watch_kind_within(kind, "", events, on, troubled).await;
    }

    /// Of this namespace, for a kind that is watched in each by itself.
    pub(super) async fn watch_kind_within<K>(
        &self,
        kind: &'static str,
        within: &str,
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
                    self.troubles.well(kind, within);
                    on(&event);
                }
                Err(error) => {
                    if self.troubles.note(kind, within, explain(kind, &error)) {
                        troubled();
                    }
                }
            }
        }
    }

    /// Whether the resource exists that is called so in marks, as far as the watches show.
    pub(super) fn has(&self, namespace: &str, marked: &str) -> bool {
        match marked_database(marked) {
            Some(name) => self.databases.get(&DatabaseRef::new(name).within(namespace)).is_some(),
            None => self.by.get(namespace, marked).is_some(),
        }
    }

    /// The writing half of the cache of databases, once.
    pub(super) fn take_databases(&self) -> Option<reflector::store::Writer<Database>> {
        self.databases_writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The namespace that is watched; `None` is all of them.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Why this kind cannot be gone by, if it cannot.
    pub(super) fn unknown(&self, kind: &'static str, listed: bool) -> Option<String> {
        self.troubles.unknown(kind, "", listed)
    }

    /// Which kinds have been listed once.
    fn listed(&self) -> [(&'static str, bool); 4] {
        [
            (LEASES, self.by.listed()),
            (PODS, self.pods.listed()),
            (SERVICES, self.services.listed()),
            (SLICES, self.endpoints.listed()),
        ]
    }

    /// Whether each kind has been listed, or is known to be out of reach.
    pub(super) fn settled(&self) -> bool {
        self.listed().iter().all(|(kind, listed)| *listed || self.troubles.has(kind, ""))
    }

    /// Whether the caches have been filled once. A failed list never counts as an empty one.
    pub(super) fn filled(&self) -> bool {
        self.listed().iter().all(|(_, listed)| *listed)
    }

    /// The pods that concern a resource: its candidates, those that carry marks of it, and those that
    /// its holder may name. A holder may be no candidate, and a pod outside the selector may carry
    /// our label. Both are to be said.
    pub(super) fn pods_of(&self, desired: &Desired, applied: Option<&LabelScheme>, holder: &str) -> Pods {
        if let Some(trouble) = self.unknown(PODS, self.pods.listed()) {
            return Err(trouble);
        }
        let version = Marks::of(&desired.name).version;
        let named = |pod: &KubePod| {
            let mut ips = pod.status.iter().flat_map(|status| &status.ips);
            pod.metadata.name.as_deref().is_some_and(|name| holder.starts_with(name))
                || ips.any(|ip| holder.starts_with(ip.as_ref()))
        };
        // Only these are copied.
        let concerns = |pod: &KubePod| {
            desired.selector.matches(pod.labels())
                || pod.annotated().any(|key| key == version)
                || pod.labels().contains_key(&desired.labels.key)
                || applied.is_some_and(|applied| pod.labels().contains_key(&applied.key))
                || named(pod)
        };
        let keys = std::iter::once(&desired.labels).chain(applied);
        let by = self.pods.candidates(&desired.namespace, &desired.selector).into_iter();
        let by = by
            .chain([By::Annotation(&version)])
            .chain(keys.map(|scheme| By::LabelKey(&scheme.key)))
            .chain(beginnings(holder).flat_map(|name| [By::Name(name), By::Address(name)]));
        let here = |pod: &KubePod| pod.metadata.namespace.as_deref() == Some(desired.namespace.as_str());
        let gone = |cached: &KubePod| self.behind.is_gone(cached.metadata.uid.as_deref().unwrap_or_default());
        let seen = |cached: Arc<KubePod>| {
            (here(&cached) && concerns(&cached) && !gone(&cached)).then(|| pod(&cached))
        };
        let mut pods: Vec<Pod> = self.pods.of(&desired.namespace, by).into_iter().filter_map(seen).collect();
        // So that plans are repeatable.
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// The pods that run on this node.
    pub(super) fn pods_on(&self, node: &str) -> Vec<Arc<KubePod>> {
        let there =
            |pod: &Arc<KubePod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        self.pods.all().into_iter().filter(there).collect()
    }

    /// Whether a participant ran in a pod that is gone, or has finished; false where that cannot be told.
    pub(super) fn is_gone(&self, at: &Whereabouts) -> bool {
        let (Some(namespace), Some(name), Some(uid)) = (&at.namespace, &at.pod, &at.pod_uid) else {
            return false;
        };
        let watched = self.namespace.as_ref().is_none_or(|watched| watched == namespace);
        if !watched || self.unknown(PODS, self.pods.listed()).is_some() {
            return false;
        }
        let seen = self.pods.get(namespace, name).map(|seen| pod(&seen));
        seen.is_none_or(|seen| seen.uid != *uid || seen.finished)
    }

    /// The selectors of the Services of a namespace that reach pods by them, by name.
    pub(super) fn selectors(&self, namespace: &str) -> Vec<(String, BTreeMap<String, String>)> {
        let is_external = |service: &Service| {
            service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some(EXTERNAL_NAME)
        };
        let services = self.services.of(namespace, [By::Namespace]).into_iter();
        let here = services.filter(|service| {
            service.metadata.namespace.as_deref() == Some(namespace) && !is_external(service)
        });
        here.filter_map(|service| Some((service.name_any(), service.spec.as_ref()?.selector.clone()?)))
            .collect()
    }

    /// The labels of the pods of a namespace.
    pub(super) fn labels_of_pods(&self, namespace: &str) -> Vec<BTreeMap<String, String>> {
        let mut pods = self.pods.of(namespace, [By::Namespace]);
        pods.retain(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        pods.iter().map(|pod| pod.labels().clone()).collect()
    }

    /// Whether the Service that the resource names selects by one of these labels.
    pub(super) fn service_selects_by(&self, desired: &Desired, labels: &BTreeSet<String>) -> bool {
        let Some(named) = &desired.service else { return false };
        let service = self.services.get(&desired.namespace, &named.name);
        let selector = service.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref());
        selector.is_some_and(|selector| labels.iter().any(|key| selector.contains_key(key)))
    }

    /// The Services that this resource has made and does not name any more.
    pub(super) fn former_services_of(&self, desired: &Desired) -> Vec<FormerService> {
        services::former(self.services.of(&desired.namespace, [By::Owner(&desired.uid)]), desired)
    }

    pub(super) fn service_of(&self, desired: &Desired) -> ServiceSight {
        let Some(wanted) = &desired.service else { return ServiceSight::NotAsked };
        if let Some(trouble) = self.unknown(SERVICES, self.services.listed()) {
            return ServiceSight::Unknown(trouble);
        }
        match self.services.get(&desired.namespace, &wanted.name) {
            Some(service) => ServiceSight::Exists(services::seen(&service, desired)),
            None => ServiceSight::Missing,
        }
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
pub(super) fn events<K>(api: Api<K>) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
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

pub(super) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
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
        Some((404, _)) if [LEASES, REQUESTS, DATABASES].contains(&kind) => {
            format!(
                "the cluster does not know {kind} yet: apply the CustomResourceDefinitions (component-lease crd | kubectl apply -f -); waiting for them"
            )
        }
        Some((403, message)) => {
            format!(
                "the controller may not list and watch {kind}: {message}; grant it (see the chart's templates/rbac.yaml); waiting for it"
            )
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
