//! What people may do with ComponentLeases: those who have Kubernetes' own roles in a namespace, and those for whom a
//! role of the chart is missing.

use anyhow::{Result, ensure};
use component_lease_testkit::wait;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::support::objects::lease;
use crate::support::{KEY, LONG, SOON, Site, led_site, rendered};

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// Whether the API server lets this user do this to ComponentLeases of a namespace.
async fn may(
    site: &Site,
    user: &str,
    verb: &str,
    subresource: Option<&str>,
    namespace: &str,
) -> Result<bool> {
    let asked = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some(verb.to_owned()),
                group: Some("componentlease.io".to_owned()),
                resource: Some("componentleases".to_owned()),
                subresource: subresource.map(ToOwned::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::all(site.admin.clone()).create(&PostParams::default(), &asked).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Waits until this user may do exactly these things in the site's namespace.
async fn until_may(site: &Site, user: &str, allowed: &[&str]) -> Result<()> {
    wait::until(SOON, format!("{user} may {allowed:?}"), async || {
        let mut found = Vec::new();
        for verb in READ.into_iter().chain(WRITE) {
            if may(site, user, verb, None, site.name()).await? {
                found.push(verb);
            }
        }
        ensure!(found == allowed, "they may {found:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn a_role_in_a_namespace_holds_for_its_componentleases_too_and_without_the_charts_roles_it_does_not()
-> Result<()> {
    let (site, _controller) = led_site("people").await?;
    site.plane.needs_controllers()?;
    let elsewhere = site.plane.namespace("people").await?;
    for role in ["view", "edit", "admin"] {
        let (name, role) = (format!("the-{role}"), format!("--clusterrole={role}"));
        site.kubectl(&["create", "rolebinding", &name, &role, &format!("--user={name}")]).await?;
    }
    let users = ["the-view", "the-edit", "the-admin"];

    // Without the chart's roles: told by the API server, and everything else of theirs works.
    for user in users {
        until_may(&site, user, &[]).await?;
        let said = site.kubectl(&["get", "componentleases", &format!("--as={user}")]).await;
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        ensure!(said.contains("cannot list resource \"componentleases\""), "{said}");
        site.kubectl(&["get", "all", &format!("--as={user}")]).await?;
    }

    site.plane.apply(&rendered(site.name(), &["user-roles"], &[]).await?).await?;
    let all: Vec<_> = READ.into_iter().chain(WRITE).collect();
    until_may(&site, "the-view", &READ).await?;
    until_may(&site, "the-edit", &all).await?;
    until_may(&site, "the-admin", &all).await?;
    until_may(&site, "a-stranger", &[]).await?;
    for user in users {
        ensure!(may(&site, user, "get", Some("status"), site.name()).await?, "{user} may read a status");
        for verb in ["update", "patch"] {
            ensure!(
                !may(&site, user, verb, Some("status"), site.name()).await?,
                "{user} may {verb} a status"
            );
        }
        ensure!(!may(&site, user, "get", None, elsewhere.name()).await?, "{user} may read elsewhere");
        site.kubectl(&["get", "leasedb", &format!("--as={user}")]).await?;
        let table = site.kubectl(&["get", "clease,all", &format!("--as={user}")]).await?;
        ensure!(table.contains("componentlease.componentlease.io/discovery"), "{table}");
    }
    let mut theirs = lease("theirs", "discovery");
    theirs["metadata"]["namespace"] = json!(site.name());
    let apply = ["apply", "-f", "-", "--as=the-edit"];
    site.plane.kubectl_with_input(&apply, &theirs.to_string()).await?;
    site.kubectl(&["delete", "clease", "theirs", "--as=the-admin"]).await?;

    // One of the two is missing: the other holds, and so does the controller's own.
    let roles: Api<ClusterRole> = Api::all(site.admin.clone());
    let role = |of: &str| format!("{}.component-lease.{of}", site.name());
    roles.delete(&role("edit"), &DeleteParams::default()).await?;
    for user in users {
        until_may(&site, user, &READ).await?;
    }
    let said = site.plane.kubectl_with_input(&apply, &theirs.to_string()).await;
    let said = said.unwrap_or_else(|error| format!("{error:#}"));
    ensure!(said.contains("cannot create resource \"componentleases\""), "{said}");
    roles.delete(&role("view"), &DeleteParams::default()).await?;
    for user in users {
        until_may(&site, user, &[]).await?;
    }
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}
