//! Who carries the label, whatever somebody else does to pods, resources and Services.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::objects::{condition, lease, lease_with, status};
use crate::support::rows::Mood;
use crate::support::{KEY, LONG, Replica, SOON, Site, led_site};

/// How long a label that somebody else put may stay.
const FOREIGN: Duration = Duration::from_secs(2);

/// Our labels and annotations on a pod.
async fn marks(site: &Site, pod: &str) -> Result<Vec<String>> {
    let pod = site.pods().get(pod).await?;
    let keys = pod.labels().keys().chain(pod.annotations().keys());
    Ok(keys.filter(|key| key.starts_with("componentlease.io/")).cloned().collect())
}

/// What the participants read.
async fn wait_for_ttl(site: &Site, component: &str, wanted: Option<u32>) -> Result<()> {
    wait::until(SOON, format!("the participants of {component} find the ttl {wanted:?}"), async || {
        let found = site.rows.intended_ttl(component).await?;
        ensure!(found == wanted, "{found:?}");
        Ok(Some(()))
    })
    .await
}

async fn wait_for_marks(site: &Site, pod: &str, wanted: &[&str]) -> Result<()> {
    wait::until(SOON, format!("exactly {wanted:?} on {pod}"), async || {
        let found = marks(site, pod).await?;
        ensure!(found == wanted, "{found:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn deleting_the_resource_takes_every_mark_off_the_pods_and_keeps_the_row() -> Result<()> {
    let (site, _controller) = led_site("deleted").await?;
    wait_for_marks(&site, "d-0", &[KEY, "componentlease.io/discovery-version"]).await?;
    site.leases().delete("discovery", &DeleteParams::default()).await?;
    for pod in ["d-0", "d-1", "d-2"] {
        wait_for_marks(&site, pod, &[]).await?;
    }
    wait_for_ttl(&site, "discovery", None).await?;
    site.rows.renew("discovery").await.context("the row stays, so that versions go on")
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_that_was_deleted_while_no_controller_ran_is_swept_by_the_next() -> Result<()> {
    let (site, controller) = led_site("swept").await?;
    controller.kill();
    site.leases().delete("discovery", &DeleteParams::default()).await?;
    // A neighbour that lives must keep its marks.
    site.make_pods("other", &["o-0"]).await?;
    site.make_lease(&lease("other", "other")).await?;
    site.rows.take("other", &site.holder("o-0").await?, LONG).await?;
    let _next = Replica::start(&site).await?;
    for pod in ["d-0", "d-1", "d-2"] {
        wait_for_marks(&site, pod, &[]).await?;
    }
    wait_for_ttl(&site, "discovery", None).await?;
    wait_for_ttl(&site, "other", Some(30)).await?;
    site.wait_for_labelled("componentlease.io/other", "leader", &["o-0"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_ttl_that_could_not_be_withdrawn_is_withdrawn_when_the_database_is_back() -> Result<()> {
    let (site, _controller) = led_site("withdrawn").await?;
    site.rows.unreachable();
    site.wait_for_condition("discovery", "DatabaseReachable", "False", "DatabaseUnreachable").await?;
    site.leases().delete("discovery", &DeleteParams::default()).await?;
    wait_for_marks(&site, "d-0", &[]).await?;
    site.rows.set_mood(Mood::Answers);
    wait_for_ttl(&site, "discovery", None).await
}

#[tokio::test(crate = "crate::harness")]
async fn an_old_label_key_that_is_no_longer_allowed_is_left_alone() -> Result<()> {
    let site = Site::new("forbidden").await?;
    // As a controller has left it whose prefixes included this one.
    let old = "example.org/role";
    let pods = [("d-0", "leader"), ("d-1", "standby")];
    let pods = pods.map(|(name, role)| FakePod::new(name, "discovery").label(old, role));
    site.plane.fake_pods(site.name(), &pods).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    let applied = json!({"labelKey": old, "leaderValue": "leader", "standbyValue": "standby"});
    let patch = Patch::Merge(json!({"status": {"internal": {"applied": applied}}}));
    site.leases().patch_status("discovery", &PatchParams::default(), &patch).await?;

    let mark = site.plane.audit_mark()?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    let _controller = Replica::start(&site).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    site.wait_for_labelled(KEY, "standby", &["d-0"]).await?;
    site.wait_until_ready("discovery").await?;
    site.wait_for_labelled(old, "leader", &["d-0"]).await?;
    // A patch that touches it is refused as a whole, and what else is in it is late by a back-off.
    let account = format!("system:serviceaccount:{}:component-lease", site.name());
    let refused = site.plane.writes_since(mark)?.into_iter().filter(|w| w.user == account && w.code == 403);
    let refused: Vec<_> = refused.collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_changed_label_key_strips_the_old_one() -> Result<()> {
    let (site, _controller) = led_site("rekeyed").await?;
    let new = "componentlease.io/role";
    site.change("discovery", json!({"routing": {"labelKey": new, "leaderValue": "first"}})).await?;
    site.wait_for_labelled(new, "first", &["d-0"]).await?;
    site.wait_for_labelled(new, "standby", &["d-1", "d-2"]).await?;
    for pod in ["d-0", "d-1", "d-2"] {
        let both = ["componentlease.io/discovery-label", "componentlease.io/discovery-version"];
        wait_for_marks(&site, pod, &[&[new][..], &both].concat()).await?;
    }
    site.leases().delete("discovery", &DeleteParams::default()).await?;
    wait_for_marks(&site, "d-0", &[]).await
}

#[tokio::test(crate = "crate::harness")]
async fn two_leases_on_the_same_pods_do_not_disturb_each_other() -> Result<()> {
    let (site, _controller) = led_site("both").await?;
    let other = "componentlease.io/jobs";
    site.make_lease(&lease("jobs", "discovery")).await?;
    site.rows.take("jobs", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(other, "leader", &["d-1"]).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    for pod in ["d-2", "d-0", "d-1"] {
        site.rows.take("discovery", &site.holder(pod).await?, LONG).await?;
        site.rows.take("jobs", &site.holder(pod).await?, LONG).await?;
        site.wait_for_labelled(KEY, "leader", &[pod]).await?;
        site.wait_for_labelled(other, "leader", &[pod]).await?;
    }
    site.leases().delete("jobs", &DeleteParams::default()).await?;
    wait_for_marks(&site, "d-1", &[KEY, "componentlease.io/discovery-version"]).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_label_that_somebody_else_put_is_gone_within_two_seconds_and_is_said() -> Result<()> {
    let (site, _controller) = led_site("foreign").await?;
    let recorder = site.plane.record_label(site.name(), KEY, "leader")?;
    wait::until_true(SOON, "the recorder sees the leader", async || recorder.labelled() == ["d-0"]).await?;

    site.label("d-1", KEY, Some("leader")).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    // Two pods are made with the label: a candidate, and one that is not.
    let born = [FakePod::new("d-3", "discovery"), FakePod::new("stranger", "stranger")];
    let born = born.map(|pod| pod.label(KEY, "leader"));
    site.plane.fake_pods(site.name(), &born).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    wait_for_marks(&site, "stranger", &[]).await?;
    // Taken from the leader by hand, it comes back.
    site.label("d-0", KEY, None).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;

    site.wait_for_events("discovery", &["ForeignLabelRemoved"]).await?;
    site.wait_until_ready("discovery").await?;
    assert!(recorder.duplicates().len() >= 3, "{:?}", recorder.duplicates());
    recorder.judge("component-lease", FOREIGN)
}

#[tokio::test(crate = "crate::harness")]
async fn a_terminating_leader_keeps_the_label_while_it_leads_and_loses_it_with_the_lease() -> Result<()> {
    let site = Site::new("terminating").await?;
    let slow = FakePod::new("d-0", "discovery").grace_seconds(600);
    site.plane.fake_pods(site.name(), &[slow]).await?;
    site.make_pods("discovery", &["d-1"]).await?;
    let _controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;

    site.pods().delete("d-0", &DeleteParams::default()).await?;
    site.rows.release("discovery").await?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    ensure!(site.pods().get("d-0").await?.metadata.deletion_timestamp.is_some(), "it is still there");
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_leader_pod_that_is_deleted_by_force_and_made_again_is_not_the_holder() -> Result<()> {
    let (site, _controller) = led_site("forced").await?;
    site.pods().delete("d-0", &DeleteParams::default().grace_period(0)).await?;
    site.wait_for_condition("discovery", "HolderAccepted", "False", "HolderRejected").await?;
    site.make_pods("discovery", &["d-0"]).await?;
    let said = site.wait_for_lease("discovery", "the condition tells the namesake apart", |lease| {
        condition(lease, "HolderAccepted").is_some_and(|c| c.message.contains("another pod of the name d-0"))
    });
    said.await?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_holder_that_is_no_candidate_is_rejected_and_never_labelled() -> Result<()> {
    let (site, _controller) = led_site("rejected").await?;
    site.make_pods("stranger", &["stranger"]).await?;
    let elsewhere = Site::new("elsewhere").await?;
    elsewhere.make_pods("discovery", &["far-0"]).await?;
    let outside = site.holder("stranger").await?;
    let far = elsewhere.holder("far-0").await?;
    for (holder, said) in [
        ("laptop_4711_1f0c9a3d", "names no pod of this namespace"),
        (far.as_str(), "names no pod of this namespace"),
        (outside.as_str(), "which spec.selector does not match"),
    ] {
        site.rows.take("discovery", holder, LONG).await?;
        site.wait_for_lease("discovery", &format!("{holder} is rejected"), |lease| {
            let message = condition(lease, "HolderAccepted").map(|c| c.message.as_str()).unwrap_or_default();
            message.contains(holder) && message.contains(said)
        })
        .await?;
        site.wait_for_condition("discovery", "Ready", "False", "HolderRejected").await?;
        site.wait_for_labelled(KEY, "leader", &[]).await?;
    }
    assert_eq!(marks(&site, "stranger").await?, Vec::<String>::new());
    site.wait_for_events("discovery", &["HolderRejected"]).await?;
    // A holder as programs with their own SQL write it is believed.
    site.rows.take("discovery", "d-2:8080", LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_selector_that_matches_nothing_is_said() -> Result<()> {
    let site = Site::new("nobody").await?;
    let _controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "nobody")).await?;
    let message = site.wait_for_condition("discovery", "Routed", "False", "NoCandidates").await?;
    assert!(message.contains("spec.selector matches no"), "{message}");
    assert_eq!(status(&site.leases().get("discovery").await?).candidates, Some(0));
    Ok(())
}

fn services(site: &Site) -> Api<Service> {
    Api::namespaced(site.admin.clone(), site.name())
}

fn managed(port: i32) -> serde_json::Value {
    json!({"routing": {"service": {"name": "discovery", "policy": "Manage", "ports": [{"port": port, "targetPort": "http"}]}}})
}

/// The leader label, and what candidates carry.
fn selects_the_leader(service: &Service) -> bool {
    let wanted =
        [("app", "discovery"), (KEY, "leader")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) == Some(&wanted.into())
}

#[tokio::test(crate = "crate::harness")]
async fn a_managed_service_is_made_kept_and_goes_with_its_resource() -> Result<()> {
    let (site, _controller) = led_site("managed").await?;
    site.plane.needs_controllers()?;
    site.change("discovery", managed(80)).await?;
    let found = |what: &'static str, wanted: fn(&Service) -> bool| {
        let services = services(&site);
        wait::until(SOON, what, async move || {
            let service = services.get("discovery").await?;
            ensure!(wanted(&service), "{:?}", service.spec);
            Ok(Some(service))
        })
    };
    let service = found("the Service", |_| true).await?;
    assert!(selects_the_leader(&service), "{:?}", service.spec);
    let owner = &service.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("ComponentLease", "discovery"));
    site.wait_until_ready("discovery").await?;

    // Somebody changes it, then we do.
    let bent = Patch::Merge(json!({"spec": {"selector": {KEY: null, "tier": "web"}}}));
    services(&site).patch("discovery", &PatchParams::default(), &bent).await?;
    found("its selector", selects_the_leader).await?;
    site.change("discovery", managed(81)).await?;
    found("its port", |s| s.spec.iter().flat_map(|s| s.ports.iter().flatten()).any(|p| p.port == 81)).await?;

    site.leases().delete("discovery", &DeleteParams::default()).await?;
    // The garbage collector looks for new kinds of owners every 30 s.
    wait::until(SOON * 4, "the Service goes", async || {
        Ok(services(&site).get_opt("discovery").await?.is_none().then_some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn a_service_of_somebody_else_is_never_adopted_only_checked() -> Result<()> {
    let (site, _controller) = led_site("service").await?;
    site.plane.needs_controllers()?;
    let named = json!({"routing": {"service": {"name": "discovery"}}});
    site.change("discovery", named).await?;
    let message = site.wait_for_condition("discovery", "Routed", "False", "ServiceMissing").await?;
    assert!(message.contains("does not exist; create it"), "{message}");

    let service = json!({
        "metadata": {"name": "discovery"},
        "spec": {"selector": {"app": "discovery"}, "ports": [{"port": 80}]},
    });
    let service = services(&site).create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let message = site.wait_for_condition("discovery", "Ready", "False", "ServiceSelectorMismatch").await?;
    assert!(message.contains("componentlease.io/discovery=leader"), "{message}");

    site.change("discovery", managed(80)).await?;
    let message = site.wait_for_condition("discovery", "Routed", "False", "ServiceNotOurs").await?;
    assert!(message.contains("left as it is"), "{message}");
    let now = services(&site).get("discovery").await?;
    assert_eq!(now.resource_version(), service.resource_version(), "nobody has touched it");

    site.change("discovery", json!({"routing": {"service": {"policy": "Check", "ports": null}}})).await?;
    let selector = Patch::Merge(json!({"spec": {"selector": {KEY: "leader"}}}));
    services(&site).patch("discovery", &PatchParams::default(), &selector).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_service_is_judged_by_the_pods_that_it_would_reach_and_again_when_a_pod_changes() -> Result<()> {
    let (site, _controller) = led_site("reached").await?;
    site.plane.needs_controllers()?;
    let service = json!({
        "metadata": {"name": "theirs"},
        "spec": {"selector": {KEY: "leader", "tier": "db"}, "ports": [{"port": 80}]},
    });
    services(&site).create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    site.change("discovery", json!({"routing": {"service": {"name": "theirs"}}})).await?;
    let says = async |piece: &str| {
        site.wait_for_lease("discovery", piece, |lease| {
            condition(lease, "Routed")
                .is_some_and(|c| c.reason == "ServiceSelectorMismatch" && c.message.contains(piece))
        })
        .await
    };
    says("selects tier=db beside the leader label, and pod d-0 does not carry that").await?;
    // A label that is neither ours nor the resource's.
    site.label("d-0", "tier", Some("db")).await?;
    site.wait_until_ready("discovery").await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    says("pod d-1 does not carry that").await?;
    for (spec, said) in [
        (json!({"selector": {KEY: null, "tier": "db"}}), "reaches pod d-0 whether it leads or not"),
        (json!({"selector": null}), "has no selector"),
        (
            json!({"selector": {KEY: "leader"}, "type": "ExternalName", "externalName": "example.org"}),
            "is of type ExternalName",
        ),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        services(&site).patch("theirs", &PatchParams::default(), &patch).await?;
        says(said).await?;
    }
    let back = Patch::Merge(json!({"spec": {"type": "ClusterIP", "externalName": null}}));
    services(&site).patch("theirs", &PatchParams::default(), &back).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn of_two_resources_with_one_component_the_first_goes_on_and_the_second_may_when_it_is_gone()
-> Result<()> {
    let (site, _controller) = led_site("conflict").await?;
    site.let_a_second_pass("discovery").await?;
    let same = json!({"componentName": format!("{}/discovery", site.name())});
    site.make_lease(&lease_with("second", "discovery", &same)).await?;
    let message = site.wait_for_condition("second", "Ready", "False", "Conflict").await?;
    assert!(message.contains(&format!("{}/discovery was first", site.name())), "{message}");
    site.wait_for_condition("second", "Stalled", "True", "Conflict").await?;

    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    assert_eq!(site.labelled("componentlease.io/second", "leader").await?, Vec::<String>::new());

    site.leases().delete("discovery", &DeleteParams::default()).await?;
    site.wait_for_labelled("componentlease.io/second", "leader", &["d-1"]).await?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    site.wait_until_ready("second").await?;
    assert_eq!(site.rows.intended_ttl("discovery").await?, Some(30), "the second asks for it now");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn one_label_key_on_the_same_pods_is_a_conflict_that_ends_when_the_first_gives_it_up() -> Result<()> {
    let (site, _controller) = led_site("samekey").await?;
    site.let_a_second_pass("discovery").await?;
    site.make_lease(&lease_with("second", "discovery", &json!({"routing": {"labelKey": KEY}}))).await?;
    site.rows.take("second", &site.holder("d-2").await?, LONG).await?;
    let message = site.wait_for_condition("second", "Ready", "False", "Conflict").await?;
    assert!(message.contains("choose another spec.routing.labelKey"), "{message}");
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    site.change("discovery", json!({"routing": {"labelKey": "componentlease.io/first"}})).await?;
    site.wait_for_labelled("componentlease.io/first", "leader", &["d-0"]).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn two_leases_with_one_key_whose_services_cannot_tell_their_pods_apart_are_in_conflict() -> Result<()> {
    let site = Site::new("expressions").await?;
    let _controller = Replica::start(&site).await?;
    let key = "componentlease.io/shared";
    for (name, app) in [("first", "one"), ("second", "two")] {
        site.make_pods(app, &[&format!("{app}-0")]).await?;
        let spec = json!({
            "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": [app, "none"]}]},
            "routing": {"labelKey": key, "service": {"name": name, "policy": "Manage", "ports": [{"port": 80}]}},
        });
        site.make_lease(&lease_with(name, app, &spec)).await?;
        site.rows.take(name, &site.holder(&format!("{app}-0")).await?, LONG).await?;
        if name == "first" {
            site.wait_for_labelled(key, "leader", &["one-0"]).await?;
            site.let_a_second_pass(name).await?;
        }
    }
    let message = site.wait_for_condition("second", "Ready", "False", "Conflict").await?;
    assert!(message.contains("would reach the leaders of both"), "{message}");
    site.wait_for_labelled(key, "leader", &["one-0"]).await?;
    site.leases().delete("first", &DeleteParams::default()).await?;
    site.wait_for_labelled(key, "leader", &["two-0"]).await
}
