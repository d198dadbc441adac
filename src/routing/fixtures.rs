//! What the tests of the controller's rules look at: lease `web`, its pods and its row.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decide::{Decision, Plan, PodChange, decide};
use super::floor::FloorSight;
use super::observed::{
    Claim, Desired, HolderPod, LabelScheme, Memory, Observed, OnDatabaseUnreachable, Place, RowSight,
    ServiceSight, StoreSight, Strategy, Transition,
};
use super::pod::{Container, Incarnation, Pod, Requirement, Selector};
use crate::election::ComponentName;
use crate::election::row::LeaseRow;
use crate::membership::instance::{SeenInstance, Whereabouts};

pub(crate) const S: fn(u64) -> Duration = Duration::from_secs;
pub(crate) const KEY: &str = "componentlease.io/web";
pub(crate) const VERSION: &str = "componentlease.io/web-version";
pub(crate) const LABEL: &str = "componentlease.io/web-label";

pub(crate) fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(crate) fn running(id: &str) -> Container {
    Container { now: Incarnation::Running { id: Some(id.into()) }, before: None }
}

/// A candidate; its uid is the name eight times over, so that no two begin alike.
pub(crate) fn pod(name: &str) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("{}-uid", name.repeat(8)),
        resource_version: format!("rv-{name}"),
        labels: strings(&[("app", "web")]),
        started: Some(1),
        containers: vec![running(&format!("containerd://{name}"))],
        ..Pod::default()
    }
}

impl Pod {
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn stamp(mut self, version: i64) -> Self {
        self.annotations.insert(VERSION.into(), version.to_string());
        self
    }

    pub(crate) fn marked(self, value: &str, version: i64) -> Self {
        self.label(KEY, value).stamp(version)
    }
}

pub(crate) fn row(holder: &str, version: i64) -> LeaseRow {
    LeaseRow { holder: holder.into(), lease_time: 50_000, renew_time: 60_000, version, ttl: 10 }
}

/// Our own format: the pod's name, the beginning of its uid, a random end.
pub(crate) fn held_by(name: &str, version: i64) -> LeaseRow {
    row(&format!("{name}_{}_0badcafe", &pod(name).uid[..8]), version)
}

pub(crate) fn scheme(key: &str, leader: &str) -> LabelScheme {
    LabelScheme { key: key.into(), leader: leader.into(), standby: "standby".into() }
}

/// Lease `web` at 100 s: its row is unchanged since 95 s and lasts for 10 s; nothing was applied before.
pub(crate) fn observed(row: LeaseRow, pods: Vec<Pod>) -> Observed {
    Observed {
        desired: Desired {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "lease-uid".into(),
            generation: 3,
            component: ComponentName::new("web-row").unwrap(),
            ttl: 10,
            selector: Selector::new(vec![Requirement::In("app".into(), vec!["web".into()])]).unwrap(),
            labels: scheme(KEY, "leader"),
            holder_pattern: None,
            on_database_unreachable: OnDatabaseUnreachable::Keep,
            strategy: Strategy::Any,
            service: None,
            service_field: "spec.routing.service",
            pause: crate::routing::pause::PauseWish::Unsaid,
            hand_over_after: None,
            hand_over_when_cordoned: true,
            flapping_above: None,
            deletion_cost: None,
        },
        memory: Memory::default(),
        claim: Claim::First,
        store: StoreSight::Answers,
        database: Some("uuid-a".into()),
        row: RowSight::Seen { row: Some(row), since: S(95) },
        row_confirmed: false,
        longest_ttl: Some(30),
        pause: crate::routing::pause::PauseSight::Running,
        quarantine: None,
        epoch_step: Some(1_000_000),
        floor: FloorSight::default(),
        pods: Ok(pods),
        instances: Vec::new(),
        holder_told: None,
        disputed: Vec::new(),
        service: ServiceSight::NotAsked,
        endpoints: Ok(Vec::new()),
        former_services: Vec::new(),
        standby_values: BTreeMap::new(),
        leaving: false,
        now: S(100),
    }
}

/// The memory that a status leaves when `name` leads `version`.
pub(crate) fn remembers(name: &str, version: i64) -> Memory {
    let pod = pod(name);
    Memory {
        held: true,
        in_conflict: false,
        holder: Some(held_by(name, version).holder),
        holder_pod: Some(HolderPod {
            container_ids: pod.container_ids(),
            name: pod.name,
            uid: pod.uid,
            node: None,
        }),
        version,
        place: Place::of(version, 1_000_000),
        floor: version,
        floor_copy: 0,
        transitions: 4,
        applied: Some(scheme(KEY, "leader")),
        database: Some("uuid-a".into()),
        last_transition: Some(Transition {
            version,
            from: Some(held_by("d-9", version - 1).holder),
            to: held_by(name, version).holder,
            at: 1_764_000_000_000,
            reason: Some("Released".into()),
            by: None,
            without_leader_ms: Some(180),
        }),
        flapping: false,
        pause: None,
    }
}

pub(crate) fn plan(o: &Observed) -> Plan {
    match decide(o) {
        Decision::Act(plan) => *plan,
        other => panic!("expected a plan, got {other:?}"),
    }
}

pub(crate) fn names(changes: &[PodChange]) -> Vec<&str> {
    changes.iter().map(|change| change.name.as_str()).collect()
}

pub(crate) fn labelled(plan: &Plan) -> Option<&str> {
    plan.label.as_ref().map(|change| change.name.as_str())
}

pub(crate) fn touches_no_pod(plan: &Plan) -> bool {
    plan.strip.is_empty() && plan.stamp.is_empty() && plan.label.is_none()
}

#[expect(clippy::unnecessary_wraps, reason = "what a patch carries for a key that is set")]
pub(crate) fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

pub(crate) fn down() -> StoreSight {
    StoreSight::Unreachable("no route".into())
}

/// A participant that is alive.
pub(crate) fn instance(name: &str) -> SeenInstance {
    SeenInstance {
        id: 1,
        component: "web-row".into(),
        holder: held_by(name, 7).holder,
        start_time: 0,
        heartbeat: 0,
        lasts: 10,
        whereabouts: Whereabouts::default(),
        program_version: None,
        mode: None,
        promise: None,
        priority: None,
        healthy: true,
        leads: None,
    }
}
