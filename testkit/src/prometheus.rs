//! Prometheus and its promtool, from the tree that `hack/databases.sh` fetches.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::hack;
use crate::port::Port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait;

const START: Duration = Duration::from_secs(30);

/// A program of the tree, run by the tree's own loader: its C library may be newer than this machine's.
fn program(name: &str) -> Result<Command> {
    let fetched = Command::new(hack("databases.sh")).arg("prometheus").stdin(Stdio::null()).output();
    let fetched = fetched.context("cannot run hack/databases.sh")?;
    ensure!(
        fetched.status.success(),
        "Prometheus is not there: {}",
        String::from_utf8_lossy(&fetched.stderr)
    );
    let tree = PathBuf::from(String::from_utf8(fetched.stdout)?.trim());
    let starts = |path: &Path, prefix: &str| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let entries = |folder: &Path| -> Result<Vec<PathBuf>> {
        let read = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect())
    };
    for folder in entries(&tree.join("usr/lib"))? {
        if !folder.is_dir() {
            continue;
        }
        if let Some(loader) = entries(&folder)?.into_iter().find(|path| starts(path, "ld-linux")) {
            let mut command = Command::new(loader);
            command.arg("--library-path").arg(&folder).arg(tree.join("usr/bin").join(name));
            return Ok(command);
        }
    }
    bail!("{} has no loader", tree.display())
}

/// Runs `promtool ARGUMENTS` in a folder, with something on its standard input; what it printed.
///
/// # Errors
/// With its own words when it fails, or finds something.
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> Result<String> {
    use std::io::Write as _;
    let mut command = program("promtool")?;
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run promtool")?;
    let mut pipe = child.stdin.take().context("the pipe was asked for")?;
    // It may end before it has read all of it.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output()?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    ensure!(output.status.success(), "promtool {}: {}:\n{said}", arguments.join(" "), output.status);
    Ok(said)
}

/// A Prometheus of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    // Declared before the directory, so that it ends first.
    process: Process,
    scratch: Scratch,
    port: Port,
}

impl Prometheus {
    /// Starts one with this configuration and these rules (`rules.yaml`).
    ///
    /// # Errors
    /// When it cannot be fetched, or does not come up; its log is in the message.
    pub async fn start(configuration: &str, rules: &str) -> Result<Self> {
        let scratch = Scratch::new("prometheus")?;
        let port = Port::free()?;
        std::fs::write(scratch.join("prometheus.yaml"), configuration)?;
        std::fs::write(scratch.join("rules.yaml"), rules)?;
        let log = std::fs::File::create(scratch.join("log"))?;
        let mut command = program("prometheus")?;
        command
            .arg(format!("--config.file={}", scratch.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", scratch.join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command.spawn().context("cannot run prometheus")?;
        std::fs::write(scratch.join("process"), child.id().to_string())?;
        let mut this = Self { process: Process(child), scratch, port };
        let up = wait::until(START, "Prometheus to be ready", async || {
            if this.process.0.try_wait()?.is_some() {
                return Ok(Some(false));
            }
            this.get("/api/v1/status/runtimeinfo").await.map(|_| Some(true))
        })
        .await;
        let said = || std::fs::read_to_string(this.scratch.join("log")).unwrap_or_default();
        match up {
            Ok(true) => Ok(this),
            Ok(false) => bail!("Prometheus ended at its start:\n{}", said()),
            Err(error) => Err(error.context(said())),
        }
    }

    /// What its API answers to a path; the part `data` of it.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub async fn get(&self, path: &str) -> Result<Value> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.port.address()).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
        let body: Value = serde_json::from_str(body).with_context(|| format!("{path}: {body}"))?;
        ensure!(body["status"] == "success", "{path}: {body}");
        Ok(body["data"].clone())
    }

    /// The samples that an expression yields now: their labels and values.
    ///
    /// # Errors
    /// When the expression is not one.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}")).await?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }
}
