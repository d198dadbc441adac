//! Identity, epoch and history on MySQL and MariaDB, as far as an administrator has a hand in it.

use component_lease::election::machine::Past;
use component_lease::election::{Expected, Life, LifeId, Take};
use component_lease::store::{self, Directory, Outcome, Source, begin_epoch};
use component_lease_testkit::mysql::{Kind, Server, Stop};
use component_lease_testkit::wait;
use sqlx::Executor;
use tokio::time::timeout;

use crate::store_mysql::{on_each_kind, open, other, server, wait_for_a_lock};
use crate::stores::{SOON, component, held, migrated_mysql, misconfigured, row, says, take, term};

async fn life(store: &dyn Directory) -> Life {
    wait::until(SOON, "an answer", async || Ok(Some(store.look(&component("c")).await?.life))).await.unwrap()
}

async fn life_id(store: &dyn Directory) -> LifeId {
    life(store).await.id()
}

/// On what the store says now, but with a sight of no row.
async fn insertion(store: &dyn Directory, version: i64, highest: i64) -> Take {
    let life_id = life_id(store).await;
    Take { life_id, expected: Expected::Missing { highest }, ..take(&term("c", "b", version), None) }
}

async fn a_row_that_went_and_came_back_lets_no_lower_version_follow_a_higher_one(kind: Kind) {
    let database = migrated_mysql(server(kind).await).await;
    let store = open(&database);
    held(&*store, "c", "a").await;
    database.sql("DELETE FROM component_lease").await.unwrap();
    assert_eq!(store.look(&component("c")).await.unwrap().past, Past::Lived(1));
    for (version, highest) in [(1, 1), (2, 0)] {
        let wrong = insertion(&*store, version, highest).await;
        assert_eq!(store.take(&wrong).await.unwrap(), Outcome::Lost);
        assert_eq!(row(&*store, "c").await, None, "a take without its history is no take");
    }
    // A foreign program puts a row below the history: it is taken above that only.
    database.sql("INSERT INTO component_lease VALUES ('c', '', 0, 0, 0, 5)").await.unwrap();
    let seen = row(&*store, "c").await;
    let life_id = life_id(&*store).await;
    let low = Take { life_id, ..take(&term("c", "b", 1), seen.as_ref()) };
    assert_eq!(store.take(&low).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*store, "c").await, seen);
    let high = Take { term: term("c", "b", 2), ..low };
    assert_eq!(store.take(&high).await.unwrap(), Outcome::Applied);
    let history =
        database.sql("SELECT version, holder_id FROM component_lease_history ORDER BY version").await;
    assert_eq!(history.unwrap(), "1\ta\n2\tb");
}

/// A take that waits for the row while somebody else's transaction begins a later term, or an epoch.
async fn a_take_decides_on_what_is_there_after_its_waits(kind: Kind) {
    let database = migrated_mysql(server(kind).await).await;
    let store = open(&database);
    held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await;
    let life_id = life_id(&*store).await;
    for change in [
        "UPDATE component_lease SET version = 7 WHERE component_name = 'c'",
        "INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl) VALUES ('c', 7, 'x', 0, 5); UPDATE component_lease SET ttl = ttl WHERE component_name = 'c'",
        "UPDATE component_lease_store SET epoch = epoch + 1",
    ] {
        let mut theirs = other(&database).await;
        theirs.execute(sqlx::raw_sql("BEGIN; SELECT * FROM component_lease FOR UPDATE; SELECT * FROM component_lease_store FOR UPDATE")).await.unwrap();
        let (store, take) =
            (store.clone(), Take { life_id: life_id.clone(), ..take(&term("c", "b", 2), seen.as_ref()) });
        let taking = tokio::spawn(async move { store.take(&take).await });
        wait_for_a_lock(server(kind).await, &database).await;
        theirs.execute(sqlx::raw_sql(change)).await.unwrap();
        theirs.execute("COMMIT").await.unwrap();
        let outcome = timeout(SOON, taking).await.unwrap().unwrap();
        assert_eq!(outcome.unwrap(), Outcome::Lost, "{change}");
        assert_eq!(
            database.sql("SELECT COUNT(*) FROM component_lease WHERE holder_id = 'b'").await.unwrap(),
            "0"
        );
        assert_eq!(
            database.sql("SELECT COUNT(*) FROM component_lease_history WHERE version = 2").await.unwrap(),
            "0"
        );
        let undo =
            "UPDATE component_lease SET version = 1; DELETE FROM component_lease_history WHERE version = 7";
        database.sql(undo).await.unwrap();
    }
}

/// A restart, a volume put back, and dropped tables are other lives; a passing minute is not.
async fn each_start_of_a_server_is_a_life_of_its_own(kind: Kind) {
    let server = Server::start(kind).await.unwrap();
    let database = migrated_mysql(&server).await;
    let store = open(&database);
    let mut lives = Vec::new();
    for how in [Some(Stop::Fast), Some(Stop::Immediate), None] {
        let now = life_id(&*store).await;
        // Whatever part of a second the question falls into.
        for _ in 0..200 {
            assert_eq!(store.look(&component("c")).await.unwrap().life.id(), now);
        }
        begin_epoch(&*store).await.unwrap();
        assert!(!life(&*store).await.is_strange());
        lives.push(now.identity);
        match how {
            Some(how) => {
                // The identity has whole seconds.
                let uptime = "SHOW GLOBAL STATUS LIKE 'Uptime'";
                wait::until_true(SOON, "a second", async || {
                    server.sql(uptime).await.unwrap().as_str() >= "Uptime\t1"
                })
                .await
                .unwrap();
                server.stop(how).await.unwrap();
                server.start_again().await.unwrap();
                assert!(life(&*store).await.is_strange());
            }
            None => {
                database.sql("DELETE FROM component_lease_store").await.unwrap();
                assert!(matches!(life(&*store).await, Life::Unrecorded { .. }));
                begin_epoch(&*store).await.unwrap();
                assert!(!life(&*store).await.is_strange());
                lives.push(life_id(&*store).await.identity);
            }
        }
    }
    let all = lives.len();
    lives.sort();
    lives.dedup();
    assert_eq!((lives.len(), all), (4, 4), "{lives:?}");
}

async fn a_server_that_may_forget_is_refused_with_the_setting_named_unless_it_is_wanted_so(kind: Kind) {
    let server = Server::builder(kind).option("log-bin=binlog").option("server-id=7").start().await.unwrap();
    for (unsafe_way, back, names) in [
        (
            "ALTER TABLE component_lease_store ENGINE = MyISAM",
            "SELECT 1",
            &["component_lease_store", "MyISAM"][..],
        ),
        (
            "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
            &["innodb_flush_log_at_trx_commit = 2", "SET GLOBAL innodb_flush_log_at_trx_commit = 1"],
        ),
        (
            "SET GLOBAL sync_binlog = 0",
            "SET GLOBAL sync_binlog = 1",
            &["sync_binlog = 0", "SET GLOBAL sync_binlog = 1"],
        ),
    ] {
        let database = migrated_mysql(&server).await;
        database.sql(unsafe_way).await.unwrap();
        let source = Source::url(&database.url);
        let why = misconfigured(store::open(source.clone(), "test").unwrap().look(&component("c")).await);
        says(&why, names);
        says(&why, &["UnsafeBackend", "--allow-unsafe-backend"]);
        let wanted = store::open(source.unsafe_backend(true), "test").unwrap();
        wanted.look(&component("c")).await.unwrap();
        database.sql(back).await.unwrap();
    }
    // With this format replicas would hold other times.
    let database = migrated_mysql(&server).await;
    server.sql("SET GLOBAL binlog_format = STATEMENT").await.unwrap();
    says(&misconfigured(open(&database).look(&component("c")).await), &["binlog_format", "ROW"]);
}

on_each_kind!(
    a_row_that_went_and_came_back_lets_no_lower_version_follow_a_higher_one,
    a_take_decides_on_what_is_there_after_its_waits,
    each_start_of_a_server_is_a_life_of_its_own,
    a_server_that_may_forget_is_refused_with_the_setting_named_unless_it_is_wanted_so,
);
