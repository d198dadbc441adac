//! Copies of our tables by PostgreSQL's own tools: dumps and logical replication.

use component_lease::election::Take;
use component_lease::store::{self, Directory, Outcome, Source};
use component_lease_testkit::postgres::{self, Database, Server};
use component_lease_testkit::wait;

use crate::store_instances::instance;
use crate::stores::{SOON, component, held, misconfigured, row, says, take, term};

/// Migrated, with terms, an intent and participants.
async fn original(server: &Server) -> Database {
    let database = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(&database.url)).await.unwrap();
    let store = open(&database);
    for name in ["c", "d"] {
        let a = held(&*store, name, "a").await;
        store.release(&a).await.unwrap();
        next(&*store, name, "b").await.unwrap();
        store.beat(&instance(name, "b"), None).await.unwrap();
    }
    store.set_intent(&component("c"), store::StandingIntent::ttl(9)).await.unwrap();
    database
}

fn open(database: &Database) -> std::sync::Arc<dyn Directory> {
    store::open(Source::url(&database.url), "copies").unwrap()
}

/// The next term of a component, with the next version.
async fn next(store: &dyn Directory, name: &str, holder: &str) -> Result<Outcome, store::StoreError> {
    let looked = store.look(&component(name)).await?;
    let version = looked.row.as_ref().map_or(0, |row| row.version) + 1;
    let take = Take { life_id: looked.life.id(), ..take(&term(name, holder, version), looked.row.as_ref()) };
    store.take(&take).await
}

async fn dump(database: &Database, arguments: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let to = file.path().display().to_string();
    database.run("pg_dump", &[&["-Fc", "-f", &to], arguments].concat()).await.unwrap();
    file
}

async fn restore(file: &tempfile::NamedTempFile, into: &Database, arguments: &[&str]) -> anyhow::Result<()> {
    let from = file.path().display().to_string();
    into.run("pg_restore", &[&["--no-owner", "--exit-on-error"], arguments, &[&from]].concat()).await
}

/// What was there is there, elections go on above it, and history is never repeated.
async fn goes_on(copy: &Database) {
    let report = store::migrate(&Source::url(&copy.url)).await.unwrap();
    assert!(!report.foreign_lease_table, "{report}");
    let store = open(copy);
    assert_eq!(row(&*store, "c").await.unwrap().version, 2);
    assert_eq!(store.look(&component("c")).await.unwrap().standing_ttl, Some(9));
    if store.look(&component("c")).await.unwrap().life.is_strange() {
        let seen = store.look(&component("c")).await.unwrap().life.record().cloned();
        let new = component_lease::election::NewEpoch { seen, at_least: 0, max_ttl: 30, deliberate: false };
        assert_eq!(store.epochs().unwrap().begin_epoch(&new).await.unwrap(), Outcome::Applied);
    }
    assert_eq!(next(&*store, "c", "e").await.unwrap(), Outcome::Applied);
    let again = "INSERT INTO component_lease_history VALUES ('c', 1, 'x', 0, 5)";
    assert!(copy.psql(again).await.unwrap_err().to_string().contains("a later version was granted already"));
    let id = store.beat(&instance("c", "e"), None).await.unwrap().unwrap();
    assert!(copy.psql("SELECT max(id) FROM component_instance").await.unwrap() == id.to_string());
}

#[tokio::test]
async fn a_dump_restores_whole_or_schema_first_and_data_after() {
    let server = postgres::shared().await.unwrap();
    let original = original(server).await;
    let whole = dump(&original, &[]).await;
    let (schema, data) = (dump(&original, &["--schema-only"]).await, dump(&original, &["--data-only"]).await);

    let copy = server.fresh_database().await.unwrap();
    restore(&whole, &copy, &[]).await.unwrap();
    goes_on(&copy).await;

    for more in [&["--single-transaction"][..], &["--disable-triggers"]] {
        let copy = server.fresh_database().await.unwrap();
        restore(&schema, &copy, &[]).await.unwrap();
        restore(&data, &copy, more).await.unwrap();
        goes_on(&copy).await;
    }
}

#[tokio::test]
async fn data_alone_is_refused_by_tables_that_are_in_use_and_leaves_nothing_behind() {
    let server = postgres::shared().await.unwrap();
    let data = dump(&original(server).await, &["--data-only"]).await;
    let copy = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(&copy.url)).await.unwrap();
    let refused = restore(&data, &copy, &["--single-transaction"]).await.unwrap_err().to_string();
    assert!(refused.contains("duplicate key") && refused.contains("component_lease"), "{refused}");
    assert_eq!(copy.psql("SELECT count(*) FROM component_lease").await.unwrap(), "0");
    // Lines in another order than they were granted in.
    let refused = copy
        .psql(
            "INSERT INTO component_lease_history VALUES ('c', 2, 'x', 0, 5);
             COPY component_lease_history (component_name, version, holder_id, lease_time, ttl) FROM stdin;\nc\t1\ta\t0\t5\n\\.\n",
        )
        .await
        .unwrap_err()
        .to_string();
    says(&refused, &["a later version was granted already", "--disable-triggers"]);
}

#[tokio::test]
async fn a_schema_without_data_is_filled_by_migrate() {
    let server = postgres::shared().await.unwrap();
    let schema = dump(&original(server).await, &["--schema-only"]).await;
    let copy = server.fresh_database().await.unwrap();
    restore(&schema, &copy, &[]).await.unwrap();
    let report = store::migrate(&Source::url(&copy.url)).await.unwrap();
    assert!(!report.foreign_lease_table && report.waits.is_some(), "{report}");
    let store = open(&copy);
    assert!(store.look(&component("c")).await.unwrap().life.record().is_some());
    assert_eq!(next(&*store, "c", "a").await.unwrap(), Outcome::Applied);
    assert_eq!(store::migrate(&Source::url(&copy.url)).await.unwrap().applied, Vec::<&str>::new());
}

#[tokio::test]
async fn a_copy_by_logical_replication_takes_over_and_migrate_moves_its_sequence() {
    let server = Server::builder().setting("wal_level", "logical").start().await.unwrap();
    let publisher = original(&server).await;
    let subscriber = server.fresh_database().await.unwrap();
    restore(&dump(&publisher, &["--schema-only"]).await, &subscriber, &[]).await.unwrap();
    publisher
        .psql(
            "CREATE PUBLICATION p FOR ALL TABLES; SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
        )
        .await
        .unwrap();
    let from = server.url(&publisher.name);
    subscriber
        .psql(&format!("CREATE SUBSCRIPTION s CONNECTION '{from}' PUBLICATION p WITH (create_slot = false, slot_name = 's')"))
        .await
        .unwrap();
    // What changes while it runs arrives too.
    let store = open(&publisher);
    assert_eq!(next(&*store, "d", "late").await.unwrap(), Outcome::Applied);
    store.beat(&instance("d", "late"), None).await.unwrap();
    let arrived = "SELECT (SELECT count(*) FROM component_lease_history), (SELECT count(*) FROM component_instance),
                          (SELECT max(version) FROM component_lease), (SELECT count(*) FROM component_lease_store)";
    let wanted = publisher.psql(arrived).await.unwrap();
    wait::until_true(SOON * 3, "the rows to arrive", async || {
        subscriber.psql(arrived).await.unwrap() == wanted
    })
    .await
    .unwrap();
    drop(store);
    subscriber
        .psql(
            "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s",
        )
        .await
        .unwrap();
    publisher.psql("SELECT pg_drop_replication_slot('s')").await.ok();

    // Sequences do not come along. Until migrate has run, a participant elects without being listed.
    let store = open(&subscriber);
    let refused = misconfigured(store.beat(&instance("c", "x"), None).await);
    says(&refused, &["component_instance", "sequence", "component-lease migrate"]);
    drop(store);
    goes_on(&subscriber).await;
    assert_eq!(row(&*open(&subscriber), "d").await.unwrap().holder, "late");
}
