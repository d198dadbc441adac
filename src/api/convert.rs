//! Between the resource and what the rules work on. What comes out of here is valid.

use kube::ResourceExt as _;

use super::v1alpha1::{
    AppliedLabels, ComponentLease, ComponentLeaseSpec, ComponentLeaseStatus, HolderPodStatus, InstanceStatus,
    OnStoreUnreachable, PortProtocol, RoutedPort, RoutedService, Routing, SelectorOperator, StatusCondition,
};
use crate::election::timing::{TTL_MAX_SECONDS, TTL_MIN_SECONDS};
use crate::election::{ComponentName, NameError};
use crate::membership::SeenInstance;
use crate::membership::namespace::{NotAllowed, key_in};
use crate::routing::HolderPattern;
use crate::routing::conditions::{ConditionType, EventReason, Phase, Reason};
use crate::routing::holder_pattern::PatternError;
use crate::routing::observed::{
    Desired, DesiredService, HolderPod, LabelScheme, Memory, OnStoreUnreachable as Unreachable, ServicePort,
    Status,
};
use crate::routing::pod::{PREFIX, Requirement, Selector, default_label_key};

/// Annotation with the second copy of the floor.
pub const FLOOR_ANNOTATION: &str = "componentlease.io/version-floor";

/// Why a resource cannot be reconciled as written. The schema refuses most of it already; a
/// resource may be older than the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    #[error("metadata.name {0:?} is longer than 55 characters; make the resource again under a shorter name")]
    NameTooLong(String),
    #[error("spec.componentName: {0}")]
    Component(#[source] NameError),
    #[error(transparent)]
    ComponentNotAllowed(#[from] NotAllowed),
    #[error("spec.ttlSeconds {0} is outside 5 to 3600")]
    Ttl(i32),
    #[error("spec.holderPattern: {0}")]
    HolderPattern(#[source] PatternError),
    #[error("spec.selector is empty; it would match every pod of the namespace")]
    EmptySelector,
    #[error(
        "spec.routing.labelKey {key:?} does not begin with {allowed}; choose such a key, or have its prefix allowed when the controller is installed (allowedLabelPrefixes)"
    )]
    LabelKey { key: String, allowed: String },
    #[error(
        "spec.routing.labelKey {0:?} is part of spec.selector; the label moves, and candidates must stay candidates"
    )]
    LabelKeySelects(String),
    #[error("spec.routing.leaderValue and standbyValue are both {0:?}; they must differ")]
    SameValues(String),
}

impl InvalidSpec {
    /// What the conditions say.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::ComponentNotAllowed(_) => Reason::ComponentNotAllowed,
            _ => Reason::InvalidSpec,
        }
    }

    /// What the Event says.
    #[must_use]
    pub fn event(&self) -> EventReason {
        match self {
            Self::ComponentNotAllowed(_) => EventReason::ComponentNotAllowed,
            _ => EventReason::InvalidSpec,
        }
    }
}

/// The key of the row that a resource is about, whether or not it may claim it.
///
/// # Errors
/// [`NameError`] when the text is no key.
pub fn component(lease: &ComponentLease) -> Result<ComponentName, NameError> {
    match &lease.spec.component_name {
        Some(key) => ComponentName::new(key),
        None => key_in(&lease.namespace().unwrap_or_default(), &lease.name_any()),
    }
}

/// Whether this label key is one that we may write; the chart's admission policy reads the same list.
#[must_use]
pub fn may_write(key: &str, allowed_prefixes: &[String]) -> bool {
    key.starts_with(PREFIX) || allowed_prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
}

/// What a resource asks for. `allowed_prefixes` are those of the chart, beside our own.
pub fn desired(lease: &ComponentLease, allowed_prefixes: &[String]) -> Result<Desired, InvalidSpec> {
    let name = lease.name_any();
    if name.len() > 55 {
        return Err(InvalidSpec::NameTooLong(name));
    }
    let ComponentLeaseSpec { component_name: _, ttl_seconds, selector, holder_pattern, routing } =
        &lease.spec;
    let Routing { label_key, leader_value, standby_value, on_store_unreachable, service } = routing;
    let component = component(lease).map_err(InvalidSpec::Component)?;
    let ttl = u32::try_from(*ttl_seconds)
        .ok()
        .filter(|ttl| (TTL_MIN_SECONDS..=TTL_MAX_SECONDS).contains(ttl))
        .ok_or(InvalidSpec::Ttl(*ttl_seconds))?;
    let labels = selector.match_labels.iter().map(|(k, v)| Requirement::In(k.clone(), vec![v.clone()]));
    let expressions = selector.match_expressions.iter().map(|e| match e.operator {
        SelectorOperator::In => Requirement::In(e.key.clone(), e.values.clone()),
        SelectorOperator::NotIn => Requirement::NotIn(e.key.clone(), e.values.clone()),
        SelectorOperator::Exists => Requirement::Exists(e.key.clone()),
        SelectorOperator::DoesNotExist => Requirement::DoesNotExist(e.key.clone()),
    });
    let selector = Selector::new(labels.chain(expressions).collect()).ok_or(InvalidSpec::EmptySelector)?;
    let holder_pattern = holder_pattern.as_deref().map(HolderPattern::new).transpose();
    let holder_pattern = holder_pattern.map_err(InvalidSpec::HolderPattern)?;
    let key = label_key.clone().unwrap_or_else(|| default_label_key(&name));
    if !may_write(&key, allowed_prefixes) {
        let allowed = [&[PREFIX.to_owned()], allowed_prefixes].concat().join(" or ");
        return Err(InvalidSpec::LabelKey { key, allowed });
    }
    if selector.mentions(&key) {
        return Err(InvalidSpec::LabelKeySelects(key));
    }
    if leader_value == standby_value {
        return Err(InvalidSpec::SameValues(leader_value.clone()));
    }
    Ok(Desired {
        namespace: lease.namespace().unwrap_or_default(),
        name,
        uid: lease.uid().unwrap_or_default(),
        generation: lease.metadata.generation.unwrap_or_default(),
        component,
        ttl,
        selector,
        holder_pattern,
        labels: LabelScheme { key, leader: leader_value.clone(), standby: standby_value.clone() },
        on_store_unreachable: match on_store_unreachable {
            OnStoreUnreachable::Keep => Unreachable::Keep,
            OnStoreUnreachable::Remove => Unreachable::Remove,
        },
        service: service.as_ref().map(desired_service),
    })
}

fn desired_service(service: &RoutedService) -> DesiredService {
    let RoutedService { name, managed, ports } = service;
    let port = |p: &RoutedPort| ServicePort {
        name: p.name.clone(),
        port: p.port,
        // As the API server defaults it, so that the two can be compared.
        target: Some(p.target_port.clone().unwrap_or_else(|| p.port.to_string())),
        protocol: match p.protocol {
            PortProtocol::Tcp => "TCP",
            PortProtocol::Udp => "UDP",
            PortProtocol::Sctp => "SCTP",
        }
        .to_owned(),
    };
    DesiredService { name: name.clone(), managed: *managed, ports: ports.iter().map(port).collect() }
}

/// What the status said before, and the copy of its floor in the annotation. The copy is anybody's to write, so
/// it is never taken for the floor.
#[must_use]
pub fn memory(lease: &ComponentLease, status: Option<&ComponentLeaseStatus>) -> Memory {
    let copy = lease.annotations().get(FLOOR_ANNOTATION).and_then(|floor| floor.parse().ok()).unwrap_or(0);
    let Some(status) = status else { return Memory { floor_copy: copy, ..Memory::default() } };
    Memory {
        phase: status
            .phase
            .as_deref()
            .and_then(|p| Phase::ALL.iter().copied().find(|phase| phase.as_str() == p)),
        holder: status.holder.clone(),
        holder_pod: status.holder_pod.as_ref().map(|pod| HolderPod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: pod.node_name.clone(),
            container_ids: pod.container_ids.clone(),
        }),
        version: status.version.unwrap_or(0),
        floor: status.version_floor.unwrap_or(0),
        floor_copy: copy,
        transitions: status.transitions.unwrap_or(0),
        database: status.database_uuid.clone(),
        applied: status.applied.as_ref().map(|applied| LabelScheme {
            key: applied.label_key.clone(),
            leader: applied.leader_value.clone(),
            standby: applied.standby_value.clone(),
        }),
    }
}

/// A condition's message is cut to this many bytes, as the API allows.
const MESSAGE_MAX: usize = 1024;

/// The status to write, or `None` when nothing but a time has changed. `now` is RFC 3339.
#[must_use]
pub fn status(
    before: Option<&ComponentLeaseStatus>,
    component: Option<&ComponentName>,
    wanted: &Status,
    now: &str,
) -> Option<ComponentLeaseStatus> {
    let none = ComponentLeaseStatus::default();
    let before = before.unwrap_or(&none);
    let led_by_another = before.holder != wanted.holder || before.version != Some(wanted.version);
    let conditions = wanted.conditions.iter().map(|condition| {
        let old = before.conditions.iter().find(|old| old.type_ == condition.kind.as_str());
        let same = old.filter(|old| {
            old.status == condition.status.as_str()
                && !(condition.kind == ConditionType::LeaderElected && led_by_another)
        });
        StatusCondition {
            type_: condition.kind.to_string(),
            status: condition.status.as_str().to_owned(),
            reason: condition.reason.to_string(),
            message: cut(&condition.message),
            last_transition_time: same.map_or_else(|| now.to_owned(), |old| old.last_transition_time.clone()),
            observed_generation: Some(wanted.observed_generation),
        }
    });
    let new = ComponentLeaseStatus {
        observed_generation: Some(wanted.observed_generation),
        phase: Some(wanted.phase.to_string()),
        component: component.map(ToString::to_string),
        holder: wanted.holder.clone(),
        holder_pod: wanted.holder_pod.as_ref().map(|pod| HolderPodStatus {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node_name: pod.node.clone(),
            container_ids: pod.container_ids.clone(),
        }),
        version: Some(wanted.version),
        ttl_seconds: wanted.ttl,
        lease_time: wanted.lease_time.and_then(rfc3339),
        renew_time: wanted.renew_time.and_then(rfc3339),
        version_floor: Some(wanted.floor),
        database_uuid: wanted.database.as_deref().map(|uuid| uuid.chars().take(64).collect()),
        transitions: Some(wanted.transitions),
        candidates: Some(wanted.candidates),
        instances: wanted.instances.iter().map(instance).collect(),
        applied: wanted.applied.as_ref().map(|applied| AppliedLabels {
            label_key: applied.key.clone(),
            leader_value: applied.leader.clone(),
            standby_value: applied.standby.clone(),
        }),
        conditions: conditions.collect(),
    };
    (without_times(&new) != without_times(before)).then_some(new)
}

fn instance(seen: &SeenInstance) -> InstanceStatus {
    // Anybody's table may hold more than the schema lets through, and a status that is refused says nothing.
    let short = |text: &Option<String>| text.as_ref().map(|text| text.chars().take(253).collect());
    InstanceStatus {
        instance: seen.holder.chars().take(1024).collect(),
        pod: short(&seen.whereabouts.pod),
        node_name: short(&seen.whereabouts.node),
        program_version: short(&seen.program_version),
        start_time: rfc3339(seen.start_time),
        healthy: seen.healthy,
    }
}

fn without_times(status: &ComponentLeaseStatus) -> ComponentLeaseStatus {
    let mut status = status.clone();
    status.lease_time = None;
    status.renew_time = None;
    for condition in &mut status.conditions {
        condition.last_transition_time.clear();
    }
    status
}

fn cut(message: &str) -> String {
    let mut end = message.len().min(MESSAGE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

/// Milliseconds since 1970 as RFC 3339; a value that is no time at all is not shown. Anybody may
/// have written it, and the API server refuses a whole status for a year before 0.
fn rfc3339(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().filter(|_| ms >= 0).map(|at| at.to_string())
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
