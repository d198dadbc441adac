//! What the API server accepts of a request, and what it refuses with which words.

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{LeaseRequest, RequestState};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::Site;
use crate::support::objects::request;

/// What the API server says to this spec; `None` where it takes it.
async fn said(site: &Site, spec: &Value) -> Result<Option<String>> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(site.admin.clone(), site.name(), &ApiResource::erase::<LeaseRequest>(&()));
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&params, &serde_json::from_value(request("x", spec))?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(Some(status.message.clone())),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test(crate = "crate::harness")]
async fn a_request_that_makes_no_sense_is_refused_with_a_reason_and_one_that_does_cannot_be_changed()
-> Result<()> {
    let site = Site::new("requests-schema").await?;
    for (spec, piece) in [
        (json!({"verb": "Promote"}), "spec.target is required for Promote"),
        (json!({"verb": "PromoteNow", "reason": "it hangs"}), "spec.target is required for Promote"),
        (json!({"verb": "PromoteNow", "target": "d-1"}), "spec.reason is required for PromoteNow"),
        (json!({"verb": "PromoteNow", "target": "d-1", "reason": "  "}), "spec.reason is required"),
        (json!({"verb": "StepDown", "target": "d-1"}), "spec.target is not allowed for StepDown"),
        (json!({"verb": "Resign"}), "spec.verb"),
        (json!({"verb": null}), "spec.verb"),
        (json!({"lease": ""}), "spec.lease"),
        (json!({"lease": "A b"}), "spec.lease"),
        (json!({"target": "a b"}), "spec.target"),
        (json!({"reason": "two\nlines"}), "spec.reason"),
        (json!({"reason": "r".repeat(1025)}), "spec.reason"),
        (json!({"requestedBy": null}), "spec.requestedBy"),
        (json!({"requestedBy": ""}), "spec.requestedBy"),
        (json!({"requestedBy": "ada\u{2028}bo"}), "spec.requestedBy"),
        (json!({"requestedBy": "a".repeat(254)}), "spec.requestedBy"),
        (json!({"expectVersion": 0}), "spec.expectVersion"),
        (json!({"replaces": "a b"}), "spec.replaces"),
        (json!({"awaySeconds": 5}), "spec.awaySeconds is for StepDown alone"),
        (json!({"verb": "StepDown", "awaySeconds": 0}), "spec.awaySeconds"),
        (json!({"ttlSecondsAfterFinished": -1}), "spec.ttlSecondsAfterFinished"),
    ] {
        let said = said(&site, &spec).await?.with_context(|| format!("{spec} is accepted"))?;
        ensure!(said.contains(piece), "{spec} is refused without {piece:?}: {said}");
    }
    for spec in [
        json!({}),
        json!({"target": "d-1_8b7e12c0_1f0c9a3d", "reason": "noch 1 Grund: \"Wartung\"", "dryRun": true}),
        json!({"verb": "StepDown", "awaySeconds": 600, "expectHolder": "a b", "expectVersion": 7_000_001}),
        json!({"verb": "PromoteNow", "target": "d-1", "reason": "it hangs"}),
        json!({"requestedBy": "system:serviceaccount:ops:x", "replaces": "7c0d", "ttlSecondsAfterFinished": 0}),
    ] {
        let said = said(&site, &spec).await?;
        ensure!(said.is_none(), "{spec} is refused: {said:?}");
    }

    let requests = site.requests();
    let plain = serde_json::from_value(request("x", &json!({})))?;
    let made = requests.create(&PostParams::default(), &plain).await?;
    assert_eq!(made.status.map(|status| status.state), Some(RequestState::Pending));
    assert_eq!((made.spec.dry_run, made.spec.ttl_seconds_after_finished), (false, 3600));
    for change in [json!({"verb": "StepDown"}), json!({"reason": "another"}), json!({"requestedBy": "bo"})] {
        let patch = Patch::Merge(json!({ "spec": change }));
        let Err(kube::Error::Api(refused)) = requests.patch("x", &PatchParams::default(), &patch).await
        else {
            anyhow::bail!("{change} is accepted");
        };
        ensure!(refused.message.contains("cannot be changed"), "{}", refused.message);
    }
    let table = site.kubectl(&["get", "lreq"]).await?;
    let header: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "LEASE", "VERB", "TARGET", "STATE", "REASON", "SECONDS", "AGE"]);
    ensure!(table.contains("Switchover") && table.contains("Pending"), "{table}");
    let found = requests.list(&ListParams::default().fields("spec.lease=discovery")).await?;
    ensure!(found.items.len() == 1, "{found:?}");
    Ok(())
}
