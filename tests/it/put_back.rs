//! An older state under the same address, on a server that was never restarted: a database that was restored beside and
//! renamed, a dump that is loaded over living tables. The same server, the same UUID in the record; each is
//! another life all the same.

use std::sync::Arc;

use component_lease::election::{Life, LifeId};
use component_lease::store::{self, Directory, Source};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::{postgres, wait};

use crate::stores::{SOON, component, held, migrated_database, migrated_mysql};

fn open(url: &str) -> Arc<dyn Directory> {
    store::open(Source::url(url), "put-back").unwrap()
}

/// Connections may have been closed meanwhile.
async fn life(store: &dyn Directory) -> Life {
    wait::until(SOON, "an answer", async || {
        Ok(store.look(&component("c")).await.ok().map(|looked| looked.life))
    })
    .await
    .unwrap()
}

async fn calm(store: &dyn Directory) -> LifeId {
    let life = life(store).await;
    assert!(life.is_settled() || !life.is_strange(), "{life:?}");
    life.id()
}

async fn is_another(store: &dyn Directory, before: &LifeId) {
    let life = life(store).await;
    assert!(life.is_strange() && life.id() != *before, "{life:?} after {before:?}");
}

#[tokio::test]
async fn a_postgres_database_that_was_restored_beside_and_renamed_is_another() {
    let server = postgres::shared().await.unwrap();
    let database = migrated_database(server).await;
    let (name, copy) = (&database.name, format!("{}_copy", database.name));
    // Even a copy whose tables have the very same numbers.
    server.psql(&format!("CREATE DATABASE {copy} TEMPLATE {name}")).await.unwrap();
    let store = open(&database.url);
    let before = calm(&*store).await;
    held(&*store, "c", "a").await;
    let swap = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';
         ALTER DATABASE {name} RENAME TO {name}_old;
         ALTER DATABASE {copy} RENAME TO {name};"
    );
    wait::until(SOON, "the names to be swapped", async || Ok(server.psql(&swap).await.ok())).await.unwrap();
    is_another(&*store, &before).await;
    drop(store);
    server.psql(&format!("DROP DATABASE {name}_old WITH (FORCE)")).await.unwrap();
}

#[tokio::test]
async fn a_dump_that_is_loaded_over_living_postgres_tables_makes_another_database() {
    let database = migrated_database(postgres::shared().await.unwrap()).await;
    let mut dump = std::process::Command::new("pg_dump");
    dump.args(["--clean", "--if-exists", "--no-owner", "--dbname", &database.url]);
    let dump = dump.output().expect("pg_dump (package postgresql-client)");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let store = open(&database.url);
    let before = calm(&*store).await;
    held(&*store, "c", "a").await;
    assert_eq!(calm(&*store).await, before, "a term is no change");
    database.psql(&String::from_utf8(dump.stdout).unwrap()).await.unwrap();
    is_another(&*store, &before).await;
}

/// What mysqldump writes by default: each table dropped, made and filled.
async fn a_dump_that_is_loaded_over_living_tables_makes_another_database(kind: Kind) {
    let database = migrated_mysql(mysql::shared(kind).await.unwrap()).await;
    let tables = ["component_lease", "component_lease_history", "component_lease_store"];
    let mut dump = Vec::new();
    for table in tables {
        let made = database.sql(&format!("SHOW CREATE TABLE {table}")).await.unwrap();
        let made = made.split_once('\t').unwrap().1.replace("\\n", "\n");
        database.sql(&format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await.unwrap();
        dump.push(format!("DROP TABLE {table}; {made}; INSERT INTO {table} SELECT * FROM saved_{table};"));
    }
    let store = open(&database.url);
    let before = calm(&*store).await;
    held(&*store, "c", "a").await;
    // The servers tell it to a second.
    database.sql("DO SLEEP(1.1)").await.unwrap();
    database.sql("ANALYZE TABLE component_lease").await.unwrap();
    assert_eq!(calm(&*store).await, before, "neither a term nor statistics are a change");
    database.sql(&dump.concat()).await.unwrap();
    is_another(&*store, &before).await;
}

#[tokio::test]
async fn a_dump_that_is_loaded_over_living_mysql_tables_makes_another_database() {
    a_dump_that_is_loaded_over_living_tables_makes_another_database(Kind::MySql9).await;
}

#[tokio::test]
async fn a_dump_that_is_loaded_over_living_mariadb_tables_makes_another_database() {
    a_dump_that_is_loaded_over_living_tables_makes_another_database(Kind::MariaDb10_11).await;
    a_dump_that_is_loaded_over_living_tables_makes_another_database(Kind::MariaDb11_8).await;
}
