//! The commands for members of a replicated database (`db run`, `db status`, and what operators ask). Experimental: what a cluster does is in
//! `src/member`, what is done to its servers in `src/database`.

mod args;
mod asks;
mod http;
mod place;
mod server;
mod status;
mod supervise;
mod verbs;
mod view;

use clap::Subcommand;

use crate::process::Failure;
use crate::process::args::LogArgs;

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Member(args::Command),
    #[command(flatten)]
    Operator(verbs::Command),
}

/// Does what was typed.
///
/// # Errors
/// [`Failure`] with the exit code of `docs/reference.md`.
pub async fn perform(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Member(args::Command::Run(args)) => supervise::run(*args).await,
        Command::Member(args::Command::Status(args)) => status::status(args).await,
        Command::Operator(command) => command.perform().await,
    }
}

impl Command {
    /// What is logged.
    #[must_use]
    pub fn log(&self) -> &LogArgs {
        match self {
            Self::Member(args::Command::Run(args)) => &args.log,
            Self::Member(args::Command::Status(args)) => &args.log,
            Self::Operator(command) => command.log(),
        }
    }
}
