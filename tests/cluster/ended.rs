//! A leader whose containers have all ended is not waited for; a leader of which that is not certain is.
//! No lease in here expires by itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use component_lease::clock::{Clock as _, SystemClock};
use component_lease::election::HolderId;
use component_lease::membership::{Instance, Mode, Promise, Whereabouts};
use component_lease::store::{Directory as _, EndReason, StoreError};
use component_lease_testkit::wait;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::objects::{lease, status, term};
use crate::support::rows::Mood;
use crate::support::{KEY, LONG, Replica, SOON, Site};

const BEGUN: &str = "2026-01-01T00:00:00Z";

/// So long from now, on the clock of a fake node: leaders are not made to wait here.
fn in_seconds(seconds: i64) -> String {
    let at = SystemClock.wall_ms() / 1000 + seconds;
    jiff::Timestamp::from_second(at).unwrap_or_default().to_string()
}

fn id(number: u8) -> String {
    format!("containerd://{number:064x}")
}

fn ended_at(number: u8, reason: &str, at: &str) -> Value {
    json!({"terminated": {
        "exitCode": 137, "reason": reason, "startedAt": BEGUN, "finishedAt": at, "containerID": id(number),
    }})
}

/// Ended well after any term of these tests began.
fn ended(number: u8) -> Value {
    ended_at(number, "Error", &in_seconds(60))
}

fn container(name: &str, number: u8, state: &Value, before: &Value) -> Value {
    json!({
        "name": name, "image": "localhost/fake:1", "imageID": "sha256:0", "restartCount": 0, "ready": false,
        "started": false, "containerID": id(number), "state": state, "lastState": before,
    })
}

fn runs(name: &str, number: u8) -> Value {
    container(name, number, &json!({"running": {"startedAt": BEGUN}}), &json!({}))
}

fn over(name: &str, number: u8) -> Value {
    container(name, number, &ended(number), &json!({}))
}

fn restarted(name: &str, number: u8, before: u8) -> Value {
    container(name, number, &json!({"running": {"startedAt": BEGUN}}), &ended(before))
}

/// What the kubelet reports.
async fn report(site: &Site, pod: &str, phase: &str, containers: &[Value]) -> Result<()> {
    let status = json!({"status": {"phase": phase, "containerStatuses": containers}});
    site.plane.patch_status("pod", site.name(), pod, &status).await
}

/// Two pods, of which `d-0` leads and told nobody so; its two containers run and are recorded. The version.
async fn led(prefix: &str) -> Result<(Site, Replica, i64)> {
    led_with(prefix, Some(Promise::NONE)).await
}

/// The same of a participant that gives promises as long as this.
async fn led_with(prefix: &str, promise: Option<Promise>) -> Result<(Site, Replica, i64)> {
    let site = Site::new(prefix).await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    report(&site, "d-0", "Running", &[runs("main", 1), runs("agent", 2)]).await?;
    let controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    let holder = site.holder("d-0").await?;
    tells(&site, &holder, promise).await?;
    let version = leads(&site, &holder, &[id(1), id(2)]).await?;
    Ok((site, controller, version))
}

/// What a participant tells of itself when it starts.
async fn tells(site: &Site, holder: &str, promise: Option<Promise>) -> Result<()> {
    let says = Instance {
        component: site.rows.key("discovery")?,
        holder: HolderId::new(holder)?,
        lasts: LONG,
        whereabouts: Whereabouts::default(),
        program_version: None,
        mode: promise.map(|_| Mode::Beside),
        promise,
        priority: None,
        healthy: true,
        leads: None,
    };
    site.rows.beat(&says, None).await?;
    Ok(())
}

/// This holder takes the lease, and the containers of its pod are recorded; the version.
async fn leads(site: &Site, holder: &str, containers: &[String]) -> Result<i64> {
    let version = site.rows.take("discovery", holder, LONG).await?;
    let recorded = |l: &_| {
        let remembered = status(l).internal;
        term(l).version == version && remembered.is_some_and(|internal| internal.container_ids == containers)
    };
    site.wait_for_lease("discovery", "the leader's containers are recorded", recorded).await?;
    Ok(version)
}

async fn wait_for_release(site: &Site) -> Result<()> {
    wait::until_true(SOON, "the row is nobody's", async || {
        site.rows.holder_of("discovery").await.is_ok_and(|holder| holder.is_empty())
    })
    .await
}

/// The controller has decided since, and has not touched the row.
async fn still_leads(site: &Site, holder: &str, why: &str) -> Result<()> {
    // What it strips, it has seen after all that was reported before.
    site.label("d-1", KEY, Some("leader")).await?;
    wait::until_true(SOON, "the label is taken off again", async || {
        site.labelled(KEY, "standby").await.is_ok_and(|pods| pods.contains(&"d-1".to_owned()))
    })
    .await?;
    let now = site.rows.holder_of("discovery").await?;
    ensure!(now == holder, "{why}, but the row was released: its holder is {now:?}");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_leader_whose_containers_have_all_ended_is_released_at_once() -> Result<()> {
    let (site, _controller, version) = led("ended").await?;
    report(&site, "d-0", "Running", &[over("main", 1), over("agent", 2)]).await?;
    wait_for_release(&site).await?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    wait::until(SOON, "an Event for it", async || {
        let events = site.events("discovery").await?;
        ensure!(events.iter().any(|reason| reason == "HolderEnded"), "{events:?}");
        Ok(Some(()))
    })
    .await?;
    assert_eq!(site.rows.end_reason("discovery", version).await?, Some(EndReason::ContainerEnded));
    assert_eq!(site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?, version + 1);
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_database_that_refuses_the_release_lets_the_lease_expire_and_all_else_goes_on() -> Result<()> {
    let (site, _controller, _) = led("refused").await?;
    let holder = site.holder("d-0").await?;
    site.rows.take("discovery", &holder, 8).await?;
    let recorded = |l: &_| term(l).version == 2 && status(l).leader.is_some();
    site.wait_for_lease("discovery", "the leader's containers are recorded", recorded).await?;
    site.rows.set_mood(Mood::KeepsRows(StoreError::misconfigured("permission denied")));
    report(&site, "d-0", "Running", &[over("main", 1), over("agent", 2)]).await?;
    site.wait_for_condition("discovery", "LeaderElected", "False", "Expired").await?;
    assert_eq!(site.rows.holder_of("discovery").await?, holder, "it expired by itself");
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_pod_that_has_finished_is_released_as_well() -> Result<()> {
    let (site, _controller, _) = led("finished").await?;
    report(&site, "d-0", "Failed", &[over("main", 1), over("agent", 2)]).await?;
    wait_for_release(&site).await
}

#[tokio::test(crate = "crate::harness")]
async fn containers_restarted_in_the_same_pod_do_not_inherit_the_term() -> Result<()> {
    let (site, _controller, _) = led("restarted").await?;
    report(&site, "d-0", "Running", &[restarted("main", 3, 1), restarted("agent", 4, 2)]).await?;
    wait_for_release(&site).await?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    // As another participant it may lead again, and is not taken for the one that ended.
    let again = site.holder("d-0").await?;
    tells(&site, &again, Some(Promise::NONE)).await?;
    leads(&site, &again, &[id(3), id(4)]).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    still_leads(&site, &again, "nothing of it has ended").await
}

#[tokio::test(crate = "crate::harness")]
async fn a_program_that_was_restarted_beside_its_agent_is_waited_for_as_long_as_it_was_told_that_it_leads()
-> Result<()> {
    let promise = Promise { longest: Duration::from_secs(3), outside: false };
    let (site, _controller, version) = led_with("believes", Some(promise)).await?;
    // The program crashed and asked the agent once more; then the agent was killed.
    let before = SystemClock.boot();
    report(&site, "d-0", "Running", &[restarted("main", 3, 1), over("agent", 2)]).await?;
    wait_for_release(&site).await?;
    let waited = SystemClock.boot() - before;
    ensure!(waited >= promise.longest * 11 / 10, "released after {waited:?}, while the program may believe");
    assert_eq!(site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?, version + 1);
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_promise_that_only_the_pod_could_hold_is_void_when_nothing_runs_in_it_any_more() -> Result<()> {
    let promise = Promise { longest: Duration::from_secs(1000), outside: false };
    let (site, _controller, _) = led_with("void", Some(promise)).await?;
    let holder = site.rows.holder_of("discovery").await?;
    report(&site, "d-0", "Running", &[restarted("main", 3, 1), over("agent", 2)]).await?;
    still_leads(&site, &holder, "the restarted program may believe").await?;
    let again = container("main", 3, &ended(3), &ended(1));
    report(&site, "d-0", "Failed", &[again, over("agent", 2)]).await?;
    wait_for_release(&site).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_promise_that_is_not_known_or_that_somebody_outside_may_hold_is_left_to_expire() -> Result<()> {
    let outside = Promise { longest: Duration::from_millis(500), outside: true };
    for promise in [None, Some(outside)] {
        let (site, _controller, _) = led_with("expires", promise).await?;
        let holder = site.rows.holder_of("discovery").await?;
        for containers in [[restarted("main", 3, 1), over("agent", 2)], [over("main", 1), over("agent", 2)]] {
            report(&site, "d-0", "Running", &containers).await?;
            still_leads(&site, &holder, &format!("somebody may believe {promise:?}")).await?;
        }
    }
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn nothing_short_of_a_proof_releases_a_lease() -> Result<()> {
    let (site, _controller, _) = led("unproven").await?;
    let holder = site.rows.holder_of("discovery").await?;
    let guess = ended_at(1, "ContainerStatusUnknown", &in_seconds(60));
    let guess = container("main", 1, &guess, &json!({}));
    let early = ended_at(1, "Error", &in_seconds(-60));
    let stale = container("main", 3, &json!({"running": {"startedAt": BEGUN}}), &early);
    let stranger = runs("debugger", 9);
    for (why, containers) in [
        ("one of two containers runs", vec![over("main", 1), runs("agent", 2)]),
        ("one of two containers was not restarted", vec![restarted("main", 3, 1), runs("agent", 2)]),
        ("the kubelet has guessed", vec![guess, over("agent", 2)]),
        ("one container had ended before the take", vec![stale, over("agent", 2)]),
        ("one container is not mentioned", vec![over("main", 1)]),
        ("a container runs that was not recorded", vec![over("main", 1), over("agent", 2), stranger]),
    ] {
        report(&site, "d-0", "Running", &containers).await?;
        still_leads(&site, &holder, why).await?;
    }
    // What a node that is out of reach looks like.
    let lost = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "reason": "NodeLost", "lastTransitionTime": BEGUN},
    ]}});
    site.plane.patch_status("pod", site.name(), "d-0", &lost).await?;
    still_leads(&site, &holder, "the node is out of reach").await?;
    // All of that was one step away from a proof.
    report(&site, "d-0", "Running", &[over("main", 1), over("agent", 2)]).await?;
    wait_for_release(&site).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_pod_that_only_disappeared_and_a_holder_of_somebody_elses_making_are_left_to_expire() -> Result<()>
{
    let (site, _controller, _) = led("vanished").await?;
    // A restarted process would go by this name, too.
    leads(&site, "d-0:8080", &[id(1), id(2)]).await?;
    report(&site, "d-0", "Running", &[over("main", 1), over("agent", 2)]).await?;
    still_leads(&site, "d-0:8080", "the holder has no random end").await?;

    let holder = site.holder("d-1").await?;
    site.rows.take("discovery", &holder, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    site.pods().delete("d-1", &DeleteParams::default().grace_period(0)).await?;
    site.wait_for_condition("discovery", "HolderAccepted", "False", "HolderRejected").await?;
    assert_eq!(site.rows.holder_of("discovery").await?, holder);
    Ok(())
}
