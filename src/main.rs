//! The program `component-lease`: wiring only.

// They panic where the reader has gone: `process::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use component_lease::agent::{self, ParticipantArgs};
use component_lease::clock::{Clock, SystemClock};
use component_lease::controller::command::ControllerArgs;
use component_lease::participant::surroundings;
use component_lease::process::args::{DatabaseArgs, LogArgs, MigrateArgs, TablesArgs};
use component_lease::process::{self, Failure, output, telemetry};
use component_lease::rate::repeats::{Repeats, kind_of};
use component_lease::run::{self, AroundArgs};
use component_lease::store::{Directory, Install, Names, Source, StoreError, begin_epoch, install, open};
use component_lease::supervise::guardian;
use component_lease::{api, console, controller, db, tryout};
use tracing::warn;

/// See and steer who leads: ComponentLeases of a cluster, or the leases of a database.
#[derive(Debug, Parser)]
#[command(name = "kubectl-componentlease", bin_name = PLUGIN, version, max_term_width = 110)]
struct Plugin {
    #[command(subcommand)]
    command: console::Command,
}

/// As kubectl calls its plugin `kubectl-componentlease`.
const PLUGIN: &str = "kubectl componentlease";

/// Leader election in a database, for programs and for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "component-lease", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compete for a component beside a program, and report over HTTP whether it leads
    Agent(AgentCommand),
    /// Compete for a component around a program: start it after a win, stop it before the lease ends
    Run(RunCommand),
    /// Copy this program into a directory (for init containers)
    Install {
        /// Existing directory
        dir: PathBuf,
    },
    /// Create, upgrade or repair the tables, and print the grants
    Migrate(MigrateCommand),
    /// Say whether the database can be used with this account. Changes nothing
    Check(CheckCommand),
    /// Report a change that the database cannot detect itself
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// Reconcile ComponentLease resources with the rows of one database
    Controller(ControllerCommand),
    /// Members of a replicated database (experimental)
    #[command(subcommand)]
    Db(db::Command),
    /// Show a first election in this terminal: three participants, a killed leader, a refused write (15 s)
    Try,
    #[command(flatten)]
    Operator(console::Command),
    /// Print the CustomResourceDefinitions
    Crd,
    /// End the program of a dead supervisor (started by `run` itself)
    #[command(name = guardian::COMMAND, hide = true)]
    GuardGroup,
}

#[derive(Debug, Args)]
struct AgentCommand {
    #[command(flatten)]
    participant: ParticipantArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    migrate: MigrateArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct RunCommand {
    #[command(flatten)]
    agent: AgentCommand,
    #[command(flatten)]
    around: AroundArgs,
    /// Command to run while leading, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum EpochCommand {
    /// Begin an epoch: after a restore into a running server, or a file overwritten in place. Versions then
    /// continue above all that may have been lost, and no lease is taken for --max-ttl; current holders continue
    Bump(BumpCommand),
}

#[derive(Debug, Args)]
struct BumpCommand {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct CheckCommand {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct MigrateCommand {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    tables: TablesArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct ControllerCommand {
    #[command(flatten)]
    controller: ControllerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    migrate: MigrateArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    // Before anything can speak TLS. It fails only where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let ended = match called.file_stem().and_then(|name| name.to_str()) {
        Some("kubectl-componentlease") => operate(parsed::<Plugin>().command, Plugin::command(), PLUGIN),
        Some("kubectl_complete-componentlease") => complete(&words()),
        _ => perform(parsed::<Cli>().command),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::complain(&format!(
                "component-lease: {}
",
                telemetry::one_line(&failure.to_string())
            ));
            ExitCode::from(failure.exit.code())
        }
    }
}

/// An operator may name a database; all others must.
fn parsed<P: Parser>() -> P {
    let mut command = P::command();
    let names_one = |sub: &&clap::Command| sub.get_groups().any(|group| group.get_id() == "database");
    let names: Vec<String> = command
        .get_subcommands()
        .filter(names_one)
        .map(|sub| sub.get_name().to_owned())
        .filter(|name| console::Command::has_subcommand(name))
        .collect();
    for name in names {
        command =
            command.mut_subcommand(name, |sub| sub.mut_group("database", |group| group.required(false)));
    }
    P::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn perform(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Agent(command) => block_on(compete(command, None)),
        Command::Run(RunCommand { agent, around, command }) => {
            block_on(compete(agent, Some((around, command))))
        }
        Command::Install { dir } => {
            let path = agent::install(&dir)?;
            output::print(&format!("installed {}\n", path.display()))
        }
        Command::Migrate(command) => block_on(create_tables(command)),
        Command::Check(command) => block_on(check(command)),
        Command::Epoch(EpochCommand::Bump(command)) => block_on(bump(command)),
        Command::Controller(command) => block_on(control(command)),
        Command::Db(command) => block_on(async {
            telemetry::init(command.log(), once_a_minute())?;
            db::perform(command).await
        }),
        Command::Try => block_on(tryout::perform()),
        Command::Operator(command) => operate(command, Cli::command(), "component-lease"),
        Command::Crd => {
            let yaml = api::crd_yaml().map_err(|error| Failure::unexpected(error.to_string()))?;
            output::print(&yaml)
        }
        Command::GuardGroup => Ok(guardian::guard()),
    }
}

fn operate(command: console::Command, all: clap::Command, name: &str) -> Result<u8, Failure> {
    block_on(console::perform(command, all, name, &opened))
}

/// What is typed may be no UTF-8 yet.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// As kubectl asks for it: the words so far.
fn complete(words: &[String]) -> Result<u8, Failure> {
    block_on(console::answer(&Plugin::command(), words, &opened))
}

fn opened(args: DatabaseArgs) -> Result<Arc<dyn Directory>, Failure> {
    open(source(args), "component-lease operator").map_err(|error| failure(&error))
}

fn block_on(work: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // A sidecar has little to do, and nodes have many cores.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

/// Beside a program, or around the one that `run` was given.
async fn compete(command: AgentCommand, program: Option<(AroundArgs, Vec<OsString>)>) -> Result<u8, Failure> {
    let AgentCommand { participant, database, migrate: at_start, log } = command;
    telemetry::init(&log, once_a_minute())?;
    let mut config = participant.check(std::env::var("POD_NAME").ok(), &surroundings())?;
    config.max_ttl = at_start.tables.max_ttl;
    let source = source(database);
    let store = open(source.clone(), "component-lease").map_err(|error| failure(&error))?;
    migrate_at_start(at_start, source).await;
    match program {
        None => agent::beside(config, store).await,
        Some((around, command)) => run::around(config, around, store, command).await,
    }
}

async fn migrate_at_start(at_start: MigrateArgs, source: Source) {
    if at_start.tables.first_install && !at_start.migrate {
        warn!("--first-install does nothing without --migrate");
    }
    if at_start.migrate {
        agent::migrate_in_background(move || {
            let source = source.clone();
            async move { install(&source, how(at_start.tables)).await.map(|report| report.summary()) }
        })
        .await;
    }
}

/// Reconciles until a signal ends it.
async fn control(command: ControllerCommand) -> Result<u8, Failure> {
    let ControllerCommand { controller, database, migrate: mut at_start, log } = command;
    telemetry::init(&log, once_a_minute())?;
    let source = source(database);
    let store = open(source.clone(), "component-lease-controller").map_err(|error| failure(&error))?;
    if at_start.migrate && !at_start.tables.first_install {
        at_start.tables.first_install = controller::command::nobody_has_led(&controller).await;
    }
    let max_ttl = at_start.tables.max_ttl;
    migrate_at_start(at_start, source).await;
    controller::command::serve(controller, max_ttl, store).await
}

async fn create_tables(command: MigrateCommand) -> Result<u8, Failure> {
    let MigrateCommand { database, tables, log } = command;
    telemetry::init(&log, once_a_minute())?;
    let source = source(database);
    let report = install(&source, how(tables)).await.map_err(|error| failure(&error))?;
    output::print(&report.to_string())?;
    // Whether it can be used is what somebody wants to know who has just made it.
    let store = open(source, "component-lease migrate").map_err(|error| failure(&error))?;
    let found = store.look_at(&Names::none(), false).await.map_err(|error| failure(&error))?;
    if let Some(record) = found.life.record().filter(|record| record.max_ttl != tables.max_ttl) {
        output::print(&format!(
            "-- The longest ttl of this database is {} s and stays so (--max-ttl is {}); docs/how-to/restore-or-move.md says how to change it.\n",
            record.max_ttl, tables.max_ttl
        ))?;
    }
    Ok(0)
}

/// How long a database that does not answer is waited for.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

async fn check(command: CheckCommand) -> Result<u8, Failure> {
    let CheckCommand { database, log } = command;
    telemetry::init(&log, once_a_minute())?;
    let store = open(source(database), "component-lease check").map_err(|error| failure(&error))?;
    // The connection is inspected before anything is asked.
    let names = Names::none();
    let answer = tokio::time::timeout(CHECK_TIMEOUT, store.look_at(&names, false)).await;
    let found = answer.map_err(|_| {
        let silent = format!("{} did not answer within {CHECK_TIMEOUT:?}", store.describe());
        failure(&StoreError::retryable(silent))
    })?;
    let life = found.map_err(|error| failure(&error))?.life;
    let longest = life.record().map(|record| format!(" (longest ttl {} s)", record.max_ttl));
    output::print(&format!("{} can be used{}\n", store.describe(), longest.unwrap_or_default()))
}

/// A problem that lasts is said once a minute, whatever number it carries each time.
fn once_a_minute() -> telemetry::Due {
    let repeats = Mutex::new(Repeats::default());
    Box::new(move |kind| {
        repeats.lock().unwrap_or_else(PoisonError::into_inner).is_due(&kind_of(kind), SystemClock.boot())
    })
}

fn how(TablesArgs { first_install, max_ttl }: TablesArgs) -> Install {
    Install::default().first(first_install).max_ttl(Duration::from_secs(max_ttl.into()))
}

async fn bump(command: BumpCommand) -> Result<u8, Failure> {
    let BumpCommand { database, log } = command;
    telemetry::init(&log, once_a_minute())?;
    let store = open(source(database), "component-lease epoch bump").map_err(|error| failure(&error))?;
    let begun = begin_epoch(&*store).await.map_err(|error| failure(&error))?;
    output::print(&format!("{begun}\n"))
}

fn source(args: DatabaseArgs) -> Source {
    let DatabaseArgs {
        database_url,
        database_url_file,
        direct_database_url,
        direct_database_url_file,
        database_password_file,
        database_ca_file,
        allow_unsafe_backend,
    } = args;
    let source = match (database_url, database_url_file) {
        (Some(url), _) => Source::url(url.expose()),
        (None, file) => Source::file(file.unwrap_or_default()),
    };
    let mut source = source.unsafe_backend(allow_unsafe_backend);
    if let Some(url) = direct_database_url {
        source = source.direct_url(url.expose());
    }
    if let Some(file) = direct_database_url_file {
        source = source.direct_url_file(file);
    }
    if let Some(file) = database_ca_file {
        source = source.ca_file(file);
    }
    match database_password_file {
        Some(file) => source.password_file(file),
        None => source,
    }
}

fn failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Retryable { .. } => process::ExitCode::Unavailable,
        StoreError::Misconfigured { .. } => process::ExitCode::Config,
        // A bug, or a kind that came later.
        _ => process::ExitCode::Unexpected,
    };
    Failure::new(exit, error.to_string())
}
