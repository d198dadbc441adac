//! One PostgreSQL server: started, stopped, started again, frozen and thawed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::database::{self, Database, percent_encode};
use super::own::Own;
use super::programs::{Home, Release};
use crate::port::Port;
use crate::wait;

const START: Duration = Duration::from_secs(60);

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes a checkpoint.
    Fast,
    /// As if the machine had lost its power: sessions are cut, recovery at the next start.
    Immediate,
}

/// What a server shall be like.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    pub(super) settings: Vec<(String, String)>,
    pub(super) tls: bool,
    pub(super) self_signed: Option<Vec<String>>,
    pub(super) clock: bool,
    newest: bool,
}

impl Builder {
    /// PostgreSQL 18, whatever is installed here: the newest when this was written.
    #[must_use]
    pub fn newest(mut self) -> Self {
        self.newest = true;
        self
    }

    /// One line of `postgresql.conf`, in PostgreSQL's own syntax for values.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With TLS: a certificate for `localhost`, 127.0.0.1 and the address under which a node's
    /// pods may reach it, by an authority of its own ([`Server::authority`]). Connections without TLS are refused.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// As [`Builder::tls`], with a certificate that signs itself, as `openssl req -x509` makes it of these
    /// arguments; [`Server::authority`] is a copy of it.
    #[must_use]
    pub fn self_signed(mut self, arguments: &[&str]) -> Self {
        self.self_signed = Some(arguments.iter().map(|text| (*text).to_owned()).collect());
        self.tls()
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
        let release = if self.newest { Release::Eighteen } else { Release::Installed };
        let home = Home::of(release).await?;
        let own = Some(Own::new(home, &password, &self)?);
        let (host, user, url) = ("127.0.0.1".to_owned(), "postgres".to_owned(), String::new());
        let port = Port::free()?;
        let mut server = Server { own, host, port: port.number(), _held: Some(port), user, password, url };
        server.start_again().await?;
        server.url = server.url_as("postgres", &server.password, "postgres");
        if crate::keep() {
            let own = server.own.as_ref().expect("just put there");
            eprintln!("KEEP=1: PostgreSQL at {} stays; end it: {}", server.url, own.scratch.how_to_end());
        }
        Ok(server)
    }
}

/// A PostgreSQL server. Dropping it ends it, unless it is the one of `TEST_POSTGRES_URL`.
pub struct Server {
    own: Option<Own>,
    host: String,
    port: u16,
    /// Of a server of our own.
    _held: Option<Port>,
    user: String,
    password: String,
    /// The superuser's, for the database `postgres`.
    url: String,
}

impl std::fmt::Debug for Server {
    /// Without the password: it may be that of somebody's own server.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Server {
    /// A server of our own with the settings that a careful operator has.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A server that runs already.
    ///
    /// # Errors
    /// When the URL cannot be read, or nobody answers there.
    pub async fn existing(url: &str) -> Result<Self> {
        let parts = database::parse(url).context("TEST_POSTGRES_URL")?;
        let server = Self {
            own: None,
            host: parts.host,
            port: parts.port,
            _held: None,
            user: parts.user,
            password: parts.password,
            url: url.to_owned(),
        };
        server.psql("SELECT 1").await.context("the server of TEST_POSTGRES_URL does not answer")?;
        Ok(server)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's URL of the database `postgres`.
    #[must_use]
    pub fn superuser_url(&self) -> &str {
        &self.url
    }

    /// The superuser's URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(&self.user, &self.password, database)
    }

    /// The URL of a database for a role that the test made.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let (user, password) = (percent_encode(user), percent_encode(password));
        format!("postgres://{user}:{password}@{}:{}/{database}", self.host, self.port)
    }

    /// The same server behind another port (a proxy on this machine).
    #[must_use]
    pub fn url_through(&self, port: u16, database: &str) -> String {
        let (user, password) = (percent_encode(&self.user), percent_encode(&self.password));
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// Several servers with the passwords of this one, in this order.
    #[must_use]
    pub fn url_of_several(&self, ports: &[u16], database: &str) -> String {
        let (user, password) = (percent_encode(&self.user), percent_encode(&self.password));
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("postgres://{user}:{password}@{}/{database}", hosts.join(","))
    }

    /// The authority that signed the certificate of a server with [`Builder::tls`].
    #[must_use]
    pub fn authority(&self) -> Option<PathBuf> {
        let file = self.own.as_ref()?.scratch.join("ca.crt");
        file.is_file().then_some(file)
    }

    /// An empty database, dropped with the returned value (kept with `KEEP=1`).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn fresh_database(&self) -> Result<Database> {
        Database::create(self, "").await
    }

    /// As [`Server::fresh_database`], with what follows the name in `CREATE DATABASE`.
    ///
    /// # Errors
    /// As [`Server::fresh_database`].
    pub async fn fresh_database_with(&self, options: &str) -> Result<Database> {
        Database::create(self, options).await
    }

    /// Runs SQL as the superuser in the database `postgres`; the rows, one a line, fields
    /// with `|` between them.
    ///
    /// # Errors
    /// PostgreSQL's own words.
    pub async fn psql(&self, sql: &str) -> Result<String> {
        database::psql(&self.url, sql).await
    }

    /// Starts a standby that streams from this server: asynchronous, with the same passwords.
    ///
    /// # Errors
    /// When this server is not ours, or the standby does not come up.
    pub async fn standby(&self) -> Result<Self> {
        let own = Some(Own::standby(self.own()?.home.clone(), &self.url)?);
        let (host, user, password) = (self.host.clone(), self.user.clone(), self.password.clone());
        let (port, url) = (Port::free()?, String::new());
        let mut standby = Self { own, host, port: port.number(), _held: Some(port), user, password, url };
        standby.start_again().await?;
        standby.url = standby.url_as(&standby.user, &standby.password, "postgres");
        Ok(standby)
    }

    /// Waits until a standby has everything that was written here so far.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn caught_up(&self, standby: &Self) -> Result<()> {
        let written = self.psql("SELECT pg_current_wal_lsn()").await?;
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        wait::until_true(Duration::from_secs(30), "the standby to catch up", async || {
            standby.psql(&has).await.is_ok_and(|answer| answer == "t")
        })
        .await
    }

    /// Cuts a standby off from its primary: what is written there from now on, it will not have.
    ///
    /// # Errors
    /// When it does not let go.
    pub async fn lag_for_ever(&self) -> Result<()> {
        self.psql("ALTER SYSTEM SET primary_conninfo = ''").await?;
        self.psql("SELECT pg_reload_conf()").await?;
        let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
        wait::until_true(Duration::from_secs(30), "the standby to let go", async || {
            self.psql(gone).await.is_ok_and(|answer| answer == "t")
        })
        .await
    }

    /// Makes a standby a primary that can be written to.
    ///
    /// # Errors
    /// When it does not become one.
    pub async fn promote(&self) -> Result<()> {
        self.own()?.promote()?;
        wait::until_true(Duration::from_secs(30), "the promotion", async || {
            self.psql("SELECT pg_is_in_recovery()").await.is_ok_and(|answer| answer == "f")
        })
        .await
    }

    /// Keeps a copy of the files of this server, as a volume snapshot does. It must be stopped.
    ///
    /// # Errors
    /// When it runs, or is not ours.
    pub fn snapshot(&self) -> Result<()> {
        self.own()?.copy_files("data", "snapshot")
    }

    /// Puts the copy back. The server must be stopped.
    ///
    /// # Errors
    /// As [`Server::snapshot`].
    pub fn restore(&self) -> Result<()> {
        self.own()?.copy_files("snapshot", "data")
    }

    /// Ends the server; its data stay.
    ///
    /// # Errors
    /// When it is not ours or does not end.
    pub async fn stop(&self, how: Stop) -> Result<()> {
        self.own()?.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        })?;
        let own = self.own()?;
        wait::until(Duration::from_secs(30), "PostgreSQL to end", async || own.ended()).await?;
        own.forget();
        Ok(())
    }

    /// Starts a stopped server on the same port with the same data.
    ///
    /// # Errors
    /// When it is not ours or does not come up; its log is in the message.
    pub async fn start_again(&self) -> Result<()> {
        let own = self.own()?;
        own.spawn(self.port)?;
        let up = wait::until(START, "PostgreSQL to accept connections", async || own.accepts()).await;
        match up {
            Ok(true) => Ok(()),
            Ok(false) => {
                own.forget();
                bail!("PostgreSQL ended at its start:\n{}", own.log());
            }
            Err(error) => Err(error.context(own.log())),
        }
    }

    /// Freezes the server's main process: no new connection is served. (Sessions go on; see
    /// [`Server::freeze_all`].)
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn sigstop(&self) -> Result<()> {
        self.own()?.signal(Signal::STOP)
    }

    /// Undoes [`Server::sigstop`].
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn sigcont(&self) -> Result<()> {
        self.own()?.signal(Signal::CONT)
    }

    /// Freezes the server with all its sessions: what a client sends is taken by the kernel
    /// and never answered.
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn freeze_all(&self) -> Result<()> {
        // The main process first, so that it starts no further ones meanwhile.
        self.own()?.signal(Signal::STOP)?;
        self.own()?.signal_sessions(Signal::STOP)
    }

    /// Undoes [`Server::freeze_all`].
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn thaw_all(&self) -> Result<()> {
        self.own()?.signal_sessions(Signal::CONT)?;
        self.own()?.signal(Signal::CONT)
    }

    /// From now on the server's wall clock is this many seconds ahead of this machine's.
    ///
    /// # Errors
    /// When it was not made with [`Builder::clock`].
    pub fn set_clock(&self, ahead: i64) -> Result<()> {
        self.own()?.clock.as_ref().context("this server's clock is the machine's")?.set(ahead)
    }

    fn own(&self) -> Result<&Own> {
        self.own
            .as_ref()
            .context("this test stops or freezes its server, and the one of TEST_POSTGRES_URL is not ours")
    }
}
