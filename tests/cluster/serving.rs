//! `Ready` means that users get answers: the leader's pod is ready, and so is its endpoint in the Service.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease::routing::serving::STEADY;
use component_lease::store::Directory as _;
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::preferred::beat;
use crate::requests::leader;
use crate::support::objects::{condition, lease, lease_with};
use crate::support::participants::compete;
use crate::support::{KEY, LONG, Replica, SOON, Site, led_site};

/// What a kubelet, or the controller of its node, says of a pod.
async fn say(site: &Site, pod: &str, conditions: &[(&str, &str)]) -> Result<()> {
    let at = "2026-01-01T00:00:00Z";
    let condition =
        |(kind, status): &(&str, &str)| json!({"type": kind, "status": status, "lastTransitionTime": at});
    let conditions: Vec<_> = conditions.iter().map(condition).collect();
    let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
    site.pods().patch_status(pod, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn make_service(site: &Site, name: &str, target: &Value) -> Result<()> {
    let services: Api<Service> = Api::namespaced(site.admin.clone(), site.name());
    let service = json!({
        "metadata": {"name": name},
        "spec": {"selector": {KEY: "leader"}, "ports": [{"name": "web", "port": 80, "targetPort": target}]},
    });
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    Ok(())
}

async fn checked(site: &Site, service: &str) -> Result<()> {
    site.change("discovery", json!({"routing": {"service": {"name": service}}})).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_leader_that_is_still_initialising_or_whose_node_is_lost_is_not_ready_and_keeps_the_label()
-> Result<()> {
    let site = Site::new("unready").await?;
    site.plane.fake_pods(site.name(), &[FakePod::new("d-0", "discovery").not_ready()]).await?;
    say(&site, "d-0", &[("Initialized", "False")]).await?;
    let _controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    let message = site.wait_for_condition("discovery", "Routed", "False", "LeaderNotReady").await?;
    ensure!(message.contains("pod d-0 leads, but is not ready: it is still initialising"), "{message}");
    site.wait_for_condition("discovery", "Ready", "False", "LeaderNotReady").await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;

    say(&site, "d-0", &[("Initialized", "True"), ("ContainersReady", "True"), ("Ready", "True")]).await?;
    site.wait_until_ready("discovery").await?;
    // What the node's controller writes when no kubelet reports any more; the leader may renew on.
    say(&site, "d-0", &[("Ready", "False")]).await?;
    let message = site.wait_for_condition("discovery", "Ready", "False", "LeaderNotReady").await?;
    ensure!(message.contains("its node may be lost"), "{message}");
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_service_without_a_ready_endpoint_of_the_leader_is_not_ready_also_one_of_somebody_else()
-> Result<()> {
    let (site, _controller) = led_site("endpoints").await?;
    site.plane.needs_controllers()?;
    make_service(&site, "theirs", &json!("nowhere")).await?;
    checked(&site, "theirs").await?;
    let message = site.wait_for_condition("discovery", "Routed", "False", "NoEndpoint").await?;
    ensure!(message.contains("no endpoint for its port 80 at pod d-0"), "{message}");
    site.wait_for_condition("discovery", "Ready", "False", "NoEndpoint").await?;

    make_service(&site, "served", &json!("http")).await?;
    checked(&site, "served").await?;
    site.wait_until_ready("discovery").await?;
    let managed =
        json!({"name": "ours", "policy": "Manage", "ports": [{"port": 80, "targetPort": "nowhere"}]});
    site.change("discovery", json!({"routing": {"service": managed}})).await?;
    site.wait_for_condition("discovery", "Ready", "False", "NoEndpoint").await?;
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    site.change("discovery", json!({"routing": {"service": {"ports": ports}}})).await?;
    site.wait_until_ready("discovery").await?;

    // Another leader is ready as soon as it has an endpoint.
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_lease("discovery", "d-1 serves", |lease| {
        let leads = lease.status.as_ref().and_then(|status| status.leader.as_ref());
        let ready = condition(lease, "Ready").is_some_and(|ready| ready.status == "True");
        ready && leads.is_some_and(|leader| leader.pod_name == "d-1")
    })
    .await?;
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn an_endpoint_that_flips_ten_times_a_second_causes_no_ten_writes() -> Result<()> {
    let (site, _controller) = led_site("flips").await?;
    site.plane.needs_controllers()?;
    make_service(&site, "theirs", &json!("http")).await?;
    checked(&site, "theirs").await?;
    site.wait_until_ready("discovery").await?;

    let mark = site.plane.audit_mark()?;
    let began = Instant::now();
    let flips = 60;
    let mut every = tokio::time::interval(Duration::from_millis(100));
    for number in 0..flips {
        every.tick().await;
        let ready = if number % 2 == 0 { "False" } else { "True" };
        say(&site, "d-0", &[("ContainersReady", ready), ("Ready", ready)]).await?;
    }
    let took = began.elapsed();
    let account = format!("system:serviceaccount:{}:component-lease", site.name());
    let writes = site.plane.writes_since(mark)?;
    let kubelet = writes.iter().filter(|write| write.resource == "pods" && write.subresource == "status");
    ensure!(kubelet.count() >= flips, "the pod has flipped");
    let ours = writes.iter().filter(|write| write.user == account && write.subresource == "status");
    let ours: Vec<_> = ours.collect();
    // Each recovery that lasts may be said, and its end: on a slow machine there is room for more of them.
    let at_most = 2 + 2 * usize::try_from(took.as_secs() / STEADY.as_secs())?;
    ensure!(!ours.is_empty() && ours.len() <= at_most, "{} writes: {ours:?}", ours.len());
    // The last word is said, however often it was taken back.
    site.wait_until_ready("discovery").await?;
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn without_the_right_to_see_endpoints_only_what_needs_them_is_unknown_and_it_heals() -> Result<()> {
    let (site, controller) = led_site("blind").await?;
    site.plane.needs_controllers()?;
    make_service(&site, "theirs", &json!("http")).await?;
    site.make_pods("other", &["o-0"]).await?;
    site.make_lease(&lease("other", "other")).await?;
    site.rows.take("other", &site.holder("o-0").await?, LONG).await?;
    site.wait_until_ready("other").await?;
    drop(controller);
    let rights = site.plane.get(&["role", "-n", site.name()]).await?;
    let roles = rights["items"].as_array().cloned().unwrap_or_default();
    let watches = |role: &&Value| role["rules"].to_string().contains("endpointslices");
    let mut role = roles.iter().find(watches).cloned().unwrap_or_default();
    role["metadata"]["resourceVersion"] = Value::Null;
    let mut without = role.clone();
    let rules = without["rules"].as_array_mut().map(|rules| {
        rules.retain(|rule| !rule.to_string().contains("endpointslices"));
        rules.len()
    });
    ensure!(rules.is_some_and(|rules| rules > 3), "{role}");
    site.plane.apply(&without.to_string()).await?;
    let _blind = Replica::start(&site).await?;
    checked(&site, "theirs").await?;
    let message = site.wait_for_condition("discovery", "Routed", "Unknown", "Forbidden").await?;
    ensure!(message.contains("may not list and watch endpointslices"), "{message}");
    site.rows.take("other", &site.holder("o-0").await?, LONG).await?;
    wait::until_true(SOON, "the other one is ready", async || {
        site.leases()
            .get("other")
            .await
            .is_ok_and(|lease| condition(&lease, "Ready").is_some_and(|ready| ready.status == "True"))
    })
    .await?;
    site.plane.apply(&role.to_string()).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stays_not_ready_makes_way_where_the_resource_says_so_and_somebody_else_is_ready()
-> Result<()> {
    let site = Site::new("hand-over").await?;
    let all = ["d-0", "d-1"];
    site.make_pods("discovery", &all).await?;
    let after = json!({"handOverAfterNotReadySeconds": 1});
    site.make_lease(&lease_with("discovery", "discovery", &after)).await?;
    let _controller = Replica::start(&site).await?;
    let _competitors = compete(&site, &all, Duration::from_secs(30)).await?;
    let first = leader(&site).await?;
    let second = all.into_iter().find(|pod| *pod != first).context("there are two")?;
    let ready = async |pod: &str, is: &str| say(&site, pod, &[("ContainersReady", is), ("Ready", is)]).await;

    // Nobody else is ready.
    ready(second, "False").await?;
    ready(&first, "False").await?;
    site.wait_for_condition("discovery", "Ready", "False", "LeaderNotReady").await?;
    let began = Instant::now();
    let asked = async || Ok::<_, anyhow::Error>(site.rows.asked_of("discovery").await?.request);
    wait::until(SOON, "two seconds to pass", async || {
        ensure!(asked().await?.is_none(), "it was asked although nobody else is ready");
        Ok((began.elapsed() > Duration::from_secs(2)).then_some(()))
    })
    .await?;

    ready(second, "True").await?;
    site.wait_for_labelled(KEY, "leader", &[second]).await?;
    let said = asked().await?.context("nothing was asked")?.said;
    assert_eq!(said.by(), format!("ComponentLease {}/discovery", site.name()));
    ensure!(
        said.reason().starts_with(&format!("pod {first} has not been ready for 1 s")),
        "{}",
        said.reason()
    );
    site.wait_for_events("discovery", &["HandOver"]).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn what_an_unready_leader_was_asked_is_taken_back_when_it_is_ready_again_and_is_asked_once()
-> Result<()> {
    let site = Site::new("taken-back").await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    let after = json!({"handOverAfterNotReadySeconds": 1});
    site.make_lease(&lease_with("discovery", "discovery", &after)).await?;
    let _controller = Replica::start(&site).await?;
    // Both give signs of life, and the leader obeys nothing.
    let holder = beat(&site, "d-0", 100).await?;
    beat(&site, "d-1", 100).await?;
    site.rows.take("discovery", &holder, LONG).await?;
    site.wait_until_ready("discovery").await?;
    let ready = async |is: &str| say(&site, "d-0", &[("ContainersReady", is), ("Ready", is)]).await;
    let asked = async || Ok::<_, anyhow::Error>(site.rows.asked_of("discovery").await?.request);
    let until_asked = async |is: bool| {
        wait::until_true(SOON, &format!("asked: {is}"), async || {
            asked().await.is_ok_and(|request| request.is_some() == is)
        })
        .await
    };
    ready("False").await?;
    until_asked(true).await?;
    ready("True").await?;
    until_asked(false).await?;
    ready("False").await?;
    until_asked(true).await?;
    // An operator takes it back: it is not asked again for this.
    let id = asked().await?.context("nothing was asked")?.request.id;
    site.rows.withdraw(&site.rows.key("discovery")?, &id).await?;
    let (looks, began) = (site.rows.asked(), Instant::now());
    wait::until(SOON, "six seconds of looks", async || {
        ensure!(asked().await?.is_none(), "it was asked again");
        let enough = began.elapsed() > Duration::from_secs(6) && site.rows.asked() > looks + 3;
        Ok(enough.then_some(()))
    })
    .await
}
