//! PgBouncer, the connection pooler, before a server.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;

use super::Server;
use super::database::{parse, percent_encode};
use crate::account::unprivileged;
use crate::port::Port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait;

const START: Duration = Duration::from_secs(30);

/// A PgBouncer that serves every database of its server, for the server's own account and for roles that it is
/// told of. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    // Declared before the directory, so that it ends first.
    process: Process,
    _scratch: Scratch,
    port: Port,
    user: String,
    password: String,
}

/// What a PgBouncer shall be like.
#[derive(Debug, Clone)]
pub struct PgBouncerBuilder {
    server: (String, u16),
    roles: Vec<(String, String)>,
    settings: Vec<(String, String)>,
}

impl PgBouncerBuilder {
    /// A session for as long as a client stays, instead of for a transaction.
    #[must_use]
    pub fn session(self) -> Self {
        self.setting("pool_mode", "session")
    }

    /// How many sessions there are for each database and account.
    #[must_use]
    pub fn pool(self, size: u32) -> Self {
        self.setting("default_pool_size", &size.to_string())
    }

    /// One line of `pgbouncer.ini`; the last of a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A role that may come in, beside the server's own account.
    #[must_use]
    pub fn role(mut self, name: &str, password: &str) -> Self {
        self.roles.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the program is missing or does not come up; its log is in the message.
    pub async fn start(self) -> Result<PgBouncer> {
        let account = unprivileged(&["postgres", "nobody"])?;
        let scratch = Scratch::new("pgbouncer")?;
        let port = Port::free()?;
        let mut users = String::new();
        for (name, password) in &self.roles {
            let _ = writeln!(users, "\"{name}\" \"{password}\"");
        }
        let mut configuration = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = plain\nauth_file = {}\nmax_client_conn = 500\n",
            self.server.0,
            self.server.1,
            port.number(),
            scratch.join("users").display()
        );
        for (name, value) in &self.settings {
            let _ = writeln!(configuration, "{name} = {value}");
        }
        std::fs::write(scratch.join("users"), users)?;
        std::fs::write(scratch.join("pgbouncer.ini"), configuration)?;
        let log = std::fs::File::create(scratch.join("log"))?;
        let mut command = Command::new("pgbouncer");
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.arg(scratch.join("pgbouncer.ini")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(account) = &account {
            command.uid(account.user).gid(account.group);
        }
        let child = command
            .process_group(0)
            .spawn()
            .context("cannot run pgbouncer (package pgbouncer; hack/prerequisites.sh says how)")?;
        std::fs::write(scratch.join("process"), child.id().to_string())?;
        let mut process = Process(child);
        let up = wait::until(START, "PgBouncer to accept connections", async || {
            if process.0.try_wait()?.is_some() {
                return Ok(Some(false));
            }
            Ok(std::net::TcpStream::connect(port.address()).is_ok().then_some(true))
        })
        .await;
        let said = || std::fs::read_to_string(scratch.join("log")).unwrap_or_default();
        match up {
            Ok(true) => {}
            Ok(false) => bail!("PgBouncer ended at its start:\n{}", said()),
            Err(error) => return Err(error.context(said())),
        }
        let (user, password) = self.roles.into_iter().next().context("it has the server's own account")?;
        Ok(PgBouncer { process, _scratch: scratch, port, user, password })
    }
}

impl PgBouncer {
    /// Before this server: it pools transactions, twenty sessions for each database and account.
    ///
    /// # Panics
    /// Never: the server's URL is one.
    #[must_use]
    pub fn builder(server: &Server) -> PgBouncerBuilder {
        let parts = parse(server.superuser_url()).expect("a server has a URL");
        PgBouncerBuilder {
            server: (parts.host, parts.port),
            roles: vec![(parts.user, parts.password)],
            settings: Vec::new(),
        }
        .setting("pool_mode", "transaction")
        .pool(20)
    }

    /// The one that pools transactions before [`super::shared`]. Nobody may stop it.
    ///
    /// # Errors
    /// As [`PgBouncerBuilder::start`].
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<PgBouncer> = OnceCell::const_new();
        SHARED.get_or_try_init(async || Self::builder(super::shared().await?).pool(6).start().await).await
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL of a database for the server's own account.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(&self.user, &self.password, database)
    }

    /// The URL of a database for a role.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let (user, password) = (percent_encode(user), percent_encode(password));
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// It does nothing at all until it is thawed, and every connection stays open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Undoes [`PgBouncer::freeze`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            i32::try_from(self.process.0.id()).ok().and_then(Pid::from_raw).context("no such process")?;
        Ok(kill_process(pid, signal)?)
    }
}
