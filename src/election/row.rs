//! The row of `component_lease`, and what it allows: take, renew and release as pure functions. The memory store
//! is made of these, and every database must answer as they do (the contract suite holds them against each other).

use std::time::Duration;

use serde::Serialize;

use super::life::{Generation, Life};
use super::name::{ComponentName, HolderId};
use super::timing::judged_ttl;

/// One row. Two equal rows mean that nobody took, renewed or released in between: a renewal always
/// raises `renew_time`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct LeaseRow {
    /// Empty means nobody, and that alone means free.
    pub holder: String,
    /// When this term began: database time, ms since 1970 UTC. For people and foreign programs.
    pub lease_time: i64,
    /// Last renewal: database time, ms since 1970 UTC; 0 when released.
    pub renew_time: i64,
    /// The term: the fencing token.
    pub version: i64,
    /// Seconds; fixed for the term.
    pub ttl: i64,
}

impl LeaseRow {
    /// Whether nobody holds it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.holder.is_empty()
    }

    /// How long the row must be unchanged, on the judge's own boot clock, to be nobody's.
    #[must_use]
    pub fn judged_ttl(&self) -> Duration {
        judged_ttl(self.ttl)
    }

    /// Whether this term holds it.
    #[must_use]
    pub fn is_term(&self, term: &TermKey) -> bool {
        self.holder == term.holder.as_str() && self.version == term.version
    }
}

/// Names one term: who, and under which version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TermKey {
    /// What is led.
    pub component: ComponentName,
    /// Who leads.
    pub holder: HolderId,
    /// The fencing token.
    pub version: i64,
}

/// What must still be there for a take to succeed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Expected {
    /// No row, and this is the highest version that the history knows of the component (0: none).
    Missing { highest: i64 },
    /// This version, last renewed at this time.
    Row { version: i64, renew_time: i64 },
}

impl Expected {
    /// For a component without a history.
    #[must_use]
    pub fn of(row: Option<&LeaseRow>) -> Self {
        match row {
            None => Self::Missing { highest: 0 },
            Some(row) => Self::Row { version: row.version, renew_time: row.renew_time },
        }
    }
}

/// A compare-and-set that begins a term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Take {
    /// The term to begin.
    pub term: TermKey,
    /// Seconds.
    pub ttl: u32,
    /// What is compared.
    pub expected: Expected,
    /// Which life of the database the decision was made on.
    pub generation: Generation,
}

/// Whether a take or late release that was decided on one life of the database may be applied to another
/// answer's: the server must be the one that is recorded *and* the one that the decision saw. (The record
/// alone is replicated: a connection that now leads to a promoted standby would find it as it was.)
#[must_use]
pub fn same_life(decided_on: &Generation, life: &Life) -> bool {
    !life.is_strange() && life.generation() == *decided_on
}

/// The row after a successful take, or `None` when the race was lost. `highest` is the highest version
/// in the component's history, `now` is database time in ms. The history has one line per version, in
/// rising order, and is written in the same transaction: a version that is not above it is a lost race.
#[must_use]
pub fn take(row: Option<&LeaseRow>, highest: i64, take: &Take, now: i64) -> Option<LeaseRow> {
    let expected = match row {
        None => Expected::Missing { highest },
        Some(_) => Expected::of(row),
    };
    (expected == take.expected && take.term.version > highest).then(|| LeaseRow {
        holder: take.term.holder.as_str().to_owned(),
        lease_time: now,
        // Always rising while the row lives, or a follower could take two lives for one.
        renew_time: row.map_or(now, |row| now.max(row.renew_time + 1)),
        version: take.term.version,
        ttl: i64::from(take.ttl),
    })
}

/// The row after a renewal, or `None` when the term is lost. No test for expiry: the same version
/// means that nobody seized, and with a test one step of the database clock would end every term.
#[must_use]
pub fn renew(row: Option<&LeaseRow>, term: &TermKey, now: i64) -> Option<LeaseRow> {
    row.filter(|row| row.is_term(term)).map(|row| LeaseRow {
        // Always a change: followers tell a living holder by it.
        renew_time: now.max(row.renew_time + 1),
        ..row.clone()
    })
}

/// The row after a release, or `None` when the term was no longer this holder's.
#[must_use]
pub fn release(row: Option<&LeaseRow>, term: &TermKey) -> Option<LeaseRow> {
    row.filter(|row| row.is_term(term)).map(|row| LeaseRow {
        holder: String::new(),
        renew_time: 0,
        ..row.clone()
    })
}

/// The same for a term that is over for its holder: only in the life of the database in which it was taken, and
/// nowhere where lives cannot be told apart.
#[must_use]
pub fn release_late(
    row: Option<&LeaseRow>,
    term: &TermKey,
    within: &Generation,
    life: &Life,
) -> Option<LeaseRow> {
    (*life != Life::Unknown && same_life(within, life)).then(|| release(row, term)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::life::Record;
    use super::*;

    fn term(holder: &str, version: i64) -> TermKey {
        TermKey {
            component: ComponentName::new("c").unwrap(),
            holder: HolderId::new(holder).unwrap(),
            version,
        }
    }

    fn attempt(holder: &str, version: i64, row: Option<&LeaseRow>) -> Take {
        Take {
            term: term(holder, version),
            ttl: 5,
            expected: Expected::of(row),
            generation: Generation::default(),
        }
    }

    #[test]
    fn of_two_takes_made_on_the_same_sight_only_the_first_succeeds() {
        let first = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
        assert_eq!((first.version, first.renew_time, first.lease_time), (1, 1000, 1000));
        assert_eq!(take(Some(&first), 1, &attempt("b", 1, None), 1000), None);
    }

    #[test]
    fn a_renewal_between_sight_and_take_makes_the_take_fail() {
        let seen = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
        let renewed = renew(Some(&seen), &term("a", 1), 1000).unwrap();
        assert_eq!(take(Some(&renewed), 1, &attempt("b", 2, Some(&seen)), 9000), None);
    }

    #[test]
    fn a_renewal_changes_the_row_even_when_the_database_clock_stands_or_goes_back() {
        let row = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
        let same = renew(Some(&row), &term("a", 1), 1000).unwrap();
        let back = renew(Some(&same), &term("a", 1), 10).unwrap();
        assert_eq!((same.renew_time, back.renew_time), (1001, 1002));
    }

    #[test]
    fn an_expired_term_that_nobody_seized_can_be_renewed() {
        let row = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
        assert!(renew(Some(&row), &term("a", 1), 1_000_000).is_some());
    }

    #[test]
    fn only_holder_and_version_together_renew_or_release() {
        let row = take(None, 0, &attempt("a", 4, None), 1000).unwrap();
        for wrong in [term("a", 3), term("b", 4)] {
            assert_eq!(renew(Some(&row), &wrong, 2000), None);
            assert_eq!(release(Some(&row), &wrong), None);
        }
        assert_eq!(renew(None, &term("a", 4), 2000), None);
    }

    #[test]
    fn a_release_keeps_the_version_so_that_the_fence_does_not_start_again() {
        let row = take(None, 0, &attempt("a", 4, None), 1000).unwrap();
        let free = release(Some(&row), &term("a", 4)).unwrap();
        assert!(free.is_free());
        assert_eq!((free.version, free.renew_time), (4, 0));
    }

    #[test]
    fn a_version_that_the_history_knows_is_never_granted_again() {
        let free = LeaseRow { holder: String::new(), lease_time: 0, renew_time: 0, version: 4, ttl: 5 };
        assert_eq!(take(Some(&free), 5, &attempt("a", 5, Some(&free)), 1000), None);
        assert!(take(Some(&free), 5, &attempt("a", 6, Some(&free)), 1000).is_some());
    }

    #[test]
    fn a_take_changes_the_row_even_when_the_database_clock_stands_or_goes_back() {
        let seen = take(None, 0, &attempt("a", 1, None), 1000).unwrap();
        let taken = take(Some(&seen), 1, &attempt("b", 2, Some(&seen)), 1000).unwrap();
        assert_eq!((taken.renew_time, taken.lease_time), (1001, 1000));
        let later = take(Some(&taken), 2, &attempt("c", 3, Some(&taken)), 10).unwrap();
        assert_eq!((later.renew_time, later.lease_time), (1002, 10));
    }

    fn life(server: &str, recorded: &str, epoch: i64) -> Life {
        let record = Record { identity: recorded.to_owned(), epoch, settled: true, max_ttl: 30 };
        Life::Recorded { identity: server.to_owned(), step: 1 << 20, record }
    }

    #[test]
    fn only_the_server_that_is_recorded_and_that_the_decision_saw_is_the_same_life() {
        let seen = life("a", "a", 1);
        let on = seen.generation();
        assert!(same_life(&on, &seen));
        for other in
            [life("b", "a", 1), life("a", "b", 1), life("b", "b", 1), life("a", "a", 2), Life::Unknown]
        {
            assert!(!same_life(&on, &other), "{other:?}");
        }
        let unrecorded = Life::Unrecorded { identity: "a".to_owned(), step: 1 };
        assert!(!same_life(&unrecorded.generation(), &unrecorded));
        // Nobody can tell lives apart there, and takes are not bound to one.
        assert!(same_life(&Generation::default(), &Life::Unknown));
    }

    #[test]
    fn a_late_release_needs_the_same_life_and_one_that_can_be_told_from_others() {
        let row = take(None, 0, &attempt("a", 4, None), 1000).unwrap();
        let (held, seen) = (term("a", 4), life("a", "a", 1));
        let free = release_late(Some(&row), &held, &seen.generation(), &seen).unwrap();
        assert!(free.is_free() && free.version == 4);
        let other = life("a", "a", 2);
        assert_eq!(release_late(Some(&row), &held, &seen.generation(), &other), None);
        assert_eq!(release_late(Some(&row), &held, &Generation::default(), &Life::Unknown), None);
        assert_eq!(release_late(Some(&row), &term("a", 5), &seen.generation(), &seen), None);
    }

    #[test]
    fn a_holder_id_and_a_component_are_printed_as_they_stand() {
        let term = term("me_1_00000001", 1);
        assert_eq!(format!("{}/{}", term.component, term.holder), "c/me_1_00000001");
    }
}
