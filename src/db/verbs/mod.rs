//! What operators ask of a cluster. Whether it makes sense now is decided by [`primary::verbs`](crate::primary::verbs); what members do of it is in
//! `src/member/heeding.rs`.

mod args;
mod cluster;
mod ended;
mod pause;
mod reinit;
mod switchover;

use clap::Subcommand;

use self::args::{FenceArgs, PauseArgs, ReinitArgs, ResumeArgs, SwitchoverArgs};
use crate::process::Failure;
use crate::process::args::LogArgs;

/// What an operator does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hand over to another member, which loses nothing; refused before anything stops where that one could not be
    /// promoted (experimental)
    Switchover(SwitchoverArgs),
    /// Keep everybody from being promoted; the primary goes on (experimental)
    Pause(PauseArgs),
    /// End a pause or a fence (experimental)
    Resume(ResumeArgs),
    /// Copy the data of a standby anew from the primary; what it has is kept aside (experimental)
    Reinit(ReinitArgs),
    /// Stop the primary's server, and keep everybody from being promoted until resume (experimental)
    Fence(FenceArgs),
}

impl Command {
    /// What is logged.
    pub(super) fn log(&self) -> &LogArgs {
        let common = match self {
            Self::Switchover(args) => &args.common,
            Self::Pause(args) => &args.common,
            Self::Resume(args) => &args.common,
            Self::Reinit(args) => &args.common,
            Self::Fence(args) => &args.common,
        };
        &common.log
    }

    pub(super) async fn perform(self) -> Result<u8, Failure> {
        match self {
            Self::Switchover(args) => switchover::switchover(args).await,
            Self::Pause(args) => pause::pause(args).await,
            Self::Resume(args) => pause::resume(args).await,
            Self::Reinit(args) => reinit::reinit(args).await,
            Self::Fence(args) => pause::fence(args).await,
        }
    }
}
