//! What is particular to MySQL and MariaDB: what calls cost, locks, times, sessions.

use std::sync::Arc;
use std::time::Duration;

use component_lease::election::Take;
use component_lease::store::{self, Directory, Outcome, Source, begin_epoch};
use component_lease_testkit::mysql::{self, Database, Kind, Server};
use component_lease_testkit::wait;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{Connection, Executor};
use tokio::time::timeout;

use crate::stores::{
    SOON, alive_at, held, look_at, migrated_mysql, retryable, row, says, take, taking, term,
};

/// Makes a test of each behaviour on each kind of server.
macro_rules! on_each_kind {
    ($($name:ident),* $(,)?) => {
        mod mariadb_10_11 {
            use component_lease_testkit::mysql::Kind;
            $(#[tokio::test] async fn $name() { super::$name(Kind::MariaDb10_11).await; })*
        }
        mod mariadb_11_8 {
            use component_lease_testkit::mysql::Kind;
            $(#[tokio::test] async fn $name() { super::$name(Kind::MariaDb11_8).await; })*
        }
        mod mysql_9 {
            use component_lease_testkit::mysql::Kind;
            $(#[tokio::test] async fn $name() { super::$name(Kind::MySql9).await; })*
        }
    };
}
pub(crate) use on_each_kind;

pub(crate) async fn server(kind: Kind) -> &'static Server {
    mysql::shared(kind).await.unwrap()
}

pub(crate) fn open(database: &Database) -> Arc<dyn Directory> {
    store::open(Source::url(&database.url), "test").unwrap()
}

/// A connection of somebody else's.
pub(crate) async fn other(database: &Database) -> MySqlConnection {
    let options: MySqlConnectOptions = database.url.parse().unwrap();
    MySqlConnection::connect_with(&options).await.unwrap()
}

/// The numbers of the connections to this database that came over TCP.
async fn connections(server: &Server, database: &Database) -> Vec<u64> {
    let sql = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND HOST LIKE '127.0.0.1:%' ORDER BY ID",
        database.name
    );
    server.sql(&sql).await.unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

async fn a_renewal_is_one_round_trip_and_so_is_every_other_call(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let store = open(&database);
    store.limit_lock_wait(Duration::from_secs(1));
    let mut a = held(&*store, "c", "a").await;
    let mut everything = async || {
        store.renew(&a).await.unwrap();
        store.look(&a.component).await.unwrap();
        look_at(&*store, &["c"]).await;
        alive_at(&*store, &["c", "d"]).await;
        store.set_intent(&a.component, store::StandingIntent::ttl(9)).await.unwrap();
        store.clear_intent(&a.component).await.unwrap();
        store.release(&a).await.unwrap();
        let looked = store.look(&a.component).await.unwrap();
        a.version += 1;
        let life_id = looked.life.id();
        store.take(&Take { life_id, ..take(&a, looked.row.as_ref()) }).await.unwrap();
        store.limit_lock_wait(Duration::from_secs(1));
    };
    // Each statement is prepared at its first use.
    everything().await;
    let before = database.commands(server).unwrap().len();
    for _ in 0..10 {
        everything().await;
    }
    let commands = database.commands(server).unwrap();
    let (all, renewals) =
        (&commands[before..], |command: &&String| command.contains("AS BINARY) AND version"));
    // A look with instances is two statements.
    assert_eq!(all.iter().filter(|command| command.starts_with("Execute ")).count(), 90, "{all:#?}");
    // A take is one text of several statements, and MySQL logs each of them.
    let texts = all.iter().filter(|command| !command.starts_with("Execute ")).collect::<Vec<_>>();
    let begun = texts.iter().filter(|command| command.starts_with("Query START TRANSACTION;"));
    assert_eq!(begun.count(), 10, "{all:#?}");
    let of_a_take = if kind == Kind::MySql9 { texts.len() / 10 } else { 1 };
    assert_eq!(texts.len(), 10 * of_a_take, "{all:#?}");
    assert!(texts.chunks(of_a_take).all(|take| take[0].starts_with("Query START")), "{all:#?}");
    // A renewal and a release.
    assert_eq!(all.iter().filter(renewals).count(), 20);
    assert_eq!(connections(server, &database).await.len(), 1);
}

async fn a_connection_costs_two_round_trips_after_the_login_and_a_changed_limit_one(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let commands = |since: usize| database.commands(server).unwrap().split_off(since);
    let since = commands(0).len();
    let store = open(&database);
    let a = term("c", "a", 1);
    store.look(&a.component).await.unwrap();
    // The login, one text of several statements (each of which is logged), the version, the look.
    let first = commands(since);
    assert_eq!(
        first.iter().filter(|command| command.contains("SET SESSION sql_mode")).count(),
        1,
        "{first:#?}"
    );
    assert_eq!(first.iter().filter(|command| command.starts_with("Connect ")).count(), 1, "{first:#?}");
    let since = commands(0).len();
    for limit in [500, 500, 1700, 1700] {
        store.limit_lock_wait(Duration::from_millis(limit));
        store.look(&a.component).await.unwrap();
    }
    let limits: Vec<_> =
        commands(since).into_iter().filter(|command| command.contains("Query SET")).collect();
    assert_eq!(limits.len(), 2, "{limits:#?}");
    // Rounded up to whole seconds.
    says(&limits[0], &["innodb_lock_wait_timeout = 1,", "lock_wait_timeout = 1,"]);
    says(&limits[1], &["innodb_lock_wait_timeout = 2,", "lock_wait_timeout = 2,"]);
}

async fn a_renewal_that_waited_for_a_lock_writes_the_time_after_the_wait(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let (store, looker) = (open(&database), open(&database));
    let a = held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await.unwrap();
    let mut locker = other(&database).await;
    for what in ["renewal", "take"] {
        locker.execute("BEGIN").await.unwrap();
        locker.execute("SELECT * FROM component_lease FOR UPDATE").await.unwrap();
        let (mine, a, seen) = (store.clone(), a.clone(), seen.clone());
        let waiting = tokio::spawn(async move {
            match what {
                "renewal" => mine.renew(&a).await,
                _ => {
                    taking(&*mine, &take(&term("c", "b", 2), row(&*mine, "c").await.as_ref().or(Some(&seen))))
                        .await
                }
            }
        });
        wait_for_a_lock(server, &database).await;
        // The wait is long enough to be told from the resolution of the clock.
        let began = looker.look(&term("c", "a", 1).component).await.unwrap().database_now;
        let now = wait::until(SOON, "half a second to pass", async || {
            let now = looker.look(&term("c", "a", 1).component).await?.database_now;
            Ok((now >= began + 500).then_some(now))
        })
        .await
        .unwrap();
        locker.execute("COMMIT").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), Outcome::Applied);
        let written = row(&*looker, "c").await.unwrap();
        assert!(
            written.renew_time >= now,
            "{what}: {} is from before the wait ended at {now}",
            written.renew_time
        );
        assert!(what == "renewal" || written.lease_time >= now, "{written:?}");
    }
}

/// What to send before a look at `INNODB_TRX`: a second look within 0.1 s shows the same again,
/// for as long as he goes on.
pub(crate) const SEE_NEW_TRANSACTIONS: &str = "DO SLEEP(0.15);";

/// Until a session of this database waits for a row's lock.
pub(crate) async fn wait_for_a_lock(server: &Server, database: &Database) {
    let sql = format!(
        "{SEE_NEW_TRANSACTIONS} SELECT COUNT(*) FROM information_schema.INNODB_TRX AS t
         JOIN information_schema.PROCESSLIST AS p ON p.ID = t.trx_mysql_thread_id
         WHERE t.trx_state = 'LOCK WAIT' AND p.DB = '{}'",
        database.name
    );
    wait::until_true(SOON, "somebody to wait for a lock", async || server.sql(&sql).await.unwrap() != "0")
        .await
        .unwrap();
}

async fn waits_for_locks_are_bounded_on_the_server_and_cost_no_connection(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let store = open(&database);
    let a = held(&*store, "c", "a").await;
    let seen = row(&*store, "c").await;
    store.limit_lock_wait(Duration::from_millis(200));
    store.look(&a.component).await.unwrap();
    let mine = connections(server, &database).await;
    let mut locker = other(&database).await;
    for lock in ["BEGIN; SELECT * FROM component_lease FOR UPDATE", "LOCK TABLES component_lease WRITE"] {
        locker.execute(sqlx::raw_sql(lock)).await.unwrap();
        let renewed = timeout(SOON, store.renew(&a)).await.expect("a bounded wait");
        says(&retryable(renewed), &["holds the row's or the table's lock"]);
        let seized = timeout(SOON, taking(&*store, &take(&term("c", "b", 2), seen.as_ref()))).await.unwrap();
        retryable(seized);
        locker.execute(sqlx::raw_sql("COMMIT; UNLOCK TABLES")).await.unwrap();
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied, "{lock}");
    }
    drop(locker);
    assert!(
        connections(server, &database).await.starts_with(&mine),
        "a refusal does not cost the connection"
    );
}

async fn a_dropped_call_closes_its_connection_and_is_never_cancelled(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let store = open(&database);
    store.limit_lock_wait(Duration::from_secs(4));
    let a = held(&*store, "c", "a").await;
    let first = connections(server, &database).await[0];
    let mut locker = other(&database).await;
    locker.execute(sqlx::raw_sql("BEGIN; SELECT * FROM component_lease FOR UPDATE")).await.unwrap();
    let renewal = timeout(Duration::from_millis(200), store.renew(&a));
    assert!(renewal.await.is_err());
    // The next call has a connection of its own while the statement before is still waiting.
    store.look(&a.component).await.unwrap();
    let all = connections(server, &database).await;
    assert!(all.contains(&first) && all.len() == 3, "no kill was sent: {first} and {all:?}");
    locker.execute("COMMIT").await.unwrap();
    // The server finds the end of the connection when the statement is over.
    wait::until_true(SOON, "the end of the session", async || {
        !connections(server, &database).await.contains(&first)
    })
    .await
    .unwrap();
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    drop((store, locker));
    wait::until_true(SOON, "no connection", async || connections(server, &database).await.is_empty())
        .await
        .unwrap();
}

async fn a_row_whose_time_is_long_past_or_in_the_future_is_renewed_all_the_same(kind: Kind) {
    let database = migrated_mysql(server(kind).await).await;
    let store = open(&database);
    let a = held(&*store, "c", "a").await;
    for renew_time in [1, 9_000_000_000_000_i64] {
        database.sql(&format!("UPDATE component_lease SET renew_time = {renew_time}")).await.unwrap();
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        let row = row(&*store, "c").await.unwrap();
        assert!(row.renew_time > renew_time, "{row:?}");
    }
}

async fn nobody_notifies_so_there_are_no_hints_and_no_second_connection(kind: Kind) {
    let server = server(kind).await;
    let database = migrated_mysql(server).await;
    let store = open(&database);
    let mut hints = store.hints();
    held(&*store, "c", "a").await;
    assert!(timeout(Duration::from_millis(100), hints.next()).await.is_err());
    assert!(!hints.tells_every_commit());
    assert_eq!(connections(server, &database).await.len(), 1);
}

/// Every default of the server that could change what our statements mean, changed.
async fn sessions_do_not_depend_on_the_servers_defaults(kind: Kind) {
    let server = Server::builder(kind)
        .option("sql-mode=ANSI,NO_BACKSLASH_ESCAPES")
        .option("default-time-zone=-05:30")
        .option("transaction-isolation=SERIALIZABLE")
        .option("autocommit=0")
        .option("completion-type=CHAIN")
        .option("character-set-server=latin1")
        .option("collation-server=latin1_german1_ci")
        .option("default-storage-engine=MyISAM")
        .option("innodb-lock-wait-timeout=50")
        .start()
        .await
        .unwrap();
    let database = migrated_mysql(&server).await;
    let store = open(&database);
    #[expect(clippy::disallowed_methods, reason = "the server's clock is this machine's")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let looked = store.look(&term("c", "a", 1).component).await.unwrap();
    let late = looked.database_now - i64::try_from(now).unwrap();
    assert!((-1000..60_000).contains(&late), "the database's time is {late} ms off");
    for name in ["engine", "Engine", "éngine"] {
        let a = held(&*store, name, "ä").await;
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    }
    // Committed: others see it.
    assert_eq!(look_at(&*open(&database), &["engine", "Engine", "éngine"]).await.rows.len(), 3);
    assert_eq!(database.sql("SELECT GROUP_CONCAT(DISTINCT ENGINE) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()").await.unwrap(), "InnoDB");
    // What strict mode refuses is refused here too, not cut.
    database.sql("ALTER TABLE component_lease MODIFY holder_id VARCHAR(3) NOT NULL").await.unwrap();
    // A table that was rebuilt is another life of the database.
    begin_epoch(&*store).await.unwrap();
    let long = take(&term("other", "abcd", 1), None);
    assert!(taking(&*store, &long).await.is_err());
    assert_eq!(look_at(&*store, &["engine", "Engine", "éngine", "other"]).await.rows.len(), 3);
}

on_each_kind!(
    a_renewal_is_one_round_trip_and_so_is_every_other_call,
    a_connection_costs_two_round_trips_after_the_login_and_a_changed_limit_one,
    a_renewal_that_waited_for_a_lock_writes_the_time_after_the_wait,
    waits_for_locks_are_bounded_on_the_server_and_cost_no_connection,
    a_dropped_call_closes_its_connection_and_is_never_cancelled,
    a_row_whose_time_is_long_past_or_in_the_future_is_renewed_all_the_same,
    nobody_notifies_so_there_are_no_hints_and_no_second_connection,
    sessions_do_not_depend_on_the_servers_defaults,
);
