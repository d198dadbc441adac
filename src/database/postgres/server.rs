//! Starting the server, always as a standby, and ending it.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;
use tracing::{info, warn};

use super::config::{NOBODY, slot_of};
use super::files::{self, Promises};
use super::identity;
use super::session::{Session, password, says_ready};
use super::settings::{self, IMPOSED};
use super::start::Unsettled;
use super::{Postgres, lock};
use crate::database::engine::{End, EngineError, Leader, Role};
use crate::primary::Names;
use crate::supervise::OF_THE_LEASES;
use crate::supervise::guardians::Program;
use crate::supervise::ward::{Life, Ward};

/// Between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(20);
/// How often a server is asked why it does not say that it answers.
const ASK: Duration = Duration::from_secs(1);
/// How long a standby that follows nobody may say that its data are not whole.
const NOT_WHOLE: Duration = Duration::from_secs(3);
/// How long a server that was refused may take to end.
const REFUSED: Duration = Duration::from_secs(5);

/// How a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How<'a> {
    /// It follows nobody.
    Alone,
    /// It follows nobody, and nobody but us can connect: it may show commits that nobody has acknowledged.
    Hidden,
    /// Its data may be whole only once it has received more.
    Following(&'a Leader),
}

impl Postgres {
    pub(super) async fn begin(&self, leader: Option<&Leader>) -> Result<(), EngineError> {
        self.start_as(leader.map_or(How::Alone, How::Following)).await
    }

    pub(super) async fn start_as(&self, how: How<'_>) -> Result<(), EngineError> {
        if self.ward().is_some_and(|ward| !matches!(ward.life(), Life::Gone(_))) {
            return Err(EngineError::failed("the server runs already"));
        }
        self.hold()?;
        self.until_programs_have_ended().await;
        let promises = self.promises()?;
        if !files::has_data(&self.config.data) {
            return Err(EngineError::refused(format!(
                "there is no database in {}; it is copied from the primary once there is one",
                self.config.data.display()
            )));
        }
        if promises.repairing {
            return Err(EngineError::refused(format!(
                "the repair of {} was interrupted, so its data are of no use; let it be copied from the primary",
                self.config.data.display()
            )));
        }
        self.is_the_same()?;
        self.set_up(how)?;
        let mut command = self.config.command.clone();
        let folder = self.config.state().into_os_string();
        let mut option = |name: &str, value: &std::ffi::OsStr| {
            let mut word = std::ffi::OsString::from(format!("{name}="));
            word.push(value);
            command.extend(["-c".into(), word]);
        };
        for (name, value) in IMPOSED {
            option(name, value.as_ref());
        }
        // Whatever the command or its configuration says: what was promised is about this directory.
        option("data_directory", self.config.data.as_os_str());
        if how == How::Hidden {
            option("listen_addresses", "".as_ref());
            option("unix_socket_directories", &folder);
        }
        let start = Unsettled {
            hidden: how == How::Hidden,
            follows: matches!(how, How::Following(_)),
            before: std::fs::read_to_string(self.config.data.join("postmaster.pid")).ok(),
        };
        let program = Program {
            command,
            set: Vec::new(),
            unset: OF_THE_LEASES.to_vec(),
            guardian: self.config.guardian.clone(),
            output: self.output()?,
        };
        let ward = Ward::start(&self.children, program).await.map_err(|error| {
            EngineError::refused(format!("{} cannot be started: {error}", self.config.command[0].display()))
        })?;
        info!(
            member = self.config.member,
            pid = ward.pid().as_raw_nonzero(),
            ?how,
            "the server is started as a standby"
        );
        *lock(&self.session) = None;
        *lock(&self.names) = Some(Names::Nobody);
        *lock(&self.leader) = match how {
            How::Following(leader) => Some(leader.clone()),
            How::Alone | How::Hidden => None,
        };
        self.version.store(0, Ordering::Relaxed);
        self.line.store(promises.line, Ordering::Relaxed);
        self.pulses.lock().await.forget();
        // Also if this start is given up here: nobody uses a server that was not looked at.
        *lock(&self.unsettled) = Some(start.clone());
        *lock(&self.ward) = Some(Arc::new(ward));
        self.look_at(&start).await
    }

    /// Brings a start to its end that was given up; whether there was one.
    pub(super) async fn settle(&self) -> Result<bool, EngineError> {
        let is_left = self.ward().is_some_and(|ward| !matches!(ward.life(), Life::Gone(_)));
        let Some(start) = lock(&self.unsettled).clone().filter(|_| is_left) else { return Ok(false) };
        if start.hidden {
            self.stop(End::InOrder { within: REFUSED }).await?;
            return Err(EngineError::failed(
                "a repair of this member was given up, so the server that it had started alone was ended",
            ));
        }
        self.look_at(&start).await?;
        Ok(true)
    }

    /// Whether the server answers, and is what was meant to be started. It is ended if not.
    async fn look_at(&self, start: &Unsettled) -> Result<(), EngineError> {
        let Some(ward) = self.ward() else { return Err(EngineError::failed("the server does not run")) };
        let accepted = async {
            self.until_it_answers(&ward, start).await?;
            let mut session = self.session().await?;
            self.accept(&mut session, self.promises()?).await?;
            self.keep(session);
            Ok(())
        };
        let accepted = accepted.await;
        if accepted.is_err() {
            let _ = self.stop(End::InOrder { within: REFUSED }).await;
        } else if !start.hidden {
            *lock(&self.unsettled) = None;
        }
        accepted
    }

    /// Before anything is changed in or beside the data directory.
    pub(super) fn hold(&self) -> Result<(), EngineError> {
        self.promises()?;
        let mut held = lock(&self.held);
        if held.is_some() {
            return Ok(());
        }
        let folder = self.config.state();
        match files::lock(&folder) {
            Ok(Some(file)) => {
                *held = Some(file);
                Ok(())
            }
            Ok(None) => Err(EngineError::refused(format!(
                "another process manages {} already; end it first",
                self.config.data.display()
            ))),
            Err(error) => Err(EngineError::refused(format!("cannot lock {}: {error}", folder.display()))),
        }
    }

    /// What this member has promised, and whether it can be kept.
    pub(super) fn promises(&self) -> Result<Promises, EngineError> {
        let (data, folder) = (&self.config.data, self.config.state());
        let cannot = |error: std::io::Error| {
            EngineError::refused(format!("cannot keep promises in {}: {error}", folder.display()))
        };
        files::make_folder(&folder).map_err(cannot)?;
        if let (Ok(data), Ok(beside)) = (data.metadata(), folder.metadata())
            && data.dev() != beside.dev()
        {
            return Err(EngineError::refused(format!(
                "{} is a volume of its own, so nothing can be kept beside it; let the data be in a folder of that volume",
                self.config.data.display()
            )));
        }
        Promises::read(&folder).map_err(cannot)
    }

    /// What was said of these data is not true of others that somebody has put in their place.
    fn is_the_same(&self) -> Result<(), EngineError> {
        let (data, state) = (&self.config.data, self.config.state());
        match identity::is_as_it_was(data, &state) {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::refused(format!(
                "{} is another directory than at the start of this process; restart it, so that it takes another identity",
                data.display()
            ))),
            Err(error) => Err(EngineError::failed(format!(
                "cannot tell whether {} is the same directory as before: {error}",
                data.display()
            ))),
        }
    }

    /// Writes what the server finds at its start.
    pub(super) fn set_up(&self, how: How<'_>) -> Result<(), EngineError> {
        let data = &self.config.data;
        let cannot = |error: std::io::Error| {
            EngineError::failed(format!("cannot set up {} as a standby: {error}", data.display()))
        };
        files::mark_as_standby(data).map_err(cannot)?;
        let (from, slot) = match how {
            How::Following(leader) => {
                (self.conninfo(leader, None)?, slot_of(&self.config.member, leader.version))
            }
            How::Alone | How::Hidden => (String::new(), String::new()),
        };
        files::set(
            data,
            &[
                ("primary_conninfo", &from),
                ("primary_slot_name", &slot),
                ("synchronous_standby_names", NOBODY),
            ],
        )
        .map_err(cannot)
    }

    /// What reaches a leader's server; with a database, for other things than receiving.
    pub(super) fn conninfo(&self, leader: &Leader, database: Option<&str>) -> Result<String, EngineError> {
        self.conninfo_as(&self.config.member, leader, database)
    }

    /// Under another name than the member's, which counts among those that acknowledge.
    pub(super) fn conninfo_as(
        &self,
        name: &str,
        leader: &Leader,
        database: Option<&str>,
    ) -> Result<String, EngineError> {
        let peers = &self.config.peers;
        let passfile = match password(peers)? {
            None => None,
            Some(password) => {
                let file = self.config.state().join("passwords");
                let wrote = files::durably(&file, &peers.passfile(&password), 0o600);
                wrote.map_err(|error| {
                    EngineError::failed(format!("cannot write {}: {error}", file.display()))
                })?;
                Some(file)
            }
        };
        Ok(peers.conninfo(leader, name, passfile.as_deref(), database))
    }

    fn output(&self) -> Result<Option<OwnedFd>, EngineError> {
        let Some(path) = &self.config.output else { return Ok(None) };
        let opened: std::io::Result<File> = OpenOptions::new().create(true).append(true).open(path);
        let opened = opened
            .map_err(|error| EngineError::refused(format!("cannot write to {}: {error}", path.display())))?;
        Ok(Some(opened.into()))
    }

    /// Recovery may take as long as it takes.
    async fn until_it_answers(&self, ward: &Ward, start: &Unsettled) -> Result<(), EngineError> {
        let (mut not_whole_since, mut asked) = (None, self.clock.boot());
        loop {
            if !ward.runs() {
                let ended = ward.gone().await;
                return Err(EngineError::failed(format!(
                    "the server ended while it started ({ended}); its own log says why"
                )));
            }
            let itself = std::fs::read_to_string(self.config.data.join("postmaster.pid")).unwrap_or_default();
            let now = self.clock.boot();
            // Why it does not answer is said to those who ask, and its log tells of each.
            let ask = says_ready(&itself) || now >= asked + ASK;
            if ask && !itself.is_empty() && Some(&itself) != start.before.as_ref() {
                asked = now;
                match self.connect().await {
                    Ok(session) => {
                        self.keep(session);
                        return Ok(());
                    }
                    Err(error @ EngineError::Refused(_)) => return Err(error),
                    Err(EngineError::Failed(why)) => {
                        let not_whole = why.contains("not yet accepting connections");
                        let since = if not_whole { *not_whole_since.get_or_insert(now) } else { now };
                        not_whole_since = not_whole.then_some(since);
                        if !start.follows && now >= since + NOT_WHOLE {
                            return Err(EngineError::failed(
                                "the data are not whole until more was received; let this member rejoin its primary",
                            ));
                        }
                        // Neither can mend itself.
                        if ["authentication failed", "no pg_hba.conf entry", "does not exist"]
                            .iter()
                            .any(|w| why.contains(w))
                        {
                            return Err(EngineError::refused(format!(
                                "{why}; let the account of this process in over the server's Unix socket (pg_hba.conf: local {} {} peer)",
                                self.config.database, self.config.user
                            )));
                        }
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the server that answers is what was meant to be started.
    async fn accept(&self, session: &mut Session, promises: Promises) -> Result<(), EngineError> {
        let system = session.value("SELECT system_identifier FROM pg_control_system()").await?;
        let system: u64 =
            system.parse().map_err(|_| EngineError::failed("the server has no system identifier"))?;
        let known = [self.config.system.unwrap_or(0), promises.system];
        if let Some(other) = known.into_iter().find(|known| *known != 0 && *known != system) {
            return Err(EngineError::refused(format!(
                "{} holds the data {system}, not those of this cluster, {other}: it belongs to another cluster; name the \
                 right data directory, or remove it so that it is copied from the primary",
                self.config.data.display()
            )));
        }
        if session.value("SELECT pg_is_in_recovery()::text").await? != "true" {
            return Err(EngineError::refused(
                "the server does not start as a standby; does its command remove standby.signal?",
            ));
        }
        settings::check(session).await?;
        // They would keep the log for members that follow another one now.
        if let Err(error) = self.drop_slots(session).await {
            warn!(%error, "a slot of an earlier term was not dropped");
        }
        if promises.system != system {
            let folder = self.config.state();
            Promises { system, ..promises }.write(&folder).map_err(|error| {
                EngineError::failed(format!("cannot write a promise to {}: {error}", folder.display()))
            })?;
        }
        Ok(())
    }

    pub(super) async fn stop(&self, how: End) -> Result<(), EngineError> {
        let Some(ward) = self.ward() else { return Ok(()) };
        let began = self.clock.boot();
        match how {
            End::InOrder { within } => {
                // First: a server that hangs answers nothing of what follows.
                ward.kill_at(began + within);
                if self.look().await.is_ok_and(|seen| seen.role == Role::Primary) {
                    // The shutdown's own is short then: nothing is acknowledged during it.
                    let checkpoint =
                        async { self.connect().await?.rows_within(within / 2, "CHECKPOINT").await };
                    if let Err(error) = checkpoint.await {
                        warn!(%error, "no checkpoint before the end of the server");
                    }
                }
                ward.signal(Signal::INT);
            }
            End::AtOnce { grace } => {
                ward.signal(Signal::QUIT);
                ward.kill_at(began + grace);
            }
        }
        *lock(&self.session) = None;
        let ended = ward.gone().await;
        info!(member = self.config.member, %ended, ?how, "the server has ended, and nothing of it is left");
        self.pulses.lock().await.forget();
        let mut kept = lock(&self.ward);
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &ward)) {
            *kept = None;
            *lock(&self.unsettled) = None;
        }
        Ok(())
    }
}
