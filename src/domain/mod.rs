//! The rules that decide who leads. Nothing in here knows a clock, a database or Kubernetes:
//! readings and answers come in, decisions go out.
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
//!
//! Where to read on: [`election`] is one participant's life as a state machine, [`model`] is what a
//! row allows, [`life`] is what happens when the database changes under us, [`timing`] relates the durations, [`decide`] turns what the controller
//! observed into a plan for labels, [`carry_out`] says in which order it is carried out, [`floor`] is what a resource may ask of a database that forgot, [`namespace`] says to whom a component belongs, [`ended`] tells when a holder need not be waited for, and [`report`] says in a status what became of it.

pub mod budget;
pub mod carry_out;
pub mod conditions;
pub mod database;
pub mod decide;
pub mod election;
pub mod ended;
#[cfg(test)]
mod fixtures;
pub mod floor;
pub mod holder;
pub mod holder_pattern;
pub mod instance;
pub mod life;
pub mod model;
pub mod name;
pub mod namespace;
pub mod observed;
pub mod pod;
pub mod reach;
pub mod record;
pub mod repeats;
pub mod report;
pub mod sight;
pub mod split_brain;
pub mod timing;

pub use election::{Action, Election, Ineligible, Standing, StopReason};
pub use holder_pattern::HolderPattern;
pub use instance::{Instance, Mode, Promise, SeenInstance, Whereabouts};
pub use life::{Generation, Life, NewEpoch, Record};
pub use model::{Expected, Take, TermKey};
pub use name::{ComponentName, HolderId, NameError};
pub use record::LeaseRow;
pub use timing::{Moment, Pace, Timing, TimingError};
