//! What others may create in a schema of the search path is never run by us: it would run with our rights.

use std::sync::Arc;
use std::time::Duration;

use component_lease::election::{LifeId, NewEpoch, Take};
use component_lease::store::{self, Directory, Outcome, Source, StandingIntent};
use component_lease_testkit::postgres::{self, Database, Server};
use tokio::time::timeout;

use crate::store_instances::instance;
use crate::stores::{SOON, alive_at, component, look_at, take, term};

/// Each call, twice where the second takes another way.
async fn all_calls(store: &dyn Directory) {
    let c = component("c");
    store.limit_lock_wait(Duration::from_secs(2));
    let a = term("c", "a", 1);
    for highest in [0, 1] {
        let looked = store.look(&c).await.unwrap();
        assert_eq!(looked.row.is_some(), highest == 1);
        let a = term("c", "a", highest + 1);
        let take = Take { life_id: looked.life.id(), ..take(&a, looked.row.as_ref()) };
        assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
        store.limit_lock_wait(Duration::from_secs(1));
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    }
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Lost);
    let stale = Take { life_id: LifeId::default(), ..take(&term("c", "b", 1), None) };
    assert_eq!(store.take(&stale).await.unwrap(), Outcome::Lost);
    assert_eq!(look_at(store, &["c"]).await.rows.len(), 1);
}

async fn calls_of_companions(store: &dyn Directory) {
    let c = component("c");
    let id = store.beat(&instance("c", "a"), None).await.unwrap();
    assert_eq!(store.beat(&instance("c", "a"), id).await.unwrap(), id);
    assert_eq!(alive_at(store, &["c"]).await.instances.unwrap().len(), 1);
    store.set_intent(&c, StandingIntent::ttl(9)).await.unwrap();
    store.set_intent(&c, StandingIntent::ttl(8)).await.unwrap();
    assert_eq!(store.look(&c).await.unwrap().standing_ttl, Some(8));
    store.clear_intent(&c).await.unwrap();
    store.look(&component("nobody-had-this")).await.unwrap();
    store.prune_instances(Duration::ZERO).await.unwrap();
    let life = store.look(&c).await.unwrap().life;
    let new = NewEpoch { seen: life.record().cloned(), at_least: 0, max_ttl: 30, deliberate: true };
    assert_eq!(store.epochs().unwrap().begin_epoch(&new).await.unwrap(), Outcome::Applied);
    let life_id = store.look(&c).await.unwrap().life.id();
    assert_eq!(store.epochs().unwrap().settle(&life_id).await.unwrap(), Outcome::Applied);
}

/// A database in which anybody made everything that could be picked, and our tables are in a schema of their own.
async fn with_trojans(server: &Server, search_path: &str) -> Database {
    let database = server.fresh_database().await.unwrap();
    database.psql(include_str!("sql/trojans.sql")).await.unwrap();
    database
        .psql(&format!("CREATE SCHEMA app; ALTER DATABASE {} SET search_path = {search_path}", database.name))
        .await
        .unwrap();
    // They bite.
    for picked in ["SELECT 'a'::varchar = 'a'::text", "SELECT lower('a'::varchar)"] {
        let bitten = database.psql(picked).await.unwrap_err();
        assert!(bitten.to_string().contains("trojan"), "{picked}: {bitten}");
    }
    database
}

async fn nothing_of_a_writable_schema_is_run(server: &Server) {
    for search_path in ["app, public", "app, public, pg_catalog"] {
        let database = with_trojans(server, search_path).await;
        let source = Source::url(&database.url);
        store::install(&source, store::Install::default().first(true)).await.unwrap();
        store::migrate(&source).await.unwrap();
        let store: Arc<dyn Directory> = store::open(source, "trojans").unwrap();
        all_calls(&*store).await;
        let mut hints = store.hints();
        timeout(SOON, hints.next()).await.unwrap();
        calls_of_companions(&*store).await;
        drop((store, hints));
        // The same on a table without companions.
        database
            .psql(
                "SET search_path = pg_catalog; CREATE SCHEMA bare;
                 CREATE TABLE bare.component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128),
                   lease_time BIGINT, renew_time BIGINT, version INT, ttl SMALLINT)",
            )
            .await
            .unwrap();
        let path = search_path.replace("app", "bare");
        database.psql(&format!("ALTER DATABASE {} SET search_path = {path}", database.name)).await.unwrap();
        let store = store::open(Source::url(&database.url), "trojans").unwrap();
        bare_calls(&*store).await;
        drop(store);
        // Companions for a table that somebody else made.
        store::migrate(&Source::url(&database.url)).await.unwrap();
    }
}

async fn bare_calls(store: &dyn Directory) {
    let c = component("c");
    let a = term("c", "a", 1);
    assert_eq!(store.take(&take(&a, None)).await.unwrap(), Outcome::Applied);
    let seen = store.look(&c).await.unwrap().row;
    assert_eq!(store.take(&take(&term("c", "a", 2), seen.as_ref())).await.unwrap(), Outcome::Applied);
    assert_eq!(look_at(store, &["c"]).await.rows.len(), 1);
}

#[tokio::test]
async fn an_operator_or_function_that_somebody_made_is_never_picked_postgres() {
    nothing_of_a_writable_schema_is_run(postgres::shared().await.unwrap()).await;
}

#[tokio::test]
async fn an_operator_or_function_that_somebody_made_is_never_picked_postgres_18() {
    nothing_of_a_writable_schema_is_run(postgres::shared_newest().await.unwrap()).await;
}
