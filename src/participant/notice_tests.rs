//! When a follower looks: after a hint, and where hints do not come.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fixtures::{Flaw, Rig};
use crate::clock::Clock;

#[tokio::test(start_paused = true)]
async fn a_follower_that_misses_a_notification_once_looks_every_second_from_then_on() {
    let rig = Rig::new();
    let mut leader = rig.flawed(Flaw::HintsAreSwallowed);
    drop(leader.lead().await.unwrap().unwrap());
    let mut follower = rig.flawed(Flaw::HintsAreSwallowed);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let mut view = follower.watch();
        view.wait_for(|view| view.row.as_ref().is_some_and(|row| !row.is_free())).await.unwrap();
        // At some moment between two looks, when there is nothing else to see for a while.
        tokio::time::sleep(Duration::from_millis(5_400)).await;
        let asked = rig.clock.boot();
        leader.step_down();
        drop(follower.lead().await.unwrap().unwrap());
        waits.push(rig.clock.boot() - asked);
        (leader, follower) = (follower, leader);
    }
    assert!(waits[2..].iter().all(|wait| *wait <= Duration::from_millis(1_100)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_notified_looks_no_more_often_for_having_seen_a_change() {
    let rig = Rig::new();
    let (leader, follower) = (rig.start("leader"), rig.start("follower"));
    drop(leader.lead().await.unwrap().unwrap());
    for (leader, follower) in [(&leader, &follower), (&follower, &leader), (&leader, &follower)] {
        leader.step_down();
        drop(follower.lead().await.unwrap().unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = leader.counters().looks.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(30)).await;
        let looks = leader.counters().looks.load(Ordering::Relaxed) - before;
        assert!(looks < 25, "{looks} looks in 30 s; a renewal is due nine times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_keeps_reporting_that_it_is_healthy_disturbs_no_poll() {
    let rig = Rig::new();
    let first = rig.flawed(Flaw::LooksTakeTheirTime);
    let well = async {
        loop {
            first.set_healthy(true);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let led = tokio::time::timeout(Duration::from_secs(30), first.lead());
    let led = tokio::select! {
        led = led => led,
        () = well => unreachable!(),
    };
    assert_eq!(led.unwrap().unwrap().unwrap().version(), 1);
}
