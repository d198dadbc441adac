//! Tables that other programs made: they work, or are refused before anything is written.

use component_lease::election::{ComponentName, HolderId, NewEpoch, TermKey};
use component_lease::store::{self, Outcome, Source};
use component_lease_testkit::postgres;

use crate::store_postgres::open;
use crate::stores::{component, held, look_at, misconfigured, row, says, take, taking, term};

#[tokio::test]
async fn a_table_of_another_program_with_narrow_columns_works_and_nothing_is_ever_cut() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    database
        .psql("CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version INT, ttl SMALLINT)")
        .await
        .unwrap();
    let store = open(&database, "narrow");
    let fits = |length: usize| "ü".repeat(length);
    let a = TermKey {
        component: ComponentName::new(fits(64)).unwrap(),
        holder: HolderId::new(fits(128)).unwrap(),
        version: i32::MAX.into(),
    };
    assert_eq!(taking(&*store, &take(&a, None)).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    let seen = row(&*store, &fits(64)).await.unwrap();
    assert!(seen.is_term(&a));
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(look_at(&*store, &[&fits(64)]).await.rows.len(), 1);

    let long_name = term(&fits(65), "a", 1);
    let pieces = &[
        "component_lease.component_name",
        "65 characters",
        "holds 64",
        "--component-key",
        "allowedComponents",
    ];
    says(&misconfigured(store.look(&long_name.component).await), pieces);
    says(&misconfigured(taking(&*store, &take(&long_name, None)).await), pieces);
    let long_holder = term("c", &fits(129), 1);
    says(
        &misconfigured(taking(&*store, &take(&long_holder, None)).await),
        &["component_lease.holder_id", "129 characters", "holds 128"],
    );
    let large = term("c", "a", i64::from(i32::MAX) + 1);
    says(
        &misconfigured(taking(&*store, &take(&large, None)).await),
        &["2147483648", "component_lease.version", "2147483647", "TYPE BIGINT"],
    );
    let names = [fits(64), fits(65), "c".to_owned()];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(look_at(&*store, &names).await.rows.len(), 1, "nothing was written");
    says(
        &misconfigured(store.set_intent(&component("c"), store::StandingIntent::ttl(5)).await),
        &["component_lease_intent", "component-lease migrate"],
    );
}

#[tokio::test]
async fn an_epoch_whose_versions_do_not_fit_the_column_is_never_recorded() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    database
        .psql("CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version INT, ttl INT)")
        .await
        .unwrap();
    store::migrate(&Source::url(&database.url)).await.unwrap();
    let store = open(&database, "narrow");
    let seen = look_at(&*store, &[]).await.life.record().unwrap().clone();
    let new = |at_least| NewEpoch { seen: Some(seen.clone()), at_least, max_ttl: 30, deliberate: true };
    for at_least in [2_147_483, 9_000_000_000_002] {
        says(
            &misconfigured(store.epochs().unwrap().begin_epoch(&new(at_least)).await),
            &["versions of epoch", "component_lease.version", "2147483647", "TYPE BIGINT"],
        );
    }
    assert_eq!(look_at(&*store, &[]).await.life.record(), Some(&seen));
    assert_eq!(store.epochs().unwrap().begin_epoch(&new(43)).await.unwrap(), Outcome::Applied);
    assert_eq!(look_at(&*store, &[]).await.life.record().unwrap().epoch, 43);
}

#[tokio::test]
async fn nulls_of_another_program_count_as_nobody_and_can_be_taken() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    database
        .psql("CREATE TABLE component_lease (component_name TEXT PRIMARY KEY, holder_id TEXT, lease_time NUMERIC, renew_time NUMERIC, version NUMERIC, ttl FLOAT);
               INSERT INTO component_lease VALUES ('c')")
        .await
        .unwrap();
    let store = open(&database, "nulls");
    let seen = row(&*store, "c").await.unwrap();
    assert!(seen.is_free());
    let a = term("c", "a", 1);
    assert_eq!(taking(&*store, &take(&a, Some(&seen))).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert!(look_at(&*store, &["c"]).await.rows.get("c").unwrap().is_term(&a));
}

#[tokio::test]
async fn a_table_that_cannot_hold_a_lease_is_refused_with_the_column() {
    let rest = "lease_time BIGINT, renew_time BIGINT, version BIGINT, ttl INT";
    for (columns, pieces) in [
        (
            format!("component_name CHAR(64) PRIMARY KEY, holder_id TEXT, {rest}"),
            &["component_lease.component_name", "bpchar", "VARCHAR is needed"][..],
        ),
        (
            "component_name TEXT PRIMARY KEY, holder_id TEXT, lease_time TIMESTAMP, renew_time TIMESTAMP, version INT, ttl INT".to_owned(),
            &["component_lease.lease_time", "timestamp", "BIGINT is needed"],
        ),
        (
            "component_name TEXT PRIMARY KEY, holder_id TEXT, lease_time BIGINT, renew_time BIGINT, ttl INT".to_owned(),
            &["no column version"],
        ),
        (format!("component_name TEXT, holder_id TEXT, {rest}"), &["no primary key on component_name"]),
        (
            format!("component_name TEXT, holder_id TEXT, {rest}, PRIMARY KEY (component_name, version)"),
            &["no primary key on component_name"],
        ),
        (
            format!("component_name TEXT COLLATE nocase PRIMARY KEY, holder_id TEXT, {rest}"),
            &["component_lease.component_name", "nondeterministic"],
        ),
    ] {
        let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
        database
            .psql(&format!(
                "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
                 CREATE TABLE component_lease ({columns})"
            ))
            .await
            .unwrap();
        says(&misconfigured(open(&database, "refused").look(&component("c")).await), pieces);
    }
}

#[tokio::test]
async fn a_missing_table_says_to_migrate_and_one_in_another_schema_is_named() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    let store = open(&database, "missing");
    says(
        &misconfigured(store.look(&component("c")).await),
        &[&database.name, "no table component_lease", "component-lease migrate"],
    );
    database.psql("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.component_lease (a INT)").await.unwrap();
    says(&misconfigured(store.look(&component("c")).await), &["schema elsewhere", "search_path"]);
    // The URL may say which schema; migrate and the store then agree on it.
    database.psql("CREATE SCHEMA mine").await.unwrap();
    let source = Source::url(format!("{}?options=-c%20search_path%3Dmine", database.url));
    store::migrate(&source).await.unwrap();
    held(&*store::open(source, "test").unwrap(), "c", "a").await;
    assert_eq!(database.psql("SELECT holder_id FROM mine.component_lease").await.unwrap(), "a");
}
