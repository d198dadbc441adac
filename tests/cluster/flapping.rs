//! A leader that changes too often is noticed, said, and slowed down.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease::store::LeaseStore as _;
use component_lease_testkit::wait;
use serde_json::json;

use crate::support::objects::condition;
use crate::support::{LONG, Replica, SOON, Site, led_site};

/// For how long participants of a lease with a ttl of 30 s are to leave it alone.
const COOLDOWN: Duration = Duration::from_secs(10);

async fn until_cooldown(site: &Site, wanted: Duration) -> Result<()> {
    let key = site.rows.key("discovery")?;
    wait::until(SOON, format!("a cooldown of {wanted:?}"), async || {
        let found = site.rows.look(&key).await?.cooldown;
        ensure!(found == wanted, "it is {found:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn more_changes_than_the_resource_says_are_said_and_slow_the_next_ones_down_also_after_a_restart()
-> Result<()> {
    let (site, controller) = led_site("flapping").await?;
    site.change("discovery", json!({"flappingAbove": 3})).await?;
    // With the first one these are three.
    for pod in ["d-1", "d-2"] {
        site.rows.take("discovery", &site.holder(pod).await?, LONG).await?;
        site.wait_for_labelled(crate::support::KEY, "leader", &[pod]).await?;
    }
    let lease = site.wait_for_term("discovery", 3).await?;
    ensure!(condition(&lease, "Flapping").is_none(), "as many as there may be");
    until_cooldown(&site, Duration::ZERO).await?;

    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    let said = site.wait_for_condition("discovery", "Flapping", "True", "ChangesTooOften").await?;
    ensure!(said.starts_with("more than 3 terms began within an hour"), "{said}");
    until_cooldown(&site, COOLDOWN).await?;
    wait::until_true(SOON, "an Event for it", async || {
        site.events("discovery").await.is_ok_and(|events| events.iter().any(|reason| reason == "Flapping"))
    })
    .await?;
    let metrics = controller.scrape();
    ensure!(metrics.contains("type=\"Flapping\""), "{metrics}");

    // Another controller knows as much, without a change that would tell it.
    controller.stop().await?;
    let key = site.rows.key("discovery")?;
    let _another = Replica::start(&site).await?;
    let seen = |lease: &component_lease::api::ComponentLease| {
        lease.status.as_ref().and_then(|status| status.observed_generation) == lease.metadata.generation
    };
    site.change("discovery", json!({"ttlSeconds": 25})).await?;
    let lease = site.wait_for_lease("discovery", "the spec is seen", seen).await?;
    condition(&lease, "Flapping").context("it was forgotten")?;
    until_cooldown(&site, Duration::from_secs(9)).await?;

    site.change("discovery", json!({"flappingAbove": 0})).await?;
    site.wait_for_lease("discovery", "no such condition", |lease| condition(lease, "Flapping").is_none())
        .await?;
    until_cooldown(&site, Duration::ZERO).await?;
    ensure!(site.rows.look(&key).await?.standing_ttl == Some(25), "the ttl stays");
    Ok(())
}
