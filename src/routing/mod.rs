//! Which pod is labelled, and what a resource's status says of it. Nothing in here knows a clock, a database or a
//! Kubernetes client: what was observed comes in, a plan goes out.
//!
//! [`observed`] is what the controller saw, [`decide`] turns it into a plan for labels, [`carry_out`] says in which
//! order the plan is carried out, [`ended`] tells when a holder need not be waited for, [`floor`] is what a resource
//! may ask of a database that forgot, [`serving`] tells whether users get answers, and [`report`] says in the status
//! what became of it all.

pub mod carry_out;
pub mod conditions;
pub mod database;
pub mod decide;
#[cfg(test)]
mod edges_tests;
#[cfg(test)]
mod elected_tests;
pub mod ended;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod flapping;
pub mod floor;
pub mod holder_pattern;
pub mod making_way;
pub mod observed;
mod orphan;
pub mod outcome;
pub mod pause;
mod paused;
pub mod pod;
pub mod preference;
pub mod reach;
pub mod report;
mod routed;
pub mod serving;
pub mod split_brain;
#[cfg(test)]
mod stalled_tests;

pub use holder_pattern::HolderPattern;
pub use routed::service_problem;
