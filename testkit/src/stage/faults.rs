//! What is done to a leader. The processes are found in this machine's own list and signalled from
//! here, so that the moment is known to the microsecond.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{CONTAINER, Stage};

/// A process of a container.
#[derive(Debug, Clone)]
struct Process {
    pid: Pid,
    /// Its number inside the container.
    inner: u32,
    program: PathBuf,
}

impl Stage<'_> {
    /// SIGKILL to the first process of the pod's container: nobody in it can say goodbye.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn kill_container(&self, pod: &str) -> Result<Instant> {
        self.signal_first(pod, Signal::KILL).await
    }

    /// SIGSTOP to every process of the pod's container: nobody releases, and nobody can tell that it ended.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn freeze_container(&self, pod: &str) -> Result<Instant> {
        let processes = self.processes(pod).await?;
        if processes.is_empty() {
            bail!("pod {pod} has no running container {CONTAINER}");
        }
        let at = Instant::now();
        processes.iter().try_for_each(|process| kill_process(process.pid, Signal::STOP))?;
        Ok(at)
    }

    /// SIGTERM to the first process of the pod's container: it stops its work, releases and ends.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn end_container(&self, pod: &str) -> Result<Instant> {
        self.signal_first(pod, Signal::TERM).await
    }

    async fn signal_first(&self, pod: &str, signal: Signal) -> Result<Instant> {
        let processes = self.processes(pod).await?;
        let first = processes.iter().find(|one| one.inner == 1);
        let first = first.with_context(|| format!("pod {pod} has no running container {CONTAINER}"))?;
        self.will_restart(pod).await?;
        let at = Instant::now();
        kill_process(first.pid, signal)?;
        Ok(at)
    }

    /// SIGKILL to the program that the pod's supervisor runs; the supervisor lives on.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_program(&self, pod: &str) -> Result<Instant> {
        let processes = self.processes(pod).await?;
        let program = processes.iter().find(|one| one.program.file_name() == Some("discovery".as_ref()));
        let Some(program) = program else { bail!("pod {pod} runs no discovery: {processes:?}") };
        self.will_restart(pod).await?;
        let at = Instant::now();
        kill_process(program.pid, Signal::KILL)?;
        Ok(at)
    }

    /// Asks the API server to delete a pod with its grace period; does not wait for its end.
    ///
    /// # Errors
    /// kubectl's own words.
    pub async fn delete(&self, pod: &str) -> Result<Instant> {
        let at = Instant::now();
        self.kubectl(&["delete", "pod", pod, "--wait=false"]).await?;
        Ok(at)
    }

    /// Takes a pod out of the API server at once, whatever it is doing.
    ///
    /// # Errors
    /// kubectl's own words.
    pub async fn force_delete(&self, pod: &str) -> Result<Instant> {
        let at = Instant::now();
        self.kubectl(&["delete", "pod", pod, "--grace-period=0", "--force", "--wait=false"]).await?;
        Ok(at)
    }

    /// Replaces all replicas, one after the other.
    ///
    /// # Errors
    /// kubectl's own words.
    pub async fn restart(&self) -> Result<Instant> {
        let at = Instant::now();
        self.kubectl(&["rollout", "restart", self.workload().kind(), super::COMPONENT]).await?;
        Ok(at)
    }

    /// Asks for a switchover to another pod, as an operator does; does not wait for it.
    ///
    /// # Errors
    /// kubectl's own words, or when there is no other candidate.
    pub async fn switch_over(&self, leader: &str) -> Result<Instant> {
        let user = self.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await?;
        let pods = self.kubectl(&["get", "pods", "-l", super::SELECTOR, "-o", "name"]).await?;
        let names = pods.lines().filter_map(|pod| pod.strip_prefix("pod/"));
        let other =
            names.into_iter().find(|pod| *pod != leader).context("there is no pod but the leader's")?;
        let request = serde_json::json!({
            "apiVersion": "componentlease.io/v1alpha1",
            "kind": "LeaseRequest",
            "metadata": { "generateName": "bench-" },
            "spec": { "lease": super::COMPONENT, "verb": "Switchover", "target": other, "requestedBy": user.trim() },
        });
        let at = Instant::now();
        let create = ["-n", &self.namespace, "create", "-f", "-"];
        self.node.kubectl_with_input(&create, &request.to_string()).await?;
        Ok(at)
    }

    /// Puts the leader's label on a candidate that does not lead, as somebody might by hand.
    ///
    /// # Errors
    /// kubectl's own words, or when there is no other candidate.
    pub async fn label_by_hand(&self, leader: &str) -> Result<()> {
        let pods = self.kubectl(&["get", "pods", "-l", super::SELECTOR, "-o", "name"]).await?;
        let other = pods.lines().find(|pod| !pod.ends_with(&format!("/{leader}")));
        let other = other.context("there is no pod but the leader's")?;
        self.kubectl(&["label", "--overwrite", other, &format!("{}=leader", super::LABEL)]).await.map(drop)
    }

    /// The pod's container is about to be ended: [`Stage::settle`] waits until it runs again.
    async fn will_restart(&self, pod: &str) -> Result<()> {
        let restarts = super::restarts(&self.get(&["pod", pod]).await?);
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.to_owned(), restarts);
        Ok(())
    }

    async fn processes(&self, pod: &str) -> Result<Vec<Process>> {
        let container = self.node.container_id(&self.namespace, pod, CONTAINER).await?;
        let entries = std::fs::read_dir("/proc")?.flatten();
        Ok(entries.filter_map(|entry| process(entry.file_name().to_str()?, &container)).collect())
    }
}

/// This process, if it is one of the container's. (The kubelet names cgroups after containers.)
fn process(id: &str, container: &str) -> Option<Process> {
    let pid = Pid::from_raw(id.parse().ok()?)?;
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}"));
    if !read("cgroup").ok()?.contains(container) {
        return None;
    }
    let status = read("status").ok()?;
    // One number for each namespace of processes, from the outermost to its own.
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let inner = numbers.split_whitespace().next_back()?.parse().ok()?;
    let program = std::fs::read_link(format!("/proc/{id}/exe")).ok()?;
    Some(Process { pid, inner, program })
}
