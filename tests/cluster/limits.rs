//! What the API server refuses: what may not change in a resource, and what our account may not do.

use anyhow::{Result, ensure};
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::objects::{lease, lease_with, typed};
use crate::support::{KEY, LONG, SOON, Site, client, led_site};

/// What the API server says when it refuses.
pub fn refusal<T>(answer: Result<T, kube::Error>) -> Result<String> {
    match answer {
        Ok(_) => anyhow::bail!("it was allowed"),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => Ok(status.message.clone()),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test(crate = "crate::harness")]
async fn the_component_cannot_be_changed_and_the_floor_cannot_go_down() -> Result<()> {
    let (site, controller) = led_site("immutable").await?;
    let params = PatchParams::default();
    let patch = async |spec: Value| {
        site.leases().patch("discovery", &params, &Patch::Merge(json!({"spec": spec}))).await
    };
    let message = refusal(patch(json!({"componentName": "other"})).await)?;
    ensure!(message.contains("spec.componentName cannot be changed"), "{message}");
    let own = json!({"componentName": format!("{}/a", site.name())});
    site.make_lease(&lease_with("said", "said", &own)).await?;
    for other in [json!("other"), Value::Null] {
        let patch = Patch::Merge(json!({"spec": {"componentName": other}}));
        let message = refusal(site.leases().patch("said", &params, &patch).await)?;
        ensure!(message.contains("cannot be changed, added or removed"), "{message}");
    }

    controller.stop().await?;
    for lower in [json!({"versionFloor": 0}), json!({"versionFloor": null})] {
        let patch = Patch::Merge(json!({ "status": lower }));
        let message = refusal(site.leases().patch_status("discovery", &params, &patch).await)?;
        ensure!(message.contains("versionFloor never decreases"), "{message}");
    }
    Ok(())
}

/// The managed fields of an object on which nobody but us has written anything.
fn ours_alone(version: &str) -> Value {
    json!({
        "manager": "component-lease", "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:componentlease.io/discovery": {}}}},
    })
}

/// A client with the account of the chart.
pub async fn account(site: &Site) -> Result<Client> {
    client(&site.account).await
}

#[tokio::test(crate = "crate::harness")]
async fn our_account_changes_its_own_keys_on_pods_and_nothing_else() -> Result<()> {
    let (site, _controller) = led_site("policy").await?;
    let pods: Api<Pod> = Api::namespaced(account(&site).await?, site.name());
    // Dry: what is done before the policy is in force would be no change when it is.
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch =
        async |patch: Value, params: &PatchParams| pods.patch("d-2", params, &Patch::Strategic(patch)).await;
    let forbidden = [
        (json!({"spec": {"containers": [{"name": "main", "image": "localhost/evil:1"}]}}), "spec of a pod"),
        (json!({"metadata": {"labels": {"app": "other"}}}), "pod label app"),
        (json!({"metadata": {"labels": {"app": null}}}), "pod label app"),
        (json!({"metadata": {"annotations": {"example.com/a": "b"}}}), "pod annotation example.com/a"),
        (json!({"metadata": {"finalizers": ["example.com/stay"]}}), "finalizers of a pod"),
        (
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "d-0", "uid": "1"}]}}),
            "owners of a pod",
        ),
        (json!({"metadata": {"managedFields": [{}]}}), "wipe the managed fields of a pod"),
        (json!({"metadata": {"managedFields": [ours_alone("v1")]}}), "wipe the managed fields of a pod"),
    ];
    for (change, said) in forbidden {
        // The policy is in force some moments after it was made.
        let message = wait::until(SOON, format!("{change} is refused"), async || {
            Ok(Some(refusal(patch(change.clone(), &dry).await)?))
        })
        .await?;
        ensure!(message.contains(said), "{change}: {message}");
    }
    for value in [json!("x"), Value::Null] {
        let change = json!({"metadata": {"labels": {"componentlease.io/other": value}}});
        patch(change, &PatchParams::default()).await?;
    }
    ensure!(
        refusal(pods.delete("d-2", &kube::api::DeleteParams::default()).await)?.contains("cannot delete")
    );
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn our_account_touches_of_resources_only_what_it_must() -> Result<()> {
    let (site, _controller) = led_site("policy").await?;
    let account = account(&site).await?;
    let leases: Api<component_lease::api::ComponentLease> = Api::namespaced(account.clone(), site.name());
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let forbidden = [
        (json!({"spec": {"ttlSeconds": 60}}), "may not change the spec"),
        (json!({"metadata": {"annotations": {"a": "b"}}}), "no annotation of a ComponentLease but"),
        (json!({"metadata": {"labels": {"a": "b"}}}), "may not change labels, finalizers or owners"),
        (
            json!({"metadata": {"finalizers": ["example.com/stay"]}}),
            "may not change labels, finalizers or owners",
        ),
        (json!({"metadata": {"managedFields": [{}]}}), "wipe the managed fields of a ComponentLease"),
        (
            json!({"metadata": {"managedFields": [ours_alone("componentlease.io/v1alpha1")]}}),
            "wipe the managed fields of a ComponentLease",
        ),
    ];
    for (change, said) in forbidden {
        let message = wait::until(SOON, format!("{change} is refused"), async || {
            Ok(Some(refusal(leases.patch("discovery", &params, &Patch::Merge(change.clone())).await)?))
        })
        .await?;
        ensure!(message.contains(said), "{change}: {message}");
    }
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(account, site.name());
    ensure!(refusal(secrets.list(&kube::api::ListParams::default()).await)?.contains("cannot list"));
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_list_of_namespaces_needs_roles_in_them_and_none_in_the_cluster() -> Result<()> {
    let site = Site::new("listed").await?;
    let other = site.plane.namespace("listed").await?;
    let unlisted = Site::new("unlisted").await?;
    let site = site.also_watch(&[other.name()]).await?;
    for namespace in [site.name(), other.name(), unlisted.name()] {
        let pods = [component_lease_testkit::control_plane::FakePod::new("d-0", "discovery")];
        site.plane.fake_pods(namespace, &pods).await?;
        let leases: Api<component_lease::api::ComponentLease> =
            Api::namespaced(site.admin.clone(), namespace);
        leases.create(&PostParams::default(), &typed(&lease("discovery", "discovery"))).await?;
        site.rows.take(&format!("{namespace}/discovery"), "d-0", LONG).await?;
    }
    let mut config = crate::support::controller::config(&site, "only");
    config.namespaces = vec![site.name().to_owned(), other.name().to_owned()];
    let _controller = crate::support::Replica::start_with(&site, config).await?;
    let labelled = async |namespace: &str| {
        let pods: Api<Pod> = Api::namespaced(site.admin.clone(), namespace);
        let pod = pods.get("d-0").await?;
        anyhow::Ok(pod.metadata.labels.unwrap_or_default().get(KEY).cloned())
    };
    for namespace in [site.name(), other.name()] {
        wait::until(SOON, format!("the label in {namespace}"), async || {
            Ok((labelled(namespace).await?.as_deref() == Some("leader")).then_some(()))
        })
        .await?;
    }
    ensure!(labelled(unlisted.name()).await?.is_none(), "nobody asked for that one");
    let bindings = site.plane.kubectl(&["get", "clusterrolebindings", "-o", "name"]).await?;
    let ours: Vec<_> = bindings.lines().filter(|binding| binding.contains(site.name())).collect();
    let read_only = [".component-lease.nodes", ".component-lease.releases"];
    ensure!(ours.iter().zip(read_only).all(|(binding, end)| binding.ends_with(end)), "{ours:?}");
    assert_eq!(ours.len(), read_only.len());
    let account = account(&site).await?;
    let everywhere: Api<Pod> = Api::all(account.clone());
    ensure!(refusal(everywhere.list(&kube::api::ListParams::default()).await)?.contains("cannot list"));
    // To notice other releases.
    let everywhere: Api<k8s_openapi::api::coordination::v1::Lease> = Api::all(account);
    everywhere.list(&kube::api::ListParams::default()).await?;
    Ok(())
}
