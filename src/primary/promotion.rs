//! Who may be promoted.

use std::collections::{BTreeMap, BTreeSet};

use super::quorum::Quorum;

/// Where the data of a member ends. **The term comes before the length**: a server that went on alone under an
/// older term may have written more than the one that everybody followed.
///
/// The term is that of the last primary of which the data has a row, which each primary writes before anything else. What
/// a server's control file says of its timeline is not that: on a standby that lags it is behind its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The version under which the last primary wrote whose row is in the data; 0 when there was none.
    pub term: i64,
    /// Where the log ends that is on disk, in the units of the server (bytes for PostgreSQL).
    pub end: u64,
}

/// What a member says once it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Report {
    /// The version that it is sealed at.
    pub version: i64,
    /// Which data it has: the server's own identifier of it (PostgreSQL: system identifier).
    pub system: u64,
    /// Where it ends.
    pub position: Position,
}

/// What stands beside the lease: where acknowledged commits must be looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record<M: Ord> {
    /// Who wrote it.
    pub primary: M,
    /// By whom it lets commits be acknowledged.
    pub quorum: Quorum<M>,
    /// Whether its users accept that commits are lost which no other member has.
    pub asynchronous: bool,
    /// The data that it is about.
    pub system: u64,
    /// All members that were declared.
    pub members: BTreeSet<M>,
}

/// Why a member is not promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked<M> {
    /// It is not sealed at the version of its own term, or not one of the declared members.
    NotSealed,
    /// It has other data than the record is about.
    OtherData,
    /// One of these has more; the lease should go to it.
    Behind {
        /// Who has most.
        best: M,
    },
    /// Too few members are sealed to be sure that all acknowledged commits are among what they have.
    TooFew {
        /// Any of these might help.
        missing: BTreeSet<M>,
        /// So many of them are enough.
        needed: usize,
    },
}

/// Whether `candidate`, which holds the lease at `version`, may be promoted: the sealed members are so many that they have all
/// that was acknowledged and that an older primary can acknowledge nothing more, and none of them has more than the
/// candidate.
///
/// `record` must be the one that was read together with the lease, at this version or later: a record that was read
/// before may have changed since.
///
/// # Errors
/// Why it may not.
pub fn may_promote<M: Ord + Clone>(
    candidate: &M,
    version: i64,
    record: &Record<M>,
    reports: &BTreeMap<M, Report>,
) -> Result<(), Blocked<M>> {
    let own = match reports.get(candidate) {
        Some(own) if own.version == version && record.members.contains(candidate) => own,
        _ => return Err(Blocked::NotSealed),
    };
    if own.system != record.system {
        return Err(Blocked::OtherData);
    }
    let sealed: BTreeMap<&M, Position> = reports
        .iter()
        .filter(|(member, report)| {
            report.version == version && report.system == record.system && record.members.contains(*member)
        })
        .map(|(member, report)| (member, report.position))
        .collect();
    let names: BTreeSet<M> = sealed.keys().map(|&member| member.clone()).collect();
    enough(record, &names)?;
    let best = sealed
        .iter()
        .filter(|(_, position)| **position > own.position)
        .max_by_key(|(_, position)| **position);
    best.map_or(Ok(()), |(best, _)| Err(Blocked::Behind { best: (*best).clone() }))
}

fn enough<M: Ord + Clone>(record: &Record<M>, sealed: &BTreeSet<M>) -> Result<(), Blocked<M>> {
    // It has all that it acknowledged, and as it is sealed it acknowledges no more.
    if sealed.contains(&record.primary) {
        return Ok(());
    }
    let quorum = &record.quorum;
    if quorum.acks() > 0 {
        if quorum.is_met_by(sealed) {
            return Ok(());
        }
        let have = quorum.voters().intersection(sealed).count();
        return Err(Blocked::TooFew {
            missing: quorum
                .voters()
                .iter()
                .chain([&record.primary])
                .filter(|m| !sealed.contains(m))
                .cloned()
                .collect(),
            needed: quorum.voters().len() + 1 - quorum.acks() - have,
        });
    }
    if !record.asynchronous {
        return Err(Blocked::TooFew { missing: [record.primary.clone()].into(), needed: 1 });
    }
    // The store of the lease counts as one voice: it has let nobody else take the term.
    let needed = record.members.len().div_ceil(2);
    if sealed.len() >= needed {
        return Ok(());
    }
    Err(Blocked::TooFew {
        missing: record.members.difference(sealed).cloned().collect(),
        needed: needed - sealed.len(),
    })
}

/// Whether a member that is sealed at `sealed` may follow the primary of `version`. It seals itself at that version before
/// it receives anything, as it would otherwise follow an older primary later and lose what it acknowledged.
#[must_use]
pub const fn may_follow(sealed: i64, version: i64) -> bool {
    sealed <= version
}

/// Whether a primary of an earlier term may go on under its new term without being promoted anew: it has recorded itself, and
/// nobody else has since. It writes its row under the new version first, then the record. Read the record together with the lease,
/// at the new version.
#[must_use]
pub fn may_go_on<M: Eq>(primary: &M, recorded: &M, has_recorded: bool) -> bool {
    has_recorded && primary == recorded
}

/// Whether `candidate`, which holds the lease at `version`, may be the first primary, of which there is no record yet: every declared member is
/// sealed, all have the same data, and none has more than the candidate.
///
/// A record that was lost is not told from one that never was. That is why all must be there: the one that has most is
/// among them.
///
/// # Errors
/// Why it may not.
pub fn may_begin<M: Ord + Clone>(
    candidate: &M,
    version: i64,
    members: &BTreeSet<M>,
    reports: &BTreeMap<M, Report>,
) -> Result<(), Blocked<M>> {
    let at_version = |member: &M| reports.get(member).filter(|report| report.version == version);
    let Some(own) = at_version(candidate).filter(|_| members.contains(candidate)) else {
        return Err(Blocked::NotSealed);
    };
    let missing: BTreeSet<M> =
        members.iter().filter(|member| at_version(member).is_none()).cloned().collect();
    if !missing.is_empty() {
        let needed = missing.len();
        return Err(Blocked::TooFew { missing, needed });
    }
    let record = Record {
        primary: candidate.clone(),
        quorum: Quorum::alone(),
        asynchronous: false,
        system: own.system,
        members: members.clone(),
    };
    if members.iter().filter_map(at_version).any(|report| report.system != own.system) {
        return Err(Blocked::OtherData);
    }
    may_promote(candidate, version, &record, reports)
}
