//! A control plane with many resources and pods, and what was written to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease::api::ComponentLease;
use component_lease_testkit::control_plane::{ControlPlane, program};
use component_lease_testkit::repository;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::until;

/// Where the resources are.
pub(crate) const NAMESPACE: &str = "scale";
/// Where the pods are that no resource selects.
pub(crate) const OTHERS: &str = "others";
/// The controller's own.
const SYSTEM: &str = "component-lease";
const AT_A_TIME: usize = 32;

pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
    admin: Client,
    /// The kubeconfig of the chart's account.
    pub(crate) account: PathBuf,
}

pub(crate) fn lease(number: usize) -> String {
    format!("lease-{number:05}")
}

pub(crate) fn pod(number: usize, which: usize) -> String {
    format!("app-{number:05}-{which}")
}

impl Cluster {
    /// With the definitions of this program, and the rights that the chart gives its account.
    pub(crate) async fn start(path: &Path) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let definitions = Command::new(path).arg("crd").output().await?;
        plane.apply(&String::from_utf8(definitions.stdout)?).await?;
        until("the definitions are served", async || {
            Ok(plane.kubectl(&["get", "componentleases,leaserequests", "-A"]).await.is_ok())
        })
        .await?;
        for namespace in [NAMESPACE, OTHERS, SYSTEM] {
            plane.kubectl(&["create", "namespace", namespace]).await?;
            until("the default service account", async || {
                Ok(plane.kubectl(&["-n", namespace, "get", "serviceaccount", "default"]).await.is_ok())
            })
            .await?;
        }
        plane.fake_node("fake").await?;
        plane.apply(&rights().await?).await?;
        let account = plane.kubeconfig_for(SYSTEM, "component-lease").await?;
        let admin = client(plane.kubeconfig()).await?;
        Ok(Self { plane, admin, account })
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        client(self.plane.kubeconfig()).await
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    /// Pods of 50 kB that run.
    pub(crate) async fn unrelated_pods(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let filler = "0123456789".repeat(24);
        let many: Vec<Value> =
            (0..150).map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": filler })).collect();
        self.make(OTHERS, numbers.map(|n| (format!("other-{n:05}"), "other".to_owned())), &json!(many))
            .await?;
        Ok(())
    }

    /// The resources and their pods; the UIDs of the pods by name.
    pub(crate) async fn resources(&self, leases: usize, pods: usize) -> Result<BTreeMap<String, String>> {
        let wanted =
            (0..leases).flat_map(|n| (0..pods).map(move |which| (pod(n, which), format!("app-{n:05}"))));
        let uids = self.make(NAMESPACE, wanted, &json!([])).await?;
        let api: Api<ComponentLease> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let all = futures::stream::iter((0..leases).map(|number| {
            let api = api.clone();
            async move {
                let lease: ComponentLease = serde_json::from_value(json!({
                    "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
                    "metadata": { "name": lease(number) },
                    "spec": { "selector": { "matchLabels": { "app": format!("app-{number:05}") } } },
                }))?;
                api.create(&PostParams::default(), &lease).await?;
                anyhow::Ok(())
            }
        }));
        all.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
        Ok(uids)
    }

    async fn make(
        &self,
        namespace: &str,
        names: impl Iterator<Item = (String, String)>,
        environment: &Value,
    ) -> Result<BTreeMap<String, String>> {
        let api = self.pods(namespace);
        let all = futures::stream::iter(names.map(|(name, app)| {
            let api = api.clone();
            async move {
                let made = api.create(&PostParams::default(), &manifest(&name, &app, environment)?).await?;
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(running(&name))).await?;
                anyhow::Ok((name, made.uid().context("a pod without UID")?))
            }
        }));
        all.buffer_unordered(AT_A_TIME).try_collect().await
    }

    /// Changes the pods that no resource selects, so many times in all.
    pub(crate) async fn change_unrelated(&self, pods: usize, times: usize) -> Result<()> {
        let names = (0..times).map(|n| format!("other-{:05}", n % pods));
        self.annotate(OTHERS, names.collect()).await.map(drop)
    }

    /// How many patches of pods a second the API server carries out while nobody else does anything.
    pub(crate) async fn bare_rate(&self, uids: &BTreeMap<String, String>, times: usize) -> Result<f64> {
        let names = uids.keys().cycle().take(times).cloned().collect();
        let took = self.annotate(NAMESPACE, names).await?;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        Ok(times as f64 / took.as_secs_f64())
    }

    async fn annotate(&self, namespace: &str, names: Vec<String>) -> Result<Duration> {
        let (api, began) = (self.pods(namespace), Instant::now());
        let all = futures::stream::iter(names.into_iter().enumerate().map(|(n, name)| {
            let api = api.clone();
            async move {
                let patch = json!({ "metadata": { "annotations": { "example.org/n": n.to_string() } } });
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                anyhow::Ok(())
            }
        }));
        all.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
        Ok(began.elapsed())
    }

    /// The controller's writes since then, by kind.
    pub(crate) fn writes(&self, mark: u64) -> Result<BTreeMap<String, usize>> {
        let account = format!("system:serviceaccount:{SYSTEM}:component-lease");
        let mut counted = BTreeMap::new();
        for write in self.plane.writes_since(mark)?.into_iter().filter(|write| write.user == account) {
            let what = match write.subresource.as_str() {
                "" => format!("{} {}", write.verb, write.resource),
                sub => format!("{} {}/{sub}", write.verb, write.resource),
            };
            let what = if write.code < 400 { what } else { format!("{what}, refused with {}", write.code) };
            *counted.entry(what).or_default() += 1;
        }
        Ok(counted)
    }

    /// [`Cluster::writes`] once there was none for two seconds.
    pub(crate) async fn writes_when_quiet(&self, mark: u64) -> Result<BTreeMap<String, usize>> {
        let (mut known, mut since) = (self.writes(mark)?, Instant::now());
        until("two quiet seconds", async || {
            let now = self.writes(mark)?;
            if now != known {
                (known, since) = (now, Instant::now());
            }
            Ok(since.elapsed() >= Duration::from_secs(2))
        })
        .await?;
        Ok(known)
    }
}

fn manifest(name: &str, app: &str, environment: &Value) -> Result<Pod> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": app, "pod-template-hash": "7d9c5b6f4" } },
        "spec": {
            "nodeName": "fake", "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": "localhost/fake:1", "env": environment }],
        },
    });
    Ok(serde_json::from_value(pod)?)
}

/// As a kubelet says it.
fn running(name: &str) -> Value {
    let since = "2026-01-01T00:00:00Z";
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": since });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let number: u64 = name.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    json!({ "status": {
        "phase": "Running", "podIP": "198.18.0.7", "podIPs": [{ "ip": "198.18.0.7" }], "startTime": since,
        "conditions": conditions,
        "containerStatuses": [{
            "name": "main", "image": "localhost/fake:1", "imageID": "sha256:0", "restartCount": 0, "ready": true,
            "started": true, "containerID": format!("containerd://{number:064x}"),
            "state": { "running": { "startedAt": since } },
        }],
    }})
}

/// What the chart grants its account where it watches all namespaces.
async fn rights() -> Result<String> {
    let mut helm = Command::new(program("helm")?);
    helm.args(["template", "component-lease"]).arg(repository().join("charts/component-lease"));
    helm.args(["--namespace", SYSTEM, "--kube-version", "1.35.0"]);
    helm.args(["--set", "store=postgres,database.existingSecret.name=unused"]);
    for template in ["serviceaccount", "rbac", "admission-policy"] {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    let output = helm.output().await.context("cannot run helm")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
