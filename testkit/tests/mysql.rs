//! The MySQL and MariaDB servers of the testkit do what their documentation says.

use std::time::Duration;

use component_lease_testkit::mysql::{self, Kind, Server, Stop};
use component_lease_testkit::wait;

#[tokio::test]
async fn each_kind_is_what_it_is_called_and_its_databases_go_with_their_handles() -> anyhow::Result<()> {
    for (kind, version) in
        [(Kind::MariaDb10_11, "10.11."), (Kind::MariaDb11_8, "11.8."), (Kind::MySql9, "9.")]
    {
        let server = mysql::shared(kind).await?;
        assert!(server.sql("SELECT version()").await?.starts_with(version), "{kind}");
        let database = server.fresh_database().await?;
        database.sql("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)").await?;
        assert_eq!(database.sql("SELECT sum(a) FROM t").await?, "3");
        let name = database.name.clone();
        drop(database);
        let left = format!("SELECT count(*) FROM information_schema.schemata WHERE schema_name = '{name}'");
        assert_eq!(server.sql(&left).await?, "0");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_stops_starts_again_and_keeps_its_data() -> anyhow::Result<()> {
    let server = Server::builder(Kind::MariaDb10_11).option("innodb-lock-wait-timeout=7").start().await?;
    assert_eq!(server.sql("SELECT @@innodb_lock_wait_timeout").await?, "7");
    let database = server.fresh_database().await?;
    database.sql("CREATE TABLE kept (a INT)").await?;
    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).await?;
        assert!(server.sql("SELECT 1").await.is_err(), "it still answers after {how:?}");
        server.start_again().await?;
        assert_eq!(database.sql("SELECT count(*) FROM kept").await?, "0");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_answers_nobody_until_it_is_thawed() -> anyhow::Result<()> {
    let server = Server::start(Kind::MariaDb10_11).await?;
    server.freeze_all()?;
    let asked = server.sql("SELECT 1");
    assert!(tokio::time::timeout(Duration::from_millis(500), asked).await.is_err());
    server.thaw_all()?;
    wait::until(Duration::from_secs(10), "an answer", async || server.sql("SELECT 1").await.map(Some))
        .await?;
    Ok(())
}
