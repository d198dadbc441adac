//! By which address PgBouncer is reached: how a pooler is recognised, and notifications by the server's own address.

use std::time::{Duration, Instant};

use component_lease::store::{self, Hint, Install, Source};
use component_lease_testkit::machine;
use component_lease_testkit::postgres::{self, PgBouncer};
use component_lease_testkit::tcp_proxy::TcpProxy;
use rustix::process::Signal;
use sqlx::Executor;
use tokio::time::timeout;

use crate::pgbouncer::{
    Agents, SESSION, TTL, application, ask, installed, leads, participant, renewals, until,
};
use crate::stores::{SOON, component, held, misconfigured, retryable, row, says};

/// How many times it says so, and the reason.
async fn recognised(url: String) -> (usize, String) {
    let agents = Agents::new(url);
    let agent = agents.start("one", &[]);
    leads(&agent, &[]).await;
    let log = agent.log();
    agent.signal(Signal::TERM);
    let lines = log.lines().filter(|line| line.contains("a connection pooler is in between"));
    (lines.clone().count(), lines.collect())
}

#[tokio::test]
async fn a_pooler_is_recognised_however_it_takes_the_probe_and_said_once() {
    let server = postgres::shared().await.unwrap();
    let (said, line) = {
        let pooler = PgBouncer::shared().await.unwrap();
        let database = installed(server, pooler).await;
        recognised(pooler.url(&database.name)).await
    };
    assert!(said == 1 && line.contains("refuses") && line.contains("--direct-database-url"), "{line}");
    for (mode, ignores, parameters, reason) in [
        ("transaction", "options", "", "is not there"),
        ("session", "", "", "refuses"),
        ("session", "options", "", "is not there"),
        ("transaction", "", "?pgbouncer=true", "pgbouncer=true"),
        ("transaction", "options", "?pgbouncer=false&options=-c%20work_mem%3D1MB", "is not there"),
    ] {
        let pooler = PgBouncer::builder(server)
            .pool(1)
            .setting("pool_mode", mode)
            .setting("ignore_startup_parameters", ignores)
            .start()
            .await
            .unwrap();
        let database = server.fresh_database().await.unwrap();
        store::install(
            &Source::url(&database.url),
            Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
        )
        .await
        .unwrap();
        let (said, line) = recognised(format!("{}{parameters}", pooler.url(&database.name))).await;
        assert!(said == 1 && line.contains(reason), "{mode} {ignores} {parameters}: {line}");
    }
    let database = server.fresh_database().await.unwrap();
    store::install(
        &Source::url(&database.url),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    for parameters in ["", "?options=-c%20work_mem%3D1MB"] {
        let (said, line) = recognised(format!("{}{parameters}", database.url)).await;
        assert_eq!(said, 0, "{line}");
    }
}

#[tokio::test]
async fn what_the_url_asks_of_the_server_is_there_behind_a_pooler_too() {
    let server = postgres::shared().await.unwrap();
    for ignores in ["", "options"] {
        let pooler = PgBouncer::builder(server)
            .pool(1)
            .setting("ignore_startup_parameters", ignores)
            .start()
            .await
            .unwrap();
        let database = server.fresh_database().await.unwrap();
        database.psql("CREATE SCHEMA \"o'ur s\"").await.unwrap();
        let url = format!("{}?options=-c%20search_path%3D\"o'ur\\%20s\"", pooler.url(&database.name));
        let mut theirs = application(&pooler.url(&database.name)).await;
        let before = ask(&mut theirs, SESSION).await;
        store::install(
            &Source::url(&url),
            Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
        )
        .await
        .unwrap();
        let store = store::open(Source::url(&url), "schema").unwrap();
        held(&*store, "c", "a").await;
        assert_eq!(ask(&mut theirs, SESSION).await, before, "ignores {ignores:?}");
        let seen = "SELECT string_agg(schemaname, ',') FROM pg_tables WHERE tablename = 'component_lease'";
        assert_eq!(database.psql(seen).await.unwrap(), "o'ur s", "ignores {ignores:?}");
        let only_reads = format!(
            "{}?options=-c%20default_transaction_read_only%3Don%20-c%20search_path%3D\"o'ur\\%20s\"",
            pooler.url(&database.name)
        );
        let store = store::open(Source::url(only_reads), "reading").unwrap();
        says(&retryable(store.look(&component("c")).await), &["only read"]);
        let unknown = format!("{}?options=-c%20no_such_setting%3D1", pooler.url(&database.name));
        let store = store::open(Source::url(unknown), "unknown").unwrap();
        says(&misconfigured(store.look(&component("c")).await), &["no_such_setting"]);
    }
}

/// Each takes over when the one before has been asked to go; how long that took.
#[expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]
async fn hand_overs(source: &Source, listens: bool) -> Vec<Duration> {
    let mut leader = participant(source.clone(), "0");
    until("the first leader", async || leader.is_leader()).await;
    let mut took = Vec::new();
    for number in 1..=6 {
        let next = participant(source.clone(), &number.to_string());
        until("the next to follow", async || next.watch().borrow().row.is_some()).await;
        if listens {
            // At the second look the notifications flow.
            until("a renewal", async || renewals(&leader) >= 2).await;
        }
        let began = Instant::now();
        leader.drain();
        until("the next leader", async || next.is_leader()).await;
        took.push(began.elapsed());
        leader.ended().await.unwrap();
        leader = next;
    }
    took
}

#[tokio::test]
async fn six_hand_overs_behind_a_pooler_take_none_of_them_a_ttl() {
    let _machine = machine::shared().await;
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(2).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let took = hand_overs(&Source::url(pooler.url(&database.name)), false).await;
    eprintln!("without an address of the server's own: {took:.0?}");
    // One look a second finds them; one that went wrong takes a TTL.
    assert!(took.iter().all(|took| *took < Duration::from_millis(2_500)), "{took:?}");
}

#[tokio::test]
async fn with_the_servers_own_address_hand_overs_are_told_and_statements_go_by_the_pooler() {
    let _machine = machine::shared().await;
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(2).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let source = Source::url(pooler.url(&database.name)).direct_url(&database.url);
    let mut took = hand_overs(&source, true).await;
    took.sort_unstable();
    eprintln!("with one: {took:.0?}");
    assert!(took[3] < Duration::from_millis(500), "{took:?}");
    // Nobody who listens makes statements, also when the pooler's connection has ended.
    let proxy = TcpProxy::start(([127, 0, 0, 1], pooler.port()).into()).unwrap();
    let source = Source::url(server.url_through(proxy.port(), &database.name)).direct_url(&database.url);
    let store = store::open(source, "apart").unwrap();
    row(&*store, "c").await;
    let mut hints = store.hints();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any);
    proxy.cut();
    proxy.heal();
    until("an answer", async || store.look(&component("c")).await.is_ok()).await;
    assert!(hints.flow(), "it goes on listening");
    store.notify(&component("c")).await.unwrap();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("c".into()));
}

#[tokio::test]
async fn a_direct_address_that_leads_elsewhere_or_to_a_pooler_is_said_and_not_listened_to() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::shared().await.unwrap();
    let (database, other) = (installed(server, pooler).await, installed(server, pooler).await);
    for (direct, pieces) in [
        (other.url.clone(), ["another database", other.name.as_str()]),
        (pooler.url(&database.name), ["connection pooler", "--direct-database-url"]),
    ] {
        let agents = Agents::new(pooler.url(&database.name));
        let agent = agents.start("one", &["--direct-database-url", &direct]);
        until("a word on it", async || agent.log().contains("no notifications")).await;
        leads(&agent, &[]).await;
        let log = agent.log();
        assert!(pieces.iter().all(|piece| log.contains(piece)), "{log}");
        assert!(!log.contains(direct.split(['/', ':', '@']).nth(4).unwrap()), "a password: {log}");
        agent.signal(Signal::KILL);
    }
    let refused = |source: Source| store::open(source, "test").map(|store| store.describe());
    let mysql = Source::url("mysql://u:p@h/d").direct_url(&database.url);
    says(&misconfigured(refused(mysql)), &["direct", "PostgreSQL", "leave it out"]);
    let mysql = Source::url(&database.url).direct_url("mysql://u:hunter2@h/d");
    says(&misconfigured(refused(mysql)), &["direct database URL", "PostgreSQL"]);
    let malformed = Source::url(&database.url).direct_url("postgres://u:hunter2@h:x/d");
    let why = misconfigured(refused(malformed));
    assert!(why.contains("direct database URL") && !why.contains("hunter2"), "{why}");
    says(
        &misconfigured(refused(Source::url(&database.url).direct_url_file("/no/such"))),
        &["/no/such", "direct"],
    );
}

#[tokio::test]
async fn where_the_direct_address_is_a_pooler_that_ignores_the_probe_what_others_listen_to_stays() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server)
        .pool(1)
        .setting("ignore_startup_parameters", "options")
        .start()
        .await
        .unwrap();
    let database = installed(server, &pooler).await;
    let url = pooler.url(&database.name);
    let mut theirs = application(&url).await;
    theirs.execute("LISTEN theirs").await.unwrap();
    let before = ask(&mut theirs, SESSION).await;
    assert!(before.contains(&Some("listens to theirs".to_owned())), "{before:?}");
    let agents = Agents::new(url.clone());
    let agent = agents.start("one", &["--direct-database-url", &url]);
    until("a word on it", async || agent.log().contains("no notifications")).await;
    leads(&agent, &[]).await;
    // Before it is killed: a pooler ends the session on which a killed client's statement runs.
    assert_eq!(ask(&mut theirs, SESSION).await, before);
    agent.signal(Signal::KILL);
}
