//! What an operator asks of a `ComponentLease`: a verb, once.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::StatusCondition;
use crate::api::schema;
use crate::election::Verb;

/// Asks the leader of a ComponentLease to make way, once. The spec cannot be changed. The controller
/// plans the request against the term that it sees, writes it into the database, follows it to its end
/// and says in the status what became of it. RBAC on leaserequests says who may move leaders.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[kube(
    group = "componentlease.io",
    version = "v1alpha1",
    kind = "LeaseRequest",
    plural = "leaserequests",
    singular = "leaserequest",
    shortname = "lreq",
    category = "component-lease",
    namespaced,
    status = "LeaseRequestStatus",
    derive = "PartialEq",
    selectable = ".spec.lease",
    doc = "A request of an operator to the leader of a ComponentLease: make way, for a target or for anybody. It is carried out once, in the term in which it was accepted, or not at all.",
    validation = Rule::new("self.spec == oldSelf.spec").message("the spec of a LeaseRequest cannot be changed: delete it, which takes the request back, and make another one"),
    printcolumn(name = "Lease", type_ = "string", json_path = ".spec.lease", description = "the ComponentLease"),
    printcolumn(name = "Verb", type_ = "string", json_path = ".spec.verb", description = "what is asked for"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target", description = "who is to lead next"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "what became of it"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "why it is in this state"),
    printcolumn(name = "Seconds", type_ = "number", json_path = ".status.seconds", description = "from its acceptance to its outcome"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader", priority = 1, description = "who led when the outcome was known"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version", priority = 1, description = "the version of that term"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy", priority = 1, description = "who asked"),
    printcolumn(name = "Why", type_ = "string", json_path = ".spec.reason", priority = 1, description = "why, in their words")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.target) || !(self.verb in ['Promote', 'PromoteNow'])").message("spec.target is required for Promote and PromoteNow: name the pod or the instance that is to lead"))]
#[x_kube(validation = Rule::new("!has(self.target) || self.verb != 'StepDown'").message("spec.target is not allowed for StepDown, which names nobody: use Switchover"))]
#[x_kube(validation = Rule::new("self.verb != 'PromoteNow' || (has(self.reason) && self.reason.matches('[^ ]'))").message("spec.reason is required for PromoteNow: two may lead for up to one TTL"))]
#[x_kube(validation = Rule::new("!has(self.awaySeconds) || self.verb == 'StepDown'").message("spec.awaySeconds is for StepDown alone"))]
pub struct LeaseRequestSpec {
    /// The ComponentLease, by its name; of the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub lease: String,

    /// What is asked for. Switchover: the leader stops its work and releases the lease; the target has a
    /// head start of a third of the TTL, without a target anybody takes it. StepDown: the leader releases the
    /// lease and stays away for a while if another one could lead. Promote: as Switchover, and if the
    /// leader does not answer, the target is the first to take the lease when its term has run out.
    /// PromoteNow: the target takes the lease at once; two may lead for up to one TTL, told apart by their
    /// versions.
    pub verb: RequestVerb,

    /// Who is to lead next: a pod, or an instance as status.instances of the ComponentLease lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = schema::VISIBLE))]
    pub target: Option<String>,

    /// The request is refused unless this pod or instance leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expect_holder: Option<String>,

    /// The request is refused unless the term has this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub expect_version: Option<i64>,

    /// Why, in one line: it is shown wherever the request is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = schema::ONE_LINE))]
    pub reason: Option<String>,

    /// Who asks: the name of the user who makes this object, as `kubectl auth whoami` prints it. The chart's
    /// admission policy refuses another one; status.requesterVerified says whether there is such a policy.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::ONE_LINE))]
    pub requested_by: String,

    /// The id (status.id) of a pending request in whose place this one is put. Without it, a request is refused
    /// while another one is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = schema::VISIBLE))]
    pub replaces: Option<String>,

    /// For how long a leader that steps down stays away, in seconds; 60 if nothing is said. It stays away
    /// only if another healthy participant is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub away_seconds: Option<i32>,

    /// Only say what would happen. Nothing is asked, and the state becomes Planned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,

    /// The object is deleted so many seconds after it has finished, and not before 5 s.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub ttl_seconds_after_finished: i32,
}

fn an_hour() -> i32 {
    3600
}

/// What is asked for.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum RequestVerb {
    Switchover,
    StepDown,
    Promote,
    PromoteNow,
}

impl From<RequestVerb> for Verb {
    fn from(verb: RequestVerb) -> Self {
        match verb {
            RequestVerb::Switchover => Self::Switchover,
            RequestVerb::StepDown => Self::StepDown,
            RequestVerb::Promote => Self::Promote,
            RequestVerb::PromoteNow => Self::PromoteNow,
        }
    }
}

/// What became of a request.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRequestStatus {
    /// Pending: not asked yet. Accepted: written into the database, and its outcome is not known yet. The others are
    /// final. CarriedOut: the lease changed hands as asked. Refused: it was not asked. Void: it was asked, or
    /// came too late, and the lease did not change hands as asked. Planned: a dry run that was not refused.
    pub state: RequestState,

    /// Why, in one word.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub reason: String,

    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,

    /// Under which id the request stands in the database: the UID of this object, and a part of that of the
    /// ComponentLease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,

    /// Whether the controller was installed with the admission policy that checks spec.requestedBy. If not, it is
    /// what somebody wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_verified: Option<bool>,

    /// What happens, or would happen: one sentence for each step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub steps: Vec<String>,

    /// The controller gives up after so many seconds, and takes the request back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_seconds: Option<i64>,

    /// When it was written into the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub accepted_at: Option<String>,

    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: Option<String>,

    /// From its acceptance to its outcome, to the millisecond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,

    /// Who led when the outcome was known; missing where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub leader: Option<String>,

    /// The version of the row when the outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,

    /// What the request was planned against. A controller that was restarted goes on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedTerm>,

    /// Finished: the state is final. `kubectl wait --for=condition=Finished` waits for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatusCondition>,
}

/// How far a request is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum RequestState {
    #[default]
    Pending,
    Accepted,
    CarriedOut,
    Refused,
    Void,
    Planned,
}

impl RequestState {
    /// Nothing becomes of it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Accepted)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Accepted => "Accepted",
            Self::CarriedOut => "CarriedOut",
            Self::Refused => "Refused",
            Self::Void => "Void",
            Self::Planned => "Planned",
        }
    }
}

/// The term that a request is about: in any other term it is void.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedTerm {
    /// The class whose controller carries the request out.
    #[schemars(length(max = 63))]
    pub class_name: String,
    /// The UUID of the database that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub database_uuid: Option<String>,
    /// The row's key.
    #[schemars(length(max = 253))]
    pub component: String,
    /// The version of the term.
    pub version: i64,
    /// Who led in it; missing where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub leader: Option<String>,
    /// The instance that spec.target means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub target: Option<String>,
    /// For how long a leader that steps down stays away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_seconds: Option<i64>,
}
