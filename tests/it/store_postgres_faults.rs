//! PostgreSQL that is frozen, restarted, or lets in somebody else from now on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use component_lease::store::{self, Directory, Hint, Outcome, Source};
use component_lease_testkit::postgres::{Server, Stop};
use component_lease_testkit::wait;
use tokio::time::timeout;

use crate::stores::{SOON, component, held, migrated_database, misconfigured, retryable, row};

fn open(url: &str) -> Arc<dyn Directory> {
    store::open(Source::url(url), "faults").unwrap()
}

async fn until_it_answers(store: &dyn Directory) {
    wait::until(SOON, "the store to answer", async || Ok(Some(store.look(&component("c")).await?)))
        .await
        .unwrap();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]
async fn a_frozen_server_leaves_nothing_stuck() {
    let server = Server::start().await.unwrap();
    let database = migrated_database(&server).await;
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
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'faults'";
        database.psql(count).await.unwrap() == "2"
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_restarted_server_is_found_again_with_its_rows_and_its_hints() {
    let server = Server::start().await.unwrap();
    let database = migrated_database(&server).await;
    let store = open(&database.url);
    let a = held(&*store, "c", "a").await;
    let mut hints = store.hints();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any);
    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).await.unwrap();
        // A call on the old connection, and one that has to connect.
        for _ in 0..2 {
            retryable(store.renew(&a).await);
        }
        server.start_again().await.unwrap();
        until_it_answers(&*store).await;
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any, "it listens again");
    }
    store.release(&a).await.unwrap();
    store.notify(&a.component).await.unwrap();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("c".into()));
    assert!(row(&*store, "c").await.unwrap().is_free());
}

#[tokio::test]
async fn a_standby_makes_nobody_leader_until_it_is_promoted() {
    let server = Server::start().await.unwrap();
    let database = migrated_database(&server).await;
    let store = open(&database.url);
    let a = held(&*store, "c", "a").await;
    let data = server.psql("SHOW data_directory").await.unwrap();
    server.stop(Stop::Fast).await.unwrap();
    std::fs::write(format!("{data}/standby.signal"), "").unwrap();
    server.start_again().await.unwrap();
    wait::until_true(SOON, "the standby's word", async || {
        retryable(store.renew(&a).await).contains("is a standby")
    })
    .await
    .unwrap();
    server.psql("SELECT pg_promote()").await.unwrap();
    until_it_answers(&*store).await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_rotated_secret_is_read_at_the_next_connect() {
    let server = Server::start().await.unwrap();
    let database = migrated_database(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let (url_file, password_file) = (folder.path().join("url"), folder.path().join("password"));
    database
        .psql("CREATE ROLE app LOGIN PASSWORD 'first'; GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
        .await
        .unwrap();
    std::fs::write(&url_file, server.url_as("app", "first", &database.name)).unwrap();
    std::fs::write(&password_file, "first").unwrap();
    let by_url = store::open(Source::file(&url_file), "faults").unwrap();
    let without = server.url_as("app", "nonsense", &database.name);
    let by_password = store::open(Source::url(without).password_file(&password_file), "faults").unwrap();
    let mut hints = by_url.hints();
    until_it_answers(&*by_url).await;
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any);
    let a = held(&*by_url, "c", "a").await;
    by_url.notify(&a.component).await.unwrap();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("c".into()));
    until_it_answers(&*by_password).await;

    database.psql("ALTER ROLE app PASSWORD 'second'").await.unwrap();
    for store in [&by_url, &by_password] {
        // The connection that stands goes on.
        store.look(&component("c")).await.unwrap();
    }
    database
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await
        .unwrap();
    for store in [&by_url, &by_password] {
        retryable(store.look(&component("c")).await);
        let why = misconfigured(store.look(&component("c")).await);
        assert!(why.contains("user app") && !why.contains("first"), "{why}");
    }
    std::fs::write(&url_file, server.url_as("app", "second", &database.name)).unwrap();
    std::fs::write(&password_file, "second\n").unwrap();
    for store in [&by_url, &by_password] {
        store.look(&component("c")).await.unwrap();
    }
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any, "it listens again, as the new user");
}
