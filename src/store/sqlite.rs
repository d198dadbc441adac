//! SQLite: one machine, one file. Each call is one prepared statement in a transaction of its own (a
//! take: two in one), on the one connection of the [`Slot`]. This file and its statements stand in the
//! same order and shape as `postgres.rs`, so that the two can be compared line by line.

mod connection;
mod doubt;
mod errors;
mod hints;
mod mend;
mod migrate;
mod statements;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{Connection, Executor, Row};

use self::connection::{Companions, Place, Session};
pub(super) use self::migrate::migrate;
use self::statements as sql;
use super::slot::{First, Held, LOOKS_WITHOUT_COMPANIONS, Slot};
use super::suspicion::{LostTake, Shown};
use super::uuid::new_uuid;
use super::{Hints, Names, Outcome, Snapshot, StandingIntent, Store, StoreError};
use crate::election::life::{DATE_MAX, STEP};
use crate::election::machine::{Looked, Past};
use crate::election::{ComponentName, Expected, Generation, LeaseRow, Life, NewEpoch, Record, Take, TermKey};
use crate::membership::{Instance, Mode, Promise, SeenInstance, Whereabouts};

/// A SQLite file.
pub(super) struct SqliteStore {
    place: Place,
    slot: Slot<Place>,
    lost: LostTake,
    shown: Shown,
}

impl SqliteStore {
    pub(super) fn new(path: PathBuf, unsafe_backend: bool) -> Self {
        Self {
            place: Place::new(path, unsafe_backend),
            slot: Slot::default(),
            lost: LostTake::default(),
            shown: Shown::default(),
        }
    }

    /// The connection, connected and set up as the call needs it.
    async fn session(&self) -> Result<Held<'_, Place>, StoreError> {
        let mut turn = self.slot.turn().await;
        let before = match turn.take() {
            Some(session) if !session.is_of(&self.place) => {
                tracing::warn!(
                    "{}: the file was removed or replaced; what is there now is another database",
                    self.place
                );
                None
            }
            before => before,
        };
        let mut session = match before {
            Some(session) => session,
            None => turn.connected(&self.place, First::Other).await?,
        };
        let lock_limit = self.place.lock_limit.load(Ordering::Relaxed);
        if session.lock_limit != lock_limit {
            let limited = session.limit_lock_wait(lock_limit).await;
            limited.map_err(|error| errors::classify(error, &self.place))?;
        }
        Ok(turn.with(session))
    }

    /// For a look, which precedes each take: whether there are companion tables by now. Where they are
    /// there and cannot be used, looks are refused; whoever leads goes on renewing what it has.
    async fn session_to_look(&self) -> Result<Held<'_, Place>, StoreError> {
        let mut held = self.session().await?;
        held.session.looks = held.session.looks.saturating_add(1);
        if held.session.companions == Companions::All || held.session.looks <= LOOKS_WITHOUT_COMPANIONS {
            return Ok(held);
        }
        self.inspected(held).await
    }

    /// What is there now, and whether it can be used.
    async fn inspected<'s>(&self, mut held: Held<'s, Place>) -> Result<Held<'s, Place>, StoreError> {
        match held.session.look_again(&self.place).await {
            Ok(()) => Ok(held),
            Err(error @ StoreError::Misconfigured(_)) => {
                held.put_back();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The highest version that a participant says it leads or has led. What cannot be read says nothing.
    async fn claimed(
        &self,
        session: &mut Session,
        component: &ComponentName,
    ) -> Result<Option<i64>, sqlx::Error> {
        if !session.instances {
            return Ok(None);
        }
        let query = sqlx::query(sql::CLAIMED).bind(component.as_str());
        let answer = session.connection.fetch_one(query).await.and_then(|row| row.try_get(0));
        answer.or_else(|error| if errors::is_not_to_be_read(&error) { Ok(None) } else { Err(error) })
    }

    /// Puts the connection back where the answer leaves it in order.
    fn finish<T>(&self, held: Held<'_, Place>, answer: Result<T, sqlx::Error>) -> Result<T, StoreError> {
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
        self.lost.looked();
        let mut held = self.session_to_look().await?;
        let query = sqlx::query(held.session.companions.look()).bind(component.as_str());
        let query = match held.session.companions {
            Companions::All => query.bind(held.session.name()),
            Companions::None | Companions::Intent => query,
        };
        let answer = held.session.connection.fetch_one(query).await;
        let looked = answer.and_then(|row| {
            let life = life(&row)?;
            let past = Past::of(life != Life::Unknown, row.try_get(13)?, None);
            Ok(Looked {
                row: lease_row(&row)?,
                database_now: row.try_get(0)?,
                standing_ttl: standing_ttl(&row)?,
                past,
                life,
            })
        });
        let looked = match looked {
            Ok(looked) if looked.past == Past::NeverLived && looked.row.is_none() => {
                let claimed = self.claimed(&mut held.session, component).await;
                claimed.map(|claimed| Looked { past: Past::of(true, None, claimed), ..looked })
            }
            looked => looked,
        };
        self.finish(held, looked)
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        let Take { term, ttl, expected, generation } = take;
        let mut held = self.session().await?;
        let kept = held.session.companions == Companions::All;
        if !kept && *generation != Generation::default() {
            return Ok(lost(held));
        }
        let query = sqlx::query(match (expected, kept) {
            (Expected::Missing { .. }, true) => sql::TAKE_MISSING,
            (Expected::Missing { .. }, false) => sql::TAKE_MISSING_BARE,
            (Expected::Row { .. }, true) => sql::TAKE_ROW,
            (Expected::Row { .. }, false) => sql::TAKE_ROW_BARE,
        });
        let query =
            query.bind(term.component.as_str()).bind(term.holder.as_str()).bind(term.version).bind(*ttl);
        let query = match expected {
            Expected::Missing { .. } if !kept => query,
            Expected::Missing { highest } => query.bind(*highest),
            Expected::Row { version, renew_time } => query.bind(*version).bind(*renew_time),
        };
        if !kept {
            return match held.session.connection.execute(query).await {
                Ok(done) if done.rows_affected() == 0 => self.raced(held, take).await,
                answer => self.finish(held, answer).map(|done| outcome(&done)),
            };
        }
        let query = query.bind(&generation.identity).bind(generation.epoch).bind(held.session.name());
        let history = sqlx::query(sql::WRITE_HISTORY)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version);
        let answer = async {
            let mut transaction = held.session.connection.begin_with("BEGIN IMMEDIATE").await?;
            if transaction.execute(query).await?.rows_affected() == 0 {
                transaction.rollback().await?;
                return Ok(Outcome::Lost);
            }
            match transaction.execute(history).await {
                Err(error) if errors::is_granted_already(&error) => {
                    transaction.rollback().await?;
                    return Ok(Outcome::Lost);
                }
                // A trigger made something else of the row.
                Ok(done) if done.rows_affected() == 0 => {
                    transaction.rollback().await?;
                    return Ok(Outcome::Lost);
                }
                other => other?,
            };
            transaction.commit().await?;
            Ok(Outcome::Applied)
        };
        match answer.await {
            Ok(Outcome::Lost) => self.raced(held, take).await,
            answer => self.finish(held, answer),
        }
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        let query = sqlx::query(sql::RENEW)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version);
        match held.session.connection.execute(query).await {
            Ok(done) if done.rows_affected() == 0 => self.confirm_lost(held, term).await,
            answer => self.finish(held, answer).map(|done| outcome(&done)),
        }
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        let query = sqlx::query(sql::RELEASE)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version);
        match held.session.connection.execute(query).await {
            Ok(done) if done.rows_affected() == 0 => self.confirm_lost(held, term).await,
            answer => self.finish(held, answer).map(|done| outcome(&done)),
        }
    }

    async fn release_late(&self, term: &TermKey, within: &Generation) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        if held.session.companions != Companions::All {
            return Ok(lost(held));
        }
        let query = sqlx::query(sql::RELEASE_LATE)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version)
            .bind(&within.identity)
            .bind(within.epoch)
            .bind(held.session.name());
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        let mut held = self.session_to_look().await?;
        let mut answer = looked_at(&mut held.session, names, instances).await;
        if answer.as_ref().is_ok_and(|snapshot| self.shown.misses(names, snapshot)) {
            held = self.inspected(held).await?;
            answer = looked_at(&mut held.session, names, instances).await;
        }
        let snapshot = self.finish(held, answer)?;
        self.shown.saw(&snapshot);
        Ok(snapshot)
    }

    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        let mut held = self.session().await?;
        if !held.session.instances {
            held.put_back();
            return Ok(None);
        }
        let beat = async {
            if let Some(id) = id {
                let query = sqlx::query(sql::MOVE_HEARTBEAT)
                    .bind(id)
                    .bind(says.component.as_str())
                    .bind(says.holder.as_str())
                    .bind(says.lasts)
                    .bind(says.healthy)
                    .bind(says.leads);
                if held.session.connection.execute(query).await?.rows_affected() > 0 {
                    return Ok(id);
                }
            }
            let Whereabouts { namespace, pod, pod_uid, container, node, address } = &says.whereabouts;
            let query = sqlx::query(sql::BEGIN_INSTANCE)
                .bind(says.component.as_str())
                .bind(says.holder.as_str())
                .bind(says.lasts)
                .bind(says.healthy)
                .bind(says.leads)
                .bind(namespace)
                .bind(pod)
                .bind(pod_uid)
                .bind(container)
                .bind(node)
                .bind(address)
                .bind(&says.program_version)
                .bind(says.mode.map(Mode::as_str))
                .bind(says.promise.map(|promise| promise.longest_ms()))
                .bind(says.promise.map(|promise| promise.outside));
            let done = held.session.connection.execute(query).await?;
            Ok(done.last_insert_rowid())
        };
        let answer = beat.await;
        self.finish(held, answer).map(Some)
    }

    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut held = self.session().await?;
        if !held.session.instances {
            held.put_back();
            return Ok(0);
        }
        let query =
            sqlx::query(sql::PRUNE_INSTANCES).bind(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| done.rows_affected())
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        let mut held = self.session().await?;
        held.session.has_intent(&self.place)?;
        let query = sqlx::query(sql::SET_INTENT).bind(component.as_str()).bind(intent.ttl);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(drop)
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        let mut held = self.session().await?;
        held.session.has_intent(&self.place)?;
        let query = sqlx::query(sql::CLEAR_INTENT).bind(component.as_str());
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(drop)
    }

    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        held.session.has_life(&self.place)?;
        let query = match &new.seen {
            Some(seen) => sqlx::query(sql::BEGIN_EPOCH)
                .bind(DATE_MAX)
                .bind(new.at_least)
                .bind(&seen.identity)
                .bind(seen.epoch)
                .bind(new.deliberate)
                .bind(held.session.name()),
            None => sqlx::query(sql::FIRST_RECORD)
                .bind(DATE_MAX)
                .bind(new.at_least)
                .bind(new.max_ttl)
                .bind(false)
                .bind(false)
                .bind(held.session.name())
                .bind(new_uuid()),
        };
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    async fn settle(&self, waited_out: &Generation) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        held.session.has_life(&self.place)?;
        let query = sqlx::query(sql::SETTLE)
            .bind(&waited_out.identity)
            .bind(waited_out.epoch)
            .bind(held.session.name());
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    fn hints(&self) -> Hints {
        let place = self.place.clone();
        Hints::fed_by(move |sender| hints::watch(place, sender)).of_every_commit()
    }

    fn limit_lock_wait(&self, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.place.lock_limit.store(ms, Ordering::Relaxed);
    }
}

fn outcome(done: &SqliteQueryResult) -> Outcome {
    if done.rows_affected() == 0 { Outcome::Lost } else { Outcome::Applied }
}

/// A lost race, and the connection is in order.
fn lost(held: Held<'_, Place>) -> Outcome {
    held.put_back();
    Outcome::Lost
}

fn life(row: &SqliteRow) -> Result<Life, sqlx::Error> {
    let step = STEP;
    let Some(identity) = row.try_get(8)? else { return Ok(Life::Unknown) };
    let Some(recorded) = row.try_get(9)? else { return Ok(Life::Unrecorded { identity, step }) };
    let record = Record {
        identity: recorded,
        epoch: row.try_get(10)?,
        settled: row.try_get(11)?,
        max_ttl: u32::try_from(row.try_get::<i64, _>(12)?).unwrap_or(1),
    };
    Ok(Life::Recorded { identity, step, record })
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

fn seen_instance(row: &SqliteRow, component: String) -> Result<SeenInstance, sqlx::Error> {
    Ok(SeenInstance {
        id: row.try_get(14)?,
        component,
        holder: row.try_get(15)?,
        start_time: row.try_get(16)?,
        heartbeat: row.try_get(17)?,
        lasts: row.try_get::<i64, _>(18)?,
        whereabouts: Whereabouts {
            namespace: row.try_get(19)?,
            pod: row.try_get(20)?,
            pod_uid: row.try_get(21)?,
            container: row.try_get(22)?,
            node: row.try_get(23)?,
            address: row.try_get(24)?,
        },
        program_version: row.try_get(25)?,
        healthy: row.try_get::<i64, _>(26)? != 0,
        leads: row.try_get(27)?,
        mode: row.try_get::<Option<String>, _>(28)?.and_then(|mode| Mode::parse(&mode)),
        promise: Promise::stored(
            row.try_get(29)?,
            row.try_get::<Option<i64>, _>(30)?.map(|outside| outside != 0),
        ),
    })
}

async fn looked_at(session: &mut Session, names: &Names, instances: bool) -> Result<Snapshot, sqlx::Error> {
    let statement = if instances && session.instances {
        sql::LOOK_AT_WITH_INSTANCES
    } else {
        session.companions.look_at()
    };
    let query = sqlx::query(statement).bind(names.json());
    let query = match session.companions {
        Companions::All => query.bind(session.name()),
        Companions::None | Companions::Intent => query,
    };
    let rows = session.connection.fetch_all(query).await?;
    snapshot(&rows, names)
}

fn snapshot(rows: &[SqliteRow], names: &Names) -> Result<Snapshot, sqlx::Error> {
    // There is always one with the clock: an answer without is no look at an empty database.
    if rows.is_empty() {
        return Err(sqlx::Error::RowNotFound);
    }
    let mut out = Snapshot::default();
    for row in rows {
        if row.len() > 14 {
            let instances = out.instances.get_or_insert_default();
            if row.try_get::<Option<i64>, _>(14)?.is_some() {
                instances.push(seen_instance(row, row.try_get(13)?)?);
                continue;
            }
        }
        let Some(name) = row.try_get::<Option<String>, _>(13)? else {
            out.database_now = row.try_get(0)?;
            out.life = life(row)?;
            continue;
        };
        // The collation of somebody else's column may take another name for this one.
        if !names.contains(&name) {
            continue;
        }
        if let Some(ttl) = standing_ttl(row)? {
            out.intents.insert(name.clone(), StandingIntent { ttl });
        }
        if let Some(lease) = lease_row(row)? {
            out.rows.insert(name, lease);
        }
    }
    Ok(out)
}
