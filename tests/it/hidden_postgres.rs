//! What may show a role less than there is in PostgreSQL, or keep its changes from a row: refused by name,
//! and never taken for a row that is gone or a term that is over.

use std::time::Duration;

use component_lease::election::{Expected, Take};
use component_lease::store::{Directory, Outcome, StandingIntent, StoreError, begin_epoch};
use component_lease_testkit::postgres::{self, Database, Server};
use component_lease_testkit::wait;
use sqlx::{Connection, Executor, PgConnection};

use crate::store_postgres::{migrated, open};
use crate::store_postgres_access::Role;
use crate::stores::{
    SOON, component, held, migrated_database, misconfigured, named, row, says, take, taking, term,
};

/// Ours, of which a call reads some.
const TABLES: [&str; 7] = [
    "component_lease",
    "component_lease_intent",
    "component_lease_history",
    "component_lease_store",
    "component_instance",
    "component_lease_record",
    "component_lease_report",
];

async fn both() -> [(&'static Server, Database); 2] {
    let (old, new) = (postgres::shared().await.unwrap(), postgres::shared_newest().await.unwrap());
    [(old, migrated_database(old).await), (new, migrated_database(new).await)]
}

#[tokio::test]
async fn row_level_security_is_refused_by_name_at_each_table_and_for_each_role() {
    for (server, database) in both().await {
        for example in ["my_controller", "my_participant"] {
            let role = Role::create(&database, &example[3..7]).await;
            role.grant(example).await;
            for table in TABLES {
                let switch = async |to: &str| {
                    database.psql(&format!("ALTER TABLE {table} {to} ROW LEVEL SECURITY")).await.unwrap();
                };
                role.store_on(server).look_at(&named(&["c"]), false).await.unwrap();
                switch("ENABLE").await;
                let (off, bypass) = (
                    format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
                    format!("ALTER ROLE \"{}\" BYPASSRLS", role.name),
                );
                let pieces = &[table, "row-level security", &off, &bypass];
                says(&misconfigured(role.store_on(server).look_at(&named(&["c"]), false).await), pieces);
                says(&misconfigured(role.store_on(server).look(&component("c")).await), pieces);
                // A policy that lets all through today may let less through tomorrow.
                let policy = format!("CREATE POLICY all_of_it ON {table} USING (true)");
                database.psql(&policy).await.unwrap();
                says(&misconfigured(role.store_on(server).look_at(&named(&["c"]), false).await), pieces);
                database.psql(&format!("DROP POLICY all_of_it ON {table}")).await.unwrap();
                // Whom no policy concerns goes on.
                open(&database, "owner").look_at(&named(&["c"]), false).await.unwrap();
                switch("DISABLE").await;
            }
            database
                .psql(&format!(
                    "ALTER TABLE component_lease ENABLE ROW LEVEL SECURITY; ALTER ROLE {} BYPASSRLS",
                    role.name
                ))
                .await
                .unwrap();
            role.store_on(server).look_at(&named(&["c"]), false).await.unwrap();
            database.psql("ALTER TABLE component_lease DISABLE ROW LEVEL SECURITY").await.unwrap();
            role.drop().await;
        }
    }
}

/// Switched on under connections that were looked at before.
#[tokio::test]
async fn a_policy_that_comes_under_way_ends_no_term_and_empties_no_look() {
    for (server, database) in both().await {
        let (leader, controller) =
            (Role::create(&database, "leader").await, Role::create(&database, "looker").await);
        leader.grant("my_participant").await;
        controller.grant("my_controller").await;
        let (led, looked) = (leader.store_on(server), controller.store_on(server));
        let a = held(&*led, "c", "a").await;
        assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows.len(), 1);
        database.psql("ALTER TABLE component_lease ENABLE ROW LEVEL SECURITY").await.unwrap();
        for answer in [led.renew(&a).await, led.release(&a).await, looked.release(&a).await] {
            says(&misconfigured(answer), &["row-level security", "component_lease", "BYPASSRLS"]);
        }
        says(&misconfigured(led.look(&a.component).await), &["row-level security"]);
        says(
            &misconfigured(looked.look_at(&named(&["c"]), false).await),
            &["row-level security", &controller.name],
        );
        says(&misconfigured(looked.look_at(&named(&["c"]), true).await), &["row-level security"]);
        database.psql("ALTER TABLE component_lease DISABLE ROW LEVEL SECURITY").await.unwrap();
        assert_eq!(led.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows["c"].holder, "a");
        drop(led);
        drop(looked);
        leader.drop().await;
        controller.drop().await;
    }
}

/// As a pooler leaves it that keeps no session settings: the policy then hides rows without a word.
#[tokio::test]
async fn a_policy_that_hides_the_row_without_an_error_ends_no_term_either() {
    let database = migrated().await;
    let role = Role::create(&database, "pooled").await;
    role.grant("my_participant").await;
    let store = role.store().await;
    let a = held(&*store, "c", "a").await;
    let off = format!(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM set_config('row_security', 'on', false); RETURN NEW; END $$;
         CREATE TRIGGER forget BEFORE UPDATE ON component_instance FOR EACH ROW EXECUTE FUNCTION forget();
         GRANT EXECUTE ON FUNCTION forget TO {}",
        role.name
    );
    database.psql(&off).await.unwrap();
    let says_of_itself = crate::store_instances::instance("c", "a");
    let id = store.beat(&says_of_itself, None).await.unwrap();
    store.beat(&says_of_itself, id).await.unwrap();
    database.psql("ALTER TABLE component_lease ENABLE ROW LEVEL SECURITY").await.unwrap();
    says(&misconfigured(store.renew(&a).await), &["row-level security", "component_lease"]);
    says(&misconfigured(store.release(&a).await), &["row-level security", "component_lease"]);
    drop(store);
    role.drop().await;
}

/// The same for who looks at all of them: on the connection that was in order when it was made.
#[tokio::test]
async fn a_look_that_misses_a_row_is_believed_only_where_nothing_hides_it() {
    let database = migrated().await;
    let role = Role::create(&database, "pooled").await;
    role.grant("my_participant").await;
    let store = role.store().await;
    held(&*store, "c", "a").await;
    held(&*store, "d", "a").await;
    let off = format!(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM set_config('row_security', 'on', false); RETURN NEW; END $$;
         CREATE TRIGGER forget BEFORE UPDATE ON component_instance FOR EACH ROW EXECUTE FUNCTION forget();
         GRANT EXECUTE ON FUNCTION forget TO {}",
        role.name
    );
    database.psql(&off).await.unwrap();
    let says_of_itself = crate::store_instances::instance("c", "a");
    let id = store.beat(&says_of_itself, None).await.unwrap();
    store.beat(&says_of_itself, id).await.unwrap();
    assert_eq!(store.look_at(&named(&["c", "d"]), false).await.unwrap().rows.len(), 2);
    // It hides one of the two.
    let policy = "ALTER TABLE component_lease ENABLE ROW LEVEL SECURITY;
                  CREATE POLICY hides ON component_lease FOR SELECT USING (component_name <> 'c')";
    database.psql(policy).await.unwrap();
    for instances in [false, true, false] {
        says(
            &misconfigured(store.look_at(&named(&["c", "d"]), instances).await),
            &["row-level security", "component_lease", "BYPASSRLS"],
        );
    }
    database.psql("ALTER TABLE component_lease DISABLE ROW LEVEL SECURITY").await.unwrap();
    assert_eq!(store.look_at(&named(&["c", "d"]), false).await.unwrap().rows.len(), 2);
    // What nobody but an administrator does by hand shows at the first look.
    database.psql("DELETE FROM component_lease WHERE component_name = 'c'").await.unwrap();
    assert_eq!(store.look_at(&named(&["c", "d"]), false).await.unwrap().rows.len(), 1);
    drop(store);
    role.drop().await;
}

#[tokio::test]
async fn views_child_tables_and_rules_are_refused_by_name() {
    let database = migrated().await;
    let refused = async || misconfigured(open(&database, "test").look(&component("c")).await);
    for (made, unmade, pieces) in [
        (
            "ALTER TABLE component_lease RENAME TO leases; CREATE VIEW component_lease AS SELECT * FROM leases WHERE holder_id <> 'a'",
            "DROP VIEW component_lease; ALTER TABLE leases RENAME TO component_lease",
            &["component_lease is a view", "hide rows"][..],
        ),
        (
            "ALTER TABLE component_lease_history RENAME TO lines; CREATE VIEW component_lease_history AS SELECT * FROM lines",
            "DROP VIEW component_lease_history; ALTER TABLE lines RENAME TO component_lease_history",
            &["component_lease_history is a view"],
        ),
        (
            "CREATE TABLE more () INHERITS (component_lease)",
            "DROP TABLE more",
            &["child table more", "ALTER TABLE more NO INHERIT component_lease"],
        ),
        (
            "CREATE RULE quiet AS ON UPDATE TO component_lease DO INSTEAD NOTHING",
            "DROP RULE quiet ON component_lease",
            &["rule quiet", "DROP RULE quiet ON component_lease"],
        ),
    ] {
        database.psql(made).await.unwrap();
        says(&refused().await, pieces);
        database.psql(unmade).await.unwrap();
        open(&database, "test").look(&component("c")).await.unwrap();
    }
    // One of the partitions would be emptied by a crash.
    let columns = "component_name varchar(253), holder_id varchar(255), lease_time bigint, renew_time bigint, version bigint, ttl integer";
    let partitioned = format!(
        "DROP TABLE component_lease;
         CREATE TABLE component_lease ({columns}, PRIMARY KEY (component_name)) PARTITION BY HASH (component_name);
         CREATE UNLOGGED TABLE half PARTITION OF component_lease FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE other PARTITION OF component_lease FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    );
    database.psql(&partitioned).await.unwrap();
    says(&refused().await, &["UnsafeBackend", "UNLOGGED (half)"]);
    database.psql("ALTER TABLE half SET LOGGED").await.unwrap();
    // A table made anew is another life of the database.
    let store = open(&database, "test");
    begin_epoch(&*store).await.unwrap();
    held(&*store, "c", "a").await;
}

async fn trigger(database: &Database, body: &str) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
         DROP TRIGGER IF EXISTS theirs ON component_lease;
         CREATE TRIGGER theirs BEFORE INSERT OR UPDATE ON component_lease FOR EACH ROW EXECUTE FUNCTION theirs()"
    );
    database.psql(&sql).await.unwrap();
}

/// The take that somebody who sees this row decides on.
async fn next(store: &dyn Directory, holder: &str) -> Take {
    let seen = store.look(&component("c")).await.unwrap();
    let version = seen.row.as_ref().map_or(0, |row| row.version) + 1;
    Take { life_id: seen.life.id(), ..take(&term("c", holder, version), seen.row.as_ref()) }
}

#[tokio::test]
async fn a_trigger_that_returns_null_is_named_and_neither_ends_a_term_nor_passes_for_a_race() {
    let database = migrated().await;
    let store = open(&database, "test");
    let a = held(&*store, "c", "a").await;
    trigger(&database, "RETURN NULL;").await;
    let pieces = &["component_lease", "\"c\"", "trigger", "(theirs)", "suppresses"];
    says(&misconfigured(store.renew(&a).await), pieces);
    says(&misconfigured(store.release(&a).await), pieces);
    let take = next(&*store, "b").await;
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost, "it may have been a race");
    store.look(&component("c")).await.unwrap();
    says(&misconfigured(store.take(&take).await), pieces);
    database.psql("DELETE FROM component_lease; DELETE FROM component_lease_history").await.unwrap();
    let take = next(&*store, "b").await;
    assert!(matches!(take.expected, Expected::Missing { .. }));
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost);
    store.look(&component("c")).await.unwrap();
    says(&misconfigured(store.take(&take).await), pieces);
    database.psql("DROP TRIGGER theirs ON component_lease").await.unwrap();
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_trigger_that_writes_something_else_begins_and_renews_no_term() {
    let database = migrated().await;
    let store = open(&database, "test");
    for rewrites in [
        "NEW.holder_id := upper(NEW.holder_id); RETURN NEW;",
        "NEW.version := NEW.version + 1; RETURN NEW;",
        "NEW.ttl := 600; RETURN NEW;",
    ] {
        trigger(&database, rewrites).await;
        let take = next(&*store, "b").await;
        says(&misconfigured(store.take(&take).await), &["trigger", "component_lease"]);
        assert_eq!(row(&*store, "c").await, None, "{rewrites}");
    }
    database.psql("DROP TRIGGER theirs ON component_lease").await.unwrap();
    let a = held(&*store, "c", "a").await;
    let before = row(&*store, "c").await;
    trigger(&database, "NEW.renew_time := OLD.renew_time; RETURN NEW;").await;
    says(&misconfigured(store.renew(&a).await), &["trigger", "component_lease"]);
    assert_eq!(row(&*store, "c").await, before);
    // One that only keeps a column of its own is no harm.
    trigger(&database, "PERFORM 1; RETURN NEW;").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    let b = next(&*store, "b").await;
    assert_eq!(store.take(&b).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn what_a_role_lacks_is_named_with_the_grant_that_helps() {
    let database = migrated().await;
    let role = Role::create(&database, "lacking").await;
    role.grant("my_participant").await;
    let name = &role.name;
    let a = held(&*role.store().await, "c", "a").await;
    let seen = role.store().await.look(&a.component).await.unwrap();
    let b = term("c", "b", 2);
    let next = Take { life_id: seen.life.id(), ..take(&b, seen.row.as_ref()) };
    let record = async |store: &dyn Directory| -> Result<Outcome, StoreError> {
        store.epochs().unwrap().settle(&next.life_id).await
    };
    for (table, right) in [
        ("component_lease_store", "UPDATE"),
        ("component_lease_history", "INSERT"),
        ("component_lease", "UPDATE"),
    ] {
        database.psql(&format!("REVOKE {right} ON {table} FROM {name}")).await.unwrap();
        let store = role.store().await;
        store.look(&a.component).await.unwrap();
        let why = misconfigured(store.take(&next).await);
        says(
            &why,
            &[&format!("lacks {right} ON {table}"), &format!("GRANT {right} ON {table} TO \"{name}\";")],
        );
        assert!(!why.contains(&format!("lacks {right} ON {table},")), "it lacks no more than that: {why}");
        if table == "component_lease" {
            says(&misconfigured(store.renew(&a).await), &[&format!("lacks UPDATE ON {table}")]);
        }
        if table == "component_lease_store" {
            says(&misconfigured(record(&*store).await), &[&format!("lacks UPDATE ON {table}")]);
        }
        database.psql(&format!("GRANT {right} ON {table} TO {name}")).await.unwrap();
    }
    let store = role.store().await;
    let why = misconfigured(store.set_intent(&a.component, StandingIntent::ttl(5)).await);
    says(&why, &["lacks INSERT ON component_lease_intent, UPDATE ON component_lease_intent"]);
    assert_eq!(taking(&*store, &take(&b, seen.row.as_ref())).await.unwrap(), Outcome::Applied);
    drop(store);
    role.drop().await;
}

/// What hosters set for everybody, or for a role.
#[tokio::test]
async fn limits_of_time_and_other_defaults_of_a_role_are_none_of_ours() {
    for (server, database) in both().await {
        let role = Role::create(&database, "limited").await;
        role.grant("my_participant").await;
        let mut set = vec![
            "statement_timeout = 300",
            "idle_in_transaction_session_timeout = 300",
            "idle_session_timeout = 400",
            "lock_timeout = 50",
            "row_security = on",
            "standard_conforming_strings = off",
            "default_transaction_isolation = 'serializable'",
            "exit_on_error = on",
            "client_encoding = 'LATIN2'",
            "datestyle = 'German'",
            "timezone = 'Asia/Kathmandu'",
            "transform_null_equals = on",
            "extra_float_digits = -5",
            "default_transaction_deferrable = on",
            "bytea_output = 'escape'",
            "enable_seqscan = off",
        ];
        if database.psql("SELECT current_setting('server_version_num')::int >= 170000").await.unwrap() == "t"
        {
            // Of the whole of a connect too, on a busy machine.
            set.push("transaction_timeout = 2500");
        }
        for one in set {
            database.psql(&format!("ALTER ROLE {} SET {one}", role.name)).await.unwrap();
        }
        let store = role.store_on(server);
        store.limit_lock_wait(Duration::from_secs(5));
        let a = held(&*store, "c", "ä").await;
        let sessions = format!(
            "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE usename = '{}'",
            role.name
        );
        let before = database.psql(&sessions).await.unwrap();
        // A renewal that waits for a lock for longer than any of these limits.
        let mut other = PgConnection::connect(&database.url).await.unwrap();
        other.execute("BEGIN").await.unwrap();
        other.execute("SELECT FROM component_lease FOR UPDATE").await.unwrap();
        let (renewing, term) = (store.clone(), a.clone());
        let renewal = tokio::spawn(async move { renewing.renew(&term).await });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
                     AND clock_timestamp() - query_start > '2600 ms'";
        wait::until_true(SOON, "a renewal that has waited", async || {
            database.psql(waits).await.unwrap() == "1"
        })
        .await
        .unwrap();
        other.execute("COMMIT").await.unwrap();
        assert_eq!(renewal.await.unwrap().unwrap(), Outcome::Applied);
        // An idle one is left alone.
        let idle =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND datname = current_database()
                    AND clock_timestamp() - state_change > '900 ms' AND usename LIKE 'limited%'";
        wait::until_true(SOON, "an idle session", async || database.psql(idle).await.unwrap() == "1")
            .await
            .unwrap();
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(database.psql(&sessions).await.unwrap(), before, "one and the same connection");
        let looked = store.look(&a.component).await.unwrap();
        assert_eq!(looked.row.unwrap().holder, "ä");
        drop(store);
        role.drop().await;
    }
}
