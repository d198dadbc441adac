//! What is written of the end of each term: why, when, and who asked. In paused time.

use std::time::Duration;

use super::endings::{TermEnd, before};
use super::fixtures::{Flaw, Rig};
use super::{Drained, Participant, TermObserver};
use crate::clock::Clock;
use crate::election::machine::{Looked, Past};
use crate::election::{
    ComponentName, Election, Expected, HolderId, LeaseRow, Life, LifeId, LifeRecord, Request, Take, TermKey,
    Timing, Verb,
};
use crate::store::{Directory, End, EndReason, Ending, LeaseStore, Outcome, Said, Term, When};

impl Rig {
    /// The term of this version, once its end is written.
    async fn ended(&self, version: i64) -> (Term, End) {
        let ended = async {
            loop {
                let terms = self.store.history(&Self::component(), Some(version + 1), 1).await.unwrap();
                match terms.into_iter().next() {
                    Some(Term { end: Some(end), .. }) => break end,
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(120), ended).await.expect("an end in time");
        let term = self.store.history(&Self::component(), Some(version + 1), 1).await.unwrap().remove(0);
        (term, end)
    }

    /// A term of somebody who never renews it.
    async fn ghost(&self) {
        let life_id = self.store.look(&Self::component()).await.unwrap().life.id();
        let take = Take { ttl: 10, expected: Expected::Missing { highest: 0 }, life_id, ..take("ghost", 1) };
        assert_eq!(self.store.take(&take).await.unwrap(), Outcome::Applied);
    }

    async fn ask(&self, verb: Verb, version: i64, target: Option<&HolderId>) {
        let away = Duration::from_secs(60);
        let request = Request { id: "r1".to_owned(), verb, version, target: target.cloned(), away };
        let asked = self.store.ask(&Self::component(), &request, &said(), None).await.unwrap();
        assert_eq!(asked, Outcome::Applied);
    }
}

fn said() -> Said {
    Said::new("ada", "an upgrade").unwrap()
}

fn take(holder: &str, version: i64) -> Take {
    Take {
        term: TermKey { component: Rig::component(), holder: HolderId::new(holder).unwrap(), version },
        ttl: 10,
        expected: Expected::Missing { highest: 0 },
        life_id: LifeId::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gives_its_term_back_says_why() {
    type Way = fn(&Participant);
    let ways: [(Way, EndReason); 3] = [
        (Participant::drain, EndReason::Released),
        (Participant::step_down, EndReason::SteppedDown),
        (|leader| leader.set_healthy(false), EndReason::Unhealthy),
    ];
    for (ends, reason) in ways {
        let rig = Rig::new();
        let leader = rig.start("leader");
        let held = leader.lead().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        ends(&leader);
        held.lost().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let at = rig.clock.wall_ms();
        drop(held);
        let (term, end) = rig.ended(1).await;
        assert_eq!((end.reason, end.said, term.version), (reason, None, 1));
        assert!((at..at + 100).contains(&end.at), "{} {at}: when its work had stopped", end.at);
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_comes_to_its_end_says_whether_it_succeeded_and_work_that_was_asked_to_stop_does_not() {
    for (outcome, reason) in [(Ok(()), EndReason::WorkEnded), (Err("no"), EndReason::WorkFailed)] {
        let rig = Rig::new();
        let leader = rig.start("leader");
        let ended = leader.run(async |_| {
            tokio::time::sleep(Duration::from_secs(3)).await;
            outcome.map_err(Box::<dyn std::error::Error>::from)
        });
        assert_eq!(ended.await.is_ok(), outcome.is_ok());
        assert_eq!(rig.ended(1).await.1.reason, reason);
    }
    let rig = Rig::new();
    let leader = rig.start("leader");
    let stopped = leader.run(async |term: TermObserver| {
        term.asked_to_stop().await;
        Err::<(), _>(Box::<dyn std::error::Error>::from("asked to stop"))
    });
    let (asked, _) = tokio::join!(stopped, async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        leader.shutdown(Duration::from_secs(5)).await
    });
    assert!(asked.is_err());
    assert_eq!(rig.ended(1).await.1.reason, EndReason::Released);
}

#[tokio::test(start_paused = true)]
async fn who_asked_a_leader_to_make_way_is_told() {
    for (verb, reason) in [
        (Verb::Switchover, EndReason::SwitchedOver),
        (Verb::StepDown, EndReason::SteppedDown),
        (Verb::Promote, EndReason::Promoted),
    ] {
        let rig = Rig::new();
        let leader = rig.start("leader");
        let held = leader.lead().await.unwrap().unwrap();
        let other = rig.start("other");
        rig.ask(verb, 1, (verb != Verb::StepDown).then_some(other.holder())).await;
        held.lost().await;
        drop(held);
        let (_, end) = rig.ended(1).await;
        assert_eq!((end.reason, end.said), (reason, Some(said())), "{verb:?}");
        assert_eq!(other.lead().await.unwrap().unwrap().version(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asked_for_something_else_is_not_taken_for_the_reason() {
    let rig = Rig::new();
    let leader = rig.start("leader");
    let held = leader.lead().await.unwrap().unwrap();
    // Nobody makes way for itself.
    rig.ask(Verb::Switchover, 1, Some(leader.holder())).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    leader.set_healthy(false);
    held.lost().await;
    drop(held);
    let (_, end) = rig.ended(1).await;
    assert_eq!((end.reason, end.said), (EndReason::Unhealthy, None));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_could_not_renew_says_when_it_stopped() {
    let rig = Rig::new();
    let leader = rig.start("leader");
    let held = leader.lead().await.unwrap().unwrap();
    let before = rig.clock.wall_ms();
    rig.clock.suspend(Duration::from_secs(9));
    assert_eq!(held.lost().await, crate::election::StopReason::Deadline);
    drop(held);
    let (_, end) = rig.ended(1).await;
    assert_eq!((end.reason, end.said), (EndReason::Deadline, None));
    assert!(end.at > before + 1_000 && end.at < before + 9_000, "{} {before}: its deadline", end.at);
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_lease_that_lapsed_says_when_it_was_last_renewed() {
    let rig = Rig::new();
    rig.ghost().await;
    let row = rig.row().await;
    let second = rig.start("second");
    let held = second.lead().await.unwrap().unwrap();
    assert_eq!(held.version(), 2);
    let (term, end) = rig.ended(1).await;
    assert_eq!((term.holder.as_str(), end.reason, end.said), ("ghost", EndReason::Expired, None));
    assert_eq!(end.at, row.renew_time);
    second.drain();
}

#[tokio::test(start_paused = true)]
async fn who_takes_at_once_because_it_was_asked_to_says_so() {
    let rig = Rig::new();
    rig.ghost().await;
    let second = rig.start("second");
    rig.ask(Verb::PromoteNow, 1, Some(second.holder())).await;
    let at = rig.clock.wall_ms();
    let held = second.lead().await.unwrap().unwrap();
    let (_, end) = rig.ended(1).await;
    assert_eq!((end.reason, end.said), (EndReason::Promoted, Some(said())));
    assert!((at..at + 2_000).contains(&end.at), "{} {at}", end.at);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_lapsed_while_the_database_became_another_ended_by_that() {
    let rig = Rig::new();
    rig.ghost().await;
    rig.store.become_another(rig.store.copy());
    let second = rig.start("second");
    let held = second.lead().await.unwrap().unwrap();
    assert!(held.version() > 1_000_000);
    let (term, end) = rig.ended(1).await;
    assert_eq!((term.version, end.reason), (1, EndReason::DatabaseChanged));
}

#[tokio::test(start_paused = true)]
async fn ends_that_are_refused_or_hang_delay_nobody() {
    for flaw in [Flaw::EndsAreRefused, Flaw::EndsHang] {
        let rig = Rig::new();
        let first = rig.flawed(flaw);
        let held = first.lead().await.unwrap().unwrap();
        let second = rig.start("second");
        tokio::time::sleep(Duration::from_secs(5)).await;
        first.drain();
        held.lost().await;
        let began = rig.clock.boot();
        drop(held);
        assert_eq!(second.lead().await.unwrap().unwrap().version(), 2);
        assert!(rig.clock.boot() - began < Duration::from_millis(500), "{flaw:?}");
        assert_eq!(first.ended().await.unwrap(), Drained::Released);
        assert!(first.watch().borrow().problem.is_none(), "it is no problem of the election");
        // Nor does the end of the one before keep a leader from renewing.
        let rig = Rig::new();
        rig.ghost().await;
        let third = rig.flawed(flaw);
        let held = third.lead().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(held.is_valid() && third.is_leader(), "{flaw:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_whose_release_was_not_answered_ends_in_the_history_all_the_same() {
    type Way = fn(&Participant);
    let ways: [(Way, EndReason); 2] =
        [(Participant::step_down, EndReason::SteppedDown), (Participant::drain, EndReason::Released)];
    for (ends, reason) in ways {
        for followed in [false, true] {
            let rig = Rig::new();
            let leader = rig.flawed(Flaw::ReleasesAreNotAnswered);
            let held = leader.lead().await.unwrap().unwrap();
            let other = followed.then(|| rig.start("other"));
            tokio::time::sleep(Duration::from_secs(5)).await;
            ends(&leader);
            held.lost().await;
            let at = rig.clock.wall_ms();
            drop(held);
            let (_, end) = rig.ended(1).await;
            assert_eq!(end.reason, reason, "followed: {followed}");
            assert!((at..at + 100).contains(&end.at), "{} {at}: when its work had stopped", end.at);
            drop(other);
        }
    }
}

/// What a take tells of the term before, that was decided on this.
fn seen(row: Option<LeaseRow>, past: Past, epoch: i64, elapsed: u64) -> Option<TermEnd> {
    let start = Duration::from_secs(100);
    let component = ComponentName::new("c").unwrap();
    let me = HolderId::new("me").unwrap();
    let timing = Timing::with_default_grace(10).unwrap();
    let mut election = Election::new(component, me, timing, Duration::ZERO);
    let identity = "x".to_owned();
    let record = LifeRecord { identity: identity.clone(), epoch, settled: true, max_ttl: 30 };
    let life = Life::Recorded { identity, step: 1_000_000, record };
    election.looked(start, Looked { row, past, life, ..Looked::default() }, 0.0);
    let (sight, life) = (election.sight(), election.quarantine().life());
    before(&take("me", 9), sight, life, None, start + Duration::from_secs(elapsed))
}

#[test]
fn a_take_tells_of_the_term_before_what_its_taker_has_seen() {
    let row = |holder: &str, version| {
        let holder = holder.to_owned();
        Some(LeaseRow { holder, lease_time: 1_000, renew_time: 2_000, version, ttl: 10 })
    };
    let end = |version, reason, at| Some(TermEnd { version, ending: Ending { at, ..Ending::now(reason) } });
    let (renewed, begun) = (When::At(2_000), When::At(1_000));
    assert_eq!(seen(row("a", 7), Past::Lived(7), 0, 10), end(7, EndReason::Expired, renewed));
    assert_eq!(seen(row("", 7), Past::Lived(7), 0, 10), None, "who gave it back knows better");
    assert_eq!(seen(None, Past::NeverLived, 0, 10), None);
    // A bare table has nowhere to write it.
    assert_eq!(seen(row("a", 7), Past::Unknown, 0, 10), None);
    assert_eq!(seen(row("a", 7), Past::Lived(7), 1, 10), end(7, EndReason::DatabaseChanged, renewed));
    // A program without a history took it since.
    assert_eq!(seen(row("a", 8), Past::Lived(7), 0, 10), end(7, EndReason::Foreign, begun));
    assert_eq!(seen(row("", 8), Past::Lived(7), 0, 10), end(7, EndReason::Foreign, begun));
    // An older state of the row was put back.
    assert_eq!(seen(row("a", 6), Past::Lived(7), 0, 10), end(7, EndReason::DatabaseChanged, begun));
    assert_eq!(seen(None, Past::Lived(7), 0, 10), end(7, EndReason::Foreign, When::NOW));
    assert_eq!(seen(None, Past::Lived(7), 1, 10), end(7, EndReason::DatabaseChanged, When::NOW));
}
