//! Whose a Service is, from its making to its end.

use anyhow::{Result, ensure};
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::objects::lease_with;
use crate::support::{KEY, LONG, SOON, Site, led_site};

fn services(site: &Site) -> Api<Service> {
    Api::namespaced(site.admin.clone(), site.name())
}

/// A spec that has this Service managed.
fn managed(name: &str, more: &Value) -> Value {
    let mut service = json!({
        "name": name, "policy": "Manage", "ports": [{"port": 80, "targetPort": "http"}],
        "headless": null, "labels": null, "annotations": null,
    });
    for (key, value) in more.as_object().expect("fields of a Service") {
        service[key] = value.clone();
    }
    json!({"routing": {"service": service}})
}

async fn until(site: &Site, name: &str, what: &str, wanted: impl Fn(&Service) -> bool) -> Result<Service> {
    wait::until(SOON, format!("Service {name}: {what}"), async || {
        let service = services(site).get(name).await?;
        ensure!(wanted(&service), "{:?} {:?}", service.metadata, service.spec);
        Ok(Some(service))
    })
    .await
}

async fn until_gone(site: &Site, name: &str) -> Result<()> {
    wait::until(SOON, format!("Service {name} goes"), async || {
        Ok(services(site).get_opt(name).await?.is_none().then_some(()))
    })
    .await
}

fn is_ours(service: &Service) -> bool {
    !service.owner_references().is_empty()
        && service.labels().get("app.kubernetes.io/managed-by").map(String::as_str) == Some("component-lease")
}

fn kind(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.type_.as_deref()
}

#[tokio::test(crate = "crate::harness")]
async fn a_renamed_service_is_made_before_the_old_one_goes_and_one_that_is_not_wanted_goes() -> Result<()> {
    let (site, _controller) = led_site("renamed").await?;
    site.plane.needs_controllers()?;
    site.change("discovery", managed("first", &json!({}))).await?;
    until(&site, "first", "made", is_ours).await?;
    let beside =
        json!({"metadata": {"name": "second"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    services(&site).create(&PostParams::default(), &serde_json::from_value(beside)?).await?;
    // Where the new name is taken, users keep the old one.
    site.change("discovery", managed("second", &json!({}))).await?;
    site.wait_for_condition("discovery", "Stalled", "True", "ServiceNotOurs").await?;
    until(&site, "first", "it stays", is_ours).await?;
    services(&site).delete("second", &DeleteParams::default()).await?;
    until(&site, "second", "made", is_ours).await?;
    until_gone(&site, "first").await?;
    site.wait_until_ready("discovery").await?;
    site.change("discovery", json!({"routing": {"service": null}})).await?;
    until_gone(&site, "second").await
}

#[tokio::test(crate = "crate::harness")]
async fn a_service_that_is_only_checked_from_now_on_is_released_and_outlives_its_resource() -> Result<()> {
    let (site, _controller) = led_site("released").await?;
    site.plane.needs_controllers()?;
    site.change("discovery", managed("web", &json!({"labels": {"team": "x"}}))).await?;
    let before = until(&site, "web", "made", is_ours).await?;
    site.change("discovery", json!({"routing": {"service": {"policy": "Check"}}})).await?;
    let after = until(&site, "web", "released", |service| {
        service.owner_references().is_empty()
            && !service.labels().contains_key("app.kubernetes.io/managed-by")
    })
    .await?;
    assert_eq!((after.uid(), after.spec.clone()), (before.uid(), before.spec));
    assert_eq!(after.labels().get("team").map(String::as_str), Some("x"));
    ensure!(after.annotations().is_empty(), "{:?}", after.annotations());
    site.wait_until_ready("discovery").await?;
    // It is somebody else's now.
    site.change("discovery", json!({"routing": {"service": {"policy": "Manage"}}})).await?;
    site.wait_for_condition("discovery", "Stalled", "True", "ServiceNotOurs").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_service_that_was_orphaned_is_taken_back_and_one_of_somebody_else_is_not() -> Result<()> {
    let (site, _controller) = led_site("orphaned").await?;
    site.plane.needs_controllers()?;
    site.change("discovery", managed("web", &json!({}))).await?;
    let made = until(&site, "web", "made", is_ours).await?;
    // As a backup restores it, or as it is left by a resource that was deleted without what it owns.
    let orphan = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
    services(&site).patch("web", &PatchParams::default(), &orphan).await?;
    let back = until(&site, "web", "owned again", is_ours).await?;
    assert_eq!(back.uid(), made.uid());
    // A resource that was made again.
    let orphaned =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    let old = site.leases().get("discovery").await?.uid();
    site.leases().delete("discovery", &orphaned).await?;
    // The garbage collector looks for new kinds of owners every 30 s.
    wait::until_true(SOON * 4, "it is gone", async || {
        site.leases().get_opt("discovery").await.is_ok_and(|lease| lease.is_none())
    })
    .await?;
    let again = json!({"routing": {"service": {"name": "web", "policy": "Manage", "ports": [{"port": 80}]}}});
    let new = site.make_lease(&lease_with("discovery", "discovery", &again)).await?.uid();
    let owned = until(&site, "web", "owned by the new one", |service| {
        service.owner_references().iter().any(|owner| Some(&owner.uid) == new.as_ref())
    })
    .await?;
    assert!(new != old && owned.owner_references().len() == 1, "{:?}", owned.owner_references());
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_managed_service_is_kept_as_it_is_described_and_what_others_add_stays() -> Result<()> {
    let (site, _controller) = led_site("template").await?;
    site.plane.needs_controllers()?;
    let template = json!({
        "labels": {"team": "x"}, "annotations": {"example.org/a": "b"},
        "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "http"}],
    });
    site.change("discovery", managed("web", &template)).await?;
    let made = until(&site, "web", "made", is_ours).await?;
    assert_eq!(made.labels().get("team").map(String::as_str), Some("x"));
    assert_eq!(made.annotations().get("example.org/a").map(String::as_str), Some("b"));
    let port = &made.spec.as_ref().and_then(|spec| spec.ports.as_ref()).expect("ports")[0];
    assert_eq!(serde_json::to_value(&port.target_port)?, json!(8080));
    assert_eq!(port.app_protocol.as_deref(), Some("http"));
    // Somebody adds theirs, and turns it to every type that there is.
    let theirs = Patch::Merge(json!({"metadata": {"labels": {"theirs": "1"}}}));
    services(&site).patch("web", &PatchParams::default(), &theirs).await?;
    for spec in [
        json!({"type": "NodePort"}),
        json!({"type": "LoadBalancer"}),
        json!({"type": "ExternalName", "externalName": "example.org"}),
        json!({"externalIPs": ["192.0.2.1"]}),
    ] {
        let bent = Patch::Merge(json!({ "spec": spec }));
        services(&site).patch("web", &PatchParams::default(), &bent).await?;
        until(&site, "web", "of type ClusterIP again", |service| {
            let external = service.spec.as_ref().and_then(|spec| spec.external_ips.as_ref());
            kind(service) == Some("ClusterIP") && external.is_none_or(Vec::is_empty)
        })
        .await?;
    }
    // Another template: what it does not ask for any more goes, what others have added stays.
    site.change("discovery", managed("web", &json!({"labels": {"tier": "y", "team": null}}))).await?;
    let changed = until(&site, "web", "relabelled", |service| service.labels().contains_key("tier")).await?;
    ensure!(!changed.labels().contains_key("team") && changed.labels().contains_key("theirs"), "{changed:?}");
    ensure!(!changed.annotations().contains_key("example.org/a"), "{changed:?}");
    // Without an address of its own it is another Service.
    site.change("discovery", managed("web", &json!({"headless": true, "ports": []}))).await?;
    let headless =
        |service: &Service| service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"));
    let anew = until(&site, "web", "headless", headless).await?;
    assert_ne!(anew.uid(), made.uid());
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_checked_service_of_any_type_that_selects_the_leader_will_do_and_is_not_touched() -> Result<()> {
    let (site, _controller) = led_site("types").await?;
    site.plane.needs_controllers()?;
    let ports = json!([{"port": 80}]);
    for (name, spec) in [
        ("cluster-ip", json!({"type": "ClusterIP", "ports": ports})),
        ("headless", json!({"clusterIP": "None"})),
        ("node-port", json!({"type": "NodePort", "ports": ports})),
        ("load-balancer", json!({"type": "LoadBalancer", "ports": ports})),
    ] {
        let mut service = json!({"metadata": {"name": name}, "spec": spec});
        service["spec"]["selector"] = json!({KEY: "leader"});
        let made = services(&site).create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        site.change("discovery", json!({"routing": {"service": {"name": name}}})).await?;
        let observed = site.leases().get("discovery").await?.metadata.generation;
        site.wait_for_lease("discovery", name, |lease| {
            let ready = crate::support::objects::condition(lease, "Ready");
            ready.is_some_and(|ready| ready.status == "True" && ready.observed_generation == observed)
        })
        .await?;
        let now = services(&site).get(name).await?;
        assert_eq!(now.resource_version(), made.resource_version(), "{name} was touched");
    }
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}
