//! Every write to the pods is watched while the leader changes fifty times, two controllers act at
//! once and somebody else interferes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::wait;
use kube::api::DeleteParams;

use crate::support::controller::config;
use crate::support::objects::lease;
use crate::support::{FLOOD, KEY, LONG, Replica, SOON, Site};

/// Our field manager.
const US: &str = "component-lease";
const CHANGES: usize = 50;
/// The ttl of the terms that run out.
const SHORT: Duration = Duration::from_secs(1);
const PODS: [&str; 4] = ["d-0", "d-1", "d-2", "d-3"];

/// What somebody else does to a pod that is not about to lead.
async fn interfere(site: &Site, turn: usize, victim: &str, leader: &str) -> Result<()> {
    match turn % 5 {
        0 => site.label(victim, KEY, Some("leader")).await,
        1 => {
            site.pods().delete(victim, &DeleteParams::default().grace_period(0)).await?;
            site.make_pods("discovery", &[victim]).await.map(drop)
        }
        2 => {
            site.pods().delete(victim, &DeleteParams::default().grace_period(0)).await?;
            let born = FakePod::new(victim, "discovery").label(KEY, "leader");
            site.plane.fake_pods(site.name(), &[born]).await
        }
        // It may lead already, or not yet.
        3 => site.label(leader, KEY, None).await,
        _ => site.label(victim, "app", Some("elsewhere")).await,
    }
}

#[tokio::test(crate = "crate::harness")]
async fn through_fifty_changes_no_write_of_ours_labels_a_second_pod() -> Result<()> {
    let _quiet = FLOOD.lock().await;
    let site = Site::new("recorded").await?;
    site.make_pods("discovery", &PODS).await?;
    let recorder = site.plane.record_label(site.name(), KEY, "leader")?;
    let _controllers = [
        Replica::start_with(&site, config(&site, "one")).await?,
        Replica::start_with(&site, config(&site, "two")).await?,
    ];
    site.make_lease(&lease("discovery", "discovery")).await?;

    for turn in 0..CHANGES {
        let leader = PODS[turn % 4];
        let victim = PODS[(turn + 2) % 4];
        // Half of the terms end by expiry, and of these every other is seized the moment it ends.
        let ttl = if turn % 2 == 0 { u32::try_from(SHORT.as_secs())? } else { LONG };
        site.label(leader, "app", Some("discovery")).await?;
        let mark = recorder.changes().len();
        let holder = site.holder(leader).await?;
        let (taken, interfered) =
            tokio::join!(site.rows.take("discovery", &holder, ttl), interfere(&site, turn, victim, leader));
        taken?;
        interfered?;
        // It renews until it is seen to lead, as a participant does.
        let mut renewed = Instant::now();
        wait::until(SOON, format!("{leader} is labelled in turn {turn}"), async || {
            site.rows.renew("discovery").await?;
            renewed = Instant::now();
            let changes = recorder.changes();
            Ok(changes[mark..].iter().any(|c| c.labelled && c.pod == leader && c.by == US).then_some(()))
        })
        .await?;
        match turn % 4 {
            0 => site.wait_for_labelled(KEY, "leader", &[]).await?,
            2 => wait::until_true(SOON, "the lease has run out", async || renewed.elapsed() >= SHORT).await?,
            _ => {
                site.wait_for_labelled(KEY, "leader", &[leader]).await?;
                site.rows.release("discovery").await?;
            }
        }
    }
    site.wait_for_labelled(KEY, "leader", &[]).await?;

    let duplicates = recorder.duplicates();
    ensure!(!duplicates.is_empty(), "the interference made no second labelled pod: it tests nothing");
    let longest = duplicates.iter().filter_map(|d| d.lasted).max();
    println!(
        "{CHANGES} changes, {} events, {} duplicates by others, the longest for {longest:?}",
        recorder.events(),
        duplicates.len()
    );
    recorder.judge(US, Duration::from_secs(2))
}
