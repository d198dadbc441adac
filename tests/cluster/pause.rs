//! `spec.paused`, and pauses that somebody has made in the database.

use anyhow::{Result, ensure};
use component_lease::store::{Directory as _, Said};
use component_lease_testkit::wait;
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::objects::{condition, lease};
use crate::support::{LONG, SOON, Site, led_site};

/// Waits until the election is paused by this name for this reason, or is not.
async fn until_paused(site: &Site, wanted: Option<(&str, &str)>) -> Result<()> {
    wait::until(SOON, format!("the pause {wanted:?}"), async || {
        let paused = site.rows.asked_of("discovery").await?.paused;
        let found = paused.as_ref().map(|said| (said.by(), said.reason()));
        ensure!(found == wanted, "{found:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_pauses_its_election_says_so_and_ends_no_pause_of_others_unless_it_says_false()
-> Result<()> {
    let (site, controller) = led_site("pause").await?;
    let ours = format!("ComponentLease {}/discovery", site.name());
    site.change("discovery", json!({"paused": true, "pausedReason": "backup"})).await?;
    until_paused(&site, Some((&ours, "backup"))).await?;
    let said = site.wait_for_condition("discovery", "Paused", "True", "PausedBySpec").await?;
    ensure!(said.contains("(backup)"), "{said}");
    site.wait_until_ready("discovery").await?;
    site.change("discovery", json!({"pausedReason": "a longer backup"})).await?;
    until_paused(&site, Some((&ours, "a longer backup"))).await?;

    // Nobody leads because of it.
    site.rows.release("discovery").await?;
    let said = site.wait_for_condition("discovery", "LeaderElected", "False", "Paused").await?;
    ensure!(said.contains(&ours) && said.contains("a longer backup"), "{said}");
    site.wait_for_condition("discovery", "Ready", "False", "Paused").await?;
    let holder = site.holder("d-1").await?;
    ensure!(site.rows.take("discovery", &holder, LONG).await.is_err(), "it is taken");

    // Of somebody else. It was there first, so the resource leaves it alone, also when it wants none of its own.
    site.change("discovery", json!({"paused": null, "pausedReason": null})).await?;
    until_paused(&site, None).await?;
    site.rows.take("discovery", &holder, LONG).await?;
    site.wait_until_ready("discovery").await?;
    let key = site.rows.key("discovery")?;
    site.rows.pause(&key, &Said::new("ada", "drill")?, None).await?;
    let said = site.wait_for_condition("discovery", "Paused", "True", "PausedByOperator").await?;
    ensure!(said.starts_with("ada paused the election (drill)"), "{said}");
    site.change("discovery", json!({"paused": true})).await?;
    let seen = |lease: &component_lease::api::ComponentLease| {
        lease.status.as_ref().and_then(|status| status.observed_generation) == lease.metadata.generation
    };
    site.wait_for_lease("discovery", "the spec is seen", seen).await?;
    site.change("discovery", json!({"paused": null})).await?;
    site.wait_for_lease("discovery", "the spec is seen", seen).await?;
    until_paused(&site, Some(("ada", "drill"))).await?;
    site.change("discovery", json!({"paused": false})).await?;
    until_paused(&site, None).await?;
    site.wait_for_lease("discovery", "no pause", |lease| condition(lease, "Paused").is_none()).await?;
    site.wait_for_events("discovery", &["Paused", "Resumed"]).await?;

    // The pause goes with the resource that wanted it.
    site.change("discovery", json!({"paused": true})).await?;
    until_paused(&site, Some((&ours, ""))).await?;
    site.leases().delete("discovery", &DeleteParams::default()).await?;
    until_paused(&site, None).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.wait_until_ready("discovery").await?;
    controller.stop().await
}
