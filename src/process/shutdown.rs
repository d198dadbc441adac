//! One signal, one token: by it everything that runs learns that the process ends.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::exit::Failure;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at
/// once, for people who have waited long enough.
pub fn on_signal() -> Result<CancellationToken, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::unexpected(format!("cannot listen for signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 128 + 15),
                _ = interrupt.recv() => ("SIGINT", 128 + 2),
            }
        };
        let (name, _) = next().await;
        info!(signal = name, "shutting down");
        cancelled.cancel();
        let (name, code) = next().await;
        info!(signal = name, "second signal: exiting at once");
        std::process::exit(code);
    });
    Ok(token)
}
