//! The arguments of the commands for operators.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::process::args::{DatabaseArgs, positive_seconds, seconds};

/// What an operator does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who leads
    Get(GetArgs),
    /// Tell the story of one lease: who leads, since when and why, who could, what stands in the way
    Describe(OneArgs),
    /// Move the lease: its leader stops its work and releases, and the target takes over
    Switchover(SwitchoverArgs),
    /// End the leader's term; it stays away for a while if somebody else could lead
    StepDown(StepDownArgs),
    /// Make one participant the leader, also where nobody leads or the leader does not answer
    Promote(PromoteArgs),
    /// Move all leaders off a node
    Drain(DrainArgs),
    /// Keep everybody from taking the lease; its leader goes on
    Pause(PauseArgs),
    /// End a pause
    Resume(ResumeArgs),
    /// Show the terms of a lease, the newest first
    History(HistoryArgs),
    /// Show the participants that are alive
    Instances(ShowArgs),
    /// Show who leads, and each change
    Watch(WatchArgs),
    /// Print a script with which a shell completes these commands
    Completion {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// Where the lease is: in a database that is named, else in the cluster.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Namespace of the ComponentLease; with a database, what the component's key begins with [default: the current
    /// context's]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

impl Place {
    /// Whether a database was named.
    #[must_use]
    pub fn is_database(&self) -> bool {
        self.database.database_url.is_some() || self.database.database_url_file.is_some()
    }
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// Names, one a line.
    Name,
}

/// `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Leases to show [default: all]
    #[arg(value_name = "LEASE")]
    pub names: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub place: Place,
}

/// One lease.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The lease: a ComponentLease, or with a database the component's key
    #[arg(value_name = "LEASE")]
    pub name: String,
    #[command(flatten)]
    pub place: Place,
}

/// One lease in a format.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub one: OneArgs,
}

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// How many terms to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub limit: u32,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Leases to watch [default: all]
    #[arg(value_name = "LEASE")]
    pub names: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Why, and how long it is waited for: the same for all verbs.
#[derive(Debug, Args)]
#[group(id = "ask", multiple = true)]
pub struct AskArgs {
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Ask nothing unless this one leads
    #[arg(long, value_name = "INSTANCE")]
    pub expect_holder: Option<String>,
    /// Ask nothing unless the lease has this version
    #[arg(long, value_name = "N")]
    pub expect_version: Option<i64>,
    /// Replace the pending request that has this id
    #[arg(long, value_name = "ID")]
    pub replace: Option<String>,
    /// Name of the request: a repetition under the same name asks nothing more [default: a new one]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Say what would happen, and how long it may take. Changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until it is done or cannot be
    #[arg(
        long,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub wait: bool,
    /// Seconds to wait; then the request is taken back [default: until the lease must have changed hands]
    #[arg(long, value_parser = positive_seconds, value_name = "SECONDS")]
    pub timeout: Option<Duration>,
}

/// `switchover`.
#[derive(Debug, Args)]
pub struct SwitchoverArgs {
    /// Who is to lead: an instance or its pod [default: anybody else]
    #[arg(long, value_name = "INSTANCE")]
    pub to: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    pub one: OneArgs,
}

/// `step-down`.
#[derive(Debug, Args)]
pub struct StepDownArgs {
    /// Seconds for which the leader stays away afterwards, if somebody else could lead [default: 60]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub away: Option<Duration>,
    /// Control socket of an agent or run on this machine: asks that process directly, without a database or cluster
    #[arg(long, value_name = "PATH", conflicts_with_all = ["name", "ask"])]
    pub socket: Option<PathBuf>,
    #[command(flatten)]
    pub ask: AskArgs,
    /// The lease: a ComponentLease, or with a database the component's key
    #[arg(value_name = "LEASE", required_unless_present = "socket")]
    pub name: Option<String>,
    #[command(flatten)]
    pub place: Place,
}

/// `promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Who is to lead: an instance or its pod
    #[arg(long, value_name = "INSTANCE")]
    pub to: String,
    /// At once: for up to one TTL two may lead, told apart by their versions. Needs --reason
    #[arg(long, requires = "reason")]
    pub now: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    pub one: OneArgs,
}

/// `drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The node, as the leaders' pods or instances say
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Why [default: drain of NODE]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Say who would lead instead. Changes nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub place: Place,
}

/// `pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Say what would happen. Changes nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub one: OneArgs,
}

/// `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Say what would happen. Changes nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub one: OneArgs,
}
