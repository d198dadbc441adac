//! Servers that do not say everything of themselves. A function of PostgreSQL's own is renamed (one that is
//! lacking, 42883), revoked (42501), or another one in its place refuses as a managed service does.

use component_lease::election::{Life, NewEpoch, Take};
use component_lease::store::{self, Directory, Outcome, Source};
use component_lease_testkit::postgres::{self, Database};

use crate::stores::{component, look_at, misconfigured, says, take, term};

async fn database() -> Database {
    postgres::shared().await.unwrap().fresh_database().await.unwrap()
}

fn lacks(function: &str) -> String {
    let name = function.split('(').next().unwrap();
    format!("ALTER FUNCTION pg_catalog.{function} RENAME TO lacking_{name};")
}

/// As `lacks`, and calling it says so.
fn refuses(function: &str, gives: &str, code: &str) -> String {
    format!(
        "{} CREATE FUNCTION pg_catalog.{function} RETURNS {gives} LANGUAGE plpgsql AS
         $$BEGIN RAISE EXCEPTION 'refused by this service' USING ERRCODE = '{code}'; END$$;",
        lacks(function)
    )
}

fn says_of_itself(function: &str, answer: &str) -> String {
    format!("CREATE FUNCTION pg_catalog.{function} RETURNS text LANGUAGE sql AS $$SELECT '{answer}'::text$$;")
}

/// What Amazon Aurora is like: no log with a wal_level other than logical.
fn aurora(instance: &str) -> String {
    refuses("pg_current_wal_lsn()", "pg_lsn", "55000")
        + &says_of_itself("aurora_version()", "15.4.2")
        + &says_of_itself("aurora_db_instance_identifier()", instance)
}

/// Migrates, and elects once; the identity.
async fn elects(database: &Database) -> String {
    let source = Source::url(&database.url);
    store::migrate(&source).await.unwrap();
    let store = store::open(source, "identity").unwrap();
    let looked = store.look(&component("c")).await.unwrap();
    let Life::Recorded { identity, record, .. } = &looked.life else { panic!("nothing is recorded") };
    assert_eq!(*identity, record.identity, "the same as migrate wrote");
    let a = term("c", "a", 1);
    let take = Take { life_id: looked.life.id(), ..take(&a, None) };
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(look_at(&*store, &["c"]).await.rows.len(), 1);
    identity.clone()
}

#[tokio::test]
async fn what_a_server_does_not_say_is_left_out_of_its_identity() {
    for (how, wanted) in [
        (String::new(), [true, true, true]),
        (refuses("pg_current_wal_lsn()", "pg_lsn", "55000"), [true, false, true]),
        (refuses("pg_walfile_name(pg_lsn)", "text", "0A000"), [true, false, true]),
        (lacks("pg_current_wal_lsn()"), [true, false, true]),
        (lacks("pg_control_system()"), [false, true, true]),
        (refuses("pg_postmaster_start_time()", "timestamptz", "42501"), [true, true, false]),
        (lacks("pg_control_system()") + &lacks("pg_walfile_name(pg_lsn)"), [false, false, true]),
        // An error of a class that no service has been seen to use.
        (refuses("pg_current_wal_lsn()", "pg_lsn", "P0001"), [true, false, true]),
    ] {
        let database = database().await;
        database.psql(&format!("SELECT 1;{how}")).await.unwrap();
        let identity = elects(&database).await;
        let parts: Vec<bool> = identity.split('/').map(|part| part != "-").collect();
        assert_eq!(parts[..3], wanted, "{identity}, {how}");
    }
}

#[tokio::test]
async fn aurora_is_told_by_instance_and_start_whatever_its_wal_level_and_a_failover_is_told() {
    let database = database().await;
    database.psql(&aurora("writer-1")).await.unwrap();
    let first = elects(&database).await;
    assert_eq!(first.split('/').nth(1), Some("writer-1"), "{first}");
    // With wal_level = logical the functions are there.
    database.psql("DROP FUNCTION pg_catalog.pg_current_wal_lsn(); ALTER FUNCTION pg_catalog.lacking_pg_current_wal_lsn() RENAME TO pg_current_wal_lsn").await.unwrap();
    let store = store::open(Source::url(&database.url), "identity").unwrap();
    let looked = store.look(&component("c")).await.unwrap();
    assert_eq!(looked.life.id().identity, first);
    // Another instance is the writer now.
    database
        .psql(
            &says_of_itself("aurora_db_instance_identifier()", "writer-2")
                .replace("CREATE", "CREATE OR REPLACE"),
        )
        .await
        .unwrap();
    let Life::Recorded { identity, record, .. } = store.look(&component("c")).await.unwrap().life else {
        panic!("nothing is recorded")
    };
    assert_ne!(identity, record.identity);
    let take = Take { life_id: looked.life.id(), ..take(&term("c", "b", 2), looked.row.as_ref()) };
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost, "decided on the instance before");
}

/// Else each would take the other's record for another server's, for ever.
#[tokio::test]
async fn accounts_with_different_rights_agree_on_the_identity() {
    let database = database().await;
    let source = Source::url(&database.url);
    store::migrate(&source).await.unwrap();
    let server = postgres::shared().await.unwrap();
    let role = format!("poor_{}", database.name);
    database
        .psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"
        ))
        .await
        .unwrap();
    let rich = store::open(source.clone(), "rich").unwrap();
    let poor = store::open(Source::url(server.url_as(&role, "x", &database.name)), "poor").unwrap();
    let life = async |store: &dyn Directory| match store.look(&component("c")).await.unwrap().life {
        Life::Recorded { identity, record, .. } => (identity, record),
        other => panic!("{other:?}"),
    };
    let (identity, record) = life(&*rich).await;
    assert_eq!(identity, record.identity);
    let (weaker, record) = life(&*poor).await;
    assert!(weaker.starts_with("-/") && weaker != record.identity, "{weaker}");
    let new = NewEpoch { seen: Some(record), at_least: 0, max_ttl: 30, deliberate: false };
    assert_eq!(poor.epochs().unwrap().begin_epoch(&new).await.unwrap(), Outcome::Applied);
    for store in [&rich, &poor] {
        let (identity, record) = life(&**store).await;
        assert_eq!((&identity, &record.identity), (&weaker, &weaker));
        let new = NewEpoch { seen: Some(record), at_least: 0, max_ttl: 30, deliberate: false };
        assert_eq!(store.epochs().unwrap().begin_epoch(&new).await.unwrap(), Outcome::Lost);
    }
    drop((rich, poor));
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_refused_by_the_names_of_the_functions_and_its_version() {
    let database = database().await;
    store::migrate(&Source::url(&database.url)).await.unwrap();
    database.psql(&(lacks("pg_current_wal_lsn()") + &lacks("pg_postmaster_start_time()"))).await.unwrap();
    let pieces = &["pg_postmaster_start_time", "pg_current_wal_lsn", "GRANT EXECUTE", "PostgreSQL 1"];
    let store = store::open(Source::url(&database.url), "nothing").unwrap();
    says(&misconfigured(store.look(&component("c")).await), pieces);
    says(&misconfigured(store::migrate(&Source::url(&database.url)).await), pieces);
}

#[tokio::test]
async fn products_whose_servers_are_a_life_each_are_refused_by_name() {
    for (version, product) in [
        ("CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27)", "CockroachDB"),
        ("PostgreSQL 11.2-YB-2.20.1.3-b0 on x86_64-pc-linux-gnu", "YugabyteDB"),
        ("PostgreSQL 8.0.2 on i686-pc-linux-gnu, Redshift 1.0.1", "Redshift"),
    ] {
        // With all of the functions, and with none of them.
        let none = lacks("pg_current_wal_lsn()")
            + &lacks("pg_postmaster_start_time()")
            + &lacks("pg_control_system()");
        for more in [String::new(), none + &lacks("pg_is_in_recovery()")] {
            let database = database().await;
            let renamed = lacks("version()");
            database.psql(&(renamed + &says_of_itself("version()", version) + &more)).await.unwrap();
            let source = Source::url(&database.url);
            says(&misconfigured(store::migrate(&source).await), &[product, "failover"]);
            let store = store::open(source, "product").unwrap();
            says(&misconfigured(store.look(&component("c")).await), &[product, "failover"]);
            assert_eq!(
                database.psql("SELECT to_regclass('component_lease_schema') IS NULL").await.unwrap(),
                "t"
            );
        }
    }
}
