//! Why a wish cannot be asked.

use std::time::Duration;

use super::situation::millis;
use crate::store::Posted;

/// Why a wish cannot be asked. Each names its remedy. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    #[error("{component} has no row: nobody has ever led it; check the name, or start a participant first")]
    NeverLed { component: String },
    #[error("nobody leads {component}, so nobody can make way; promote names who is to lead")]
    NobodyLeads { component: String },
    #[error(
        "{found} holds the lease, not {expected}; look again, then expect the new one or nobody in particular"
    )]
    HolderIsAnother { expected: String, found: String },
    #[error("the lease has version {found}, not {expected}; look again, then expect the new one or none")]
    VersionIsAnother { expected: i64, found: i64 },
    #[error(
        "the lease changed while you asked: version {version} is over, and {leader} leads now; look again and ask anew if it is still needed"
    )]
    Changed { version: i64, leader: String },
    #[error("no live participant is called {target}; alive: {}", listed(alive))]
    UnknownTarget { target: String, alive: Vec<String> },
    #[error("{target} may be any of {}; give the whole instance id", listed(matches))]
    AmbiguousTarget { target: String, matches: Vec<String> },
    #[error("{target} leads already")]
    TargetLeads { target: String },
    #[error(
        "{target} says that it is not healthy, so it would not take the lease; heal it or name another target"
    )]
    TargetUnhealthy { target: String },
    #[error("{target} has priority 0, so it never leads; name another target")]
    TargetNeverLeads { target: String },
    #[error("promote needs to know whom: name a target")]
    TargetRequired,
    #[error("step-down takes no target; ask for a switchover to {target}")]
    TargetNotAllowed { target: String },
    #[error("a promotion at once may let two lead for up to one ttl, so it needs a reason")]
    ReasonRequired,
    #[error(
        "nobody else is alive and healthy, so nobody could lead instead of {leader}; start a participant, or ask for a step-down to end the term all the same"
    )]
    NoCandidate { leader: String },
    #[error("the request {id} ({verb}, by {by}, {} s ago) is still pending; wait for it, or replace it by its id", ago.as_secs())]
    Pending { id: String, verb: &'static str, by: String, ago: Duration },
    #[error("the id {id} was already used for another request; take another id")]
    IdUsed { id: String },
    #[error("no request {id} is pending, so there is nothing to replace; look again")]
    NothingToReplace { id: String },
    #[error("{component} is paused{}; resume it first", by_whom(by, reason))]
    Paused { component: String, by: String, reason: String },
    #[error(
        "{holder} gives no sign of life in component_instance, so it is a program with its own SQL or has ended: it cannot be asked to make way; a promotion lets its target take the lease once it lapses, a promotion at once lets it take it now"
    )]
    HolderCannotHear { holder: String },
}

impl Refusal {
    /// One word for it: the reason in a status, and in machine-readable output.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NeverLed { .. } => "NeverLed",
            Self::NobodyLeads { .. } => "NobodyLeads",
            Self::HolderIsAnother { .. } => "HolderIsAnother",
            Self::VersionIsAnother { .. } => "VersionIsAnother",
            Self::Changed { .. } => "LeaseChanged",
            Self::UnknownTarget { .. } => "UnknownTarget",
            Self::AmbiguousTarget { .. } => "AmbiguousTarget",
            Self::TargetLeads { .. } => "TargetLeads",
            Self::TargetUnhealthy { .. } => "TargetUnhealthy",
            Self::TargetNeverLeads { .. } => "TargetNeverLeads",
            Self::TargetRequired => "TargetRequired",
            Self::TargetNotAllowed { .. } => "TargetNotAllowed",
            Self::ReasonRequired => "ReasonRequired",
            Self::NoCandidate { .. } => "NoCandidate",
            Self::Pending { .. } => "AnotherRequestPending",
            Self::IdUsed { .. } => "IdUsed",
            Self::NothingToReplace { .. } => "NothingToReplace",
            Self::Paused { .. } => "Paused",
            Self::HolderCannotHear { .. } => "HolderCannotHear",
        }
    }

    pub(super) fn pending(posted: &Posted, database_now: i64) -> Self {
        Self::Pending {
            id: posted.request.id.clone(),
            verb: posted.request.verb.as_str(),
            by: posted.said.by().to_owned(),
            ago: millis(database_now.saturating_sub(posted.at)),
        }
    }
}

/// So many names fit on a line that somebody reads.
const SHOWN: usize = 10;

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "nobody".to_owned();
    }
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn by_whom(by: &str, reason: &str) -> String {
    match (by, reason) {
        ("", "") => String::new(),
        (by, "") => format!(" by {by}"),
        ("", reason) => format!(" ({reason})"),
        (by, reason) => format!(" by {by} ({reason})"),
    }
}
