//! Who asks, as the cluster fills it in where it can: by a MutatingAdmissionPolicy, which not every cluster serves.

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::control_plane::ControlPlane;
use component_lease_testkit::wait;
use serde_json::{Value, json};

use crate::support::{SOON, install_crd, rendered};

/// In Kubernetes 1.35 the kind has to be enabled.
const ENABLED: &str =
    "--feature-gates=MutatingAdmissionPolicy=true --runtime-config=admissionregistration.k8s.io/v1beta1=true";
const SERVED: &str = "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy";

/// A request of ada's, as it would be stored; `by` is the name that it gives.
async fn asked(plane: &ControlPlane, by: Option<&str>) -> Result<Value> {
    let request = json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "LeaseRequest",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {"lease": "web", "verb": "StepDown", "requestedBy": by},
    });
    let create = ["--as", "ada", "create", "--dry-run=server", "-o", "json", "-f", "-"];
    let said = plane.kubectl_with_input(&create, &request.to_string()).await?;
    serde_json::from_str(&said).with_context(|| said)
}

#[tokio::test(crate = "crate::harness")]
async fn who_leaves_its_name_out_is_given_it_and_a_forged_one_is_refused_as_before() -> Result<()> {
    let plane = ControlPlane::start_with(&[("APISERVER_FLAGS", ENABLED)]).await?;
    install_crd(&plane).await?;
    plane
        .kubectl(&["create", "clusterrolebinding", "ada", "--clusterrole=cluster-admin", "--user=ada"])
        .await?;
    // Rights are in force a moment after they were given.
    wait::until(SOON, "ada's right to ask", async || {
        let can = ["auth", "can-i", "create", "leaserequests.componentlease.io", "--as", "ada"];
        plane.kubectl(&can).await.map(Some)
    })
    .await?;
    let said = asked(&plane, None).await.map_or_else(|error| format!("{error:#}"), |made| made.to_string());
    ensure!(said.contains("spec.requestedBy: Required value"), "before there is a policy: {said}");
    let policies = rendered("default", &["verify-requesters"], &["--api-versions", SERVED]).await?;
    plane.apply(&policies).await?;
    // Policies are in force a moment after they were made.
    wait::until(SOON, "the name is filled in", async || {
        let made = asked(&plane, None).await?;
        ensure!(made["spec"]["requestedBy"] == "ada", "{made}");
        Ok(Some(()))
    })
    .await?;
    assert_eq!(asked(&plane, Some("ada")).await?["spec"]["requestedBy"], "ada");
    wait::until(SOON, "another name is refused", async || {
        let said = asked(&plane, Some("bo"))
            .await
            .map_or_else(|error| format!("{error:#}"), |made| made.to_string());
        ensure!(said.contains("must be the name of the user who makes the request, ada"), "{said}");
        Ok(Some(()))
    })
    .await
}
