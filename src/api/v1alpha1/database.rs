//! A replicated database whose members elect their primary: what the lease and the members say, and who is routed to.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::selector::PodSelector;
use super::service::RoutedService;
use super::status::StatusCondition;
use crate::api::schema;

/// A replicated database whose members run `component-lease db run`. They elect their primary by a Lease
/// (coordination.k8s.io) of this namespace; no controller is needed for that. This resource names the Lease,
/// the members and their pods. The controller shows what the Lease and the members say, and labels the
/// primary's pod, so that a Service reaches it and only it. It never writes the Lease.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "componentlease.io",
    version = "v1alpha1",
    kind = "LeaseDatabase",
    plural = "leasedatabases",
    singular = "leasedatabase",
    shortname = "leasedb",
    category = "component-lease",
    namespaced,
    status = "LeaseDatabaseStatus",
    derive = "PartialEq",
    selectable = ".spec.lease",
    doc = "A replicated database whose members elect their primary by a Lease of this namespace. The controller shows what the Lease and the members say, and labels the primary's pod, so that a Service reaches it and only it.",
    validation = Rule::new("size(self.metadata.name) <= 50").message("metadata.name may have 50 characters at most, because it becomes part of label and annotation keys"),
    validation = Rule::new("self.spec.className == oldSelf.spec.className").message("spec.className cannot be changed: another class is another controller; make another resource instead"),
    validation = Rule::new("has(self.spec.lease) == has(oldSelf.spec.lease) && (!has(self.spec.lease) || self.spec.lease == oldSelf.spec.lease)").message("spec.lease cannot be changed, added or removed: versions of another Lease may be lower; make another resource instead"),
    validation = Rule::new("self.spec.members.all(member, size(has(self.spec.lease) ? self.spec.lease : self.metadata.name) + 1 + size(member) <= 253)").message("the name of the Lease, a hyphen and a member may have 253 characters together: what a member says is in a Lease of that name"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary", description = "the member that acknowledges writes"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version", description = "the fencing token of the term"),
    printcolumn(name = "Members", type_ = "string", json_path = ".status.membersReady", description = "members whose pods are ready, of those that are declared"),
    printcolumn(name = "Failover", type_ = "string", json_path = ".status.conditions[?(@.type==\"FailoverReady\")].status", description = "whether another member would take over without loss if the primary died now"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "whether users reach a primary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1, description = "why Ready is as it is"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.holder", priority = 1, description = "who holds the Lease"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.conditions[?(@.type==\"PrimaryElected\")].lastTransitionTime", priority = 1, description = "when the present primary, or the lack of one, was first seen")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(!has(self.selector.matchLabels) || self.selector.matchLabels.all(k, !k.startsWith('componentlease.io/') || !k.endsWith('_role'))) && (!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, !e.key.startsWith('componentlease.io/') || !e.key.endsWith('_role')))").message("spec.selector must not use a label componentlease.io/<name>_role: the controller moves it, and members must stay members"))]
#[x_kube(validation = Rule::new("!has(self.routing) || !has(self.routing.writer) || !has(self.routing.readers) || self.routing.writer.name != self.routing.readers.name").message("spec.routing.writer and readers need Services of different names"))]
pub struct LeaseDatabaseSpec {
    /// Which controller looks after this resource. A controller leaves resources of other classes alone.
    /// Cannot be changed.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub class_name: String,

    /// What kind of server the members run.
    #[serde(default)]
    pub engine: DatabaseEngine,

    /// The Lease by which the members elect, as `db run --cluster` names it; of this namespace. Defaults to the name
    /// of this resource. Cannot be changed, added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub lease: Option<String>,

    /// The members, as `db run --members` names them. The pod of a member has its name.
    #[schemars(
        length(min = 2, max = 16),
        inner(length(min = 1, max = 63), regex(pattern = schema::DNS_SUBDOMAIN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub members: Vec<String>,

    /// The pods of the members, in this namespace. A holder of the Lease outside of them is never routed to.
    pub selector: PodSelector,

    /// How users reach the database.
    #[serde(default)]
    pub routing: DatabaseRouting,
}

fn default_class() -> String {
    schema::DEFAULT_CLASS.to_owned()
}

/// What kind of server the members run.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum DatabaseEngine {
    #[default]
    #[serde(rename = "PostgreSQL")]
    PostgreSql,
}

/// How users reach the database. Each pod of a member carries the label componentlease.io/<metadata.name>_role: primary,
/// replica (it follows the primary and acknowledges commits) or standby.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.readers) || self.readers.policy == 'Manage'").message("spec.routing.readers.policy must be Manage: a Service of your own selects the label with the value replica"))]
pub struct DatabaseRouting {
    /// The Service that reaches the primary, by the label's value primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<RoutedService>,

    /// The Service that reaches the members that follow the primary and acknowledge commits, by the label's value replica.
    /// What they show may be some milliseconds old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers: Option<RoutedService>,
}

/// What the Lease and the members say.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseDatabaseStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The member that is the primary of the present term: the record beside the Lease is its own. Missing while a
    /// member is being promoted, and while nobody holds the Lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub primary: Option<String>,

    /// The version of the term: the database's fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,

    /// Who holds the Lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub holder: Option<String>,

    /// Members whose pods are ready, of those that are declared: 2/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub members_ready: Option<String>,

    /// What would happen if the primary died now. Missing while there is no primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverStatus>,

    /// By whom commits are acknowledged, as the record beside the Lease says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordStatus>,

    /// The declared members, and others of the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<MemberStatus>,

    /// How the present primary followed the one before, as this controller saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,

    /// What the controller has to remember. Nothing else should read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<DatabaseInternal>,

    /// Good while True: Ready, PrimaryElected, Routed, Replicating, FailoverReady. Bad while True: Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatusCondition>,
}

/// What would happen if the primary died now.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// Whether another member would be promoted and acknowledge writes, with or without loss. The condition
    /// FailoverReady says why not.
    pub ready: bool,
    /// One of these would be: the one with the most data then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub would_promote: Vec<String>,
    /// What would be lost. Nothing: every acknowledged commit is kept. Unreplicated: what the primary has
    /// acknowledged and no other member has yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_lose: Option<WouldLose>,
}

/// What a failover would lose.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum WouldLose {
    Nothing,
    Unreplicated,
}

/// By whom commits are acknowledged: by any so many of the voters, beside the primary.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordStatus {
    /// Who wrote the record.
    #[schemars(length(max = 253))]
    pub primary: String,
    /// Under which version.
    pub version: i64,
    /// Who may acknowledge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub voters: Vec<String>,
    /// How many of them must.
    pub acks: i64,
}

/// One member.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// The member.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Primary: the record is its own. Promoting: it was promoted, and acknowledges nothing yet. Replica: it follows
    /// and acknowledges commits. Standby: none of these.
    pub role: MemberRole,
    /// Whether its pod is ready: it is the primary, or follows one.
    pub ready: bool,
    /// The version at which it is sealed, as it said last: it acknowledges nothing to a primary of an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<i64>,
}

/// What a member is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum MemberRole {
    Primary,
    Promoting,
    Replica,
    Standby,
}

/// How one primary followed another.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFailover {
    /// Who was the primary.
    #[schemars(length(max = 253))]
    pub from: String,
    /// Who has been since.
    #[schemars(length(max = 253))]
    pub to: String,
    /// The version of the term that began.
    pub version: i64,
    /// When the Lease was taken for it, by the clock of who took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// From the last sign of life of the term before (its last renewal, or its release) to the record of the new
    /// primary, as this controller saw them. Missing where it did not see both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What the controller has to remember of a LeaseDatabase.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseInternal {
    /// The pod that carries the label's value primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_name: Option<String>,
    /// Its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub pod_uid: Option<String>,
    /// Who was the primary last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_primary: Option<String>,
}
