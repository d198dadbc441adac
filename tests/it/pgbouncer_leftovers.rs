//! What other programs leave on a pooler's session, rule by rule: each text sets for itself what a call depends on.
//! `docs/design/20261128-behind-a-pooler.md` lists the rules, and which test notices when one is gone.

use std::sync::Arc;
use std::time::Duration;

use component_lease::store::{self, Outcome, Source};
use component_lease_testkit::postgres::{self, PgBouncer};
use sqlx::Executor;
use tokio::time::timeout;

use crate::pgbouncer::{application, ask, installed, until};
use crate::stores::{SOON, component, held, retryable};

/// How many sessions wait for a lock.
const WAITING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[tokio::test]
async fn a_renewal_waits_for_a_lock_and_is_applied_whatever_isolation_and_limit_others_left() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(1).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let url = pooler.url(&database.name);
    let mut theirs = application(&url).await;
    theirs
        .execute("SET default_transaction_isolation = 'repeatable read'; SET lock_timeout = 1")
        .await
        .unwrap();
    let store = store::open(Source::url(&url), "ours").unwrap();
    let a = held(&*store, "c", "a").await;
    let mut direct = application(&database.url).await;
    direct.execute("BEGIN; UPDATE component_lease SET ttl = ttl + 1").await.unwrap();
    let renewal = tokio::spawn({
        let (store, a) = (Arc::clone(&store), a.clone());
        async move { store.renew(&a).await }
    });
    until("the renewal to wait", async || database.psql(WAITING).await.unwrap() == "1").await;
    direct.execute("COMMIT").await.unwrap();
    assert_eq!(timeout(SOON, renewal).await.unwrap().unwrap().unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_call_waits_for_a_lock_no_longer_than_it_may_and_leaves_no_limit_behind() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(1).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let url = pooler.url(&database.name);
    let mut theirs = application(&url).await;
    let limit = "SELECT current_setting('lock_timeout')";
    let before = ask(&mut theirs, limit).await;
    let store = store::open(Source::url(&url), "ours").unwrap();
    let a = held(&*store, "c", "a").await;
    store.limit_lock_wait(Duration::from_millis(300));
    let mut direct = application(&database.url).await;
    direct.execute("BEGIN; UPDATE component_lease SET ttl = ttl + 1").await.unwrap();
    let why = retryable(timeout(SOON, store.renew(&a)).await.unwrap());
    assert!(why.contains("lock"), "{why}");
    direct.execute("ROLLBACK").await.unwrap();
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert!(store.look(&component("c")).await.unwrap().row.is_some());
    assert_eq!(ask(&mut theirs, limit).await, before);
}
