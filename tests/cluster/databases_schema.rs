//! What the API server accepts of a LeaseDatabase and what it refuses, with what to write instead.

use anyhow::{Result, ensure};
use component_lease::api::LeaseDatabase;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::Site;
use crate::support::databases::{DATABASE, condition, database};

/// What the API server says to this resource; `None` where it takes it.
async fn said(site: &Site, database: &Value) -> Result<Option<String>> {
    let kind = ApiResource::erase::<LeaseDatabase>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(site.admin.clone(), site.name(), &kind);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&params, &serde_json::from_value(database.clone())?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(Some(status.message.clone())),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test(crate = "crate::harness")]
async fn a_database_that_cannot_work_is_refused_with_a_reason() -> Result<()> {
    let site = Site::new("dbschema").await?;
    let many: Vec<_> = (0..17).map(|n| format!("m-{n}")).collect();
    let service =
        |name: &str, policy: &str| json!({"name": name, "policy": policy, "ports": [{"port": 5432}]});
    let cases = [
        (json!({"members": ["a"]}), "should have at least 2 items"),
        (json!({"members": ["a", "b".repeat(64)]}), "spec.members[1]"),
        (json!({"lease": "l".repeat(190), "members": ["a", "b".repeat(63)]}), "253 characters together"),
        (json!({"members": many}), "must have at most 16 items"),
        (json!({"members": ["a", "a"]}), "Duplicate value"),
        (json!({"members": ["A_1"]}), "spec.members"),
        (json!({"engine": "Oracle"}), "Unsupported value"),
        (json!({"lease": "Not_A_Name"}), "spec.lease"),
        (json!({"selector": {}}), "spec.selector must not be empty"),
        (
            json!({"selector": {"matchLabels": {"componentlease.io/orders_role": "primary"}}}),
            "spec.selector must not use a label",
        ),
        (
            json!({"routing": {"writer": service("db", "Manage"), "readers": service("db", "Manage")}}),
            "different names",
        ),
        (json!({"routing": {"readers": service("db", "Check")}}), "readers.policy must be Manage"),
        (json!({"routing": {"writer": {"name": "db", "policy": "Manage"}}}), "needs ports"),
    ];
    for (spec, wanted) in cases {
        let answer = said(&site, &database(&spec)).await?;
        ensure!(answer.as_ref().is_some_and(|said| said.contains(wanted)), "{spec}: {answer:?}");
    }
    let mut long = database(&json!({}));
    long["metadata"]["name"] = json!("n".repeat(51));
    let answer = said(&site, &long).await?;
    ensure!(answer.as_ref().is_some_and(|said| said.contains("50 characters")), "{answer:?}");
    for taken in [
        json!({}),
        json!({"routing": {"writer": service("db", "Check")}}),
        json!({"lease": "other"}),
        json!({"lease": "l".repeat(189), "members": ["a", "b".repeat(63)]}),
    ] {
        ensure!(said(&site, &database(&taken)).await?.is_none(), "{taken}");
    }
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_new_database_is_pending_and_its_lease_and_class_cannot_be_changed() -> Result<()> {
    let site = Site::new("dbpending").await?;
    let made = site.make_database(&json!({})).await?;
    let ready = condition(&made, "Ready").map(|ready| (ready.status.as_str(), ready.reason.clone()));
    ensure!(ready == Some(("Unknown", "Pending".to_owned())), "{ready:?}");
    for (spec, wanted) in [
        (json!({"lease": "other"}), "spec.lease cannot be changed"),
        (json!({"className": "other"}), "spec.className cannot be changed"),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let refused = site.databases().patch(DATABASE, &PatchParams::default(), &patch).await;
        let refused = refused.map(drop).map_err(|error| error.to_string());
        ensure!(refused.as_ref().is_err_and(|said| said.contains(wanted)), "{spec}: {refused:?}");
    }
    Ok(())
}
