//! The files of a server that a supervisor is to start: a member of a cluster, with a copy of a database that is made once.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::sync::OnceCell;

use super::database::{percent_encode, psql};
use super::programs::Home;
pub use super::programs::Release;
use crate::account::{Account, unprivileged};
use crate::port::Port;
use crate::scratch::Scratch;

/// The account by which members reach each other.
pub const REPLICATOR: &str = "replicator";

/// A database that was ended in order, to be copied.
#[derive(Debug)]
struct Template {
    home: Home,
    account: Option<Account>,
    scratch: Scratch,
    password: String,
}

/// A data directory, a port and a password. Who starts a server on it ends it; the directory goes with this value, and a
/// server that is left with it.
#[derive(Debug)]
pub struct Member {
    home: Home,
    account: Option<Account>,
    scratch: Scratch,
    password: String,
    port: Port,
}

impl Template {
    async fn of(release: Release) -> Result<&'static Self> {
        static INSTALLED: OnceCell<Template> = OnceCell::const_new();
        static THIRTEEN: OnceCell<Template> = OnceCell::const_new();
        static SEVENTEEN: OnceCell<Template> = OnceCell::const_new();
        static EIGHTEEN: OnceCell<Template> = OnceCell::const_new();
        static WITH_PATRONI: OnceCell<Template> = OnceCell::const_new();
        let made = match release {
            Release::Installed => &INSTALLED,
            Release::Thirteen => &THIRTEEN,
            Release::Seventeen => &SEVENTEEN,
            Release::Eighteen => &EIGHTEEN,
            Release::WithPatroni => &WITH_PATRONI,
        };
        made.get_or_try_init(async || Self::make(release).await).await
    }

    async fn make(release: Release) -> Result<Self> {
        let home = Home::of(release).await?;
        let account = unprivileged(&["postgres", "nobody"])?;
        let scratch = Scratch::new("postgres")?;
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        let template = Self { home, account, scratch, password };
        own(template.scratch.path(), template.account.as_ref())?;
        let secret = template.scratch.join("password");
        std::fs::write(&secret, &template.password)?;
        // Files of the log of 1 MB: a copy is small, and a lagging member loses its place soon.
        template.run(
            "initdb",
            &[
                "-D",
                "data",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "--auth=scram-sha-256",
                "--wal-segsize=1",
                "--no-sync",
                "--pwfile=password",
            ],
            "",
        )?;
        let data = template.scratch.join("data");
        let settings = "listen_addresses = '127.0.0.1'\nshared_buffers = 16MB\nmax_connections = 40\nwal_log_hints = on\n\
                        max_slot_wal_keep_size = 64MB\nmin_wal_size = 5MB\nmax_wal_size = 64MB\nautovacuum = off\n\
                        log_line_prefix = '%m [%p] %u@%d %a '\nlog_min_messages = info\n";
        append(&data.join("postgresql.conf"), settings)?;
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all all peer map=managers\nhost all all 127.0.0.1/32 scram-sha-256\n\
             host replication all 127.0.0.1/32 scram-sha-256\n",
        )?;
        append(&data.join("pg_ident.conf"), "managers root postgres\nmanagers /^.*$ postgres\n")?;
        let functions = [
            "pg_ls_dir(text, boolean, boolean)",
            "pg_stat_file(text, boolean)",
            "pg_read_binary_file(text)",
            "pg_read_binary_file(text, bigint, bigint, boolean)",
        ];
        let mut sql =
            format!("CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{}';\n", template.password);
        for function in functions {
            sql.push_str(&format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {REPLICATOR};\n"));
        }
        template.run("postgres", &["--single", "-D", "data", "postgres"], &sql)?;
        Ok(template)
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = self.home.command(program, self.account.as_ref(), self.scratch.path());
        let there = |word: &&str| match *word {
            "data" => self.scratch.join("data").display().to_string(),
            "--pwfile=password" => format!("--pwfile={}", self.scratch.join("password").display()),
            other => other.to_owned(),
        };
        command.args(arguments.iter().map(there)).current_dir(self.scratch.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        child.stdin.take().context("there is a pipe")?.write_all(input.as_bytes())?;
        let done = child.wait_with_output()?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if !done.status.success() || said.contains("ERROR:") {
            bail!("{program}: {said}");
        }
        Ok(())
    }
}

fn own(path: &Path, account: Option<&Account>) -> Result<()> {
    match account {
        Some(account) => Ok(chown(path, Some(account.user), Some(account.group))?),
        None => Ok(()),
    }
}

fn append(file: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}

impl Member {
    /// With a copy of a database. All copies of one release have the same system identifier, as members of a cluster.
    ///
    /// # Errors
    /// When a program is missing or fails.
    pub async fn new(release: Release) -> Result<Self> {
        let template = Template::of(release).await?;
        let member = Self::empty(release).await?;
        copy(&template.scratch.join("data"), &member.data())?;
        Ok(member)
    }

    /// Without a database.
    ///
    /// # Errors
    /// As [`Member::new`].
    pub async fn empty(release: Release) -> Result<Self> {
        let Template { home, account, password, .. } = Template::of(release).await?;
        let scratch = Scratch::new("postgres")?;
        own(scratch.path(), account.as_ref())?;
        let file = scratch.join("password");
        std::fs::write(&file, password)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        let port = Port::free()?;
        Ok(Self { home: home.clone(), account: account.clone(), scratch, password: password.clone(), port })
    }

    /// With a database of its own, which belongs to no cluster.
    ///
    /// # Errors
    /// As [`Member::new`].
    pub async fn stranger(release: Release) -> Result<Self> {
        let stranger = Template::make(release).await?;
        let member = Self::empty(release).await?;
        copy(&stranger.scratch.join("data"), &member.data())?;
        Ok(member)
    }

    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// The folder that holds the data, the server's socket and its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// The file with the password of [`REPLICATOR`].
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.scratch.join("password")
    }

    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.scratch.join("log")
    }

    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// What is put before a program of PostgreSQL's, and the folder where they are.
    #[must_use]
    pub fn programs(&self) -> (Vec<OsString>, PathBuf) {
        self.home.prefix(self.account.as_ref(), self.scratch.path())
    }

    /// What starts the server.
    #[must_use]
    pub fn command(&self) -> Vec<OsString> {
        let (mut command, folder) = self.programs();
        command.push(folder.join("postgres").into());
        command.extend(["-D".into(), self.data().into(), "-p".into(), self.port().to_string().into()]);
        let mut sockets = OsString::from("--unix_socket_directories=");
        sockets.push(self.scratch.path());
        command.push(sockets);
        command
    }

    /// The superuser's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", percent_encode(&self.password), self.port())
    }

    /// Runs SQL as the superuser; the rows, one a line, fields with `|` between them.
    ///
    /// # Errors
    /// PostgreSQL's own words.
    pub async fn psql(&self, sql: &str) -> Result<String> {
        psql(&self.url(), sql).await
    }

    /// Runs a program of PostgreSQL's to its end; what it said, and whether it was content.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = self.home.command(program, self.account.as_ref(), self.scratch.path());
        command.args(arguments).current_dir(self.scratch.path()).env("PGPASSWORD", &self.password);
        let done = tokio::process::Command::from(command).stdin(Stdio::null()).output().await;
        let done = done.with_context(|| format!("cannot run {program}"))?;
        let said = [done.stdout, done.stderr].concat();
        Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// More lines of `postgresql.conf`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set(&self, settings: &str) -> Result<()> {
        append(&self.data().join("postgresql.conf"), &format!("{settings}\n"))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done =
        std::process::Command::new("cp").arg("-a").args([from, to]).output().context("cannot run cp")?;
    if !done.status.success() {
        bail!("cp: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}
