//! Whether what an operator asks of a database makes sense now. Nothing has stopped when it is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use thiserror::Error;

use super::promotion::Record;

/// A member that lacks more of the primary's log than this is not handed the lease to: all of that has to be sent while nobody
/// acknowledges writes.
pub const MOST_LAG: u64 = 16 << 20;

/// How far the primary's log is, and how much of it others have on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log<M: Ord> {
    /// Where it ends.
    pub end: u64,
    /// Up to where those have it that receive it now.
    pub has: BTreeMap<M, u64>,
}

/// A cluster at one moment.
#[derive(Debug, Clone)]
pub struct Now<M: Ord> {
    /// Of the lease.
    pub version: i64,
    /// Who holds the lease.
    pub holder: Option<M>,
    /// What stands beside the lease, and the version under which it was written.
    pub record: Option<(Record<M>, i64)>,
    pub paused: bool,
    /// The primary's log, as the recorded primary said last.
    pub log: Option<Log<M>>,
    /// Members of which it is known how they take part, so that the lease can be left to them.
    pub reachable: BTreeSet<M>,
}

/// Why nothing was asked. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    #[error("there is no record of a primary yet: the first one is elected when all declared members run")]
    NoRecord,
    #[error(
        "no primary acknowledges writes now; db status says who holds the lease and what stands in the way"
    )]
    NoPrimary,
    #[error("{found} is the primary, not {expected}; look again, then expect that one or none")]
    PrimaryIsAnother { expected: String, found: String },
    #[error("the lease has version {found}, not {expected}; look again, then expect that one or none")]
    VersionIsAnother { expected: i64, found: i64 },
    #[error("the election is paused, so nobody would take over; db resume first")]
    Paused,
    #[error("there is no member {member}; the members are {members}")]
    UnknownMember { member: String, members: String },
    #[error("{member} is the primary already")]
    TargetLeads { member: String },
    #[error(
        "{member} could not be promoted now: {why}; wait until db status shows it among those that acknowledge, or name another"
    )]
    NotReady { member: String, why: NotReady },
    #[error("no other member could be promoted now: {}", listed(members))]
    NoCandidate { members: Vec<(String, NotReady)> },
    #[error("{member} is the primary; db switchover first, and it is a standby")]
    IsPrimary { member: String },
    #[error(
        "without {member} only {left} members would be left to acknowledge writes, and {acks} must; bring another one back first"
    )]
    LastVoter { member: String, left: usize, acks: usize },
}

/// Why a member could not be promoted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// The record does not have it among those that acknowledge.
    NotAVoter,
    /// It receives nothing.
    NotReceiving,
    /// So many bytes of the log are not on its disk.
    Lags(u64),
    /// It has not said how it takes part.
    Unreachable,
}

impl Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAVoter => f.write_str("it is not among those that acknowledge"),
            Self::NotReceiving => f.write_str("it receives nothing from the primary"),
            Self::Lags(bytes) => {
                write!(f, "it lacks {bytes} bytes of the log, {MOST_LAG} at most may be missing")
            }
            Self::Unreachable => f.write_str("it has not said how it takes part"),
        }
    }
}

impl Refusal {
    /// One word for it, for scripts.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRecord => "NoRecord",
            Self::NoPrimary => "NoPrimary",
            Self::PrimaryIsAnother { .. } => "PrimaryIsAnother",
            Self::VersionIsAnother { .. } => "VersionIsAnother",
            Self::Paused => "Paused",
            Self::UnknownMember { .. } => "UnknownMember",
            Self::TargetLeads { .. } => "TargetLeads",
            Self::NotReady { why: NotReady::NotAVoter, .. } => "NotAVoter",
            Self::NotReady { why: NotReady::NotReceiving, .. } => "NotReceiving",
            Self::NotReady { why: NotReady::Lags(_), .. } => "LagsBehind",
            Self::NotReady { why: NotReady::Unreachable, .. } => "Unreachable",
            Self::NoCandidate { .. } => "NoCandidate",
            Self::IsPrimary { .. } => "IsPrimary",
            Self::LastVoter { .. } => "LastVoter",
        }
    }
}

fn listed(members: &[(String, NotReady)]) -> String {
    let each: Vec<String> = members.iter().map(|(member, why)| format!("{member}: {why}")).collect();
    if each.is_empty() { "the cluster has no other member".to_owned() } else { each.join("; ") }
}

fn names<'a, M: Display + 'a>(members: impl IntoIterator<Item = &'a M>) -> String {
    let names: Vec<String> = members.into_iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl<M: Ord + Clone + Display> Now<M> {
    /// The record of a primary that acknowledges writes: of the present term.
    fn open(&self) -> Result<&Record<M>, Refusal> {
        let (record, version) = self.record.as_ref().ok_or(Refusal::NoRecord)?;
        if *version == self.version && self.holder.as_ref() == Some(&record.primary) {
            Ok(record)
        } else {
            Err(Refusal::NoPrimary)
        }
    }

    /// What an operator believes of the cluster.
    ///
    /// # Errors
    /// When it is otherwise.
    pub fn expect(&self, primary: Option<&M>, version: Option<i64>) -> Result<(), Refusal> {
        if let Some(expected) = primary.filter(|expected| self.holder.as_ref() != Some(expected)) {
            let found = self.holder.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
            return Err(Refusal::PrimaryIsAnother { expected: expected.to_string(), found });
        }
        match version {
            Some(expected) if expected != self.version => {
                Err(Refusal::VersionIsAnother { expected, found: self.version })
            }
            _ => Ok(()),
        }
    }

    fn ready(&self, member: &M, record: &Record<M>) -> Result<u64, NotReady> {
        if !record.quorum.voters().contains(member) {
            return Err(NotReady::NotAVoter);
        }
        let log = self.log.as_ref().ok_or(NotReady::NotReceiving)?;
        let has = *log.has.get(member).ok_or(NotReady::NotReceiving)?;
        let lag = log.end.saturating_sub(has);
        if lag > MOST_LAG {
            return Err(NotReady::Lags(lag));
        }
        if self.reachable.contains(member) { Ok(has) } else { Err(NotReady::Unreachable) }
    }

    /// Who would be the primary after a switchover to this member, or to the one that has most.
    ///
    /// # Errors
    /// When that one, or nobody, could be promoted now.
    pub fn switchover(&self, to: Option<&M>) -> Result<M, Refusal> {
        if let (Some(to), Some((record, _))) = (to, &self.record) {
            known(to, record)?;
        }
        if self.paused {
            return Err(Refusal::Paused);
        }
        let record = self.open()?;
        if let Some(to) = to {
            if *to == record.primary {
                return Err(Refusal::TargetLeads { member: to.to_string() });
            }
            let why = self.ready(to, record);
            return why.map(|_| to.clone()).map_err(|why| Refusal::NotReady { member: to.to_string(), why });
        }
        let others = record.members.iter().filter(|member| **member != record.primary);
        let judged: Vec<(&M, Result<u64, NotReady>)> =
            others.map(|member| (member, self.ready(member, record))).collect();
        let best = judged.iter().filter_map(|(member, ready)| Some((ready.ok()?, *member))).max();
        best.map(|(_, member)| member.clone()).ok_or_else(|| Refusal::NoCandidate {
            members: judged
                .iter()
                .filter_map(|(member, ready)| Some((member.to_string(), ready.err()?)))
                .collect(),
        })
    }

    /// Whether the data of this member may be copied anew from the primary.
    ///
    /// # Errors
    /// When it is the primary, or when too few would be left that acknowledge.
    pub fn reinit(&self, member: &M) -> Result<(), Refusal> {
        if let Some((record, _)) = &self.record {
            known(member, record)?;
        }
        if self.holder.as_ref() == Some(member) {
            return Err(Refusal::IsPrimary { member: member.to_string() });
        }
        let record = self.open()?;
        let (voters, acks) = (record.quorum.voters(), record.quorum.acks());
        let left = voters.iter().filter(|voter| *voter != member).count();
        if left < acks {
            return Err(Refusal::LastVoter { member: member.to_string(), left, acks });
        }
        Ok(())
    }

    /// The primary whose server is to stop. Where nobody holds the lease it is the recorded one: that may go on without the lease.
    ///
    /// # Errors
    /// When there is no record, or when a member holds the lease that the record does not know: nobody would see its fence, nor lift it.
    pub fn fence(&self) -> Result<M, Refusal> {
        let (record, _) = self.record.as_ref().ok_or(Refusal::NoRecord)?;
        let member = self.holder.as_ref().unwrap_or(&record.primary);
        known(member, record).map(|()| member.clone())
    }
}

fn known<M: Ord + Clone + Display>(member: &M, record: &Record<M>) -> Result<(), Refusal> {
    if record.members.contains(member) {
        return Ok(());
    }
    Err(Refusal::UnknownMember { member: member.to_string(), members: names(&record.members) })
}
