//! Servers of a database, as a member's supervisor handles them: real ones, each with its guardians. Each test takes
//! the machine first (`component_lease_testkit::machine`): for some a busy one is too slow.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli;
mod cut;
mod given_up;
mod life;
mod members;
mod promises;
mod site;
mod terms;
mod traps;
mod verbs;
