//! What is particular to PostgreSQL: what calls cost, connections, locks, notifications.

use std::time::Duration;

use component_lease::store::{self, Directory, Hint, Outcome, Source};
use component_lease_testkit::postgres::{self, Database, Server};
use component_lease_testkit::wait;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use crate::stores::{
    SOON, alive_at, held, look_at, migrated_database, retryable, row, says, take, taking, term,
};

pub(crate) async fn migrated() -> Database {
    migrated_database(postgres::shared().await.unwrap()).await
}

pub(crate) fn open(database: &Database, application: &str) -> std::sync::Arc<dyn Directory> {
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
        look_at(&*store, &["c"]).await;
        alive_at(&*store, &["c", "d"]).await;
        store.set_intent(&a.component, store::StandingIntent::ttl(9)).await.unwrap();
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
    // A look with instances is two.
    assert_eq!(after - before - 2 * itself, 70);
    assert_eq!(connections(&database, "counted").await, 1);
}

#[tokio::test]
async fn a_changed_lock_limit_costs_one_more_statement_once() {
    let database = migrated().await;
    let store = open(&database, "limits");
    let a = held(&*store, "c", "a").await;
    let before = database.statements("SELECT pg_catalog.set_config(%").await.unwrap();
    for limit in [500, 500, 700, 700] {
        store.limit_lock_wait(Duration::from_millis(limit));
        store.renew(&a).await.unwrap();
    }
    assert_eq!(database.statements("SELECT pg_catalog.set_config(%").await.unwrap() - before, 2);
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
    look_at(&*store, &["c"]).await;
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
        let seized = timeout(SOON, taking(&*store, &take(&term("c", "b", 2), seen.as_ref()))).await.unwrap();
        retryable(seized);
    }
    assert_eq!(connections(&database, "bounded").await, 1, "a refusal does not cost the connection");
    locked.release().await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

/// Both, because a session at another isolation level would fail there instead of going on.
#[tokio::test]
async fn a_call_that_waited_for_a_lock_writes_the_time_after_the_wait_whatever_the_defaults_of_sessions() {
    for server in [postgres::shared().await.unwrap(), postgres::shared_newest().await.unwrap()] {
        let database = migrated_database(server).await;
        let name = &database.name;
        let defaults = format!(
            "ALTER DATABASE {name} SET default_transaction_isolation = serializable;
             ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'"
        );
        database.psql(&defaults).await.unwrap();
        let (store, looker) = (open(&database, "waiting"), open(&database, "looking"));
        let a = held(&*store, "c", "a").await;
        let mut other = PgConnection::connect(&database.url).await.unwrap();
        for what in ["renewal", "take"] {
            other.execute("BEGIN").await.unwrap();
            other.execute("UPDATE component_lease SET ttl = ttl").await.unwrap();
            let (store, a, seen) = (store.clone(), a.clone(), row(&*looker, "c").await);
            let waiting = tokio::spawn(async move {
                match what {
                    "renewal" => store.renew(&a).await,
                    _ => taking(&*store, &take(&term("c", "b", 2), seen.as_ref())).await,
                }
            });
            let locked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiting' AND wait_event_type = 'Lock'";
            wait::until_true(SOON, "a wait", async || database.psql(locked).await.unwrap() == "1")
                .await
                .unwrap();
            // The wait is long enough to be told from the resolution of the clock.
            let now = async || look_at(&*looker, &[]).await.database_now;
            let began = now().await;
            wait::until_true(SOON, "half a second to pass", async || now().await >= began + 500)
                .await
                .unwrap();
            other.execute("COMMIT").await.unwrap();
            assert_eq!(waiting.await.unwrap().unwrap(), Outcome::Applied, "{what}");
            let written = row(&*looker, "c").await.unwrap();
            assert!(written.renew_time >= began + 500, "{what}: from before the wait: {written:?}");
            assert!(what == "renewal" || written.lease_time >= began + 500, "{written:?}");
        }
    }
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
