//! Starts the real servers that tests, demo and benchmarks run on, and ends them.
//!
//! Every server lives in a scratch directory of its own. It is ended and its directory
//! removed when its handle is dropped, and, for handles in statics and for a process that
//! was killed, by a small watcher process that outlives this one (see `scratch.rs`).
//! `KEEP=1` in the environment leaves everything running and says where it is.
//!
//! This crate does not depend on `component-lease`: it knows the programs, the chart and the tables
//! by their outward names only (see [`stage`]).

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "deadlines of tests are measured by the machine's own clocks")]

mod account;
mod certificate;
mod clock;
pub mod control_plane;
pub mod figures;
pub mod image;
pub mod machine;
pub mod mysql;
pub mod node;
pub mod port;
pub mod postgres;
mod process;
pub mod prometheus;
pub mod scratch;
pub mod stage;
pub mod tcp_proxy;
mod trees;
pub mod wait;

use std::path::{Path, PathBuf};

/// Whether the caller asked to leave servers and databases behind (`KEEP=1`).
#[must_use]
pub fn keep() -> bool {
    std::env::var_os("KEEP").is_some_and(|v| !v.is_empty() && v != "0")
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the testkit lies in the repository").to_owned()
}

/// `hack/NAME` of the repository.
#[must_use]
pub fn hack(name: &str) -> PathBuf {
    repository().join("hack").join(name)
}
