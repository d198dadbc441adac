//! Servers that may forget or contradict what they acknowledged: refused with the setting named, used
//! where the operator says so, and accepted once what the message says was done. (Further ones beside
//! what else there is to say of a database: `store_life`, `store_mysql_life`, `store_mysql_foreign`.)

use component_lease::store::{self, Outcome, Source, begin_epoch};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::port::Port;
use component_lease_testkit::{postgres, wait};

use crate::stores::{SOON, component, held, migrated_database, migrated_mysql, misconfigured, says};

async fn refused(url: &str, names: &[&str]) {
    let source = Source::url(url);
    let look = async |source: Source| store::open(source, "test").unwrap().look(&component("c")).await;
    let why = wait::until(SOON, "a refusal", async || {
        let answer = look(source.clone()).await;
        Ok(answer.is_err().then(|| misconfigured(answer)))
    });
    let why = why.await.unwrap();
    says(&why, &["UnsafeBackend", "--allow-unsafe-backend"]);
    says(&why, names);
    look(source.unsafe_backend(true)).await.unwrap();
}

async fn accepted(url: &str) {
    let store = store::open(Source::url(url), "test").unwrap();
    wait::until(SOON, "a look", async || Ok(Some(store.look(&component("c")).await?))).await.unwrap();
}

#[tokio::test]
async fn postgres_without_fsync_or_synchronous_commit_is_refused_until_it_is_set_right() {
    let server = postgres::Server::builder().setting("fsync", "off").start().await.unwrap();
    let database = migrated_database(&server).await;
    let set = async |what: &str| {
        server.psql(&format!("ALTER SYSTEM SET {what}")).await.unwrap();
        server.psql("SELECT pg_reload_conf()").await.unwrap();
    };
    let advice = ["ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()"];
    refused(&database.url, &["fsync = off", advice[0], advice[1]]).await;
    for sql in advice {
        server.psql(sql).await.unwrap();
    }
    accepted(&database.url).await;
    set("synchronous_commit = off").await;
    let advice = "ALTER ROLE \"postgres\" SET synchronous_commit = on";
    refused(&database.url, &["synchronous_commit = off", advice]).await;
    server.psql(advice).await.unwrap();
    accepted(&database.url).await;
    // What waits for no standby is on this server's own disk all the same.
    server.psql("ALTER ROLE postgres SET synchronous_commit = local").await.unwrap();
    accepted(&database.url).await;
}

#[tokio::test]
async fn a_replication_group_with_several_primaries_or_that_may_answer_with_the_past_is_refused() {
    let port = Port::free().unwrap();
    let server = mysql::Server::builder(Kind::MySql9)
        .replicated()
        .option("report-host=127.0.0.1")
        .option("plugin-load-add=group_replication.so")
        .option("group-replication-start-on-boot=OFF")
        .option("group-replication-group-name=3f2a1c5e-0d5b-4a7e-9a57-6f1f6d0f2b11")
        .option(&format!("group-replication-local-address={}", port.address()))
        .option("group-replication-single-primary-mode=OFF")
        .option("group-replication-consistency=EVENTUAL")
        .start()
        .await
        .unwrap();
    server
        .sql("SET GLOBAL group_replication_bootstrap_group = ON; START GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group = OFF")
        .await
        .unwrap();
    let member = "SELECT MEMBER_STATE FROM performance_schema.replication_group_members";
    wait::until_true(SOON, "the group", async || server.sql(member).await.unwrap() == "ONLINE")
        .await
        .unwrap();
    let database = migrated_mysql(&server).await;
    let advice = "SELECT group_replication_switch_to_single_primary_mode()";
    refused(&database.url, &["group_replication_single_primary_mode = OFF", advice]).await;
    server.sql(advice).await.unwrap();
    let advice = "SET GLOBAL group_replication_consistency = BEFORE_ON_PRIMARY_FAILOVER";
    refused(&database.url, &["group_replication_consistency = EVENTUAL", advice]).await;
    server.sql(advice).await.unwrap();
    accepted(&database.url).await;
}

/// Whether others write elsewhere in the cluster, no single node can tell; see docs/databases.md.
#[tokio::test]
async fn a_galera_node_on_its_own_serves_like_any_other_server() {
    let port = Port::free().unwrap();
    let server = mysql::Server::builder(Kind::MariaDb11_8)
        .replicated()
        .option("wsrep-on=ON")
        .option("wsrep-provider=/usr/lib/galera/libgalera_smm.so")
        .option("wsrep-cluster-address=gcomm://")
        .option("wsrep-new-cluster")
        .option("wsrep-node-address=127.0.0.1")
        .option(&format!("wsrep-provider-options=gmcast.listen_addr=tcp://{};gcache.size=8M", port.address()))
        .option("innodb-autoinc-lock-mode=2")
        .start()
        .await
        .unwrap();
    let ready = "SHOW STATUS LIKE 'wsrep_ready'";
    wait::until_true(SOON, "the cluster", async || server.sql(ready).await.unwrap().ends_with("ON"))
        .await
        .unwrap();
    let database = migrated_mysql(&server).await;
    let store = store::open(Source::url(&database.url), "test").unwrap();
    let a = held(&*store, "c", "a").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    begin_epoch(&*store).await.unwrap();
    assert!(!store.look(&a.component).await.unwrap().life.is_strange());
}
