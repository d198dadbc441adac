//! A shutdown in order: the term goes on while the work stops, and no longer.

use std::time::Duration;

use super::fixtures::Rig;
use super::*;
use crate::clock::Clock;
use crate::election::StopReason;

#[tokio::test(start_paused = true)]
async fn a_shutdown_renews_the_lease_while_the_work_stops_and_then_releases() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    first.begin_shutdown(Duration::from_secs(60));
    held.asked_to_stop().await;
    // Three terms long: without renewals it would be over.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(first.is_leader() && held.is_valid());
    assert_eq!(rig.row().await.holder, first.holder().as_str());
    let stopped = rig.clock.boot();
    drop(held);
    assert_eq!(first.ended().await.unwrap(), Drained::Released);
    assert!(rig.row().await.is_free());
    assert!(rig.clock.boot() - stopped < Duration::from_secs(1), "as soon as the work had stopped");
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_stop_within_the_limit_of_a_shutdown_loses_its_term() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    let began = rig.clock.boot();
    first.begin_shutdown(Duration::from_secs(25));
    first.begin_shutdown(Duration::from_secs(60));
    assert_eq!(held.lost().await, StopReason::Draining);
    let took = (rig.clock.boot() - began).as_secs_f64();
    assert!((24.9..=25.1).contains(&took), "took {took} s");
    assert!(!rig.row().await.is_free(), "the work still runs");
    drop(held);
    assert_eq!(first.ended().await.unwrap(), Drained::Released);
    assert!(rig.row().await.is_free());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_work_is_a_drain() {
    let rig = Rig::new();
    let first = rig.start("first");
    drop(first.lead().await.unwrap().unwrap());
    let second = rig.start("second");
    let began = rig.clock.boot();
    for participant in [&second, &first] {
        assert_eq!(participant.shutdown(Duration::from_secs(60)).await.unwrap(), Drained::Released);
    }
    assert!(rig.clock.boot() - began < Duration::from_secs(1));
    assert!(rig.row().await.is_free());
}

#[tokio::test(start_paused = true)]
async fn no_work_begins_once_a_shutdown_was_asked_for() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    first.begin_shutdown(Duration::from_secs(60));
    held.asked_to_stop().await;
    let another = tokio::time::timeout(Duration::from_secs(5), first.lead()).await;
    assert!(another.is_err(), "the first work still stops");
    drop(held);
    assert!(first.lead().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_awaited_asks_the_work_to_stop_and_goes_on_when_the_future_is_dropped() {
    let rig = Rig::new();
    let first = rig.start("first");
    let held = first.lead().await.unwrap().unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(5), first.shutdown(Duration::from_secs(60))).await;
    assert!(waited.is_err(), "the work still runs");
    held.asked_to_stop().await;
    drop(held);
    assert_eq!(first.ended().await.unwrap(), Drained::Released);
    assert!(rig.row().await.is_free());
}
