//! SQLite: one machine, one file. Each call is one prepared statement in a transaction of its own,
//! on the one connection of the [`Slot`]. The statements stand in the same order and shape as those
//! of `postgres.rs`, so that the two can be compared line by line.

mod connection;
mod errors;
mod hints;
mod migrate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{Executor, Row};

use self::connection::{Place, Session};
pub(super) use self::migrate::migrate;
use super::slot::{Held, Slot};
use super::{Hints, Outcome, Snapshot, StandingIntent, Store, StoreError};
use crate::domain::election::Looked;
use crate::domain::{ComponentName, Expected, Generation, LeaseRow, Take, TermKey};

// Time is `julianday('now')`: constant within a statement, and first read after the wait for the
// write lock. (`unixepoch('subsec')` is NULL before SQLite 3.42.) Values that a foreign program left
// NULL count as 0 or empty.

const LOOK: &str = "
SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER),
       l.component_name IS NOT NULL, coalesce(l.holder_id, ''),
       CAST(coalesce(l.lease_time, 0) AS INTEGER), CAST(coalesce(l.renew_time, 0) AS INTEGER),
       CAST(coalesce(l.version, 0) AS INTEGER), CAST(coalesce(l.ttl, 0) AS INTEGER),
       i.ttl
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = ?1
LEFT JOIN component_lease_intent AS i ON i.component_name = ?1";

const LOOK_WITHOUT_INTENT: &str = "
SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER),
       l.component_name IS NOT NULL, coalesce(l.holder_id, ''),
       CAST(coalesce(l.lease_time, 0) AS INTEGER), CAST(coalesce(l.renew_time, 0) AS INTEGER),
       CAST(coalesce(l.version, 0) AS INTEGER), CAST(coalesce(l.ttl, 0) AS INTEGER),
       NULL
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = ?1";

const TAKE_MISSING: &str = "
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT ?1, ?2, t.ms, t.ms, ?3, ?4
FROM (SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) AS ms) AS t
WHERE true
ON CONFLICT DO NOTHING";

const TAKE_ROW: &str = "
UPDATE component_lease
SET holder_id = ?2,
    lease_time = CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER),
    renew_time = max(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), coalesce(renew_time, 0) + 1),
    version = ?3,
    ttl = ?4
WHERE component_name = ?1 AND coalesce(version, 0) = ?5 AND coalesce(renew_time, 0) = ?6";

const RENEW: &str = "
UPDATE component_lease
SET renew_time = max(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), coalesce(renew_time, 0) + 1)
WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3";

const RELEASE: &str = "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3";

const LOOK_ALL: &str = "
SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER),
       l.component_name IS NOT NULL, coalesce(l.holder_id, ''),
       CAST(coalesce(l.lease_time, 0) AS INTEGER), CAST(coalesce(l.renew_time, 0) AS INTEGER),
       CAST(coalesce(l.version, 0) AS INTEGER), CAST(coalesce(l.ttl, 0) AS INTEGER),
       i.ttl, coalesce(l.component_name, i.component_name)
FROM (SELECT 1) AS always
LEFT JOIN (SELECT component_name FROM component_lease UNION SELECT component_name FROM component_lease_intent) AS n
LEFT JOIN component_lease AS l ON l.component_name = n.component_name
LEFT JOIN component_lease_intent AS i ON i.component_name = n.component_name";

const LOOK_ALL_WITHOUT_INTENT: &str = "
SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER),
       l.component_name IS NOT NULL, coalesce(l.holder_id, ''),
       CAST(coalesce(l.lease_time, 0) AS INTEGER), CAST(coalesce(l.renew_time, 0) AS INTEGER),
       CAST(coalesce(l.version, 0) AS INTEGER), CAST(coalesce(l.ttl, 0) AS INTEGER),
       NULL, l.component_name
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l";

const SET_INTENT: &str = "
INSERT INTO component_lease_intent (component_name, ttl) VALUES (?1, ?2)
ON CONFLICT (component_name) DO UPDATE SET ttl = excluded.ttl";

const CLEAR_INTENT: &str = "
UPDATE component_lease_intent SET ttl = NULL WHERE component_name = ?1 AND ttl IS NOT NULL";

/// A SQLite file.
pub(super) struct SqliteStore {
    place: Place,
    slot: Slot<Session>,
    /// In ms; 0 until somebody sets it.
    lock_limit: AtomicU64,
}

impl SqliteStore {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { place: Place::new(path), slot: Slot::default(), lock_limit: AtomicU64::new(0) }
    }

    /// The connection, connected and set up as the call needs it.
    async fn session(&self) -> Result<Held<'_, Session>, StoreError> {
        let mut turn = self.slot.turn().await;
        let lock_limit = self.lock_limit.load(Ordering::Relaxed);
        let session = match turn.take().filter(|session| session.is_of(&self.place)) {
            None => self.place.connect(lock_limit).await?,
            Some(mut session) if session.lock_limit != lock_limit => {
                session
                    .limit_lock_wait(lock_limit)
                    .await
                    .map_err(|error| errors::classify(error, &self.place))?;
                session
            }
            Some(session) => session,
        };
        Ok(turn.with(session))
    }

    /// Puts the connection back where the answer leaves it in order.
    fn finish<T>(&self, held: Held<'_, Session>, answer: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        match answer {
            Ok(value) => {
                held.put_back();
                Ok(value)
            }
            Err(error) => {
                if errors::leaves_connection_in_order(&error) {
                    held.put_back();
                }
                Err(errors::classify(error, &self.place))
            }
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("place", &self.describe()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn describe(&self) -> String {
        self.place.to_string()
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        let mut held = self.session().await?;
        let statement = if held.session.has_intent { LOOK } else { LOOK_WITHOUT_INTENT };
        let query = sqlx::query(statement).bind(component.as_str());
        let answer = held.session.connection.fetch_one(query).await;
        let looked = answer.and_then(|row| {
            Ok(Looked {
                row: lease_row(&row)?,
                database_now: row.try_get(0)?,
                standing_ttl: standing_ttl(&row)?,
                generation: Generation::default(),
            })
        });
        self.finish(held, looked)
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        let Take { term, ttl, expected, generation } = take;
        if *generation != Generation::default() {
            return Ok(Outcome::Lost);
        }
        let mut held = self.session().await?;
        let query = match expected {
            Expected::Missing => sqlx::query(TAKE_MISSING),
            Expected::Row { .. } => sqlx::query(TAKE_ROW),
        };
        let query =
            query.bind(term.component.as_str()).bind(term.holder.as_str()).bind(term.version).bind(*ttl);
        let query = match expected {
            Expected::Missing => query,
            Expected::Row { version, renew_time } => query.bind(*version).bind(*renew_time),
        };
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        let query =
            sqlx::query(RENEW).bind(term.component.as_str()).bind(term.holder.as_str()).bind(term.version);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        let query =
            sqlx::query(RELEASE).bind(term.component.as_str()).bind(term.holder.as_str()).bind(term.version);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    async fn look_all(&self) -> Result<Snapshot, StoreError> {
        let mut held = self.session().await?;
        let statement = if held.session.has_intent { LOOK_ALL } else { LOOK_ALL_WITHOUT_INTENT };
        let answer = held.session.connection.fetch_all(sqlx::query(statement)).await;
        let snapshot = answer.and_then(|rows| snapshot(&rows));
        self.finish(held, snapshot)
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        let mut held = self.session().await?;
        held.session.has_intent(&self.place)?;
        let query = sqlx::query(SET_INTENT).bind(component.as_str()).bind(intent.ttl);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(drop)
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        let mut held = self.session().await?;
        held.session.has_intent(&self.place)?;
        let query = sqlx::query(CLEAR_INTENT).bind(component.as_str());
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(drop)
    }

    fn hints(&self) -> Hints {
        let place = self.place.clone();
        Hints::fed_by(move |sender| hints::watch(place, sender)).of_every_commit()
    }

    fn limit_lock_wait(&self, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.lock_limit.store(ms, Ordering::Relaxed);
    }
}

fn outcome(done: &SqliteQueryResult) -> Outcome {
    if done.rows_affected() == 0 { Outcome::Lost } else { Outcome::Applied }
}

fn lease_row(row: &SqliteRow) -> Result<Option<LeaseRow>, sqlx::Error> {
    if !row.try_get::<bool, _>(1)? {
        return Ok(None);
    }
    Ok(Some(LeaseRow {
        holder: row.try_get(2)?,
        lease_time: row.try_get(3)?,
        renew_time: row.try_get(4)?,
        version: row.try_get(5)?,
        ttl: row.try_get(6)?,
    }))
}

fn standing_ttl(row: &SqliteRow) -> Result<Option<u32>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(7)?.and_then(|ttl| u32::try_from(ttl).ok()))
}

fn snapshot(rows: &[SqliteRow]) -> Result<Snapshot, sqlx::Error> {
    let mut out = Snapshot { rows: BTreeMap::new(), intents: BTreeMap::new(), database_now: 0 };
    for row in rows {
        out.database_now = row.try_get(0)?;
        // No name: there is neither row nor intent, only the clock.
        let Some(name) = row.try_get::<Option<String>, _>(8)? else { continue };
        if let Some(ttl) = standing_ttl(row)? {
            out.intents.insert(name.clone(), StandingIntent { ttl });
        }
        if let Some(lease) = lease_row(row)? {
            out.rows.insert(name, lease);
        }
    }
    Ok(out)
}
