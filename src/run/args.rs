//! The flags of `run` alone.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::withheld;
use crate::process::args::seconds;

/// The flags of `run` beside those of `agent`.
#[derive(Debug, Clone, Args)]
pub struct AroundArgs {
    /// Seconds for which the lease is renewed while the program stops after SIGTERM. Keep it 5 s below the pod's
    /// terminationGracePeriodSeconds
    #[arg(long, env = "COMPONENT_LEASE_DRAIN_TIMEOUT", default_value = "25", value_parser = seconds, value_name = "SECONDS")]
    pub drain_timeout: Duration,
    /// Environment variable that `run` would withhold because it gives access to the lease database (PGPASSWORD, …),
    /// but that the program needs. Repeatable
    #[arg(long, env = "COMPONENT_LEASE_PASS_ENV", value_delimiter = ',', value_parser = withheld::known, value_name = "NAME")]
    pub pass_env: Vec<String>,
    /// The program `component-lease`, which is started as a guardian; where this very program is not it.
    #[arg(skip)]
    pub guardian: Option<PathBuf>,
}
