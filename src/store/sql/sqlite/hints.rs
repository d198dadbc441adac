//! SQLite notifies nobody; but `PRAGMA data_version`, which costs a look into shared memory, says
//! on a connection of its own whether any other connection has committed.

use std::time::Duration;

use sqlx::{Connection, Executor, Row};
use tokio::time::MissedTickBehavior;

use super::connection::{Line, Place};
use super::errors::classify;
use crate::store::error::StoreError;
use crate::store::hints::{Hint, HintSender};
use crate::store::sql::dialect::Dialect as _;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const RETRY_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn watch(place: Place, sender: HintSender) {
    let mut said = false;
    loop {
        let ended = tokio::select! {
            ended = watch_once(&place, &sender) => ended,
            () = sender.closed() => return,
        };
        sender.set_flowing(false);
        if let Err(error) = ended
            && !said
        {
            said = true;
            tracing::warn!("no notifications (changes are found by polling): {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_EVERY) => {}
            () = sender.closed() => return,
        }
    }
}

/// Until the file fails or is replaced.
async fn watch_once(place: &Place, sender: &HintSender) -> Result<(), StoreError> {
    let mut line = place.open().await?;
    place.inspect(&mut line, 0).await?;
    let mut seen = data_version(&mut line, place).await?;
    sender.set_flowing(true);
    // What happened before is not known.
    sender.send(Hint::Any);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while line.is_of(place) {
        ticks.tick().await;
        let now = data_version(&mut line, place).await?;
        if now != seen {
            seen = now;
            sender.send(Hint::Any);
        }
    }
    // A file that was replaced is no error; the next round opens the new one.
    let _ = line.connection.close().await;
    Ok(())
}

async fn data_version(line: &mut Line, place: &Place) -> Result<i64, StoreError> {
    let row = line.connection.fetch_one("PRAGMA data_version").await;
    row.and_then(|row| row.try_get(0)).map_err(|error| classify(error, place))
}
