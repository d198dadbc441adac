//! Who gets into MySQL and MariaDB, and who may do what there.

use std::sync::Arc;
use std::time::Duration;

use component_lease::election::Take;
use component_lease::store::{self, Directory, EndReason, Ending, Outcome, Retention, Source, StoreError};
use component_lease_testkit::mysql::{Database, Kind, Server};

use crate::store_instances::instance;
use crate::store_mysql::{on_each_kind, open, server};
use crate::stores::{
    alive_at, component, held, migrated_mysql, misconfigured, named, retryable, says, take, term,
};

const KEPT: Retention = Retention { newest: 10, age: Duration::from_secs(3600) };

/// A user without any privilege, dropped by hand at the end (a failed test leaves it to its server's end).
pub(crate) struct User<'a> {
    server: &'a Server,
    database: &'a Database,
    pub(crate) name: String,
}

impl<'a> User<'a> {
    pub(crate) async fn create(server: &'a Server, database: &'a Database, name: &str) -> Self {
        let name = format!("{name}_{}", database.name.trim_start_matches("test_"));
        server.sql(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'pass-word'")).await.unwrap();
        Self { server, database, name }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url_as(&self.name, "pass-word", &self.database.name)
    }

    pub(crate) fn store(&self) -> Arc<dyn Directory> {
        store::open(Source::url(self.url()), "user").unwrap()
    }

    /// The grants as `migrate` prints them, for this user in place of the one of the example.
    pub(crate) async fn grant(&self, example: &str) {
        let report = store::migrate(&Source::url(&self.database.url)).await.unwrap();
        let grants: Vec<_> = report.grants.unwrap().lines().filter(|line| line.contains(example)).collect();
        // The fewest are those of a member of a database.
        assert!(grants.len() >= 2, "{grants:?}");
        for line in grants {
            self.database.sql(&line.replace(example, &format!("'{}'@'%'", self.name))).await.unwrap();
        }
    }

    pub(crate) async fn drop(self) {
        self.server.sql(&format!("DROP USER '{}'@'%'", self.name)).await.unwrap();
    }
}

async fn a_participant_needs_exactly_the_grants_that_migrate_prints(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let user = User::create(server, &database, "participant").await;
    let store = user.store();
    says(&misconfigured(store.look(&component("c")).await), &["Access denied", &user.name, &database.name]);
    user.grant("my_participant").await;
    let a = held(&*store, "c", "a").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    store.look(&a.component).await.unwrap();
    let id = store.beat(&instance("c", "a"), None).await.unwrap();
    assert!(id.is_some() && store.beat(&instance("c", "a"), id).await.unwrap() == id);
    says(&misconfigured(store.prune_instances(Duration::ZERO).await), &["denied"]);
    // Of a line of the history it may write the end, and nothing else.
    let ended = store.end_term(&a.component, 1, &Ending::now(EndReason::Released)).await.unwrap();
    assert_eq!(ended, Outcome::Applied);
    says(
        &misconfigured(store.prune_history(&a.component, KEPT).await),
        &["denied", "component_lease_history"],
    );
    let columns = format!(
        "SELECT GROUP_CONCAT(COLUMN_NAME ORDER BY BINARY COLUMN_NAME) FROM information_schema.COLUMN_PRIVILEGES WHERE TABLE_NAME = 'component_lease_history' AND TABLE_SCHEMA = DATABASE() AND PRIVILEGE_TYPE = 'UPDATE' AND GRANTEE LIKE '%{}%'",
        user.name
    );
    assert_eq!(database.sql(&columns).await.unwrap(), "end_reason,end_time,ended_by,ended_why");
    let why = misconfigured(store.set_intent(&a.component, store::StandingIntent::ttl(5)).await);
    says(&why, &["denied", "component_lease_intent", "GRANT SELECT, INSERT, UPDATE ON"]);
    drop(store);
    user.drop().await;
}

async fn the_controller_needs_exactly_the_grants_that_migrate_prints(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let participant = open(&database);
    let a = held(&*participant, "c", "a").await;
    let user = User::create(server, &database, "controller").await;
    user.grant("my_controller").await;
    let store = user.store();
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
    says(&misconfigured(store.take(&take).await), &["denied"]);
    drop(store);
    user.drop().await;
}

/// The servers do not show it then: it must not pass for a table that never had companions.
async fn a_missing_grant_is_refused_with_the_tables_name(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    for example in ["my_participant", "my_controller"] {
        for table in ["component_lease_history", "component_lease_store", "component_lease_intent"] {
            let user = User::create(server, &database, &example[3..6]).await;
            user.grant(example).await;
            user.store().look(&component("c")).await.unwrap();
            for revoked in [table, "component_lease_schema"] {
                let revoke = format!("REVOKE ALL PRIVILEGES ON {revoked} FROM '{}'@'%'", user.name);
                database.sql(&revoke).await.unwrap();
                let pieces = &[table, &user.name, "GRANT", "component-lease migrate"];
                says(&misconfigured(user.store().look(&component("c")).await), pieces);
                says(&misconfigured(user.store().look_at(&named(&["c"]), false).await), pieces);
            }
            user.drop().await;
        }
    }
}

async fn a_leader_goes_on_while_tables_are_made_that_it_has_no_grants_for_yet(kind: Kind) {
    let server = server(kind).await;
    let database = server.fresh_database().await.unwrap();
    database.sql("CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version BIGINT, ttl INT)").await.unwrap();
    let user = User::create(server, &database, "early").await;
    let grant = async |what: &str| {
        database.sql(&format!("GRANT {what} TO '{}'@'%'", user.name)).await.unwrap();
    };
    grant("SELECT, INSERT, UPDATE ON component_lease").await;
    let store = user.store();
    let a = held(&*store, "c", "a").await;
    store::migrate(&Source::url(&database.url)).await.unwrap();
    grant("SELECT ON component_lease_schema").await;
    let mut looked = store.look(&a.component).await;
    for _ in 0..25 {
        looked = store.look(&a.component).await;
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    }
    says(&misconfigured(looked), &["component_lease_history", &user.name, "GRANT"]);
    user.grant("my_participant").await;
    assert!(store.look(&a.component).await.unwrap().life.record().is_some());
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    user.drop().await;
}

async fn a_user_who_may_not_create_tables_reads_which_grants_are_enough(kind: Kind) {
    let server = server(kind).await;
    let database = server.fresh_database().await.unwrap();
    let user = User::create(server, &database, "poor").await;
    database.sql(&format!("GRANT SELECT ON * TO '{}'@'%'", user.name)).await.unwrap();
    let answer = store::migrate(&Source::url(user.url())).await;
    says(&misconfigured(answer), &["may not create tables", &user.name, "GRANT CREATE"]);
    says(
        &misconfigured(user.store().look(&component("c")).await),
        &["no table component_lease", &user.name, "component-lease migrate"],
    );
    // The grants that it names are enough, also for the second run.
    database.sql(&format!("GRANT CREATE, SELECT, INSERT, UPDATE ON * TO '{}'@'%'", user.name)).await.unwrap();
    for _ in 0..2 {
        store::migrate(&Source::url(user.url())).await.unwrap();
    }
    user.drop().await;
}

async fn a_wrong_password_is_refused_with_user_and_host_and_never_printed(kind: Kind) {
    let server = server(kind).await;
    let url = server.url_as("admin", "hunter2-is-wrong", "mysql");
    let store = store::open(Source::url(url), "test").unwrap();
    let why = misconfigured(store.look(&component("c")).await);
    says(&why, &["user admin", &format!("127.0.0.1:{}", server.port()), "check the user, the password"]);
    for text in [why, format!("{store:?}"), store.describe()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

async fn a_missing_database_and_a_server_that_is_not_there_are_told_apart(kind: Kind) {
    let store = store::open(Source::url(server(kind).await.url("no_such_database")), "test").unwrap();
    says(&misconfigured(store.look(&component("c")).await), &["Unknown database", "no_such_database"]);
    // Nobody listens on port 1 of this machine.
    let store = store::open(Source::url("mysql://u:hunter2@127.0.0.1:1/app"), "test").unwrap();
    let why = retryable(store.look(&component("c")).await);
    says(&why, &["127.0.0.1:1", "refused"]);
    assert!(!why.contains("hunter2"), "{why}");
}

/// With a certificate, with each method of authentication, and through the socket.
async fn passwords_go_over_tls_or_a_socket(kind: Kind) {
    let server = Server::builder(kind).tls().start().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(&database.url)).await.unwrap();
    let authority = server.authority().unwrap().display().to_string();
    let look = async |url: &str, parameters: &str| -> Result<(), StoreError> {
        let source = Source::url(format!("{url}?{parameters}"));
        store::open(source, "tls")?.look(&component("c")).await.map(drop)
    };
    let trusted = format!("ssl-ca={authority}");
    look(&database.url, &format!("ssl-mode=VERIFY_IDENTITY&{trusted}")).await.unwrap();
    look(&database.url, &format!("ssl-mode=VERIFY_CA&{trusted}")).await.unwrap();
    look(&database.url, "ssl-mode=REQUIRED").await.unwrap();
    says(&misconfigured(look(&database.url, "ssl-mode=VERIFY_IDENTITY").await), &["TLS", "ssl-ca="]);
    says(
        &misconfigured(look(&database.url, "ssl-mode=VERIFY_IDENTITY&ssl-ca=/no/such/ca.crt").await),
        &["/no/such/ca.crt", "cannot read"],
    );
    // MariaDB 10.11 calls this a wrong password.
    let why = misconfigured(look(&database.url, "ssl-mode=DISABLED").await);
    assert!(
        why.contains("use ssl-mode=VERIFY_IDENTITY") || why.contains("whether the server wants TLS"),
        "{why}"
    );
    // A user who is new to the server must send the password itself to MySQL's caching_sha2_password.
    let socket = format!("socket={}", server.socket().display());
    for (number, parameters) in [&trusted, &socket, &trusted].into_iter().enumerate() {
        let user = User::create(&server, &database, &format!("new{number}")).await;
        user.grant("my_participant").await;
        for _ in 0..2 {
            look(&user.url(), parameters).await.unwrap();
        }
    }
}

async fn a_server_without_tls_is_refused_where_tls_is_wanted(kind: Kind) {
    let server = Server::builder(kind).option(no_tls(kind)).start().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    let look = async |url: String| store::open(Source::url(url), "tls").unwrap().look(&component("c")).await;
    let url = &database.url;
    says(&misconfigured(look(format!("{url}?ssl-mode=REQUIRED")).await), &["does not support TLS"]);
    let user = User::create(&server, &database, "fresh").await;
    database.sql(&format!("GRANT SELECT ON * TO '{}'@'%'", user.name)).await.unwrap();
    let why = misconfigured(look(user.url()).await);
    if kind.is_mariadb() {
        says(&why, &["no table component_lease"]);
    } else {
        // A password in clear over TCP: not even on this machine.
        says(&why, &["over TLS only", "certificate"]);
    }
}

fn no_tls(kind: Kind) -> &'static str {
    if kind.is_mariadb() { "skip-ssl" } else { "tls-version=" }
}

async fn an_authentication_that_we_do_not_speak_is_named(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let name = format!("strange_{}", database.name.trim_start_matches("test_"));
    let (plugin, how, says_which) = match kind {
        // Its package is not the server's there.
        Kind::MariaDb10_11 => ("SELECT 1", "VIA unix_socket", ""),
        Kind::MariaDb11_8 => {
            ("INSTALL SONAME 'auth_ed25519'", "VIA ed25519 USING PASSWORD('pass-word')", "client_ed25519")
        }
        Kind::MySql9 => ("INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'", "WITH auth_socket", ""),
    };
    server.sql(plugin).await.unwrap();
    server.sql(&format!("CREATE USER '{name}'@'%' IDENTIFIED {how}")).await.unwrap();
    let url = server.url_as(&name, "pass-word", &database.name);
    let why = misconfigured(store::open(Source::url(url), "test").unwrap().look(&component("c")).await);
    says(&why, &[&name, says_which]);
    server.sql(&format!("DROP USER '{name}'@'%'")).await.unwrap();
}

async fn a_member_of_a_database_needs_exactly_the_grants_that_migrate_prints(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let user = User::create(server, &database, "member").await;
    user.grant("my_participant").await;
    let store = user.store();
    let a = held(&*store, "c", "a").await;
    let members = ["m".to_owned()].into();
    let roster = store.roster().unwrap();
    says(&misconfigured(roster.record(&a, "r").await), &["denied", "component_lease_record"]);
    user.grant("my_member").await;
    assert_eq!(roster.record(&a, "r").await.unwrap(), Outcome::Applied);
    assert_eq!(roster.record(&a, "r").await.unwrap(), Outcome::Applied, "the same once more");
    roster.report(&a.component, "m", "says").await.unwrap();
    assert_eq!(roster.read_roster(&a.component, &members).await.unwrap().reports.len(), 1);
    drop(store);
    user.drop().await;
}

on_each_kind!(
    a_participant_needs_exactly_the_grants_that_migrate_prints,
    the_controller_needs_exactly_the_grants_that_migrate_prints,
    a_member_of_a_database_needs_exactly_the_grants_that_migrate_prints,
    a_missing_grant_is_refused_with_the_tables_name,
    a_leader_goes_on_while_tables_are_made_that_it_has_no_grants_for_yet,
    a_user_who_may_not_create_tables_reads_which_grants_are_enough,
    a_wrong_password_is_refused_with_user_and_host_and_never_printed,
    a_missing_database_and_a_server_that_is_not_there_are_told_apart,
    passwords_go_over_tls_or_a_socket,
    a_server_without_tls_is_refused_where_tls_is_wanted,
    an_authentication_that_we_do_not_speak_is_named,
);
