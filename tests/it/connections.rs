//! Connections: that take long to make, that break, and that run out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Install, Outcome, Source};
use component_lease_testkit::postgres::Database;
use component_lease_testkit::tcp_proxy::TcpProxy;
use component_lease_testkit::{postgres, wait};
use tokio::time::timeout;

use crate::agent_support::{Running, free_address, program};
use crate::servers::{Machine, Make, on_servers};
use crate::store_postgres::{migrated, open};
use crate::stores::{SOON, component, held, retryable};

/// Seconds. An attempt is given up after a sixth of it, 0.83 s.
const TTL: u32 = 5;
/// The most that anything may take that is waited for, on a busy machine.
const LONG: Duration = Duration::from_secs(90);

fn participant(store: Arc<dyn Directory>, name: &str) -> Participant {
    Participant::builder(store, component("c"))
        .name(name)
        .ttl(Duration::from_secs(TTL.into()))
        .max_ttl(Duration::from_secs(TTL.into()))
        .on_overrun(|_| {})
        .start()
        .unwrap()
}

async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    wait::until_true(LONG, what, done).await.unwrap();
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Its connection alone takes longer than an attempt.
async fn a_participant_leads_and_is_followed_where_a_round_trip_takes_200_ms(make: Make) {
    let server = Machine::start(make).await;
    store::install(
        &Source::url(server.url()),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    let proxy = TcpProxy::start(([127, 0, 0, 1], server.port()).into()).unwrap();
    proxy.delay(Duration::from_millis(100));
    let open = || store::open(Source::url(server.url_through(proxy.port())), "far").unwrap();
    let one = participant(open(), "one");
    until("the first leader", async || one.is_leader()).await;
    let two = participant(open(), "two");
    until("five renewals", async || count(&one.counters().renewals) >= 5).await;
    assert!(one.is_leader());
    assert_eq!(count(&one.counters().renewals_unknown), 0);
    until("the follower to look", async || count(&two.counters().looks) >= 3).await;
    one.drain();
    one.ended().await.unwrap();
    until("the next leader", async || two.is_leader()).await;
    until("two renewals of the next", async || count(&two.counters().renewals) >= 2).await;
    assert!(two.is_leader());
}

/// Where no call can ever be answered in time, the connection that is made meanwhile tells why.
async fn a_participant_whose_database_is_too_far_away_says_so_with_a_ttl_that_would_do_and_a_near_one_does_not(
    make: Make,
) {
    let server = Machine::start(make).await;
    store::install(&Source::url(server.url()), Install::default().first(true)).await.unwrap();
    let proxy = TcpProxy::start(([127, 0, 0, 1], server.port()).into()).unwrap();
    // More than that, and no connection is made within its ten seconds.
    proxy.delay(Duration::from_millis(250));
    let folder = tempfile::tempdir().unwrap();
    let agent = |name: &str, url: &str| {
        let (address, log) = (free_address(), folder.path().join(name));
        let mut command = program();
        command.args(["agent", "--component", "c", "--ttl", "5", "--name", name, "--database-url", url]);
        command.args(["--listen", &address.to_string()]);
        Running::start(command, log, address)
    };
    let says = |of: &Running| -> Vec<String> {
        let log = of.log();
        log.lines().filter(|line| line.contains("too far away or too slow")).map(str::to_owned).collect()
    };
    let far = agent("far", &server.url_through(proxy.port()));
    until("the far one to say so", async || !says(&far).is_empty()).await;
    let said = says(&far).remove(0);
    let number = |before: &str| -> u64 {
        let digits = said.split_once(before).expect(&said).1;
        digits.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().expect(&said)
    };
    assert!(number("round_trip_ms=") >= 500, "{said}");
    // Two round trips take less than a sixth of it.
    assert!(number("use a ttl of ") > 6, "{said}");
    let near = agent("near", &server.url());
    until("the near one to lead", async || near.log().contains("INFO leading")).await;
    assert_eq!(says(&near), [""; 0]);
}

/// Each renewal would find its connection closed.
async fn where_idle_connections_are_closed_they_are_kept_alive_and_no_renewal_is_wasted(make: Make) {
    const TTL: u32 = 9;
    let server = Machine::start(make).await;
    store::install(
        &Source::url(server.url()),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    let proxy = TcpProxy::start(([127, 0, 0, 1], server.port()).into()).unwrap();
    proxy.close_idle(Duration::from_secs(2));
    let store = store::open(Source::url(server.url_through(proxy.port())), "idle").unwrap();
    let one = Participant::builder(store, component("c"))
        .ttl(Duration::from_secs(TTL.into()))
        .max_ttl(Duration::from_secs(TTL.into()))
        .start()
        .unwrap();
    until("a leader", async || one.is_leader()).await;
    let renewals = || count(&one.counters().renewals);
    let wasted = || count(&one.counters().renewals_unknown);
    until("two renewals", async || renewals() >= 2).await;
    let (before, wasted_before) = (renewals(), wasted());
    assert!(wasted_before <= 2, "{wasted_before}");
    until("four more", async || renewals() >= before + 4).await;
    assert_eq!(wasted(), wasted_before);
    assert!(one.is_leader());
}

on_servers! {
    [POSTGRES, MYSQL, MARIADB] =>
        a_participant_whose_database_is_too_far_away_says_so_with_a_ttl_that_would_do_and_a_near_one_does_not,
        where_idle_connections_are_closed_they_are_kept_alive_and_no_renewal_is_wasted,
        a_participant_leads_and_is_followed_where_a_round_trip_takes_200_ms;
}

/// The sessions of this application, oldest first.
async fn sessions(database: &Database, application: &str) -> Vec<String> {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = '{application}' AND datname = current_database()
         ORDER BY backend_start"
    );
    database.psql(&sql).await.unwrap().lines().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn the_connection_that_listens_takes_the_place_of_one_that_broke_and_another_one_listens() {
    let database = migrated().await;
    let store = open(&database, "spare");
    store.limit_lock_wait(Duration::from_secs(1));
    let a = held(&*store, "c", "a").await;
    let mut hints = store.hints();
    timeout(SOON, hints.next()).await.unwrap();
    let before = sessions(&database, "spare").await;
    assert_eq!(before.len(), 2);
    database.psql(&format!("SELECT pg_terminate_backend({})", before[0])).await.unwrap();
    retryable(store.renew(&a).await);
    let statements = database.statements("%").await.unwrap();
    let itself = database.statements("%").await.unwrap() - statements;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    // It stopped listening and renewed, and asked the server nothing about itself again.
    assert_eq!(database.statements("%").await.unwrap() - statements - 2 * itself, 2);
    assert_eq!(sessions(&database, "spare").await, before[1..], "no connection was made");

    until("another connection that listens", async || hints.flow()).await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    let after = sessions(&database, "spare").await;
    assert_eq!((after.len(), &after[0]), (2, &before[1]));
    store.release(&a).await.unwrap();
    store.notify(&a.component).await.unwrap();
    timeout(SOON, hints.next_for("c")).await.unwrap();
}

/// The URL of a role that may have so many connections.
async fn role(server: &postgres::Server, database: &Database, limit: u32) -> String {
    let name = format!("app_{}", database.name);
    let role = format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'pass-word' CONNECTION LIMIT {limit};
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}"
    );
    database.psql(&role).await.unwrap();
    server.url_as(&name, "pass-word", &database.name)
}

async fn installed() -> Database {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    store::install(
        &Source::url(&database.url),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    database
}

#[tokio::test]
async fn with_one_connection_for_the_role_it_is_for_statements_and_nothing_listens() {
    let server = postgres::shared().await.unwrap();
    let database = installed().await;
    let url = role(server, &database, 1).await;
    let one = participant(store::open(Source::url(&url), "alone").unwrap(), "one");
    until("a leader", async || one.is_leader()).await;
    until("four renewals", async || count(&one.counters().renewals) >= 4).await;
    // It is made anew when it breaks, which a listening connection would prevent. Just after a renewal: the server
    // counts a session until its process has ended.
    let renewals = count(&one.counters().renewals);
    until("the next renewal", async || count(&one.counters().renewals) > renewals).await;
    for session in sessions(&database, "alone").await {
        database.psql(&format!("SELECT pg_terminate_backend({session})")).await.unwrap();
    }
    let renewals = count(&one.counters().renewals);
    until("two more", async || count(&one.counters().renewals) >= renewals + 2).await;
    assert!(one.is_leader());
    let unknown = count(&one.counters().renewals_unknown);
    assert!(unknown <= 1, "{unknown} renewals without an answer");
}

#[tokio::test]
async fn three_connections_are_enough_for_three_participants_in_any_order() {
    let server = postgres::shared().await.unwrap();
    let database = installed().await;
    let url = role(server, &database, 3).await;
    let start = |name: &str| participant(store::open(Source::url(&url), "agent").unwrap(), name);
    let one = start("one");
    until("a leader", async || one.is_leader()).await;
    until("one that listens, too", async || sessions(&database, "agent").await.len() == 2).await;
    // The third finds none left, until the first has found out.
    let (two, three) = (start("two"), start("three"));
    until("a look of each", async || [&two, &three].iter().all(|it| count(&it.counters().looks) > 0)).await;
    assert!(one.is_leader());
    one.drain();
    one.ended().await.unwrap();
    drop(one);
    until("the next leader", async || two.is_leader() || three.is_leader()).await;
    let last = if two.is_leader() {
        two.drain();
        two.ended().await.unwrap();
        three
    } else {
        three.drain();
        three.ended().await.unwrap();
        two
    };
    until("the last leader", async || last.is_leader()).await;
}
