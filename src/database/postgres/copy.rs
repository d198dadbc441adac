//! Copying the primary's data.

use std::ffi::OsString;
use std::sync::atomic::Ordering;

use tracing::warn;

use super::Postgres;
use super::config::{COPIER, beside, slot_of};
use super::files::{self, Promises};
use super::identity;
use super::rejoin::REPAIR;
use super::standby::Remote;
use crate::database::engine::{Cloning, EngineError, Leader, Rejoined};

impl Postgres {
    pub(super) async fn copy_if(
        &self,
        clone: Cloning,
        leader: &Leader,
        remote: &mut Remote,
        promises: Promises,
        why: &str,
    ) -> Result<Rejoined, EngineError> {
        if clone == Cloning::IfEmpty {
            return Err(EngineError::refused(format!(
                "{} cannot be brought back ({why}); allow that it is copied from {leader}, or remove it",
                self.config.data.display()
            )));
        }
        warn!(member = self.config.member, %leader, why, "copying the primary's data");
        self.copy(leader, remote, promises).await
    }

    pub(super) async fn copy(
        &self,
        leader: &Leader,
        remote: &mut Remote,
        promises: Promises,
    ) -> Result<Rejoined, EngineError> {
        let data = &self.config.data;
        let new = beside(data, "copying");
        let cannot = |error: std::io::Error| {
            EngineError::failed(format!("cannot replace {}: {error}", data.display()))
        };
        without_tablespaces(leader, remote).await?;
        self.until_programs_have_ended().await;
        if !files::begin_copy(&new, &self.config.state()).map_err(cannot)? {
            return Err(EngineError::refused(format!(
                "{} is in the way of a copy, and was not made by one; move it elsewhere, or remove it if nobody needs it",
                new.display()
            )));
        }
        let mut arguments: Vec<OsString> =
            vec!["-d".into(), self.conninfo_as(COPIER, leader, None)?.into(), "-D".into()];
        arguments.push(new.clone().into());
        for argument in ["-X", "stream", "--checkpoint=fast", "--no-password", "--slot"] {
            arguments.push(argument.into());
        }
        arguments.push(slot_of(&self.config.member, leader.version).into());
        self.run_program("pg_basebackup", arguments, REPAIR).await?;
        let sealed = promises.sealed.max(leader.version);
        // What is there is of no use any more, should this end here.
        let copied =
            Promises { sealed, system: remote.system, line: 0, of: leader.version, repairing: false };
        self.promise(Promises { repairing: true, ..copied })?;
        let aside = beside(data, &format!("kept-{}", self.clock.wall_ms() / 1000));
        files::replace(data, &new, &aside).map_err(cannot)?;
        identity::keeps_after_a_copy(data, &self.config.state()).map_err(cannot)?;
        files::end_copy(&self.config.state()).map_err(cannot)?;
        if aside.exists() {
            warn!(kept = %aside.display(), "the data that were there are kept; remove them when nobody needs them");
        }
        self.promise(copied)?;
        self.line.store(0, Ordering::Relaxed);
        self.begin(Some(leader)).await?;
        self.prove(leader, remote).await?;
        Ok(Rejoined::Cloned)
    }
}

/// A tablespace outside of the data directory would be copied to its very path, which may hold another server's.
async fn without_tablespaces(leader: &Leader, remote: &mut Remote) -> Result<(), EngineError> {
    let named = "SELECT coalesce(string_agg(spcname, ', ' ORDER BY spcname), '') FROM pg_tablespace
                 WHERE spcname NOT IN ('pg_default', 'pg_global') AND NOT starts_with(pg_tablespace_location(oid), 'pg_tblspc/')";
    let tablespaces = remote.session.value(named).await?;
    if tablespaces.is_empty() {
        return Ok(());
    }
    Err(EngineError::refused(format!(
        "{leader} has the tablespaces {tablespaces}, which are not copied, as each would be put at the same path here; copy its data by hand \
         (pg_basebackup --tablespace-mapping), then start this member again"
    )))
}
