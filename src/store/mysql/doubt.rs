//! What "no row" means, where a race or a lost term does not explain it.

use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};

use super::connection::Place;
use super::{MySqlStore, errors, lost};
use crate::election::{ComponentName, Expected, Take, TermKey};
use crate::store::slot::Held;
use crate::store::suspicion::suppressed;
use crate::store::{Outcome, StoreError};

/// A view in its place may show less.
macro_rules! is_table {
    () => {
        "EXISTS (SELECT 1 FROM information_schema.TABLES
                 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease' AND TABLE_TYPE <> 'VIEW')"
    };
}

macro_rules! still {
    ($where:literal) => {
        concat!(
            "SELECT EXISTS (SELECT 1 FROM component_lease WHERE component_name = ?",
            $where,
            "), ",
            is_table!()
        )
    };
}

/// Whether a row that a change did not find is there as it was: asked where "no row" may not be the whole truth.
const STILL_LED: &str =
    still!(" AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(? AS BINARY) AND version = ?");

const STILL_SEEN: &str = still!(" AND COALESCE(version, 0) = ? AND COALESCE(renew_time, 0) = ?");

const STILL_MISSING: &str =
    concat!("SELECT NOT EXISTS (SELECT 1 FROM component_lease WHERE component_name = ?), ", is_table!());

impl MySqlStore {
    /// After an error within the transaction of a take, which is still open.
    pub(super) async fn rolled_back(
        &self,
        mut held: Held<'_, Place>,
        take: &Take,
        error: sqlx::Error,
    ) -> Result<Outcome, StoreError> {
        let in_order = errors::leaves_connection_in_order(&error)
            && held.session.connection.execute(sqlx::raw_sql("ROLLBACK")).await.is_ok();
        // Without a COMMIT nothing is applied: where the connection is closed, the server rolls back.
        let raced = errors::is_granted_already(&error);
        if raced && in_order {
            return self.raced(held, take).await;
        }
        if in_order {
            held.put_back();
        }
        if raced { Ok(Outcome::Lost) } else { Err(errors::classify(error, &self.place)) }
    }

    /// A take that changed nothing: a lost race, unless it was lost on this very sight before and the row is
    /// still as it was seen.
    pub(super) async fn raced(&self, mut held: Held<'_, Place>, take: &Take) -> Result<Outcome, StoreError> {
        if !self.lost.again(take) {
            return Ok(lost(held));
        }
        let name = take.term.component.as_str();
        let query = match take.expected {
            Expected::Missing { .. } => sqlx::query(STILL_MISSING).bind(name),
            Expected::Row { version, renew_time } => {
                sqlx::query(STILL_SEEN).bind(name).bind(version).bind(renew_time)
            }
        };
        let answer = held.session.connection.fetch_one(query).await;
        self.doubted(held, name, answer)
    }

    /// What "no row" means after it was asked about.
    fn doubted(
        &self,
        held: Held<'_, Place>,
        component: &str,
        answer: Result<MySqlRow, sqlx::Error>,
    ) -> Result<Outcome, StoreError> {
        let read = |row: MySqlRow| Ok::<(bool, bool), sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
        let why = match answer.and_then(read) {
            Ok((_, false)) => errors::no_table(&self.place, "component_lease"),
            Ok((true, true)) => suppressed(&self.place, component, &[]),
            Ok((false, true)) => return Ok(lost(held)),
            // No row is what the server said; nothing speaks against it.
            Err(_) => return Ok(Outcome::Lost),
        };
        held.put_back();
        Err(why)
    }

    /// Whether a renewal or release that found no row is one of a term that is over.
    pub(super) async fn confirm_lost(
        &self,
        mut held: Held<'_, Place>,
        term: &TermKey,
    ) -> Result<Outcome, StoreError> {
        let name = term.component.as_str();
        let query = sqlx::query(STILL_LED).bind(name).bind(term.holder.as_str()).bind(term.version);
        let answer = held.session.connection.fetch_one(query).await;
        self.doubted(held, name, answer)
    }
}

/// A table whose collation takes two names for one has room for one of them only.
pub(super) fn same_name(
    component: &ComponentName,
    found: Option<&str>,
    place: &Place,
) -> Result<(), StoreError> {
    match found {
        Some(found) if found != component.as_str() => Err(StoreError::Misconfigured(format!(
            "{place}: the table component_lease takes {:?} for {found:?}, which has a row there, because of the collation of its column component_name: choose another name, or as its owner convert the column to COLLATE utf8mb4_bin",
            component.as_str()
        ))),
        _ => Ok(()),
    }
}
