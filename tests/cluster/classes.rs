//! Two controllers over the same namespaces, each with a database of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use component_lease::store::{Directory, LeaseStore as _, Names};
use component_lease_testkit::wait;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::resilience::wait_until_elected;
use crate::support::controller::{config, election};
use crate::support::objects::{condition, known_database, lease, lease_with};
use crate::support::{KEY, LONG, Replica, Rows, SOON, Site};

/// A Lease of 15 s runs out, and some more.
const TAKES_OVER: Duration = Duration::from_secs(60);

async fn uuid(rows: &Rows) -> Result<String> {
    let life = rows.look_at(&Names::none(), false).await?.life;
    Ok(life.database().unwrap_or_default().to_owned())
}

/// A release of the class `default` with the rows of its own site, which watches these namespaces.
async fn release(site: &Site, watched: &[&Site], accept: bool) -> Result<Replica> {
    let mut config = config(site, "replica");
    config.namespaces = watched.iter().map(|site| site.name().to_owned()).collect();
    config.election = Some(election(site));
    config.accept_database = if accept { Some(uuid(&site.rows).await?) } else { None };
    Replica::start_with(site, config).await
}

async fn until_it_stands_back(release: &Replica, whether: u8) -> Result<()> {
    let said = format!("componentlease_controller_stands_back {whether}.0\n");
    wait::until_true(TAKES_OVER, &said, async || release.scrape().contains(&said)).await
}

#[tokio::test(crate = "crate::harness")]
async fn of_two_releases_of_one_class_the_older_acts_and_the_other_writes_nothing_until_that_one_is_gone()
-> Result<()> {
    let site = Site::new("older").await?;
    site.make_pods("discovery", &["d-0", "d-1", "d-2"]).await?;
    let older = release(&site, &[&site], false).await?;
    wait_until_elected(&site, "replica").await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_until_ready("discovery").await?;

    // In another namespace, and its database has other leaders and later versions.
    site.let_a_second_pass("discovery").await?;
    let namespace = site.plane.namespace("younger").await?;
    let watch = format!("watch.namespaces={{{},{}}}", site.name(), namespace.name());
    let other = Site::with(site.plane, namespace, &["--set", &watch]).await?;
    let component = site.rows.key("discovery")?;
    other.rows.take_as(component.clone(), &site.holder("d-1").await?, LONG, 77).await?;
    let recorder = site.plane.record_label(site.name(), KEY, "leader")?;
    wait::until_true(SOON, "the label is seen", async || recorder.changes().len() == 1).await?;
    let mark = site.plane.audit_mark()?;
    let younger = release(&other, &[&site, &other], true).await?;
    until_it_stands_back(&younger, 1).await?;
    until_it_stands_back(&older, 0).await?;

    // Where the older one does not watch, it acts.
    other.make_pods("own", &["o-0"]).await?;
    other.make_lease(&lease("own", "own")).await?;
    other.rows.take("own", &other.holder("o-0").await?, LONG).await?;
    other.wait_for_labelled("componentlease.io/own", "leader", &["o-0"]).await?;
    // Much happens where both watch.
    site.rows.take("discovery", &site.holder("d-2").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-2"]).await?;
    site.make_pods("discovery", &["d-3"]).await?;
    site.wait_for_labelled(KEY, "standby", &["d-0", "d-1", "d-3"]).await?;
    site.change("discovery", json!({"ttlSeconds": 29})).await?;
    let asked = other.rows.asked();
    wait::until_true(SOON, "the other looks at its database", async || other.rows.asked() > asked + 3)
        .await?;
    let lease = site.wait_until_ready("discovery").await?;
    ensure!(condition(&lease, "VersionRegressed").is_none(), "{:?}", lease.status);
    ensure!(condition(&lease, "DatabaseChanged").is_none(), "{:?}", lease.status);
    ensure!(other.rows.look(&component).await?.standing_ttl.is_none(), "an intent was written");
    let changes: Vec<_> = recorder.changes().into_iter().map(|c| (c.pod, c.labelled)).collect();
    let wanted = [("d-0", true), ("d-0", false), ("d-2", true)];
    ensure!(changes.iter().map(|(pod, labelled)| (pod.as_str(), *labelled)).eq(wanted), "{changes:?}");
    let account = format!("system:serviceaccount:{}:component-lease", other.name());
    let writes = site.plane.writes_since(mark)?;
    let theirs: Vec<_> = writes.iter().filter(|w| w.user == account && w.namespace == site.name()).collect();
    ensure!(theirs.is_empty(), "{theirs:#?}");
    ensure!(
        writes.iter().any(|w| w.user == account && w.resource == "pods"),
        "the audit log shows nothing of it"
    );

    older.kill();
    wait::until(TAKES_OVER, "the other takes over", async || {
        let found = site.labelled(KEY, "leader").await?;
        ensure!(found == ["d-1"], "{found:?}");
        Ok(Some(()))
    })
    .await?;
    until_it_stands_back(&younger, 0).await?;

    // The older one returns, to resources that know another database by now.
    let _older = release(&site, &[&site], false).await?;
    until_it_stands_back(&younger, 1).await?;
    site.wait_for_condition("discovery", "DatabaseChanged", "True", "AnotherDatabase").await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_of_another_class_is_left_alone_and_its_own_controller_looks_after_it() -> Result<()> {
    let site = Site::new("classes").await?;
    site.make_pods("discovery", &["d-0", "d-1", "d-2"]).await?;
    let _controller = Replica::start(&site).await?;
    site.make_lease(&lease_with("blue", "discovery", &json!({"className": "blue"}))).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    for component in ["blue", "discovery"] {
        site.rows.take(component, &site.holder("d-0").await?, LONG).await?;
    }
    site.wait_until_ready("discovery").await?;
    let asked = site.rows.asked();
    wait::until_true(SOON, "it looks again", async || site.rows.asked() > asked + 2).await?;
    let untouched = site.leases().get("blue").await?;
    let ready = condition(&untouched, "Ready").cloned();
    ensure!(ready.is_some_and(|c| c.reason == "Pending" && c.message.contains("class")), "{untouched:?}");
    ensure!(site.labelled("componentlease.io/blue", "leader").await?.is_empty());
    let table = site.kubectl(&["get", "clease", "-o", "wide"]).await?;
    ensure!(table.contains("CLASS") && table.contains("blue") && table.contains("default"), "{table}");
    for class in [json!("default"), json!(null)] {
        let change = Patch::Merge(json!({"spec": {"className": class}}));
        let refused = site.leases().patch("blue", &PatchParams::default(), &change).await;
        ensure!(refused.is_err_and(|error| error.to_string().contains("spec.className cannot be changed")));
    }

    let other = Arc::new(Rows::of(site.name()));
    let mut config = config(&site, "blue");
    config.class = "blue".to_owned();
    let _blue = Replica::run(&site.account, config, Arc::clone(&other) as Arc<dyn Directory>).await?;
    other.take("blue", &site.holder("d-1").await?, LONG).await?;
    let blue = site.wait_until_ready("blue").await?;
    ensure!(known_database(&blue) == Some(uuid(&other).await?), "{:?}", blue.status);
    site.wait_for_labelled("componentlease.io/blue", "leader", &["d-1"]).await?;

    // Of one class two may not claim one component, of two classes they may: each class has its own row.
    site.let_a_second_pass("discovery").await?;
    let twin = json!({"className": "blue", "componentName": format!("{}/discovery", site.name())});
    site.make_lease(&lease_with("twin", "discovery", &twin)).await?;
    other.take("discovery", &site.holder("d-2").await?, LONG).await?;
    site.wait_for_labelled("componentlease.io/twin", "leader", &["d-2"]).await?;
    // Pods have no class: the first to use a label key on them keeps it.
    let clash = json!({"className": "blue", "routing": {"labelKey": KEY}});
    site.make_lease(&lease_with("clash", "discovery", &clash)).await?;
    let message = site.wait_for_condition("clash", "Ready", "False", "Conflict").await?;
    ensure!(message.contains("/discovery was first to use label"), "{message}");
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    let discovery = site.wait_until_ready("discovery").await?;
    ensure!(known_database(&discovery) == Some(uuid(&site.rows).await?), "{:?}", discovery.status);

    site.leases().delete("blue", &DeleteParams::default()).await?;
    site.wait_for_labelled("componentlease.io/blue", "leader", &[]).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await
}
