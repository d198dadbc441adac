//! The plumbing that the programs share: arguments, logs, the HTTP endpoints for probes and
//! metrics, shutdown, and how a program ends. Uses nothing else of ours.

pub mod admin;
pub mod args;
pub mod asker;
pub mod exit;
pub mod http;
mod limit;
pub mod listen;
pub mod metrics;
pub mod output;
pub mod shutdown;
pub mod telemetry;

pub use exit::{ExitCode, Failure};
