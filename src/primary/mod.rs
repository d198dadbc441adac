//! Which server of a database is its primary, and how that changes without losing what was acknowledged: pure, no I/O,
//! no clock, nothing of one kind of database.
//!
//! | word | meaning |
//! |---|---|
//! | member | one server with its supervisor; the declared members stand in the record |
//! | version | of the term of the lease "who is primary": the database's fencing token |
//! | seal | a member's promise, kept on its disk: "I acknowledge nothing to a primary below this version" |
//! | position | where a member's data ends: the last term in its data, then the end of its log |
//! | quorum | how a commit is acknowledged: by any `acks` of the `voters` |
//! | names | the quorum that the primary's server enforces now |
//! | record | the quorum that stands beside the lease; only a leader of that version can change it |
//!
//! [`quorum`] says when names or record may change, [`promotion`] who may be promoted, [`lineage`] whose data are a beginning of
//! whose, [`writable`] until when a primary may be writable, [`outlook`] what would become of a failover now, [`verbs`] what an
//! operator may ask. All but the last two are explored to the end by
//! `tests/sim/database`, which also finds what each part of a rule is for. The idea of sealing a quorum before a promotion is that of
//! Paxos' first phase and of Vitess' "revoke, propagate, establish".

pub mod lineage;
#[cfg(test)]
mod lineage_tests;
pub mod outlook;
#[cfg(test)]
mod outlook_tests;
pub mod promotion;
#[cfg(test)]
mod promotion_tests;
pub mod quorum;
#[cfg(test)]
mod quorum_tests;
pub mod verbs;
#[cfg(test)]
mod verbs_tests;
pub mod writable;
#[cfg(test)]
mod writable_tests;

pub use lineage::{Branch, Lineage, Promotion};
pub use outlook::{Hindrance, Loss, Outlook, outlook};
pub use promotion::{Blocked, Position, Record, Report};
pub use quorum::{Change, Names, Quorum};
