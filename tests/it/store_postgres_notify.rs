//! Notifications: what they may not cost, and what a lost one may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Hint, Install, Outcome, Source};
use component_lease_testkit::postgres::Server;
use component_lease_testkit::{machine, wait};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use crate::store_postgres::{migrated, open};
use crate::stores::{SOON, component, held, migrated_database, row, take, taking, term};

/// Taken, told and given back, twice: by who listens, and by who has one connection only. Answers why
/// nobody could be told.
async fn lead_untold(store: &Arc<dyn Directory>, version: i64) -> [String; 2] {
    let hints = store.hints();
    let mut why = [String::new(), String::new()];
    for (number, why) in (version..).zip(&mut why) {
        let before = row(&**store, "c").await;
        let ours = take(&term("c", "a", number), before.as_ref());
        assert_eq!(timeout(SOON, taking(&**store, &ours)).await.unwrap().unwrap(), Outcome::Applied);
        assert_eq!(timeout(SOON, store.renew(&ours.term)).await.unwrap().unwrap(), Outcome::Applied);
        assert_eq!(timeout(SOON, store.release(&ours.term)).await.unwrap().unwrap(), Outcome::Applied);
        let told = timeout(SOON, store.notify(&component("c"))).await.expect("a bounded wait");
        *why = told.unwrap_err().to_string();
        // It listens beside a connection that is used, as by who follows.
        let listens = async || {
            row(&**store, "c").await;
            hints.flow()
        };
        wait::until_true(SOON, "it to listen", listens).await.unwrap();
    }
    why
}

#[tokio::test]
async fn a_full_queue_of_notifications_stops_neither_takes_nor_releases() {
    let server = Server::builder().newest().setting("max_notify_queue_pages", "64").start().await.unwrap();
    let database = migrated_database(&server).await;
    // Who listens and does not read keeps what was sent after it began.
    let mut asleep = PgConnection::connect(&database.url).await.unwrap();
    asleep.execute("LISTEN somebody_elses").await.unwrap();
    asleep.execute("BEGIN; SELECT 1").await.unwrap();
    let fill = "SELECT pg_notify('somebody_elses', repeat('x', 7000) || i) FROM generate_series(1, 20) AS i";
    wait::until_true(SOON, "a full queue", async || match database.psql(fill).await {
        Ok(_) => false,
        Err(error) => error.to_string().contains("too many notifications"),
    })
    .await
    .unwrap();
    for why in lead_untold(&open(&database, "full"), 1).await {
        assert!(why.contains("too many notifications"), "{why}");
    }
}

#[tokio::test]
async fn a_commit_that_notifies_and_never_ends_stops_neither_takes_nor_releases() {
    let server = Server::start().await.unwrap();
    // No database of its own: to drop it would wait for the standby.
    let url = server.superuser_url();
    store::migrate(&Source::url(url)).await.unwrap();
    // A session that waits for a standby which does not exist has the lock that every commit with a notification needs.
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    server.psql("SELECT pg_reload_conf()").await.unwrap();
    let local = |url: &str| format!("{url}?options=-c%20synchronous_commit%3Dlocal");
    let (url, to) = (local(url), local(url));
    let blocker = tokio::spawn(async move {
        let mut blocker = PgConnection::connect(&to).await.unwrap();
        blocker.execute("SET synchronous_commit = on").await.unwrap();
        // A commit without a write waits for no standby.
        blocker.execute("BEGIN; CREATE TABLE written (); NOTIFY somebody_elses; COMMIT").await
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut eye = PgConnection::connect(&url).await.unwrap();
    wait::until_true(SOON, "a commit that waits", async || {
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut eye).await.unwrap() == 1
    })
    .await
    .unwrap();
    let store = store::open(Source::url(url), "blocked").unwrap();
    lead_untold(&store, 1).await;
    blocker.abort();
}

#[tokio::test]
async fn a_take_and_a_release_notify_by_a_call_of_their_own_and_other_programs_by_the_trigger() {
    let database = migrated().await;
    let (store, listener) = (open(&database, "ours"), open(&database, "listening"));
    let a = held(&*store, "c", "a").await;
    listener.look(&a.component).await.unwrap();
    let mut hints = listener.hints();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Any);
    store.release(&a).await.unwrap();
    let free = row(&*store, "c").await;
    taking(&*store, &take(&term("c", "b", 2), free.as_ref())).await.unwrap();
    // Had one of them notified, it would come first.
    database.psql("INSERT INTO component_lease VALUES ('foreign', 'foreign', 1, 1, 1, 5)").await.unwrap();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("foreign".into()));
    store.notify(&a.component).await.unwrap();
    assert_eq!(timeout(SOON, hints.next()).await.unwrap(), Hint::Component("c".into()));
    let setting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ours' AND datname = current_database()";
    assert_eq!(database.psql(setting).await.unwrap(), "1");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]
async fn who_ends_tells_the_others_before_however_long_the_ttl_is() {
    const TTL: u32 = 600;
    let _machine = machine::shared().await;
    let server = Server::start().await.unwrap();
    let url = server.superuser_url();
    store::install(
        &Source::url(url),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    let start = |name: &str| {
        let store = store::open(Source::url(url), "long").unwrap();
        Participant::builder(store, component("c"))
            .name(name)
            .ttl(Duration::from_secs(TTL.into()))
            .max_ttl(Duration::from_secs(TTL.into()))
            .start()
            .unwrap()
    };
    let one = start("one");
    let leads =
        async |it: &Participant| wait::until_true(SOON, "a leader", async || it.is_leader()).await.unwrap();
    leads(&one).await;
    let two = start("two");
    // Both have a second connection, that listens.
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'long'";
    wait::until_true(SOON, "four connections", async || server.psql(listening).await.unwrap() == "4")
        .await
        .unwrap();
    wait::until_true(SOON, "the follower's look", async || two.watch().borrow().row.is_some()).await.unwrap();
    let began = Instant::now();
    one.drain();
    one.ended().await.unwrap();
    drop(one);
    leads(&two).await;
    // Untold, it would have looked within half a minute.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
