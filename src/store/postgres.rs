//! PostgreSQL 13 and newer. Each call is one statement in a transaction of its own (READ COMMITTED), on the one
//! connection of the [`Slot`]: prepared, or as text where a pooler is in between. This file and its statements stand in the same
//! order and shape as `sqlite.rs`, so that the two can be compared line by line.

mod access;
mod connection;
mod errors;
mod hints;
mod identity;
mod look_at;
mod mend;
mod migrate;
mod pooler;
mod statement;
mod statements;
mod table;

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use self::access::{Call, Doubt};
use self::connection::{Place, Session};
use self::look_at::looked_at;
pub(super) use self::migrate::migrate;
use self::statement::Statement;
use self::table::Companions;
use super::address::PostgresUrl;
use super::connect::Source;
use super::slot::{First, Held, LOOKS_WITHOUT_COMPANIONS, Slot};
use super::suspicion::{LostTake, Shown};
use super::{Hints, Names, Outcome, Snapshot, StandingIntent, Store, StoreError};
use crate::election::life::DATE_MAX;
use crate::election::machine::{Looked, Past};
use crate::election::{
    ComponentName, Expected, Generation, LeaseRow, Life, NewEpoch, Pace, Record, Take, TermKey,
};
use crate::membership::{Instance, Mode, Whereabouts};

/// A PostgreSQL database.
pub(super) struct PostgresStore {
    place: Place,
    slot: Slot<Place>,
    lost: LostTake,
    shown: Shown,
}

impl PostgresStore {
    /// `url` is what the source said just now; every connect asks the source again.
    pub(super) fn new(source: Source, url: &PostgresUrl, application: &str) -> Self {
        if let Some(weaker) = url.weaker_tls() {
            tracing::warn!("{url}: {weaker}");
        }
        Self {
            place: Place::new(source, url, application),
            slot: Slot::default(),
            lost: LostTake::default(),
            shown: Shown::default(),
        }
    }

    /// The connection, connected and set up as the call needs it.
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
        let query = Statement::new(session.table.sql.claimed).bind(component.as_str());
        let answer = session.line().fetch_one(query).await.and_then(|row| row.try_get(0));
        answer.or_else(|error| if errors::is_not_to_be_read(&error) { Ok(None) } else { Err(error) })
    }

    /// Puts the connection back where the answer leaves it in order.
    async fn finish<T>(
        &self,
        mut held: Held<'_, Place>,
        call: Call,
        answer: Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(value) => {
                held.put_back();
                Ok(value)
            }
            Err(error) => {
                if errors::is_denied(&error)
                    && let Some(why) = access::lacks(&mut held.session.line(), call, &self.place).await
                {
                    return Err(errors::denied(&error, &why, &self.place));
                }
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

impl PostgresStore {
    /// What became of a renewal or a release.
    async fn judged(
        &self,
        mut held: Held<'_, Place>,
        term: &TermKey,
        answer: Result<u64, sqlx::Error>,
    ) -> Result<Outcome, StoreError> {
        match answer {
            Ok(0) => {
                let doubt = access::confirm_lost(&mut held.session.line(), term, &self.place).await;
                self.doubted(held, Call::Term, doubt).await
            }
            answer => self.finish(held, Call::Term, answer).await.map(outcome),
        }
    }

    /// What "no row" means after it was asked about.
    async fn doubted(
        &self,
        held: Held<'_, Place>,
        call: Call,
        doubt: Result<(), Doubt>,
    ) -> Result<Outcome, StoreError> {
        match doubt {
            Ok(()) => Ok(lost(held)),
            Err(Doubt::Suppressed(why)) => {
                held.put_back();
                Err(why)
            }
            Err(Doubt::Failed(error)) if errors::is_denied(&error) => {
                self.finish(held, call, Err(error)).await
            }
            // No row is what the server said; nothing speaks against it.
            Err(Doubt::Failed(_)) => Ok(Outcome::Lost),
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("place", &self.describe()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn describe(&self) -> String {
        self.place.to_string()
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.lost.looked();
        let mut held = self.session_to_look(First::Look).await?;
        held.session.table.fits_component(component, &self.place)?;
        let (statement, step) = (held.session.table.look(), held.session.table.step());
        let query = Statement::new(statement).bind(component.as_str());
        let answer = held.session.line().fetch_one(query).await;
        let looked = answer.and_then(|row| {
            let life = life(&row, step)?;
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
        self.finish(held, Call::Look, looked)
            .await
            .map_err(|error| errors::naming(error, &[component.as_str()]))
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        let Take { term, ttl, expected, generation } = take;
        let mut held = self.session_for(First::Other).await?;
        held.session.table.fits_term(term, &self.place)?;
        let kept = held.session.table.companions == Companions::All;
        if !kept && *generation != Generation::default() {
            return Ok(lost(held));
        }
        let query = Statement::new(match (expected, kept) {
            (Expected::Missing { .. }, true) => held.session.table.sql.take_missing,
            (Expected::Missing { .. }, false) => held.session.table.sql.take_missing_bare,
            (Expected::Row { .. }, true) => held.session.table.sql.take_row,
            (Expected::Row { .. }, false) => held.session.table.sql.take_row_bare,
        })
        .bind(term.component.as_str())
        .bind(term.holder.as_str())
        .bind(term.version)
        .bind(i32::try_from(*ttl).unwrap_or(i32::MAX));
        let query = match expected {
            Expected::Missing { .. } if !kept => query,
            Expected::Missing { highest } => query.bind(*highest),
            Expected::Row { version, renew_time } => query.bind(*version).bind(*renew_time),
        };
        let query = if kept { query.bind(&generation.identity).bind(generation.epoch) } else { query };
        match held.session.line().execute(query).await {
            Err(error) if errors::is_granted_already(&error) => Ok(lost(held)),
            Ok(0) if self.lost.again(take) => {
                let doubt = access::confirm_raced(&mut held.session.line(), take, &self.place).await;
                self.doubted(held, Call::Take, doubt).await
            }
            answer => {
                let answer = self.finish(held, Call::Take, answer).await.map(outcome);
                answer
                    .map_err(|error| errors::naming(error, &[term.component.as_str(), term.holder.as_str()]))
            }
        }
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session_for(First::Renew).await?;
        let query = Statement::new(held.session.table.sql.renew)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version);
        let answer = held.session.line().execute(query).await;
        self.judged(held, term, answer).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let mut held = self.session_for(First::Other).await?;
        let query = Statement::new(held.session.table.sql.release)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version);
        let answer = held.session.line().execute(query).await;
        self.judged(held, term, answer).await
    }

    async fn release_late(&self, term: &TermKey, within: &Generation) -> Result<Outcome, StoreError> {
        let mut held = self.session_for(First::Other).await?;
        if held.session.table.companions != Companions::All {
            return Ok(lost(held));
        }
        let query = Statement::new(held.session.table.sql.release_late)
            .bind(term.component.as_str())
            .bind(term.holder.as_str())
            .bind(term.version)
            .bind(&within.identity)
            .bind(within.epoch);
        let answer = held.session.line().execute(query).await;
        self.finish(held, Call::Take, answer).await.map(outcome)
    }

    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        let mut held = self.session_to_look(First::Other).await?;
        let mut answer = looked_at(&mut held.session, names, instances).await;
        if answer.as_ref().is_ok_and(|snapshot| self.shown.misses(names, snapshot)) {
            held = self.inspected(held).await?;
            answer = looked_at(&mut held.session, names, instances).await;
        }
        let snapshot = self.finish(held, Call::LookAll, answer).await?;
        self.shown.saw(&snapshot);
        Ok(snapshot)
    }

    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        let mut held = self.session_for(First::Other).await?;
        if !held.session.table.instances {
            held.put_back();
            return Ok(None);
        }
        let Whereabouts { namespace, pod, pod_uid, container, node, address } = &says.whereabouts;
        let query = Statement::new(held.session.table.sql.beat)
            .bind(id)
            .bind(says.component.as_str())
            .bind(says.holder.as_str())
            .bind(i32::try_from(says.lasts).unwrap_or(i32::MAX))
            .bind(namespace)
            .bind(pod)
            .bind(pod_uid)
            .bind(container)
            .bind(node)
            .bind(address)
            .bind(&says.program_version)
            .bind(says.healthy)
            .bind(says.leads)
            .bind(says.mode.map(Mode::as_str))
            .bind(says.promise.map(|promise| promise.longest_ms()))
            .bind(says.promise.map(|promise| promise.outside));
        let answer = held.session.line().fetch_one(query).await.and_then(|row| row.try_get(0));
        let sent = [says.component.as_str(), says.holder.as_str()];
        let told = [namespace, pod, pod_uid, container, node, address, &says.program_version];
        let sent: Vec<&str> =
            sent.into_iter().chain(told.into_iter().flatten().map(String::as_str)).collect();
        let answer = self.finish(held, Call::Beat, answer).await.map(Some);
        answer.map_err(|error| errors::naming(error, &sent))
    }

    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut held = self.session_for(First::Other).await?;
        if !held.session.table.instances {
            held.put_back();
            return Ok(0);
        }
        let query = Statement::new(held.session.table.sql.prune_instances)
            .bind(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let answer = held.session.line().execute(query).await;
        self.finish(held, Call::Prune, answer).await
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        let mut held = self.session_for(First::Other).await?;
        held.session.table.has_intent(&self.place)?;
        let query = Statement::new(held.session.table.sql.set_intent)
            .bind(component.as_str())
            .bind(i32::try_from(intent.ttl).unwrap_or(i32::MAX));
        let answer = held.session.line().execute(query).await;
        let answer = self.finish(held, Call::Intent, answer).await.map(drop);
        answer.map_err(|error| errors::naming(error, &[component.as_str()]))
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        let mut held = self.session_for(First::Other).await?;
        held.session.table.has_intent(&self.place)?;
        let query = Statement::new(held.session.table.sql.clear_intent).bind(component.as_str());
        let answer = held.session.line().execute(query).await;
        let answer = self.finish(held, Call::Intent, answer).await.map(drop);
        answer.map_err(|error| errors::naming(error, &[component.as_str()]))
    }

    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        let mut held = self.session_for(First::Other).await?;
        held.session.table.has_life(&self.place)?;
        held.session.table.fits_epoch(new, &self.place)?;
        let latest_date = if held.session.table.is_narrow() { 0 } else { DATE_MAX };
        let query = match &new.seen {
            Some(seen) => Statement::new(held.session.table.sql.begin_epoch)
                .bind(latest_date)
                .bind(new.at_least)
                .bind(&seen.identity)
                .bind(seen.epoch)
                .bind(new.deliberate),
            None => Statement::new(held.session.table.sql.first_record)
                .bind(latest_date)
                .bind(new.at_least)
                .bind(i32::try_from(new.max_ttl).unwrap_or(i32::MAX))
                .bind(false)
                .bind(false),
        };
        let answer = held.session.line().execute(query).await;
        self.finish(held, Call::Record, answer).await.map(outcome)
    }

    async fn settle(&self, waited_out: &Generation) -> Result<Outcome, StoreError> {
        let mut held = self.session_for(First::Other).await?;
        held.session.table.has_life(&self.place)?;
        let query =
            Statement::new(held.session.table.sql.settle).bind(&waited_out.identity).bind(waited_out.epoch);
        let answer = held.session.line().execute(query).await;
        self.finish(held, Call::Record, answer).await.map(outcome)
    }

    fn hints(&self) -> Hints {
        let (place, slot) = (self.place.clone(), self.slot.clone());
        Hints::fed_by(move |sender| hints::listen(place, slot, sender))
    }

    async fn notify(&self, component: &ComponentName) -> Result<(), StoreError> {
        // What listens has nothing better to do, and may wait.
        if let Some(told) = self.slot.notify(component.as_str()).await {
            return told;
        }
        let mut held = self.session_for(First::Other).await?;
        let query = Statement::new(held.session.table.sql.notify).bind(component.as_str());
        let answer = held.session.line().execute(query).await;
        self.finish(held, Call::Term, answer).await.map(drop)
    }

    fn limit_lock_wait(&self, limit: Duration) {
        // 0 would mean no limit at all.
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.place.lock_limit.store(ms, Ordering::Relaxed);
    }

    fn pace(&self) -> Option<Pace> {
        self.place.pace.get()
    }
}

fn outcome(changed: u64) -> Outcome {
    if changed == 0 { Outcome::Lost } else { Outcome::Applied }
}

/// A lost race, and the connection is in order.
fn lost(held: Held<'_, Place>) -> Outcome {
    held.put_back();
    Outcome::Lost
}

fn life(row: &PgRow, step: i64) -> Result<Life, sqlx::Error> {
    let Some(identity) = row.try_get(8)? else { return Ok(Life::Unknown) };
    let Some(recorded) = row.try_get(9)? else { return Ok(Life::Unrecorded { identity, step }) };
    let record = Record {
        identity: recorded,
        epoch: row.try_get(10)?,
        settled: row.try_get(11)?,
        max_ttl: u32::try_from(row.try_get::<i32, _>(12)?).unwrap_or(1),
    };
    Ok(Life::Recorded { identity, step, record })
}

fn lease_row(row: &PgRow) -> Result<Option<LeaseRow>, sqlx::Error> {
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

fn standing_ttl(row: &PgRow) -> Result<Option<u32>, sqlx::Error> {
    Ok(row.try_get::<Option<i32>, _>(7)?.and_then(|ttl| u32::try_from(ttl).ok()))
}
