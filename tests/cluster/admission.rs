//! What our account may do to Services: make, take back, correct, release and delete those of ComponentLeases.

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::limits::{account, refusal};
use crate::support::{KEY, SOON, led_site};

const MARK: &str = "app.kubernetes.io/managed-by";

const MARKED: &str = "only Services labelled";
const TYPES: &str = "only Services of type ClusterIP";
const OWNED: &str = "belongs to one ComponentLease or LeaseDatabase and carries its mark";
const SOMEBODYS: &str = "a Service that somebody else owns";
const SELECTS: &str = "only Services that select a label of its own";
const UNREADY: &str = "reach pods that are not ready";
const FINALIZERS: &str = "the finalizers of a Service";
const MANAGED_FIELDS: &str = "wipe the managed fields of a Service";

/// What is spoilt of a Service that may be made, and what the API server says to it.
fn not_to_be_made(owner: &Value) -> Vec<(Value, &'static str)> {
    let with = |key: &str, value: Value| {
        let mut owner = owner.clone();
        owner[key] = value;
        owner
    };
    let owned = |owners: Value| json!({"metadata": {"ownerReferences": owners}});
    vec![
        (json!({"metadata": {"labels": {MARK: "somebody"}}}), MARKED),
        (json!({"metadata": {"labels": {MARK: null}}}), MARKED),
        (json!({"spec": {"type": "LoadBalancer"}}), TYPES),
        (json!({"spec": {"type": "NodePort"}}), TYPES),
        (json!({"spec": {"type": "ExternalName", "externalName": "example.org"}}), TYPES),
        (json!({"spec": {"externalIPs": ["192.0.2.1"]}}), TYPES),
        (owned(json!([])), OWNED),
        (owned(json!([with("kind", json!("ConfigMap"))])), OWNED),
        (owned(json!([with("apiVersion", json!("example.org/v1"))])), OWNED),
        (owned(json!([with("controller", json!(false))])), OWNED),
        (owned(json!([with("blockOwnerDeletion", json!(true))])), OWNED),
        (owned(json!([owner, with("controller", json!(false))])), OWNED),
        (json!({"spec": {"selector": {"app": "discovery", KEY: null}}}), SELECTS),
        (json!({"spec": {"selector": null}}), SELECTS),
        (json!({"spec": {"publishNotReadyAddresses": true}}), UNREADY),
        (json!({"metadata": {"finalizers": ["example.com/stay"]}}), FINALIZERS),
    ]
}

/// As a merge patch does it.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *into = patch.clone() };
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().map(|fields| fields.remove(key))),
            value => merge(&mut into[key], value),
        }
    }
}

#[tokio::test(crate = "crate::harness")]
async fn our_account_makes_changes_and_deletes_only_services_such_as_the_controller_does() -> Result<()> {
    let (site, controller) = led_site("services-policy").await?;
    let by_admin: Api<Service> = Api::namespaced(site.admin.clone(), site.name());
    let services: Api<Service> = Api::namespaced(account(&site).await?, site.name());
    let owner = json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease", "name": "discovery",
        "uid": site.leases().get("discovery").await?.uid(), "controller": true,
    });
    let service = |name: &str, change: &Value| {
        let mut service = json!({
            "metadata": {"name": name, "labels": {MARK: "component-lease"}, "ownerReferences": [owner]},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "discovery", KEY: "leader"}},
        });
        merge(&mut service, change);
        serde_json::from_value::<Service>(service)
    };
    // Dry: what is done before the policy is in force would be no change when it is.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (change, said) in not_to_be_made(&owner) {
        let message = wait::until(SOON, format!("{change} is refused"), async || {
            Ok(Some(refusal(services.create(&dry, &service("ours", &change)?).await)?))
        })
        .await?;
        ensure!(message.contains(said), "{change}: {message}");
    }
    for allowed in [json!({}), json!({"spec": {"clusterIP": "None"}})] {
        services.create(&dry, &service("ours", &allowed)?).await.with_context(|| format!("{allowed}"))?;
    }

    // One that the controller has made.
    site.change(
        "discovery",
        json!({"routing": {"service": {
            "name": "web", "policy": "Manage", "ports": [{"port": 80}],
        }}}),
    )
    .await?;
    wait::until(SOON, "the Service is made", async || by_admin.get_opt("web").await.map_err(Into::into))
        .await?;
    site.wait_until_ready("discovery").await?;
    controller.stop().await?;
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = async |name: &str, change: &Value| services.patch(name, &params, &Patch::Merge(change)).await;
    let released = json!({"metadata": {"labels": {MARK: null}, "ownerReferences": []}});
    let opened =
        json!({"metadata": {"labels": {MARK: null}, "ownerReferences": []}, "spec": {"type": "NodePort"}});
    let moreover = [
        (opened, TYPES),
        (json!({"metadata": {"labels": {MARK: null}}}), OWNED),
        (json!({"metadata": {"managedFields": [{}]}}), MANAGED_FIELDS),
    ];
    let already = |(change, said): &(Value, &str)| *said == MARKED || change["spec"]["selector"].is_object();
    let spoilt = not_to_be_made(&owner).into_iter().filter(|case| !already(case));
    for (change, said) in spoilt.chain(moreover) {
        let message = refusal(patch("web", &change).await).with_context(|| format!("{change}"))?;
        ensure!(message.contains(said), "{change}: {message}");
    }
    patch("web", &released).await?;
    // As a backup restores it.
    by_admin
        .create(&PostParams::default(), &service("orphan", &json!({"metadata": {"ownerReferences": []}}))?)
        .await?;
    patch("orphan", &json!({"metadata": {"ownerReferences": [owner]}})).await?;

    // Those of others, whatever is to be done to them.
    let config = json!({"metadata": {"name": "theirs"}});
    let configs: Api<ConfigMap> = Api::namespaced(site.admin.clone(), site.name());
    let config = configs.create(&PostParams::default(), &serde_json::from_value(config)?).await?;
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": config.uid()});
    let unmarked = json!({"metadata": {"labels": {MARK: null}, "ownerReferences": []}});
    for (name, change, said) in [
        ("unmarked", unmarked, MARKED),
        ("theirs", json!({"metadata": {"ownerReferences": [theirs]}}), SOMEBODYS),
        ("shared", json!({"metadata": {"ownerReferences": [owner, theirs]}}), SOMEBODYS),
    ] {
        by_admin.create(&PostParams::default(), &service(name, &change)?).await?;
        let taken = json!({"metadata": {"labels": {MARK: "component-lease"}, "ownerReferences": [owner]}});
        for change in [&taken, &released] {
            let message = refusal(patch(name, change).await).with_context(|| format!("{name}: {change}"))?;
            ensure!(message.contains(said), "{name}: {message}");
        }
        let message = refusal(services.delete(name, &DeleteParams::default()).await).context(name)?;
        ensure!(message.contains(said), "{name}: {message}");
        ensure!(by_admin.get_opt(name).await?.is_some(), "{name} is gone");
    }
    for name in ["web", "orphan"] {
        services.delete(name, &DeleteParams { dry_run: true, ..DeleteParams::default() }).await?;
    }
    Ok(())
}
