//! Getting in: passwords, TLS, grants, and what is said when one of them is wrong.

use std::time::Duration;

use component_lease::election::Take;
use component_lease::store::{self, Directory, EndReason, Ending, Outcome, Retention, Source, StoreError};
use component_lease_testkit::postgres::{self, Database, Server};

use crate::store_instances::instance;
use crate::store_postgres::{migrated, open};
use crate::stores::{alive_at, component, held, misconfigured, retryable, says, take, term};

const KEPT: Retention = Retention { newest: 10, age: Duration::from_secs(3600) };

/// A role without any privilege, dropped at the end.
pub(crate) struct Role<'a> {
    database: &'a Database,
    pub(crate) name: String,
}

impl<'a> Role<'a> {
    pub(crate) async fn create(database: &'a Database, name: &str) -> Self {
        let name = format!("{name}_{}", database.name);
        database.psql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pass-word'")).await.unwrap();
        Self { database, name }
    }

    pub(crate) async fn store(&self) -> std::sync::Arc<dyn Directory> {
        self.store_on(postgres::shared().await.unwrap())
    }

    pub(crate) fn store_on(&self, server: &Server) -> std::sync::Arc<dyn Directory> {
        let url = server.url_as(&self.name, "pass-word", &self.database.name);
        store::open(Source::url(url), "role").unwrap()
    }

    /// The grants as `migrate` prints them, for this role in place of the one of the example.
    pub(crate) async fn grant(&self, example: &str) {
        let report = store::migrate(&Source::url(&self.database.url)).await.unwrap();
        for line in report.grants.unwrap().lines().filter(|line| line.contains(example)) {
            self.database.psql(&line.replace(example, &self.name)).await.unwrap();
        }
    }

    pub(crate) async fn drop(self) {
        let name = &self.name;
        self.database.psql(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_participant_needs_exactly_the_grants_that_migrate_prints() {
    let database = migrated().await;
    let role = Role::create(&database, "participant").await;
    let store = role.store().await;
    let grant = format!(
        "GRANT SELECT, INSERT, UPDATE ON component_lease, component_lease_store, component_instance TO \"{}\"",
        role.name
    );
    says(&misconfigured(store.look(&component("c")).await), &["permission denied", &grant]);
    role.grant("my_participant").await;
    let a = held(&*store, "c", "a").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    store.look(&a.component).await.unwrap();
    let id = store.beat(&instance("c", "a"), None).await.unwrap();
    assert!(id.is_some() && store.beat(&instance("c", "a"), id).await.unwrap() == id);
    says(&misconfigured(store.prune_instances(Duration::ZERO).await), &["permission denied"]);
    // Of a line of the history it may write the end, and nothing else.
    let ended = store.end_term(&a.component, 1, &Ending::now(EndReason::Released)).await.unwrap();
    assert_eq!(ended, Outcome::Applied);
    let says_so = misconfigured(store.prune_history(&a.component, KEPT).await);
    says(&says_so, &["permission denied", "GRANT DELETE ON component_lease_history"]);
    for (column, may) in [("end_time", "t"), ("ended_why", "t"), ("version", "f"), ("lease_time", "f")] {
        let asked = format!(
            "SELECT has_column_privilege('{}', 'component_lease_history', '{column}', 'UPDATE')",
            role.name
        );
        assert_eq!(database.psql(&asked).await.unwrap(), may, "{column}");
    }
    misconfigured(store.set_intent(&a.component, store::StandingIntent::ttl(5)).await);
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
    participant.beat(&instance("c", "a"), None).await.unwrap();
    let all = alive_at(&*store, &["c"]).await;
    assert_eq!(all.instances.unwrap().len(), 1);
    assert_eq!(store.prune_instances(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(store.prune_history(&a.component, KEPT).await.unwrap(), 0);
    let ended = store.end_term(&a.component, 1, &Ending::now(EndReason::ContainerEnded)).await.unwrap();
    assert_eq!(ended, Outcome::Applied);
    assert_eq!(all.rows.len(), 1);
    assert!(all.life.record().is_some(), "it knows of epochs");
    store.set_intent(&a.component, store::StandingIntent::ttl(5)).await.unwrap();
    store.clear_intent(&a.component).await.unwrap();
    // It may end a term, and neither begin one nor change a version.
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    let seen = participant.look(&a.component).await.unwrap();
    let take = take(&term("c", "controller", 2), seen.row.as_ref());
    let take = Take { life_id: seen.life.id(), ..take };
    says(&misconfigured(store.take(&take).await), &["permission denied"]);
    let column =
        format!("SELECT has_column_privilege('{}', 'component_lease', 'version', 'UPDATE')", role.name);
    assert_eq!(database.psql(&column).await.unwrap(), "f");
    drop(store);
    role.drop().await;
}

#[tokio::test]
async fn a_controller_that_may_not_write_leases_looks_on_and_is_told_so_when_it_releases() {
    let database = migrated().await;
    let participant = open(&database, "test");
    let a = held(&*participant, "c", "a").await;
    let role = Role::create(&database, "earlier").await;
    role.grant("my_controller").await;
    let name = &role.name;
    database
        .psql(&format!("REVOKE UPDATE (holder_id, renew_time) ON component_lease FROM {name}"))
        .await
        .unwrap();
    let store = role.store().await;
    says(&misconfigured(store.release(&a).await), &["permission denied", "component_lease"]);
    assert_eq!(alive_at(&*store, &["c"]).await.rows["c"].holder, "a");
    drop(store);
    role.drop().await;
}

#[tokio::test]
async fn a_function_of_the_identity_that_a_role_may_not_call_is_named_with_the_grant_that_helps() {
    for function in [
        "pg_control_system()",
        "pg_current_wal_lsn()",
        "pg_walfile_name(pg_lsn)",
        "pg_postmaster_start_time()",
        "clock_timestamp()",
    ] {
        let database = migrated().await;
        let role = Role::create(&database, "poor").await;
        role.grant("my_participant").await;
        let store = role.store().await;
        let before = store.look(&component("c")).await.unwrap().life;
        // What a server's administrator does to it.
        database.psql(&format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")).await.unwrap();
        let why = misconfigured(store.look(&component("c")).await);
        let name = function.split('(').next().unwrap();
        says(&why, &["permission denied", &format!("GRANT EXECUTE ON FUNCTION pg_catalog.{name}(")]);
        assert!(!why.contains("GRANT SELECT"), "what does not help: {why}");
        let grant = why.find("GRANT EXECUTE").map(|at| &why[at..]).and_then(|text| text.split(';').next());
        database.psql(grant.unwrap()).await.unwrap();
        assert_eq!(store.look(&component("c")).await.unwrap().life, before, "{function}");
        drop(store);
        role.drop().await;
    }
}

#[tokio::test]
async fn a_role_that_may_call_no_function_by_which_a_failover_is_told_is_refused_with_the_grant_that_helps() {
    let database = migrated().await;
    let role = Role::create(&database, "poor").await;
    role.grant("my_participant").await;
    database
        .psql("REVOKE EXECUTE ON FUNCTION pg_postmaster_start_time(), pg_current_wal_lsn() FROM PUBLIC")
        .await
        .unwrap();
    let store = role.store().await;
    let grant = format!("GRANT EXECUTE ON FUNCTION pg_postmaster_start_time() TO \"{}\"", role.name);
    says(&misconfigured(store.look(&component("c")).await), &["failover", &grant]);
    database.psql(&grant).await.unwrap();
    store.look(&component("c")).await.unwrap();
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
    says(&misconfigured(look("sslmode=verify-full").await), &["TLS", "sslrootcert=", "--database-ca-file"]);
    says(
        &misconfigured(look("sslmode=verify-full&sslrootcert=/no/such/ca.crt").await),
        &["/no/such/ca.crt", "cannot read"],
    );
    misconfigured(look("sslmode=disable").await);
    // And a server without TLS.
    let plain = postgres::shared().await.unwrap();
    let source = Source::url(format!("{}?sslmode=verify-full", plain.url("postgres")));
    let store = store::open(source, "tls").unwrap();
    says(&misconfigured(store.look(&component("c")).await), &["does not support TLS", "ssl = on"]);
}

async fn migrated_database_with(server: &Server, parameters: &str) -> Database {
    let database = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(format!("{}?{parameters}", database.url))).await.unwrap();
    database
}

#[tokio::test]
async fn a_member_of_a_database_needs_exactly_the_grants_that_migrate_prints() {
    let database = migrated().await;
    let role = Role::create(&database, "member").await;
    role.grant("my_participant").await;
    let store = role.store().await;
    let a = held(&*store, "c", "a").await;
    let members = ["m".to_owned()].into();
    let roster = store.roster().unwrap();
    let grant = "GRANT INSERT ON component_lease_record";
    says(&misconfigured(roster.record(&a, "r").await), &["permission denied", grant]);
    role.grant("my_member").await;
    assert_eq!(roster.record(&a, "r").await.unwrap(), Outcome::Applied);
    roster.report(&a.component, "m", "says").await.unwrap();
    assert_eq!(roster.read_roster(&a.component, &members).await.unwrap().reports.len(), 1);
    drop(store);
    role.drop().await;
}
