//! The library that a service embeds: compete for a component, know at every moment whether you lead.
//!
//! [`Participant::run`] does the work of each term and gives the lease back; the crate's front page shows it. Who wants
//! to hold terms by hand, for work that must be stopped in a way of its own, uses [`Participant::lead`]:
//!
//! ```
//! # use std::{error::Error, sync::Arc, time::Duration};
//! # use component_lease::{ComponentName, MemoryStore, Participant, SystemClock};
//! # async fn work(version: i64) -> Result<(), Box<dyn Error>> { if version == 1 { Err("once")? } Ok(()) }
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn Error>> {
//! # let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
//! # let started = Participant::builder(store.clone(), ComponentName::new("scheduler")?);
//! # let participant = started.cooldown(Duration::from_millis(100)).start()?;
//! // Each turn of this loop is one term, until the participant is drained.
//! while let Some(held) = participant.lead().await? {
//!     tokio::select! {
//!         outcome = work(held.version()) => match outcome {
//!             // The lease is given back once `held` is dropped, and not asked for again;
//!             Ok(()) => participant.drain(),
//!             // or another process may try, and this one after the cooldown.
//!             Err(problem) => {
//!                 eprintln!("stopping: {problem}");
//!                 participant.step_down();
//!             }
//!         },
//!         reason = held.lost() => eprintln!("stopping: {}", reason.as_str()),
//!     }
//!     // `work` is dropped here and so has stopped. Dropping `held` says so: only then is the lease released.
//! }
//! # assert_eq!(participant.ended().await?, component_lease::Drained::Released);
//! # let row = component_lease::LeaseStore::look(&*store, participant.component()).await?.row.ok_or("no row")?;
//! # assert!(row.is_free() && row.version == 2, "{row:?}");
//! # Ok(()) }
//! ```
//! Do not leave such a loop by `?` or a panic of the work: a participant that is dropped drains in the background, and where
//! the process ends at once the row stays held for a ttl. `run` waits in these cases too.

mod attempt;
mod builder;
mod calls;
mod counters;
mod endings;
mod handle;
mod judging;
mod latencies;
mod notice;
mod outcome;
mod presence;
mod run;
mod runner;
mod shared;
pub(crate) mod surroundings;
mod term;
mod term_cell;
mod trouble;
mod turns;
mod view;
mod watchdog;

pub use builder::{BuildError, ParticipantBuilder};
pub use counters::Counters;
pub use handle::{Participant, Stalled};
pub use latencies::Latencies;
pub use outcome::{Drained, ElectionFailed};
pub use surroundings::{component, surroundings};
pub use term::{HeldTerm, TermObserver};
pub use view::View;
pub use watchdog::Overrun;

#[cfg(test)]
mod endings_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod led_tests;
#[cfg(test)]
mod notice_tests;
#[cfg(test)]
mod outage_tests;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod shutdown_tests;
