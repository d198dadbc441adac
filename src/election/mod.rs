//! The rules that decide who leads. Nothing in here knows a clock, a database or a pod: readings and answers come
//! in, decisions go out.
//!
//! | word | meaning |
//! |---|---|
//! | component | the thing of which exactly one instance may be active |
//! | participant | a process that competes for a component under a [`HolderId`] of its own |
//! | row | the component's line in the table `component_lease` ([`LeaseRow`]) |
//! | term | one unbroken tenure of one participant, named by its version ([`TermKey`]) |
//! | version | the fencing token: granted in strictly increasing order |
//! | take | to begin a term: on a missing or free row, or by *seizing* a row that is no longer renewed |
//! | renew | to extend a term; never tests for expiry, because the same version means nobody seized |
//! | release | to end a term early by emptying the holder; rows are never deleted |
//! | moment | a reading of the local boot clock ([`Moment`]); no other machine's clock is ever compared |
//! | deadline | the moment from which a leader no longer leads |
//! | abort | the moment by which its work must have ended, by force if need be |
//! | sight | what a follower saw last, and since when it is unchanged |
//! | identity | what tells one life of a database from another: a restart, a promotion, a restored volume |
//! | epoch | counts the lives of a database; versions of a later epoch are far above those of an earlier one |
//! | quarantine | the time after a change of identity or epoch in which nobody takes anything |
//! | request | what an operator asks of one term: that its leader makes way, perhaps for a target |
//! | head start | the time for which all but the target of a request leave a free row alone |
//!
//! [`machine`] is one participant's life as a state machine, [`row`] is what a row allows, [`sight`] is what a follower
//! knows, [`life`] is what happens when the database changes under us, [`intent`] is what operators ask, and [`timing`]
//! relates the durations.

#[cfg(test)]
mod fixtures;
pub mod intent;
pub mod life;
pub mod machine;
pub mod row;
pub mod sight;
pub mod timing;

pub use intent::{Request, Verb};
pub use life::{Life, LifeId, LifeRecord, NewEpoch};
pub use machine::{Action, Election, Ineligible, Standing, StopReason};
pub use row::{Expected, LeaseRow, Take, TermKey};
pub use timing::{Moment, Pace, Timing, TimingError};

#[cfg(feature = "cli")]
pub(crate) use crate::name::HOLDER_ID_MAX;
pub use crate::name::{ComponentName, HolderId, NameError};
