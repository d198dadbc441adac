//! The product on a real node, as demo, benchmarks and end-to-end tests use it: a database, the
//! chart, three replicas of a small service that compete for `discovery`, and recorders of what
//! the row, the pods' labels and the service's users saw.
//!
//! All of it goes by the outward names that `docs/reference.md` promises.

pub mod chart;
pub mod client;
pub mod faults;
pub mod judge;
pub mod rows;
pub mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::control_plane::Recorder;
use crate::node::Node;
use crate::{repository, wait};
use chart::Release;
use rows::Place;
use store::Store;

/// The name of the component, and what everything around it is called.
pub const COMPONENT: &str = "discovery";
/// The label of its leader.
pub const LABEL: &str = "componentlease.io/discovery";
/// The container of its pods.
pub const CONTAINER: &str = "discovery";
/// The seconds of a term.
pub const TTL: i64 = 5;

const SELECTOR: &str = "app=discovery";
const PATIENCE: Duration = Duration::from_secs(60);

/// The names that the manifests of `demo/` and the chart give the images.
pub const IMAGE: &str = concat!("localhost/component-lease:", env!("CARGO_PKG_VERSION"));
/// The image of the program that competes.
pub const PROGRAM_IMAGE: &str = "localhost/discovery:1";

/// What makes the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
}

impl Workload {
    /// As kubectl calls it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }
}

/// A namespace with the chart and the competing service in it.
#[derive(Debug)]
pub struct Stage<'n> {
    pub node: &'n Node,
    pub namespace: String,
    pub store: Store,
    pub release: Release,
    workload: Mutex<Workload>,
    /// Pods whose container was ended, and how often it had been restarted before.
    ended: Mutex<BTreeMap<String, i64>>,
}

impl<'n> Stage<'n> {
    /// Makes the namespace, which enforces the Pod Security level `restricted`, and the tables'
    /// place in it.
    ///
    /// # Errors
    /// When the API server refuses something.
    pub async fn prepare(node: &'n Node, namespace: &str, release: &str, store: Store) -> Result<Self> {
        node.kubectl(&["create", "namespace", namespace]).await?;
        let level = "pod-security.kubernetes.io/enforce=restricted";
        node.kubectl(&["label", "namespace", namespace, level]).await?;
        wait::until(PATIENCE, "the default service account", async || {
            node.kubectl(&["-n", namespace, "get", "serviceaccount", "default"]).await.map(Some)
        })
        .await?;
        let release = Release { name: release.to_owned(), namespace: namespace.to_owned() };
        let (ended, workload) = (Mutex::default(), Mutex::new(Workload::Deployment));
        let stage = Self { node, namespace: namespace.to_owned(), store, release, workload, ended };
        stage.apply(&stage.store.manifests(namespace)?).await?;
        Ok(stage)
    }

    /// With PostgreSQL: makes the tables by a Job with the owner's account, and grants what it
    /// printed. (With SQLite the controller does it: `migrate=true`.)
    ///
    /// # Errors
    /// When the Job fails; its log is in the message.
    pub async fn make_tables(&self) -> Result<()> {
        let Store::Postgres { .. } = self.store else { return Ok(()) };
        self.apply(&read("demo/postgres/migrate.yaml")?).await?;
        let log = async || self.kubectl(&["logs", "job/migrate"]).await;
        let ended = wait::until(PATIENCE, "the Job migrate to end", async || {
            let job = self.get(&["job", "migrate"]).await?;
            let number = |name: &str| job["status"][name].as_i64().unwrap_or(0);
            Ok((number("succeeded") + number("failed") > 0).then(|| number("succeeded") > 0))
        });
        ensure!(ended.await?, "the Job migrate failed: {}", log().await?);
        self.store.grant(&log().await?).await
    }

    /// Installs the chart with the values for this store and these.
    ///
    /// # Errors
    /// Helm's own words.
    pub async fn install(&self, more: &[&str]) -> Result<String> {
        let mut values = Release::values(&self.store);
        values.extend(more.iter().map(|&value| value.to_owned()));
        self.release.install(self.node, &values).await
    }

    /// The resource, then the three replicas; returns when one of them leads and all is routed.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn deploy(&self) -> Result<()> {
        self.apply(&read("demo/base/componentlease.yaml")?).await?;
        let place = self.place()?;
        wait::until_true(PATIENCE, "the participants to be told their ttl", async || {
            matches!(rows::told_ttl(&place, &self.component()).await, Ok(Some(TTL)))
        })
        .await?;
        let folder = repository().join("demo").join(self.store.name());
        let folder = folder.to_string_lossy();
        let manifests = self.node.kubectl(&["kustomize", &folder]).await?;
        self.apply(&manifests).await?;
        self.settle().await
    }

    /// What makes the replicas now.
    #[must_use]
    pub fn workload(&self) -> Workload {
        *self.workload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how a rollout of the Deployment replaces pods.
    ///
    /// # Errors
    /// kubectl's own words.
    pub async fn roll_by(&self, max_surge: u32, max_unavailable: u32) -> Result<()> {
        let how = serde_json::json!({"maxSurge": max_surge, "maxUnavailable": max_unavailable});
        let patch = serde_json::json!({"spec": {"strategy": {"rollingUpdate": how}}}).to_string();
        self.kubectl(&["patch", Workload::Deployment.kind(), COMPONENT, "--patch", &patch]).await?;
        self.settle().await
    }

    /// Puts a StatefulSet with the same pods in the place of the Deployment; returns when all is routed.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn become_a_stateful_set(&self) -> Result<()> {
        let deployment = self.get(&[Workload::Deployment.kind(), COMPONENT]).await?;
        let spec = &deployment["spec"];
        let set = serde_json::json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": COMPONENT},
            "spec": {
                "serviceName": COMPONENT, "replicas": spec["replicas"], "selector": spec["selector"],
                "template": spec["template"],
            },
        });
        self.kubectl(&["delete", Workload::Deployment.kind(), COMPONENT, "--wait=false"]).await?;
        wait::until_true(PATIENCE, "the Deployment's pods to go", async || {
            let pods = self.get(&["pods", "-l", SELECTOR]).await;
            pods.is_ok_and(|pods| pods["items"].as_array().is_some_and(Vec::is_empty))
        })
        .await?;
        *self.workload.lock().unwrap_or_else(PoisonError::into_inner) = Workload::StatefulSet;
        self.apply(&set.to_string()).await?;
        self.settle().await
    }

    /// Waits until three replicas are ready, every container that was ended runs again, and the
    /// resource says that all is well.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn settle(&self) -> Result<()> {
        let quiet = async || {
            let deployment = self.get(&[self.workload().kind(), COMPONENT]).await?;
            let (spec, status) = (&deployment["spec"], &deployment["status"]);
            let pods = self.get(&["pods", "-l", SELECTOR]).await?;
            let count = pods["items"].as_array().map_or(0, Vec::len);
            // Readiness arrives late: a pod may be called ready for a while after its end.
            let restarted = self.all_restarted(&pods);
            let lease = self.get(&["componentlease", COMPONENT]).await?;
            let settled = restarted
                && status["observedGeneration"] == deployment["metadata"]["generation"]
                && status["updatedReplicas"] == spec["replicas"]
                && status["readyReplicas"] == spec["replicas"]
                && spec["replicas"] == count
                && condition(&lease, "Ready")["status"] == "True";
            ensure!(settled, "Ready is {}", condition(&lease, "Ready"));
            Ok(Some(()))
        };
        wait::until(PATIENCE, "three ready replicas, one of them leading and routed to", quiet).await?;
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn all_restarted(&self, pods: &serde_json::Value) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = pods["items"].as_array().into_iter().flatten();
        let mut pods = pods.filter_map(|pod| Some((restarts(pod), pod["metadata"]["name"].as_str()?)));
        pods.all(|(restarts, pod)| ended.get(pod).is_none_or(|before| restarts > *before))
    }

    /// The address of the Service, inside the node's network.
    ///
    /// # Errors
    /// When the Service does not exist or has no address.
    pub async fn service(&self) -> Result<SocketAddr> {
        let service = self.get(&["service", COMPONENT]).await?;
        let address = service["spec"]["clusterIP"].as_str().context("the Service has no address")?;
        Ok(format!("{address}:80").parse()?)
    }

    /// The key of the row.
    #[must_use]
    pub fn component(&self) -> String {
        format!("{}/{COMPONENT}", self.namespace)
    }

    /// Where this machine sees the rows.
    ///
    /// # Errors
    /// When a path is no text.
    pub fn place(&self) -> Result<Place> {
        self.store.place()
    }

    /// The pod that the row names now.
    ///
    /// # Errors
    /// When the row is nobody's.
    pub async fn leader(&self) -> Result<String> {
        let row = rows::look(&self.place()?, &self.component()).await?.context("there is no row")?;
        Ok(row.pod().with_context(|| format!("{row:?} names no pod"))?.to_owned())
    }

    /// A client of the Service, inside the node's network.
    ///
    /// # Errors
    /// When there is no Service.
    pub async fn client(&self, pace: Duration) -> Result<client::Client> {
        Ok(client::Client::start(self.node.inside(), self.service().await?, pace))
    }

    /// A recorder of the row.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn record_rows(&self) -> Result<rows::Rows> {
        rows::Rows::record(&self.place()?, &self.component()).await
    }

    /// A recorder of the label.
    ///
    /// # Errors
    /// When kubectl cannot be run.
    pub fn record_label(&self) -> Result<Recorder> {
        self.node.record_label(&self.namespace, LABEL, "leader")
    }

    /// `kubectl` in this namespace.
    ///
    /// # Errors
    /// kubectl's own words.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.node.kubectl(&[&["-n", &self.namespace], arguments].concat()).await
    }

    /// `kubectl get … -o json` in this namespace.
    ///
    /// # Errors
    /// kubectl's own words.
    pub async fn get(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        self.node.get(&[&["-n", &self.namespace], arguments].concat()).await
    }

    /// Prints what there is, for somebody who looks at a failed test.
    pub async fn print(&self) {
        for arguments in [
            &["get", "all,endpointslices", "-o", "wide", "--show-labels"][..],
            &["get", "componentleases", "-o", "yaml"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "-l", "app.kubernetes.io/name=component-lease", "--tail=40", "--prefix"],
            &["logs", "-l", SELECTOR, "-c", CONTAINER, "--tail=20", "--prefix"],
        ] {
            let printed = self.kubectl(arguments).await.unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("--- kubectl {}\n{printed}", arguments.join(" "));
        }
    }

    async fn apply(&self, manifests: &str) -> Result<()> {
        self.node.kubectl_with_input(&["-n", &self.namespace, "apply", "-f", "-"], manifests).await.map(drop)
    }
}

/// A condition of a resource's status; null when it has none of that type.
#[must_use]
pub fn condition(object: &serde_json::Value, kind: &str) -> serde_json::Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|one| one["type"] == kind).unwrap_or_default()
}

/// How often a pod's container was restarted.
fn restarts(pod: &serde_json::Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0)
}

fn read(name: &str) -> Result<String> {
    let file = repository().join(name);
    std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}
