//! `--migrate` of `agent` and `run`: the tables are made at the start if the database is there,
//! else as soon as it is. A database that is away keeps nobody from starting.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::clock::{Clock, SystemClock};
use crate::rate::repeats::{Repeats, kind_of};
use crate::store::StoreError;

/// How long the start waits for the tables, so that in the ordinary case they are there at the first look.
const START_WAITS: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Returns when the tables are made, or after a while; goes on in the background until they are.
pub async fn migrate_in_background<F, R>(attempt: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<R, StoreError>> + Send + 'static,
    R: Display + 'static,
{
    let work = tokio::spawn(until_done(attempt));
    // Running out of time only means not to wait any longer.
    let _ = timeout(START_WAITS, work).await;
}

async fn until_done<F, R>(attempt: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<R, StoreError>> + Send + 'static,
    R: Display + 'static,
{
    let mut pause = Duration::from_millis(500);
    let mut repeats = Repeats::default();
    loop {
        match attempt().await {
            Ok(report) => return info!("{report}"),
            Err(error) => {
                let error = error.to_string();
                if repeats.is_due(&kind_of(&error), SystemClock.boot()) {
                    warn!(error, "the tables cannot be made yet; trying again");
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
