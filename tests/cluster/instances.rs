//! What participants tell of themselves: in the status, and for finding a holder's pod.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease::controller::Config;
use component_lease::membership::{Instance, Whereabouts};
use component_lease::store::Directory as _;
use component_lease_testkit::wait;
use kube::ResourceExt as _;
use kube::api::DeleteParams;

use crate::support::objects::{condition, status};
use crate::support::participants::{runs_in, says};
use crate::support::{KEY, LONG, Replica, SOON, Site, led_site_with};

/// That of the controllers of these tests.
const POLL: Duration = Duration::from_millis(200);
/// Instances are asked for with every tenth poll.
const ASKED: Duration = Duration::from_millis(2500);

async fn led_site(prefix: &str) -> Result<(Site, Replica)> {
    led_site_with(prefix, |config| Config { poll_interval: POLL, ..config }).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_holder_of_any_name_is_the_pod_that_it_says_it_runs_in() -> Result<()> {
    let (site, _controller) = led_site("told").await?;
    let berlin = "berlin_4711_1f0c9a3d";
    site.rows.beat(&says(&site, berlin, runs_in(&site, "d-2").await?)?, None).await?;
    site.rows.take("discovery", berlin, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await?;
    site.wait_until_ready("discovery").await?;

    // It must be that very pod of this namespace, whatever the holder is called.
    let elsewhere = Whereabouts { namespace: Some("elsewhere".to_owned()), ..runs_in(&site, "d-1").await? };
    let another = Whereabouts { pod_uid: Some("another".to_owned()), ..runs_in(&site, "d-1").await? };
    for (holder, at, why) in [
        ("d-1:1", elsewhere, "says that it runs in namespace elsewhere"),
        ("d-1:2", another, "was made by another pod of the name d-1"),
    ] {
        site.rows.beat(&says(&site, holder, at)?, None).await?;
        site.rows.take("discovery", holder, LONG).await?;
        site.wait_for_lease("discovery", &format!("{holder} is rejected"), |lease| {
            condition(lease, "HolderAccepted").is_some_and(|c| c.status == "False" && c.message.contains(why))
        })
        .await?;
        site.wait_for_labelled(KEY, "leader", &[]).await?;
    }
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn the_status_shows_who_is_alive_since_when_and_how_well_and_heartbeats_write_nothing() -> Result<()> {
    let (site, _controller) = led_site("alive").await?;
    let mut ids = Vec::new();
    for number in 0..25 {
        let says = says(&site, &format!("d-0_{number}_1f0c9a3d"), runs_in(&site, "d-0").await?)?;
        ids.push((site.rows.beat(&says, None).await?, says));
    }
    let shown = site
        .wait_for_lease("discovery", "twenty of them are shown", |lease| status(lease).instances.len() == 20)
        .await?;
    let first = status(&shown).instances.remove(0);
    assert_eq!((first.instance.as_str(), first.healthy), ("d-0_0_1f0c9a3d", true));
    assert_eq!((first.pod.as_deref(), first.node_name.as_deref()), (Some("d-0"), Some("fake")));
    assert_eq!(first.program_version.as_deref(), Some("1.2.3"));
    let since: jiff::Timestamp = first.start_time.context("no startTime")?.parse()?;
    ensure!(since.as_millisecond() > 1_700_000_000_000, "{since}");

    // Heartbeats, and what each believes it leads, for longer than it takes to ask for them again.
    let version = site.leases().get("discovery").await?.resource_version();
    let until = std::time::Instant::now() + ASKED;
    wait::until_true(SOON, "heartbeats to be seen", async || {
        for (id, says) in &ids {
            let leading = Instance { leads: Some(fastrand::i64(1..100)), ..says.clone() };
            if site.rows.beat(&leading, *id).await.is_err() {
                return false;
            }
        }
        std::time::Instant::now() > until
    })
    .await?;
    assert_eq!(site.leases().get("discovery").await?.resource_version(), version, "nothing was written");

    let sick = Instance { healthy: false, ..ids[0].1.clone() };
    site.rows.beat(&sick, ids[0].0).await?;
    let sick = |lease: &_| status(lease).instances.first().is_some_and(|first| !first.healthy);
    site.wait_for_lease("discovery", "the first is not well", sick).await?;
    ensure!(SOON > ASKED, "what is waited for must be able to happen");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn who_says_that_it_ends_or_whose_pod_is_gone_is_not_listed_as_alive() -> Result<()> {
    let (site, _controller) = led_site("ended").await?;
    let mut ids = Vec::new();
    for pod in ["d-0", "d-1", "d-2"] {
        let says = says(&site, &site.holder(pod).await?, runs_in(&site, pod).await?)?;
        ids.push((site.rows.beat(&says, None).await?, says));
    }
    let listed = async |pods: &[&str]| {
        site.wait_for_lease("discovery", &format!("of {pods:?} it is said that they live"), |lease| {
            let instances = status(lease).instances;
            instances.iter().filter_map(|instance| instance.pod.as_deref()).eq(pods.iter().copied())
        })
        .await
    };
    listed(&["d-0", "d-1", "d-2"]).await?;
    // Killed, so that it could not say anything.
    site.pods().delete("d-1", &DeleteParams::default().grace_period(0)).await?;
    listed(&["d-0", "d-2"]).await?;
    // A pod of the same name is another one.
    site.make_pods("discovery", &["d-1"]).await?;
    site.wait_for_labelled(KEY, "standby", &["d-1", "d-2"]).await?;
    listed(&["d-0", "d-2"]).await?;
    let (id, says) = &ids[2];
    site.rows.beat(&Instance { lasts: 0, healthy: false, ..says.clone() }, *id).await?;
    listed(&["d-0"]).await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn somebody_who_goes_on_claiming_a_lost_term_is_named_until_it_stops() -> Result<()> {
    let (site, _controller) = led_site("split").await?;
    let (old, new) = (site.holder("d-0").await?, site.holder("d-1").await?);
    let lost = site.rows.take("discovery", &old, LONG).await?;
    let claims = Instance { leads: Some(lost), ..says(&site, &old, runs_in(&site, "d-0").await?)? };
    let id = site.rows.beat(&claims, None).await?;
    let version = site.rows.take("discovery", &new, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    let named = wait::until(SOON, "SplitBrain", async || {
        site.rows.beat(&claims, id).await?;
        let lease = site.leases().get("discovery").await?;
        let named = condition(&lease, "SplitBrain");
        Ok(named.map(|c| (c.status, c.reason.clone(), c.message.clone())))
    })
    .await?;
    assert_eq!((named.0.as_str(), named.1.as_str()), ("True", "TermDisputed"));
    for part in [
        format!("{old} goes on saying that it leads version {lost}"),
        format!("{new} with version {version}"),
    ] {
        ensure!(named.2.contains(&part), "{}", named.2);
    }
    // Who leads is decided by the row all the same.
    site.wait_until_ready("discovery").await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    wait::until_true(SOON, "an Event for it", async || {
        site.events("discovery").await.is_ok_and(|events| events.iter().any(|reason| reason == "SplitBrain"))
    })
    .await?;
    site.rows.beat(&Instance { leads: None, ..claims }, id).await?;
    site.wait_for_lease("discovery", "nobody is named", |lease| condition(lease, "SplitBrain").is_none())
        .await?;
    Ok(())
}
