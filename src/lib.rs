//! Database leader election made a Kubernetes citizen.
//!
//! A row in the table `component_lease` decides which one of many processes leads. Everything that
//! decides is in [`election`]; [`store`] is where the row lives; [`participant`] is what a service embeds.
#![deny(unsafe_code)]
// They panic where the reader has gone: `process::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "cli")]
pub mod agent;
#[cfg(feature = "cli")]
pub mod api;
pub mod clock;
#[cfg(feature = "cli")]
pub mod controller;
pub mod election;
pub mod membership;
pub mod participant;
#[cfg(feature = "cli")]
pub mod process;
pub mod rate;
#[cfg(feature = "cli")]
pub mod routing;
pub mod store;
#[cfg(feature = "cli")]
pub mod tryout;
