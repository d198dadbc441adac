//! Who it is that counts: not a name, but a data directory that bears it.
//!
//! Two supervisors may bear one member's name on two data directories: what the one has on its disk, or has promised, says nothing of the
//! other. So each data directory has an identity of its own, and a member of the rules is a *bearer*, `name@identity`. Where one name is to
//! count once, the bearer that counted before goes first. A new directory under an old name is another voter, which counts once the record
//! names it.
//!
//! A directory that was copied block by block has the identity of the other. Two processes that bear one name, whatever the identity, find
//! each other in the report that both of them write: [`gives_way`] says which of them ends.

use std::collections::BTreeSet;

/// Between the name and the identity. No name has it.
const AT: char = '@';

/// A data directory that bears a name.
#[must_use]
pub fn bearer(name: &str, identity: &str) -> String {
    format!("{name}{AT}{identity}")
}

/// The name that it bears.
#[must_use]
pub fn name_of(bearer: &str) -> &str {
    bearer.split_once(AT).map_or(bearer, |(name, _)| name)
}

/// The identity of the data directory; empty where none is known.
#[must_use]
pub fn identity_of(bearer: &str) -> &str {
    bearer.split_once(AT).map_or("", |(_, identity)| identity)
}

/// Of these, one of each name: one of `before` where there is one.
#[must_use]
pub fn one_of_each_name<'b>(
    bearers: impl IntoIterator<Item = &'b String>,
    before: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    let (known, new): (Vec<_>, Vec<_>) = bearers.into_iter().partition(|one| before.contains(*one));
    for one in known.into_iter().chain(new) {
        if chosen.iter().all(|other| name_of(other) != name_of(one)) {
            chosen.insert(one.clone());
        }
    }
    chosen
}

/// What a process says of itself beside what its member says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Of its data directory.
    pub identity: String,
    /// Of the process itself: another one at each start.
    pub session: String,
    /// The session that had reported last when this one began; empty if none had.
    pub after: String,
}

/// Which of two processes that are alive and bear one name gives way: exactly one of them does. It is the one whose data directory the
/// record does not name; else the one that began when the other was there; else either.
#[must_use]
pub fn gives_way(own: &Claim, other: &Claim, recorded: Option<&str>) -> bool {
    let is_recorded = |claim: &Claim| recorded == Some(claim.identity.as_str());
    match (is_recorded(own), is_recorded(other)) {
        (true, false) => false,
        (false, true) => true,
        _ => match (own.after == other.session, other.after == own.session) {
            (true, false) => true,
            (false, true) => false,
            _ => own.session > other.session,
        },
    }
}
