//! What the API server accepts of a resource and what it refuses, with what to write instead.

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{ComponentLease, OnDatabaseUnreachable, ServicePolicy};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::support::Site;
use crate::support::objects::{condition, lease, lease_with};

/// Resources as they stand: the types would not let all of it through.
fn raw(site: &Site) -> Api<DynamicObject> {
    Api::namespaced_with(site.admin.clone(), site.name(), &ApiResource::erase::<ComponentLease>(&()))
}

/// What the API server says to this spec; `None` where it takes it.
async fn said(site: &Site, lease: &Value) -> Result<Option<String>> {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match raw(site).create(&params, &serde_json::from_value(lease.clone())?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(Some(status.message.clone())),
        Err(other) => Err(other.into()),
    }
}

/// The message for a malformed label key.
const KEYS: &str = "at most 63 letters";
/// The message for an invalid target port.
const NAMES: &str = "a port's name";

fn service(service: &Value) -> Value {
    let mut whole = json!({"name": "s", "policy": "Manage", "ports": [{"port": 80}]});
    for (key, value) in service.as_object().expect("fields of a Service") {
        whole[key] = value.clone();
    }
    json!({"routing": {"service": whole}})
}

fn ports(ports: &Value) -> Value {
    service(&json!({ "ports": ports }))
}

fn matching(labels: &Value) -> Value {
    json!({"selector": {"matchLabels": labels}})
}

fn keyed(key: &str) -> Value {
    json!({"selector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}})
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_that_cannot_work_is_refused_with_a_reason() -> Result<()> {
    let site = Site::new("schema").await?;
    let long = "n".repeat(64);
    let prefix = format!("{}/x", vec!["p".repeat(63); 4].join("."));
    let cases = [
        (json!({"ttlSeconds": 4}), "greater than or equal to 5"),
        (json!({"ttlSeconds": 3601}), "less than or equal to 3600"),
        (json!({"componentName": "a b"}), "componentName"),
        (json!({"componentName": "a\tb"}), "componentName"),
        // Patterns.
        (json!({"holderPattern": "(.*)"}), "holderPattern"),
        (json!({"holderPattern": "worker@(?P<pod>[-a-z0-9.]+"}), "missing closing"),
        (json!({"holderPattern": "(?P<pod>[a-z)"}), "missing closing"),
        (json!({"holderPattern": "*(?P<pod>a)"}), "missing argument"),
        // Selectors.
        (json!({"selector": {}}), "spec.selector must not be empty"),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "In and NotIn need values",
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
            "Exists and DoesNotExist take none",
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}}),
            "values",
        ),
        (matching(&json!({"a b": "c"})), KEYS),
        (matching(&json!({long.as_str(): "c"})), KEYS),
        (matching(&json!({prefix.as_str(): "c"})), KEYS),
        (matching(&json!({"Prefix/a": "c"})), KEYS),
        (matching(&json!({"a..b/c": "c"})), KEYS),
        (matching(&json!({"/c": "c"})), KEYS),
        (matching(&json!({"a": "-"})), "matchLabels.a"),
        (matching(&json!({"a": long})), "matchLabels.a"),
        (keyed("a/b/c"), KEYS),
        (keyed("a_"), KEYS),
        (matching(&json!({"componentlease.io/x": "leader"})), "the controller moves it"),
        (keyed("componentlease.io/x"), "the controller moves it"),
        // The label.
        (json!({"routing": {"leaderValue": "x", "standbyValue": "x"}}), "must differ"),
        (json!({"routing": {"leaderValue": "x y"}}), "leaderValue"),
        (json!({"routing": {"standbyValue": "-"}}), "standbyValue"),
        (json!({"routing": {"labelKey": "app"}}), "must not be part of spec.selector"),
        (json!({"routing": {"labelKey": "a b"}}), KEYS),
        (json!({"routing": {"labelKey": prefix}}), KEYS),
        (
            json!({"routing": {"labelKey": "componentlease.io/orders_role"}}),
            "leads to the primary of a LeaseDatabase",
        ),
        (json!({"routing": {"onDatabaseUnreachable": "Wait"}}), "onDatabaseUnreachable"),
        // The Service.
        (service(&json!({"name": "S"})), "service.name"),
        (service(&json!({"name": "a.b"})), "service.name"),
        (service(&json!({"name": "-a"})), "service.name"),
        (service(&json!({"name": long})), "service.name"),
        (service(&json!({"name": "1a"})), "begins with a letter"),
        (service(&json!({"type": "LoadBalancer"})), "service.type"),
        (service(&json!({"type": "NodePort"})), "service.type"),
        (service(&json!({"type": "ExternalName"})), "service.type"),
        (service(&json!({"labels": {"a b": "c"}})), KEYS),
        (service(&json!({"labels": {"a": "b c"}})), "labels.a"),
        (service(&json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}})), "the controller's own"),
        (service(&json!({"annotations": {"componentlease.io/x": "y"}})), "the controller's own"),
        (service(&json!({"annotations": {"a b": "c"}})), KEYS),
        // Ports.
        (ports(&json!([])), "a managed Service needs ports"),
        (ports(&json!([{"port": 0}])), "greater than or equal to 1"),
        (ports(&json!([{"port": 65536}])), "less than or equal to 65535"),
        (ports(&json!([{"port": 80}, {"port": 81}])), "each needs a name"),
        (ports(&json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}])), "the same name"),
        (ports(&json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}])), "Duplicate value"),
        (ports(&json!([{"port": 80, "name": "A"}])), "name"),
        (ports(&json!([{"port": 80, "name": "a-"}])), "name"),
        (ports(&json!([{"port": 80, "protocol": "HTTP"}])), "protocol"),
        (ports(&json!([{"port": 80, "appProtocol": "a b"}])), KEYS),
        (ports(&json!([{"port": 80, "targetPort": 0}])), NAMES),
        (ports(&json!([{"port": 80, "targetPort": 65536}])), NAMES),
        (ports(&json!([{"port": 80, "targetPort": "8080"}])), NAMES),
        (ports(&json!([{"port": 80, "targetPort": "a--b"}])), NAMES),
        (ports(&json!([{"port": 80, "targetPort": "Http"}])), NAMES),
        (ports(&json!([{"port": 80, "targetPort": "a-name-too-longx"}])), "targetPort"),
        (ports(&json!([{"port": 80, "targetPort": 1.5}])), "targetPort"),
    ];
    for (spec, piece) in cases {
        let said = said(&site, &lease_with("x", "a", &spec)).await?;
        let said = said.with_context(|| format!("{spec} is accepted"))?;
        ensure!(said.contains(piece), "{spec} is refused without {piece:?}: {said}");
    }
    let named = said(&site, &lease(&"n".repeat(56), "a")).await?.context("a long name is accepted")?;
    ensure!(named.contains("55 characters at most"), "{named}");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn what_everybody_writes_is_accepted() -> Result<()> {
    let site = Site::new("accepted").await?;
    for spec in [
        json!({"componentName": "any/Thing_with.dots:1"}),
        json!({"holderPattern": r"worker@(?P<pod>[-a-z0-9.]+)/\d+"}),
        json!({"holderPattern": "(?<pod>[a-z]+)"}),
        matching(&json!({"app.kubernetes.io/name": "a", "App": "", "x_y.z": "A.b-c_d"})),
        keyed("example.org/tier"),
        // That label is another resource's.
        matching(&json!({"componentlease.io/other": "leader"})),
        json!({"routing": {"labelKey": "example.org/Role.x_y", "leaderValue": "Active", "standbyValue": "0"}}),
        // An existing Service may have a name that older clusters did not let one make.
        json!({"routing": {"service": {"name": "1a"}}}),
        service(&json!({"headless": true, "ports": []})),
        service(
            &json!({"type": "ClusterIP", "labels": {"team": "x"}, "annotations": {"example.org/a": "any text"}}),
        ),
        ports(&json!([{"port": 80, "targetPort": 8080}])),
        ports(&json!([{"port": 80, "targetPort": "http"}])),
        ports(&json!([{"port": 80, "targetPort": "fifteen-letters"}])),
        ports(&json!([{"port": 443, "targetPort": 8443, "appProtocol": "https"}])),
        ports(&json!([{"port": 53, "name": "dns"}, {"port": 53, "name": "dns-udp", "protocol": "UDP"}])),
        ports(
            &json!([{"port": 80, "name": "grpc", "appProtocol": "kubernetes.io/h2c", "targetPort": "grpc-web1"}]),
        ),
    ] {
        let said = said(&site, &lease_with("x", "a", &spec)).await?;
        ensure!(said.is_none(), "{spec} is refused: {said:?}");
    }
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_new_resource_says_that_no_controller_has_looked_at_it_yet() -> Result<()> {
    let site = Site::new("pending").await?;
    for made in [site.make_lease(&lease("x", "a")).await?, site.leases().get("x").await?] {
        let ready = condition(&made, "Ready").context("no Ready")?;
        ensure!(ready.status == "Unknown" && ready.reason == "Pending", "{ready:?}");
    }
    let table = site.kubectl(&["get", "componentleases"]).await?;
    let header: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "LEADER", "HOLDER", "VERSION", "TTL", "READY", "REASON", "AGE"]);
    ensure!(table.contains("Unknown") && table.contains("Pending"), "{table}");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn resources_are_found_by_their_component_and_are_no_part_of_all() -> Result<()> {
    let site = Site::new("found").await?;
    let key = format!("{}/key", site.name());
    site.make_lease(&lease_with("one", "a", &json!({ "componentName": key }))).await?;
    site.make_lease(&lease("two", "a")).await?;
    let found =
        site.leases().list(&ListParams::default().fields(&format!("spec.componentName={key}"))).await?;
    assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["one"]);
    let all = site.kubectl(&["get", "all", "-o", "name"]).await?;
    ensure!(!all.contains("componentlease"), "{all}");
    let ours = site.kubectl(&["get", "component-lease", "-o", "name"]).await?;
    ensure!(ours.lines().count() == 2, "{ours}");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn of_two_managers_of_one_selector_the_later_one_has_it_whole_and_only_by_force() -> Result<()> {
    let site = Site::new("managers").await?;
    let apply = async |manager: &str, labels: Value, force: bool| {
        let patch = json!({
            "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
            "metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": labels}},
        });
        let params = PatchParams { force, ..PatchParams::apply(manager) };
        site.leases().patch("x", &params, &Patch::Apply(patch)).await
    };
    apply("one", json!({"app": "one"}), false).await?;
    match apply("two", json!({"tier": "two"}), false).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            ensure!(status.message.contains(".spec.selector"), "{}", status.message);
        }
        other => anyhow::bail!("merged: {other:?}"),
    }
    let now = apply("two", json!({"tier": "two"}), true).await?;
    assert_eq!(now.spec.selector.match_labels, [("tier".to_owned(), "two".to_owned())].into());
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_of_the_older_shape_loses_its_old_fields_and_its_service_is_only_checked() -> Result<()> {
    let site = Site::new("older").await?;
    let old = json!({"routing": {
        "onStoreUnreachable": "Remove",
        "service": {"name": "web", "managed": true, "ports": [{"port": 80, "targetPort": "http"}]},
    }});
    // kubectl tells its user before anything is written.
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lease_with("x", "a", &old).to_string())?;
    let path = file.path().to_string_lossy().into_owned();
    let Err(refused) = site.kubectl(&["create", "-f", &path]).await else {
        anyhow::bail!("kubectl takes the old fields");
    };
    let refused = format!("{refused:#}");
    for field in ["spec.routing.onStoreUnreachable", "spec.routing.service.managed"] {
        ensure!(refused.contains(field), "{refused}");
    }
    // A client that does not ask for validation finds the defaults.
    raw(&site).create(&PostParams::default(), &serde_json::from_value(lease_with("x", "a", &old))?).await?;
    let kept = site.leases().get("x").await?.spec.routing;
    assert_eq!(kept.on_database_unreachable, OnDatabaseUnreachable::Keep);
    assert_eq!(kept.service.map(|service| service.policy), Some(ServicePolicy::Check));
    Ok(())
}
