//! Bringing back a server that has ended, whatever it has that the primary never had.

use std::ffi::OsString;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::Postgres;
use super::files::{self, Promises};
use super::server::How;
use super::standby::Remote;
use crate::database::engine::{Cloning, End, EngineError, Leader, Rejoined};
use crate::primary::Branch;
use crate::primary::promotion::may_follow;
use crate::supervise::ward::Life;

/// Between two looks at something that takes a while.
const LOOK: Duration = Duration::from_millis(50);
/// How long the primary's checkpoint after its promotion is waited for.
const CHECKPOINT: Duration = Duration::from_secs(600);
/// How long a server that was recovered alone may take to end.
const END: Duration = Duration::from_secs(60);
/// How long rewinding or copying may take.
pub(super) const REPAIR: Duration = Duration::from_secs(24 * 3600);
/// How long the data of a member may stay without anything of its primary, while nothing is received.
const PROOF: Duration = Duration::from_secs(60);

impl Postgres {
    pub(super) async fn come_back(&self, leader: &Leader, clone: Cloning) -> Result<Rejoined, EngineError> {
        if self.ward().is_some_and(|ward| !matches!(ward.life(), Life::Gone(_))) {
            return Err(EngineError::failed("the server runs; a member rejoins after its server has ended"));
        }
        if leader.member == self.config.member {
            return Err(EngineError::refused("a member cannot follow itself"));
        }
        self.hold()?;
        let promises = self.promises()?;
        if !may_follow(promises.sealed, leader.version) {
            return Err(EngineError::refused(format!(
                "this member is sealed at version {} and does not rejoin {leader}",
                promises.sealed
            )));
        }
        let mut remote = self.remote(leader).await?;
        if self.config.system.is_some_and(|system| system != remote.system) {
            return Err(EngineError::refused(format!(
                "{leader} has the data {}, which are not those of this cluster",
                remote.system
            )));
        }
        if clone == Cloning::Always || !files::has_data(&self.config.data) {
            return self.copy(leader, &mut remote, promises).await;
        }
        if promises.repairing {
            return self
                .copy_if(clone, leader, &mut remote, promises, "its last repair was interrupted")
                .await;
        }
        let control = self.control().await?;
        if control.system != remote.system && clone == Cloning::IfNeeded {
            // Never by itself: the right data may be in this folder's neighbour.
            return Err(EngineError::refused(format!(
                "{} holds the data {}, and {leader} the data {}: it belongs to another cluster; remove it, so that it is copied",
                self.config.data.display(),
                control.system,
                remote.system
            )));
        }
        self.same_data(control.system, &remote, leader)?;
        // The programs that repair want a server that was ended in order, and none of them can recover one that starts
        // as a standby.
        self.start_as(How::Hidden).await?;
        let branch = self.recovered(leader).await;
        self.stop(End::InOrder { within: END }).await?;
        let control = self.control().await?;
        if !control.clean {
            return Err(EngineError::failed("the server could not be ended in order after it was recovered"));
        }
        let branch = branch?;
        let branch = Branch { line: branch.line.max(control.line), ..branch };
        let Some(fork) = remote.parts(&branch) else {
            if !remote.has_log_from(&branch).await? {
                let why = "the primary no longer has the log that it lacks";
                return self.copy_if(clone, leader, &mut remote, self.promises()?, why).await;
            }
            self.promise(Promises { of: leader.version, ..self.promises()? })?;
            self.begin(Some(leader)).await?;
            self.prove(leader, &remote).await?;
            return Ok(Rejoined::Followed);
        };
        if let Some(why) = self.cannot_be_rewound(control.line, &branch, &remote)? {
            return self.copy_if(clone, leader, &mut remote, self.promises()?, &why).await;
        }
        info!(
            member = self.config.member, %leader, fork = %super::lsn::show(fork), end = %super::lsn::show(branch.end),
            "this member has what its primary never had; taking it back"
        );
        self.until_its_control_file_knows(&mut remote).await?;
        match self.rewind(leader).await {
            Ok(()) => {}
            Err(error) => {
                return self.copy_if(clone, leader, &mut remote, self.promises()?, &error.to_string()).await;
            }
        }
        self.begin(Some(leader)).await?;
        self.prove(leader, &remote).await?;
        Ok(Rejoined::Rewound)
    }

    /// Seals a server that runs alone; what it has.
    async fn recovered(&self, leader: &Leader) -> Result<Branch, EngineError> {
        let report = self.seal_at(leader.version).await?;
        self.branch(&report).await
    }

    /// Why `pg_rewind` would leave there what the primary never had: it tells timelines apart by their numbers and beginnings. `line` is the
    /// one in the control file, by which it goes.
    fn cannot_be_rewound(
        &self,
        line: u32,
        branch: &Branch,
        remote: &Remote,
    ) -> Result<Option<String>, EngineError> {
        if line == remote.history.line() {
            return Ok(Some(format!(
                "it was promoted to the timeline {line} as the primary was, and neither knew of the other, so that pg_rewind cannot tell them apart"
            )));
        }
        let ours = files::history(&self.config.data, line).map_err(|error| {
            EngineError::failed(format!(
                "cannot read where timeline {line} of {} comes from: {error}",
                self.config.data.display()
            ))
        })?;
        let believed = remote.history.believed_common(&ours);
        let shared = remote.lineage.shared_line(&branch.lineage);
        Ok((believed > shared).then(|| {
            format!("its timeline {believed} is another one than the primary's of that number, and pg_rewind cannot tell them apart")
        }))
    }

    /// Until then `pg_rewind` takes the primary's timeline for the one that it has left, and finds nothing to do.
    async fn until_its_control_file_knows(&self, remote: &mut Remote) -> Result<(), EngineError> {
        let deadline = self.clock.boot() + CHECKPOINT;
        loop {
            let known = remote.session.value("SELECT timeline_id::text FROM pg_control_checkpoint()").await?;
            if known.parse() == Ok(remote.history.line()) {
                return Ok(());
            }
            if self.clock.boot() >= deadline {
                return Err(EngineError::failed(format!(
                    "the primary has made no checkpoint on its timeline {} within {CHECKPOINT:?}, before which nothing can be \
                     rewound to it",
                    remote.history.line()
                )));
            }
            sleep(LOOK).await;
        }
    }

    async fn rewind(&self, leader: &Leader) -> Result<(), EngineError> {
        let from = self.conninfo(leader, Some(&self.config.database))?;
        let arguments = || -> Vec<OsString> {
            let mut target = OsString::from("--target-pgdata=");
            target.push(&self.config.data);
            vec![target, format!("--source-server={from}").into(), "--no-ensure-shutdown".into()]
        };
        // Up to where it changes something, so that data which cannot be rewound stay as they are.
        let dry = arguments().into_iter().chain(["--dry-run".into()]).collect();
        self.run_program("pg_rewind", dry, REPAIR).await?;
        let promises = self.promises()?;
        self.promise(Promises { repairing: true, ..promises })?;
        self.run_program("pg_rewind", arguments(), REPAIR).await?;
        // With the primary's files came its own settings.
        self.set_up(How::Following(leader))?;
        self.line.store(0, Ordering::Relaxed);
        self.promise(Promises { repairing: false, line: 0, of: leader.version, ..promises })
    }

    /// Waits until it has what only the primary of this version can have given it: that one's timeline, and the row of
    /// its term.
    pub(super) async fn prove(&self, leader: &Leader, remote: &Remote) -> Result<(), EngineError> {
        let mut moved = (0, self.clock.boot());
        loop {
            let seen = self.look().await?;
            let line = seen.receives.as_ref().map(|receives| receives.line);
            if line == Some(remote.history.line())
                && seen.position.term == leader.version
                && seen.applied > remote.history.began()
            {
                return Ok(());
            }
            let now = self.clock.boot();
            if seen.applied != moved.0 {
                moved = (seen.applied, now);
            }
            if now >= moved.1 + PROOF {
                return Err(EngineError::failed(format!(
                    "nothing of {leader} arrives: this member receives on timeline {line:?} and not {}, and has the term {}",
                    remote.history.line(),
                    seen.position.term
                )));
            }
            sleep(LOOK / 5).await;
        }
    }
}
