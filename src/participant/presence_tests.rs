//! Signs of life in `component_instance`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fixtures::{Flaw, Rig};
use crate::membership::Whereabouts;
use crate::store::Directory;

impl Rig {
    async fn instances(&self) -> Vec<crate::membership::SeenInstance> {
        let names = [Self::component()].into_iter().collect();
        self.store.look_at(&names, true).await.unwrap().instances.unwrap()
    }

    /// Waits until an instance is as wanted.
    async fn sees(&self, wanted: impl Fn(&crate::membership::SeenInstance) -> bool) {
        let seen = async {
            while !self.instances().await.iter().any(&wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(60);
        assert!(
            tokio::time::timeout(limit, seen).await.is_ok(),
            "not within {limit:?}: {:?}",
            self.instances().await
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_start_is_written_down_with_where_it_is_whether_it_is_well_and_what_it_leads() {
    let rig = Rig::new();
    let place = Whereabouts { pod: Some("d-0".into()), ..Whereabouts::default() };
    let first = rig.builder("first").whereabouts(place.clone()).program_version("1.2").start().unwrap();
    let held = first.lead().await.unwrap().unwrap();
    rig.sees(|seen| seen.leads == Some(1) && seen.whereabouts == place).await;
    let second = rig.start("second");
    rig.sees(|seen| seen.holder == second.holder().as_str() && seen.leads.is_none() && seen.healthy).await;
    second.set_healthy(false);
    rig.sees(|seen| seen.holder == second.holder().as_str() && !seen.healthy).await;
    first.step_down();
    held.lost().await;
    drop(held);
    rig.sees(|seen| seen.holder == first.holder().as_str() && seen.leads.is_none()).await;
    let all = rig.instances().await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0].program_version.as_deref(), Some("1.2"));
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_slept_through_its_heartbeats_begins_a_new_instance_row() {
    let rig = Rig::new();
    let first = rig.start("first");
    rig.sees(|seen| seen.id == 1).await;
    rig.clock.suspend(Duration::from_secs(100));
    rig.sees(|seen| seen.id == 2 && seen.holder == first.holder().as_str()).await;
    assert_eq!(rig.instances().await.len(), 1, "the first life is over");
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_died_soon_counts_as_dead() {
    let rig = Rig::new();
    let first = rig.flawed(Flaw::FarewellsAreLost);
    rig.sees(|seen| seen.id == 1).await;
    first.drain();
    first.ended().await.unwrap();
    assert_eq!(rig.instances().await.len(), 1, "its end was not heard");
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(rig.instances().await, []);
}

#[tokio::test(start_paused = true)]
async fn who_ends_in_order_says_so_and_is_not_alive_any_more() {
    let rig = Rig::new();
    let leader = rig.start("leader");
    let held = leader.lead().await.unwrap().unwrap();
    let follower = rig.start("follower");
    rig.sees(|seen| seen.holder == follower.holder().as_str()).await;
    rig.sees(|seen| seen.leads == Some(1)).await;
    leader.drain();
    drop(held);
    for ends in [follower, leader] {
        ends.drain();
        ends.ended().await.unwrap();
        // The next reading of the database's clock.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let alive = rig.instances().await;
        assert!(alive.iter().all(|seen| seen.holder != ends.holder().as_str()), "{alive:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_that_fail_or_hang_end_no_term_and_delay_no_renewal() {
    for flaw in [Flaw::SignsAreRefused, Flaw::SignsHang] {
        let rig = Rig::new();
        let first = rig.flawed(flaw);
        let held = first.lead().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(held.is_valid() && first.is_leader(), "{flaw:?}");
        let renewals = first.counters().renewals.load(Ordering::Relaxed);
        assert!(renewals >= 29, "{renewals} renewals in ten ttls; {flaw:?}");
        assert!(first.watch().borrow().problem.is_none(), "it is no problem of the election");
    }
}

/// Each call that is given up costs the connection, and to make another one takes a dozen round trips.
#[tokio::test(start_paused = true)]
async fn no_call_that_nothing_depends_on_is_given_up_where_the_database_is_merely_far_away() {
    let rig = Rig::new();
    let first = rig.flawed(Flaw::IsFarAway);
    let held = first.lead().await.unwrap().unwrap();
    rig.sees(|seen| seen.leads == Some(1)).await;
    first.step_down();
    held.lost().await;
    drop(held);
    rig.sees(|seen| seen.leads.is_none()).await;
    let end = async || rig.store.history(&Rig::component(), None, 1).await.unwrap().remove(0).end;
    while end().await.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.drain();
    first.ended().await.unwrap();
    assert_eq!(rig.given_up.load(Ordering::Relaxed), 0);
}
