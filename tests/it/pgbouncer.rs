//! PostgreSQL behind PgBouncer: what we leave on its sessions, what others leave there, and how it is recognised.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use component_lease::participant::Participant;
use component_lease::store::{self, Install, Outcome, Source};
use component_lease_testkit::postgres::{self, Database, PgBouncer, Server, Stop};
use component_lease_testkit::tcp_proxy::TcpProxy;
use component_lease_testkit::wait;
use rustix::process::Signal;
use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

use crate::agent_support::{Running, free_address, program};
use crate::store_instances::instance;
use crate::stores::{SOON, alive_at, component, held, row, take, taking, term};

pub(crate) const TTL: u32 = 5;
/// The most that anything may take that is waited for, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    wait::until_true(LONG, what, done).await.unwrap();
}

/// With tables, made through the pooler.
pub(crate) async fn installed(server: &Server, pooler: &PgBouncer) -> Database {
    let database = server.fresh_database().await.unwrap();
    let how = Install::default().first(true).max_ttl(Duration::from_secs(TTL.into()));
    store::install(&Source::url(pooler.url(&database.name)), how).await.unwrap();
    database
}

pub(crate) fn participant(source: Source, name: &str) -> Participant {
    let store = store::open(source, "pooled").unwrap();
    Participant::builder(store, component("c"))
        .name(name)
        .ttl(Duration::from_secs(TTL.into()))
        .max_ttl(Duration::from_secs(TTL.into()))
        .on_overrun(|_| {})
        .start()
        .unwrap()
}

pub(crate) fn renewals(participant: &Participant) -> u64 {
    participant.counters().renewals.load(Ordering::Relaxed)
}

/// The real program.
pub(crate) struct Agents {
    folder: tempfile::TempDir,
    url: String,
}

impl Agents {
    pub(crate) fn new(url: String) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url }
    }

    pub(crate) fn start(&self, name: &str, flags: &[&str]) -> Running {
        let address = free_address();
        let mut command = program();
        command
            .args(["agent", "--component", "c", "--ttl", "5", "--max-ttl", "5", "--name", name])
            .args(["--listen", &address.to_string(), "--database-url", &self.url])
            .args(flags);
        Running::start(command, self.folder.path().join(format!("{name}.log")), address)
    }
}

pub(crate) async fn leads(agent: &Running, others: &[&Running]) {
    until(&format!("held of the one with this log: {}", agent.log()), async || {
        agent.ask("/leader").is_some_and(|answer| answer.status == 200)
    })
    .await;
    for other in others {
        assert!(other.ask("/leader").is_none_or(|answer| answer.status != 200), "two lead");
    }
}

/// An application of somebody else's, on the same pool.
pub(crate) async fn application(url: &str) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    PgConnection::connect_with(&options.extra_float_digits(None).application_name("theirs")).await.unwrap()
}

pub(crate) async fn ask(application: &mut PgConnection, sql: &'static str) -> Vec<Option<String>> {
    let rows = application.fetch_all(sqlx::raw_sql(sql)).await.unwrap();
    rows.iter().map(|row| row.try_get::<Option<String>, _>(0).unwrap()).collect()
}

/// What a session is set to, and what stands on it.
pub(crate) const SESSION: &str = "
    SELECT 'session ' || pg_backend_pid()
    UNION ALL SELECT name || ' = ' || setting FROM pg_settings
              WHERE name IN ('lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'row_security',
                             'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'search_path',
                             'role', 'default_transaction_isolation', 'transaction_isolation', 'synchronous_commit',
                             'standard_conforming_strings', 'exit_on_error')
    UNION ALL SELECT 'listens to ' || c FROM pg_listening_channels() AS c
    UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements
    UNION ALL SELECT 'locks ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'notifies ' || current_setting('component_lease.notifies', true)
              WHERE current_setting('component_lease.notifies', true) <> ''
    UNION ALL SELECT 'probe ' || current_setting('component_lease.probe', true)
              WHERE current_setting('component_lease.probe', true) <> ''
    ORDER BY 1";

#[tokio::test]
async fn an_application_on_the_same_session_sees_nothing_of_ours_also_after_we_were_killed() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(1).start().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    let url = pooler.url(&database.name);
    let mut theirs = application(&url).await;
    let before = ask(&mut theirs, SESSION).await;
    store::install(
        &Source::url(&url),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    let agents = Agents::new(url);
    let (one, two) = (agents.start("one", &[]), agents.start("two", &[]));
    until("a leader", async || {
        one.ask("/leader").is_some_and(|answer| answer.status == 200)
            || two.ask("/leader").is_some_and(|answer| answer.status == 200)
    })
    .await;
    until("a sign of life of each", async || {
        database.psql("SELECT count(*) FROM component_instance").await.unwrap() == "2"
    })
    .await;
    let renewed = "SELECT renew_time FROM component_lease";
    let first = database.psql(renewed).await.unwrap();
    until("a renewal", async || database.psql(renewed).await.unwrap() != first).await;
    assert_eq!(ask(&mut theirs, SESSION).await, before, "while they run");
    for agent in [&one, &two] {
        agent.signal(Signal::KILL);
    }
    drop((one, two));
    // A pooler ends the session on which a killed client's statement runs; the next one is another.
    let but_which = |found: Vec<Option<String>>| -> Vec<_> {
        found.into_iter().flatten().filter(|line| !line.starts_with("session ")).collect()
    };
    assert_eq!(but_which(ask(&mut theirs, SESSION).await), but_which(before), "after they were killed");
}

#[tokio::test]
async fn a_statement_of_an_application_on_the_same_pool_waits_for_a_lock_for_as_long_as_it_likes() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(2).start().await.unwrap();
    let database = installed(server, &pooler).await;
    database.psql("CREATE TABLE theirs AS SELECT 1 AS n").await.unwrap();
    let url = pooler.url(&database.name);
    // Both sessions are used by us first, at the same time.
    let participants = ["one", "two", "three"].map(|name| participant(Source::url(&url), name));
    until("a leader", async || participants.iter().any(Participant::is_leader)).await;
    let stores: Vec<_> = (0..8).map(|_| store::open(Source::url(&url), "more").unwrap()).collect();
    for store in &stores {
        store.limit_lock_wait(Duration::from_millis(50));
    }
    let looks = stores.iter().cloned().map(|store| async move { row(&*store, "c").await });
    let looks: Vec<_> = looks.map(tokio::spawn).collect();
    for look in looks {
        look.await.unwrap();
    }
    let (mut one, mut two) = (application(&url).await, application(&url).await);
    one.execute("BEGIN; UPDATE theirs SET n = 2").await.unwrap();
    let waiting = tokio::spawn(async move { two.execute("UPDATE theirs SET n = 3").await.map(drop) });
    // Longer than any lock limit of ours.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                   AND now() - query_start > interval '1200 ms'";
    until("their statement to wait", async || database.psql(waits).await.unwrap() == "1").await;
    one.execute("COMMIT").await.unwrap();
    timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_an_application_leaves_on_the_session_is_neither_obeyed_by_us_nor_taken_from_it() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(1).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let url = pooler.url(&database.name);
    database
        .psql("CREATE SCHEMA other; CREATE TABLE other.component_lease (LIKE public.component_lease); CREATE ROLE nobody_much")
        .await
        .unwrap();
    // Longer than the limit of theirs.
    database
        .psql(
            "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN PERFORM pg_catalog.pg_sleep(0.3); RETURN NEW; END$$;
             CREATE TRIGGER slow BEFORE UPDATE ON component_lease FOR EACH ROW EXECUTE FUNCTION public.slow()",
        )
        .await
        .unwrap();
    let mut theirs = application(&url).await;
    theirs
        .execute(
            "SET search_path = other; SET synchronous_commit = off; SET row_security = on; SET statement_timeout = 200;
             SET lock_timeout = 1; SET standard_conforming_strings = off; SET backslash_quote = on;
             SET default_transaction_isolation = serializable; SET transform_null_equals = on;
             LISTEN component_lease; SET role = nobody_much",
        )
        .await
        .unwrap();
    let left = ask(&mut theirs, SESSION).await;
    let store = store::open(Source::url(&url), "ours").unwrap();
    let a = held(&*store, "c", "o'brien\\").await;
    for round in 1..=6 {
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        // Each reaches this very session, which listens.
        store.notify(&a.component).await.unwrap();
        assert!(row(&*store, "c").await.unwrap().is_term(&a), "round {round}");
    }
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(ask(&mut theirs, SESSION).await, left);
    assert_eq!(database.psql("SELECT count(*) FROM other.component_lease").await.unwrap(), "0");
    theirs.execute("RESET role").await.unwrap();
    drop((theirs, store));
    database.psql("DROP ROLE nobody_much").await.unwrap();
}

#[tokio::test]
async fn a_participant_that_is_frozen_behind_a_statement_holds_no_lock_and_no_session() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(2).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let proxy = TcpProxy::start(([127, 0, 0, 1], pooler.port()).into()).unwrap();
    let store = store::open(Source::url(server.url_through(proxy.port(), &database.name)), "frozen").unwrap();
    let a = held(&*store, "c", "a").await;
    let before = row(&*store, "c").await.unwrap().renew_time;
    // To the server a client that is stopped is one that takes no answer.
    proxy.lose_answers();
    let renewal = tokio::spawn({
        let (store, a) = (Arc::clone(&store), a.clone());
        async move { store.renew(&a).await }
    });
    until("the renewal to be applied", async || {
        let now = database.psql("SELECT renew_time FROM component_lease").await.unwrap();
        now.parse::<i64>().unwrap() > before
    })
    .await;
    // Its lock is free, and so are both sessions.
    let url = pooler.url(&database.name);
    let (mut one, mut two) = (application(&url).await, application(&url).await);
    one.execute("BEGIN; SELECT 1 FROM component_lease FOR UPDATE NOWAIT").await.unwrap();
    timeout(SOON, two.execute("BEGIN")).await.unwrap().unwrap();
    one.execute("ROLLBACK").await.unwrap();
    two.execute("ROLLBACK").await.unwrap();
    renewal.abort();
}

#[tokio::test]
async fn processes_that_are_stopped_at_any_moment_hold_no_lock() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(2).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let agents = Agents::new(pooler.url(&database.name));
    let (one, two) = (agents.start("one", &[]), agents.start("two", &[]));
    until("a leader", async || database.psql("SELECT count(*) FROM component_lease").await.unwrap() == "1")
        .await;
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    for _ in 0..10 {
        for agent in [&one, &two] {
            agent.signal(Signal::STOP);
        }
        // What was on its way has ended; nothing waits for its client.
        until("a free row", async || {
            database.psql("BEGIN; SELECT 1 FROM component_lease FOR UPDATE NOWAIT; COMMIT").await.is_ok()
        })
        .await;
        assert_eq!(database.psql(held).await.unwrap(), "0");
        for agent in [&one, &two] {
            agent.signal(Signal::CONT);
        }
    }
}

#[tokio::test]
async fn texts_come_back_as_they_were_sent_whatever_is_in_them() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(1).start().await.unwrap();
    for encoding in ["UTF8", "SQL_ASCII"] {
        let options = format!("ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        let database = server.fresh_database_with(&options).await.unwrap();
        let url = pooler.url(&database.name);
        store::migrate(&Source::url(&url)).await.unwrap();
        let mut theirs = application(&url).await;
        theirs.execute("SET standard_conforming_strings = off; SET backslash_quote = off").await.unwrap();
        let store = store::open(Source::url(&url), "texts").unwrap();
        let mut id = None;
        let parts = [
            "'", "\\", "''", "\\'", "\"", "$1", "$$", ";", "--", "/*", "\n", "\u{7f}", "%s", "E'", "\\x41",
            "\\u0041", "ż", "日", "🦀", "\u{85}", "\u{feff}", "a", "0", " ", "Z",
        ];
        for round in 0..120 {
            let length = fastrand::usize(1..12);
            let text: String = (0..length).map(|_| parts[fastrand::usize(..parts.len())]).collect();
            let mut says = instance("c", "a");
            says.whereabouts.node = Some(text.clone());
            says.whereabouts.pod = Some(text.chars().rev().collect());
            // A new row each time.
            says.lasts = 60;
            id = store.beat(&says, None).await.unwrap().or(id);
            let seen = alive_at(&*store, &["c"]).await.instances.unwrap();
            let last = seen.iter().find(|seen| Some(seen.id) == id).unwrap();
            assert_eq!(last.whereabouts, says.whereabouts, "{encoding}, round {round}");
        }
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'component_%'";
        assert_eq!(database.psql(tables).await.unwrap(), "8");
    }
}

#[tokio::test]
async fn two_compete_behind_a_pooler_and_a_restart_of_the_server_leaves_one_leader() {
    let server = Server::start().await.unwrap();
    let pooler = PgBouncer::builder(&server).pool(2).start().await.unwrap();
    let how = Install::default().first(true).max_ttl(Duration::from_secs(TTL.into()));
    store::install(&Source::url(pooler.url("postgres")), how).await.unwrap();
    let both = ["one", "two"].map(|name| participant(Source::url(pooler.url("postgres")), name));
    let led = || {
        let led: Vec<_> = both.iter().filter_map(Participant::term).map(|guard| guard.version()).collect();
        assert!(led.len() <= 1, "two lead: {led:?}");
        led.first().copied()
    };
    let first = wait::until(LONG, "a leader", async || Ok(led())).await.unwrap();
    // Down for longer than the term. The server then has another start time: an epoch begins, and its quarantine is
    // waited out.
    server.stop(Stop::Fast).await.unwrap();
    wait::until(LONG, "the end of the term", async || Ok(led().is_none().then_some(()))).await.unwrap();
    server.start_again().await.unwrap();
    let next =
        wait::until(LONG, "a leader in the new life", async || Ok(led().filter(|led| *led > first))).await;
    let next = next.unwrap();
    let before = renewals(&both[0]) + renewals(&both[1]);
    until("two renewals", async || renewals(&both[0]) + renewals(&both[1]) >= before + 2).await;
    assert_eq!(led(), Some(next));
}

/// Of this database: other tests make tables on the same server.
const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn any_number_of_migrations_at_once_behind_a_pooler_do_it_once() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::shared().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    let source = Source::url(pooler.url(&database.name));
    let runs: Vec<_> = (0..5)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { store::migrate(&source).await.unwrap() })
        })
        .collect();
    let mut applied = 0;
    for run in runs {
        applied += usize::from(!run.await.unwrap().applied.is_empty());
    }
    assert_eq!(applied, 1);
    assert_eq!(database.psql(LOCKS).await.unwrap(), "0");
}

#[tokio::test]
async fn three_agents_share_the_three_sessions_of_a_pooler_that_keeps_one_for_each_client() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).session().pool(3).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let agents = Agents::new(pooler.url(&database.name));
    let mut running: Vec<_> = ["one", "two", "three"].iter().map(|name| agents.start(name, &[])).collect();
    let follows = |agent: &Running| {
        agent.ask("/leader").is_some_and(|answer| answer.status == 503 && answer.version() > 0)
    };
    while let Some(leader) = {
        let mut found = None;
        until("a leader that all others follow", async || {
            found = running
                .iter()
                .position(|agent| agent.ask("/leader").is_some_and(|answer| answer.status == 200));
            found.is_some_and(|leader| {
                (0..running.len()).all(|other| other == leader || follows(&running[other]))
            })
        })
        .await;
        found
    } {
        let listens = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        assert_eq!(database.psql(listens).await.unwrap(), "0");
        // It has no time to say anything.
        running.swap_remove(leader).signal(Signal::KILL);
        if running.is_empty() {
            break;
        }
    }
}

#[tokio::test]
async fn a_pooler_that_says_nothing_for_a_while_costs_one_term_at_most() {
    let server = postgres::shared().await.unwrap();
    let pooler = PgBouncer::builder(server).pool(2).start().await.unwrap();
    let database = installed(server, &pooler).await;
    let one = participant(Source::url(pooler.url(&database.name)), "one");
    until("a leader", async || one.is_leader()).await;
    pooler.freeze().unwrap();
    until("the end of the term", async || !one.is_leader()).await;
    pooler.thaw().unwrap();
    until("a leader", async || one.is_leader()).await;
    let term = term("c", one.holder().as_str(), 2);
    let eye = store::open(Source::url(&database.url), "eye").unwrap();
    let seen = row(&*eye, "c").await;
    assert!(seen.as_ref().is_some_and(|row| row.version >= 2), "{seen:?}");
    assert_eq!(taking(&*eye, &take(&term, None)).await.unwrap(), Outcome::Lost);
}
