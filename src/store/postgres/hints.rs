//! `LISTEN` on a connection of its own. What goes wrong here costs speed only, so it is said once
//! and tried again in the background.

use std::time::Duration;

use sqlx::Acquire;
use sqlx::Connection;
use sqlx::postgres::{PgListener, PgPoolOptions};

use super::connection::{Place, connect_limit};
use super::errors::classify;
use crate::store::{Hint, HintSender, StoreError};

const CHANNEL: &str = "component_lease";
/// A connection that died without a word (a firewall, a vanished host) is found out this late.
const PING_EVERY: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(15);

pub(super) async fn listen(place: Place, sender: HintSender) {
    let mut retry = RETRY_FIRST;
    let mut said = false;
    loop {
        let ended = tokio::select! {
            ended = listen_once(&place, &sender, &mut retry) => ended,
            () = sender.closed() => return,
        };
        sender.set_flowing(false);
        if let Err(error) = ended
            && !said
        {
            said = true;
            tracing::warn!("no notifications (changes are found by polling): {error}");
        }
        let pause = retry.mul_f64(0.5 + fastrand::f64() / 2.0);
        retry = (retry * 2).min(RETRY_MOST);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sender.closed() => return,
        }
    }
}

/// Until the connection ends.
async fn listen_once(place: &Place, sender: &HintSender, retry: &mut Duration) -> Result<(), StoreError> {
    let failed = |error| classify(error, place);
    // A pool of one, made anew for each connection (the listener insists on a pool), so that every
    // connect reads the source: a password may have been rotated.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(connect_limit(0))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(place.options()?);
    let listening = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    let mut listener = within(ANSWER_LIMIT, listening, place).await?;
    *retry = RETRY_FIRST;
    sender.set_flowing(true);
    // What happened before is not known.
    sender.send(Hint::Any);
    loop {
        match tokio::time::timeout(PING_EVERY, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                sender.send(Hint::Component(notification.payload().to_owned()));
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => within(ANSWER_LIMIT, async { listener.acquire().await?.ping().await }, place).await?,
        }
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
    place: &Place,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| classify(error, place)),
        Err(_) => Err(StoreError::Retryable(format!("{place}: no answer within {limit:?}"))),
    }
}
