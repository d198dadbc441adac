//! The commands for operators: `component-lease get`, `switchover` and so on, and the same as `kubectl componentlease`.
//! They talk to a database where one is named, else to the cluster.

mod args;
mod cluster;
mod complete;
mod database;
mod drain;
mod leases;
mod print;
mod screen;
mod story;
mod table;
mod timeline;
mod verbs;
mod view;
mod watch;
mod words;

pub use args::Command;
use args::{Format, HistoryArgs, OneArgs, Place, ShowArgs, StepDownArgs};
pub use complete::{answer, script};
use leases::Leases;
pub use leases::Open;
use screen::Screen;
use story::Program;
use verbs::{Asking, Told};

use crate::agent::control;
use crate::operator::Situation;
use crate::process::{Failure, output, shutdown};

/// Does what an operator typed; `name` is how the program was called, and `all` what it understands.
///
/// # Errors
/// [`Failure`] with the exit code of `docs/reference.md`.
pub async fn perform(
    command: Command,
    all: clap::Command,
    name: &str,
    open: Open<'_>,
) -> Result<u8, Failure> {
    let screen = Screen::new();
    match command {
        Command::Get(args) => {
            let leases = Leases::at(args.place, open).await?;
            print::leases(&leases.views(&args.names, args.all_namespaces).await?, args.output, screen)
        }
        Command::Describe(one) => describe(one, name, open).await,
        Command::Switchover(args) => {
            let place = args.one.place.clone();
            ask(Asking::switchover(args), place, open, screen).await
        }
        Command::StepDown(StepDownArgs { socket: Some(path), .. }) => {
            let said = control::ask(&path).await?;
            output::print(&format!(
                "{} stepped down from {} (version {})\n",
                words::safe(&said.holder),
                words::safe(&said.component),
                said.version.unwrap_or_default()
            ))
        }
        Command::StepDown(args) => {
            let place = args.place.clone();
            ask(Asking::step_down(args), place, open, screen).await
        }
        Command::Promote(args) => {
            let place = args.one.place.clone();
            ask(Asking::promote(args), place, open, screen).await
        }
        Command::Drain(args) => drain::drain(args, open, screen).await,
        Command::Pause(args) => pause(args.one, &args.reason, args.dry_run, open).await,
        Command::Resume(args) => resume(args.one, args.dry_run, open).await,
        Command::History(args) => history(args, open, screen).await,
        Command::Instances(args) => {
            let leases = Leases::at(args.one.place, open).await?;
            print::instances(&leases.one(&args.one.name).await?.instances, args.output, screen)
        }
        Command::Completion { shell } => script(shell, all, &name.replace(' ', "-")),
        Command::Watch(args) => {
            let leases = Leases::at(args.place, open).await?;
            watch::watch(&leases, &args.names, args.all_namespaces, screen).await
        }
    }
}

async fn describe(one: OneArgs, name: &str, open: Open<'_>) -> Result<u8, Failure> {
    let place = named(&one.place);
    let leases = Leases::at(one.place, open).await?;
    let (view, last) = match &leases {
        Leases::Database(database) => {
            let (terms, _) = database.history(&database.component(&one.name)?, 1).await?;
            (leases.one(&one.name).await?, timeline::last_change(&terms))
        }
        Leases::Cluster(cluster) => cluster.story(&one.name).await?,
    };
    output::print(&story::story(&view, last.as_deref(), &Program { name, place }))
}

async fn history(args: HistoryArgs, open: Open<'_>, screen: Screen) -> Result<u8, Failure> {
    let HistoryArgs { limit, show: ShowArgs { output: format, one } } = args;
    let mut views = match Leases::at(one.place, open).await? {
        Leases::Database(database) => {
            let component = database.component(&one.name)?;
            database.one(&component).await?;
            let (terms, snapshot) = database.history(&component, limit).await?;
            let situation = Situation::of(&snapshot, &component);
            timeline::terms(&terms, situation.row, situation.database_now)
        }
        Leases::Cluster(cluster) => {
            let views = cluster.history(&one.name).await?;
            output::complain(&format!("{LAST_CHANGE_ALONE}\n"));
            views
        }
    };
    views.truncate(limit as usize);
    print::document(&views, format, || match format {
        Format::Name => words::lines(views.iter().filter_map(|view| Some(view.version?.to_string()))),
        _ => timeline::timeline(&views, screen.width()),
    })
}

/// The resource has its last change alone: a status is no log.
const LAST_CHANGE_ALONE: &str = "A cluster knows only the last change of leader. The history is in the database: name it with --database-url, or run this in the controller's pod (kubectl exec deploy/component-lease -- component-lease history KEY).";

/// The flags that say where, without anything secret. What the environment says need not be typed.
fn named(place: &Place) -> String {
    let database = &place.database;
    let typed = |variable: &str| std::env::var_os(variable).is_none();
    let url = database.database_url.as_ref().filter(|_| typed("COMPONENT_LEASE_DATABASE_URL"));
    let file = database.database_url_file.as_ref().filter(|_| typed("COMPONENT_LEASE_DATABASE_URL_FILE"));
    let words = [
        url.map(|_| " --database-url …".to_owned()),
        file.map(|file| format!(" --database-url-file {}", file.display())),
        place.context.as_ref().map(|context| format!(" --context {context}")),
    ];
    words.into_iter().flatten().collect()
}

async fn ask(asking: Asking, place: Place, open: Open<'_>, screen: Screen) -> Result<u8, Failure> {
    let leases = Leases::at(place, open).await?;
    let end = shutdown::on_signal()?;
    let told = Told { asking: &asking, screen, end: &end };
    leases.ask(&asking, &told).await?.tell(&asking, screen)
}

/// What a pause means, for somebody who has not decided yet.
const PAUSED: &str = "its leader goes on; if it stops or dies, nobody takes over until resume";

async fn pause(one: OneArgs, reason: &str, dry_run: bool, open: Open<'_>) -> Result<u8, Failure> {
    let leases = Leases::at(one.place.clone(), open).await?;
    let view = leases.one(&one.name).await?;
    let title = view.title();
    if let Some(said) = &view.paused {
        return output::print(&format!(
            "{title} is paused already, by {}; nothing was changed\n",
            words::who(&said.by, &said.reason)
        ));
    }
    if dry_run {
        return output::print(&format!("{title} would be paused (dry run, nothing was changed): {PAUSED}\n"));
    }
    match &leases {
        Leases::Database(database) => database.pause(&database.component(&one.name)?, reason).await?,
        Leases::Cluster(cluster) => cluster.pause(&one.name, reason).await?,
    }
    output::print(&format!("{title} is paused: {PAUSED}\n"))
}

async fn resume(one: OneArgs, dry_run: bool, open: Open<'_>) -> Result<u8, Failure> {
    let leases = Leases::at(one.place.clone(), open).await?;
    let view = leases.one(&one.name).await?;
    let title = view.title();
    let paused = match (&leases, dry_run) {
        (_, true) => view.paused.is_some(),
        (Leases::Database(database), false) => {
            if let Some(said) = &view.paused {
                database.resume(&database.component(&one.name)?, &said.by).await?;
            }
            view.paused.is_some()
        }
        (Leases::Cluster(cluster), false) => cluster.resume(&one.name).await?,
    };
    output::print(&match (paused, dry_run) {
        (false, _) => format!("{title} is not paused; nothing was changed\n"),
        (true, true) => format!("{title} would be resumed (dry run, nothing was changed)\n"),
        (true, false) => format!("{title} is resumed: it can be taken again\n"),
    })
}
