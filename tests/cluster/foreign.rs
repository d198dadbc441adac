//! A program with its own SQL is shown, routed to and replaced as our own participants are.

use std::sync::Arc;

use anyhow::{Result, ensure};
use component_lease::store::{Install, Source, install, open};
use component_lease_testkit::postgres::{self, Database};
use component_lease_testkit::wait;
use serde_json::json;

use crate::support::objects::{condition, lease_with, status, term};
use crate::support::{FLOOD, Replica, Rows, SOON, Site};

const KEY: &str = "componentlease.io/discovery";
/// Its own pace; seconds.
const TTL: u32 = 6;

/// As the proposal has it, but that the version too rises with each renewal.
async fn renew(database: &Database, holder: &str) -> Result<i64> {
    let version = database
        .psql(&format!(
            "UPDATE component_lease
             SET renew_time = (extract(epoch FROM clock_timestamp()) * 1000)::bigint, version = version + 1
             WHERE component_name = 'discovery' AND holder_id = '{holder}' RETURNING version"
        ))
        .await?;
    Ok(version.trim().lines().next().unwrap_or_default().parse()?)
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_its_own_sql_is_shown_and_routed_to_and_its_versions_cause_no_writes() -> Result<()> {
    let database = postgres::shared().await?.fresh_database().await?;
    let source = Source::url(&database.url);
    install(&source, Install::default().first(true)).await?;
    let mut site = Site::new("foreign-program").await?;
    site.rows = Arc::new(Rows::on(open(source.clone(), "controller")?, site.name()));
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    // Such a program writes its own name of the component. The only namespace that is watched owns it.
    let pattern =
        json!({"componentName": "discovery", "holderPattern": "worker@(?P<pod>[-a-z0-9.]+)/[0-9]+"});
    site.make_lease(&lease_with("discovery", "discovery", &pattern)).await?;
    let _controller = Replica::start(&site).await?;

    let theirs = "worker@d-1/17";
    database
        .psql(&format!(
            "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
             SELECT 'discovery', '{theirs}', t.ms, t.ms, 1, {TTL}
             FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS t"
        ))
        .await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    let ready = site.wait_until_ready("discovery").await?;
    assert_eq!(term(&ready).holder.as_deref(), Some(theirs));
    let shown = term(&ready).version;

    // Ten renewals, and so ten versions, while the API server is left to this test.
    let flood = FLOOD.lock().await;
    let account = format!("system:serviceaccount:{}:component-lease", site.name());
    // The Event and the intent of the first term are on their way.
    wait::until(SOON, "looks that cause no write", async || {
        let mark = site.plane.audit_mark()?;
        renew(&database, theirs).await?;
        // Whatever a look brings is written before the one after the next.
        let asked = site.rows.asked();
        wait::until_true(SOON, "three looks", async || site.rows.asked() >= asked + 3).await?;
        let writes = site.plane.writes_since(mark)?;
        let writes: Vec<_> = writes.into_iter().filter(|write| write.user == account).collect();
        ensure!(writes.is_empty(), "still writing: {writes:?}");
        Ok(Some(()))
    })
    .await?;
    let (mark, asked) = (site.plane.audit_mark()?, site.rows.asked());
    let mut version = 0;
    for _ in 0..10 {
        version = renew(&database, theirs).await?;
        // Each is looked at, so that it could have been written.
        let before = site.rows.asked();
        wait::until_true(SOON, "a look", async || site.rows.asked() > before).await?;
    }
    let writes: Vec<_> =
        site.plane.writes_since(mark)?.into_iter().filter(|write| write.user == account).collect();
    ensure!(writes.is_empty(), "{} writes for versions that are no terms: {writes:?}", writes.len());
    ensure!(site.rows.asked() >= asked + 10 && version > 10, "nothing was tried: version {version}");
    drop(flood);
    let now = site.leases().get("discovery").await?;
    assert_eq!((term(&now).version, status(&now).transitions), (shown, status(&ready).transitions));

    // It dies, and one of ours follows, above all that it counted up to.
    let ours = site.holder("d-0").await?;
    site.wait_for_condition("discovery", "LeaderElected", "False", "Expired").await?;
    let next = site.rows.take_bare("discovery", &ours, TTL * 5).await?;
    ensure!(next > version, "{next} after {version}");
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    // And one that the pattern does not fit is believed nothing.
    database
        .psql("UPDATE component_lease SET holder_id = 'd-1', version = version + 1 WHERE component_name = 'discovery'")
        .await?;
    site.wait_for_lease("discovery", "the rejection", |lease| {
        condition(lease, "HolderAccepted").is_some_and(|c| c.message.contains("spec.holderPattern"))
    })
    .await?;
    site.wait_for_labelled(KEY, "leader", &[]).await
}

#[tokio::test(crate = "crate::harness")]
async fn a_holder_pattern_that_names_no_pod_or_is_none_is_refused_or_said() -> Result<()> {
    let site = Site::new("pattern").await?;
    let _controller = Replica::start(&site).await?;
    let refused =
        site.make_lease(&lease_with("none", "a", &json!({"holderPattern": "(.*)"}))).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("holderPattern"), "{refused:#}");
    // What only the controller can tell.
    site.make_lease(&lease_with("broken", "a", &json!({"holderPattern": r"\pL(?P<pod>a)"}))).await?;
    let message = site.wait_for_condition("broken", "Ready", "False", "InvalidSpec").await?;
    ensure!(message.contains("spec.holderPattern"), "{message}");
    Ok(())
}
