//! `componentlease.io/v1alpha1`. The comments on fields are what `kubectl explain` prints.

#![expect(unreachable_pub, reason = "the derive of the schema wraps the types in a module of its own")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who leads a component is decided by its row in the database table component_lease. This
/// resource names the component and the pods that compete for it; the controller shows the row in
/// the status and labels the leader's pod, so that a Service reaches it and only it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "componentlease.io",
    version = "v1alpha1",
    kind = "ComponentLease",
    plural = "componentleases",
    singular = "componentlease",
    shortname = "clease",
    category = "all",
    namespaced,
    status = "ComponentLeaseStatus",
    derive = "PartialEq",
    doc = "A component of which exactly one instance may be active. A row in a database decides who leads; the controller shows it here and labels the leader's pod, so that a Service reaches it and only it.",
    validation = Rule::new("size(self.metadata.name) <= 55").message("metadata.name may have 55 characters at most, because it becomes part of label and annotation keys"),
    validation = Rule::new("has(self.spec.componentName) == has(oldSelf.spec.componentName) && (!has(self.spec.componentName) || self.spec.componentName == oldSelf.spec.componentName)").message("spec.componentName cannot be changed, added or removed: it names the row; make another resource instead"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.versionFloor) || (has(self.status) && has(self.status.versionFloor) && self.status.versionFloor >= oldSelf.status.versionFloor)").message("status.versionFloor never decreases: it is what tells a database that has lost writes"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.holder", description = "who leads, as the row says"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version", description = "the fencing token of the term"),
    printcolumn(name = "TTL", type_ = "integer", json_path = ".status.ttlSeconds", description = "seconds a term lasts without renewal"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "whether the leader is elected and routed to"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.componentName", priority = 1, description = "the row's key, where it is not NAMESPACE/NAME"),
    printcolumn(name = "Candidates", type_ = "integer", json_path = ".status.candidates", priority = 1, description = "pods that the selector matches"),
    printcolumn(name = "Transitions", type_ = "integer", json_path = ".status.transitions", priority = 1, description = "terms seen since this resource was made"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.conditions[?(@.type==\"LeaderElected\")].lastTransitionTime", priority = 1, description = "when the present leader, or the lack of one, was first seen")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.routing) || !has(self.routing.labelKey) || ((!has(self.selector.matchLabels) || !(self.routing.labelKey in self.selector.matchLabels)) && (!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, e.key != self.routing.labelKey)))").message("spec.routing.labelKey must not be part of spec.selector: the label moves, and candidates must stay candidates"))]
pub struct ComponentLeaseSpec {
    /// The component, that is, the key of the row in component_lease. Defaults to the namespace and the
    /// name of this resource with a slash between them. A key that does not begin with the namespace and a
    /// slash must be allowed by whoever installed the controller. Cannot be changed, added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub component_name: Option<String>,

    /// How long a term lasts without renewal, in seconds. Reaches the participants through the
    /// database and is in force from the next term; until then the status shows the one in force.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 5, max = 3600))]
    pub ttl_seconds: i32,

    /// The candidates: the pods of this namespace whose programs compete for the component. A
    /// holder that is none of them is never routed to.
    pub selector: PodSelector,

    /// For programs with their own SQL that write something else into the row than their pod's name,
    /// its name and more behind a separator, or its address: a regular expression for the whole
    /// holder, whose group "pod" is the pod's name, as in `worker@(?P<pod>[-a-z0-9.]+)/[0-9]+`. Holders
    /// that our own participants write are known in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"\(\?P?<pod>"))]
    pub holder_pattern: Option<String>,

    /// How users reach the leader.
    #[serde(default)]
    pub routing: Routing,
}

fn default_ttl() -> i32 {
    30
}

/// Which pods; as in other Kubernetes resources, all requirements must hold. Cannot be empty.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)").message("spec.selector must not be empty: it would match every pod of the namespace"))]
pub struct PodSelector {
    /// Labels that a candidate carries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    pub match_labels: BTreeMap<String, String>,

    /// Further requirements on a candidate's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<SelectorRequirement>,
}

fn label_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

/// One requirement on a candidate's labels.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0").message("In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct SelectorRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How key and values relate.
    pub operator: SelectorOperator,
    /// For In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label's key and values relate.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// How users reach the leader: the label that its pod carries, and the Service that selects it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.leaderValue != self.standbyValue").message("spec.routing.leaderValue and standbyValue must differ"))]
pub struct Routing {
    /// The label that tells the leader from the standbys. Defaults to componentlease.io/ and the name
    /// of this resource. Another prefix must be allowed by whoever installed the controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 317),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
        )
    )]
    pub label_key: Option<String>,

    /// The label's value on the leader's pod.
    #[serde(default = "leader_value")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub leader_value: String,

    /// The label's value on every other candidate.
    #[serde(default = "standby_value")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub standby_value: String,

    /// What happens to the label while the database does not answer: Keep leaves it where it is,
    /// Remove takes it away once the last known lease has run out.
    #[serde(default)]
    pub on_store_unreachable: OnStoreUnreachable,

    /// The Service by which users reach the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<RoutedService>,
}

fn leader_value() -> String {
    "leader".to_owned()
}

fn standby_value() -> String {
    "standby".to_owned()
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            label_key: None,
            leader_value: leader_value(),
            standby_value: standby_value(),
            on_store_unreachable: OnStoreUnreachable::default(),
            service: None,
        }
    }
}

/// What happens to the label while the database does not answer.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum OnStoreUnreachable {
    #[default]
    Keep,
    Remove,
}

/// A Service in the namespace of the resource.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.managed || (has(self.ports) && size(self.ports) > 0)").message("a managed Service needs ports"))]
pub struct RoutedService {
    /// The Service's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// True: the controller makes the Service and keeps it; it goes when this resource goes. A
    /// Service that exists already is never adopted. False: the controller only checks that the
    /// Service selects the leader label, and says so in the condition Routed.
    #[serde(default)]
    pub managed: bool,

    /// The ports of a managed Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ports: Vec<RoutedPort>,
}

/// A port of a managed Service.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutedPort {
    /// Needed when there are several ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
    /// The port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The pods' port, by number or by name. Defaults to port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub target_port: Option<String>,
    /// TCP, UDP or SCTP.
    #[serde(default)]
    pub protocol: PortProtocol,
}

/// A transport protocol.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum PortProtocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

/// What the controller sees. Renewals are not mirrored: the status changes when the leader does.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentLeaseStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Held, Vacant, Expired, Unknown or Conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,

    /// The component whose row this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub component: Option<String>,

    /// Who holds the row, or held it last when it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub holder: Option<String>,

    /// The pod that the holder is, as it was when it was labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_pod: Option<HolderPodStatus>,

    /// The version of the term: the fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,

    /// Seconds; the ttl in force, fixed for the term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,

    /// When the term began, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub lease_time: Option<String>,

    /// The last renewal as of the last time this status was written, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub renew_time: Option<String>,

    /// The highest version ever seen. Never decreases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_floor: Option<i64>,

    /// The UUID of the database that this was seen in. While another one answers, labels, intents and epochs
    /// stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub database_uuid: Option<String>,

    /// How many terms this resource has seen begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitions: Option<i64>,

    /// How many pods the selector matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<i64>,

    /// The participants that are alive, as they tell of themselves in component_instance: the longest-lived
    /// first, 20 at most. Heartbeats are not mirrored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub instances: Vec<InstanceStatus>,

    /// What was last put on pods, so that a changed spec strips the old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedLabels>,

    /// Ready, LeaderElected, HolderAccepted, Routed, StoreReachable, and others while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatusCondition>,
}

/// The pod that the holder is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderPodStatus {
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The pod's UID.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Its containers when it was labelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub container_ids: Vec<String>,
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
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub start_time: Option<String>,
    /// Whether it would lead, as far as its health goes.
    pub healthy: bool,
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

/// As in other Kubernetes resources.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(length(max = 16))]
    pub status: String,
    /// Why, in one word.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When the status last changed; of LeaderElected also when the leader did.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
