//! Nodes and pods without machines: their states are written as a kubelet would.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::ControlPlane;

/// When fake things began, where it does not matter.
const SINCE: &str = "2026-01-01T00:00:00Z";

/// A pod on a fake node, to be made by [`ControlPlane::fake_pods`]: bound, running and ready.
#[derive(Debug, Clone)]
pub struct FakePod {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub node: String,
    /// Where the Service would send requests; another one for each pod.
    pub address: String,
    pub ready: bool,
    /// 0: a deletion is final at once. Else the pod stays `Terminating` for want of a kubelet
    /// that would confirm its end, until it is deleted by force.
    pub grace_seconds: u32,
    /// When its container started (RFC 3339).
    pub started: String,
}

impl FakePod {
    /// A pod with one label `app=APP` on the node `fake`.
    #[must_use]
    pub fn new(name: &str, app: &str) -> Self {
        // Addresses of the range that is reserved for tests of this kind.
        let address = format!("198.18.{}.{}", fastrand::u8(1..250), fastrand::u8(1..250));
        Self {
            name: name.to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            node: "fake".to_owned(),
            address,
            ready: true,
            grace_seconds: 0,
            started: SINCE.to_owned(),
        }
    }

    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn not_ready(mut self) -> Self {
        self.ready = false;
        self
    }

    #[must_use]
    pub fn grace_seconds(mut self, seconds: u32) -> Self {
        self.grace_seconds = seconds;
        self
    }

    fn manifest(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": namespace, "labels": self.labels},
            "spec": {
                "nodeName": self.node,
                "terminationGracePeriodSeconds": self.grace_seconds,
                // As the strictest namespaces want it.
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "main", "image": "localhost/fake:1",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        })
    }

    /// The status that a kubelet reports for a pod that runs.
    fn status(&self) -> Value {
        let ready = if self.ready { "True" } else { "False" };
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": self.started});
        json!({
            "phase": "Running",
            "podIP": self.address, "podIPs": [{"ip": self.address}],
            "hostIP": "198.18.0.1", "hostIPs": [{"ip": "198.18.0.1"}],
            "startTime": self.started,
            "conditions": [
                condition("PodScheduled", "True"), condition("Initialized", "True"),
                condition("ContainersReady", ready), condition("Ready", ready),
            ],
            "containerStatuses": [{
                "name": "main", "image": "localhost/fake:1", "imageID": "sha256:0", "restartCount": 0,
                "ready": self.ready, "started": true,
                "containerID": container_id(&self.name, 0),
                "state": {"running": {"startedAt": self.started}},
            }],
        })
    }
}

/// The id of a fake pod's container after so many restarts.
fn container_id(pod: &str, restarts: u32) -> String {
    let hex: String = format!("{pod}-{restarts}").bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("containerd://{hex:0>64.64}")
}

impl ControlPlane {
    /// A node without a machine, Ready.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn fake_node(&self, name: &str) -> Result<()> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string())
            .await?;
        let ready = json!({"status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "Fake",
            "lastHeartbeatTime": SINCE, "lastTransitionTime": SINCE,
        }]}});
        self.patch_status("node", "", name, &ready).await
    }

    /// Makes fake pods, and the fake nodes they are on where these are missing.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn fake_pods(&self, namespace: &str, pods: &[FakePod]) -> Result<()> {
        let nodes: std::collections::BTreeSet<_> = pods.iter().map(|pod| pod.node.as_str()).collect();
        for node in nodes {
            if self.kubectl(&["get", "node", node]).await.is_err()
                && let Err(error) = self.fake_node(node).await
            {
                // Another test may have been faster.
                self.kubectl(&["get", "node", node]).await.map_err(|_| error)?;
            }
        }
        let list = |items: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "items": items});
        let manifests = list(pods.iter().map(|pod| pod.manifest(namespace)).collect());
        self.kubectl_with_input(&["create", "-f", "-"], &manifests.to_string()).await?;
        let statuses = pods.iter().map(|pod| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod.name, "namespace": namespace}, "status": pod.status(),
            })
        });
        // The kubelet's own name, so that nothing in the managed fields looks like a person.
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--subresource=status",
            "--field-manager=kubelet",
            "-f",
            "-",
        ];
        self.kubectl_with_input(&arguments, &list(statuses.collect()).to_string()).await?;
        Ok(())
    }

    /// Writes a new status of a fake pod (after its address or readiness were changed).
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn update_fake_pod(&self, namespace: &str, pod: &FakePod) -> Result<()> {
        self.patch_status("pod", namespace, &pod.name, &json!({"status": pod.status()})).await
    }

    /// What a kubelet reports when a pod's only container has ended (137: it was killed) and,
    /// with `restarts`, runs again as a new one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn fake_container_end(
        &self,
        namespace: &str,
        pod: &FakePod,
        exit_code: i32,
        restarts: u32,
    ) -> Result<()> {
        let before = restarts.saturating_sub(1);
        let ended = json!({"terminated": {
            "exitCode": exit_code, "reason": "Error", "startedAt": pod.started,
            "finishedAt": pod.started, "containerID": container_id(&pod.name, before),
        }});
        let mut status = pod.status();
        let container = &mut status["containerStatuses"][0];
        if restarts == 0 {
            container["state"] = ended;
            container["ready"] = json!(false);
            for condition in [2, 3] {
                status["conditions"][condition]["status"] = json!("False");
            }
        } else {
            container["lastState"] = ended;
            container["restartCount"] = json!(restarts);
            container["containerID"] = json!(container_id(&pod.name, restarts));
        }
        self.patch_status("pod", namespace, &pod.name, &json!({"status": status})).await
    }

    /// Merges into the status of an object (an empty namespace for those that have none).
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn patch_status(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let mut arguments = vec!["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch];
        if !namespace.is_empty() {
            arguments.extend(["-n", namespace]);
        }
        self.kubectl(&arguments).await.map(drop)
    }
}
