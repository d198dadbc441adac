//! The controller as a process: what it uses is read off /proc.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::port::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::until;

pub(crate) struct Program {
    child: Child,
    admin: Port,
}

impl Program {
    /// Starts it, and does not wait.
    pub(crate) fn spawn(path: &Path, account: &Path, database: &str) -> Result<Self> {
        let admin = Port::free()?;
        let child = Command::new(path)
            .args(["controller", "--leader-elect=false", "--listen", &admin.address().to_string()])
            .env("KUBECONFIG", account)
            .env("COMPONENT_LEASE_DATABASE_URL", database)
            .env(
                "COMPONENT_LEASE_LOG",
                std::env::var("COMPONENT_LEASE_LOG").unwrap_or_else(|_| "error".to_owned()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", path.display()))?;
        Ok(Self { child, admin })
    }

    /// Starts it and waits until its caches are filled and the database was used.
    pub(crate) async fn start(path: &Path, account: &Path, database: &str) -> Result<Self> {
        let program = Self::spawn(path, account, database)?;
        until("the controller is ready", async || Ok(program.is_ready().await.unwrap_or(false))).await?;
        // What was needed to fill them is given back by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(program)
    }

    async fn is_ready(&self) -> Result<bool> {
        let mut stream = TcpStream::connect(self.admin.address()).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    }

    fn read(&self, file: &str) -> Result<String> {
        let id = self.child.id().context("the controller has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{id}/{file}"))?)
    }

    /// Resident, in kB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Time of processors that it has used.
    pub(crate) fn processor(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name may have spaces in it.
        let (_, fields) = stat.rsplit_once(')').context("no stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a short stat")?.parse()?) };
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("the controller has ended")?;
        let killed = Command::new("kill").arg(id.to_string()).status().await?;
        ensure!(killed.success(), "the controller could not be ended");
        self.child.wait().await?;
        Ok(())
    }
}
