//! A database that is locked, gone, read-only, full or slow: who leads meanwhile, and that somebody
//! leads again when it is over. With participants, as a service has them.

#![expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use component_lease::election::LeaseRow;
use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Install, Source};
use component_lease_testkit::tcp_proxy::TcpProxy;
use component_lease_testkit::wait;

use crate::servers::{Machine, Make, on_servers};
use crate::stores::{component, row};

/// Seconds. An attempt is given up after a sixth of it, 0.83 s.
const TTL: u32 = 5;
/// Longer than an attempt, shorter than a term, seconds.
const SLOW: f64 = 1.5;
/// The most that anything may take that is waited for, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn installed(make: Make) -> Machine {
    let server = Machine::start(make).await;
    store::install(
        &Source::url(server.url()),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    server
}

fn participant(url: String, name: &str) -> Participant {
    Participant::builder(store::open(Source::url(url), "faults").unwrap(), component("c"))
        .name(name)
        .ttl(Duration::from_secs(TTL.into()))
        .max_ttl(Duration::from_secs(TTL.into()))
        .stop_grace(Duration::ZERO)
        .on_overrun(|_| {})
        .start()
        .unwrap()
}

/// The version of its next term, or of the one that it leads.
async fn leads(participant: &Participant) -> i64 {
    wait::until(SOON, format!("{participant:?} to lead"), async || {
        Ok(participant.term().map(|guard| guard.version()))
    })
    .await
    .unwrap()
}

async fn stops_leading(participant: &Participant) {
    wait::until_true(SOON, format!("the end of the term of {participant:?}"), async || {
        !participant.is_leader()
    })
    .await
    .unwrap();
}

/// Until it says that the database fails with one of these words.
async fn has_a_problem(participant: &Participant, words: &[&str]) {
    wait::until_true(SOON, format!("{participant:?} to say one of {words:?}"), async || {
        let problem = participant.watch().borrow().problem.clone().unwrap_or_default();
        words.iter().any(|word| problem.contains(word))
    })
    .await
    .unwrap();
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

async fn a_row_that_is_locked_for_20_seconds_has_no_leader_and_no_dead_renewal_revives_it(make: Make) {
    let server = installed(make).await;
    let eye: Arc<dyn Directory> = store::open(Source::url(server.url()), "eye").unwrap();
    let one = participant(server.url(), "one");
    let first = leads(&one).await;
    let lock = server.lock_rows().await;
    let locked_at = Instant::now();
    stops_leading(&one).await;
    // No later than a ttl after the last renewal that could pass.
    assert!(locked_at.elapsed() < Duration::from_secs(TTL.into()), "{:?}", locked_at.elapsed());
    let frozen = row(&*eye, "c").await.unwrap();
    // What was given up does not wait on: else all of it would be written when the lock goes.
    wait::until_true(SOON, "nothing to wait for the row", async || server.waiting_for_locks().await == 0)
        .await
        .unwrap();
    wait::until_true(SOON, "20 s", async || {
        assert!(!one.is_leader());
        locked_at.elapsed() >= Duration::from_secs(20)
    })
    .await
    .unwrap();
    assert_eq!(row(&*eye, "c").await.unwrap(), frozen);
    drop(lock);
    let next = wait::until(SOON, "the next term", async || {
        let now = row(&*eye, "c").await.unwrap();
        assert!(now.version > first || now == frozen, "revived: {now:?} after {frozen:?}");
        Ok((now.version > first).then_some(now.version))
    });
    let next = next.await.unwrap();
    assert!(leads(&one).await >= next);
}

async fn a_server_that_vanishes_without_closing_ends_the_term_and_what_was_under_way_changes_nothing(
    make: Make,
) {
    let server = installed(make).await;
    let proxy = TcpProxy::start(([127, 0, 0, 1], server.port()).into()).unwrap();
    let (one, two) = (participant(server.url_through(proxy.port()), "one"), participant(server.url(), "two"));
    // Whichever was first: the one behind the proxy shall lead.
    wait::until_true(SOON, "a leader", async || one.is_leader() || two.is_leader()).await.unwrap();
    if two.is_leader() {
        two.step_down();
    }
    let first = leads(&one).await;
    proxy.black_hole();
    let second = wait::until(SOON, "the next leader", async || {
        let next = two.term();
        // The later one is asked first, so that a true answer of both is one of the same moment.
        assert!(next.is_none() || !one.is_leader(), "both lead");
        Ok(next.map(|guard| guard.version()))
    });
    let second = second.await.unwrap();
    assert_eq!(second, first + 1);
    // The renewals and connections that were held back arrive now.
    proxy.heal();
    wait::until_true(SOON, "the old leader to see the new one", async || {
        assert!(!one.is_leader());
        one.watch().borrow().row.as_ref().is_some_and(|row| row.holder == two.holder().to_string())
    })
    .await
    .unwrap();
    assert_eq!(leads(&two).await, second);
}

async fn a_server_that_becomes_read_only_has_no_leader_until_it_may_write(make: Make) {
    let server = installed(make).await;
    let (one, two) = (participant(server.url(), "one"), participant(server.url(), "two"));
    let version = async || {
        wait::until(SOON, "a leader", async || Ok(one.term().or(two.term()).map(|guard| guard.version())))
            .await
            .unwrap()
    };
    let first = version().await;
    server.set_read_only(true).await;
    for participant in [&one, &two] {
        stops_leading(participant).await;
        has_a_problem(participant, &["read-only", "only read"]).await;
    }
    assert!(!one.is_leader() && !two.is_leader());
    server.set_read_only(false).await;
    assert!(version().await > first);
}

async fn a_full_server_keeps_its_leader_and_lets_the_next_one_in_when_there_is_room(make: Make) {
    let server = installed(make).await;
    let url = server.limited_user().await;
    let one = participant(url.clone(), "one");
    let first = leads(&one).await;
    server.until_no_room().await;
    let two = participant(url, "two");
    has_a_problem(&two, &["too many connections", "max_user_connections"]).await;
    let renewals = count(&one.counters().renewals);
    wait::until_true(SOON, "two renewals", async || count(&one.counters().renewals) >= renewals + 2)
        .await
        .unwrap();
    assert_eq!(leads(&one).await, first);
    one.drain();
    one.ended().await.unwrap();
    drop(one);
    assert_eq!(leads(&two).await, first + 1);
}

async fn a_take_slower_than_an_attempt_wins_and_renewals_slower_than_that_are_given_up(make: Make) {
    let server = installed(make).await;
    let eye: Arc<dyn Directory> = store::open(Source::url(server.url()), "eye").unwrap();
    let one = participant(server.url(), "one");
    let first = leads(&one).await;
    one.drain();
    one.ended().await.unwrap();

    server.slow_down(SLOW, false).await;
    let two = participant(server.url(), "two");
    assert_eq!(leads(&two).await, first + 1, "applied and acknowledged at the first try");
    let taken = |participant: &Participant| {
        let counters = participant.counters();
        (count(&counters.takes_won), count(&counters.takes_unknown))
    };
    assert_eq!(taken(&two), (1, 0));
    wait::until_true(SOON, "a renewal", async || count(&two.counters().renewals) > 0).await.unwrap();

    server.slow_down(SLOW, true).await;
    stops_leading(&two).await;
    assert!(count(&two.counters().renewals_unknown) > 0);
    let LeaseRow { holder, version, .. } = row(&*eye, "c").await.unwrap();
    assert_eq!((holder, version), (two.holder().to_string(), first + 1), "nobody took it away");

    server.slow_down(0.0, true).await;
    let renewals = count(&two.counters().renewals);
    wait::until_true(SOON, "a term that is renewed", async || count(&two.counters().renewals) > renewals)
        .await
        .unwrap();
    assert!(leads(&two).await > first + 1);
}

/// What a standby that is not promoted says, for the URL that leads there.
async fn an_address_that_leads_to_a_standby_makes_nobody_leader_until_it_is_promoted(make: Make) {
    let primary = installed(make).await;
    let standby = primary.standby().await;
    let (one, other) = (participant(primary.url(), "one"), participant(standby.url(), "other"));
    let first = leads(&one).await;
    has_a_problem(&other, &["is a standby", "is read-only"]).await;
    primary.crash().await;
    stops_leading(&one).await;
    assert!(!other.is_leader());
    standby.promote().await;
    assert!(leads(&other).await > first);
}

on_servers! {
    [POSTGRES, MYSQL, MARIADB] =>
        a_row_that_is_locked_for_20_seconds_has_no_leader_and_no_dead_renewal_revives_it,
        a_server_that_vanishes_without_closing_ends_the_term_and_what_was_under_way_changes_nothing,
        a_full_server_keeps_its_leader_and_lets_the_next_one_in_when_there_is_room,
        a_take_slower_than_an_attempt_wins_and_renewals_slower_than_that_are_given_up,
        an_address_that_leads_to_a_standby_makes_nobody_leader_until_it_is_promoted;
    // The user of these tests on MariaDB may write to a server that is read-only: tests/it/store_mysql_faults.rs.
    [POSTGRES, MYSQL] =>
        a_server_that_becomes_read_only_has_no_leader_until_it_may_write;
}
