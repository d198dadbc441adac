//! A server that takes writes: how it begins to, whom it waits for, and what proves that it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::config::{NOBODY, SLOTS, check_bearer, slot_of};
use super::files::{self, Promises};
use super::lsn::parse;
use super::pulse::{Pending, Pulses, Written};
use super::session::{LIMIT, Session, quoted};
use super::standby::LOOK;
use super::terms::{self, ROW};
use super::{Postgres, lock};
use crate::database::engine::{Beat, EngineError, Member};
use crate::election::Moment;
use crate::primary::{Names, Position};

/// How long a promotion may take. It does not wait for a checkpoint.
const PROMOTION: Duration = Duration::from_secs(60);
/// How long processes of the server may take to take up other names.
const TAKEN_UP: Duration = Duration::from_secs(10);
/// How long a write that is under way is waited for, before a primary goes on under another version.
const ACKNOWLEDGED: Duration = Duration::from_millis(100);

/// Names as the server is given them.
fn text_of(names: &Names<Member>) -> String {
    match names {
        Names::Nobody => NOBODY.to_owned(),
        Names::Quorum(quorum) if quorum.acks() == 0 => String::new(),
        Names::Quorum(quorum) => {
            let voters: Vec<_> = quorum.voters().iter().map(|voter| format!("\"{voter}\"")).collect();
            format!("ANY {} ({})", quorum.acks(), voters.join(", "))
        }
    }
}

fn acks(names: &Names<Member>) -> Option<usize> {
    match names {
        Names::Nobody => None,
        Names::Quorum(quorum) => Some(quorum.acks()),
    }
}

impl Postgres {
    pub(super) async fn become_primary(
        &self,
        version: i64,
        holder: &str,
        others: &BTreeSet<Member>,
    ) -> Result<Position, EngineError> {
        let promises = self.promises()?;
        if promises.sealed != version || lock(&self.leader).is_some() {
            return Err(EngineError::refused(format!(
                "this member is sealed at version {} and cannot be the primary of version {version} before it is sealed at that",
                promises.sealed
            )));
        }
        if promises.of >= version {
            return Err(EngineError::refused(format!(
                "this member was promoted under version {version} already, or has followed its primary; a version is for one promotion",
            )));
        }
        others.iter().try_for_each(|member| check_bearer(member))?;
        let data = &self.config.data;
        let marked = |moment: &str| {
            files::mark_as_standby(data).map(drop).map_err(|error| {
                EngineError::failed(format!(
                    "cannot make {} {moment}: {error}",
                    data.join(files::STANDBY).display()
                ))
            })
        };
        // A server ends that cannot remove it.
        marked("before the promotion")?;
        self.set(&[("synchronous_standby_names", NOBODY)]).await?;
        *lock(&self.names) = Some(Names::Nobody);
        // Who received from this server as a standby, or as the primary of an older version, is not sealed for this one.
        self.drop_slots(&mut self.connect().await?).await?;
        self.promise(Promises { of: version, ..promises })?;
        let promote = format!("SELECT pg_promote(true, {})", PROMOTION.as_secs());
        self.session().await?.rows_within(PROMOTION, &promote).await?;
        let deadline = self.clock.boot() + PROMOTION;
        while self.value("SELECT pg_is_in_recovery()::text").await? != "false" {
            if self.clock.boot() >= deadline {
                return Err(EngineError::failed(format!(
                    "the server does not become a primary within {PROMOTION:?}"
                )));
            }
            sleep(LOOK).await;
        }
        marked("after the promotion")?;
        self.version.store(version, Ordering::Relaxed);
        let end = terms::mark(&mut self.connect().await?, version, holder, self.clock.wall_ms()).await?;
        self.keep_log_for(others).await?;
        self.prove_that_writes_wait().await?;
        self.checkpoint_in_the_background();
        info!(
            member = self.config.member,
            version, "the server is the primary, and acknowledges nothing yet"
        );
        Ok(Position { term: version, end })
    }

    pub(super) async fn go_on_as(
        &self,
        version: i64,
        holder: &str,
        others: &BTreeSet<Member>,
    ) -> Result<(), EngineError> {
        let (before, promises) = (self.version.load(Ordering::Relaxed), self.promises()?);
        if before == 0 || version <= before || version < promises.sealed {
            return Err(EngineError::refused(format!(
                "the server is the primary of version {before}, and its member sealed at {}: it cannot go on under version {version}",
                promises.sealed
            )));
        }
        self.promise(Promises { sealed: version, of: version, ..promises })?;
        let mut session = self.connect().await?;
        let mut pulses = self.pulses.lock().await;
        self.end_waiting_write(&mut pulses, &mut session).await?;
        // First: not even the row is for those who are not sealed.
        self.drop_slots(&mut session).await?;
        self.version.store(version, Ordering::Relaxed);
        self.keep_log_for(others).await?;
        terms::mark(&mut session, version, holder, self.clock.wall_ms()).await?;
        drop(pulses);
        info!(member = self.config.member, before, version, "the server goes on as the primary");
        Ok(())
    }

    /// A write that waits for members keeps the row of the term from being changed. Members that are sealed already acknowledge it no
    /// more, so it is ended then, and counts as no proof.
    async fn end_waiting_write(&self, pulses: &mut Pulses, session: &mut Session) -> Result<(), EngineError> {
        let Some(mut pending) = pulses.pending.take() else { return Ok(()) };
        let wrote = match timeout(ACKNOWLEDGED, &mut pending.wrote).await {
            Ok(wrote) => wrote,
            Err(_) => {
                session.rows(&format!("SELECT pg_terminate_backend({})::text", pending.pid)).await?;
                timeout(LIMIT, &mut pending.wrote).await.map_err(|_| late(LIMIT))?
            }
        };
        pulses.session = wrote.ok().and_then(Result::ok).map(|(session, _)| session);
        Ok(())
    }

    /// A later rewinding of another member needs it; nothing else waits for it.
    fn checkpoint_in_the_background(&self) {
        let (config, runs) = (self.config.clone(), self.ward());
        tokio::spawn(async move {
            let checkpoint = async {
                let (socket, port) = super::session::place(&config.data)?;
                let mut session = Session::own(&config, &socket, port).await?;
                session.rows_within(Duration::from_secs(3600), "CHECKPOINT").await
            };
            if let Err(error) = checkpoint.await
                && runs.is_some_and(|ward| ward.runs())
            {
                warn!(%error, "no checkpoint after the promotion: a former primary can be rewound only after the next one");
            }
        });
    }

    /// Ends everybody who receives through a slot of ours, and drops them all. Who comes back finds none.
    pub(super) async fn drop_slots(&self, session: &mut Session) -> Result<(), EngineError> {
        let deadline = self.clock.boot() + TAKEN_UP;
        let ours = format!("FROM pg_replication_slots WHERE starts_with(slot_name::text, '{SLOTS}')");
        loop {
            session.rows(&format!("SELECT pg_terminate_backend(active_pid)::text {ours} AND active")).await?;
            // One that has become active again is refused.
            let drop = format!("SELECT pg_drop_replication_slot(slot_name)::text {ours} AND NOT active");
            let dropped = session.rows(&drop).await;
            if session.value(&format!("SELECT count(*)::text {ours}")).await? == "0" {
                return Ok(());
            }
            if self.clock.boot() >= deadline {
                return Err(dropped.err().unwrap_or_else(|| {
                    EngineError::failed("who receives from this server does not let go of its slot")
                }));
            }
            sleep(LOOK).await;
        }
    }

    pub(super) async fn keep_log_for(&self, others: &BTreeSet<Member>) -> Result<(), EngineError> {
        let version = self.version.load(Ordering::Relaxed);
        if version == 0 {
            return Err(EngineError::refused("the server is no primary; it keeps its log for nobody"));
        }
        let wanted: Vec<_> = others.iter().map(|member| quoted(&slot_of(member, version))).collect();
        let wanted = format!("ARRAY[{}]::text[]", wanted.join(", "));
        // One that was lost to the limit of the log that is kept is of no use any more.
        self.rows(&format!(
            "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots
             WHERE starts_with(slot_name::text, '{SLOTS}') AND NOT active
               AND (slot_name::text <> ALL ({wanted}) OR wal_status = 'lost')"
        ))
        .await?;
        self.rows(&format!(
            "SELECT pg_create_physical_replication_slot(name, true)::text FROM unnest({wanted}) name
             WHERE name NOT IN (SELECT slot_name::text FROM pg_replication_slots)"
        ))
        .await
        .map(drop)
    }

    /// What is wrong if somebody else has changed the names.
    pub(super) async fn foreign_names(&self) -> Result<Option<String>, EngineError> {
        let Some(wanted) = lock(&self.names).as_ref().map(text_of) else { return Ok(None) };
        let found = self.value("SELECT current_setting('synchronous_standby_names')").await?;
        Ok((found != wanted).then(|| {
            format!(
                "synchronous_standby_names is {found:?}, which somebody has set by hand; it was {wanted:?}: commits may \
                 have been acknowledged that no other member has"
            )
        }))
    }

    pub(super) async fn wait_for_names(&self, names: &Names<Member>) -> Result<u64, EngineError> {
        if let Names::Quorum(quorum) = names {
            quorum.voters().iter().try_for_each(|voter| check_bearer(voter))?;
        }
        if self.version.load(Ordering::Relaxed) == 0 {
            return Err(EngineError::refused("the server is no primary; it waits for nobody"));
        }
        let before = lock(&self.names).clone();
        // A process that sends the log counts acknowledgements by the number that it knows, which nothing shows. So it first
        // takes up names for which there is nothing to count, and that shows.
        let recount = before.as_ref().and_then(acks) != acks(names);
        if recount && acks(names) != Some(0) && before.as_ref() != Some(&Names::Nobody) {
            self.enforce(&Names::Nobody).await?;
            // From waiting for nobody to waiting: this too is taken up by another process than ours.
            self.prove_that_writes_wait().await?;
        }
        self.enforce(names).await?;
        if acks(names) > Some(0) {
            self.have_waiting_writes_looked_at().await?;
        }
        let end = self.value("SELECT pg_current_wal_insert_lsn()::text").await?;
        parse(&end).ok_or_else(|| EngineError::failed("the server does not say where its log ends"))
    }

    /// Waiting writes are let go when a member confirms more of the log. One that had all of it before it was asked confirms
    /// nothing for up to ten seconds, unless there is more.
    async fn have_waiting_writes_looked_at(&self) -> Result<(), EngineError> {
        let more = "SELECT set_config('synchronous_commit', 'local', true), \
                    pg_logical_emit_message(true, 'component-lease', '')::text";
        self.rows(more).await.map(drop)
    }

    /// Returns when each process that sends the log has taken up the names.
    async fn enforce(&self, names: &Names<Member>) -> Result<(), EngineError> {
        // Unknown, until it is certain.
        *lock(&self.names) = None;
        self.set(&[("synchronous_standby_names", &text_of(names))]).await?;
        let deadline = self.clock.boot() + TAKEN_UP;
        let voters = match names {
            Names::Nobody => None,
            Names::Quorum(quorum) => Some(quorum.voters()),
        };
        loop {
            let sql =
                "SELECT application_name, sync_state FROM pg_stat_replication WHERE flush_lsn IS NOT NULL";
            let rows = self.rows(sql).await?;
            let wrong = rows.iter().find(|row| {
                let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
                let votes = voters.is_some_and(|voters| voters.contains(text(0)));
                // One that catches up is "potential" for now: what tells is whether it is asked at all.
                votes == (text(1) == "async")
            });
            let Some(wrong) = wrong else { break };
            if self.clock.boot() >= deadline {
                return Err(EngineError::failed(format!(
                    "the process that sends the log to {:?} does not take up other names",
                    wrong.first().cloned().flatten().unwrap_or_default()
                )));
            }
            sleep(LOOK).await;
        }
        *lock(&self.names) = Some(names.clone());
        Ok(())
    }

    pub(super) async fn flushed(&self) -> Result<BTreeMap<Member, u64>, EngineError> {
        let rows = self
            .rows(
                "SELECT application_name, max(flush_lsn)::text FROM pg_stat_replication
                 WHERE flush_lsn IS NOT NULL AND state = 'streaming' GROUP BY 1",
            )
            .await?;
        let member = |row: super::session::Values| {
            let mut values = row.into_iter().flatten();
            Some((values.next()?, parse(&values.next()?)?))
        };
        Ok(rows.into_iter().filter_map(member).collect())
    }

    /// Begins a write unless one is under way.
    async fn begin_pulse(&self, pulses: &mut Pulses) -> Result<(), EngineError> {
        if pulses.pending.is_some() {
            return Ok(());
        }
        let version = self.version.load(Ordering::Relaxed);
        if version == 0 {
            return Err(EngineError::refused("the server is no primary; it has no term"));
        }
        let mut session = match pulses.session.take() {
            Some(session) => session,
            None => self.connect().await?,
        };
        let pid = session.value("SELECT pg_backend_pid()::text").await?;
        let began = self.clock.boot();
        let update = format!(
            "UPDATE {ROW} SET beat = {}, beat_seq = beat_seq + 1 WHERE version = {version} RETURNING beat_seq::text",
            self.clock.wall_ms()
        );
        let wrote = tokio::spawn(async move {
            // It ends when it is acknowledged, or with the server.
            let rows = session.rows_within(Duration::from_secs(24 * 3600), &update).await?;
            let seq = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
            let seq = seq.ok_or_else(|| {
                EngineError::refused(format!(
                    "the row of version {version} is gone from {ROW}: somebody has changed it"
                ))
            })?;
            let end = session.value("SELECT pg_current_wal_insert_lsn()::text").await?;
            let end = parse(&end)
                .ok_or_else(|| EngineError::failed("the server does not say where its log ends"))?;
            Ok((session, Written { seq, end }))
        });
        pulses.pending = Some(Pending { began, pid, wrote });
        Ok(())
    }

    /// Returns when a write is seen to wait for members: then every later one waits, too.
    async fn prove_that_writes_wait(&self) -> Result<(), EngineError> {
        let mut pulses = self.pulses.lock().await;
        let deadline = self.clock.boot() + TAKEN_UP;
        loop {
            self.begin_pulse(&mut pulses).await?;
            let Some(pending) = &mut pulses.pending else { continue };
            if pending.wrote.is_finished() {
                // It came before the change, or the change has not come.
                let ended = pulses.pending.take();
                if let Some(Ok(Ok((session, _)))) = match ended {
                    Some(pending) => Some(pending.wrote.await),
                    None => None,
                } {
                    pulses.session = Some(session);
                }
            } else {
                let sql = format!(
                    "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {} AND wait_event_type = 'IPC'",
                    pending.pid
                );
                if self.value(&sql).await? == "SyncRep" {
                    return Ok(());
                }
            }
            if self.clock.boot() >= deadline {
                return Err(EngineError::failed(
                    "the server acknowledges writes though it is to wait for nobody it knows",
                ));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn pulse(&self, limit: Duration) -> Result<Beat, EngineError> {
        let until = self.clock.boot() + limit;
        let mut pulses = timeout(limit, self.pulses.lock()).await.map_err(|_| late(limit))?;
        // One that was acknowledged before anybody asked proves something of a moment that is past.
        if let Some(over) = pulses.pending.take_if(|pending| pending.wrote.is_finished())
            && let Ok(Ok((session, _))) = over.wrote.await
        {
            pulses.session = Some(session);
        }
        timeout(limit.min(LIMIT), self.begin_pulse(&mut pulses)).await.map_err(|_| late(limit))??;
        let Some(pending) = &mut pulses.pending else { return Err(late(limit)) };
        let left = until.saturating_sub(self.clock.boot());
        let Ok(wrote) = timeout(left, &mut pending.wrote).await else { return Err(late(limit)) };
        let began = pending.began;
        pulses.pending = None;
        let (session, written) = wrote.map_err(|_| EngineError::failed("the write was given up"))??;
        pulses.session = Some(session);
        drop(pulses);
        let acks = self.is_with_enough(written, until).await?;
        Ok(Beat { began, seq: written.seq, end: written.end, acks })
    }

    /// The server says "committed" also of a write that somebody has stopped from waiting, and of one that waited for
    /// names that somebody else has set. So what was acknowledged is seen to be there.
    async fn is_with_enough(&self, written: Written, until: Moment) -> Result<usize, EngineError> {
        loop {
            let names = lock(&self.names).clone();
            if let Some(Names::Quorum(quorum)) = &names {
                let flushed = if quorum.acks() == 0 { BTreeMap::default() } else { self.flushed().await? };
                let have = |voter: &&Member| flushed.get(*voter).is_some_and(|end| *end >= written.end);
                if quorum.voters().iter().filter(have).count() >= quorum.acks() {
                    return Ok(quorum.acks());
                }
            }
            if self.clock.boot() >= until {
                return Err(EngineError::failed(
                    "a write was acknowledged that too few members have on disk: its wait was cancelled, or somebody has \
                     changed the names; it proves nothing",
                ));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

fn late(limit: Duration) -> EngineError {
    EngineError::failed(format!("no write was acknowledged within {limit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primary::Quorum;

    #[test]
    fn names_are_those_of_members_and_of_nobody() {
        let voters = ["orders-db-1", "orders-db-2"].map(str::to_owned);
        let quorum = |acks, voters: &[String]| {
            Names::Quorum(Quorum::any(acks, voters.iter().cloned().collect()).unwrap())
        };
        assert_eq!(text_of(&quorum(1, &voters)), "ANY 1 (\"orders-db-1\", \"orders-db-2\")");
        assert_eq!(text_of(&quorum(0, &[])), "");
        assert!(
            check_bearer(text_of(&Names::Nobody).trim_matches('"')).is_err(),
            "no member can be called that"
        );
    }
}
