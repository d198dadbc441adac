//! What the controller knows about one resource when it decides: plain data, gathered by
//! `controller::reconcile::observe`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conditions::{Condition, ConditionType, Reason, Truth};
use super::floor::FloorSight;
use super::holder_pattern::HolderPattern;
use super::pause::{PauseSight, PauseWish};
use super::pod::{Pod, Selector};
use super::split_brain::Belief;
use crate::election::ComponentName;
use crate::election::row::LeaseRow;
use crate::election::timing::Moment;
use crate::membership::instance::{SeenInstance, Whereabouts};

/// A resource whose spec was validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub component: ComponentName,
    /// Seconds.
    pub ttl: u32,
    pub selector: Selector,
    /// For holders that are not of our own format; `None` for what such programs commonly write.
    pub holder_pattern: Option<HolderPattern>,
    pub labels: LabelScheme,
    pub on_database_unreachable: OnDatabaseUnreachable,
    pub strategy: Strategy,
    pub service: Option<DesiredService>,
    /// Where the spec names it.
    pub service_field: &'static str,
    pub pause: PauseWish,
    /// A leader whose pod has not been ready for so long is asked to make way.
    pub hand_over_after: Option<Duration>,
    /// So is one whose node is cordoned, at once.
    pub hand_over_when_cordoned: bool,
    /// So many terms may begin within an hour; `None`: as many as like.
    pub flapping_above: Option<usize>,
    /// What the leader's pod costs to delete; `None`: nothing is said about that.
    pub deletion_cost: Option<i32>,
}

/// Who is preferred among candidates that are as good as each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    #[default]
    Any,
    /// The participant that has been alive for longest.
    Oldest,
}

/// What is put on pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelScheme {
    pub key: String,
    pub leader: String,
    pub standby: String,
}

/// What happens to the label while the database does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDatabaseUnreachable {
    Keep,
    /// Once the last known lease has run out.
    Remove,
}

impl Desired {
    /// Which pods are candidates: the same text for the same ones.
    #[must_use]
    pub fn candidates(&self) -> String {
        format!("{}/{:?}", self.namespace, self.selector)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredService {
    pub name: String,
    /// Made and owned by us; otherwise only checked.
    pub managed: bool,
    /// Without an address of its own.
    pub headless: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<String>,
    pub port: i32,
    /// A number or a name.
    pub target: Option<String>,
    pub protocol: String,
    pub app_protocol: Option<String>,
}

/// Whether this resource may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    First,
    /// Another resource was first; the text says which and what is contested.
    Taken(String),
}

/// What the controller last saw of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowSight {
    /// No look has succeeded since the controller began, at this moment.
    Never { since: Moment },
    /// As of the last look that succeeded; unchanged since that moment on our own boot clock.
    Seen { row: Option<LeaseRow>, since: Moment },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSight {
    Answers,
    Unreachable(String),
    Misconfigured(String),
    /// It answers, and is not the database that this resource has known: nothing may be done by what it says.
    Another(String),
}

/// The pods of the namespace that concern this resource, or why they cannot be listed.
pub type Pods = Result<Vec<Pod>, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSight {
    /// The resource names none.
    NotAsked,
    Missing,
    Exists(SeenService),
    /// They cannot be watched.
    Unknown(String),
}

/// A Service as it is.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenService {
    /// Owned by this very resource, and by nobody else.
    pub ours: bool,
    /// Made by this program, and nobody owns it: its resource was deleted or restored without it.
    pub abandoned: bool,
    pub uid: String,
    /// Without an address of its own.
    pub headless: bool,
    /// Of another type than `ClusterIP`, or with external addresses.
    pub outward: bool,
    /// Only of a Service that this program has made.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Empty: the Service has no selector, and somebody else writes its endpoints.
    pub selector: BTreeMap<String, String>,
    /// Its type: the name of a host stands in the place of pods.
    pub external_name: bool,
    /// It also reaches pods that are not ready.
    pub publishes_unready: bool,
    pub ports: Vec<ServicePort>,
    pub resource_version: String,
}

/// What one EndpointSlice of the Service says of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's UID, or its name where the slice does not give that.
    pub pod: String,
    /// Requests are sent to it.
    pub ready: bool,
    /// The pod is ending, and serves as long as it does.
    pub draining: bool,
    /// The names of the slice's ports; empty for a port without a name.
    pub ports: Vec<String>,
}

/// The endpoints of the Service that the resource names, or why they cannot be listed.
pub type Endpoints = Result<Vec<Endpoint>, String>;

/// A Service that this resource has made and does not name any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerService {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// What the status said before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Somebody held the lease.
    pub held: bool,
    /// Another resource was first.
    pub in_conflict: bool,
    pub holder: Option<String>,
    pub holder_pod: Option<HolderPod>,
    pub version: i64,
    pub place: Option<Place>,
    pub floor: i64,
    /// The floor's copy in the annotation, which anybody may write who may write the resource.
    pub floor_copy: i64,
    pub transitions: i64,
    pub applied: Option<LabelScheme>,
    /// The UUID of the database.
    pub database: Option<String>,
    pub last_transition: Option<Transition>,
    /// The leader changed too often.
    pub flapping: bool,
    /// The election was paused: why, in a word and in a sentence.
    pub pause: Option<(Reason, String)>,
}

/// How the leader's term followed the one before, as the history tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Of the term that began.
    pub version: i64,
    /// Who led before; `None` where nobody did.
    pub from: Option<String>,
    pub to: String,
    /// When the term began: database time, ms.
    pub at: i64,
    /// Why the term before ended; `None` while nobody has written that down.
    pub reason: Option<String>,
    /// Who asked for it.
    pub by: Option<String>,
    /// From the end of the term before to the begin of this one.
    pub without_leader_ms: Option<i64>,
}

/// Nobody takes a lease of the database, because it may have forgotten a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub until: Moment,
    /// The same as people read it.
    pub told: String,
}

/// Where a version is among those of its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The life of the database in which it was granted.
    pub epoch: i64,
    /// Counts on within that.
    pub number: i64,
}

impl Place {
    /// By how far the versions of two epochs are apart.
    #[must_use]
    pub fn of(version: i64, step: i64) -> Option<Self> {
        let (epoch, number) = (version.checked_div(step)?, version.checked_rem(step)?);
        (version > 0).then_some(Self { epoch, number })
    }
}

/// The leader's pod as it was when it was labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderPod {
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
    pub container_ids: Vec<String>,
}

/// Everything a decision is made of.
#[derive(Debug, Clone)]
pub struct Observed {
    pub desired: Desired,
    pub memory: Memory,
    pub claim: Claim,
    pub store: StoreSight,
    /// The UUID of the database that answered last; `None` where it says none.
    pub database: Option<String>,
    pub row: RowSight,
    /// The row was looked at again after *these very* pods were seen, of which one carries a later
    /// version. Good for one decision: pods that are seen later may know of a version later still.
    pub row_confirmed: bool,
    /// Seconds; no lease of the database may have a longer ttl. `None` where nothing says so.
    pub longest_ttl: Option<u32>,
    /// Whether the election is paused.
    pub pause: PauseSight,
    /// While nobody takes a lease of the database.
    pub quarantine: Option<Quarantined>,
    /// How far the versions of two epochs of the database are apart; `None` where it keeps none.
    pub epoch_step: Option<i64>,
    /// Whether the database has forgotten what the resource remembers.
    pub floor: FloorSight,
    pub pods: Pods,
    /// Those that compete for this component and are alive, as of the last look that asked for them.
    pub instances: Vec<SeenInstance>,
    /// What the row's holder last told of itself, also where that is out of date by now.
    pub holder_told: Option<SeenInstance>,
    /// Those that go on saying that they lead although the row says otherwise.
    pub disputed: Vec<Belief>,
    pub service: ServiceSight,
    pub endpoints: Endpoints,
    /// Services of this resource under names that it does not give any more.
    pub former_services: Vec<FormerService>,
    /// By the names of pods: the label's value on a standby, where it is another than that of all standbys.
    pub standby_values: BTreeMap<String, String>,
    /// The resource is being deleted. The deletion's propagation policy decides about what it owns.
    pub leaving: bool,
    pub now: Moment,
}

impl Observed {
    /// What this holder last told of itself.
    #[must_use]
    pub fn told_by(&self, holder: &str) -> Option<&SeenInstance> {
        let alive = self.instances.iter().rev().find(|seen| seen.holder == holder);
        alive.or_else(|| self.holder_told.as_ref().filter(|seen| seen.holder == holder))
    }

    /// The other namespace in which this holder says it runs: then the row is no business of this resource.
    #[must_use]
    pub fn elsewhere(&self, holder: &str) -> Option<&str> {
        self.told(holder).and_then(|told| told.elsewhere(&self.desired.namespace))
    }

    /// Where this holder says it runs.
    #[must_use]
    pub fn told(&self, holder: &str) -> Option<&Whereabouts> {
        self.told_by(holder).map(|seen| &seen.whereabouts)
    }
}

/// What the status is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub observed_generation: i64,
    pub holder: Option<String>,
    pub holder_pod: Option<HolderPod>,
    pub version: i64,
    /// `None` where the database keeps no epochs.
    pub place: Option<Place>,
    pub ttl: Option<i64>,
    /// Database time, ms.
    pub lease_time: Option<i64>,
    /// Database time, ms, as of this writing: renewals are not mirrored.
    pub renew_time: Option<i64>,
    pub floor: i64,
    pub transitions: i64,
    pub candidates: i64,
    /// The longest-lived first, a bounded number of them.
    pub instances: Vec<SeenInstance>,
    pub applied: Option<LabelScheme>,
    /// The UUID of the database that this was seen in.
    pub database: Option<String>,
    pub last_transition: Option<Transition>,
    pub conditions: Vec<Condition>,
}

impl Status {
    /// The condition of this kind, where there is one.
    #[must_use]
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// What is remembered of this status when it is read again.
    #[must_use]
    pub fn remembered(&self) -> Memory {
        let elected = self.condition(ConditionType::LeaderElected);
        let ready = self.condition(ConditionType::Ready);
        Memory {
            held: elected.is_some_and(|elected| elected.status == Truth::True),
            in_conflict: ready.is_some_and(|ready| ready.reason == Reason::Conflict),
            holder: self.holder.clone(),
            holder_pod: self.holder_pod.clone(),
            version: self.version,
            place: self.place,
            floor: self.floor,
            floor_copy: 0,
            transitions: self.transitions,
            applied: self.applied.clone(),
            database: self.database.clone(),
            last_transition: self.last_transition.clone(),
            flapping: self.condition(ConditionType::Flapping).is_some(),
            pause: self
                .condition(ConditionType::Paused)
                .map(|paused| (paused.reason, paused.message.clone())),
        }
    }
}
