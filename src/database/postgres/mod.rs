//! PostgreSQL, 13 or newer.
//!
//! `standby.signal` is in the data directory always, also in a running primary's: it is read at the start only, so
//! that a server that somebody starts again, or that starts again by itself after a crash, takes no writes.

mod config;
mod copy;
mod files;
mod identity;
mod lsn;
mod primary;
mod programs;
mod pulse;
mod rejoin;
mod server;
mod session;
mod settings;
mod standby;
mod start;
mod terms;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

pub use config::{Config, Peers, Programs, check_member};
pub use identity::identity;

use self::pulse::Pulses;
use self::session::{Session, Values, place};
use self::start::Unsettled;
use super::engine::{Beat, Cloning, End, Engine, EngineError, Followed, Leader, Member, Observed, Rejoined};
use crate::clock::Clock;
use crate::election::Moment;
use crate::primary::{Names, Position, Report};
use crate::supervise::children::Children;
use crate::supervise::ward::{NEVER, Ward};

/// One PostgreSQL server.
pub struct Postgres {
    config: Config,
    children: Children,
    clock: Arc<dyn Clock>,
    ward: Mutex<Option<Arc<Ward>>>,
    /// How the server was started, until it was looked at.
    unsettled: Mutex<Option<Unsettled>>,
    /// What repairs the data, or did last.
    program: Mutex<Option<Arc<Ward>>>,
    /// Kept between two questions.
    session: Mutex<Option<Session>>,
    /// What the server was last let wait for.
    names: Mutex<Option<Names<Member>>>,
    /// The highest timeline on which it was seen to receive.
    line: AtomicU32,
    /// The version under which it is the primary.
    version: AtomicI64,
    /// Whom it was last let follow.
    leader: Mutex<Option<Leader>>,
    pulses: tokio::sync::Mutex<Pulses>,
    /// Held from the first start on.
    held: Mutex<Option<std::fs::File>>,
    /// Operations that change what the server is, one at a time.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("member", &self.config.member).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Postgres {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(config: Config, children: Children, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        config.check()?;
        Ok(Self {
            config,
            children,
            clock,
            ward: Mutex::default(),
            unsettled: Mutex::default(),
            program: Mutex::default(),
            session: Mutex::default(),
            names: Mutex::default(),
            line: AtomicU32::new(0),
            version: AtomicI64::new(0),
            leader: Mutex::default(),
            pulses: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Takes the data directory for this process, as the first start does. The system identifier of what is in it;
    /// `None` where nothing can be started, so that the member has to rejoin first.
    ///
    /// # Errors
    /// When another process manages this directory, or nothing can be kept beside it.
    pub fn reserve(&self) -> Result<Option<u64>, EngineError> {
        self.hold()?;
        if !files::has_data(&self.config.data) || self.promises()?.repairing {
            return Ok(None);
        }
        files::system(&self.config.data).map(Some).map_err(|error| {
            EngineError::refused(format!(
                "cannot read which database is in {}: {error}; may this account read it?",
                self.config.data.display()
            ))
        })
    }

    fn ward(&self) -> Option<Arc<Ward>> {
        lock(&self.ward).clone()
    }

    /// A new connection to the server.
    async fn connect(&self) -> Result<Session, EngineError> {
        if !self.runs() {
            return Err(EngineError::failed("the server does not run"));
        }
        let (socket, port) = place(&self.config.data)?;
        Session::own(&self.config, &socket, port).await
    }

    /// The connection that is kept, or a new one. Who has used it without an error gives it to [`Postgres::keep`].
    async fn session(&self) -> Result<Session, EngineError> {
        let kept = lock(&self.session).take();
        if let Some(mut session) = kept
            && session.run("SELECT").await.is_ok()
        {
            return Ok(session);
        }
        self.connect().await
    }

    fn keep(&self, session: Session) {
        *lock(&self.session) = Some(session);
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Values>, EngineError> {
        let mut session = self.session().await?;
        let rows = session.rows(sql).await?;
        self.keep(session);
        Ok(rows)
    }

    /// The first value of the first row; empty where it is NULL or there is no row.
    async fn value(&self, sql: &str) -> Result<String, EngineError> {
        Ok(self
            .rows(sql)
            .await?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next()?)
            .unwrap_or_default())
    }

    fn seen_on(&self, line: u32) -> u32 {
        self.line.fetch_max(line, Ordering::Relaxed).max(line)
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn start(&self) -> Result<(), EngineError> {
        let _turn = self.turn.lock().await;
        if self.settle().await? {
            return Ok(());
        }
        self.begin(None).await
    }

    fn runs(&self) -> bool {
        self.ward().is_some_and(|ward| ward.runs())
    }

    async fn ended(&self) {
        if let Some(ward) = self.ward() {
            ward.gone().await;
        }
    }

    async fn observe(&self) -> Result<Observed, EngineError> {
        self.look().await
    }

    fn sealed(&self) -> Result<i64, EngineError> {
        Ok(self.promises()?.sealed)
    }

    fn of(&self) -> Result<i64, EngineError> {
        Ok(self.promises()?.of)
    }

    fn keep(&self, text: &str) -> Result<(), EngineError> {
        let folder = self.config.state();
        files::keep(&folder, text).map_err(|error| {
            EngineError::failed(format!("cannot keep the record in {}: {error}", folder.display()))
        })
    }

    fn kept(&self) -> Result<Option<String>, EngineError> {
        let folder = self.config.state();
        files::kept(&folder).map_err(|error| {
            EngineError::failed(format!("cannot read the record in {}: {error}", folder.display()))
        })
    }

    fn forget_identity(&self) -> Result<(), EngineError> {
        let folder = self.config.state();
        identity::forget(&folder).map_err(|error| {
            EngineError::failed(format!("cannot remove the identity in {}: {error}", folder.display()))
        })
    }

    async fn seal(&self, version: i64) -> Result<Report, EngineError> {
        let _turn = self.turn.lock().await;
        self.settle().await?;
        self.seal_at(version).await
    }

    async fn follow(&self, leader: &Leader) -> Result<Followed, EngineError> {
        let _turn = self.turn.lock().await;
        self.settle().await?;
        self.follow_one(leader).await
    }

    async fn promote(
        &self,
        version: i64,
        holder: &str,
        others: &BTreeSet<Member>,
    ) -> Result<Position, EngineError> {
        let _turn = self.turn.lock().await;
        self.settle().await?;
        self.become_primary(version, holder, others).await
    }

    async fn go_on(&self, version: i64, holder: &str, others: &BTreeSet<Member>) -> Result<(), EngineError> {
        let _turn = self.turn.lock().await;
        self.go_on_as(version, holder, others).await
    }

    async fn expect(&self, others: &BTreeSet<Member>) -> Result<(), EngineError> {
        self.keep_log_for(others).await
    }

    async fn set_names(&self, names: &Names<Member>) -> Result<u64, EngineError> {
        let _turn = self.turn.lock().await;
        self.wait_for_names(names).await
    }

    async fn progress(&self) -> Result<BTreeMap<Member, u64>, EngineError> {
        self.flushed().await
    }

    async fn beat(&self, limit: Duration) -> Result<Beat, EngineError> {
        self.pulse(limit).await
    }

    async fn end(&self, how: End) -> Result<(), EngineError> {
        self.stop(how).await
    }

    async fn rejoin(&self, leader: &Leader, clone: Cloning) -> Result<Rejoined, EngineError> {
        let _turn = self.turn.lock().await;
        self.come_back(leader, clone).await
    }

    fn abort_at(&self, moment: Option<Moment>) {
        if let Some(ward) = self.ward() {
            ward.abort_at(moment.unwrap_or(NEVER));
        }
    }

    fn kill(&self, limit: Duration) -> bool {
        self.ward().is_some_and(|ward| ward.kill(limit))
    }
}
