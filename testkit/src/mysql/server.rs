//! One MySQL or MariaDB server: started, stopped, started again, frozen and thawed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::Kind;
use super::database::{self, Database};
use super::own::Own;
use crate::port::Port;
use crate::wait;

const START: Duration = Duration::from_secs(60);

/// The user who may do everything.
pub(super) const ADMIN: &str = "admin";

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes everything out.
    Fast,
    /// As if the machine had lost its power: sessions are cut, recovery at the next start.
    Immediate,
}

/// What a server shall be like.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) kind: Kind,
    pub(super) options: Vec<String>,
    pub(super) tls: bool,
    pub(super) clock: bool,
}

impl Builder {
    /// An option of the server's command line, without the leading dashes: `read-only=ON`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(format!("--{option}"));
        self
    }

    /// With TLS: a certificate for `localhost` and 127.0.0.1 by an authority of its own
    /// ([`Server::authority`]). Connections over TCP without TLS are refused.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// With a wall clock that [`Server::set_clock`] moves.
    #[must_use]
    pub fn clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When a program is missing or the server does not come up; its log is in the message.
    pub async fn start(self) -> Result<Server> {
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        let own = Own::new(&password, &self).await?;
        let server = Server { kind: self.kind, own, port: Port::free()?, password };
        server.start_again().await?;
        if crate::keep() {
            let end = server.own.scratch.how_to_end();
            eprintln!("KEEP=1: {} at {} stays; end it: {end}", server.kind, server.url("mysql"));
        }
        Ok(server)
    }
}

/// A MySQL or MariaDB server. Dropping it ends it.
pub struct Server {
    kind: Kind,
    own: Own,
    port: Port,
    password: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("kind", &self.kind).field("port", &self.port()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server with the settings that a careful operator has.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn start(kind: Kind) -> Result<Self> {
        Self::builder(kind).start().await
    }

    #[must_use]
    pub fn builder(kind: Kind) -> Builder {
        Builder { kind, options: Vec::new(), tls: false, clock: false }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The administrator's URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(ADMIN, &self.password, database)
    }

    /// The URL of a database for a user that the test made; both words without special characters.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("mysql://{user}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// The same server behind another port (a proxy on this machine).
    #[must_use]
    pub fn url_through(&self, port: u16, database: &str) -> String {
        format!("mysql://{ADMIN}:{}@127.0.0.1:{port}/{database}", self.password)
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.own.socket()
    }

    /// The authority that signed the certificate of a server with [`Builder::tls`].
    #[must_use]
    pub fn authority(&self) -> Option<PathBuf> {
        let file = self.own.scratch.join("ca.crt");
        file.is_file().then_some(file)
    }

    /// An empty database, dropped with the returned value (kept with `KEEP=1`).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn fresh_database(&self) -> Result<Database> {
        Database::create(self).await
    }

    /// Runs SQL as the administrator; the rows, one a line, fields with tabs between them.
    ///
    /// # Errors
    /// The server's own words.
    pub async fn sql(&self, sql: &str) -> Result<String> {
        database::sql(&self.own.socket(), &self.password, None, sql).await
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Every command that clients have sent to the server: connection, command, argument.
    pub(super) fn commands(&self) -> Result<Vec<(u64, String, String)>> {
        Ok(database::commands(&std::fs::read_to_string(self.own.scratch.join("general.log"))?))
    }

    /// Ends the server; its data stay.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&self, how: Stop) -> Result<()> {
        self.own.signal(match how {
            Stop::Fast => Signal::TERM,
            Stop::Immediate => Signal::KILL,
        })?;
        wait::until(Duration::from_secs(60), "the server to end", async || self.own.ended()).await?;
        self.own.forget();
        Ok(())
    }

    /// Starts a stopped server on the same port with the same data.
    ///
    /// # Errors
    /// When it does not come up; its log is in the message.
    pub async fn start_again(&self) -> Result<()> {
        self.own.spawn(self.port())?;
        let up = wait::until(START, "the server to accept connections", async || {
            if self.own.ended()?.is_some() {
                return Ok(Some(false));
            }
            self.sql("SELECT 1").await.map(|_| Some(true))
        });
        match up.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.own.forget();
                bail!("{} ended at its start:\n{}", self.kind, self.own.log());
            }
            Err(error) => Err(error.context(self.own.log())),
        }
    }

    /// Keeps a copy of the files of this server, as a volume snapshot does. It must be stopped.
    ///
    /// # Errors
    /// When it runs.
    pub fn snapshot(&self) -> Result<()> {
        self.own.copy_files("data", "snapshot")
    }

    /// Puts the copy back. The server must be stopped.
    ///
    /// # Errors
    /// When it runs.
    pub fn restore(&self) -> Result<()> {
        self.own.copy_files("snapshot", "data")
    }

    /// Freezes the server with all its sessions: what a client sends is taken by the kernel and
    /// never answered.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze_all(&self) -> Result<()> {
        self.own.signal(Signal::STOP)
    }

    /// Undoes [`Server::freeze_all`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw_all(&self) -> Result<()> {
        self.own.signal(Signal::CONT)
    }

    /// From now on the server's wall clock is this many seconds ahead of this machine's.
    ///
    /// # Errors
    /// When it was not made with [`Builder::clock`].
    pub fn set_clock(&self, ahead: i64) -> Result<()> {
        self.own.clock.as_ref().context("this server's clock is the machine's")?.set(ahead)
    }
}
