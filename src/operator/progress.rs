//! What became of a request.

use std::fmt;

use super::situation::{Leader, Situation};
use crate::election::{LeaseRow, Request};

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its leader has not made way yet.
    Waiting,
    /// The lease is free, and nobody has taken it yet.
    Free,
    /// It is over.
    Ended(Outcome),
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Outcome {
    /// The target leads. If no target was named, another participant than before leads.
    CarriedOut { leader: String, version: i64 },
    /// A new term began, but not the target's.
    AnotherLeads { leader: String, version: i64 },
    /// A new term began, and it is the old leader's again.
    SameLeads { leader: String, version: i64 },
    /// Another request stands in its place; its term has not ended.
    Replaced { by: String },
    /// It was taken back; its term has not ended.
    Withdrawn,
    /// The row is gone, or its version went back: the database is not the one that was asked.
    Lost,
}

impl Outcome {
    /// One word for it: the reason in a status, and in machine-readable output.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CarriedOut { .. } => "CarriedOut",
            Self::AnotherLeads { .. } => "AnotherLeads",
            Self::SameLeads { .. } => "SameLeads",
            Self::Replaced { .. } => "Replaced",
            Self::Withdrawn => "Withdrawn",
            Self::Lost => "RowLost",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CarriedOut { leader, version } => write!(f, "{leader} leads with version {version}"),
            Self::AnotherLeads { leader, version } if leader.is_empty() => {
                write!(f, "version {version} followed, and was given back already")
            }
            Self::AnotherLeads { leader, version } => {
                write!(
                    f,
                    "{leader} took the lease instead, with version {version}: the target did not within its head start"
                )
            }
            Self::SameLeads { leader, version } => {
                write!(f, "{leader} took the lease again, with version {version}: nobody else did")
            }
            Self::Replaced { by } => write!(f, "the request {by} stands in its place"),
            Self::Withdrawn => f.write_str("somebody took the request back"),
            Self::Lost => f.write_str(
                "the row is gone or older than the request: the database was restored or exchanged",
            ),
        }
    }
}

/// What became of a request; `from` led when it was asked (empty: nobody).
#[must_use]
pub fn progress(situation: &Situation<'_>, request: &Request, from: &str) -> Progress {
    let Some(row) = situation.row else { return Progress::Ended(Outcome::Lost) };
    if row.version > request.version {
        return Progress::Ended(after(row, request, from));
    }
    if row.version < request.version {
        return Progress::Ended(Outcome::Lost);
    }
    match situation.asked.and_then(|asked| asked.request.as_ref()) {
        None => Progress::Ended(Outcome::Withdrawn),
        Some(posted) if posted.request.id != request.id => {
            Progress::Ended(Outcome::Replaced { by: posted.request.id.clone() })
        }
        Some(_) if situation.leader() == Leader::Nobody => Progress::Free,
        Some(_) => Progress::Waiting,
    }
}

fn after(row: &LeaseRow, request: &Request, from: &str) -> Outcome {
    let (leader, version) = (row.holder.clone(), row.version);
    match &request.target {
        Some(target) if target.as_str() == leader => Outcome::CarriedOut { leader, version },
        // Without a holder it is not known who led meanwhile.
        None if leader != from && !leader.is_empty() => Outcome::CarriedOut { leader, version },
        _ if leader == from && !from.is_empty() => Outcome::SameLeads { leader, version },
        _ => Outcome::AnotherLeads { leader, version },
    }
}
