//! `component-lease try`: a first election in one terminal, with nothing but this program and a SQLite file.
//!
//! ```text
//! make the tables ─▶ start three participants ─▶ one leads and writes to a ledger
//!   ─▶ kill -9 it   ─▶ another leads after the ttl ─▶ a late write with the old version is refused
//!   ─▶ SIGTERM that ─▶ the third leads at once     ─▶ end everything, say what to type next
//! ```
//! Nothing is staged: the participants are processes of the command `run`, and every time that is shown was
//! measured here.

mod competitor;
mod ledger;
mod screen;

use std::ops::Sub as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, SystemClock};
use crate::election::{ComponentName, LeaseRow, Moment};
use crate::process::{ExitCode, Failure};
use crate::store::{Install, LeaseStore, Source, install, open};
use competitor::{Arrival, COMPONENT, Competitor};
use ledger::{Ledger, Verdict, Write};
use screen::Screen;

const NAMES: [&str; 3] = ["one", "two", "three"];
/// How long a leader is watched before something happens to it.
const WATCHED: Duration = Duration::from_millis(1_500);
/// Nothing that is waited for takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// All of it ends by then.
const LIMIT: Duration = Duration::from_secs(30);

/// Shows a first election; answers the exit code.
///
/// # Errors
/// [`Failure`] when nobody leads in time, or when this machine cannot start processes or make files.
pub async fn perform() -> Result<u8, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::unexpected(format!("no signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        shown = timeout(LIMIT, show()) => shown.unwrap_or_else(|_| {
            Err(Failure::new(ExitCode::Ended, format!("this did not end within {LIMIT:?}: is the machine very busy?")))
        }),
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
    }
}

async fn show() -> Result<u8, Failure> {
    let mut scene = Scene::set().await?;
    let first = scene.leader_after(0).await?;
    scene.screen.leads(&first, None);
    scene.row().await?;
    scene.watch().await;

    let (killed, last) = scene.strike(first.from, Signal::KILL);
    let pid = scene.pid(first.from);
    scene.screen.killed(first.from, pid, last);
    let second = scene.leader_after(first.write.version).await?;
    scene.screen.leads(&second, Some(("the kill", second.at.saturating_sub(killed))));
    scene.row().await?;
    let late = Write { version: first.write.version, number: last + 1 };
    scene.late_write(first.from, late)?;
    scene.watch().await;

    let (told, _) = scene.strike(second.from, Signal::TERM);
    scene.screen.told_to_end(second.from);
    let third = scene.leader_after(second.write.version).await?;
    scene.screen.leads(&third, Some(("the signal", third.at.saturating_sub(told))));
    scene.row().await?;
    scene.watch().await;

    let Scene { screen, ledger, competitors, .. } = scene;
    drop(competitors);
    screen.summary(&ledger, third.write.version);
    screen.what_next();
    Ok(0)
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!(
            "component-lease-try-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        ));
        std::fs::create_dir(&path).map_err(|error| {
            Failure::config(format!(
                "cannot make the folder {}: {error}; set TMPDIR to one that can be written",
                path.display()
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is a folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fields are dropped in this order: processes end before their folder goes.
struct Scene {
    screen: Screen,
    ledger: Ledger,
    competitors: Vec<Competitor>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    /// The last write that arrived of each.
    last: [u32; NAMES.len()],
    store: Arc<dyn LeaseStore>,
    _folder: Folder,
}

impl Scene {
    async fn set() -> Result<Self, Failure> {
        let store_failed = |error: crate::store::StoreError| Failure::unexpected(error.to_string());
        let folder = Folder::make()?;
        let database = format!("sqlite:{}", folder.0.join("lease.db").display());
        let screen = Screen::new(SystemClock.boot());
        screen.title();
        let source = Source::url(&database);
        install(&source, Install::default().first(true)).await.map_err(store_failed)?;
        let store = open(source, "component-lease try").map_err(store_failed)?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let competitors = NAMES.map(|name| Competitor::start(name, &database, &folder.0, sender.clone()));
        let competitors: Result<Vec<_>, _> = competitors.into_iter().collect();
        let competitors = competitors
            .map_err(|error| Failure::unexpected(format!("cannot start a participant: {error}")))?;
        screen.started(&competitors);
        Ok(Self {
            screen,
            ledger: Ledger::default(),
            competitors,
            arrivals,
            last: [0; NAMES.len()],
            store,
            _folder: folder,
        })
    }

    fn competitor(&mut self, name: &str) -> &mut Competitor {
        let at = place(name);
        &mut self.competitors[at]
    }

    fn pid(&mut self, name: &str) -> u32 {
        self.competitor(name).pid()
    }

    fn keep(&mut self, arrival: &Arrival) {
        self.last[place(arrival.from)] = arrival.write.number;
        self.ledger.write(arrival.write.version);
    }

    /// The first write of a term that began after `version`.
    async fn leader_after(&mut self, version: i64) -> Result<Arrival, Failure> {
        let began = SystemClock.boot();
        while let left = PATIENCE.saturating_sub(SystemClock.boot().sub(began))
            && !left.is_zero()
        {
            // In steps, so that a participant that fails is noticed.
            match timeout(left.min(Duration::from_millis(500)), self.arrivals.recv()).await {
                Ok(Some(arrival)) => {
                    self.keep(&arrival);
                    if arrival.write.version > version {
                        return Ok(arrival);
                    }
                }
                Ok(None) => break,
                Err(_) => self.all_alive()?,
            }
        }
        Err(self.failed(&format!("nobody led within {PATIENCE:?}")))
    }

    /// Ends one of them, and answers when that was and how many writes of it have arrived.
    fn strike(&mut self, name: &'static str, how: Signal) -> (Moment, u32) {
        let at = SystemClock.boot();
        self.competitor(name).signal(how);
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.keep(&arrival);
        }
        (at, self.last[place(name)])
    }

    /// Lets the leader work for a while.
    async fn watch(&mut self) {
        let work = async {
            while let Some(arrival) = self.arrivals.recv().await {
                self.keep(&arrival);
            }
        };
        // Ends by the time that is up.
        let _ = timeout(WATCHED, work).await;
    }

    fn late_write(&mut self, from: &str, late: Write) -> Result<(), Failure> {
        match self.ledger.write(late.version) {
            Verdict::Refused { newest } => {
                self.screen.refused(from, late, newest);
                Ok(())
            }
            Verdict::Accepted => Err(Failure::unexpected(format!("the ledger took the late {late}"))),
        }
    }

    /// What the table says, and since when.
    async fn row(&self) -> Result<(), Failure> {
        let component =
            ComponentName::new(COMPONENT).map_err(|error| Failure::unexpected(error.to_string()))?;
        // A reader waits while somebody commits.
        for _ in 0..20 {
            if let Ok(looked) = self.store.look(&component).await
                && let Some(row) = &looked.row
            {
                self.screen.row(row, led_for(row, looked.database_now));
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(self.failed("the row could not be read"))
    }

    /// A participant that was not ended here must still run.
    fn all_alive(&mut self) -> Result<(), Failure> {
        let ended: Vec<_> =
            self.competitors.iter_mut().filter_map(|one| Some((one.name, one.ended()?))).collect();
        match ended.len() {
            0..=2 => Ok(()),
            _ => Err(self.failed(&format!("all participants have ended: {ended:?}"))),
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let logs = self.competitors.iter().map(|one| format!("{} logged:\n{}", one.name, one.last_words()));
        Failure::new(ExitCode::Ended, format!("{what}\n{}", logs.collect::<Vec<_>>().join("\n")))
    }
}

/// By the database's clock, which wrote both.
fn led_for(row: &LeaseRow, database_now: i64) -> Duration {
    Duration::from_millis(u64::try_from(database_now.saturating_sub(row.lease_time)).unwrap_or(0))
}

fn place(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).unwrap_or(0)
}
