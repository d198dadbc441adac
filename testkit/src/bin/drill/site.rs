//! Three members as processes, and the server that holds their lease. All that members say to each other and to the lease
//! passes proxies, which can take it away.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use component_lease_testkit::port::Port;
use component_lease_testkit::postgres::member::{Member, Release};
use component_lease_testkit::tcp_proxy::TcpProxy;
use rustix::process::Signal;
use tokio::process::Child;

use crate::ours::Ours;
use crate::patroni::Patroni;
use crate::{PATIENCE, ours, patroni, processes};

const NAMES: [&str; 3] = ["a", "b", "c"];
pub(crate) const CLUSTER: &str = "drill-db";

/// One member: its files and its supervisor.
pub(crate) struct Supervised {
    pub(crate) name: &'static str,
    pub(crate) files: Member,
    /// From this member to the lease.
    pub(crate) to_store: TcpProxy,
    /// From the other members to this one's server.
    pub(crate) to_server: TcpProxy,
    /// Where the supervisor answers over HTTP, and the way of the other members to there.
    pub(crate) http: Port,
    pub(crate) to_http: TcpProxy,
    supervisor: Option<Child>,
}

/// What elects the primary.
pub(crate) enum Elector {
    Ours(Ours),
    Patroni(Patroni),
}

/// All that runs.
pub(crate) struct Site {
    pub(crate) members: Vec<Supervised>,
    elector: Elector,
}

impl Site {
    pub(crate) async fn start(elector: Elector, release: Release) -> Result<Self> {
        let store = match &elector {
            Elector::Ours(ours) => ours.store(),
            Elector::Patroni(patroni) => patroni.store(),
        };
        let here = |port: u16| (Ipv4Addr::LOCALHOST, port).into();
        let mut site = Self { members: Vec::new(), elector };
        for name in NAMES {
            let files = Member::new(release).await?;
            let to_store = TcpProxy::start(here(store))?;
            let to_server = TcpProxy::start(here(files.port()))?;
            let http = Port::free()?;
            let to_http = TcpProxy::start(here(http.number()))?;
            let supervisor = None;
            site.members.push(Supervised { name, files, to_store, to_server, http, to_http, supervisor });
        }
        for at in 0..NAMES.len() {
            site.run(at)?;
        }
        Ok(site)
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.elector, Elector::Ours(_))
    }

    /// How long the lease lasts.
    pub(crate) fn term(&self) -> Duration {
        match self.elector {
            Elector::Ours(_) => ours::TERM,
            Elector::Patroni(_) => patroni::TERM,
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("{}?sslmode=disable", member.files.url())).collect()
    }

    /// Starts the supervisor of a member.
    pub(crate) fn run(&mut self, at: usize) -> Result<()> {
        let member = &self.members[at];
        let mut command = match &self.elector {
            Elector::Ours(ours) => ours.command(member)?,
            Elector::Patroni(patroni) => patroni.command(member)?,
        };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(member.files.log_file())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        self.members[at].supervisor = Some(child);
        Ok(())
    }

    /// As an operator asks.
    pub(crate) async fn switch_over(&self, primary: usize) -> Result<()> {
        match &self.elector {
            Elector::Ours(ours) => ours.switch_over().await,
            Elector::Patroni(patroni) => patroni.switch_over(&self.members[primary]).await,
        }
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
                log.lines().filter(|line| line.starts_with("20") && of_supervisor(line)).collect();
            let _ = writeln!(text, "== {}, {}", member.name, member.files.log_file().display());
            for line in &lines[lines.len().saturating_sub(50)..] {
                let _ = writeln!(text, "{line}");
            }
        }
        if let Elector::Patroni(patroni) = &self.elector {
            let log = patroni.log();
            let _ = writeln!(text, "== etcd\n{}", &log[log.len().saturating_sub(2000)..]);
        }
        text
    }
}

/// Lines of PostgreSQL's own have a process's number in brackets.
fn of_supervisor(line: &str) -> bool {
    !line.split(' ').any(|word| word.starts_with('['))
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
