//! What members write beside the lease, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::wishes::Answer;
use crate::database::{Leader, Member};
use crate::primary::verbs::Log;
use crate::primary::{self, Position, Quorum, Report};

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Says {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<Sealed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leads: Option<Leads>,
    /// As whom it takes part now: the holder id of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<String>,
    /// Of a primary, how far its log is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<SaidLog>,
    /// To the last wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wish_answer: Option<Answer>,
    /// To the last request for which it did not make way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_answer: Option<Answer>,
}

/// How far a primary's log is, and how much of it others have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SaidLog {
    /// Of its term.
    pub(super) version: i64,
    end: u64,
    has: BTreeMap<Member, u64>,
}

impl SaidLog {
    pub(super) fn new(version: i64, log: &Log<Member>) -> Self {
        Self { version, end: log.end, has: log.has.clone() }
    }

    pub(super) fn log(&self) -> Log<Member> {
        Log { end: self.end, has: self.has.clone() }
    }
}

/// At which version it is sealed, and where its data ended then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) version: i64,
    /// As text: it has 64 bits.
    pub(super) system: String,
    pub(super) term: i64,
    pub(super) end: u64,
}

/// Its server was promoted under this version, and can be followed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leads {
    pub(super) version: i64,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Says {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for what is no report: it counts as none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn report(&self) -> Option<Report> {
        let sealed = self.sealed.as_ref()?;
        Some(Report {
            version: sealed.version,
            system: sealed.system.parse().ok()?,
            position: Position { term: sealed.term, end: sealed.end },
        })
    }

    /// Where to follow it under this version.
    pub(super) fn leader(&self, member: &Member, version: i64) -> Option<Leader> {
        let leads = self.leads.as_ref().filter(|leads| leads.version == version)?;
        Some(Leader { member: member.clone(), version, host: leads.host.clone(), port: leads.port })
    }
}

impl From<&Report> for Sealed {
    fn from(report: &Report) -> Self {
        Self {
            version: report.version,
            system: report.system.to_string(),
            term: report.position.term,
            end: report.position.end,
        }
    }
}

/// The record beside the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) primary: Member,
    /// Under which it was written.
    pub(super) version: i64,
    voters: BTreeSet<Member>,
    acks: usize,
    asynchronous: bool,
    system: String,
    members: BTreeSet<Member>,
}

impl Record {
    pub(super) fn new(record: &primary::Record<Member>, version: i64) -> Self {
        Self {
            primary: record.primary.clone(),
            version,
            voters: record.quorum.voters().clone(),
            acks: record.quorum.acks(),
            asynchronous: record.asynchronous,
            system: record.system.to_string(),
            members: record.members.clone(),
        }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Says why the text is no record where it cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        record.rule().map(|_| record).ok_or_else(|| "its numbers cannot be".to_owned())
    }

    /// As the rules know it.
    pub(super) fn rule(&self) -> Option<primary::Record<Member>> {
        Some(primary::Record {
            primary: self.primary.clone(),
            quorum: Quorum::any(self.acks, self.voters.clone())?,
            asynchronous: self.asynchronous,
            system: self.system.parse().ok()?,
            members: self.members.clone(),
        })
    }
}
