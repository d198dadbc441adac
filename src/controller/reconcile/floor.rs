//! Resources that remember later versions than their database. What follows is in [`crate::routing::floor`].

use std::time::Duration;

use tracing::warn;

use crate::controller::database::Database;
use crate::election::NewEpoch;
use crate::routing::floor::{FloorSight, Remedy};
use crate::routing::observed::{Desired, Memory, RowSight};
use crate::store::Outcome;

const TIMEOUT: Duration = Duration::from_secs(5);

fn version(row: &RowSight) -> i64 {
    match row {
        RowSight::Seen { row: Some(row), .. } => row.version,
        RowSight::Seen { row: None, .. } | RowSight::Never { .. } => 0,
    }
}

/// What the database knows of the versions that a resource remembers.
pub(super) fn sight(memory: &Memory, row: &RowSight, database: &Database) -> FloorSight {
    let now = database.clock.boot();
    let exhausted = database.epoch_rate(|rate| rate.is_exhausted(now));
    let known = database.known();
    let Some(life) = known.life() else { return FloorSight::default() };
    let of = |seen| Remedy::of(life, version(row), seen, database.clock.wall_ms());
    FloorSight { status: of(memory.floor), annotation: of(memory.floor_copy), exhausted }
}

/// A row below the highest version that its resource has ever seen belongs to a database that forgot
/// something and cannot tell: only this resource knows. The row stays as it is; versions of the new
/// epoch are above the floor, and everybody waits out what else may have been forgotten.
/// False when it should be tried again.
pub(super) async fn raise_epoch(desired: &Desired, floor: i64, database: &Database) -> bool {
    let component = &desired.component;
    let (_, row, _) = database.sight(component.as_str());
    let Some(life) = database.known().life().cloned() else { return true };
    let Remedy::Epoch(at_least) = Remedy::of(&life, version(&row), floor, database.clock.wall_ms()) else {
        return true;
    };
    let Some(record) = life.record() else { return true };
    let now = database.clock.boot();
    // The condition says so.
    if !database.epoch_rate(|rate| rate.begin(now)) {
        return false;
    }
    // A row that was deleted, or written by somebody else's program: the history still knows, so no
    // version is granted twice and nothing has to be waited out.
    let why = match tokio::time::timeout(TIMEOUT, database.store().look(component)).await {
        Ok(Ok(looked)) if looked.past.recorded() >= floor => {
            database.epoch_rate(|rate| rate.not_begun(now));
            return true;
        }
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {TIMEOUT:?}")),
    };
    if let Some(error) = why {
        database.epoch_rate(|rate| rate.failed(now));
        warn!(%component, error, "could not read the highest version from the history; retrying");
        return false;
    }
    let Some(epochs) = database.store().epochs() else { return true };
    warn!(%component, floor, at_least, "the database has no version as high as one that was seen: beginning a new epoch");
    let new = NewEpoch { seen: Some(record.clone()), at_least, max_ttl: record.max_ttl, deliberate: true };
    let begun = tokio::time::timeout(TIMEOUT, epochs.begin_epoch(&new)).await;
    let why = match begun {
        Ok(Ok(Outcome::Applied)) => {
            // So that no other resource asks for one that has begun.
            database.look_again().await;
            return true;
        }
        // Another epoch began meanwhile, which the next look shows, or the database's date is behind ours.
        Ok(Ok(Outcome::Lost)) => {
            database.epoch_rate(|rate| rate.not_begun(now));
            return false;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {TIMEOUT:?}"),
    };
    database.epoch_rate(|rate| rate.failed(now));
    warn!(%component, error = why, "the new epoch could not be recorded; trying again");
    false
}
