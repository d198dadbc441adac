//! A ttl that is changed while somebody leads is that of the next term.

use std::sync::atomic::Ordering;
use std::time::Duration;

use component_lease::participant::Participant;
use component_lease::store::{self, Install, StandingIntent};
use component_lease_testkit::wait;

use crate::stores::{SOON, SqliteFile, component};

/// Seconds.
const BEFORE: u32 = 2;
const AFTER: u32 = 4;

#[tokio::test]
async fn a_changed_ttl_is_in_force_from_the_next_term_and_not_before() {
    let file = SqliteFile::none_yet();
    store::install(&file.source(), Install::default().first(true)).await.unwrap();
    let eye = file.store();
    let start = || {
        Participant::builder(file.store(), component("c"))
            .ttl(Duration::from_secs(30))
            .stop_grace(Duration::ZERO)
            .start()
    };
    let ask = async |ttl| eye.set_intent(&component("c"), StandingIntent::ttl(ttl)).await.unwrap();
    let row = async || eye.look(&component("c")).await.unwrap().row.unwrap();

    ask(BEFORE).await;
    let (first, second) = (start().unwrap(), start().unwrap());
    let leads = |participant: &Participant| participant.is_leader();
    wait::until_true(SOON, "a leader", async || leads(&first) || leads(&second)).await.unwrap();
    let (leader, follower) = if first.is_leader() { (first, second) } else { (second, first) };
    assert_eq!(row().await.ttl, i64::from(BEFORE));

    ask(AFTER).await;
    let renewals = || leader.counters().renewals.load(Ordering::Relaxed);
    let earlier = renewals();
    wait::until_true(SOON, "renewals after the change", async || renewals() > earlier + 1).await.unwrap();
    assert_eq!(row().await.ttl, i64::from(BEFORE), "the term goes on as it began");
    let valid = leader.term().unwrap().valid_for();
    assert!(valid <= Duration::from_secs(BEFORE.into()), "longer than the row promises: {valid:?}");

    leader.step_down();
    wait::until_true(SOON, "the next leader", async || follower.is_leader()).await.unwrap();
    let row = row().await;
    assert_eq!((row.version, row.ttl), (2, i64::from(AFTER)));
}
