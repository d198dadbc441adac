//! What workloads and namespaces do to pods and resources on their own.

use std::time::Duration;

use anyhow::{Result, ensure};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::wait;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::controller::config;
use crate::support::objects::{condition, lease, lease_with, term, typed};
use crate::support::{KEY, LONG, Replica, SOON, Site};

/// Until the namespace controller has emptied a namespace.
const EMPTIED: Duration = Duration::from_secs(90);

#[tokio::test(crate = "crate::harness")]
async fn a_workload_that_selects_by_our_label_loses_its_leader_which_is_said() -> Result<()> {
    let site = Site::new("born").await?;
    site.plane.needs_controllers()?;
    let _controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    let labels = json!({"app": "discovery", KEY: "standby"});
    let set = json!({
        "metadata": {"name": "discovery"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "main", "image": "localhost/none:1"}],
                },
            },
        },
    });
    let sets: Api<ReplicaSet> = Api::namespaced(site.admin.clone(), site.name());
    sets.create(&PostParams::default(), &serde_json::from_value(set)?).await?;
    let owned = |pod: &Pod| !pod.owner_references().is_empty();
    let pods = async |wanted: usize| {
        wait::until(SOON, format!("{wanted} pods"), async || {
            let pods = site.pods().list(&ListParams::default()).await?.items;
            Ok((pods.len() == wanted).then_some(pods))
        })
        .await
    };
    let leader = pods(2).await?[0].name_any();
    site.rows.take("discovery", &site.holder(&leader).await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &[&leader]).await?;
    let message =
        site.wait_for_condition("discovery", "LeaderOrphaned", "True", "ReleasedByWorkload").await?;
    for piece in
        [leader.as_str(), "belong to ReplicaSet discovery", KEY, "remove that label from the selector"]
    {
        ensure!(message.contains(piece), "{message}");
    }
    site.wait_for_events("discovery", &["LeaderOrphaned"]).await?;
    let now = pods(3).await?;
    ensure!(
        now.iter().filter(|pod| !owned(pod)).map(kube::ResourceExt::name_any).eq([leader.clone()]),
        "{now:?}"
    );
    // Users reach it all the same; and when it is gone, the next one is no orphan before it leads.
    let at = "2026-01-01T00:00:00Z";
    let is = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
    // No kubelet says so here.
    let runs = json!({"status": {"phase": "Running", "conditions": [is("ContainersReady"), is("Ready")]}});
    site.pods().patch_status(&leader, &PatchParams::default(), &Patch::Strategic(runs)).await?;
    site.wait_until_ready("discovery").await?;
    site.pods().delete(&leader, &DeleteParams::default()).await?;
    site.rows.release("discovery").await?;
    site.wait_for_lease("discovery", "nothing is said of it any more", |lease| {
        condition(lease, "LeaderOrphaned").is_none()
    })
    .await
    .map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_namespace_that_is_deleted_goes_and_its_neighbour_is_not_disturbed() -> Result<()> {
    let namespace = crate::support::plane().await?.namespace("stays").await?;
    // The rights of a ClusterRole: those of a Role go with the namespace.
    let site = Site::with(crate::support::plane().await?, namespace, &[]).await?;
    site.plane.needs_controllers()?;
    let doomed = site.plane.namespace("doomed").await?;
    let mut config = config(&site, "only");
    config.namespaces = vec![site.name().to_owned(), doomed.name().to_owned()];
    let mut controller = Replica::start_with(&site, config).await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;

    let leases = Api::namespaced(site.admin.clone(), doomed.name());
    let managed =
        json!({"routing": {"service": {"name": "web", "policy": "Manage", "ports": [{"port": 80}]}}});
    let key = format!("{}/discovery", doomed.name());
    let set_up = async || {
        let pods = ["d-0", "d-1"].map(|name| FakePod::new(name, "discovery"));
        site.plane.fake_pods(doomed.name(), &pods).await?;
        leases
            .create(&PostParams::default(), &typed(&lease_with("discovery", "discovery", &managed)))
            .await?;
        let pods: Api<Pod> = Api::namespaced(site.admin.clone(), doomed.name());
        let uid = pods.get("d-0").await?.uid().unwrap_or_default();
        let holder = format!("d-0_{}_{:08x}", &uid[..8], fastrand::u32(..));
        let version = site.rows.take(&key, &holder, LONG).await?;
        wait::until(SOON, "the resource that is to go is Ready", async || {
            let lease = leases.get("discovery").await?;
            let ready = condition(&lease, "Ready").is_some_and(|ready| ready.status == "True");
            ensure!(ready && term(&lease).version == version, "{:?}", lease.status);
            Ok(Some(version))
        })
        .await
    };
    let version = set_up().await?;
    site.wait_until_ready("discovery").await?;

    let mark = site.plane.audit_mark()?;
    let namespaces: Api<Namespace> = Api::all(site.admin.clone());
    namespaces.delete(doomed.name(), &DeleteParams::default()).await?;
    // Meanwhile its neighbour changes its leader.
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    wait::until(EMPTIED, "the namespace goes", async || {
        let left = namespaces.get_opt(doomed.name()).await?;
        ensure!(left.is_none(), "{:?}", left.and_then(|left| left.status));
        Ok(Some(()))
    })
    .await?;
    wait::until_true(SOON, "its ttl is withdrawn from the participants", async || {
        matches!(site.rows.intended_ttl(&key).await, Ok(None))
    })
    .await?;
    controller.still_runs()?;
    controller.probe.live().map_err(anyhow::Error::msg)?;
    let account = format!("system:serviceaccount:{}:component-lease", site.name());
    let writes = site.plane.writes_since(mark)?;
    let refused: Vec<_> = writes
        .iter()
        .filter(|w| w.user == account && w.namespace == doomed.name() && w.code >= 400)
        .collect();
    ensure!(refused.len() < 20, "it does not give up: {refused:#?}");

    // The row outlives it: in a namespace of the same name the versions go on.
    site.plane.kubectl(&["create", "namespace", doomed.name()]).await?;
    wait::until(SOON, "the default service account", async || {
        let account = ["-n", doomed.name(), "get", "serviceaccount", "default"];
        site.plane.kubectl(&account).await.map(Some)
    })
    .await?;
    ensure!(set_up().await? > version);
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}
