//! Whom a resource would like to lead next, as the participants find it in the database.

use anyhow::{Context as _, Result};
use component_lease::election::HolderId;
use component_lease::membership::{Instance, Whereabouts};
use component_lease::store::Directory as _;
use component_lease_testkit::wait;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::{LONG, SOON, Site, led_site};

/// A participant in this pod that is alive.
pub(crate) async fn beat(site: &Site, pod: &str, priority: u8) -> Result<String> {
    let holder = site.holder(pod).await?;
    let pod_uid = site.pods().get(pod).await?.uid().context("a pod without UID")?;
    let whereabouts = Whereabouts {
        namespace: Some(site.name().to_owned()),
        pod: Some(pod.to_owned()),
        pod_uid: Some(pod_uid),
        ..Whereabouts::default()
    };
    let says = Instance {
        component: site.rows.key("discovery")?,
        holder: HolderId::new(holder.as_str())?,
        lasts: LONG,
        whereabouts,
        program_version: None,
        mode: None,
        promise: None,
        priority: Some(priority),
        healthy: true,
        leads: None,
    };
    site.rows.beat(&says, None).await?;
    Ok(holder)
}

async fn until_preferred(site: &Site, who: Option<&str>) -> Result<()> {
    wait::until_true(SOON, &format!("{who:?} to be preferred"), async || {
        site.rows.preferred("discovery").await.is_ok_and(|preferred| preferred.as_deref() == who)
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn the_oldest_the_highest_priority_and_in_a_rollout_the_newest_revision_is_preferred() -> Result<()> {
    let (site, _controller) = led_site("prefer").await?;
    let mut holders = Vec::new();
    for pod in ["d-0", "d-1", "d-2"] {
        holders.push(beat(&site, pod, 100).await?);
        site.label(pod, "pod-template-hash", Some("old")).await?;
    }
    site.rows.take("discovery", &holders[0], LONG).await?;
    site.wait_until_ready("discovery").await?;
    until_preferred(&site, None).await?;
    site.change("discovery", json!({ "strategy": "Oldest" })).await?;
    until_preferred(&site, Some(&holders[1])).await?;
    site.change("discovery", json!({ "strategy": "Any" })).await?;
    until_preferred(&site, None).await?;

    // A pod of a newer revision, and one that starts after that. Kubernetes knows by the second which is newer.
    let made = site.pods().get("d-2").await?.creation_timestamp().context("a pod without time")?.0;
    wait::until_true(SOON, "a later second", async || jiff::Timestamp::now().as_second() > made.as_second())
        .await?;
    site.make_pods("discovery", &["d-3"]).await?;
    site.label("d-3", "pod-template-hash", Some("new")).await?;
    let new = beat(&site, "d-3", 100).await?;
    until_preferred(&site, Some(&new)).await?;
    site.make_pods("discovery", &["d-4"]).await?;
    site.label("d-4", "pod-template-hash", Some("new")).await?;
    let first = beat(&site, "d-4", 200).await?;
    until_preferred(&site, Some(&first)).await?;
    // It leads, and is not preferred any more: if it ends, the other one of its revision is.
    site.rows.take("discovery", &first, LONG).await?;
    until_preferred(&site, Some(&new)).await?;
    for pod in ["d-0", "d-1", "d-2"] {
        site.pods().delete(pod, &DeleteParams::default().grace_period(0)).await?;
    }
    until_preferred(&site, None).await
}
