//! A participant with its HTTP endpoints, as `agent` and `run` both have it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::config::Config;
use super::control::{self, Control};
use super::http::{self, LEAST_PROMISE, Promised, Teller};
use super::metrics;
use crate::clock::{Clock, SystemClock};
use crate::membership::{Mode, Promise};
use crate::participant::{ElectionFailed, HeldTerm, Participant, ParticipantBuilder};
use crate::process::admin::{self, Admin};
use crate::process::exit::chain;
use crate::process::listen::{Listen, bind};
use crate::process::{ExitCode, Failure, http as server};
use crate::store::LeaseStore;

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
pub(crate) fn election_failed(error: ElectionFailed) -> Failure {
    Failure::new(ExitCode::Ended, format!("{}; restart this process", chain(&error)))
}

/// A program that was told that this process leads counts as stopped once the last promise is void, or once it says that
/// it has stopped.
pub(crate) async fn confirm_the_stop(held: HeldTerm, teller: &Teller) {
    held.lost().await;
    loop {
        // Before the promise is looked at, so that nothing that is said meanwhile is missed.
        let stopped = teller.stopped();
        let left = teller.promised_until().saturating_sub(SystemClock.boot());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = sleep(left) => {}
            () = stopped => {}
        }
    }
}

/// No answer of `/leader` is ever good for longer.
fn longest_promise(config: &Config) -> Duration {
    config.timing.stop_grace().max(LEAST_PROMISE)
}

pub(crate) fn builder(config: &Config, store: Arc<dyn LeaseStore>, mode: Mode) -> ParticipantBuilder {
    let promise = Promise { longest: longest_promise(config), outside: config.answer_outside };
    let mut builder = Participant::builder(store, config.component.clone())
        .mode(mode)
        .promise(Some(promise))
        .priority(config.priority)
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

pub(crate) struct Served {
    pub(crate) participant: Arc<Participant>,
    pub(crate) teller: Arc<Teller>,
    pub(crate) address: SocketAddr,
    /// Removed when the process ends in order.
    pub(crate) control: Option<Control>,
}

/// Takes the port, starts to compete, and answers over HTTP until the process ends.
pub(crate) async fn serve(
    config: &Config,
    builder: ParticipantBuilder,
    mode: Mode,
    default_address: Listen,
) -> Result<Served, Failure> {
    let listener = bind(config.listen.unwrap_or(default_address)).await?;
    let address = listener.local_addr().map_err(|error| Failure::unexpected(error.to_string()))?;
    let control = match &config.control_socket {
        Some(path) => Some(control::bind(path).await?),
        None => None,
    };
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
    let mut router = http::router(Arc::clone(&teller)).merge(admin::router(admin));
    router = match mode {
        Mode::Around => router.merge(http::of_the_program(Arc::clone(&teller))),
        _ => router.merge(http::confirming(Arc::clone(&teller))),
    };
    tokio::spawn(server::serve(listener, router, CancellationToken::new()));
    let control = control.map(|(listener, control)| {
        control::answer(listener, Arc::clone(&participant));
        control
    });
    Ok(Served { participant, teller, address, control })
}
