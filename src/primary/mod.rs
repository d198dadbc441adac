//! Which server of a database is its primary, and how that changes without losing what was acknowledged: pure, no I/O,
//! no clock, nothing of one kind of database.
//!
//! | word | meaning |
//! |---|---|
//! | member | one server with its supervisor; the declared members stand in the record |
//! | bearer | the data directory that bears a member's name, `name@identity`: what the rules count |
//! | version | of the term of the lease "who is primary": the database's fencing token |
//! | seal | a member's promise, kept on its disk: "I acknowledge nothing to a primary below this version" |
//! | position | where a member's data ends: the last term in its data, then the end of its log |
//! | quorum | how a commit is acknowledged: by any `acks` of the `voters` |
//! | names | the quorum that the primary's server enforces now |
//! | record | the quorum that stands beside the lease; only a leader of that version can change it |
//!
//! [`quorum`] says when names or record may change, [`promotion`] who may be promoted, [`lineage`] whose data are a beginning of
//! whose, [`writable`] until when a primary may be writable, [`bearer`] who counts where two bear one name, [`known`] which record counts where
//! the store was restored to an older state, [`declared`] whether members agree on who they are. Those that a promotion depends on are explored to the end by
//! `tests/sim/database`, which also finds what each part of a rule is for. The idea of sealing a quorum before a promotion is that of
//! Paxos' first phase and of Vitess' "revoke, propagate, establish".

pub mod bearer;
#[cfg(test)]
mod bearer_tests;
pub mod declared;
#[cfg(test)]
mod declared_tests;
pub mod known;
#[cfg(test)]
mod known_tests;
pub mod lineage;
#[cfg(test)]
mod lineage_tests;
pub mod promotion;
#[cfg(test)]
mod promotion_tests;
pub mod quorum;
#[cfg(test)]
mod quorum_tests;
pub mod writable;
#[cfg(test)]
mod writable_tests;

pub use bearer::Claim;
pub use known::Stamp;
pub use lineage::{Branch, Lineage, Promotion};
pub use promotion::{Blocked, Position, Record, Report};
pub use quorum::{Change, Names, Quorum};
