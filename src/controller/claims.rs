//! Which of several resources may act: the first to claim a component keeps it, by creation time,
//! then by UID. So with a label key on the same pods.

use kube::{Resource as _, ResourceExt as _};

use super::caches::{Lease, Scope};
use super::cluster::Cluster;
use super::index::{By, Found, narrowest};
use crate::api::{self, ComponentLease};
use crate::election::ComponentName;
use crate::routing::observed::{Claim, Desired};
use crate::routing::pod::{self, PREFIX, Pod};
use crate::routing::reach::shared;

/// Whether the two name the same row; nothing is made for the comparison, as it is made often.
fn same_component(one: &ComponentLease, other: &ComponentLease) -> bool {
    let default = |key: &str, lease: &ComponentLease| {
        let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
        let name = key.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
        name.is_some() && name == lease.metadata.name.as_deref()
    };
    match (&one.spec.component_name, &other.spec.component_name) {
        (None, None) => {
            one.metadata.namespace == other.metadata.namespace && one.metadata.name == other.metadata.name
        }
        (Some(one), Some(other)) => one == other,
        (Some(key), None) => default(key, other),
        (None, Some(key)) => default(key, one),
    }
}

/// Whether the two use the same label key; nothing is made for the comparison, as it is made often.
fn same_key(one: &ComponentLease, other: &ComponentLease) -> bool {
    let default = |key: &str, lease: &ComponentLease| {
        key.strip_prefix(PREFIX).is_some_and(|name| Some(name) == lease.metadata.name.as_deref())
    };
    match (&one.spec.routing.label_key, &other.spec.routing.label_key) {
        (None, None) => one.metadata.name == other.metadata.name,
        (Some(one), Some(other)) => one == other,
        (Some(key), None) => default(key, other),
        (None, Some(key)) => default(key, one),
    }
}

/// Each class has its own database, and so its own rows. Pods are everybody's.
fn same_class(one: &ComponentLease, other: &ComponentLease) -> bool {
    one.spec.class_name == other.spec.class_name
}

/// Whether the two may want the same thing.
pub(super) fn contend(one: &ComponentLease, other: &ComponentLease) -> bool {
    same_class(one, other) && same_component(one, other)
        || one.metadata.namespace == other.metadata.namespace && same_key(one, other)
}

/// By which those are found that may want the same as a resource.
pub(super) struct Marks {
    namespace: String,
    component: Option<ComponentName>,
    key: String,
}

impl Marks {
    pub(super) fn of(lease: &ComponentLease) -> Self {
        Self {
            namespace: lease.namespace().unwrap_or_default(),
            component: api::component(lease).ok(),
            key: api::label_key(lease),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn by(&self) -> impl Iterator<Item = By<'_>> {
        let component = self.component.iter().map(|component| By::Component(component.as_str()));
        component.chain([By::LabelKey(&self.key)])
    }
}

/// Whether the resource was found to have come too late.
pub(super) fn in_conflict(lease: &ComponentLease) -> bool {
    lease.status.as_ref().is_some_and(api::in_conflict)
}

/// Whether the spec is one that has not been acted upon: not every write of a status concerns others.
pub(super) fn is_news(lease: &ComponentLease) -> bool {
    let observed = lease.status.as_ref().and_then(|status| status.observed_generation);
    observed != lease.metadata.generation
}

impl Found for Lease {
    const PLAIN: bool = false;

    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// By what it says, whether or not that is valid.
    fn marks(&self, add: &mut dyn FnMut(By<'_>), size: &dyn Fn(By<'_>) -> usize) {
        let Ok(lease) = &self.0 else { return };
        if let Some(selector) = api::selector(&lease.spec.selector) {
            narrowest(&selector, size).unwrap_or_else(|| vec![By::AnyPod]).into_iter().for_each(&mut *add);
        }
        add(By::LabelKey(&api::label_key(lease)));
        add(By::Annotation(&pod::Marks::of(self.name()).version));
        if let Some(service) = &lease.spec.routing.service {
            add(By::Service(&service.name));
        }
        if let Ok(component) = api::component(lease) {
            add(By::Component(component.as_str()));
        }
        if in_conflict(lease) {
            add(By::Conflict);
        }
    }
}

/// Whether this resource may act.
pub(super) fn claim(
    lease: &ComponentLease,
    desired: &Desired,
    scope: &Scope,
    cluster: &Cluster,
    pods: &[Pod],
) -> Claim {
    let age = |lease: &ComponentLease| (lease.creation_timestamp(), lease.uid());
    let mine = age(lease);
    let marks = Marks::of(lease);
    let contenders = cluster.scopes.iter().flat_map(|scope| scope.by.of(marks.namespace(), marks.by()));
    for other in contenders {
        let Ok(other) = &other.0 else { continue };
        if !contend(lease, other) || other.uid() == lease.uid() || age(other) > mine {
            continue;
        }
        // A resource that may not claim what it names is invalid: it takes nothing from anybody.
        let theirs = cluster.desired(other);
        let Ok(theirs) = theirs.as_ref() else { continue };
        let who = format!("{}/{}", theirs.namespace, theirs.name);
        if same_class(lease, other) && theirs.component == desired.component {
            return Claim::Taken(format!(
                "ComponentLease {who} was first to claim component {}; delete one of the two, or give them different components",
                desired.component
            ));
        }
        let both = |pod: &Pod| theirs.selector.matches(&pod.labels) && desired.selector.matches(&pod.labels);
        if pods.iter().any(both) {
            return Claim::Taken(format!(
                "ComponentLease {who} was first to use label {} on the same pods; choose another spec.routing.labelKey",
                desired.labels.key
            ));
        }
        let selectors = scope.selectors(&desired.namespace);
        let labels = scope.labels_of_pods(&desired.namespace);
        let services = selectors.iter().map(|(name, selector)| (name.as_str(), selector));
        if let Some(service) = shared(desired, theirs, services, &labels) {
            return Claim::Taken(format!(
                "ComponentLease {who} was first to use label {}, and Service {service} would reach the leaders of both; choose another spec.routing.labelKey",
                desired.labels.key
            ));
        }
    }
    Claim::First
}
