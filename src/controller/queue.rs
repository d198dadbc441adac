//! Which resources does a change concern? They are queued; a resource that is queued twice is
//! reconciled once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::mpsc;

use super::caches::{Lease, LeaseRef, Scope};
use super::claims;
use super::cluster::Cluster;
use super::pods::{self, KubePod};
use crate::routing::observed::Desired;
use crate::routing::pod::{Marks, Pod, default_label_key};

pub(super) struct Queue {
    cluster: Arc<Cluster>,
    /// One for each scope, in the same order.
    queues: Vec<mpsc::UnboundedSender<LeaseRef>>,
    /// By UID, pods as they were last seen: what the cache holds, not a copy of it.
    pods: Mutex<HashMap<String, Arc<KubePod>>>,
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
            || labels.iter().any(|key| desired.selector.mentions(key))
    }
}

impl Queue {
    pub(super) fn new(cluster: Arc<Cluster>, queues: Vec<mpsc::UnboundedSender<LeaseRef>>) -> Self {
        Self { cluster, queues, pods: Mutex::default() }
    }

    fn queue_where(&self, wanted: impl Fn(&Scope, &Lease) -> bool) {
        for (scope, queue) in self.cluster.scopes.iter().zip(&self.queues) {
            for lease in scope.leases.state() {
                if self.cluster.looks_after(&lease) && wanted(scope, &lease) {
                    // Fails only while everything is ending.
                    let _ = queue.send(LeaseRef::from_obj(lease.as_ref()));
                }
            }
        }
    }

    pub(super) fn everything(&self) {
        self.queue_where(|_, _| true);
    }

    pub(super) fn scope(&self, scope: &Arc<Scope>) {
        self.queue_where(|other, _| std::ptr::eq(other, Arc::as_ptr(scope)));
    }

    /// A resource was made or changed: so may be what it contends for with its neighbours.
    pub(super) fn lease(&self, scope: &Arc<Scope>, lease: &Lease) {
        for (other, queue) in self.cluster.scopes.iter().zip(&self.queues) {
            if Arc::ptr_eq(other, scope) && self.cluster.looks_after(lease) {
                let _ = queue.send(LeaseRef::from_obj(lease));
            }
        }
        let Ok(lease) = &lease.0 else { return };
        if claims::is_news(lease) {
            self.queue_where(|_, other| {
                other.0.as_ref().is_ok_and(|other| {
                    other.uid() != lease.uid()
                        && (claims::in_conflict(other) || claims::contend(lease, other))
                })
            });
        }
    }

    /// A resource is gone: one that lost to it may act now.
    pub(super) fn contested(&self, gone: &Lease) {
        let Ok(gone) = &gone.0 else { return };
        self.queue_where(|_, other| match &other.0 {
            Ok(other) => claims::contend(gone, other),
            Err(_) => false,
        });
    }

    pub(super) fn components(&self, components: &BTreeSet<&str>) {
        self.queue_where(|_, lease| {
            let component = lease.0.as_ref().ok().and_then(|lease| self.cluster.component(lease));
            component.is_some_and(|component| components.contains(component.as_str()))
        });
    }

    /// A pod has changed, or is gone. Whether it also carries marks of a resource that does not exist.
    pub(super) fn pod(&self, scope: &Arc<Scope>, pod: &KubePod, gone: bool) -> bool {
        let new = pods::pod(pod);
        let old = {
            let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            if gone {
                pods.remove(&new.uid)
            } else {
                let cached = scope.pods.get(&ObjectRef::from_obj(pod));
                pods.insert(new.uid.clone(), cached.unwrap_or_else(|| Arc::new(pod.clone())))
            }
        };
        let old = old.map(|old| pods::pod(&old));
        let changes = match (&old, gone) {
            (Some(old), false) => Changes::between(old, &new),
            _ => Changes::Everything,
        };
        let namespace = pod.namespace();
        let mut owners: Vec<&str> = Marks::stamps(&new).map(|(lease, _)| lease).collect();
        if !changes.is_nothing() {
            self.queue_where(|scope, lease| {
                if lease.meta().namespace != namespace {
                    return false;
                }
                let Ok(lease) = &lease.0 else { return false };
                let desired = self.cluster.desired(lease);
                let Ok(desired) = desired.as_ref() else { return false };
                let concerns = |pod: &Pod| {
                    pod.labels.contains_key(&desired.labels.key)
                        || pod.annotations.contains_key(&Marks::of(&desired.name).version)
                        || desired.selector.matches(&pod.labels)
                };
                let matter = changes.concern(desired)
                    || changes.labels().is_some_and(|labels| scope.service_selects_by(desired, labels));
                matter && (concerns(&new) || old.as_ref().is_some_and(concerns))
            });
        }
        owners.retain(|lease| {
            let reference = LeaseRef::new(lease).within(namespace.as_deref().unwrap_or_default());
            scope.leases.get(&reference).is_none()
        });
        !owners.is_empty()
    }

    /// The pods were listed anew.
    pub(super) fn forget_pods(&self) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The endpoints of a Service have changed.
    pub(super) fn endpoints(&self, scope: &Arc<Scope>, namespace: &str, service: &str) {
        self.queue_where(|other, lease| {
            std::ptr::eq(other, Arc::as_ptr(scope))
                && lease.meta().namespace.as_deref() == Some(namespace)
                && lease.0.as_ref().is_ok_and(|lease| {
                    lease.spec.routing.service.as_ref().is_some_and(|named| named.name == service)
                })
        });
    }

    pub(super) fn service(&self, scope: &Arc<Scope>, service: &Service) {
        let namespace = service.namespace();
        let name = service.name_any();
        self.queue_where(|other, lease| {
            let Ok(resource) = &lease.0 else { return false };
            let named = resource.spec.routing.service.as_ref().is_some_and(|service| service.name == name);
            let selected = || {
                let desired = self.cluster.desired(resource);
                let key = desired.as_ref().as_ref().ok().map(|desired| desired.labels.key.as_str());
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                key.zip(selector).is_some_and(|(key, selector)| selector.contains_key(key))
            };
            std::ptr::eq(other, Arc::as_ptr(scope))
                && lease.namespace() == namespace
                // Whom it reaches decides who is in conflict.
                && (named || claims::in_conflict(resource) || selected())
        });
    }
}
