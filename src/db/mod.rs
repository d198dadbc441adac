//! The commands for members of a replicated database (`db run`, `db status`). Experimental: what a cluster does is in
//! `src/member`, what is done to its servers in `src/database`.

mod args;
mod http;
mod place;
mod server;
mod status;
mod supervise;
mod view;

pub use args::Command;

use crate::process::Failure;

/// Does what was typed.
///
/// # Errors
/// [`Failure`] with the exit code of `docs/reference.md`.
pub async fn perform(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => supervise::run(*args).await,
        Command::Status(args) => status::status(args).await,
    }
}

impl Command {
    /// What is logged.
    #[must_use]
    pub fn log(&self) -> &crate::process::args::LogArgs {
        match self {
            Self::Run(args) => &args.log,
            Self::Status(args) => &args.log,
        }
    }
}
