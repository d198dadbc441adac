//! The participant as a program, for programs in any language: beside one, as the command `agent` does it
//! ([`beside`]). What a supervisor around a program needs of it too ([`run`](crate::run)) stands here.

mod competing;
mod config;
pub mod control;
pub mod health;
mod http;
mod install;
mod metrics;
mod migrate;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

pub(crate) use competing::{builder, confirm_the_stop, election_failed, serve};
pub use config::{Config, HealthArgs, ParticipantArgs};
pub(crate) use control::Control;
pub(crate) use http::Teller;
pub use install::{PROGRAM, install};
pub use migrate::migrate_in_background;

use crate::clock::{Clock, SystemClock};
use crate::membership::Mode;
use crate::participant::Participant;
use crate::process::listen::Listen;
use crate::process::{Failure, shutdown};
use crate::store::LeaseStore;
use health::{Judge, Probe};

/// Where `agent` listens unless told otherwise.
const LISTENS: Listen = Listen::Loopback(8355);

/// Competes beside a program until SIGTERM or SIGINT; the program asks `/leader`.
pub async fn beside(config: Config, store: Arc<dyn LeaseStore>) -> Result<u8, Failure> {
    let end = shutdown::on_signal()?;
    // The work is another process, which was never promised more than is waited for; there is nothing
    // to end by force.
    let builder = builder(&config, store, Mode::Beside).on_overrun(|overrun| {
        warn!(version = overrun.version, "this process was paused beyond the end of its term");
    });
    let served = serve(&config, builder, Mode::Beside, LISTENS).await?;
    let participant = Arc::clone(&served.participant);
    if let Some(probe) = config.probe.clone() {
        // Whether the program is healthy is not known yet.
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
                _ if healthy => info!("the program is healthy"),
                Err(problem) => {
                    warn!(
                        problem,
                        failures = judge.failures(),
                        "the program is unhealthy and does not lead until it is healthy again"
                    );
                }
                Ok(()) => {}
            }
            said = Some(healthy);
        }
        sleep(probe.interval).await;
    }
}
