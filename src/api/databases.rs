//! Between a `LeaseDatabase` and what the rules work on: its routing is that of a `ComponentLease` whose row is the Lease.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::convert::{self, InvalidSpec};
use super::v1alpha1::{
    ConditionStatus, DatabaseRouting, LeaseDatabase, LeaseDatabaseSpec, LeaseDatabaseStatus, StatusCondition,
};
use crate::election::ComponentName;
use crate::election::timing::TTL_MAX_SECONDS;
use crate::routing::conditions::{Condition, ConditionType};
use crate::routing::observed::{
    Desired, DesiredService, HolderPod, LabelScheme, Memory, OnDatabaseUnreachable, Strategy,
};
use crate::routing::pause::PauseWish;
use crate::routing::pod::{database_marks, default_label_key};

/// The label's value on the primary's pod.
pub(crate) const PRIMARY: &str = "primary";
/// The label's value on a member that follows the primary and acknowledges commits.
pub(crate) const REPLICA: &str = "replica";
/// The label's value on every other member.
const STANDBY: &str = "standby";

/// So many members elect.
const MEMBERS: std::ops::RangeInclusive<usize> = 2..=16;
/// A member is also the name of its pod, and a host.
const MEMBER_MAX: usize = 63;
/// What a member says is in an object that is named after the Lease, a hyphen and the member.
const OBJECT_NAME_MAX: usize = 253;

/// Names become part of label keys.
const NAME_MAX: usize = 50;

/// What a `LeaseDatabase` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredDatabase {
    /// The Lease by which the members elect.
    pub lease: String,
    pub members: BTreeSet<String>,
    /// How the primary's pod is reached.
    pub writer: Desired,
    pub readers: Option<DesiredService>,
}

impl DesiredDatabase {
    /// The readers' Service as the rules see one: it selects another value of the label.
    #[must_use]
    pub fn for_readers(&self) -> Option<Desired> {
        let service = self.readers.clone()?;
        let labels = LabelScheme { leader: REPLICA.to_owned(), ..self.writer.labels.clone() };
        Some(Desired {
            labels,
            service: Some(service),
            service_field: "spec.routing.readers",
            ..self.writer.clone()
        })
    }

    /// Whether this is one of its Services.
    #[must_use]
    pub fn names(&self, service: &str) -> bool {
        self.writer.service.iter().chain(&self.readers).any(|named| named.name == service)
    }
}

/// What a resource asks for. The schema refuses most of what cannot work; a resource may be older than the schema.
///
/// # Errors
/// Why it cannot be reconciled as written.
pub fn desired_database(database: &LeaseDatabase) -> Result<DesiredDatabase, InvalidSpec> {
    let name = database.name_any();
    if name.len() > NAME_MAX {
        return Err(InvalidSpec::DatabaseNameTooLong(name));
    }
    let LeaseDatabaseSpec { class_name: _, engine: _, lease, members, selector, routing } = &database.spec;
    let DatabaseRouting { writer, readers } = routing;
    let lease = lease.clone().unwrap_or_else(|| name.clone());
    let component = ComponentName::new(lease.clone()).map_err(InvalidSpec::Lease)?;
    let members = valid_members(&lease, members)?;
    let selector = convert::selector(selector).ok_or(InvalidSpec::EmptySelector)?;
    let marks = database_marks(&name);
    let key = default_label_key(&marks);
    if selector.mentions(&key) {
        return Err(InvalidSpec::LabelKeySelects(key));
    }
    Ok(DesiredDatabase {
        lease,
        members,
        writer: Desired {
            namespace: database.namespace().unwrap_or_default(),
            name: marks,
            uid: database.uid().unwrap_or_default(),
            generation: database.metadata.generation.unwrap_or_default(),
            component,
            // The Lease says how long a term lasts.
            ttl: TTL_MAX_SECONDS,
            selector,
            holder_pattern: None,
            labels: LabelScheme { key, leader: PRIMARY.to_owned(), standby: STANDBY.to_owned() },
            // Members go on while nobody can ask the API server.
            on_database_unreachable: OnDatabaseUnreachable::Keep,
            strategy: Strategy::Any,
            service: writer.as_ref().map(convert::desired_service),
            service_field: "spec.routing.writer",
            pause: PauseWish::Unsaid,
            hand_over_after: None,
            hand_over_when_cordoned: false,
            flapping_above: None,
            deletion_cost: None,
        },
        readers: readers.as_ref().map(convert::desired_service),
    })
}

fn valid_members(lease: &str, members: &[String]) -> Result<BTreeSet<String>, InvalidSpec> {
    let names: BTreeSet<String> = members.iter().cloned().collect();
    if !MEMBERS.contains(&names.len()) {
        return Err(InvalidSpec::Members(names.len()));
    }
    let fits = |member: &str| {
        (1..=MEMBER_MAX).contains(&member.len()) && lease.len() + 1 + member.len() <= OBJECT_NAME_MAX
    };
    match names.iter().find(|member| !fits(member)) {
        Some(member) => Err(InvalidSpec::MemberTooLong(member.clone())),
        None => Ok(names),
    }
}

/// What the status said before.
#[must_use]
pub fn database_memory(status: Option<&LeaseDatabaseStatus>) -> Memory {
    let Some(status) = status else { return Memory::default() };
    let pod = status.internal.as_ref().and_then(|internal| {
        Some(HolderPod {
            name: internal.pod_name.clone()?,
            uid: internal.pod_uid.clone()?,
            node: None,
            container_ids: Vec::new(),
        })
    });
    Memory {
        held: is_true(status, ConditionType::PrimaryElected),
        holder: status.holder.clone(),
        holder_pod: pod,
        version: status.version.unwrap_or(0),
        ..Memory::default()
    }
}

/// Whether a condition was True.
#[must_use]
pub fn is_true(status: &LeaseDatabaseStatus, kind: ConditionType) -> bool {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
    condition.is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// The status to write, or `None` where nothing but a time has changed. `now` is RFC 3339.
#[must_use]
pub fn database_status(
    before: Option<&LeaseDatabaseStatus>,
    wanted: LeaseDatabaseStatus,
    conditions: &[Condition],
    now: &str,
) -> Option<LeaseDatabaseStatus> {
    let none = LeaseDatabaseStatus::default();
    let before = before.unwrap_or(&none);
    let anew = [ConditionType::PrimaryElected].into_iter().find(|_| before.primary != wanted.primary);
    let generation = wanted.observed_generation;
    let conditions = conditions
        .iter()
        .map(|wanted| convert::dated(&before.conditions, wanted, anew == Some(wanted.kind), generation, now))
        .collect();
    let new = LeaseDatabaseStatus { conditions, ..wanted };
    (undated(&new) != undated(before)).then_some(new)
}

fn undated(status: &LeaseDatabaseStatus) -> LeaseDatabaseStatus {
    let mut status = status.clone();
    status
        .conditions
        .iter_mut()
        .for_each(|condition: &mut StatusCondition| condition.last_transition_time.clear());
    status
}

#[cfg(test)]
#[path = "databases_tests.rs"]
mod tests;
