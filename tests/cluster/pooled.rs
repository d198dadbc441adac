//! The controller behind a connection pooler that hands out sessions by the transaction.

use std::sync::Arc;

use anyhow::{Result, ensure};
use component_lease::store::{Install, Source, install, open};
use component_lease_testkit::postgres::{self, PgBouncer};
use component_lease_testkit::wait;
use serde_json::json;

use crate::support::objects::{lease_with, term};
use crate::support::{KEY, LONG, Replica, Rows, SOON, Site};

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_behind_a_pooler_labels_the_leader_and_tells_the_ttl() -> Result<()> {
    // One session is enough for it and for all that take.
    let pooler = PgBouncer::builder(postgres::shared().await?).pool(1).start().await?;
    let database = postgres::shared().await?.fresh_database().await?;
    let source = Source::url(pooler.url(&database.name));
    install(&source, Install::default().first(true)).await?;
    let mut site = Site::new("pooled").await?;
    site.rows = Arc::new(Rows::on(open(source, "controller")?, site.name()));
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    site.make_lease(&lease_with("discovery", "discovery", &json!({"ttlSeconds": 20}))).await?;
    let _controller = Replica::start(&site).await?;
    wait::until_true(SOON, "the ttl of the resource", async || {
        site.rows.intended_ttl("discovery").await.is_ok_and(|ttl| ttl == Some(20))
    })
    .await?;
    for pod in ["d-1", "d-0"] {
        let holder = site.holder(pod).await?;
        let version = site.rows.take("discovery", &holder, LONG).await?;
        site.wait_for_labelled(KEY, "leader", &[pod]).await?;
        site.wait_for_lease("discovery", "the version", |lease| term(lease).version == version).await?;
    }
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let sessions = database.psql(ours).await?;
    ensure!(sessions == "1", "{sessions} sessions of the server are used");
    Ok(())
}
