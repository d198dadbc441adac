//! The control plane that the tests are built on, tested itself.

use std::time::Duration;

use anyhow::Result;
use component_lease_testkit::control_plane::{self, ControlPlane, FakePod};
use component_lease_testkit::wait;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_fake_pod_is_ready_and_becomes_an_endpoint_of_its_service() -> Result<()> {
    let plane = control_plane::shared().await?;
    plane.needs_controllers()?;
    let restricted = ["pod-security.kubernetes.io/enforce=restricted"];
    let namespace = plane.namespace_with_labels("pods", &restricted).await?;
    let ns = namespace.name();
    plane.kubectl(&["-n", ns, "create", "service", "clusterip", "web", "--tcp=80"]).await?;
    let pods = [FakePod::new("web-0", "web"), FakePod::new("web-1", "web").not_ready()];
    plane.fake_pods(ns, &pods).await?;
    wait::until_true(PATIENCE, "one ready endpoint of two", async || {
        let slices = plane.get(&["-n", ns, "endpointslices"]).await.unwrap_or_default();
        let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        let ready = endpoints.iter().filter(|one| one["conditions"]["ready"] == true);
        let addresses: Vec<_> = ready.map(|one| one["addresses"][0].clone()).collect();
        endpoints.len() == 2 && addresses == [pods[0].address.as_str()]
    })
    .await
}

#[tokio::test]
async fn the_audit_log_names_who_wrote_what_and_leaves_reads_out() -> Result<()> {
    let plane = control_plane::shared().await?;
    plane
        .in_namespace("audit", async |ns| {
            let mark = plane.audit_mark()?;
            plane.kubectl(&["-n", ns, "create", "configmap", "one"]).await?;
            plane.kubectl(&["-n", ns, "get", "configmap", "one"]).await?;
            let writes = plane.writes_since(mark)?;
            let ours: Vec<_> = writes.iter().filter(|w| w.namespace == ns && w.name == "one").collect();
            assert_eq!(ours.len(), 1, "{ours:?}");
            assert_eq!((ours[0].verb.as_str(), ours[0].user.as_str()), ("create", "admin"));
            assert_eq!((ours[0].resource.as_str(), ours[0].code), ("configmaps", 201));
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_service_account_may_do_what_it_was_granted_and_nothing_else() -> Result<()> {
    let plane = control_plane::shared().await?;
    let namespace = plane.namespace("rbac").await?;
    let ns = namespace.name();
    for arguments in [
        &["create", "serviceaccount", "reader"][..],
        &["create", "role", "reader", "--verb=list", "--resource=pods"],
        &["create", "rolebinding", "reader", "--role=reader", &format!("--serviceaccount={ns}:reader")],
    ] {
        plane.kubectl(&[&["-n", ns], arguments].concat()).await?;
    }
    let kubeconfig = plane.kubeconfig_for(ns, "reader").await?;
    let as_reader = async |what: &str| {
        let mut kubectl = tokio::process::Command::new(control_plane::program("kubectl")?);
        kubectl.arg("--kubeconfig").arg(&kubeconfig).args(["-n", ns, "get", what]);
        anyhow::Ok(kubectl.output().await?)
    };
    assert!(as_reader("pods").await?.status.success());
    let refused = as_reader("secrets").await?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains(&format!("system:serviceaccount:{ns}:reader")), "{words}");
    assert!(words.contains("cannot list resource"), "{words}");
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_was_killed_comes_back_with_its_objects() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let namespace = plane.namespace("kept").await?;
    plane.kill_apiserver().await?;
    assert!(plane.kubectl(&["get", "namespaces"]).await.is_err());
    plane.start_apiserver().await?;
    plane.kubectl(&["get", "namespace", namespace.name()]).await?;
    plane.restart_apiserver().await?;
    plane.kubectl(&["get", "namespace", namespace.name()]).await?;
    Ok(())
}
