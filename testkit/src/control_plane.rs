//! A Kubernetes control plane: an API server with its controllers, and no node.
//!
//! `hack/kubernetes/up.sh` starts it in about 4 s; its programs must have been built
//! (`make programs`). With `KUBEBUILDER_ASSETS` and without them there is an API server and
//! nothing else: what needs the controllers then fails and says so
//! ([`ControlPlane::needs_controllers`]).

mod audit;
mod fake;
mod namespace;
mod recorder;

pub use audit::Write;
pub use fake::FakePod;
pub use namespace::Namespace;
pub use recorder::{Duplicate, Ending, LabelChange, Recorder};

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::hack;
use crate::scratch::Scratch;

/// A running control plane. Dropping it ends it.
#[derive(Debug)]
pub struct ControlPlane {
    scratch: Scratch,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

/// The control plane that the tests of this process share; each works in a namespace of its
/// own ([`ControlPlane::namespace`]). Nobody may take its API server away.
///
/// # Errors
/// When it does not come up.
pub async fn shared() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_try_init(ControlPlane::start).await
}

impl ControlPlane {
    /// One of its own.
    ///
    /// # Errors
    /// When programs are missing or it does not come up; the message holds the logs' ends.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// One of its own, with variables that `up.sh` knows.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_with(variables: &[(&str, &str)]) -> Result<Self> {
        let scratch = Scratch::new("controlplane")?;
        let mut up = Command::new(hack("kubernetes/up.sh"));
        up.arg(scratch.path()).envs(variables.iter().copied());
        run(up, "").await.context("the control plane did not come up")?;
        let plane = Self::in_directory(scratch)?;
        if crate::keep() {
            eprintln!(
                "KEEP=1: a control plane stays; use it: export KUBECONFIG={}; end it: {}",
                plane.kubeconfig.display(),
                plane.scratch.how_to_end()
            );
        }
        Ok(plane)
    }

    /// What is there once a script has brought a cluster up in this directory.
    pub(crate) fn in_directory(scratch: Scratch) -> Result<Self> {
        let kubeconfig = scratch.join("admin.kubeconfig");
        Ok(Self { kubeconfig, kubectl: program("kubectl")?, scratch })
    }

    /// The scratch directory of all its files; logs are in `log/`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub(crate) fn set_kubeconfig(&mut self, kubeconfig: PathBuf) {
        self.kubeconfig = kubeconfig;
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Whether controllers and scheduler run (always, but with `KUBEBUILDER_ASSETS`).
    #[must_use]
    pub fn has_controllers(&self) -> bool {
        !self.scratch.join("api-only").exists()
    }

    /// To be called first by what waits for endpoints, owner references or scheduling.
    ///
    /// # Errors
    /// When there is an API server and nothing else.
    pub fn needs_controllers(&self) -> Result<()> {
        if self.has_controllers() {
            return Ok(());
        }
        bail!(
            "this needs kube-controller-manager, which KUBEBUILDER_ASSETS does not hold: \
             build it with hack/kubernetes/build.sh"
        )
    }

    /// Runs `kubectl` as the administrator; its output.
    ///
    /// # Errors
    /// With kubectl's own words when it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "").await
    }

    /// [`ControlPlane::kubectl`] with something on its standard input (`-f -`).
    ///
    /// # Errors
    /// With kubectl's own words when it fails.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        run(command, input).await
    }

    /// The command `kubectl`, set up for this cluster.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.scratch.join("kubectl-cache"));
        command
    }

    /// Applies manifests (YAML or JSON).
    ///
    /// # Errors
    /// With kubectl's own words when it fails.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], manifests).await
    }

    /// `kubectl get ARGUMENTS -o json`.
    ///
    /// # Errors
    /// With kubectl's own words when it fails.
    pub async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat()).await?;
        serde_json::from_str(&text).context("kubectl printed something else than JSON")
    }

    /// A kubeconfig that acts as a service account, through a token as a pod would have it.
    ///
    /// # Errors
    /// When the account does not exist.
    pub async fn kubeconfig_for(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["-n", namespace, "create", "token", account, "--duration", "8h"]).await?;
        let admin = std::fs::read_to_string(&self.kubeconfig)?;
        // The last line of ours is the one that says who we are.
        let others = admin.lines().filter(|line| !line.starts_with("users:"));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        text.push_str(&format!("users: [{{name: admin, user: {{token: {}}}}}]\n", token.trim()));
        let file = self.scratch.join(format!("{namespace}-{account}.kubeconfig"));
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Ends the API server and starts it again; returns when it serves.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.apiserver("restart").await
    }

    /// Kills the API server. Everything else runs on.
    ///
    /// # Errors
    /// When no API server runs.
    pub async fn kill_apiserver(&self) -> Result<()> {
        self.apiserver("kill").await
    }

    /// Starts the killed API server again; returns when it serves.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn start_apiserver(&self) -> Result<()> {
        self.apiserver("start").await
    }

    async fn apiserver(&self, verb: &str) -> Result<()> {
        let mut command = Command::new(hack("kubernetes/apiserver.sh"));
        command.arg(self.directory()).arg(verb);
        run(command, "").await.map(drop)
    }
}

/// The path of one of Kubernetes' programs (`helm` among them).
///
/// # Errors
/// When it has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let built = || {
        let output = std::process::Command::new(hack("kubernetes/build.sh")).arg("--folder").output()?;
        anyhow::Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
    };
    for folder in [assets, Some(built()?)].into_iter().flatten() {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{name} has not been built: run hack/kubernetes/build.sh")
}

/// Runs a command to its end; its output, or what it complained about.
pub(crate) async fn run(mut command: Command, input: &str) -> Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let mut pipe = child.stdin.take().expect("the pipe was asked for");
    let feed = async {
        // One that fails early does not read to the end; its exit code says it all.
        let _ = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output?;
    if !output.status.success() {
        let arguments: Vec<_> = command.as_std().get_args().map(|a| a.to_string_lossy()).collect();
        bail!(
            "{name} {}: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))
}
