//! The servers that the tests are built on, tested themselves.

use std::time::Duration;

use component_lease_testkit::postgres::{self, Server, Stop};
use component_lease_testkit::wait;

#[tokio::test]
async fn a_fresh_database_is_empty_and_goes_with_its_handle() -> anyhow::Result<()> {
    let server = postgres::shared().await?;
    let database = server.fresh_database().await?;
    database.psql("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)").await?;
    assert_eq!(database.psql("SELECT sum(a) FROM t").await?, "3");

    let name = database.name.clone();
    drop(database);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(server.psql(&left).await?, "0");
    Ok(())
}

#[tokio::test]
async fn the_shared_server_outlives_the_test_that_started_it() -> anyhow::Result<()> {
    let first = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async { anyhow::Ok(postgres::shared().await?.port()) })
    });
    let port = first.join().expect("no panic")?;
    assert_eq!(postgres::shared().await?.port(), port);
    assert_eq!(postgres::shared().await?.psql("SELECT 7").await?, "7");
    Ok(())
}

#[tokio::test]
async fn statements_are_counted_by_the_server() -> anyhow::Result<()> {
    let database = postgres::shared().await?.fresh_database().await?;
    database.psql("CREATE TABLE counted (a INT)").await?;
    assert_eq!(database.statements("SELECT count(*) FROM counted%").await?, 0);
    for _ in 0..3 {
        database.psql("SELECT count(*) FROM counted").await?;
    }
    assert_eq!(database.statements("SELECT count(*) FROM counted%").await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused() -> anyhow::Result<()> {
    let server = postgres::shared().await?;
    let url = server.url_as("postgres", "wrong", "postgres");
    let error = Server::existing(&url).await.expect_err("the password is wrong");
    assert!(format!("{error:#}").contains("password authentication failed"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn a_server_stops_starts_again_and_keeps_its_data() -> anyhow::Result<()> {
    let server = Server::builder().setting("fsync", "off").start().await?;
    assert_eq!(server.psql("SHOW fsync").await?, "off");
    server.psql("CREATE TABLE kept (a INT)").await?;
    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).await?;
        assert!(server.psql("SELECT 1").await.is_err(), "it still answers after {how:?}");
        server.start_again().await?;
        assert_eq!(server.psql("SELECT count(*) FROM kept").await?, "0");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_answers_nobody_until_it_is_thawed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.freeze_all()?;
    let asked = server.psql("SELECT 1");
    assert!(tokio::time::timeout(Duration::from_millis(500), asked).await.is_err());
    server.thaw_all()?;
    wait::until(Duration::from_secs(10), "an answer", async || server.psql("SELECT 1").await.map(Some))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_server_with_tls_refuses_plain_text_and_can_be_verified() -> anyhow::Result<()> {
    let server = Server::builder().tls().start().await?;
    let authority = server.authority().expect("it has one");
    let url = server.url("postgres");
    assert!(Server::existing(&format!("{url}?sslmode=disable")).await.is_err());
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
    Server::existing(&verified).await?;
    Ok(())
}
