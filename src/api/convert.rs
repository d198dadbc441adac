//! Between the resource and what the rules work on. What comes out of here is valid.

use std::time::Duration;

use kube::ResourceExt as _;

use super::v1alpha1::{
    AppliedLabels, ComponentLease, ComponentLeaseSpec, ComponentLeaseStatus, ConditionStatus, InstanceStatus,
    InternalStatus, LastTransition, LeaderStatus, OnDatabaseUnreachable, PodSelector, PortProtocol,
    RoutedPort, RoutedService, Routing, SelectorOperator, ServicePolicy, ServiceType, StatusCondition,
    Strategy, TargetPort, TermStatus,
};
use crate::election::timing::{TTL_MAX_SECONDS, TTL_MIN_SECONDS};
use crate::election::{ComponentName, NameError};
use crate::membership::SeenInstance;
use crate::membership::namespace::{NotAllowed, key_in};
use crate::routing::HolderPattern;
use crate::routing::conditions::{Condition, ConditionType, EventReason, Reason, Truth};
use crate::routing::holder_pattern::PatternError;
use crate::routing::observed::{
    Desired, DesiredService, HolderPod, LabelScheme, Memory, OnDatabaseUnreachable as Unreachable, Place,
    ServicePort, Status, Strategy as Wanted, Transition,
};
use crate::routing::pause::PauseWish;
use crate::routing::pod::{PREFIX, Requirement, Selector, default_label_key, is_label_key_of_a_database};

/// Annotation with the second copy of the floor.
pub const FLOOR_ANNOTATION: &str = "componentlease.io/version-floor";

/// Why a resource cannot be reconciled as written. The schema refuses most of it already; a
/// resource may be older than the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    #[error("metadata.name {0:?} is longer than 55 characters; make the resource again under a shorter name")]
    NameTooLong(String),
    #[error("metadata.name {0:?} is longer than 50 characters; make the resource again under a shorter name")]
    DatabaseNameTooLong(String),
    #[error("spec.lease: {0}")]
    Lease(#[source] NameError),
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
    #[error(
        "spec.routing.labelKey {0:?} may be the label that leads to the primary of a LeaseDatabase; choose a key that does not end with _role"
    )]
    LabelKeyOfDatabase(String),
    #[error("spec.members must have 2 to 16 members, and has {0}")]
    Members(usize),
    #[error(
        "spec.members: {0:?} must have 1 to 63 characters, and 253 at most together with the name of the Lease and a hyphen"
    )]
    MemberTooLong(String),
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

/// Which pods are candidates; `None` for what would be all of them.
#[must_use]
pub fn selector(wanted: &PodSelector) -> Option<Selector> {
    let labels = wanted.match_labels.iter().map(|(k, v)| Requirement::In(k.clone(), vec![v.clone()]));
    let expressions = wanted.match_expressions.iter().map(|e| match e.operator {
        SelectorOperator::In => Requirement::In(e.key.clone(), e.values.clone()),
        SelectorOperator::NotIn => Requirement::NotIn(e.key.clone(), e.values.clone()),
        SelectorOperator::Exists => Requirement::Exists(e.key.clone()),
        SelectorOperator::DoesNotExist => Requirement::DoesNotExist(e.key.clone()),
    });
    Selector::new(labels.chain(expressions).collect())
}

/// The key of the label that a resource moves, whether or not it may.
#[must_use]
pub fn label_key(lease: &ComponentLease) -> String {
    lease.spec.routing.label_key.clone().unwrap_or_else(|| default_label_key(&lease.name_any()))
}

/// What a resource asks for. `allowed_prefixes` are those of the chart, beside our own.
pub fn desired(lease: &ComponentLease, allowed_prefixes: &[String]) -> Result<Desired, InvalidSpec> {
    let name = lease.name_any();
    if name.len() > 55 {
        return Err(InvalidSpec::NameTooLong(name));
    }
    let ComponentLeaseSpec {
        class_name: _,
        component_name: _,
        ttl_seconds,
        selector,
        holder_pattern,
        strategy,
        paused,
        paused_reason,
        hand_over_after_not_ready_seconds,
        hand_over_when_cordoned,
        flapping_above,
        pod_deletion_cost,
        routing,
    } = &lease.spec;
    let Routing { label_key: _, leader_value, standby_value, on_database_unreachable, service } = routing;
    let component = component(lease).map_err(InvalidSpec::Component)?;
    let ttl = u32::try_from(*ttl_seconds)
        .ok()
        .filter(|ttl| (TTL_MIN_SECONDS..=TTL_MAX_SECONDS).contains(ttl))
        .ok_or(InvalidSpec::Ttl(*ttl_seconds))?;
    let selector = self::selector(selector).ok_or(InvalidSpec::EmptySelector)?;
    let holder_pattern = holder_pattern.as_deref().map(HolderPattern::new).transpose();
    let holder_pattern = holder_pattern.map_err(InvalidSpec::HolderPattern)?;
    let key = label_key(lease);
    if !may_write(&key, allowed_prefixes) {
        let allowed = [&[PREFIX.to_owned()], allowed_prefixes].concat().join(" or ");
        return Err(InvalidSpec::LabelKey { key, allowed });
    }
    if is_label_key_of_a_database(&key) {
        return Err(InvalidSpec::LabelKeyOfDatabase(key));
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
        on_database_unreachable: match on_database_unreachable {
            OnDatabaseUnreachable::Keep => Unreachable::Keep,
            OnDatabaseUnreachable::Remove => Unreachable::Remove,
        },
        strategy: match strategy {
            Strategy::Any => Wanted::Any,
            Strategy::Oldest => Wanted::Oldest,
        },
        service: service.as_ref().map(desired_service),
        service_field: "spec.routing.service",
        pause: match paused {
            None => PauseWish::Unsaid,
            Some(true) => PauseWish::Paused(paused_reason.clone().unwrap_or_default()),
            Some(false) => PauseWish::Running,
        },
        hand_over_after: hand_over_after_not_ready_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        hand_over_when_cordoned: *hand_over_when_cordoned,
        flapping_above: usize::try_from(*flapping_above).ok().filter(|most| *most > 0),
        deletion_cost: *pod_deletion_cost,
    })
}

pub(super) fn desired_service(service: &RoutedService) -> DesiredService {
    let RoutedService { name, policy, type_: ServiceType::ClusterIp, headless, labels, annotations, ports } =
        service;
    let port = |p: &RoutedPort| ServicePort {
        name: p.name.clone(),
        port: p.port,
        // As the API server defaults it, so that the two can be compared.
        target: Some(match &p.target_port {
            None => p.port.to_string(),
            Some(TargetPort::Number(number)) => number.to_string(),
            Some(TargetPort::Name(name)) => name.clone(),
        }),
        protocol: match p.protocol {
            PortProtocol::Tcp => "TCP",
            PortProtocol::Udp => "UDP",
            PortProtocol::Sctp => "SCTP",
        }
        .to_owned(),
        app_protocol: p.app_protocol.clone(),
    };
    DesiredService {
        name: name.clone(),
        managed: *policy == ServicePolicy::Manage,
        headless: *headless,
        labels: labels.clone(),
        annotations: annotations.clone(),
        ports: ports.iter().map(port).collect(),
    }
}

/// What the status said before, and the copy of its floor in the annotation. The copy is anybody's to write, so
/// it is never taken for the floor.
#[must_use]
pub fn memory(lease: &ComponentLease, status: Option<&ComponentLeaseStatus>) -> Memory {
    let copy = lease.annotations().get(FLOOR_ANNOTATION).and_then(|floor| floor.parse().ok()).unwrap_or(0);
    let Some(status) = status else { return Memory { floor_copy: copy, ..Memory::default() } };
    let internal = status.internal.as_ref();
    let elected = condition(status, ConditionType::LeaderElected);
    Memory {
        held: elected.is_some_and(|elected| elected.status == ConditionStatus::True),
        in_conflict: in_conflict(status),
        holder: status.term.as_ref().and_then(|term| term.holder.clone()),
        holder_pod: status.leader.as_ref().map(|leader| HolderPod {
            name: leader.pod_name.clone(),
            uid: leader.uid.clone(),
            node: leader.node_name.clone(),
            container_ids: internal.map(|internal| internal.container_ids.clone()).unwrap_or_default(),
        }),
        version: status.term.as_ref().map_or(0, |term| term.version),
        place: status
            .term
            .as_ref()
            .and_then(|term| Some(Place { epoch: term.epoch?, number: term.number_in_epoch? })),
        floor: status.version_floor.unwrap_or(0),
        floor_copy: copy,
        transitions: status.transitions.unwrap_or(0),
        database: internal.and_then(|internal| internal.database_uuid.clone()),
        last_transition: status.last_transition.as_ref().map(remembered),
        applied: internal.and_then(|internal| internal.applied.as_ref()).map(|applied| LabelScheme {
            key: applied.label_key.clone(),
            leader: applied.leader_value.clone(),
            standby: applied.standby_value.clone(),
        }),
        flapping: condition(status, ConditionType::Flapping).is_some(),
        pause: condition(status, ConditionType::Paused).and_then(|paused| {
            let reasons = [Reason::PausedBySpec, Reason::PausedByOperator];
            let reason = reasons.into_iter().find(|reason| reason.as_str() == paused.reason)?;
            Some((reason, paused.message.clone()))
        }),
    }
}

fn condition(status: &ComponentLeaseStatus, kind: ConditionType) -> Option<&StatusCondition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Whether the resource was found to have come too late.
#[must_use]
pub fn in_conflict(status: &ComponentLeaseStatus) -> bool {
    condition(status, ConditionType::Ready).is_some_and(|ready| ready.reason == Reason::Conflict.as_str())
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
    let term = term(wanted);
    let of = |term: &Option<TermStatus>| term.as_ref().map(|term| (term.holder.clone(), term.version));
    let led_by_another = of(&before.term) != of(&term);
    let conditions = wanted.conditions.iter().map(|condition| {
        let anew = condition.kind == ConditionType::LeaderElected && led_by_another;
        dated(&before.conditions, condition, anew, Some(wanted.observed_generation), now)
    });
    let new = ComponentLeaseStatus {
        observed_generation: Some(wanted.observed_generation),
        component: component.map(ToString::to_string),
        conditions: conditions.collect(),
        leader: wanted.holder_pod.as_ref().map(|pod| LeaderStatus {
            pod_name: pod.name.clone(),
            uid: pod.uid.clone(),
            node_name: pod.node.clone(),
        }),
        version_floor: Some(wanted.floor),
        transitions: Some(wanted.transitions),
        candidates: Some(wanted.candidates),
        instances: wanted.instances.iter().map(instance).collect(),
        internal: internal(wanted),
        last_transition: wanted.last_transition.as_ref().map(transition),
        term,
    };
    (without_times(&new) != without_times(before)).then_some(new)
}

/// A condition with the time since when it has had this status; `anew` where that begins again now.
pub(super) fn dated(
    before: &[StatusCondition],
    wanted: &Condition,
    anew: bool,
    generation: Option<i64>,
    now: &str,
) -> StatusCondition {
    let status = condition_status(wanted.status);
    let old = before.iter().find(|old| old.type_ == wanted.kind.as_str());
    // Nobody has looked at the moment of Pending: it comes from the schema.
    let same = old.filter(|old| old.status == status && old.reason != Reason::Pending.as_str() && !anew);
    StatusCondition {
        type_: wanted.kind.to_string(),
        status,
        reason: wanted.reason.to_string(),
        message: cut(&wanted.message),
        last_transition_time: same.map_or_else(|| now.to_owned(), |old| old.last_transition_time.clone()),
        observed_generation: generation,
    }
}

fn condition_status(truth: Truth) -> ConditionStatus {
    match truth {
        Truth::True => ConditionStatus::True,
        Truth::False => ConditionStatus::False,
        Truth::Unknown => ConditionStatus::Unknown,
    }
}

/// A component that never had a leader has no term.
fn term(wanted: &Status) -> Option<TermStatus> {
    (wanted.version != 0 || wanted.holder.is_some()).then(|| TermStatus {
        holder: wanted.holder.clone(),
        version: wanted.version,
        epoch: wanted.place.map(|place| place.epoch),
        number_in_epoch: wanted.place.map(|place| place.number),
        ttl_seconds: wanted.ttl,
        start_time: wanted.lease_time.and_then(rfc3339),
        renew_time: wanted.renew_time.and_then(rfc3339),
    })
}

/// Cut to what the schema lets through, as all that anybody's table may hold.
fn transition(wanted: &Transition) -> LastTransition {
    let cut = |text: &str, max| text.chars().take(max).collect::<String>();
    LastTransition {
        version: wanted.version,
        from: wanted.from.as_deref().map(|from| cut(from, 1024)),
        to: cut(&wanted.to, 1024),
        time: rfc3339(wanted.at),
        reason: wanted.reason.as_deref().map(|reason| cut(reason, 64)),
        requested_by: wanted.by.as_deref().map(|by| cut(by, 253)),
        without_leader_milliseconds: wanted.without_leader_ms,
    }
}

fn remembered(status: &LastTransition) -> Transition {
    let at = status.time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    Transition {
        version: status.version,
        from: status.from.clone(),
        to: status.to.clone(),
        // -1 is no time of any term: it is written as no time.
        at: at.map_or(-1, jiff::Timestamp::as_millisecond),
        reason: status.reason.clone(),
        by: status.requested_by.clone(),
        without_leader_ms: status.without_leader_milliseconds,
    }
}

fn internal(wanted: &Status) -> Option<InternalStatus> {
    let internal = InternalStatus {
        applied: wanted.applied.as_ref().map(|applied| AppliedLabels {
            label_key: applied.key.clone(),
            leader_value: applied.leader.clone(),
            standby_value: applied.standby.clone(),
        }),
        container_ids: wanted.holder_pod.iter().flat_map(|pod| pod.container_ids.clone()).collect(),
        database_uuid: wanted.database.as_deref().map(|uuid| uuid.chars().take(64).collect()),
    };
    (internal != InternalStatus::default()).then_some(internal)
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
    if let Some(term) = &mut status.term {
        (term.start_time, term.renew_time) = (None, None);
    }
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
pub(crate) fn rfc3339(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().filter(|_| ms >= 0).map(|at| at.to_string())
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
