//! `component-lease db run`, with the lease in a PostgreSQL of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use component_lease_testkit::postgres::Server;
use component_lease_testkit::postgres::member::REPLICATOR;
use tokio::process::Command;

use crate::PATIENCE;
use crate::site::{CLUSTER, Supervised};

/// How long the lease lasts: the aims are for this.
pub(crate) const TERM: Duration = Duration::from_secs(8);

pub(crate) struct Ours {
    program: PathBuf,
    store: Server,
}

impl Ours {
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let ours = Self { program: program.to_owned(), store: Server::start().await? };
        ours.ask(&["migrate", "--first-install"]).await?;
        Ok(ours)
    }

    /// The port of the lease.
    pub(crate) fn store(&self) -> u16 {
        self.store.port()
    }

    pub(crate) fn command(&self, member: &Supervised) -> Result<Command> {
        let [address, listen, term] = [
            member.to_server.address().to_string(),
            format!("localhost:{}", member.http.number()),
            TERM.as_secs().to_string(),
        ];
        let lease = self.store.url_through(member.to_store.port(), "postgres");
        let password = member.files.password_file();
        let password = password.to_str().context("the folder of temporary files has a strange name")?;
        let said = [
            ["--cluster", CLUSTER],
            ["--member", member.name],
            ["--members", "a,b,c"],
            ["--address", &address],
            ["--lease", &lease],
            ["--ttl", &term],
            ["--clone", "if-needed"],
            ["--listen", &listen],
            ["--replication-user", REPLICATOR],
            ["--replication-password-file", password],
            ["--replication-tls-mode", "disable"],
        ];
        let words = ["db", "run"].into_iter().chain(said.into_iter().flatten()).chain(["--"]);
        let mut command = Command::new(&self.program);
        command.args(words.map(OsString::from).chain(member.files.command()));
        Ok(command)
    }

    /// As an operator asks.
    pub(crate) async fn switch_over(&self) -> Result<()> {
        self.ask(&["switchover", CLUSTER]).await
    }

    /// Without the proxy.
    async fn ask(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(words).args(["--database-url", self.store.superuser_url()]);
        succeeds(command, &format!("component-lease {}", words[0])).await
    }
}

/// Runs a command of an operator to its end.
pub(crate) async fn succeeds(mut command: Command, what: &str) -> Result<()> {
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(PATIENCE, ended).await.context("the command does not end")??;
    if !ended.status.success() {
        let text = [ended.stdout, ended.stderr].concat();
        bail!("{what}: {}", String::from_utf8_lossy(&text));
    }
    Ok(())
}
