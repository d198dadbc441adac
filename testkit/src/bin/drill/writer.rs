//! The probe: it knows three addresses, tries all of them at any time, and remembers what was acknowledged.

use std::borrow::Cow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use component_lease_testkit::wait;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// Connections to each server.
const HANDS: usize = 2;
/// Between two tries of a server that refuses: short against each aim.
const PACE: Duration = Duration::from_millis(10);
/// What a standby says to a write.
const READ_ONLY: Option<Cow<'static, str>> = Some(Cow::Borrowed("25006"));

/// A row that a server acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) number: i64,
    pub(crate) server: usize,
    pub(crate) sent: Instant,
    pub(crate) at: Instant,
}

/// Writes numbered rows, each in a transaction of its own, to whichever server takes them.
#[derive(Debug)]
pub(crate) struct Writer {
    rows: Arc<Mutex<Vec<Row>>>,
    hands: Vec<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(urls: Vec<String>) -> Self {
        let (rows, next) = (Arc::default(), Arc::new(AtomicI64::new(1)));
        let hand = |(server, url): (usize, String)| {
            tokio::spawn(write(server, url, Arc::clone(&next), Arc::clone(&rows)))
        };
        let hands = urls.into_iter().enumerate().flat_map(|one| std::iter::repeat_n(one, HANDS)).map(hand);
        Self { hands: hands.collect(), rows }
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn last(&self) -> Option<Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// Waits until a row that was sent after `since` is acknowledged, by a server other than `not`.
    pub(crate) async fn goes_on(&self, since: Instant, not: Option<usize>) -> Result<Row> {
        let what = "a row to be acknowledged by a server that can be the primary";
        wait::until(PATIENCE, what, async || {
            Ok(self.last().filter(|row| row.sent > since && Some(row.server) != not))
        })
        .await
    }

    /// All that was acknowledged.
    pub(crate) async fn stop(self) -> Vec<Row> {
        for hand in self.hands {
            hand.abort();
            let _ = hand.await;
        }
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// No statement has a time limit: what a frozen server acknowledges once it wakes must be seen.
async fn write(server: usize, url: String, next: Arc<AtomicI64>, rows: Arc<Mutex<Vec<Row>>>) {
    loop {
        if let Ok(mut connection) = PgConnection::connect(&url).await {
            while let Ok(written) = insert(&mut connection, next.fetch_add(1, Ordering::Relaxed)).await {
                match written {
                    Some((number, sent)) => {
                        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                        // Under the lock, so that they stand in the order of their times.
                        rows.push(Row { number, server, sent, at: Instant::now() });
                    }
                    None => tokio::time::sleep(PACE).await,
                }
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The row and when it was sent, or nothing where the server is a standby.
async fn insert(connection: &mut PgConnection, number: i64) -> Result<Option<(i64, Instant)>, sqlx::Error> {
    let sent = Instant::now();
    match sqlx::query("INSERT INTO written VALUES ($1)").bind(number).execute(connection).await {
        Ok(_) => Ok(Some((number, sent))),
        Err(error) if error.as_database_error().is_some_and(|error| error.code() == READ_ONLY) => Ok(None),
        Err(error) => Err(error),
    }
}
