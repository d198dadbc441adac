//! Three members as processes, and the server that holds their lease, behind a proxy that can take it away.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use component_lease_testkit::port::Port;
use component_lease_testkit::postgres::Server;
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::tcp_proxy::TcpProxy;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::{PATIENCE, TERM, processes};

const NAMES: [&str; 3] = ["a", "b", "c"];
pub(crate) const CLUSTER: &str = "drill-db";

/// One member: its files and its supervisor.
pub(crate) struct Supervised {
    pub(crate) name: &'static str,
    pub(crate) files: Member,
    listens: Port,
    supervisor: Option<Child>,
}

/// All that runs.
pub(crate) struct Site {
    program: PathBuf,
    pub(crate) members: Vec<Supervised>,
    /// Between the members and the lease.
    pub(crate) road: TcpProxy,
    lease: String,
    /// The same without the proxy, for who asks for a switchover.
    direct: String,
    _store: Server,
}

impl Site {
    pub(crate) async fn start(program: &Path, release: Release) -> Result<Self> {
        let store = Server::start().await?;
        let road = TcpProxy::start(([127, 0, 0, 1], store.port()).into())?;
        let (lease, direct) = (store.url_through(road.port(), "postgres"), store.superuser_url().to_owned());
        let program = program.to_owned();
        let mut site = Self { program, members: Vec::new(), road, lease, direct, _store: store };
        site.ask(&["migrate", "--database-url", &site.direct, "--first-install"]).await?;
        for name in NAMES {
            let (files, listens) = (Member::new(release).await?, Port::free()?);
            site.members.push(Supervised { name, files, listens, supervisor: None });
        }
        for at in 0..NAMES.len() {
            site.run(at)?;
        }
        Ok(site)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("{}?sslmode=disable", member.files.url())).collect()
    }

    /// Starts the supervisor of a member.
    pub(crate) fn run(&mut self, at: usize) -> Result<()> {
        let member = &self.members[at];
        let log = std::fs::OpenOptions::new().create(true).append(true).open(member.files.log_file())?;
        let mut command = Command::new(&self.program);
        command.args(self.words(member)?).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        self.members[at].supervisor = Some(child);
        Ok(())
    }

    fn words(&self, member: &Supervised) -> Result<Vec<OsString>> {
        let [address, listen, term] = [
            format!("127.0.0.1:{}", member.files.port()),
            format!("localhost:{}", member.listens.number()),
            TERM.as_secs().to_string(),
        ];
        let password = member.files.password_file();
        let password = password.to_str().context("the folder of temporary files has a strange name")?;
        let said = [
            ["--cluster", CLUSTER],
            ["--member", member.name],
            ["--members", "a,b,c"],
            ["--address", &address],
            ["--lease", &self.lease],
            ["--ttl", &term],
            ["--clone", "if-needed"],
            ["--listen", &listen],
            ["--replication-user", REPLICATOR],
            ["--replication-password-file", password],
            ["--replication-tls-mode", "disable"],
        ];
        let words = ["db", "run"].into_iter().chain(said.into_iter().flatten()).chain(["--"]);
        Ok(words.map(OsString::from).chain(member.files.command()).collect())
    }

    async fn ask(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        let ended = command.args(words).stdin(Stdio::null()).kill_on_drop(true).output();
        let ended = tokio::time::timeout(PATIENCE, ended).await.context("the command does not end")??;
        if !ended.status.success() {
            let text = [ended.stdout, ended.stderr].concat();
            bail!("component-lease {}: {}", words[0], String::from_utf8_lossy(&text));
        }
        Ok(())
    }

    /// As an operator asks.
    pub(crate) async fn switch_over(&self) -> Result<()> {
        self.ask(&["switchover", CLUSTER, "--database-url", &self.direct]).await
    }

    /// Ends all in order; how many processes of their servers are left then.
    pub(crate) async fn stop(&mut self) -> Result<usize> {
        for member in &self.members {
            member.signal(Signal::TERM)?;
        }
        let mut left = 0;
        for member in &mut self.members {
            member.ended().await?;
            left += processes::of_server(&member.files.data())?.len();
        }
        Ok(left)
    }

    /// What the supervisors said last. What their servers say is in the same logs (`KEEP=1`).
    pub(crate) fn ends_of_logs(&self) -> String {
        let mut text = String::new();
        for member in &self.members {
            let log = member.files.log();
            let lines: Vec<&str> =
                log.lines().filter(|line| line.starts_with("20") && line.contains("Z ")).collect();
            let _ = writeln!(text, "== {}, {}", member.name, member.files.log_file().display());
            for line in &lines[lines.len().saturating_sub(50)..] {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

impl Supervised {
    /// The process of the supervisor.
    pub(crate) fn pid(&self) -> Result<i32> {
        let pid = self.supervisor.as_ref().and_then(Child::id);
        let pid = pid.with_context(|| format!("the supervisor of {} has ended by itself", self.name))?;
        Ok(i32::try_from(pid)?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        processes::signal(self.pid()?, signal)
    }

    /// Waits until the supervisor has ended.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        let supervisor = self.supervisor.as_mut().context("there is no supervisor")?;
        let ended = tokio::time::timeout(PATIENCE, supervisor.wait()).await;
        ended.with_context(|| format!("the supervisor of {} does not end", self.name))??;
        self.supervisor = None;
        Ok(())
    }

    /// SIGKILL to the server's first process.
    pub(crate) fn kill_server(&self) -> Result<()> {
        let file = self.files.data().join("postmaster.pid");
        let text = std::fs::read_to_string(file).context("the server does not run")?;
        let pid = text.lines().next().context("the server's file is empty")?.trim().parse()?;
        processes::signal(pid, Signal::KILL)
    }
}
