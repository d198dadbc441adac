//! Which resources does a change concern? They are queued; a resource that is queued twice is
//! reconciled once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use tokio::sync::mpsc;

use super::caches::{Lease, LeaseRef, Scope};
use super::claims;
use super::cluster::Cluster;
use super::databases::Databases;
use super::index::{By, concerned_by};
use super::pods::{self, KubePod};
use crate::api::ComponentLease;
use crate::routing::observed::Desired;
use crate::routing::pod::{DELETION_COST, Marks, Pod, default_label_key};

pub(super) struct Queue {
    cluster: Arc<Cluster>,
    /// One for each scope, in the same order.
    queues: Vec<mpsc::UnboundedSender<LeaseRef>>,
    databases: Databases,
}

/// What is different about a pod. Of the many leases that one pod may compete for, a patch of ours
/// concerns one, and most of what a kubelet writes concerns none.
enum Changes {
    Everything,
    Keys { labels: BTreeSet<String>, annotations: BTreeSet<String> },
}

fn differing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> BTreeSet<String> {
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

impl Changes {
    fn between(old: &Pod, new: &Pod) -> Self {
        let same = |pod: &Pod| Pod {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            resource_version: String::new(),
            ..pod.clone()
        };
        if same(old) != same(new) {
            return Self::Everything;
        }
        Self::Keys {
            labels: differing(&old.labels, &new.labels),
            annotations: differing(&old.annotations, &new.annotations),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Keys { labels, annotations } if labels.is_empty() && annotations.is_empty())
    }

    fn labels(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Everything => None,
            Self::Keys { labels, .. } => Some(labels),
        }
    }

    fn concern(&self, desired: &Desired) -> bool {
        let Self::Keys { labels, annotations } = self else { return true };
        let marks = Marks::of(&desired.name);
        labels.contains(&desired.labels.key)
            || labels.contains(&default_label_key(&desired.name))
            || annotations.contains(&marks.version)
            || annotations.contains(&marks.label)
            || annotations.contains(&marks.cost)
            || desired.deletion_cost.is_some() && annotations.contains(DELETION_COST)
            || labels.iter().any(|key| desired.selector.mentions(key))
    }
}

impl Queue {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        queues: Vec<mpsc::UnboundedSender<LeaseRef>>,
        databases: Databases,
    ) -> Self {
        Self { cluster, queues, databases }
    }

    fn queue_where(&self, wanted: impl Fn(&Scope) -> bool) {
        for (scope, queue) in self.scopes().filter(|(scope, _)| wanted(scope)) {
            for lease in scope.leases.state() {
                self.send(queue, &lease);
            }
        }
    }

    fn scopes(&self) -> impl Iterator<Item = (&Arc<Scope>, &mpsc::UnboundedSender<LeaseRef>)> {
        self.cluster.scopes.iter().zip(&self.queues)
    }

    fn send(&self, queue: &mpsc::UnboundedSender<LeaseRef>, lease: &Lease) {
        if self.cluster.looks_after(lease) {
            // Fails only while everything is ending.
            let _ = queue.send(LeaseRef::from_obj(lease));
        }
    }

    /// Those of one scope that have one of these marks and are wanted.
    fn queue_by<'b>(
        &self,
        scope: &Arc<Scope>,
        namespace: &str,
        by: impl IntoIterator<Item = By<'b>>,
        wanted: impl Fn(&ComponentLease) -> bool,
    ) {
        let Some((_, queue)) = self.scopes().find(|(other, _)| Arc::ptr_eq(other, scope)) else { return };
        for lease in scope.by.of(namespace, by) {
            if lease.0.as_ref().is_ok_and(&wanted) {
                self.send(queue, &lease);
            }
        }
    }

    pub(super) fn everything(&self) {
        self.databases.everything();
        self.queue_where(|_| true);
    }

    pub(super) fn scope(&self, scope: &Arc<Scope>) {
        self.databases.scope(scope);
        self.queue_where(|other| std::ptr::eq(other, Arc::as_ptr(scope)));
    }

    /// A resource was made or changed: so may be what it contends for with its neighbours.
    pub(super) fn lease(&self, scope: &Arc<Scope>, lease: &Lease) {
        for (_, queue) in self.scopes().filter(|(other, _)| Arc::ptr_eq(other, scope)) {
            self.send(queue, lease);
        }
        let Ok(lease) = &lease.0 else { return };
        if claims::is_news(lease) {
            self.contenders(lease, true);
        }
    }

    /// A resource is gone: one that lost to it may act now.
    pub(super) fn contested(&self, gone: &Lease) {
        let Ok(gone) = &gone.0 else { return };
        self.contenders(gone, false);
    }

    /// Those that may want the same as this one; and, if that is asked for, those that came too late for anything.
    fn contenders(&self, lease: &ComponentLease, late: bool) {
        for (scope, _) in self.scopes() {
            let marks = claims::Marks::of(lease);
            let late = late.then_some(By::Conflict);
            self.queue_by(scope, marks.namespace(), marks.by().chain(late), |other| {
                other.uid() != lease.uid()
                    && (late.is_some() && claims::in_conflict(other) || claims::contend(lease, other))
            });
        }
    }

    pub(super) fn components(&self, components: &BTreeSet<&str>) {
        for (scope, _) in self.scopes() {
            self.queue_by(scope, "", components.iter().map(|component| By::Component(component)), |lease| {
                let component = self.cluster.component(lease);
                component.is_some_and(|component| components.contains(component.as_str()))
            });
        }
    }

    /// A pod has changed, or is gone; what it was before. Whether it also carries marks of a resource that does not
    /// exist.
    pub(super) fn pod(
        &self,
        scope: &Arc<Scope>,
        pod: &KubePod,
        before: Option<&KubePod>,
        gone: bool,
    ) -> bool {
        let new = pods::pod(pod);
        // Of the same name there may have been another one.
        let before = before.filter(|before| before.metadata.uid == pod.metadata.uid);
        let old = before.map(pods::pod);
        let changes = match (&old, gone) {
            (Some(old), false) => Changes::between(old, &new),
            _ => Changes::Everything,
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.databases.pod(scope, namespace, old.as_ref().filter(|_| !gone), &new);
        if !changes.is_nothing() {
            let by = before.into_iter().chain([pod]).flat_map(concerned_by);
            self.queue_by(scope, namespace, by, |lease| {
                let desired = self.cluster.desired(lease);
                let Ok(desired) = desired.as_ref() else { return false };
                let concerns = |pod: &Pod| {
                    pod.labels.contains_key(&desired.labels.key)
                        || pod.annotations.contains_key(&Marks::of(&desired.name).version)
                        || desired.selector.matches(&pod.labels)
                };
                let matter = changes.concern(desired)
                    || changes.labels().is_some_and(|labels| scope.service_selects_by(desired, labels));
                let here = lease.metadata.namespace.as_deref() == Some(namespace);
                here && matter && (concerns(&new) || old.as_ref().is_some_and(concerns))
            });
        }
        let mut owners = Marks::stamps(&new).map(|(lease, _)| lease);
        owners.any(|lease| !scope.has(namespace, lease))
    }

    /// A node was cordoned, or is not any more: what concerns resources that have a pod there.
    pub(super) fn node(&self, node: &str) {
        for (scope, _) in self.scopes() {
            for pod in scope.pods_on(node) {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                self.queue_by(scope, namespace, concerned_by(&pod), |lease| {
                    let here = lease.metadata.namespace.as_deref() == Some(namespace);
                    let desired = self.cluster.desired(lease);
                    here && desired
                        .as_ref()
                        .as_ref()
                        .is_ok_and(|desired| desired.selector.matches(pod.labels()))
                });
            }
        }
    }

    /// The endpoints of a Service have changed.
    pub(super) fn endpoints(&self, scope: &Arc<Scope>, namespace: &str, service: &str) {
        self.databases.service(scope, namespace, service);
        self.queue_by(scope, namespace, [By::Service(service)], |lease| {
            lease.metadata.namespace.as_deref() == Some(namespace)
                && lease.spec.routing.service.as_ref().is_some_and(|named| named.name == service)
        });
    }

    pub(super) fn service(&self, scope: &Arc<Scope>, service: &Service) {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.name_any();
        self.databases.service(scope, namespace, &name);
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let keys = selector.into_iter().flatten().map(|(key, _)| By::LabelKey(key));
        // Whom it reaches decides who is in conflict.
        let by = keys.chain([By::Service(&name), By::Conflict]);
        self.queue_by(scope, namespace, by, |resource| {
            let named = resource.spec.routing.service.as_ref().is_some_and(|service| service.name == name);
            let selected = || {
                let desired = self.cluster.desired(resource);
                let key = desired.as_ref().as_ref().ok().map(|desired| desired.labels.key.as_str());
                key.zip(selector).is_some_and(|(key, selector)| selector.contains_key(key))
            };
            resource.metadata.namespace.as_deref() == Some(namespace)
                && (named || claims::in_conflict(resource) || selected())
        });
    }
}
