//! Which resources does a change concern? They are queued; a resource that is queued twice is
//! reconciled once.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod as KubePod, Service};
use kube::ResourceExt as _;
use tokio::sync::mpsc;

use super::claims;
use super::observe::{self, Lease, LeaseRef, Scope};
use super::reconcile::Context;
use crate::api;
use crate::domain::pod::Marks;

pub(super) struct Trigger {
    context: Arc<Context>,
    /// One for each scope, in the same order.
    queues: Vec<mpsc::UnboundedSender<LeaseRef>>,
}

impl Trigger {
    pub(super) fn new(context: Arc<Context>, queues: Vec<mpsc::UnboundedSender<LeaseRef>>) -> Self {
        Self { context, queues }
    }

    fn queue_where(&self, wanted: impl Fn(&Scope, &Lease) -> bool) {
        for (scope, queue) in self.context.scopes.iter().zip(&self.queues) {
            for lease in scope.leases.state() {
                if wanted(scope, &lease) {
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
        for (other, queue) in self.context.scopes.iter().zip(&self.queues) {
            if Arc::ptr_eq(other, scope) {
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

    /// A resource is gone: whoever lost to it may act now.
    pub(super) fn contested(&self, gone: &Lease) {
        let Ok(gone) = &gone.0 else { return };
        self.queue_where(|_, other| match &other.0 {
            Ok(other) => claims::contend(gone, other),
            Err(_) => false,
        });
    }

    pub(super) fn components(&self, components: &BTreeSet<&str>) {
        self.queue_where(|_, lease| {
            lease.0.as_ref().is_ok_and(|lease| components.contains(claims::component(lease)))
        });
    }

    /// Whether the pod also carries marks of a resource that does not exist.
    pub(super) fn pod(&self, scope: &Arc<Scope>, pod: &KubePod) -> bool {
        let seen = observe::pod(pod);
        let namespace = pod.namespace();
        let mut owners: Vec<&str> = Marks::stamps(&seen).map(|(lease, _)| lease).collect();
        self.queue_where(|_, lease| {
            if lease.namespace() != namespace {
                return false;
            }
            let Ok(lease) = &lease.0 else { return false };
            let Ok(desired) = api::desired(lease, &self.context.allowed_prefixes) else { return false };
            let label = seen.labels.contains_key(&desired.labels.key);
            label || owners.contains(&desired.name.as_str()) || desired.selector.matches(&seen.labels)
        });
        owners.retain(|lease| {
            let reference = LeaseRef::new(lease).within(namespace.as_deref().unwrap_or_default());
            scope.leases.get(&reference).is_none()
        });
        !owners.is_empty()
    }

    pub(super) fn service(&self, scope: &Arc<Scope>, service: &Service) {
        let namespace = service.namespace();
        let name = service.name_any();
        self.queue_where(|other, lease| {
            let named = lease.0.as_ref().ok().and_then(|lease| lease.spec.routing.service.as_ref());
            std::ptr::eq(other, Arc::as_ptr(scope))
                && lease.namespace() == namespace
                && named.is_some_and(|service| service.name == name)
        });
    }
}
