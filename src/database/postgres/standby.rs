//! A server that takes no writes: what it has, and whom it follows.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::config::slot_of;
use super::files::{self, Promises};
use super::lsn::{self, History, parse};
use super::session::{Session, quoted};
use super::{Postgres, lock, terms};
use crate::database::engine::{EngineError, Followed, Leader, Observed, Received, Role};
use crate::primary::promotion::may_follow;
use crate::primary::{Branch, Lineage, Position, Report};

/// Between two looks at a change that comes about by itself.
pub(super) const LOOK: Duration = Duration::from_millis(15);
/// How long a change may take that the server makes by itself.
const CHANGE: Duration = Duration::from_secs(10);
/// A log whose last record was cut is replayed to the record before. That is so when nothing was found for this long, which is
/// several times what the server waits before it looks again.
const NOTHING_FOUND: Duration = Duration::from_millis(700);

/// What another member's server says of itself.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) system: u64,
    pub(super) history: History,
    pub(super) lineage: Lineage,
    /// The end of its log.
    pub(super) end: u64,
    pub(super) session: Session,
}

impl Postgres {
    pub(super) async fn look(&self) -> Result<Observed, EngineError> {
        // Before the question: a promotion takes the file away.
        let settled = self.turn.try_lock();
        let mut tampered = Vec::new();
        if settled.is_ok() {
            match files::mark_as_standby(&self.config.data) {
                Ok(true) => {
                    warn!(
                        "standby.signal was missing and is there again: without it the server would start as a primary"
                    );
                    tampered.push("standby.signal was removed from the data directory".to_owned());
                }
                Ok(false) => {}
                Err(error) => tampered.push(format!("standby.signal is missing and cannot be made: {error}")),
            }
        }
        let sealed = self.promises()?.sealed;
        let mut seen = self.observed().await?;
        if settled.is_ok()
            && seen.role == Role::Primary
            && let Some(changed) = self.foreign_names().await?
        {
            tampered.push(changed);
        }
        (seen.sealed, seen.tampered) = (sealed, tampered);
        Ok(seen)
    }

    async fn observed(&self) -> Result<Observed, EngineError> {
        let mut session = self.session().await?;
        let seen = self.observe_on(&mut session).await?;
        self.keep(session);
        Ok(seen)
    }

    async fn observe_on(&self, session: &mut Session) -> Result<Observed, EngineError> {
        let row = session
            .row(
                "SELECT s.standby::text, (SELECT system_identifier FROM pg_control_system())::text,
                        CASE WHEN s.standby THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END::text,
                        CASE WHEN s.standby THEN pg_last_wal_replay_lsn() END::text,
                        (SELECT timeline_id FROM pg_control_checkpoint())::text,
                        (SELECT min_recovery_end_timeline FROM pg_control_recovery())::text,
                        CASE WHEN NOT s.standby THEN pg_walfile_name(pg_current_wal_lsn()) END,
                        r.received_tli::text, r.sender_host, r.sender_port::text, r.latest_end_lsn::text
                 FROM (SELECT pg_is_in_recovery() AS standby) s LEFT JOIN pg_stat_wal_receiver r ON true",
            )
            .await?;
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let lsn = |at: usize| text(at).and_then(parse).unwrap_or(0);
        let line = |at: usize| text(at).and_then(|line| line.parse::<u32>().ok()).unwrap_or(0);
        let standby = text(0) == Some("true");
        let system = text(1).and_then(|system| system.parse().ok());
        let system = system.ok_or_else(|| EngineError::failed("the server has no system identifier"))?;
        let receives = text(7).map(|_| Received {
            host: text(8).unwrap_or_default().to_owned(),
            port: text(9).and_then(|port| port.parse().ok()).unwrap_or(0),
            line: line(7),
            end: lsn(10),
        });
        let (end, line) = if standby {
            // What is received begins with a file of the log, of which a part may be there already.
            (lsn(2).max(lsn(3)), self.seen_on(line(4).max(line(5)).max(line(7))))
        } else {
            (lsn(2), text(6).and_then(lsn::line_of).unwrap_or(0))
        };
        let applied = if standby { lsn(3) } else { end };
        Ok(Observed {
            role: if standby { Role::Standby } else { Role::Primary },
            system,
            position: Position { term: terms::own(session).await?.0, end },
            applied,
            sealed: 0,
            line,
            receives,
            tampered: Vec::new(),
        })
    }

    pub(super) async fn seal_at(&self, version: i64) -> Result<Report, EngineError> {
        let promises = self.promises()?;
        if version < promises.sealed {
            return Err(EngineError::refused(format!(
                "this member is sealed at version {} and cannot be sealed at the older version {version}",
                promises.sealed
            )));
        }
        let follows = lock(&self.leader).as_ref().is_some_and(|leader| leader.version == version);
        if !(follows && promises.sealed == version) {
            self.stop_receiving().await?;
        }
        let seen = self.observed().await?;
        if seen.role == Role::Primary {
            return Err(EngineError::refused(
                "the server is a primary; end it, and seal it when it has started again",
            ));
        }
        // What it was seen to receive may be less than what it has received.
        let size = self.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'").await?;
        let files = files::of_the_log(&self.config.data);
        let on_disk =
            lsn::line_on_disk(files.iter().map(String::as_str), seen.applied, size.parse().unwrap_or(0));
        let line = self.seen_on(seen.line.max(on_disk));
        self.promise(Promises { sealed: version, system: seen.system, line, repairing: false, ..promises })?;
        let position = Position { end: seen.applied, ..seen.position };
        info!(member = self.config.member, version, term = position.term, end = %lsn::show(position.end), "sealed");
        Ok(Report { version, system: seen.system, position })
    }

    pub(super) fn promise(&self, promises: Promises) -> Result<(), EngineError> {
        let folder = self.config.state();
        promises.write(&folder).map_err(|error| {
            EngineError::failed(format!("cannot write a promise to {}: {error}", folder.display()))
        })
    }

    /// Returns when nothing is received any more, and all that was received is part of the data.
    async fn stop_receiving(&self) -> Result<(), EngineError> {
        *lock(&self.leader) = None;
        self.receive_from("", "").await?;
        let deadline = self.clock.boot() + CHANGE;
        // (how much is replayed, since when nothing more was found)
        let mut quiet: Option<(u64, Duration)> = None;
        // The server takes a new connection only after it has told all of its processes of the change.
        let mut session = self.connect().await?;
        loop {
            let row = session
                .row(
                    "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver')::text,
                            (SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'startup'),
                            (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'),
                            pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text,
                            pg_is_in_recovery()::text, (pg_is_in_recovery() AND pg_is_wal_replay_paused())::text",
                )
                .await?;
            let text = |at: usize| row.get(at).and_then(Option::as_deref);
            if text(5) != Some("true") {
                return Err(EngineError::refused("the server is a primary; it receives nothing"));
            }
            if text(6) == Some("true") {
                return Err(EngineError::refused(
                    "replay is paused, so it is unknown which term is in the data; run SELECT pg_wal_replay_resume()",
                ));
            }
            let (received, replayed) = (text(3).and_then(parse), text(4).and_then(parse).unwrap_or(0));
            // It waits before it looks again: the archive, its own files and a primary have nothing for it.
            let found_nothing = text(0) == Some("0") && text(2) == Some("RecoveryRetrieveRetryInterval");
            let knows = text(1).is_none_or(|pid| !awaits_a_hangup(pid));
            let now = self.clock.boot();
            if found_nothing && knows {
                match quiet {
                    Some((before, since)) if before == replayed => {
                        let whole = received.is_none_or(|received| replayed >= received);
                        if whole || now >= since + NOTHING_FOUND {
                            return Ok(());
                        }
                    }
                    _ => quiet = Some((replayed, now)),
                }
            } else if quiet.is_some_and(|(before, _)| before != replayed) {
                quiet = None;
            }
            // Only what makes no progress is given up: there may be much to replay, or a query in its way.
            if now >= deadline && text(0) != Some("0") {
                return Err(EngineError::failed("the server goes on receiving, though it was told to stop"));
            }
            if now >= deadline + CHANGE * 6 {
                return Err(EngineError::failed(format!(
                    "the server has not replayed what it received ({} of {}); does a query hold it up?",
                    lsn::show(replayed),
                    received.map_or_else(String::new, lsn::show)
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Changes whom the server follows. An empty text: nobody.
    async fn receive_from(&self, conninfo: &str, slot: &str) -> Result<(), EngineError> {
        self.set(&[("primary_conninfo", conninfo), ("primary_slot_name", slot)]).await
    }

    /// Changes settings, and returns when a session of the server has read them.
    pub(super) async fn set(&self, settings: &[(&str, &str)]) -> Result<(), EngineError> {
        let deadline = self.clock.boot() + CHANGE;
        for (name, value) in settings {
            self.rows(&format!("ALTER SYSTEM SET {name} = {}", quoted(value))).await?;
        }
        self.rows("SELECT pg_reload_conf()").await?;
        loop {
            let mut wrong = None;
            for (name, value) in settings {
                if self.value(&format!("SELECT current_setting('{name}')")).await? != *value {
                    wrong = Some(name);
                }
            }
            let Some(wrong) = wrong else { return Ok(()) };
            if self.clock.boot() >= deadline {
                return Err(EngineError::failed(format!(
                    "the server does not take up {wrong}; is there an error in its configuration files (its log says so)?"
                )));
            }
            sleep(LOOK).await;
        }
    }

    pub(super) async fn follow_one(&self, leader: &Leader) -> Result<Followed, EngineError> {
        if leader.member == self.config.member {
            return Err(EngineError::refused("a member cannot follow itself"));
        }
        let promises = self.promises()?;
        if !may_follow(promises.sealed, leader.version) {
            return Err(EngineError::refused(format!(
                "this member is sealed at version {} and does not follow {leader}",
                promises.sealed
            )));
        }
        let is_its = lock(&self.leader).as_ref() == Some(leader);
        // One that receives nothing may have diverged, or need what the primary no longer has.
        if is_its && self.observed().await?.receives.is_some() {
            return Ok(Followed::Follows);
        }
        let mut remote = self.remote(leader).await?;
        let report = self.seal_at(leader.version).await?;
        self.same_data(report.system, &remote, leader)?;
        let branch = self.branch(&report).await?;
        if let Some(fork) = remote.parts(&branch) {
            return Ok(Followed::Diverged { fork });
        }
        if !remote.has_log_from(&branch).await? {
            return Ok(Followed::TooFarBehind);
        }
        self.promise(Promises { of: leader.version, ..self.promises()? })?;
        let conninfo = self.conninfo(leader, None)?;
        self.receive_from(&conninfo, &slot_of(&self.config.member, leader.version)).await?;
        *lock(&self.leader) = Some(leader.clone());
        info!(member = self.config.member, %leader, "following");
        Ok(Followed::Follows)
    }

    /// What a sealed member has, which receives nothing.
    pub(super) async fn branch(&self, report: &Report) -> Result<Branch, EngineError> {
        let mut session = self.session().await?;
        let (_, lineage) = terms::own(&mut session).await?;
        self.keep(session);
        let Promises { line, of, .. } = self.promises()?;
        Ok(Branch { lineage, of, line, end: report.position.end })
    }

    pub(super) fn same_data(&self, ours: u64, remote: &Remote, leader: &Leader) -> Result<(), EngineError> {
        if ours == remote.system {
            return Ok(());
        }
        Err(EngineError::refused(format!(
            "{} has the data {ours}, and {leader} the data {}: one of them belongs to another cluster",
            self.config.data.display(),
            remote.system
        )))
    }

    /// Asks a primary what it is. The primary of another version is refused.
    pub(super) async fn remote(&self, leader: &Leader) -> Result<Remote, EngineError> {
        let mut session = Session::of(&self.config.peers, leader, &self.config.database).await?;
        let system = session.value("SELECT system_identifier::text FROM pg_control_system()").await?;
        let strange = || EngineError::failed(format!("the server of {leader} does not say what it is"));
        let system = system.parse().map_err(|_| strange())?;
        let Some(history) = terms::history(&mut session).await? else {
            return Err(EngineError::failed(format!("the server of {leader} is no primary now")));
        };
        let (term, lineage) = terms::of_another(&mut session).await?;
        if term != leader.version {
            return Err(EngineError::failed(format!(
                "the server of {leader} is the primary of version {term}, not of that one"
            )));
        }
        let end = session.value("SELECT pg_current_wal_flush_lsn()::text").await?;
        let end = parse(&end).ok_or_else(strange)?;
        Ok(Remote { system, history, lineage, end, session })
    }
}

impl Remote {
    /// Where the data of a member leave this primary's; `None` if they are a beginning of them.
    pub(super) fn parts(&self, member: &Branch) -> Option<u64> {
        self.lineage.parts(self.end, self.history.end_of(self.end, member.line), member)
    }

    /// Whether a member can receive the rest.
    pub(super) async fn has_log_from(&mut self, member: &Branch) -> Result<bool, EngineError> {
        let size = self
            .session
            .value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
            .await?
            .parse()
            .map_err(|_| EngineError::failed("the primary does not say how long a file of its log is"))?;
        for file in self.history.files(member.line, member.end, size) {
            // All of its fields are empty where there is no file.
            let sql = format!("SELECT ((pg_stat_file('pg_wal/{file}', true)).size IS NOT NULL)::text");
            if self.session.value(&sql).await? == "true" {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a process has yet to hear of a change of its configuration. Where that cannot be seen, it is not waited for: it
/// has been seen to do nothing twice.
fn awaits_a_hangup(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status
        .lines()
        .filter(|line| line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"))
        .filter_map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok());
    pending.fold(0, |all, some| all | some) & 1 != 0
}
