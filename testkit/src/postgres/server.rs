//! One PostgreSQL server: started, stopped, started again, frozen and thawed.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::database::{self, Database, percent_encode};
use super::programs;
use crate::scratch::Scratch;
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
    settings: Vec<(String, String)>,
    tls: bool,
}

impl Builder {
    /// One line of `postgresql.conf`, in PostgreSQL's own syntax for values.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With TLS: a certificate for `localhost` and 127.0.0.1 by an authority of its own
    /// ([`Server::authority`]). Connections without TLS are refused.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When a program is missing or the server does not come up; its log is in the message.
    pub async fn start(self) -> Result<Server> {
        let programs = programs::folder()?;
        let account = programs::account()?;
        let scratch = Scratch::new("postgres")?;
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        let own = Own { programs, account, scratch, child: Mutex::new(None) };
        let mut server = Server {
            own: Some(own),
            host: "127.0.0.1".into(),
            port: 0,
            user: "postgres".into(),
            password,
            url: String::new(),
        };
        let own = server.own.as_ref().expect("just put there");
        own.initialise(&server.password, &self)?;
        // Somebody else may take the port between our asking and the server's binding it.
        for attempt in 1.. {
            server.port = free_port()?;
            match server.start_again().await {
                Ok(()) => break,
                Err(error) if attempt < 3 && format!("{error:#}").contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        server.url = server.url_as("postgres", &server.password, "postgres");
        if crate::keep() {
            let own = server.own.as_ref().expect("just put there");
            eprintln!("KEEP=1: PostgreSQL at {} stays; end it: {}", server.url, own.scratch.how_to_end());
        }
        Ok(server)
    }
}

/// A PostgreSQL server. Dropping it ends it, unless it is the one of `TEST_POSTGRES_URL`.
#[derive(Debug)]
pub struct Server {
    own: Option<Own>,
    host: String,
    port: u16,
    user: String,
    password: String,
    /// The superuser's, for the database `postgres`.
    url: String,
}

/// What there is of a server that we started.
#[derive(Debug)]
struct Own {
    programs: PathBuf,
    account: Option<(u32, u32)>,
    scratch: Scratch,
    child: Mutex<Option<Child>>,
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
    /// When the URL is none, or nobody answers there.
    pub async fn existing(url: &str) -> Result<Self> {
        let parts = database::parse(url).context("TEST_POSTGRES_URL")?;
        let server = Self {
            own: None,
            host: parts.host,
            port: parts.port,
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
        Database::create(self).await
    }

    /// Runs SQL as the superuser in the database `postgres`; the rows, one a line, fields
    /// with `|` between them.
    ///
    /// # Errors
    /// PostgreSQL's own words.
    pub async fn psql(&self, sql: &str) -> Result<String> {
        database::psql(&self.url, sql).await
    }

    /// Ends the server; its data stay.
    ///
    /// # Errors
    /// When it is not ours or does not end.
    pub async fn stop(&self, how: Stop) -> Result<()> {
        self.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        })?;
        let own = self.own()?;
        wait::until(Duration::from_secs(30), "PostgreSQL to end", async || own.ended()).await?;
        *own.child() = None;
        Ok(())
    }

    /// Starts a stopped server on the same port with the same data.
    ///
    /// # Errors
    /// When it is not ours or does not come up; its log is in the message.
    pub async fn start_again(&self) -> Result<()> {
        let own = self.own()?;
        if own.child().is_some() {
            bail!("this PostgreSQL runs already");
        }
        let log = std::fs::File::create(own.scratch.join("log"))?;
        let child = own
            .command("postgres")
            .arg("-D")
            .arg(own.data())
            .args(["-p", &self.port.to_string()])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run postgres")?;
        *own.child() = Some(child);
        let up = wait::until(START, "PostgreSQL to accept connections", async || own.accepts()).await;
        match up {
            Ok(true) => Ok(()),
            Ok(false) => {
                *own.child() = None;
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
        self.signal(Signal::STOP)
    }

    /// Undoes [`Server::sigstop`].
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn sigcont(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Freezes the server with all its sessions: what a client sends is taken by the kernel
    /// and never answered.
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn freeze_all(&self) -> Result<()> {
        // The main process first, so that it starts no further ones meanwhile.
        self.signal(Signal::STOP)?;
        self.signal_sessions(Signal::STOP)
    }

    /// Undoes [`Server::freeze_all`].
    ///
    /// # Errors
    /// When it is not ours or not running.
    pub fn thaw_all(&self) -> Result<()> {
        self.signal_sessions(Signal::CONT)?;
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to PostgreSQL"))
    }

    fn signal_sessions(&self, signal: Signal) -> Result<()> {
        for child in children(self.pid()?)? {
            match kill_process(child, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).context("cannot signal PostgreSQL's sessions"),
            }
        }
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let own = self.own()?;
        let id = own.child().as_ref().context("this PostgreSQL does not run")?.id();
        Pid::from_raw(i32::try_from(id)?).context("a process has no number 0")
    }

    fn own(&self) -> Result<&Own> {
        self.own
            .as_ref()
            .context("this test stops or freezes its server, and the one of TEST_POSTGRES_URL is not ours")
    }
}

impl Own {
    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// A program of PostgreSQL's, as the account that may run it, in a process group of its
    /// own: Ctrl-C is for the test, which then ends its servers in order.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.scratch.path()).stdin(Stdio::null()).process_group(0);
        // What would send it elsewhere than the arguments say.
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    fn initialise(&self, password: &str, wanted: &Builder) -> Result<()> {
        if let Some((user, group)) = self.account {
            chown(self.scratch.path(), Some(user), Some(group))?;
        }
        let secret = self.scratch.join("password");
        std::fs::write(&secret, password)?;
        let done = self
            .command("initdb")
            .arg("-D")
            .arg(self.data())
            .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256"])
            .args(["--no-sync", "--no-instructions"])
            .arg(format!("--pwfile={}", secret.display()))
            .output()
            .context("cannot run initdb")?;
        std::fs::remove_file(&secret)?;
        if !done.status.success() {
            bail!(
                "initdb failed in {} (the account PostgreSQL runs as must be able to enter it; \
                 TMPDIR says where): {}",
                self.scratch.path().display(),
                String::from_utf8_lossy(&done.stderr)
            );
        }
        let mut settings = String::from(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\
             shared_preload_libraries = 'pg_stat_statements'\nmax_connections = 400\n\
             log_line_prefix = '%m [%p] %u@%d %a '\n",
        );
        if wanted.tls {
            self.make_certificate()?;
            settings.push_str("ssl = on\nssl_cert_file = '../server.crt'\nssl_key_file = '../server.key'\n");
            std::fs::write(self.data().join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n")?;
        }
        for (name, value) in &wanted.settings {
            settings.push_str(&format!("{name} = {value}\n"));
        }
        let mut file = std::fs::OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        std::io::Write::write_all(&mut file, settings.as_bytes())?;
        Ok(())
    }

    /// An authority and a server certificate signed by it (rustls refuses an authority's own
    /// certificate as a server's).
    fn make_certificate(&self) -> Result<()> {
        let openssl = |args: &[&str]| -> Result<()> {
            let done = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
                .args(["-nodes", "-days", "30"])
                .args(args)
                .current_dir(self.scratch.path())
                .output()
                .context("cannot run openssl")?;
            if !done.status.success() {
                bail!("openssl: {}", String::from_utf8_lossy(&done.stderr));
            }
            Ok(())
        };
        openssl(&["-subj", "/CN=testkit authority", "-keyout", "ca.key", "-out", "ca.crt"])?;
        openssl(&[
            "-subj",
            "/CN=localhost",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            "server.key",
            "-out",
            "server.crt",
        ])?;
        if let Some((user, group)) = self.account {
            chown(self.scratch.join("server.key"), Some(user), Some(group))?;
        }
        Ok(())
    }

    /// `true` when it serves, `false` when it has ended, nothing while it starts.
    fn accepts(&self) -> Result<Option<bool>> {
        if self.ended()?.is_some() {
            return Ok(Some(false));
        }
        // The server's own word on its state is the last line of this file.
        let state = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        Ok(state.lines().last().is_some_and(|line| line.trim() == "ready").then_some(true))
    }

    fn ended(&self) -> Result<Option<()>> {
        match self.child().as_mut() {
            Some(child) => Ok(child.try_wait()?.map(|_| ())),
            None => Ok(Some(())),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if crate::keep() {
            return;
        }
        // As the directory goes too, the quickest end will do. (The scratch directory's own
        // end would see to it as well, but cannot collect our child.)
        if let Some(mut child) = self.child().take() {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::QUIT);
                let _ = kill_process(pid, Signal::CONT);
            }
            let _ = child.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The processes that `parent` started and that still run.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let raw = parent.as_raw_nonzero();
    let file = format!("/proc/{raw}/task/{raw}/children");
    let list = std::fs::read_to_string(Path::new(&file))
        .with_context(|| format!("cannot list PostgreSQL's sessions in {file}"))?;
    Ok(list.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect())
}
