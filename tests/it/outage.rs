//! A database that is frozen for longer than a term: how soon somebody leads once it answers again, and that what
//! it had queued makes nobody leader and revives no term.

#![expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Install, Source};
use component_lease_testkit::{machine, wait};

use crate::servers::{Machine, Make, on_servers};
use crate::stores::{component, row};

/// Seconds.
const TTL: u32 = 5;
const FROZEN: Duration = Duration::from_secs(10);
/// A standby that waits for the row to stay unchanged needs a whole ttl. Alone on a machine it takes some tenths of a second
/// (`make bench WHAT=outage`).
const SOON: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(60);

fn participant(url: String, name: &str) -> Participant {
    Participant::builder(store::open(Source::url(url), "outage").unwrap(), component("c"))
        .name(name)
        .ttl(Duration::from_secs(TTL.into()))
        .max_ttl(Duration::from_secs(TTL.into()))
        .on_overrun(|_| {})
        .start()
        .unwrap()
}

/// The version that one of them leads, if it is above this one.
fn led_after(version: i64, participants: &[Participant]) -> Option<i64> {
    let led: Vec<_> =
        participants.iter().filter_map(Participant::term).map(|guard| guard.version()).collect();
    assert!(led.len() <= 1, "two lead: {led:?}");
    led.first().copied().filter(|led| *led > version)
}

async fn a_database_that_was_frozen_for_two_ttls_has_a_leader_soon_after(make: Make) {
    let _machine = machine::shared().await;
    let server = Machine::start(make).await;
    store::install(
        &Source::url(server.url()),
        Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())),
    )
    .await
    .unwrap();
    let eye: Arc<dyn Directory> = store::open(Source::url(server.url()), "eye").unwrap();
    let participants = ["one", "two", "three"].map(|name| participant(server.url(), name));
    let mut version = 0;
    for _ in 0..3 {
        version =
            wait::until(LIMIT, "a leader", async || Ok(led_after(version - 1, &participants))).await.unwrap();
        let holder = row(&*eye, "c").await.unwrap().holder;
        let leader = participants.iter().find(|p| p.holder().as_str() == holder).unwrap();
        let renewals = leader.counters().renewals.load(Ordering::Relaxed);
        wait::until_true(LIMIT, "a renewal", async || {
            leader.counters().renewals.load(Ordering::Relaxed) > renewals
        })
        .await
        .unwrap();
        server.freeze();
        let frozen_at = Instant::now();
        wait::until_true(LIMIT, "ten seconds without an answer", async || frozen_at.elapsed() >= FROZEN)
            .await
            .unwrap();
        assert_eq!(led_after(0, &participants), None, "its term is over");
        server.thaw();
        let thawed_at = Instant::now();
        let next = wait::until(LIMIT, "the next leader", async || {
            Ok(participants
                .iter()
                .filter_map(Participant::term)
                .map(|guard| guard.version())
                .find(|v| *v > version))
        });
        let next = next.await.unwrap();
        let took = thawed_at.elapsed();
        println!("{make}: {next} after {version}, {took:?} after the thaw");
        assert!(took < SOON, "{make}: {took:?}");
    }
}

on_servers! {
    [POSTGRES, MYSQL, MARIADB] => a_database_that_was_frozen_for_two_ttls_has_a_leader_soon_after;
}
