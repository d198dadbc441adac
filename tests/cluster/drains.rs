//! Leaders of nodes that are about to be drained, and what their pods cost to delete.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease::routing::pod::DELETION_COST;
use component_lease::store::{Directory as _, EndReason, Posted, Said};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::wait;
use kube::ResourceExt as _;
use serde_json::json;

use crate::requests::leader;
use crate::support::objects::{lease, lease_with};
use crate::support::participants::compete;
use crate::support::{KEY, LONG, Replica, SOON, Site, led_site};

/// A candidate on a node of its own.
async fn pod_on_its_node(site: &Site, name: &str) -> Result<String> {
    let node = format!("{}-{name}", site.name());
    let mut pod = FakePod::new(name, "discovery");
    pod.node.clone_from(&node);
    site.plane.fake_pods(site.name(), &[pod]).await?;
    Ok(node)
}

async fn asked(site: &Site) -> Result<Option<Posted>> {
    Ok(site.rows.asked_of("discovery").await?.request)
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_makes_way_when_its_node_is_cordoned_for_one_of_a_node_that_is_not() -> Result<()> {
    let site = Site::new("cordon").await?;
    let all = ["d-0", "d-1"];
    let mut nodes = Vec::new();
    for pod in all {
        nodes.push((pod, pod_on_its_node(&site, pod).await?));
    }
    site.make_lease(&lease("discovery", "discovery")).await?;
    let _controller = Replica::start(&site).await?;
    let _competitors = compete(&site, &all, Duration::from_secs(30)).await?;
    let first = leader(&site).await?;
    nodes.sort_by_key(|(pod, _)| *pod != first);
    let [(_, of_first), (second, of_second)] = nodes.as_slice() else { unreachable!("there are two") };

    // Both are cordoned: there is nowhere to go.
    site.plane.kubectl(&["cordon", of_second]).await?;
    site.plane.kubectl(&["cordon", of_first]).await?;
    let (looks, began) = (site.rows.asked(), Instant::now());
    wait::until(SOON, "three seconds of looks", async || {
        ensure!(asked(&site).await?.is_none(), "it was asked although there is nowhere to go");
        Ok((began.elapsed() > Duration::from_secs(3) && site.rows.asked() > looks + 1).then_some(()))
    })
    .await?;
    let version = site.wait_until_ready("discovery").await?;
    let version = version.status.and_then(|status| status.term).context("a term")?.version;
    site.plane.kubectl(&["uncordon", of_second]).await?;
    site.wait_for_labelled(KEY, "leader", &[second]).await?;
    let said = asked(&site).await?.context("nothing was asked")?.said;
    assert_eq!(said.by(), format!("ComponentLease {}/discovery", site.name()));
    assert_eq!(said.reason(), format!("node {of_first} of pod {first} is cordoned"));
    site.wait_for_events("discovery", &["HandOver"]).await?;
    wait::until_true(SOON, "the history to say why", async || {
        site.rows.end_reason("discovery", version).await.is_ok_and(|end| end == Some(EndReason::SwitchedOver))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn a_cordoned_leader_is_asked_once_not_while_paused_and_not_where_it_is_to_stay() -> Result<()> {
    let site = Site::new("cordoned").await?;
    let node = pod_on_its_node(&site, "d-0").await?;
    pod_on_its_node(&site, "d-1").await?;
    site.make_lease(&lease_with("discovery", "discovery", &json!({"handOverWhenCordoned": false}))).await?;
    let controller = Replica::start(&site).await?;
    // Both give signs of life, and the leader obeys nothing.
    let holder = crate::preferred::beat(&site, "d-0", 100).await?;
    let other = crate::preferred::beat(&site, "d-1", 100).await?;
    site.rows.take("discovery", &holder, LONG).await?;
    site.wait_until_ready("discovery").await?;
    site.plane.kubectl(&["cordon", &node]).await?;
    let key = site.rows.key("discovery")?;
    let until_asked = async |is: bool| {
        wait::until_true(SOON, &format!("asked: {is}"), async || {
            asked(&site).await.is_ok_and(|request| request.is_some() == is)
        })
        .await
    };
    let stays_unasked = async |why: &str| {
        let (looks, began) = (site.rows.asked(), Instant::now());
        wait::until(SOON, why, async || {
            ensure!(asked(&site).await?.is_none(), "{why}");
            Ok((began.elapsed() > Duration::from_secs(2) && site.rows.asked() > looks + 1).then_some(()))
        })
        .await
    };
    stays_unasked("it is to stay").await?;
    site.rows.pause(&key, &Said::new("ada", "backup")?, None).await?;
    site.change("discovery", json!({"handOverWhenCordoned": true})).await?;
    site.wait_for_condition("discovery", "Paused", "True", "PausedByOperator").await?;
    stays_unasked("nobody could take it").await?;
    site.rows.resume(&key, None).await?;
    until_asked(true).await?;
    let request = asked(&site).await?.context("nothing was asked")?.request;
    assert_eq!(request.target.map(|target| target.to_string()), Some(other));
    site.plane.kubectl(&["uncordon", &node]).await?;
    until_asked(false).await?;
    site.plane.kubectl(&["cordon", &node]).await?;
    until_asked(true).await?;
    // Another process of the controller finds what this one asked.
    drop(controller);
    site.plane.kubectl(&["uncordon", &node]).await?;
    let _controller = Replica::start(&site).await?;
    until_asked(false).await?;
    site.plane.kubectl(&["cordon", &node]).await?;
    until_asked(true).await?;
    // An operator takes it back: it is not asked again in this term.
    site.rows.withdraw(&key, &request.id).await?;
    stays_unasked("it was asked again").await
}

#[tokio::test(crate = "crate::harness")]
async fn what_a_leader_was_asked_because_of_a_cordon_stands_while_its_pod_goes_away() -> Result<()> {
    let site = Site::new("evicted").await?;
    let node = pod_on_its_node(&site, "d-0").await?;
    pod_on_its_node(&site, "d-1").await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    let _controller = Replica::start(&site).await?;
    let holder = crate::preferred::beat(&site, "d-0", 100).await?;
    crate::preferred::beat(&site, "d-1", 100).await?;
    site.rows.take("discovery", &holder, LONG).await?;
    site.wait_until_ready("discovery").await?;
    site.plane.kubectl(&["cordon", &node]).await?;
    wait::until_true(SOON, "the leader to be asked", async || {
        asked(&site).await.is_ok_and(|it| it.is_some())
    })
    .await?;
    // As `kubectl drain` goes on. No kubelet ends it here, so it goes away for as long as this test takes.
    site.kubectl(&["delete", "pod", "d-0", "--wait=false", "--grace-period=300"]).await?;
    let (looks, began) = (site.rows.asked(), Instant::now());
    wait::until(SOON, "three seconds of looks", async || {
        ensure!(asked(&site).await?.is_some(), "it was taken back while the pod goes away");
        Ok((began.elapsed() > Duration::from_secs(3) && site.rows.asked() > looks + 1).then_some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn the_cost_of_deleting_the_leaders_pod_moves_with_the_label_and_goes_with_the_resource() -> Result<()>
{
    let (site, _controller) = led_site("cost").await?;
    let costs = async || {
        let pods = site.pods().list(&kube::api::ListParams::default()).await?;
        let cost = |pod: &k8s_openapi::api::core::v1::Pod| {
            Some((pod.name_any(), pod.annotations().get(DELETION_COST)?.clone()))
        };
        Ok::<Vec<_>, anyhow::Error>(pods.iter().filter_map(cost).collect())
    };
    let until = async |wanted: &[(&str, &str)]| {
        wait::until(SOON, format!("costs {wanted:?}"), async || {
            let found = costs().await?;
            let same =
                found.iter().map(|(pod, cost)| (pod.as_str(), cost.as_str())).eq(wanted.iter().copied());
            ensure!(same, "they are {found:?}");
            Ok(Some(()))
        })
        .await
    };
    // The creator of a pod knows better.
    site.kubectl(&["annotate", "pod", "d-2", &format!("{DELETION_COST}=5")]).await?;
    site.change("discovery", json!({"podDeletionCost": 100})).await?;
    until(&[("d-0", "100"), ("d-2", "5")]).await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    until(&[("d-1", "100"), ("d-2", "5")]).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    site.rows.take("discovery", &site.holder("d-2").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await?;
    until(&[("d-2", "5")]).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    until(&[("d-0", "100"), ("d-2", "5")]).await?;
    site.kubectl(&["delete", "componentlease", "discovery"]).await?;
    until(&[("d-2", "5")]).await
}
