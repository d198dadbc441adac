//! What a decision says.

use std::collections::BTreeMap;

use super::super::conditions::EventReason;
use super::super::ended::Suspicion;
use super::super::observed::DesiredService;
use super::super::pod::Pod;
use super::holder::Rejection;
use super::lead::Lead;
use crate::election::timing::Moment;

/// A patch of one pod's metadata: `None` removes a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodChange {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

/// What a managed Service is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceWrite {
    pub wanted: DesiredService,
    pub selector: BTreeMap<String, String>,
    /// All of them.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Of the Service that was seen.
    pub resource_version: String,
}

/// What to do with a Service. None of it is done to another Service than the one that was seen, or to a newer state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceChange {
    Create(ServiceWrite),
    Update(ServiceWrite),
    /// It is not the resource's any more.
    Release {
        name: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        resource_version: String,
    },
    Delete {
        name: String,
        uid: String,
        resource_version: String,
    },
}

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub reason: EventReason,
    pub warning: bool,
    pub note: String,
}

/// The outcome of the decision, in the order in which it is carried out.
#[derive(Debug, Clone)]
pub struct Plan {
    pub lead: Lead,
    /// The pod that the holder is; `Err` when there is a holder and it is no pod that we may route to.
    pub leader: Option<Result<Pod, Rejection>>,
    /// The version of the term for everything outward. A foreign program that raises the version at
    /// each renewal has not begun another term.
    pub version: i64,
    /// A new term began since the status was written.
    pub transition: bool,
    /// Whether participants may be told what the resource asks for: not while the holder says that it runs in
    /// another namespace.
    pub intend: bool,
    pub candidates: usize,
    /// That the holder seems to have ended: a fresh look can prove it.
    pub ended: Option<Suspicion>,
    pub strip: Vec<PodChange>,
    pub stamp: Vec<PodChange>,
    pub label: Option<PodChange>,
    /// In this order.
    pub services: Vec<ServiceChange>,
    /// Pods on which somebody else put the leader label.
    pub foreign: Vec<String>,
    pub events: Vec<Event>,
    /// When to decide again if nothing happens before.
    pub next: Option<Moment>,
}

impl Plan {
    /// Whether there is a leader whose pod is to carry the label.
    #[must_use]
    pub fn leads_to_a_pod(&self) -> bool {
        matches!((&self.lead, &self.leader), (Lead::Held(..), Some(Ok(_))))
    }
}

/// What to do about one resource.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Another resource was first: touch nothing.
    Conflict(String),
    /// A pod carries a later version than the row that we saw: somebody knows more than we do.
    /// Look at the row again before anything is touched.
    LookAgain,
    Act(Box<Plan>),
}
