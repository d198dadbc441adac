//! `componentlease.io/v1alpha1`. The comments on fields are what `kubectl explain` prints.

#![expect(unreachable_pub, reason = "the derive of the schema wraps the types in a module of its own")]

mod database;
mod request;
mod selector;
mod service;
mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use database::{
    DatabaseEngine, DatabaseInternal, DatabaseRouting, FailoverStatus, LastFailover, LeaseDatabase,
    LeaseDatabaseSpec, LeaseDatabaseStatus, MemberRole, MemberStatus, RecordStatus, WouldLose,
};
pub use request::{
    LeaseRequest, LeaseRequestSpec, LeaseRequestStatus, ObservedTerm, RequestState, RequestVerb,
};
pub use selector::{PodSelector, SelectorOperator, SelectorRequirement};
pub use service::{PortProtocol, RoutedPort, RoutedService, ServicePolicy, ServiceType, TargetPort};
pub use status::{
    AppliedLabels, ComponentLeaseStatus, ConditionStatus, InstanceStatus, InternalStatus, LastTransition,
    LeaderStatus, StatusCondition, TermStatus,
};

use super::schema;

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
    category = "component-lease",
    namespaced,
    status = "ComponentLeaseStatus",
    derive = "PartialEq",
    selectable = ".spec.componentName",
    doc = "A component of which exactly one instance may be active. A row in a database decides who leads; the controller shows it here and labels the leader's pod, so that a Service reaches it and only it.",
    validation = Rule::new("size(self.metadata.name) <= 55").message("metadata.name may have 55 characters at most, because it becomes part of label and annotation keys"),
    validation = Rule::new("has(self.spec.componentName) == has(oldSelf.spec.componentName) && (!has(self.spec.componentName) || self.spec.componentName == oldSelf.spec.componentName)").message("spec.componentName cannot be changed, added or removed: it names the row; make another resource instead"),
    validation = Rule::new("self.spec.className == oldSelf.spec.className").message("spec.className cannot be changed: another class is another database, and so another row; make another resource instead"),
    validation = Rule::new("(has(self.spec.routing) && has(self.spec.routing.labelKey)) || ((!has(self.spec.selector.matchLabels) || !(('componentlease.io/' + self.metadata.name) in self.spec.selector.matchLabels)) && (!has(self.spec.selector.matchExpressions) || self.spec.selector.matchExpressions.all(e, e.key != 'componentlease.io/' + self.metadata.name)))").message("spec.selector must not use the label componentlease.io/<metadata.name>: the controller moves it, and candidates must stay candidates"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.versionFloor) || (has(self.status) && has(self.status.versionFloor) && self.status.versionFloor >= oldSelf.status.versionFloor)").message("status.versionFloor never decreases: it is what tells a database that has lost writes"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader.podName", description = "the pod that leads and may be routed to"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.term.holder", description = "who holds the lease, as the row says"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.term.version", description = "the fencing token of the term"),
    printcolumn(name = "TTL", type_ = "integer", json_path = ".status.term.ttlSeconds", description = "seconds that a term lasts without renewal"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "whether users reach the leader"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "why Ready is as it is"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.componentName", priority = 1, description = "the row's key, where it is not NAMESPACE/NAME"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className", priority = 1, description = "the controller, and with it the database, that looks after the resource"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.leader.nodeName", priority = 1, description = "the node of the leader's pod"),
    printcolumn(name = "Candidates", type_ = "integer", json_path = ".status.candidates", priority = 1, description = "pods that the selector matches"),
    printcolumn(name = "Transitions", type_ = "integer", json_path = ".status.transitions", priority = 1, description = "terms seen since this resource was made"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.conditions[?(@.type==\"LeaderElected\")].lastTransitionTime", priority = 1, description = "when the present leader, or the lack of one, was first seen"),
    printcolumn(name = "Floor", type_ = "integer", json_path = ".status.versionFloor", priority = 1, description = "the highest version ever seen")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.routing) || !has(self.routing.labelKey) || ((!has(self.selector.matchLabels) || !(self.routing.labelKey in self.selector.matchLabels)) && (!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, e.key != self.routing.labelKey)))").message("spec.routing.labelKey must not be part of spec.selector: the label moves, and candidates must stay candidates"))]
pub struct ComponentLeaseSpec {
    /// Which controller looks after this resource, and with it which database. A class is named when its
    /// controller is installed. A controller leaves resources of other classes alone, so a resource whose
    /// class has no controller stays as it is. Cannot be changed.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub class_name: String,

    /// The component: the key of the row in component_lease. Defaults to the namespace and the name of
    /// this resource with a slash between them. A key that does not begin with the namespace and a
    /// slash must be allowed when the controller is installed. Cannot be changed, added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s\pC\pZ]+$"))]
    pub component_name: Option<String>,

    /// How long a term lasts without renewal, in seconds. Reaches the participants through the
    /// database and is in force from the next term; until then the status shows the one in force.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 5, max = 3600))]
    pub ttl_seconds: i32,

    /// The candidates: the pods of this namespace whose programs compete for the component. A
    /// holder outside of them is never routed to.
    pub selector: PodSelector,

    /// For programs with their own SQL that write something else into the row than their pod's name,
    /// its name and more behind a separator, or its address: a regular expression for the whole
    /// holder, whose group "pod" is the pod's name, as in `worker@(?P<pod>[-a-z0-9.]+)/[0-9]+`. Holders
    /// that our own participants write are known in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::holder_pattern")]
    pub holder_pattern: Option<String>,

    /// Who is preferred when nobody leads: the others leave the lease alone for up to 2 s. A preference
    /// is never a condition. In any case a ready pod of the newest revision is preferred during a rollout, and a participant
    /// with a higher priority; this tells apart those that are equal in both. Any: nobody is preferred. Oldest: the
    /// participant that has been alive for longest.
    #[serde(default)]
    pub strategy: Strategy,

    /// Whether the election is paused: true, nobody takes the lease, and a leader goes on renewing it. False ends
    /// every pause, also one that somebody has made in the database. Without it, a pause that this field
    /// made ends, and one of others stays. The condition Paused says who paused the election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// Why it is paused, in one line: it is shown wherever the pause is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = schema::ONE_LINE))]
    pub paused_reason: Option<String>,

    /// A leader whose pod has not been ready for so many seconds is asked to make way, if another candidate is
    /// ready and its participant healthy. A pod whose node is lost is not ready either. Without it, a leader leads
    /// for as long as it renews the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub hand_over_after_not_ready_seconds: Option<i32>,

    /// Whether a leader whose node is cordoned is asked to make way for a candidate of a node that is not, before it is
    /// evicted. Needs a controller that may watch nodes.
    #[serde(default = "yes")]
    pub hand_over_when_cordoned: bool,

    /// If more terms than this begin within an hour, the condition Flapping says so, and participants leave a lease that
    /// was given back alone for up to a third of its TTL. 0: never.
    #[serde(default = "default_flapping_above")]
    #[schemars(range(min = 0, max = 1000))]
    pub flapping_above: i32,

    /// What the leader's pod costs to delete: it is given the annotation controller.kubernetes.io/pod-deletion-cost
    /// with this number, which goes with the label, so that a ReplicaSet that shrinks removes pods that cost less
    /// first. A pod that has such an annotation of somebody else keeps it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_deletion_cost: Option<i32>,

    /// How users reach the leader.
    #[serde(default)]
    pub routing: Routing,
}

/// Who is preferred among equal candidates.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Strategy {
    #[default]
    Any,
    Oldest,
}

/// The class of a resource that names none.
pub const DEFAULT_CLASS: &str = schema::DEFAULT_CLASS;

fn default_class() -> String {
    DEFAULT_CLASS.to_owned()
}

fn default_flapping_above() -> i32 {
    20
}

fn yes() -> bool {
    true
}

fn default_ttl() -> i32 {
    30
}

/// How users reach the leader: the label that its pod carries, and the Service that selects it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.leaderValue != self.standbyValue").message("spec.routing.leaderValue and standbyValue must differ"))]
#[x_kube(validation = Rule::new("!has(self.labelKey) || !self.labelKey.startsWith('componentlease.io/') || !self.labelKey.endsWith('_role')").message("spec.routing.labelKey must not be componentlease.io/<name>_role: such a label leads to the primary of a LeaseDatabase"))]
pub struct Routing {
    /// The label that tells the leader from the standbys. Defaults to componentlease.io/ and the name
    /// of this resource. Another prefix must be allowed when the controller is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_key")]
    pub label_key: Option<String>,

    /// The label's value on the leader's pod.
    #[serde(default = "leader_value")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL_VALUE))]
    pub leader_value: String,

    /// The label's value on every other candidate.
    #[serde(default = "standby_value")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL_VALUE))]
    pub standby_value: String,

    /// What happens to the label while the database does not answer: Keep leaves it where it is,
    /// Remove takes it away once the last known lease has run out.
    #[serde(default)]
    pub on_database_unreachable: OnDatabaseUnreachable,

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
            on_database_unreachable: OnDatabaseUnreachable::default(),
            service: None,
        }
    }
}

/// What happens to the label while the database does not answer.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum OnDatabaseUnreachable {
    #[default]
    Keep,
    Remove,
}
