//! MySQL and MariaDB that are frozen, restarted, full, or read-only from now on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use component_lease::store::{self, Directory, Outcome, Source};
use component_lease_testkit::mysql::{Kind, Server, Stop};
use component_lease_testkit::wait;
use tokio::time::timeout;

use crate::store_mysql::on_each_kind;
use crate::stores::{SOON, component, held, migrated_mysql, retryable, row, says, take, taking, term};

fn open(url: &str) -> Arc<dyn Directory> {
    store::open(Source::url(url), "faults").unwrap()
}

async fn until_it_answers(store: &dyn Directory) {
    wait::until(SOON, "the store to answer", async || Ok(Some(store.look(&component("c")).await?)))
        .await
        .unwrap();
}

/// A server, ours to stop, for all that can happen to one.
#[expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]
async fn a_server_that_freezes_or_restarts_leaves_nothing_stuck(kind: Kind) {
    let server = Server::start(kind).await.unwrap();
    let database = migrated_mysql(&server).await;
    let (connected, fresh) = (open(&database.url), open(&database.url));
    let a = held(&*connected, "c", "a").await;
    server.freeze_all().unwrap();
    // The caller gives up: on a connection that stands, and on one that is being made.
    for store in [&connected, &fresh] {
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(100), store.renew(&a)).await.is_err());
        }
    }
    // A caller that would wait for ever gets an error. The connection began with the first of the calls.
    let began = Instant::now();
    let answer = timeout(SOON * 2, fresh.renew(&a)).await.expect("a bounded connect");
    assert!(retryable(answer).contains("no connection within 10s"));
    assert!(began.elapsed() < Duration::from_secs(15));
    server.thaw_all().unwrap();
    for store in [&connected, &fresh] {
        assert_eq!(timeout(SOON, store.renew(&a)).await.unwrap().unwrap(), Outcome::Applied);
    }
    // What was given up is gone.
    wait::until_true(SOON, "two connections", async || {
        let count = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND HOST LIKE '127.0.0.1:%'",
            database.name
        );
        server.sql(&count).await.unwrap() == "2"
    })
    .await
    .unwrap();

    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).await.unwrap();
        // A call on the old connection, and one that has to connect.
        for _ in 0..2 {
            retryable(connected.renew(&a).await);
        }
        server.start_again().await.unwrap();
        until_it_answers(&*connected).await;
        assert_eq!(connected.renew(&a).await.unwrap(), Outcome::Applied);
    }
    connected.release(&a).await.unwrap();
    assert!(row(&*connected, "c").await.unwrap().is_free());
}

/// As a failover does it: the old primary is made read-only under running connections.
async fn a_server_that_becomes_read_only_makes_nobody_leader_until_it_may_write(kind: Kind) {
    let server = Server::builder(kind).option("max-connections=12").start().await.unwrap();
    let database = migrated_mysql(&server).await;
    server.sql("CREATE USER 'app'@'%' IDENTIFIED BY 'pass-word'").await.unwrap();
    database.sql("GRANT SELECT, INSERT, UPDATE ON * TO 'app'@'%'").await.unwrap();
    let url = server.url_as("app", "pass-word", &database.name);
    let (store, fresh) = (open(&url), open(&url));
    let a = held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await;
    server.sql("SET GLOBAL read_only = 1").await.unwrap();
    says(&retryable(store.renew(&a).await), &["read-only"]);
    // Each looks anew at its next connection.
    for store in [&store, &fresh] {
        for _ in 0..2 {
            says(&retryable(store.look(&a.component).await), &["read-only (read_only)", "replica"]);
            retryable(taking(&**store, &take(&term("c", "b", 2), seen.as_ref())).await);
        }
    }
    server.sql("SET GLOBAL read_only = 0").await.unwrap();
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(taking(&*fresh, &take(&term("c", "b", 2), seen.as_ref())).await.unwrap(), Outcome::Lost);

    // No connection is free.
    let mut crowd = Vec::new();
    let crowded = wait::until(SOON, "the server to be full", async || {
        let another = open(&url);
        match another.look(&a.component).await {
            Ok(_) => {
                crowd.push(another);
                Ok(None)
            }
            Err(error) => Ok(Some(error)),
        }
    });
    let error = crowded.await.unwrap();
    says(&retryable::<()>(Err(error)), &["Too many connections", "no connection is free"]);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied, "a connection that stands goes on");

    // Ended by an administrator.
    drop(crowd);
    let kill = format!(
        "SELECT CONCAT('KILL ', ID) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND USER = 'app'",
        database.name
    );
    for kill in server.sql(&kill).await.unwrap().lines() {
        // Some of the crowd may be gone by now.
        let _ = server.sql(kill).await;
    }
    retryable(store.renew(&a).await);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

on_each_kind!(
    a_server_that_freezes_or_restarts_leaves_nothing_stuck,
    a_server_that_becomes_read_only_makes_nobody_leader_until_it_may_write,
);
