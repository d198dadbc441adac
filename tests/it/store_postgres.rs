//! What is particular to PostgreSQL: cost, connections, privileges, and tables made by others.

use std::time::Duration;

use component_lease::domain::{ComponentName, HolderId, TermKey};
use component_lease::store::{self, Hint, Outcome, Source, Store, StoreError};
use component_lease_testkit::postgres::{self, Database, Server};
use component_lease_testkit::wait;
use tokio::time::timeout;

use crate::stores::{
    SOON, component, held, migrated_database, misconfigured, retryable, row, says, take, term,
};

async fn migrated() -> Database {
    migrated_database(postgres::shared().await.unwrap()).await
}

fn open(database: &Database, application: &str) -> std::sync::Arc<dyn Store> {
    store::open(Source::url(&database.url), application).unwrap()
}

/// Connections of this application to this database, as the server sees them.
async fn connections(database: &Database, application: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND datname = current_database()"
    );
    database.psql(&sql).await.unwrap().parse().unwrap()
}

async fn until_connections(database: &Database, application: &str, wanted: usize) {
    wait::until_true(SOON, format!("{wanted} connections"), async || {
        connections(database, application).await == wanted
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_renewal_is_one_statement_and_so_is_every_other_call() {
    let database = migrated().await;
    let store = open(&database, "counted");
    let a = held(&*store, "c", "a").await;
    store.limit_lock_wait(Duration::from_secs(1));
    let everything = async || {
        store.renew(&a).await.unwrap();
        store.look(&a.component).await.unwrap();
        store.look_all().await.unwrap();
        store.set_intent(&a.component, store::StandingIntent { ttl: 9 }).await.unwrap();
        store.clear_intent(&a.component).await.unwrap();
        store.limit_lock_wait(Duration::from_secs(1));
    };
    everything().await;
    let before = database.statements("%").await.unwrap();
    // The counting itself leaves one statement behind each time (a SET).
    let itself = database.statements("%").await.unwrap() - before;
    for _ in 0..10 {
        everything().await;
    }
    let after = database.statements("%").await.unwrap();
    assert_eq!(after - before - 2 * itself, 50);
    assert_eq!(connections(&database, "counted").await, 1);
}

#[tokio::test]
async fn a_changed_lock_limit_costs_one_more_statement_once() {
    let database = migrated().await;
    let store = open(&database, "limits");
    let a = held(&*store, "c", "a").await;
    let before = database.statements("SELECT set_config(%").await.unwrap();
    for limit in [500, 500, 700, 700] {
        store.limit_lock_wait(Duration::from_millis(limit));
        store.renew(&a).await.unwrap();
    }
    assert_eq!(database.statements("SELECT set_config(%").await.unwrap() - before, 2);
}

#[tokio::test]
async fn a_renewal_is_a_heap_only_update() {
    let database = migrated().await;
    let store = open(&database, "hot");
    let a = held(&*store, "c", "a").await;
    for _ in 0..300 {
        store.renew(&a).await.unwrap();
    }
    // A session reports its figures when it ends.
    drop(store);
    let figures = wait::until(SOON, "the server's figures", async || {
        let text = database
            .psql(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'component_lease'",
            )
            .await?;
        let (all, hot) = text.split_once('|').unwrap();
        let (all, hot): (u64, u64) = (all.parse()?, hot.parse()?);
        Ok((all >= 300).then_some((all, hot)))
    })
    .await
    .unwrap();
    // Where vacuum holds the page just then, the new version goes to another one.
    let (all, hot) = figures;
    assert!(hot * 100 >= all * 95, "{hot} of {all}");
}

#[tokio::test]
async fn at_rest_a_store_has_one_connection_and_one_more_while_it_listens() {
    let database = migrated().await;
    let store = open(&database, "resting");
    assert_eq!(connections(&database, "resting").await, 0, "nothing was asked yet");
    held(&*store, "c", "a").await;
    let mut hints = store.hints();
    timeout(SOON, hints.next()).await.unwrap();
    store.look_all().await.unwrap();
    assert_eq!(connections(&database, "resting").await, 2);
    drop(hints);
    until_connections(&database, "resting", 1).await;
    drop(store);
    until_connections(&database, "resting", 0).await;
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection_without_a_cancel() {
    let database = migrated().await;
    let store = open(&database, "dropped");
    store.limit_lock_wait(Duration::from_secs(3));
    let a = held(&*store, "c", "a").await;
    let pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dropped'";
    let first = database.psql(pid).await.unwrap();
    let locked = lock_rows(&database).await;
    assert!(timeout(Duration::from_millis(200), store.renew(&a)).await.is_err());
    // The next call has a connection of its own while the statement before is still waiting.
    store.look(&a.component).await.unwrap();
    let waiting = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {first}");
    assert_eq!(database.psql(&waiting).await.unwrap(), "Lock", "no cancel was sent");
    // The server ends the old session at the latest when it gives up the lock.
    wait::until_true(SOON, "the end of the session", async || {
        !database.psql(pid).await.unwrap().lines().any(|line| line == first)
    })
    .await
    .unwrap();
    locked.release().await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(connections(&database, "dropped").await, 1);
}

/// Somebody else's transaction that holds every row of the table.
struct Locked<'a> {
    database: &'a Database,
    psql: tokio::task::JoinHandle<()>,
}

async fn lock_rows(database: &Database) -> Locked<'_> {
    let url = database.url.clone();
    let psql = tokio::spawn(async move {
        let server = Server::existing(&url).await.unwrap();
        let _ = server.psql("BEGIN; SELECT FROM component_lease FOR UPDATE; SELECT pg_sleep(60)").await;
    });
    wait::until_true(SOON, "the rows to be locked", async || sleeping(database).await != "0").await.unwrap();
    Locked { database, psql }
}

async fn sleeping(database: &Database) -> String {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    database.psql(sql).await.unwrap()
}

impl Locked<'_> {
    async fn release(self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        self.database.psql(end).await.unwrap();
        wait::until_true(SOON, "the lock to go", async || sleeping(self.database).await == "0")
            .await
            .unwrap();
        self.psql.await.unwrap();
    }
}

#[tokio::test]
async fn the_wait_for_a_row_lock_is_bounded_on_the_server() {
    let database = migrated().await;
    let store = open(&database, "bounded");
    let a = held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await;
    let locked = lock_rows(&database).await;
    for limit in [300, 50] {
        store.limit_lock_wait(Duration::from_millis(limit));
        let renewed = timeout(SOON, store.renew(&a)).await.expect("a bounded wait");
        says(&retryable(renewed), &["holds the row's lock"]);
        let seized = timeout(SOON, store.take(&take(&term("c", "b", 2), seen.as_ref()))).await.unwrap();
        retryable(seized);
    }
    assert_eq!(connections(&database, "bounded").await, 1, "a refusal does not cost the connection");
    locked.release().await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn renewals_notify_nobody_and_other_programs_changes_of_holder_do() {
    let database = migrated().await;
    let store = open(&database, "listening");
    let a = held(&*store, "c", "a").await;
    let mut hints = store.hints();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any);
    for _ in 0..20 {
        store.renew(&a).await.unwrap();
    }
    database
        .psql("UPDATE component_lease SET holder_id = 'foreign', version = version + 1 WHERE component_name = 'c'")
        .await
        .unwrap();
    database.psql("INSERT INTO component_lease VALUES ('d', 'foreign', 1, 1, 1, 5)").await.unwrap();
    // Had a renewal notified, its hint would come first and there would be more than two.
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("c".into()));
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("d".into()));
}

#[tokio::test]
async fn a_row_whose_time_is_long_past_or_in_the_future_is_renewed_all_the_same() {
    let database = migrated().await;
    let store = open(&database, "times");
    let a = held(&*store, "c", "a").await;
    for renew_time in [1, 9_000_000_000_000_i64] {
        database.psql(&format!("UPDATE component_lease SET renew_time = {renew_time}")).await.unwrap();
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        let row = row(&*store, "c").await.unwrap();
        assert!(row.renew_time > renew_time, "{row:?}");
    }
}

// ---- Tables made by others ----

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
    assert_eq!(store.take(&take(&a, None)).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    let seen = row(&*store, &fits(64)).await.unwrap();
    assert!(seen.is_term(&a));
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(store.look_all().await.unwrap().rows.len(), 1);

    let long_name = term(&fits(65), "a", 1);
    let pieces = &["component_lease.component_name", "65 characters", "holds 64"];
    says(&misconfigured(store.look(&long_name.component).await), pieces);
    says(&misconfigured(store.take(&take(&long_name, None)).await), pieces);
    let long_holder = term("c", &fits(129), 1);
    says(
        &misconfigured(store.take(&take(&long_holder, None)).await),
        &["component_lease.holder_id", "129 characters", "holds 128"],
    );
    let large = term("c", "a", i64::from(i32::MAX) + 1);
    says(
        &misconfigured(store.take(&take(&large, None)).await),
        &["2147483648", "component_lease.version", "2147483647", "TYPE BIGINT"],
    );
    assert_eq!(store.look_all().await.unwrap().rows.len(), 1, "nothing was written");
    says(
        &misconfigured(store.set_intent(&component("c"), store::StandingIntent { ttl: 5 }).await),
        &["component_lease_intent", "component-lease migrate"],
    );
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
    assert_eq!(store.take(&take(&a, Some(&seen))).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert!(store.look_all().await.unwrap().rows.get("c").unwrap().is_term(&a));
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

// ---- Who may do what ----

/// A role without any privilege, dropped at the end.
struct Role<'a> {
    database: &'a Database,
    name: String,
}

impl<'a> Role<'a> {
    async fn create(database: &'a Database, name: &str) -> Self {
        let name = format!("{name}_{}", database.name);
        database.psql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pass-word'")).await.unwrap();
        Self { database, name }
    }

    async fn store(&self) -> std::sync::Arc<dyn Store> {
        let server = postgres::shared().await.unwrap();
        let url = server.url_as(&self.name, "pass-word", &self.database.name);
        store::open(Source::url(url), "role").unwrap()
    }

    /// The grants as `migrate` prints them, for this role in place of the one of the example.
    async fn grant(&self, example: &str) {
        let report = store::migrate(&Source::url(&self.database.url)).await.unwrap();
        for line in report.grants.unwrap().lines().filter(|line| line.contains(example)) {
            self.database.psql(&line.replace(example, &self.name)).await.unwrap();
        }
    }

    async fn drop(self) {
        let name = &self.name;
        self.database.psql(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_participant_needs_exactly_the_grants_that_migrate_prints() {
    let database = migrated().await;
    let role = Role::create(&database, "participant").await;
    let store = role.store().await;
    let grant = format!("GRANT SELECT, INSERT, UPDATE ON component_lease TO \"{}\"", role.name);
    says(&misconfigured(store.look(&component("c")).await), &["permission denied", &grant]);
    role.grant("my_participant").await;
    let a = held(&*store, "c", "a").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    store.look(&a.component).await.unwrap();
    misconfigured(store.set_intent(&a.component, store::StandingIntent { ttl: 5 }).await);
    for may_not in ["DELETE", "TRUNCATE", "TRIGGER"] {
        let asked = format!("SELECT has_table_privilege('{}', 'component_lease', '{may_not}')", role.name);
        assert_eq!(database.psql(&asked).await.unwrap(), "f", "{may_not}");
    }
    drop(store);
    role.drop().await;
}

#[tokio::test]
async fn the_controller_needs_exactly_the_grants_that_migrate_prints() {
    let database = migrated().await;
    let participant = open(&database, "test");
    let a = held(&*participant, "c", "a").await;
    let role = Role::create(&database, "controller").await;
    role.grant("my_controller").await;
    let store = role.store().await;
    assert_eq!(store.look_all().await.unwrap().rows.len(), 1);
    store.set_intent(&a.component, store::StandingIntent { ttl: 5 }).await.unwrap();
    store.clear_intent(&a.component).await.unwrap();
    // It never writes a lease.
    says(&misconfigured(store.renew(&a).await), &["permission denied"]);
    drop(store);
    role.drop().await;
}

#[tokio::test]
async fn a_session_that_may_only_read_makes_nobody_leader() {
    let database = migrated().await;
    let url = format!("{}?options=-c%20default_transaction_read_only%3Don", database.url);
    let store = store::open(Source::url(url), "reading").unwrap();
    says(&retryable(store.look(&component("c")).await), &["only read", "default_transaction_read_only"]);
}

// ---- Getting in ----

#[tokio::test]
async fn a_wrong_password_is_refused_with_user_and_host_and_never_printed() {
    let server = postgres::shared().await.unwrap();
    let url = server.url_as("postgres", "hunter2-is-wrong", "postgres");
    let store = store::open(Source::url(url), "test").unwrap();
    let why = misconfigured(store.look(&component("c")).await);
    says(&why, &["user postgres", &format!("127.0.0.1:{}", server.port())]);
    for text in [why, format!("{store:?}"), store.describe()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_database_and_a_server_that_is_not_there_are_told_apart() {
    let server = postgres::shared().await.unwrap();
    let store = store::open(Source::url(server.url("no_such_database")), "test").unwrap();
    says(&misconfigured(store.look(&component("c")).await), &["no_such_database", "does not exist"]);
    // Nobody listens on port 1 of this machine.
    let store = store::open(Source::url("postgres://u:hunter2@127.0.0.1:1/app"), "test").unwrap();
    let why = retryable(store.look(&component("c")).await);
    says(&why, &["127.0.0.1:1", "refused"]);
    assert!(!why.contains("hunter2"), "{why}");
}

#[tokio::test]
async fn an_url_that_means_nothing_is_refused_before_anything_is_connected() {
    let refused = |url: &str| store::open(Source::url(url), "test").map(|store| store.describe());
    says(&misconfigured(refused("postgres//u:p@h/d")), &["must begin with postgres://"]);
    let file = Source::file("/no/such/url");
    let answer = store::open(file, "test").map(|store| store.describe());
    says(&misconfigured(answer), &["/no/such/url", "database URL"]);
}

#[tokio::test]
async fn tls_is_verified_when_asked_for_and_what_is_wrong_with_it_is_said() {
    let server = Server::builder().tls().start().await.unwrap();
    let database = migrated_database_with(&server, "sslmode=require").await;
    let authority = server.authority().unwrap();
    let look = async |parameters: &str| -> Result<(), StoreError> {
        let source = Source::url(format!("{}?{parameters}", database.url));
        store::open(source, "tls")?.look(&component("c")).await.map(drop)
    };
    let trusted = format!("sslrootcert={}", authority.display());
    look(&format!("sslmode=verify-full&{trusted}")).await.unwrap();
    look(&format!("sslmode=verify-ca&{trusted}")).await.unwrap();
    look("sslmode=require").await.unwrap();
    says(&misconfigured(look("sslmode=verify-full").await), &["TLS", "sslrootcert="]);
    says(
        &misconfigured(look("sslmode=verify-full&sslrootcert=/no/such/ca.crt").await),
        &["/no/such/ca.crt", "cannot read"],
    );
    misconfigured(look("sslmode=disable").await);
    // And a server without TLS.
    let plain = postgres::shared().await.unwrap();
    let source = Source::url(format!("{}?sslmode=verify-full", plain.url("postgres")));
    let store = store::open(source, "tls").unwrap();
    says(&misconfigured(store.look(&component("c")).await), &["does not support TLS"]);
}

async fn migrated_database_with(server: &Server, parameters: &str) -> Database {
    let database = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(format!("{}?{parameters}", database.url))).await.unwrap();
    database
}
