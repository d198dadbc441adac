//! Databases whose members elect by a Lease: what their status says, and who is routed to. The members are Lease objects that
//! the tests write as members do.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{LeaseDatabaseStatus, MemberRole, WouldLose};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::wait;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::databases::{DATABASE, MEMBERS, ROLE, condition, record};
use crate::support::{FLOOD, LONG, Replica, SOON, Site};

/// The field manager of the controller.
const US: &str = "component-lease";
/// How often a member renews in the test of what that costs.
const RENEWED: Duration = Duration::from_secs(1);

/// Three members, of which the first is the primary of version 4 and the others acknowledge.
async fn led_database(prefix: &str) -> Result<(Site, Replica, String)> {
    let site = Site::new(prefix).await?;
    site.make_pods("orders", &MEMBERS).await?;
    let holder = site.holder(MEMBERS[0]).await?;
    site.hold(&holder, 4, LONG, &record(MEMBERS[0], 4, &MEMBERS[1..])).await?;
    let controller = Replica::start(&site).await?;
    site.make_database(&json!({})).await?;
    site.wait_for_database_to_say("Ready", "True", "PrimaryRouted").await?;
    Ok((site, controller, holder))
}

async fn status(site: &Site) -> Result<LeaseDatabaseStatus> {
    site.databases().get(DATABASE).await?.status.context("a status")
}

async fn selector(site: &Site, name: &str) -> Result<serde_json::Value> {
    let service = Api::<Service>::namespaced(site.admin.clone(), site.name()).get(name).await?;
    ensure!(service.owner_references().iter().all(|owner| owner.kind == "LeaseDatabase"), "{service:?}");
    Ok(json!(service.spec.and_then(|spec| spec.selector)))
}

#[tokio::test(crate = "crate::harness")]
async fn a_database_is_shown_and_routed_as_its_lease_and_its_members_say() -> Result<()> {
    let (site, _controller, holder) = led_database("shown").await?;
    site.plane.needs_controllers()?;
    site.says(MEMBERS[1], &json!({"sealed": {"version": 4, "system": "7", "term": 3, "end": 100}})).await?;
    site.wait_for_database("a seal", |database| {
        database.status.as_ref().is_some_and(|s| s.members.iter().any(|m| m.sealed == Some(4)))
    })
    .await?;
    let status = status(&site).await?;
    assert_eq!((status.primary.as_deref(), status.version), (Some(MEMBERS[0]), Some(4)));
    assert_eq!((status.holder.as_ref(), status.members_ready.as_deref()), (Some(&holder), Some("3/3")));
    let failover = status.failover.context("a failover")?;
    assert_eq!((failover.ready, failover.would_lose), (true, Some(WouldLose::Nothing)));
    assert_eq!(failover.would_promote, MEMBERS[1..]);
    let record = status.record.context("a record")?;
    assert_eq!((record.version, record.acks), (4, 1));
    assert_eq!(record.voters, MEMBERS[1..]);
    let roles: Vec<_> = status.members.iter().map(|member| (member.name.as_str(), member.role)).collect();
    let [a, b, c] = MEMBERS;
    assert_eq!(roles, [(a, MemberRole::Primary), (b, MemberRole::Replica), (c, MemberRole::Replica)]);
    for kind in ["Ready", "PrimaryElected", "Routed", "Replicating", "FailoverReady"] {
        site.wait_for_database(kind, |d| condition(d, kind).is_some_and(|c| c.status == "True")).await?;
    }

    site.wait_for_labelled(ROLE, "primary", &[a]).await?;
    site.wait_for_labelled(ROLE, "replica", &[b, c]).await?;
    assert_eq!(selector(&site, "orders-rw").await?, json!({"app": "orders", ROLE: "primary"}));
    assert_eq!(selector(&site, "orders-ro").await?, json!({"app": "orders", ROLE: "replica"}));
    let table = site.kubectl(&["get", "leasedb"]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next(), Some(vec!["NAME", "PRIMARY", "VERSION", "MEMBERS", "FAILOVER", "READY", "AGE"]));
    let row = lines.next().context("a row")?;
    assert_eq!(row[..6], [DATABASE, a, "4", "3/3", "True", "True"]);
    let events = site.events(DATABASE).await?;
    assert_eq!(events, ["PrimaryElected"]);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn after_a_failover_the_new_primary_is_routed_to_and_never_two_are() -> Result<()> {
    let (site, _controller, old) = led_database("failover").await?;
    let recorder = site.plane.record_label(site.name(), ROLE, "primary")?;
    wait::until_true(SOON, "the recorder sees the primary", async || recorder.labelled() == [MEMBERS[0]])
        .await?;
    let before = record(MEMBERS[0], 4, &MEMBERS[1..]);
    // It renews once more, is killed, and the next one takes the lease and is promoted.
    site.hold(&old, 4, LONG, &before).await?;
    let holder = site.holder(MEMBERS[1]).await?;
    site.hold(&holder, 5, LONG, &before).await?;
    let why = site.wait_for_database_to_say("PrimaryElected", "False", "Promoting").await?;
    ensure!(why.contains("version 5"), "{why}");
    site.wait_for_labelled(ROLE, "primary", &[MEMBERS[1]]).await?;
    site.wait_for_labelled(ROLE, "replica", &[MEMBERS[2]]).await?;
    let shown = status(&site).await?;
    assert_eq!((shown.primary, shown.failover), (None, None), "nobody acknowledges writes");

    site.hold(&holder, 5, LONG, &record(MEMBERS[1], 5, &[MEMBERS[2]])).await?;
    site.wait_for_database_to_say("PrimaryElected", "True", "Recorded").await?;
    let last = status(&site).await?.last_failover.context("a failover")?;
    assert_eq!((last.from.as_str(), last.to.as_str(), last.version), (MEMBERS[0], MEMBERS[1], 5));
    let seconds = last.seconds.context("it saw all of it")?;
    ensure!(seconds > 0.0 && seconds < SOON.as_secs_f64() * 3.0, "{seconds}");
    let why = site.wait_for_database_to_say("Replicating", "False", "MembersMissing").await?;
    ensure!(why.starts_with(MEMBERS[0]), "{why}");
    site.wait_for_labelled(ROLE, "standby", &[MEMBERS[0]]).await?;
    wait::until(SOON, "Events", async || {
        let events = site.events(DATABASE).await?;
        let all = ["PrimaryElected", "PrimaryLost", "FailedOver"];
        Ok(all.iter().all(|reason| events.iter().any(|event| event == reason)).then_some(()))
    })
    .await?;
    recorder.is_whole()?;
    let moves: Vec<_> = recorder.changes().into_iter().map(|c| (c.pod, c.labelled)).collect();
    let [a, b, _] = MEMBERS.map(str::to_owned);
    assert_eq!(moves, [(a.clone(), true), (a, false), (b, true)], "stripped first, then labelled");
    recorder.judge(US, Duration::ZERO)
}

#[tokio::test(crate = "crate::harness")]
async fn a_primary_that_cannot_renew_keeps_its_label_until_another_member_holds_the_lease() -> Result<()> {
    let (site, _controller, holder) = led_database("unrenewed").await?;
    let before = record(MEMBERS[0], 4, &MEMBERS[1..]);
    site.hold(&holder, 4, 2, &before).await?;
    let why = site.wait_for_database_to_say("PrimaryElected", "False", "Expired").await?;
    ensure!(why.contains("has not renewed version 4 for 2 s"), "{why}");
    assert_eq!(site.labelled(ROLE, "primary").await?, [MEMBERS[0]]);
    assert_eq!(site.labelled(ROLE, "replica").await?, MEMBERS[1..]);
    // The API server answers it again.
    site.hold(&holder, 4, LONG, &before).await?;
    site.wait_for_database_to_say("Ready", "True", "PrimaryRouted").await?;
    ensure!(status(&site).await?.last_failover.is_none(), "nobody else was the primary");
    // Somebody deletes the Lease, and members go on.
    let leases: Api<Lease> = Api::namespaced(site.admin.clone(), site.name());
    leases.delete(DATABASE, &DeleteParams::default()).await?;
    site.wait_for_database_to_say("PrimaryElected", "False", "Vacant").await?;
    site.wait_for_database_to_say("Routed", "Unknown", "Vacant").await?;
    assert_eq!(site.labelled(ROLE, "primary").await?, [MEMBERS[0]]);
    assert_eq!(site.labelled(ROLE, "replica").await?, MEMBERS[1..]);
    site.hold(&holder, 4, 2, &before).await?;
    site.wait_for_database_to_say("PrimaryElected", "False", "Expired").await?;
    site.hold(&site.holder(MEMBERS[2]).await?, 5, LONG, &before).await?;
    site.wait_for_labelled(ROLE, "primary", &[MEMBERS[2]]).await?;
    // One that was given back leads to nobody.
    site.hold("", 5, LONG, &before).await?;
    site.wait_for_database_to_say("PrimaryElected", "False", "Vacant").await?;
    site.wait_for_labelled(ROLE, "primary", &[]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_failover_that_would_not_succeed_is_said_before_it_is_needed() -> Result<()> {
    let (site, _controller, _) = led_database("unready").await?;
    let list = site.pods().list(&ListParams::default()).await?;
    let address = |name: &str| {
        let pod = list.iter().find(|pod| pod.name_any() == name);
        pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone()).context("an address")
    };
    let mut pod = FakePod::new(MEMBERS[2], "orders").not_ready();
    pod.address = address(MEMBERS[2])?;
    site.plane.update_fake_pod(site.name(), &pod).await?;
    let why = site.wait_for_database_to_say("FailoverReady", "False", "TooFewMembers").await?;
    ensure!(why.contains(&format!("1 more of {}", MEMBERS[2])), "{why}");
    let shown = status(&site).await?;
    assert_eq!(shown.members_ready.as_deref(), Some("2/3"));
    ensure!(shown.failover.is_some_and(|failover| !failover.ready), "it is ready");
    site.wait_for_database_to_say("Ready", "True", "PrimaryRouted").await?;
    wait::until(SOON, "an Event", async || {
        let events = site.events(DATABASE).await?;
        Ok(events.iter().any(|event| event == "FailoverNotReady").then_some(()))
    })
    .await?;
    pod.ready = true;
    site.plane.update_fake_pod(site.name(), &pod).await?;
    site.wait_for_database_to_say("FailoverReady", "True", "EnoughMembers").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn while_members_renew_and_nothing_else_happens_nothing_is_written() -> Result<()> {
    let (site, _controller, holder) = led_database("calm").await?;
    let before = record(MEMBERS[0], 4, &MEMBERS[1..]);
    let account = format!("system:serviceaccount:{}:component-lease", site.name());
    let writes = |mark| -> Result<Vec<_>> {
        Ok(site.plane.writes_since(mark)?.into_iter().filter(|write| write.user == account).collect())
    };
    let _flood = FLOOD.lock().await;
    let mut quiet = (site.plane.audit_mark()?, Instant::now());
    wait::until_at(RENEWED, SOON * 2, "three quiet seconds", async || {
        site.hold(&holder, 4, 4, &before).await?;
        if !writes(quiet.0)?.is_empty() {
            quiet = (site.plane.audit_mark()?, Instant::now());
        }
        Ok((quiet.1.elapsed() >= Duration::from_secs(3)).then_some(()))
    })
    .await?;
    // Three terms' worth of renewals.
    let (mark, begun) = (site.plane.audit_mark()?, Instant::now());
    let mut renewals = 0;
    wait::until_at(RENEWED, SOON * 2, "twelve seconds of renewals", async || {
        site.hold(&holder, 4, 4, &before).await?;
        renewals += 1;
        Ok((begun.elapsed() >= Duration::from_secs(12)).then_some(()))
    })
    .await?;
    let written = writes(mark)?;
    ensure!(renewals > 5, "only {renewals} renewals");
    ensure!(written.is_empty(), "{} writes: {written:?}", written.len());
    // The filter does see what the controller writes.
    site.hold("", 4, 4, &before).await?;
    site.wait_for_database_to_say("PrimaryElected", "False", "Vacant").await?;
    ensure!(!writes(mark)?.is_empty(), "the filter sees nothing");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_database_that_is_deleted_leaves_no_label_and_no_service() -> Result<()> {
    let (site, _controller, _) = led_database("gone").await?;
    site.plane.needs_controllers()?;
    site.databases().delete(DATABASE, &DeleteParams::default()).await?;
    for value in ["primary", "replica", "standby"] {
        site.wait_for_labelled(ROLE, value, &[]).await?;
    }
    wait::until(SOON, "no annotation of ours", async || {
        let pods = site.pods().list(&ListParams::default()).await?;
        let ours = |key: &String| key.starts_with("componentlease.io/");
        Ok((!pods.iter().any(|pod| pod.annotations().keys().any(ours))).then_some(()))
    })
    .await?;
    let services = Api::<Service>::namespaced(site.admin.clone(), site.name());
    // The garbage collector looks for new kinds of owners every 30 s.
    wait::until(SOON * 4, "no Service", async || {
        let left = services.list(&ListParams::default()).await?;
        Ok(left.iter().all(|service| !service.name_any().starts_with("orders-")).then_some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn a_holder_that_is_no_member_is_rejected_and_a_name_that_is_taken_is_said() -> Result<()> {
    let (site, _controller, _) = led_database("stranger").await?;
    site.make_pods("web", &["web-0"]).await?;
    let stranger = site.holder("web-0").await?;
    site.hold(&stranger, 5, LONG, &record(MEMBERS[0], 4, &MEMBERS[1..])).await?;
    let why = site.wait_for_database_to_say("Routed", "False", "HolderRejected").await?;
    ensure!(why.contains("web-0"), "{why}");
    site.wait_for_labelled(ROLE, "primary", &[]).await?;

    let taken =
        json!({"metadata": {"name": "taken"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let services = Api::<Service>::namespaced(site.admin.clone(), site.name());
    services.create(&kube::api::PostParams::default(), &serde_json::from_value(taken)?).await?;
    let holder = site.holder(MEMBERS[0]).await?;
    site.hold(&holder, 6, LONG, &record(MEMBERS[0], 6, &MEMBERS[1..])).await?;
    site.wait_for_database_to_say("Ready", "True", "PrimaryRouted").await?;
    let readers = json!({"spec": {"routing": {"readers": {"name": "taken"}}}});
    let patch = kube::api::Patch::Merge(readers);
    site.databases().patch(DATABASE, &kube::api::PatchParams::default(), &patch).await?;
    let why = site.wait_for_database_to_say("Stalled", "True", "ServiceNotOurs").await?;
    ensure!(why.contains("spec.routing.readers.policy") || why.contains("choose another name"), "{why}");
    site.wait_for_labelled(ROLE, "primary", &[MEMBERS[0]]).await
}
