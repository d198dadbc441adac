//! The process of a server that we started, and how it is set up.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;

use super::Kind;
use super::server::{ADMIN, Builder};
use crate::account::{Account, unprivileged};
use crate::clock::ServerClock;
use crate::scratch::Scratch;
use crate::trees::Programs;

/// What there is of a server that we started.
#[derive(Debug)]
pub struct Own {
    kind: Kind,
    programs: Programs,
    account: Option<Account>,
    options: Vec<String>,
    // Declared before the directory, so that it ends first (see `Drop`).
    child: Mutex<Option<Child>>,
    pub scratch: Scratch,
    pub clock: Option<ServerClock>,
}

impl Own {
    /// A directory with a new server's files.
    pub async fn new(password: &str, wanted: &Builder) -> Result<Self> {
        let (program, version) = wanted.kind.program();
        let mut own = Self {
            kind: wanted.kind,
            programs: Programs::find(wanted.kind.tree(), program, version).await?,
            account: unprivileged(&["mysql", "nobody"])?,
            options: wanted.options.clone(),
            child: Mutex::new(None),
            scratch: Scratch::new("mysql")?,
            clock: None,
        };
        if let Some(account) = &own.account {
            chown(own.scratch.path(), Some(account.user), Some(account.group))?;
        }
        own.initialise().await?;
        own.write("admin.sql", &administrator(password))?;
        if wanted.tls {
            crate::certificate::make(own.scratch.path())?;
            own.give("server.key")?;
        }
        if wanted.clock {
            own.clock = Some(ServerClock::new(own.scratch.path())?);
        }
        Ok(own)
    }

    /// Making data takes seconds, so each kind does it once a process, and copies.
    async fn initialise(&self) -> Result<()> {
        static MADE: [OnceCell<Scratch>; 3] =
            [OnceCell::const_new(), OnceCell::const_new(), OnceCell::const_new()];
        let made = MADE[self.kind.place()].get_or_try_init(async || self.make_data().await).await?;
        let (from, to) = (made.join("data"), self.data());
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(from).arg(&to);
        let done = tokio::task::spawn_blocking(move || copy.output()).await?.context("cannot run cp")?;
        if !done.status.success() {
            bail!("cannot copy a server's data: {}", String::from_utf8_lossy(&done.stderr));
        }
        // The name that a MySQL server gives itself at its first start.
        match std::fs::remove_file(to.join("auto.cnf")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn make_data(&self) -> Result<Scratch> {
        let place = Scratch::new("files")?;
        if let Some(account) = &self.account {
            chown(place.path(), Some(account.user), Some(account.group))?;
        }
        let data = place.join("data");
        let mut command = if self.kind.is_mariadb() {
            let mut command = self.command("/usr/bin/mariadb-install-db");
            command.args(self.basics(&data)).args(["--force", "--skip-test-db", "--skip-name-resolve"]);
            command.arg("--auth-root-authentication-method=normal");
            command
        } else {
            let mut command = self.command(self.kind.program().0);
            command.args(self.basics(&data)).arg("--initialize-insecure");
            command
        };
        // In a folder that others share, two of them name their temporary tables alike: by a process id that is not the machine's.
        command.arg(format!("--tmpdir={}", place.path().display()));
        // It reads and writes files, and this may be a runtime of one thread.
        let done =
            tokio::task::spawn_blocking(move || command.output()).await?.context("cannot initialise")?;
        if !done.status.success() {
            bail!(
                "the data of {} could not be made in {} (the account it runs as must be able to enter it; \
                 TMPDIR says where): {}{}",
                self.kind,
                place.path().display(),
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(place)
    }

    fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// What making the data and serving them must agree on, and small files.
    fn basics(&self, data: &Path) -> Vec<String> {
        let mut args = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", data.display()),
            "--innodb-buffer-pool-size=32M".to_owned(),
        ];
        args.extend(if self.kind.is_mariadb() {
            vec!["--innodb-log-file-size=8M".to_owned()]
        } else {
            [
                "--basedir=/usr",
                "--lc-messages-dir=/usr/share/mysql",
                "--plugin-dir=/usr/lib/mysql/plugin",
                "--secure-file-priv=NULL",
                "--mysqlx=OFF",
                "--innodb-redo-log-capacity=16M",
            ]
            .map(str::to_owned)
            .to_vec()
        });
        args
    }

    /// Starts the server.
    pub fn spawn(&self, port: u16) -> Result<()> {
        let mut child = self.child();
        if child.is_some() {
            bail!("this {} runs already", self.kind);
        }
        let at = |name: &str| self.scratch.join(name).display().to_string();
        let mut command = self.command(self.kind.program().0);
        command
            .args(self.basics(&self.data()))
            .args([
                format!("--port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--socket={}", at("socket")),
                format!("--pid-file={}", at("pid")),
                format!("--tmpdir={}", at("")),
                format!("--init-file={}", at("admin.sql")),
                "--skip-name-resolve".to_owned(),
                "--max-connections=400".to_owned(),
                "--innodb-flush-log-at-trx-commit=1".to_owned(),
                "--sync-binlog=1".to_owned(),
                "--log-output=FILE".to_owned(),
                "--general-log=ON".to_owned(),
                format!("--general-log-file={}", at("general.log")),
            ])
            .args(&self.options);
        if self.scratch.join("server.key").is_file() {
            command.args([
                format!("--ssl-ca={}", at("ca.crt")),
                format!("--ssl-cert={}", at("server.crt")),
                format!("--ssl-key={}", at("server.key")),
                "--require-secure-transport=ON".to_owned(),
            ]);
        }
        command.envs(self.clock.iter().flat_map(ServerClock::variables));
        let log = std::fs::File::create(self.scratch.join("log"))?;
        let started =
            command.stdout(log.try_clone()?).stderr(log).spawn().context("cannot run the server")?;
        // For `hack/end-server.sh`: the server's own file comes late in its start.
        std::fs::write(self.scratch.join("process"), started.id().to_string())?;
        *child = Some(started);
        Ok(())
    }

    /// A program of the server's, as the account that may run it, in a process group of its own:
    /// Ctrl-C is for the test, which then ends its servers in order.
    fn command(&self, program: &str) -> Command {
        let mut command = self.programs.command(program, self.account.as_ref(), self.scratch.path());
        command.current_dir(self.scratch.path()).stdin(Stdio::null()).process_group(0);
        // What would send it elsewhere than the arguments say.
        for name in ["MYSQL_HOME", "MYSQL_UNIX_PORT", "MYSQL_TCP_PORT", "MYSQL_PWD", "UMASK", "UMASK_DIR"] {
            command.env_remove(name);
        }
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.scratch.join(name), text)?;
        self.give(name)
    }

    fn give(&self, name: &str) -> Result<()> {
        if let Some(account) = &self.account {
            chown(self.scratch.join(name), Some(account.user), Some(account.group))?;
        }
        Ok(())
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child().as_ref().with_context(|| format!("this {} does not run", self.kind))?.id();
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process has no number 0")?;
        kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to {}", self.kind))?;
        if signal == Signal::STOP {
            // It reaches one thread after another, and until then the others still answer.
            let began = Instant::now();
            while !is_stopped(id)? {
                ensure!(began.elapsed() < Duration::from_secs(10), "{} does not stop", self.kind);
                thread::sleep(Duration::from_millis(1));
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

    /// Keeps a copy of the files of a server that has ended, or puts it back.
    pub fn copy_files(&self, from: &str, to: &str) -> Result<()> {
        if self.child().is_some() {
            bail!("the files of a running server cannot be copied");
        }
        self.scratch.copy(from, to)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
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
        // As the directory goes too, the quickest end will do. (The scratch directory's own end
        // would see to it as well, but cannot collect our child.)
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Run by the server at each start, one statement a line. For the socket too: an anonymous user of
/// `localhost` would come before one of any host.
fn administrator(password: &str) -> String {
    ["%", "localhost"]
        .map(|host| {
            format!(
                "CREATE USER IF NOT EXISTS '{ADMIN}'@'{host}' IDENTIFIED BY '{password}';\n\
                 GRANT ALL ON *.* TO '{ADMIN}'@'{host}' WITH GRANT OPTION;\n"
            )
        })
        .concat()
}

/// Whether each thread of the process is stopped.
fn is_stopped(process: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that has ended meanwhile answers nobody.
        let stat = fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}
