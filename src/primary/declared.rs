//! Whether members agree on who the members are.

use std::collections::{BTreeMap, BTreeSet};

/// A list of members that is another one than ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// The member whose list it is; `None` for the record.
    pub whose: Option<String>,
    /// The list.
    pub members: BTreeSet<String>,
}

/// The lists that differ from our own: that of the record, and those that other members were started with.
#[must_use]
pub fn others(
    own: &BTreeSet<String>,
    recorded: Option<&BTreeSet<String>>,
    said: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Other> {
    let record = recorded.map(|members| (None, members));
    let all = record.into_iter().chain(said.iter().map(|(member, members)| (Some(member.clone()), members)));
    let differ = all.filter(|(_, members)| *members != own);
    differ.map(|(whose, members)| Other { whose, members: members.clone() }).collect()
}

/// The list for which a member is not promoted: that of the record, by which promotions are judged. Before there is one, all have to agree.
#[must_use]
pub fn conflict(others: &[Other], is_recorded: bool) -> Option<&Other> {
    others.iter().find(|other| other.whose.is_none() == is_recorded)
}
