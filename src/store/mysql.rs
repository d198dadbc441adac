//! MySQL 8 and newer, MariaDB 10.6 and newer. Each call is one prepared statement in a transaction
//! of its own (READ COMMITTED, autocommit), on the one connection of the [`Slot`]; a take is several
//! in one text. This file and its statements stand in the same order and shape as `postgres.rs`, so
//! that the two can be compared line by line.

mod connection;
mod doubt;
mod errors;
mod inspect;
mod look_at;
mod mend;
mod migrate;
mod statements;

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::{MySqlQueryResult, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use self::connection::{Place, Session};
use self::doubt::same_name;
use self::inspect::Companions;
pub(super) use self::migrate::migrate;
use self::statements as sql;
use super::address::MySqlUrl;
use super::connect::Source;
use super::slot::{First, Held, LOOKS_WITHOUT_COMPANIONS, Slot};
use super::suspicion::{LostTake, Shown};
use super::uuid::new_uuid;
use super::{Hints, Names, Outcome, Snapshot, StandingIntent, Store, StoreError};
use crate::election::life::DATE_MAX;
use crate::election::machine::{Looked, Past};
use crate::election::{
    ComponentName, Expected, Generation, LeaseRow, Life, NewEpoch, Pace, Record, Take, TermKey,
};
use crate::membership::{Instance, Mode, Promise, SeenInstance, Whereabouts};

/// A MySQL or MariaDB database.
pub(super) struct MySqlStore {
    place: Place,
    slot: Slot<Place>,
    lost: LostTake,
    shown: Shown,
}

impl MySqlStore {
    /// `url` is what the source said just now; every connect asks the source again.
    pub(super) fn new(source: Source, url: &MySqlUrl) -> Self {
        if let Some(weaker) = url.weaker_tls() {
            tracing::warn!("{url}: {weaker}");
        }
        Self {
            place: Place::new(source, url),
            slot: Slot::default(),
            lost: LostTake::default(),
            shown: Shown::default(),
        }
    }

    /// The connection, connected and set up as the call needs it.
    async fn session(&self) -> Result<Held<'_, Place>, StoreError> {
        self.session_for(First::Other).await
    }

    async fn session_for(&self, first: First) -> Result<Held<'_, Place>, StoreError> {
        let mut turn = self.slot.turn().await;
        let mut session = match turn.take() {
            Some(session) => session,
            None => turn.connected(&self.place, first).await?,
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
    async fn session_to_look(&self, first: First) -> Result<Held<'_, Place>, StoreError> {
        let mut held = self.session_for(first).await?;
        held.session.looks = held.session.looks.saturating_add(1);
        if held.session.table.companions == Companions::All || held.session.looks <= LOOKS_WITHOUT_COMPANIONS
        {
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
        if !session.table.instances {
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
                } else if errors::says_closed(&error) {
                    held.was_closed(&self.place);
                }
                Err(errors::classify(error, &self.place))
            }
        }
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").field("place", &self.describe()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MySqlStore {
    fn describe(&self) -> String {
        self.place.to_string()
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.lost.looked();
        let mut held = self.session_to_look(First::Look).await?;
        let (table, name) = (&held.session.table, component.as_str());
        table.fits_component(component, &self.place)?;
        let step = table.step();
        let query = sqlx::query(table.look());
        let query = match table.companions {
            Companions::All => query.bind(name).bind(name).bind(name),
            Companions::Intent => query.bind(name).bind(name),
            Companions::None => query.bind(name),
        };
        let answer = held.session.connection.fetch_one(query).await;
        let looked = answer.and_then(|row| {
            let life = life(&row, step)?;
            let past = Past::of(life != Life::Unknown, row.try_get(14)?, None);
            let looked = Looked {
                row: lease_row(&row)?,
                database_now: row.try_get(0)?,
                standing_ttl: standing_ttl(&row)?,
                past,
                life,
            };
            Ok((looked, row.try_get::<Option<String>, _>(13)?))
        });
        let looked = match looked {
            Ok((looked, name)) if looked.past == Past::NeverLived && looked.row.is_none() => {
                let claimed = self.claimed(&mut held.session, component).await;
                claimed.map(|claimed| (Looked { past: Past::of(true, None, claimed), ..looked }, name))
            }
            looked => looked,
        };
        let (looked, name) = self.finish(held, looked)?;
        same_name(component, name.as_deref(), &self.place)?;
        Ok(looked)
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        let Take { term, ttl, expected, generation } = take;
        let mut held = self.session().await?;
        held.session.table.fits_term(term, &self.place)?;
        let kept = held.session.table.companions == Companions::All;
        if kept {
            let text = AssertSqlSafe(held.session.table.statements.take(take));
            let answer = held.session.connection.fetch_one(sqlx::raw_sql(text)).await;
            let taken = match answer {
                Ok(row) => row.try_get::<i64, _>(0),
                Err(error) => return self.rolled_back(held, take, error).await,
            };
            return match taken {
                Ok(0) => self.raced(held, take).await,
                taken => self.finish(held, taken).map(|_| Outcome::Applied),
            };
        }
        if *generation != Generation::default() {
            return Ok(lost(held));
        }
        let ttl = i32::try_from(*ttl).unwrap_or(i32::MAX);
        let query = match expected {
            Expected::Missing { .. } => sqlx::query(sql::TAKE_MISSING_BARE)
                .bind(term.component.as_str())
                .bind(term.holder.as_str())
                .bind(term.version)
                .bind(ttl),
            Expected::Row { version, renew_time } => sqlx::query(sql::TAKE_ROW_BARE)
                .bind(term.holder.as_str())
                .bind(term.version)
                .bind(ttl)
                .bind(term.component.as_str())
                .bind(*version)
                .bind(*renew_time),
        };
        match held.session.connection.execute(query).await {
            Err(error) if errors::is_granted_already(&error) => Ok(lost(held)),
            Ok(done) if done.rows_affected() == 0 => self.raced(held, take).await,
            answer => self.finish(held, answer).map(|done| outcome(&done)),
        }
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session_for(First::Renew).await?;
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
        if held.session.table.companions != Companions::All {
            return Ok(lost(held));
        }
        let query = held.session.table.statements.release_late(term, within);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        let mut held = self.session_to_look(First::Other).await?;
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
        if !held.session.table.instances {
            held.put_back();
            return Ok(None);
        }
        let beat = async {
            if let Some(id) = id {
                let query = sqlx::query(sql::MOVE_HEARTBEAT)
                    .bind(says.lasts)
                    .bind(says.healthy)
                    .bind(says.leads)
                    .bind(says.leads)
                    .bind(says.leads)
                    .bind(id)
                    .bind(says.component.as_str())
                    .bind(says.holder.as_str());
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
            Ok(i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX))
        };
        let answer = beat.await;
        self.finish(held, answer).map(Some)
    }

    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut held = self.session().await?;
        if !held.session.table.instances {
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
        held.session.table.has_intent(&self.place)?;
        let ttl = i32::try_from(intent.ttl).unwrap_or(i32::MAX);
        let query = sqlx::query(sql::SET_INTENT).bind(component.as_str()).bind(ttl).bind(ttl);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(drop)
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        let mut held = self.session().await?;
        held.session.table.has_intent(&self.place)?;
        let query = sqlx::query(sql::CLEAR_INTENT).bind(component.as_str());
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(drop)
    }

    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        let table = &held.session.table;
        table.has_life(&self.place)?;
        table.fits_epoch(new, &self.place)?;
        let latest_date = if table.is_narrow() { 0 } else { DATE_MAX };
        let query = match &new.seen {
            Some(seen) => sqlx::query(table.statements.begin_epoch)
                .bind(latest_date)
                .bind(new.at_least)
                .bind(&seen.identity)
                .bind(seen.epoch)
                .bind(latest_date)
                .bind(new.at_least)
                .bind(latest_date)
                .bind(new.deliberate),
            None => sqlx::query(table.statements.first_record)
                .bind(false)
                .bind(latest_date)
                .bind(new.at_least)
                .bind(false)
                .bind(i32::try_from(new.max_ttl).unwrap_or(i32::MAX))
                .bind(new_uuid()),
        };
        match held.session.connection.execute(query).await {
            Err(error) if errors::is_granted_already(&error) => Ok(lost(held)),
            answer => self.finish(held, answer).map(|done| outcome(&done)),
        }
    }

    async fn settle(&self, waited_out: &Generation) -> Result<Outcome, StoreError> {
        let mut held = self.session().await?;
        held.session.table.has_life(&self.place)?;
        let query = sqlx::query(held.session.table.statements.settle)
            .bind(&waited_out.identity)
            .bind(waited_out.epoch);
        let answer = held.session.connection.execute(query).await;
        self.finish(held, answer).map(|done| outcome(&done))
    }

    /// Neither server notifies anybody of anything.
    fn hints(&self) -> Hints {
        Hints::none()
    }

    fn limit_lock_wait(&self, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.place.lock_limit.store(ms, Ordering::Relaxed);
    }

    fn pace(&self) -> Option<Pace> {
        self.place.pace.get()
    }
}

fn outcome(done: &MySqlQueryResult) -> Outcome {
    if done.rows_affected() == 0 { Outcome::Lost } else { Outcome::Applied }
}

/// A lost race, and the connection is in order.
fn lost(held: Held<'_, Place>) -> Outcome {
    held.put_back();
    Outcome::Lost
}

fn life(row: &MySqlRow, step: i64) -> Result<Life, sqlx::Error> {
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

fn lease_row(row: &MySqlRow) -> Result<Option<LeaseRow>, sqlx::Error> {
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

fn standing_ttl(row: &MySqlRow) -> Result<Option<u32>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(7)?.and_then(|ttl| u32::try_from(ttl).ok()))
}

fn seen_instance(row: &MySqlRow, component: String) -> Result<SeenInstance, sqlx::Error> {
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
    let (table, step) = (&session.table, session.table.step());
    let instances = instances && table.instances;
    let look = &table.look_at;
    let text = if instances { &look.with_instances } else { &look.plain };
    let mut query = sqlx::query(AssertSqlSafe(text.clone()));
    for _ in 0..look.names + usize::from(instances) {
        query = query.bind(names.json());
    }
    let rows = session.connection.fetch_all(query).await?;
    snapshot(&rows, names, step)
}

fn snapshot(rows: &[MySqlRow], names: &Names, step: i64) -> Result<Snapshot, sqlx::Error> {
    let mut out = Snapshot::default();
    // Without a row there is no clock: not a look at an empty database.
    rows.first().ok_or(sqlx::Error::RowNotFound)?;
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
            out.life = life(row, step)?;
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
