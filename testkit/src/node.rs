//! A whole Kubernetes with one node that runs containers, in namespaces of its own.
//!
//! `hack/kubernetes/node-up.sh` starts it in about 7 s; it needs Linux and root. Its network
//! has no way out and none in: [`Node::forward`] brings an address of it to this machine's
//! loopback, [`Node::expose`] a server of this machine into it, and what is spawned on
//! [`Node::inside`] has its sockets in there.

mod network;

use std::fs::File;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use tokio::process::Command;

use crate::control_plane::{ControlPlane, run};
use crate::scratch::Scratch;
use crate::{hack, wait};
use network::Network;

/// The node's own address, where pods find what [`Node::expose`] brought in.
pub const ADDRESS: [u8; 4] = [198, 18, 0, 1];

/// Another process may run a whole end-to-end test first.
const TURN: Duration = Duration::from_secs(15 * 60);

/// A running cluster with a node. It is a [`ControlPlane`], too. Dropping it ends it.
#[derive(Debug)]
pub struct Node {
    /// Before the plane: the relays go before the servers.
    network: Network,
    plane: ControlPlane,
    _turn: File,
}

impl Deref for Node {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

impl Node {
    /// A cluster with these images (archives as `cargo xtask pack` makes them).
    ///
    /// # Errors
    /// When something is missing on this machine, or it does not come up.
    pub async fn start(images: &[&Path]) -> Result<Self> {
        Self::start_with(images, &[]).await
    }

    /// A cluster with variables that `node-up.sh` knows (`SLICE_BATCH`, `PROXY_MODE`).
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with(images: &[&Path], variables: &[(&str, &str)]) -> Result<Self> {
        let turn = turn().await?;
        let scratch = Scratch::new("node")?;
        let mut up = Command::new(hack("kubernetes/node-up.sh"));
        up.arg(scratch.path()).args(images).envs(variables.iter().copied());
        run(up, "").await.context("the node did not come up")?;
        let network = Network::enter(&scratch.join("run/node.pid"))?;
        let mut plane = ControlPlane::in_directory(scratch)?;
        // The API server as seen from out here.
        let port = network.forward((ADDRESS, 6443).into())?.port();
        let inside = std::fs::read_to_string(plane.kubeconfig())?;
        let outside = plane.directory().join("outside.kubeconfig");
        std::fs::write(&outside, inside.replace("198.18.0.1:6443", &format!("127.0.0.1:{port}")))?;
        plane.set_kubeconfig(outside);
        if crate::keep() {
            eprintln!(
                "KEEP=1: a cluster stays; use it: {} {} kubectl get pods -A; end it: {}",
                hack("kubernetes/in.sh").display(),
                plane.directory().display(),
                plane.scratch().how_to_end()
            );
        }
        Ok(Self { network, plane, _turn: turn })
    }

    /// A folder of this machine that `hostPath` volumes may use; everybody may write to it.
    #[must_use]
    pub fn host_folder(&self) -> PathBuf {
        self.directory().join("host")
    }

    /// Runs a command of this machine inside the node's namespaces; its output.
    ///
    /// # Errors
    /// What the command complained about.
    pub async fn exec_in(&self, command: &[&str]) -> Result<String> {
        run(self.command_in(command), "").await
    }

    /// A command of this machine, set up to run inside the node's namespaces.
    #[must_use]
    pub fn command_in(&self, command: &[&str]) -> Command {
        let mut inside = Command::new(hack("kubernetes/in.sh"));
        inside.arg(self.directory()).args(command);
        inside
    }

    /// Brings one more image onto the node.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub async fn import(&self, image: &Path) -> Result<()> {
        let image = image.to_str().context("a path that is no text")?;
        self.exec_in(&["ctr", "-n", "k8s.io", "images", "import", image]).await.map(drop)
    }

    /// Where tasks run whose sockets belong to the node's network (a client that asks a
    /// Service by its cluster address).
    #[must_use]
    pub fn inside(&self) -> &tokio::runtime::Handle {
        self.network.inside()
    }

    /// Brings an address of the node's network (a Service, a pod) to a port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn forward(&self, address: SocketAddr) -> Result<SocketAddr> {
        self.network.forward(address)
    }

    /// Brings a server of this machine into the node's network, at [`ADDRESS`] and `port`.
    ///
    /// # Errors
    /// When that port is taken in there.
    pub fn expose(&self, server: SocketAddr, port: u16) -> Result<SocketAddr> {
        self.network.expose(server, (ADDRESS, port).into())
    }

    /// The id of a running container.
    ///
    /// # Errors
    /// When the pod or container does not exist or does not run.
    pub async fn container_id(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].containerID}}");
        let id = self.kubectl(&["-n", namespace, "get", "pod", pod, "-o", &path]).await?;
        match id.trim().strip_prefix("containerd://") {
            Some(id) => Ok(id.to_owned()),
            None => bail!("pod {namespace}/{pod} has no running container {container}"),
        }
    }

    /// SIGKILL to a container's first process: all of it is gone at once, and nobody in it
    /// can say goodbye.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn kill_container(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        let id = self.container_id(namespace, pod, container).await?;
        self.exec_in(&["ctr", "-n", "k8s.io", "task", "kill", "--signal", "SIGKILL", &id]).await.map(drop)
    }

    /// SIGKILL to the processes of a container whose program has this file name.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn kill_process_in(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        name: &str,
    ) -> Result<()> {
        const SCRIPT: &str = r#"
            found=
            for pid in $(ctr -n k8s.io task ps "$1" | awk 'NR > 1 { print $1 }'); do
              program=$(readlink "/proc/$pid/exe") || continue
              [ "${program##*/}" = "$2" ] && kill -KILL "$pid" && found=1
            done
            [ "$found" ] || { echo "no process of program $2 in container $1" >&2; exit 1; }"#;
        let id = self.container_id(namespace, pod, container).await?;
        self.exec_in(&["bash", "-c", SCRIPT, "kill_process_in", &id, name]).await.map(drop)
    }
}

/// Brings a server of this machine into the network of a node that another process started, for as
/// long as the node lives or until this process is ended.
///
/// # Errors
/// When there is no node in that directory, or the port is taken in there.
pub fn relay_for_good(directory: &Path, server: SocketAddr, port: u16) -> Result<()> {
    let network = Network::enter(&directory.join("run/node.pid"))?;
    network.expose(server, (ADDRESS, port).into())?;
    loop {
        std::thread::park();
    }
}

/// One node at a time on a machine: two would starve each other and spoil every timing.
async fn turn() -> Result<File> {
    let path = std::env::temp_dir().join("component-lease-node.lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    wait::until(TURN, format!("another process to end its node ({})", path.display()), async || match flock(
        &file,
        FlockOperation::NonBlockingLockExclusive,
    ) {
        Ok(()) => Ok(Some(())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    })
    .await?;
    Ok(file)
}
