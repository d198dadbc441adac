//! What happens while the database, the API server, a replica or a right is away.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{ComponentLease, FLOOR_ANNOTATION};
use component_lease::store::StoreError;
use component_lease_testkit::control_plane::ControlPlane;
use component_lease_testkit::wait;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::controller::{config, election};
use crate::support::objects::{condition, lease, lease_with, status, term};
use crate::support::rows::Mood;
use crate::support::{KEY, LONG, Replica, SOON, Site, install_crd, led_site};

async fn elected(site: &Site) -> Result<Option<String>> {
    let leases: Api<Lease> = Api::namespaced(site.admin.clone(), site.name());
    let lease = leases.get_opt("component-lease").await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
}

pub async fn wait_until_elected(site: &Site, replica: &str) -> Result<()> {
    wait::until(Duration::from_secs(40), format!("{replica} is elected"), async || {
        let holder = elected(site).await?;
        ensure!(holder.as_deref().is_some_and(|h| h.starts_with(replica)), "{holder:?} is");
        Ok(Some(()))
    })
    .await
}

pub async fn replica(site: &Site, name: &str) -> Result<Replica> {
    let mut config = config(site, name);
    config.election = Some(election(site));
    Replica::start_with(site, config).await
}

#[tokio::test(crate = "crate::harness")]
async fn of_two_replicas_one_acts_hands_over_when_it_ends_and_is_replaced_when_it_is_killed() -> Result<()> {
    let site = Site::new("replicas").await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    let first = replica(&site, "first").await?;
    wait_until_elected(&site, "first").await?;
    let second = replica(&site, "second").await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    wait::until_true(SOON, "a replica that stands by is ready and alive", async || {
        second.probe.ready().is_ok() && second.probe.live().is_ok()
    })
    .await?;

    let asked = std::time::Instant::now();
    first.stop().await?;
    wait_until_elected(&site, "second").await?;
    ensure!(asked.elapsed() < Duration::from_secs(8), "the hand-over took {:?}", asked.elapsed());
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;

    let _third = replica(&site, "third").await?;
    second.kill();
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    wait_until_elected(&site, "third").await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn with_the_database_away_the_label_stays_and_it_is_said() -> Result<()> {
    let (site, mut controller) = led_site("keep").await?;
    site.rows.take("discovery", &site.holder("d-1").await?, 2).await?;
    site.wait_for_renewing("d-1").await?;
    site.rows.unreachable();
    let message =
        site.wait_for_condition("discovery", "DatabaseReachable", "False", "DatabaseUnreachable").await?;
    assert!(message.contains("connection refused"), "{message}");
    site.wait_for_condition("discovery", "Ready", "Unknown", "DatabaseUnreachable").await?;
    site.wait_for_condition("discovery", "LeaderElected", "Unknown", "DatabaseUnreachable").await?;
    assert_eq!(site.labelled(KEY, "leader").await?, ["d-1"], "though its lease has run out by now");
    controller.still_runs()?;
    controller.probe.live().map_err(anyhow::Error::msg)?;

    site.rows.set_mood(Mood::Answers);
    site.rows.renew("discovery").await?;
    site.rows.take("discovery", &site.holder("d-2").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn with_the_database_away_and_remove_the_label_goes_when_the_lease_has_run_out() -> Result<()> {
    let (site, _controller) = led_site("remove").await?;
    site.change("discovery", json!({"routing": {"onDatabaseUnreachable": "Remove"}})).await?;
    site.rows.take("discovery", &site.holder("d-1").await?, 6).await?;
    site.wait_for_renewing("d-1").await?;
    site.rows.set_mood(Mood::Hangs);
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    site.wait_for_condition("discovery", "Ready", "False", "Expired").await?;
    site.rows.set_mood(Mood::Answers);
    site.rows.take("discovery", &site.holder("d-2").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_short_outage_of_the_database_is_not_told_and_changes_nothing() -> Result<()> {
    let (site, _controller) = led_site("hiccup").await?;
    // Its floor is copied after the status was written.
    let copied = |lease: &ComponentLease| lease.annotations().contains_key(FLOOR_ANNOTATION);
    site.wait_for_lease("discovery", "the floor is copied", copied).await?;
    let before = site.wait_until_ready("discovery").await?.metadata.resource_version;
    let asked = site.rows.asked();
    site.rows.unreachable();
    wait::until_true(SOON, "two failed looks", async || site.rows.asked() >= asked + 2).await?;
    site.rows.set_mood(Mood::Answers);
    let asked = site.rows.asked();
    wait::until_true(SOON, "two looks that succeed", async || site.rows.asked() >= asked + 2).await?;
    assert_eq!(site.leases().get("discovery").await?.metadata.resource_version, before);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn with_the_database_away_at_the_start_labels_stay_and_the_message_says_what_to_change() -> Result<()> {
    let (site, controller) = led_site("start").await?;
    controller.kill();
    let wrong = "password authentication failed for user \"lease\"; check the secret";
    site.rows.set_mood(Mood::Fails(StoreError::misconfigured(wrong.to_owned())));
    let controller = Replica::start(&site).await?;
    let message =
        site.wait_for_condition("discovery", "DatabaseReachable", "False", "DatabaseMisconfigured").await?;
    assert!(message.contains("check the secret"), "{message}");
    // So an installation with --wait does not end as if all were well.
    assert!(controller.probe.ready().is_err_and(|why| why.contains("check the secret")));
    assert_eq!(site.labelled(KEY, "leader").await?, ["d-0"]);
    let said = term(&site.leases().get("discovery").await?);
    assert!(said.holder.is_some_and(|holder| holder.starts_with("d-0_")), "what was known is not forgotten");
    // Two on a pod nobody has elected: only the one that is known stays.
    site.label("d-2", KEY, Some("leader")).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    site.rows.set_mood(Mood::Answers);
    site.wait_until_ready("discovery").await?;
    assert_eq!(controller.probe.ready(), Ok(()));
    site.rows.unreachable();
    site.wait_for_condition("discovery", "DatabaseReachable", "False", "DatabaseUnreachable").await?;
    assert_eq!(controller.probe.ready(), Ok(()), "a restart would not bring the database back");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_replica_that_stands_by_is_ready_only_once_it_could_use_the_database() -> Result<()> {
    let site = Site::new("unusable").await?;
    let first = replica(&site, "first").await?;
    wait_until_elected(&site, "first").await?;
    wait::until_true(SOON, "the first is ready", async || first.probe.ready().is_ok()).await?;
    let wrong = "password authentication failed";
    site.rows.set_mood(Mood::Fails(StoreError::misconfigured(wrong.to_owned())));
    let second = replica(&site, "second").await?;
    wait::until_true(SOON, "it says what is wrong", async || {
        second.probe.ready().is_err_and(|why| why.contains(wrong))
    })
    .await?;
    site.rows.set_mood(Mood::Answers);
    wait::until_true(SOON, "it is ready", async || second.probe.ready().is_ok()).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_version_below_the_floor_is_shown_begins_an_epoch_and_the_floor_stays() -> Result<()> {
    let (site, controller) = led_site("floor").await?;
    let holder = site.holder("d-1").await?;
    let name = site.rows.key("discovery")?;
    let backup = site.rows.backup();
    site.rows.take_as(name.clone(), &holder, LONG, 70).await?;
    site.wait_for_lease("discovery", "floor 70", |l| status(l).version_floor == Some(70)).await?;
    site.rows.reload(backup);
    wait::until_true(SOON, "an epoch above the floor", async || {
        site.rows.epoch().await.is_ok_and(|epoch| epoch * 1_000_000 > 70)
    })
    .await?;
    let epoch = site.rows.epoch().await?;
    // By a foreign program, which knows nothing of it.
    site.rows.take_as(name, &site.holder("d-2").await?, LONG, 9).await?;
    site.wait_for_lease("discovery", "version 9", |l| term(l).version == 9).await?;
    let message =
        site.wait_for_condition("discovery", "VersionRegressed", "True", "VersionBelowFloor").await?;
    assert!(message.contains('9') && message.contains("70"), "{message}");
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await?;
    let now = site.leases().get("discovery").await?;
    assert_eq!((term(&now).version, status(&now).version_floor), (9, Some(70)));
    assert_eq!(
        now.metadata.annotations.and_then(|a| a.get("componentlease.io/version-floor").cloned()).as_deref(),
        Some("70")
    );
    wait::until_true(SOON, "an Event", async || {
        site.events("discovery").await.is_ok_and(|e| e.iter().any(|r| r == "VersionRegressed"))
    })
    .await?;
    assert_eq!(site.rows.epoch().await?, epoch, "one epoch is enough");
    drop(controller);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_deleted_row_disturbs_no_other_component_while_the_history_knows_of_it() -> Result<()> {
    let (site, controller) = led_site("deleted").await?;
    let name = site.rows.key("discovery")?;
    site.rows.take_as(name.clone(), &site.holder("d-1").await?, LONG, 70).await?;
    site.wait_for_lease("discovery", "floor 70", |l| status(l).version_floor == Some(70)).await?;
    let epoch = site.rows.epoch().await?;
    site.rows.delete(&name);
    let message =
        site.wait_for_condition("discovery", "VersionRegressed", "True", "VersionBelowFloor").await?;
    assert!(message.contains("70"), "{message}");
    // All that a reconcile does is done before the next one begins, which this change brings about.
    site.change("discovery", json!({"ttlSeconds": 29})).await?;
    wait::until_true(SOON, "the next reconcile", async || {
        site.leases().get("discovery").await.is_ok_and(|l| status(&l).observed_generation == Some(2))
    })
    .await?;
    assert_eq!(site.rows.epoch().await?, epoch, "everybody would have to wait");
    drop(controller);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn without_the_right_to_see_pods_it_says_so_waits_and_heals() -> Result<()> {
    let site = Site::new("rights").await?;
    site.make_pods("discovery", &["d-0"]).await?;
    let role = site.plane.get(&["-n", site.name(), "roles"]).await?;
    let roles = role["items"].as_array().context("no roles")?;
    let full =
        roles.iter().find(|r| r["rules"].to_string().contains("\"pods\"")).context("no rule on pods")?;
    let mut less = full.clone();
    less["metadata"] = json!({"name": full["metadata"]["name"], "namespace": site.name()});
    let mut whole = less.clone();
    whole["rules"] = full["rules"].clone();
    less["rules"]
        .as_array_mut()
        .context("rules")?
        .retain(|rule| !rule["resources"].to_string().contains("\"pods\""));
    site.plane.apply(&less.to_string()).await?;

    let mut controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    let message = site.wait_for_condition("discovery", "Routed", "Unknown", "Forbidden").await?;
    assert!(message.contains("may not list and watch pods") && message.contains("rbac.yaml"), "{message}");
    site.wait_for_condition("discovery", "LeaderElected", "True", "Held").await?;
    controller.still_runs()?;
    assert!(controller.probe.live().is_ok());
    assert!(controller.probe.ready().is_err_and(|why| why.contains("pods")));

    site.plane.apply(&whole.to_string()).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_label_key_of_somebody_else_is_refused_and_nothing_is_touched() -> Result<()> {
    let (site, _controller) = led_site("prefix").await?;
    let theirs = json!({"routing": {"labelKey": "tier"}});
    site.make_lease(&lease_with("second", "discovery", &theirs)).await?;
    site.rows.take("second", &site.holder("d-1").await?, LONG).await?;
    let message = site.wait_for_condition("second", "Ready", "False", "InvalidSpec").await?;
    assert!(message.contains("componentlease.io/") && message.contains("allowedLabelPrefixes"), "{message}");
    assert_eq!(site.labelled("tier", "leader").await?, Vec::<String>::new());
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await
}

/// A control plane of one's own, for tests that take it away or change what it knows. It is kept
/// until the process ends, like the shared one.
async fn own_plane() -> Result<&'static ControlPlane> {
    Ok(Box::leak(Box::new(ControlPlane::start().await?)))
}

#[tokio::test(crate = "crate::harness")]
async fn a_controller_waits_for_the_definition_survives_the_api_server_and_reads_around_the_unreadable()
-> Result<()> {
    let plane = own_plane().await?;
    let namespace = plane.namespace("all").await?;
    // All namespaces, by the ClusterRole.
    let site = Site::with(plane, namespace, &[]).await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    let mut config = config(&site, "only");
    config.namespaces = Vec::new();
    config.election = Some(election(&site));
    let mut controller = Replica::start_with(&site, config).await?;
    wait::until_true(SOON, "it says what it waits for", async || {
        controller.probe.ready().is_err_and(|why| why.contains("apply the CustomResourceDefinition"))
    })
    .await?;
    install_crd(plane).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    wait::until_true(SOON, "ready", async || controller.probe.ready().is_ok()).await?;

    // Away, and a change of leader meanwhile.
    let next = site.holder("d-1").await?;
    plane.kill_apiserver().await?;
    site.rows.take("discovery", &next, LONG).await?;
    plane.start_apiserver().await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    site.wait_until_ready("discovery").await?;
    controller.still_runs()?;

    // A resource that only an older, looser definition lets in.
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let loose = json!([
        {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": anything},
        {"op": "remove", "path": "/spec/versions/0/selectableFields"},
    ]);
    let crd = "crd/componentleases.componentlease.io";
    plane.kubectl(&["patch", crd, "--type=json", "-p", &loose.to_string()]).await?;
    let mut bad = lease("bad", "discovery");
    bad["spec"] = json!({"selector": "everything", "ttlSeconds": "soon"});
    wait::until(SOON, "the looser definition is in force", async || {
        site.plane
            .kubectl_with_input(&["-n", site.name(), "apply", "-f", "-"], &bad.to_string())
            .await
            .map(Some)
    })
    .await?;
    site.make_lease(&lease("good", "discovery")).await?;
    site.rows.take("good", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled("componentlease.io/good", "leader", &["d-0"]).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    site.leases().delete("good", &DeleteParams::default()).await?;
    site.wait_for_labelled("componentlease.io/good", "leader", &[]).await?;
    controller.still_runs()?;
    let discovery = site.leases().get("discovery").await?;
    assert!(condition(&discovery, "Ready").is_some_and(|c| c.status == "True"));
    Ok(())
}
