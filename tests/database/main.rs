//! Servers of a database, as a member's supervisor handles them: real ones, each with its guardians.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli;
mod cut;
mod given_up;
mod life;
mod members;
mod outage;
mod promises;
mod rivals;
mod site;
mod terms;
mod traps;
