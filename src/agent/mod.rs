//! The participant as a program, for programs in any language: beside one ([`beside`], the command
//! `agent`) or around one ([`around`], the command `run`).

mod birth;
mod children;
mod config;
pub mod guardian;
mod guardians;
pub mod health;
mod http;
mod install;
mod metrics;
mod migrate;
mod processes;
mod program;
mod signals;
mod supervise;
mod tree;
mod withheld;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use config::{AroundArgs, Config, HealthArgs, ParticipantArgs};
pub use install::{PROGRAM, install};
pub use migrate::migrate_in_background;

use crate::clock::{Clock, SystemClock};
use crate::membership::{Mode, Promise};
use crate::participant::{ElectionFailed, HeldTerm, Participant, ParticipantBuilder};
use crate::process::admin::{self, Admin};
use crate::process::exit::chain;
use crate::process::listen::{Listen, bind, reachable};
use crate::process::{ExitCode, Failure, http as server, shutdown};
use crate::store::LeaseStore;
use children::Children;
use health::{Judge, Probe};
use http::{Promised, Teller};
use signals::Signals;
use supervise::Supervisor;
use tree::Tree;

/// Where `agent` listens unless told otherwise.
const BESIDE_LISTENS: Listen = Listen::Loopback(8355);
/// Where `run` does: any free port, which the child is told.
const AROUND_LISTENS: Listen = Listen::Loopback(0);

/// Shortest promise that `/leader` gives, however short the stop grace.
const LEAST_PROMISE: Duration = Duration::from_millis(500);

/// How long the thread of last resort goes on killing what the program starts anew.
const LAST_RESORT: Duration = Duration::from_secs(1);

/// Competes beside a program until SIGTERM or SIGINT; the program asks `/leader`.
pub async fn beside(config: Config, store: Arc<dyn LeaseStore>) -> Result<u8, Failure> {
    let end = shutdown::on_signal()?;
    // The work is another process, which was never promised more than is waited for; there is nothing
    // to end by force.
    let builder = builder(&config, store, Mode::Beside).on_overrun(|overrun| {
        warn!(version = overrun.version, "this process was paused beyond the end of its term");
    });
    let served = serve(&config, builder, BESIDE_LISTENS).await?;
    let participant = Arc::clone(&served.participant);
    if let Some(probe) = config.probe.clone() {
        // Nobody knows yet whether the program is well.
        participant.set_healthy(false);
        tokio::spawn(watch_health(probe, config.cooldown, Arc::clone(&participant)));
    }
    let drained = Arc::clone(&participant);
    tokio::spawn(async move {
        end.cancelled().await;
        drained.drain();
    });
    while let Some(held) = participant.lead().await.map_err(election_failed)? {
        info!(version = held.version(), "leading");
        confirm_the_stop(held, &served.teller).await;
    }
    participant.ended().await.map_err(election_failed)?;
    Ok(0)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn election_failed(error: ElectionFailed) -> Failure {
    Failure::new(ExitCode::Ended, format!("{}; restart this process", chain(&error)))
}

/// Whoever was told that this process leads counts as stopped once the last promise is void.
async fn confirm_the_stop(held: HeldTerm, teller: &Teller) {
    held.lost().await;
    let until = teller.promised_until();
    loop {
        let left = until.saturating_sub(SystemClock.boot());
        if left.is_zero() {
            return;
        }
        sleep(left).await;
    }
}

async fn watch_health(probe: Probe, cooldown: Duration, participant: Arc<Participant>) {
    let mut judge = Judge::new(&probe, cooldown, false);
    let (mut said, mut term) = (None, None);
    loop {
        let led = participant.term();
        let leads = led.is_some();
        if leads && term != led {
            term = led;
            judge.forgive_until(SystemClock.boot() + probe.start_grace);
        }
        let answer = probe.ask().await;
        let healthy = judge.heard(SystemClock.boot(), answer.is_ok(), leads);
        if said != Some(healthy) {
            participant.set_healthy(healthy);
            match &answer {
                _ if healthy => info!("the program is well"),
                Err(problem) => {
                    warn!(
                        problem,
                        failures = judge.failures(),
                        "the program is not well: it does not lead until it is"
                    );
                }
                Ok(()) => {}
            }
            said = Some(healthy);
        }
        sleep(probe.interval).await;
    }
}

/// Competes around a program: runs it while this process leads. Answers the exit code to end with.
pub async fn around(
    config: Config,
    around: AroundArgs,
    store: Arc<dyn LeaseStore>,
    command: Vec<OsString>,
) -> Result<u8, Failure> {
    let Some(program) = command.first() else {
        return Err(Failure::new(ExitCode::Usage, "there is no command to run; write it after --"));
    };
    program::check(program, std::env::var_os("PATH"))?;
    let cannot = |error| Failure::unexpected(format!("cannot supervise: {error}"));
    // The program may run as the same user, and is not to read our environment in /proc.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| cannot(error.into()))?;
    let signals = Signals::new().map_err(cannot)?;
    let children = Children::new().map_err(cannot)?;
    let tree = Arc::new(Tree::default());
    let builder = builder(&config, store, Mode::Around).on_overrun({
        let tree = Arc::clone(&tree);
        move |overrun| {
            // A plain thread: this happens even when every async worker is blocked.
            tree.kill(LAST_RESORT);
            error!(version = overrun.version, "the program did not stop before its lease ran out: killed");
        }
    });
    let served = serve(&config, builder, AROUND_LISTENS).await?;
    let supervisor = Supervisor {
        participant: served.participant,
        teller: served.teller,
        command,
        agent_url: format!("http://{}", reachable(served.address)),
        withheld: withheld::from_the_program(&around.pass_env),
        guardian: around.guardian,
        cooldown: config.cooldown,
        drain_timeout: around.drain_timeout,
        probe: config.probe,
        tree,
        children,
        signals,
        ending: false,
    };
    supervisor.run().await
}

/// No answer of `/leader` is ever good for longer.
fn longest_promise(config: &Config) -> Duration {
    config.timing.stop_grace().max(LEAST_PROMISE)
}

fn builder(config: &Config, store: Arc<dyn LeaseStore>, mode: Mode) -> ParticipantBuilder {
    let promise = Promise { longest: longest_promise(config), outside: config.answer_outside };
    let mut builder = Participant::builder(store, config.component.clone())
        .mode(mode)
        .promise(Some(promise))
        .ttl(config.timing.ttl())
        .max_ttl(Duration::from_secs(config.max_ttl.into()))
        .cooldown(config.cooldown);
    // Left out, it follows the ttl of the resource.
    if let Some(grace) = config.timing.chosen_grace() {
        builder = builder.stop_grace(grace);
    }
    if let Some(name) = &config.name {
        builder = builder.name(name);
    }
    if let Some(uid) = &config.pod_uid {
        builder = builder.origin(uid);
    }
    builder = builder.whereabouts(config.whereabouts.clone());
    if let Some(version) = &config.program_version {
        builder = builder.program_version(version);
    }
    builder
}

struct Served {
    participant: Arc<Participant>,
    teller: Arc<Teller>,
    address: SocketAddr,
}

/// Takes the port, starts to compete, and answers over HTTP until the process ends.
async fn serve(
    config: &Config,
    builder: ParticipantBuilder,
    default_address: Listen,
) -> Result<Served, Failure> {
    let listener = bind(config.listen.unwrap_or(default_address)).await?;
    let address = listener.local_addr().map_err(|error| Failure::unexpected(error.to_string()))?;
    let participant = Arc::new(builder.start().map_err(|error| Failure::config(chain(&error)))?);
    info!(component = %participant.component(), holder = %participant.holder(), %address, "competing");

    let promised = Promised::new(longest_promise(config));
    let teller = Arc::new(Teller::new(Arc::clone(&participant), promised, config.answer_outside));
    let admin = Admin {
        live: {
            let participant = Arc::clone(&participant);
            Arc::new(move || participant.check_alive().map_err(|stalled| stalled.to_string()))
        },
        // Readiness is not leadership: a standby is ready too.
        ready: Arc::new(|| Ok(())),
        registry: Arc::new(metrics::registry(&participant)),
    };
    let router = http::router(Arc::clone(&teller)).merge(admin::router(admin));
    tokio::spawn(server::serve(listener, router, CancellationToken::new()));
    Ok(Served { participant, teller, address })
}
