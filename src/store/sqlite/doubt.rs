//! What "no row" means, where a race or a lost term does not explain it: a trigger with `RAISE(IGNORE)`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Row};

use super::connection::Place;
use super::statements as sql;
use super::{SqliteStore, lost};
use crate::election::{Expected, Take, TermKey};
use crate::store::slot::Held;
use crate::store::suspicion::suppressed;
use crate::store::{Outcome, StoreError};

impl SqliteStore {
    /// A take that changed nothing: a lost race, unless it was lost on this very sight before and the row is
    /// still as it was seen.
    pub(super) async fn raced(&self, mut held: Held<'_, Place>, take: &Take) -> Result<Outcome, StoreError> {
        if !self.lost.again(take) {
            return Ok(lost(held));
        }
        let name = take.term.component.as_str();
        let query = match take.expected {
            Expected::Missing { .. } => sqlx::query(sql::STILL_MISSING).bind(name),
            Expected::Row { version, renew_time } => {
                sqlx::query(sql::STILL_SEEN).bind(name).bind(version).bind(renew_time)
            }
        };
        let answer = held.session.connection.fetch_one(query).await;
        self.doubted(held, name, answer)
    }

    /// Whether a renewal or release that found no row is one of a term that is over.
    pub(super) async fn confirm_lost(
        &self,
        mut held: Held<'_, Place>,
        term: &TermKey,
    ) -> Result<Outcome, StoreError> {
        let name = term.component.as_str();
        let query = sqlx::query(sql::STILL_LED).bind(name).bind(term.holder.as_str()).bind(term.version);
        let answer = held.session.connection.fetch_one(query).await;
        self.doubted(held, name, answer)
    }

    fn doubted(
        &self,
        held: Held<'_, Place>,
        component: &str,
        answer: Result<SqliteRow, sqlx::Error>,
    ) -> Result<Outcome, StoreError> {
        let read =
            |row: SqliteRow| Ok::<(bool, Option<String>), sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
        match answer.and_then(read) {
            Ok((false, _)) => Ok(lost(held)),
            Ok((true, triggers)) => {
                held.put_back();
                let names: Vec<_> = triggers.into_iter().collect();
                Err(suppressed(&self.place, component, &names))
            }
            // No row is what the file said; nothing speaks against it.
            Err(_) => Ok(Outcome::Lost),
        }
    }
}
