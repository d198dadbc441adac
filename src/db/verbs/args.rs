//! The flags of the verbs.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::database::Member;
use crate::db::args::LeaseArgs;
use crate::process::args::{LogArgs, positive_seconds};

/// How the end is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Sentences
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// What all verbs have.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Why, for those who read what happened
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Say what would happen. Changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Of the verbs that are waited for, and that a person asks of a cluster as it was seen.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Ask nothing unless this member holds the lease
    #[arg(long, value_name = "MEMBER")]
    pub expect_primary: Option<Member>,
    /// Ask nothing unless the lease has this version
    #[arg(long, value_name = "N")]
    pub expect_version: Option<i64>,
    /// Seconds to wait until it is done [default: 60; reinit: one day]
    #[arg(long, value_parser = positive_seconds, value_name = "SECONDS")]
    pub timeout: Option<Duration>,
}

/// `db switchover`.
#[derive(Debug, Args)]
pub struct SwitchoverArgs {
    /// Member that is to be the primary [default: the one with the most data]
    #[arg(long, value_name = "MEMBER")]
    pub to: Option<Member>,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `db pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `db resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `db fence`.
#[derive(Debug, Args)]
pub struct FenceArgs {
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `db reinit`.
#[derive(Debug, Args)]
pub struct ReinitArgs {
    /// Standby whose data are copied anew
    #[arg(value_name = "MEMBER")]
    pub member: Member,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}
