//! The process of a server that we started, and how it is set up.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::programs::Home;
use super::server::Builder;
use crate::account::{Account, unprivileged};
use crate::clock::ServerClock;
use crate::scratch::Scratch;

/// What there is of a server that we started.
#[derive(Debug)]
pub struct Own {
    pub home: Home,
    account: Option<Account>,
    // Declared before the directory, so that it ends first (see `Drop`).
    child: Mutex<Option<Child>>,
    pub scratch: Scratch,
    pub clock: Option<ServerClock>,
}

impl Own {
    /// A directory with a new server's files.
    pub fn new(home: Home, password: &str, wanted: &Builder) -> Result<Self> {
        let mut own = Self::empty(home)?;
        own.initialise(password, wanted)?;
        if wanted.clock {
            own.clock = Some(ServerClock::new(own.scratch.path())?);
        }
        Ok(own)
    }

    fn empty(home: Home) -> Result<Self> {
        let account = unprivileged(&["postgres", "nobody"])?;
        let scratch = Scratch::new("postgres")?;
        Ok(Self { home, account, child: Mutex::new(None), scratch, clock: None })
    }

    /// A directory with a copy of a running server's files, set up to follow it.
    pub fn standby(home: Home, primary_url: &str) -> Result<Self> {
        let own = Self::empty(home)?;
        if let Some(account) = &own.account {
            chown(own.scratch.path(), Some(account.user), Some(account.group))?;
        }
        let done = own
            .command("pg_basebackup")
            .args(["-d", primary_url, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"])
            .arg(own.data())
            .output()
            .context("cannot run pg_basebackup")?;
        if !done.status.success() {
            bail!("pg_basebackup: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(own)
    }

    /// Keeps a copy of the files of a server that has ended, or puts it back.
    pub fn copy_files(&self, from: &str, to: &str) -> Result<()> {
        if self.child().is_some() {
            bail!("the files of a running server cannot be copied");
        }
        self.scratch.copy(from, to)
    }

    /// Makes a standby a primary.
    pub fn promote(&self) -> Result<()> {
        let done = self.command("pg_ctl").arg("promote").arg("-D").arg(self.data()).output()?;
        if !done.status.success() {
            bail!("pg_ctl promote: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// Starts the server; [`Own::accepts`] says when it serves.
    pub fn spawn(&self, port: u16) -> Result<()> {
        let mut child = self.child();
        if child.is_some() {
            bail!("this PostgreSQL runs already");
        }
        let log = std::fs::File::create(self.scratch.join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &port.to_string()]);
        command.envs(self.clock.iter().flat_map(ServerClock::variables));
        *child = Some(command.stdout(log.try_clone()?).stderr(log).spawn().context("cannot run postgres")?);
        Ok(())
    }

    /// Its main process.
    pub fn pid(&self) -> Result<Pid> {
        let id = self.child().as_ref().context("this PostgreSQL does not run")?.id();
        Pid::from_raw(i32::try_from(id)?).context("a process has no number 0")
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).with_context(|| format!("cannot send {signal:?} to PostgreSQL"))
    }

    /// To the processes that serve clients and the background.
    pub fn signal_sessions(&self, signal: Signal) -> Result<()> {
        for child in children(self.pid()?)? {
            match kill_process(child, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).context("cannot signal PostgreSQL's sessions"),
            }
        }
        Ok(())
    }

    /// To be called when it has ended, before it is started again.
    pub fn forget(&self) {
        *self.child() = None;
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// A program of PostgreSQL's, as the account that may run it, in a process group of its
    /// own: Ctrl-C is for the test, which then ends its servers in order.
    fn command(&self, name: &str) -> Command {
        let mut command = self.home.command(name, self.account.as_ref(), self.scratch.path());
        command.current_dir(self.scratch.path()).stdin(Stdio::null()).process_group(0);
        // What would send it elsewhere than the arguments say.
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command
    }

    fn initialise(&self, password: &str, wanted: &Builder) -> Result<()> {
        if let Some(account) = &self.account {
            chown(self.scratch.path(), Some(account.user), Some(account.group))?;
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
            self.make_certificate(wanted)?;
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

    fn make_certificate(&self, wanted: &Builder) -> Result<()> {
        match &wanted.self_signed {
            None => crate::certificate::make(self.scratch.path())?,
            Some(arguments) => crate::certificate::self_signed(self.scratch.path(), arguments)?,
        }
        if let Some(account) = &self.account {
            chown(self.scratch.join("server.key"), Some(account.user), Some(account.group))?;
        }
        Ok(())
    }

    /// `true` when it serves, `false` when it has ended, nothing while it starts.
    pub fn accepts(&self) -> Result<Option<bool>> {
        if self.ended()?.is_some() {
            return Ok(Some(false));
        }
        // The server's own word on its state is the last line of this file.
        let state = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        Ok(state.lines().last().is_some_and(|line| line.trim() == "ready").then_some(true))
    }

    pub fn ended(&self) -> Result<Option<()>> {
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

/// The processes that `parent` started and that still run.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let raw = parent.as_raw_nonzero();
    let file = format!("/proc/{raw}/task/{raw}/children");
    let list = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot list PostgreSQL's sessions in {file}"))?;
    Ok(list.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect())
}
