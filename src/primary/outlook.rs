//! What would become of a database if its primary died now. It says before the fault what the [rule](super::promotion)
//! would say after it.

use std::collections::BTreeSet;

use super::promotion::Record;

/// What would happen if the primary of a record died now and did not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook<M> {
    /// One of these would be promoted: the one with the most data. Others would follow it, so that it would acknowledge writes.
    Ready {
        /// Members that are alive and have been acknowledging. A member that was not could win only with as much data.
        candidates: BTreeSet<M>,
        /// What would be lost.
        loss: Loss,
    },
    /// Nobody would be promoted, or nobody would acknowledge writes.
    NotReady(Hindrance<M>),
}

/// What a promotion would lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No commit that was acknowledged.
    Nothing,
    /// What the primary has acknowledged and no other member has yet.
    Unreplicated,
}

/// Why a failover would not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance<M> {
    /// The record has nobody but its primary: no other member is known to have what is acknowledged.
    NobodyElse,
    /// Acknowledged commits could be missing from those that are alive.
    TooFew {
        /// Any of these would help.
        missing: BTreeSet<M>,
        /// So many of them are enough.
        needed: usize,
    },
    /// One would be promoted, and would wait for members that acknowledge its writes.
    NobodyToAcknowledge {
        /// Any of these would help.
        missing: BTreeSet<M>,
        /// So many of them are enough.
        needed: usize,
    },
}

/// What would happen if the recorded primary died now, while these members are alive. Members that are alive would seal themselves.
#[must_use]
pub fn outlook<M: Ord + Clone>(record: &Record<M>, alive: &BTreeSet<M>) -> Outlook<M> {
    let Record { primary, quorum, members, .. } = record;
    let others: BTreeSet<M> = members.iter().filter(|member| *member != primary).cloned().collect();
    let there: BTreeSet<M> = others.intersection(alive).cloned().collect();
    let away: BTreeSet<M> = others.difference(alive).cloned().collect();
    if quorum.acks() == 0 {
        return without_quorum(record, there, away);
    }
    let voters = quorum.voters();
    let have = voters.intersection(&there).count();
    let needed = (voters.len() + 1).saturating_sub(quorum.acks());
    if have < needed {
        let missing = voters.difference(&there).cloned().collect();
        return Outlook::NotReady(Hindrance::TooFew { missing, needed: needed - have });
    }
    // The promoted one, and as many others as acknowledge now.
    let to_go_on = quorum.acks() + 1;
    if there.len() < to_go_on {
        let needed = to_go_on - there.len();
        return Outlook::NotReady(Hindrance::NobodyToAcknowledge { missing: away, needed });
    }
    Outlook::Ready { candidates: voters.intersection(&there).cloned().collect(), loss: Loss::Nothing }
}

/// The primary acknowledges alone.
fn without_quorum<M: Ord + Clone>(record: &Record<M>, there: BTreeSet<M>, away: BTreeSet<M>) -> Outlook<M> {
    if !record.asynchronous {
        return Outlook::NotReady(Hindrance::NobodyElse);
    }
    // The store of the lease counts as one voice, as in the rule.
    let needed = record.members.len().div_ceil(2).max(1);
    if there.len() < needed {
        let needed = needed - there.len();
        return Outlook::NotReady(Hindrance::TooFew { missing: away, needed });
    }
    Outlook::Ready { candidates: there, loss: Loss::Unreplicated }
}
