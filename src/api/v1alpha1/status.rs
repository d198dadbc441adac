//! What the controller says about a resource.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller sees. Renewals are not mirrored: the status changes when the leader does.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentLeaseStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The component whose row this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub component: Option<String>,

    /// The term, as the row says; missing where nobody has ever led.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<TermStatus>,

    /// The pod that leads and may be routed to, as it was when it was labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderStatus>,

    /// The highest version ever seen. Never decreases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_floor: Option<i64>,

    /// How many terms this resource has seen begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitions: Option<i64>,

    /// How the leader's term followed the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<LastTransition>,

    /// How many pods the selector matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<i64>,

    /// The participants that are alive, as they tell of themselves in component_instance: the longest-lived
    /// first, 20 at most. Heartbeats are not mirrored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub instances: Vec<InstanceStatus>,

    /// What the controller has to remember. Nothing else should read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<InternalStatus>,

    /// Good while True: Ready, LeaderElected, HolderAccepted, Routed, DatabaseReachable. Bad while True:
    /// Stalled, and VersionRegressed, TtlLimited, SplitBrain, DatabaseChanged, LeaderOrphaned, Paused, which are
    /// only there while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatusCondition>,
}

/// A term: from one take of the lease to the next.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TermStatus {
    /// Who holds the lease, or held it last when it expired; missing when it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub holder: Option<String>,

    /// The version of the term: the fencing token. It jumps to 14 digits when the database begins an epoch.
    pub version: i64,

    /// The epoch of the database in which this version was granted. Another one begins when the database was
    /// restarted, failed over or restored. Versions of an epoch begin at a million times its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,

    /// What the version counts within its epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_in_epoch: Option<i64>,

    /// Seconds; the ttl in force, fixed for the term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,

    /// When the term began, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start_time: Option<String>,

    /// The last renewal as of the last time this status was written, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub renew_time: Option<String>,
}

/// How one term followed another, as the history in the database tells. Read when the leader changes.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTransition {
    /// The version of the term that began.
    pub version: i64,

    /// Who led before; missing where nobody ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,

    /// Who has led since.
    #[schemars(length(max = 1024))]
    pub to: String,

    /// When the term began, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,

    /// Why the term before ended: Released, WorkEnded, WorkFailed, Expired, Deadline, SteppedDown, SwitchedOver, Promoted,
    /// Unhealthy, ContainerEnded, DatabaseChanged, Foreign; missing where nobody wrote that down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,

    /// Who asked for it, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub requested_by: Option<String>,

    /// How long nobody led: from the end of the term before (of one that expired, its last renewal) to the begin of
    /// this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_leader_milliseconds: Option<i64>,
}

/// The leader's pod.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderStatus {
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub pod_name: String,
    /// The pod's UID.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
}

/// A participant that is alive.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The participant, as the row names it when it leads.
    #[schemars(length(max = 1024))]
    pub instance: String,
    /// Its pod, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// The node that it runs on, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Which version of its program it is, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub program_version: Option<String>,
    /// Since when it lives without interruption, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start_time: Option<String>,
    /// Whether it would lead, as far as its health goes.
    pub healthy: bool,
}

/// What the controller has to remember.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalStatus {
    /// What was last put on pods, so that a changed spec strips the old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedLabels>,
    /// The containers of the leader's pod when it was labelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub container_ids: Vec<String>,
    /// The UUID of the database that this was seen in. While another one answers, labels, intents and epochs
    /// stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub database_uuid: Option<String>,
}

/// What was last put on pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLabels {
    /// The label's key.
    #[schemars(length(max = 317))]
    pub label_key: String,
    /// Its value on the leader's pod.
    #[schemars(length(max = 63))]
    pub leader_value: String,
    /// Its value on every other candidate.
    #[schemars(length(max = 63))]
    pub standby_value: String,
}

/// As in other Kubernetes resources (metav1.Condition).
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(
        length(max = 316),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        )
    )]
    pub type_: String,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// Why, in one word.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"))]
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When the status last changed; of LeaderElected also when the leader did.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl PartialEq<&str> for ConditionStatus {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
