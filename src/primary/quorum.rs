//! How a commit is acknowledged, and how that changes.
//!
//! The record says where acknowledged commits must be looked for; the names say where they are put. Each may change only
//! while it fits the other, or a commit is acknowledged that a later promotion does not look for.

use std::collections::BTreeSet;

/// A commit is acknowledged once any `acks` of the `voters` have it on disk, beside the primary. With 0 it is
/// acknowledged by the primary alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quorum<M> {
    voters: BTreeSet<M>,
    acks: usize,
}

impl<M: Ord + Clone> Quorum<M> {
    /// Any `acks` of the `voters`; `None` when there are not so many, or when there are voters that nobody waits for.
    #[must_use]
    pub fn any(acks: usize, voters: BTreeSet<M>) -> Option<Self> {
        let makes_sense = acks <= voters.len() && (acks > 0 || voters.is_empty());
        makes_sense.then_some(Self { voters, acks })
    }

    /// The primary alone.
    #[must_use]
    pub const fn alone() -> Self {
        Self { voters: BTreeSet::new(), acks: 0 }
    }

    /// Who may acknowledge.
    #[must_use]
    pub const fn voters(&self) -> &BTreeSet<M> {
        &self.voters
    }

    /// How many of them must.
    #[must_use]
    pub const fn acks(&self) -> usize {
        self.acks
    }

    /// How many of `these` have seen each commit that this quorum acknowledged, at least.
    fn at_least_of(&self, these: &BTreeSet<M>) -> usize {
        self.acks.saturating_sub(self.voters.difference(these).count())
    }

    /// Whether `sealed` members are so many that this quorum can acknowledge nothing more without one of them, and
    /// hence so many that one of them has each commit that it acknowledged.
    #[must_use]
    pub fn is_met_by(&self, sealed: &BTreeSet<M>) -> bool {
        self.acks > 0 && self.voters.intersection(sealed).count() > self.voters.len() - self.acks
    }
}

/// What the primary's server waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Names<M> {
    /// A name that no member bears: nothing is acknowledged. So a promoted server begins.
    Nobody,
    /// Any of these.
    Quorum(Quorum<M>),
}

impl<M: Ord + Clone> Names<M> {
    /// Whether each commit that these names acknowledge is found by a promotion that is judged by `record`, with the
    /// same primary.
    #[must_use]
    pub fn are_covered_by(&self, record: &Quorum<M>) -> bool {
        match self {
            Self::Nobody => true,
            // Only the recorded primary itself can be promoted then, or one that has its data.
            Self::Quorum(_) if record.acks == 0 => true,
            Self::Quorum(names) => names.at_least_of(&record.voters) >= record.acks,
        }
    }
}

/// Whether `record` may be written while the server enforces `names`. `caught_up` are the members that have on disk all
/// that the primary had written when these names took effect: what was acknowledged under earlier names is part of it.
#[must_use]
pub fn may_record<M: Ord + Clone>(record: &Quorum<M>, names: &Names<M>, caught_up: &BTreeSet<M>) -> bool {
    names.are_covered_by(record) && record.voters.intersection(caught_up).count() >= record.acks
}

/// What a primary does next on its way to another quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<M> {
    /// Record and names are as they should be.
    None,
    /// Let the server enforce this, and wait until it does.
    Names(Quorum<M>),
    /// Write this beside the lease, bound to its version.
    Record(Quorum<M>),
    /// First some of these must have caught up.
    CatchUp(BTreeSet<M>),
}

/// The next step from `record` and `names` to `wanted`: at most three steps, each of them allowed. Between two quorums
/// that do not overlap enough, the server waits for both for a while.
#[must_use]
pub fn next_change<M: Ord + Clone>(
    record: &Quorum<M>,
    names: &Names<M>,
    wanted: &Quorum<M>,
    caught_up: &BTreeSet<M>,
) -> Change<M> {
    if record == wanted {
        return match names {
            Names::Quorum(names) if names == wanted => Change::None,
            _ => Change::Names(wanted.clone()),
        };
    }
    if names.are_covered_by(wanted) {
        return if may_record(wanted, names, caught_up) {
            Change::Record(wanted.clone())
        } else {
            Change::CatchUp(wanted.voters.difference(caught_up).cloned().collect())
        };
    }
    if Names::Quorum(wanted.clone()).are_covered_by(record) {
        return Change::Names(wanted.clone());
    }
    let acks = (record.acks + wanted.voters.difference(&record.voters).count())
        .max(wanted.acks + record.voters.difference(&wanted.voters).count());
    Change::Names(Quorum { voters: record.voters.union(&wanted.voters).cloned().collect(), acks })
}
