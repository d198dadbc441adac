//! Resources that remember later versions than their database: what the status remembers begins epochs, at a
//! bounded rate; what anybody wrote into the annotation begins none.

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{ComponentLease, FLOOR_ANNOTATION};
use component_lease::clock::{Clock as _, SystemClock};
use component_lease::store::begin_epoch;
use component_lease_testkit::wait;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::objects::{condition, status};
use crate::support::{KEY, SOON, Site, led_site};

const REGRESSED: &str = "VersionRegressed";

async fn annotate(site: &Site, floor: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {FLOOR_ANNOTATION: floor}}}));
    site.leases().patch("discovery", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// What only the controller may write.
async fn remember(site: &Site, floor: i64) -> Result<()> {
    let patch = Patch::Merge(json!({"status": {"versionFloor": floor}}));
    site.leases().patch_status("discovery", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits until a reconcile is over that began after now.
async fn reconciled(site: &Site, ttl: u32) -> Result<()> {
    for ttl in [ttl, ttl + 1] {
        site.change("discovery", json!({"ttlSeconds": ttl})).await?;
        site.wait_for_lease("discovery", "the change to be observed", |lease| {
            status(lease).observed_generation == lease.metadata.generation
        })
        .await?;
    }
    Ok(())
}

/// The controller's own copy of the floor, which it writes after the status.
async fn copied(site: &Site) -> Result<()> {
    let copied = |lease: &ComponentLease| {
        lease.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(FLOOR_ANNOTATION))
    };
    site.wait_for_lease("discovery", "the copy", copied).await.map(drop)
}

fn regressed(lease: &ComponentLease) -> bool {
    condition(lease, REGRESSED).is_some()
}

#[tokio::test(crate = "crate::harness")]
async fn a_user_who_annotates_a_resource_begins_no_epoch_and_reads_the_remedy() -> Result<()> {
    let (site, _controller) = led_site("annotated").await?;
    copied(&site).await?;
    let epoch = site.rows.epoch().await?;
    for turn in 0..3 {
        annotate(&site, json!((9_000_000_000_000_000_i64 + turn).to_string())).await?;
        let message =
            site.wait_for_condition("discovery", REGRESSED, "True", "VersionBelowAnnotation").await?;
        ensure!(message.contains("remove the annotation"), "{message}");
        reconciled(&site, 20 + u32::try_from(turn)? * 2).await?;
        ensure!(site.rows.epoch().await? == epoch, "an epoch began");
    }
    let now = site.leases().get("discovery").await?;
    ensure!(status(&now).version_floor == Some(1), "{:?}", status(&now).version_floor);
    site.wait_until_ready("discovery").await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    annotate(&site, Value::Null).await?;
    site.wait_for_lease("discovery", "nothing is wrong", |lease| !regressed(lease)).await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_that_was_restored_tells_an_operator_to_begin_an_epoch_and_is_content_when_one_did()
-> Result<()> {
    let (site, _controller) = led_site("restored").await?;
    copied(&site).await?;
    annotate(&site, json!("4100")).await?;
    let message = site.wait_for_condition("discovery", REGRESSED, "True", "VersionBelowAnnotation").await?;
    ensure!(message.contains("4100") && message.contains("component-lease epoch bump"), "{message}");
    let before = site.rows.epoch().await?;
    let begun = begin_epoch(&*site.rows).await?;
    ensure!(begun.epoch > before);
    site.wait_for_lease("discovery", "nothing is wrong", |lease| !regressed(lease)).await?;
    ensure!(site.rows.epoch().await? == begun.epoch);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_floor_that_no_date_explains_begins_no_epoch_however_it_came_into_the_status() -> Result<()> {
    let (site, _controller) = led_site("mad").await?;
    let epoch = site.rows.epoch().await?;
    remember(&site, 9_000_000_000_000_000).await?;
    let message = site.wait_for_condition("discovery", REGRESSED, "True", "VersionBelowFloor").await?;
    ensure!(message.contains("make this resource again"), "{message}");
    reconciled(&site, 20).await?;
    ensure!(site.rows.epoch().await? == epoch, "an epoch began");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn floors_of_the_status_begin_three_epochs_an_hour_and_then_the_operator_is_asked() -> Result<()> {
    let (site, _controller) = led_site("rate").await?;
    let mut epoch = site.rows.epoch().await?;
    let first = epoch;
    for turn in 0..4 {
        // Just above all that this epoch grants, once the date explains that.
        let floor = epoch * 1_000_000 + 41;
        wait::until_true(SOON, "the date", async || {
            SystemClock.wall_ms() / 1000 - component_lease::election::life::EPOCH_ZERO > epoch + 2
        })
        .await?;
        remember(&site, floor).await?;
        if turn == 3 {
            break;
        }
        epoch = wait::until(SOON, format!("epoch {turn}"), async || {
            let now = site.rows.epoch().await?;
            Ok((now * 1_000_000 > floor).then_some(now))
        })
        .await
        .context("no epoch")?;
    }
    wait::until(SOON, "the operator is asked", async || {
        let lease = site.leases().get("discovery").await?;
        let told =
            condition(&lease, REGRESSED).is_some_and(|c| c.message.contains("several epochs have begun"));
        Ok(told.then_some(()))
    })
    .await?;
    reconciled(&site, 20).await?;
    ensure!(site.rows.epoch().await? == epoch && epoch > first, "a fourth epoch began");
    Ok(())
}
