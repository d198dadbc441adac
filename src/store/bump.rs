//! A new epoch because somebody says so.

use std::fmt;
use std::time::Duration;

use super::error::StoreError;
use super::names::Names;
use super::traits::{Directory, Outcome};
use crate::election::life::MAX_TTL_DEFAULT_SECONDS;
use crate::election::{Life, NewEpoch};

/// For each call.
const LIMIT: Duration = Duration::from_secs(10);
/// Others may record the same change at the same time.
const TRIES: usize = 5;

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Begun {
    /// Which database.
    pub database: String,
    /// Which epoch begins.
    pub epoch: i64,
    /// For how long nobody takes a lease.
    pub waits: Duration,
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: epoch {} begins; nobody takes a lease for {} s, holders go on",
            self.database,
            self.epoch,
            self.waits.as_secs()
        )
    }
}

/// Begins an epoch in a database that may have forgotten something which it cannot tell itself:
/// versions start above everything that may have been granted, and everybody waits.
///
/// # Errors
/// When the database does not answer, or has no table to record it in.
pub async fn begin_epoch(store: &dyn Directory) -> Result<Begun, StoreError> {
    let epochs = store.epochs().ok_or_else(|| no_record(store))?;
    for _ in 0..TRIES {
        let before = recorded(store).await?;
        let new = NewEpoch {
            seen: before.record().cloned(),
            at_least: 0,
            max_ttl: MAX_TTL_DEFAULT_SECONDS,
            deliberate: true,
        };
        if within(store, epochs.begin_epoch(&new)).await? == Outcome::Lost {
            continue;
        }
        if let Some(record) = recorded(store).await?.record() {
            let waits = Duration::from_secs(record.max_ttl.into());
            return Ok(Begun { database: store.describe(), epoch: record.epoch, waits });
        }
    }
    Err(StoreError::retryable(format!("{}: the record of epochs keeps changing", store.describe())))
}

async fn recorded(store: &dyn Directory) -> Result<Life, StoreError> {
    match within(store, store.look_at(&Names::none(), false)).await?.life {
        Life::Unknown => Err(no_record(store)),
        life => Ok(life),
    }
}

fn no_record(store: &dyn Directory) -> StoreError {
    StoreError::misconfigured(format!(
        "{}: the tables component_lease_history and component_lease_store are missing; run `component-lease migrate`",
        store.describe()
    ))
}

async fn within<T>(
    store: &dyn Directory,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| {
        Err(StoreError::retryable(format!("{}: no answer within {LIMIT:?}", store.describe())))
    })
}
