//! Many participants on one row, whose holder falls silent again and again: how many of them get it,
//! how long an attempt takes, and how long nobody leads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use component_lease::election::machine::Looked;
use component_lease::election::{ComponentName, Pace, Take, TermKey};
use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Epochs, Hints, LeaseStore, Outcome, Roster, StoreError};
use component_lease_testkit::figures::Distribution;

use crate::{Failure, TERM, TTL, now, number, participant, postgres, sees};

const COMPONENT: &str = "crowded";

pub(crate) async fn measure() -> Result<(), Failure> {
    let (_server, source) = postgres().await?;
    let (participants, runs) = (number("PARTICIPANTS", 200)?, number("RUNS", 10)?);
    println!(
        "\n{participants} participants on one row of PostgreSQL, ttl {TTL} s, {runs} times its holder falls silent"
    );
    println!("  {:<36}{}", "", Distribution::heads());
    let log = Arc::new(Log::default());
    let mut crowd = Vec::new();
    for _ in 0..participants {
        let inner = store::open(source.clone(), "component-lease bench")?;
        let store = Arc::new(Mortal { inner, silent: AtomicBool::new(false), log: Arc::clone(&log) });
        crowd.push((participant(store.clone(), COMPONENT)?.start()?, store));
    }
    let (mut grants, mut attempts, mut silence) = (Vec::new(), Vec::new(), Vec::new());
    let mut leader = leader_after(&crowd, None).await;
    for _ in 0..runs {
        let version = crowd[leader].0.term().ok_or("a leader did not last")?.version();
        for (participant, _) in crowd.iter().filter(|(participant, _)| !participant.is_leader()) {
            sees(participant, version).await?;
        }
        // A ttl, and any moment between two renewals.
        tokio::time::sleep(TERM + (TERM / 3).mul_f64(fastrand::f64())).await;
        log.takes().clear();
        let died = now();
        crowd[leader].1.silent.store(true, Ordering::Relaxed);
        let next = leader_after(&crowd, Some(leader)).await;
        silence.push((now() - died).as_secs_f64());
        // Long enough for all who tried to have their answer.
        tokio::time::sleep(TERM / 5).await;
        let takes = log.takes().clone();
        grants.push(count(takes.iter().filter(|(_, outcome)| *outcome == Some(Outcome::Applied)).count()));
        attempts.push(takes);
        crowd[leader].1.silent.store(false, Ordering::Relaxed);
        leader = next;
    }
    let show = |what: &str, of: Vec<f64>| println!("  {what:<36}{}", Distribution::of(of));
    show("grants for each expiry", grants);
    show("attempts for each expiry", attempts.iter().map(|takes| count(takes.len())).collect());
    show(
        "an attempt to take, ms",
        attempts.iter().flatten().map(|(took, _)| took.as_secs_f64() * 1e3).collect(),
    );
    show("a look, ms", log.looks().iter().map(|took| took.as_secs_f64() * 1e3).collect());
    show("silent to the next leader, s", silence);
    Ok(())
}

fn count(of: usize) -> f64 {
    u32::try_from(of).map_or(f64::NAN, f64::from)
}

/// Waits until one leads who is not this one; answers which.
async fn leader_after(crowd: &[(Participant, Arc<Mortal>)], before: Option<usize>) -> usize {
    loop {
        let place = crowd.iter().position(|(participant, _)| participant.is_leader());
        match place {
            Some(place) if Some(place) != before => return place,
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// What all of them asked of the database.
#[derive(Debug, Default)]
struct Log {
    takes: Mutex<Vec<(Duration, Option<Outcome>)>>,
    looks: Mutex<Vec<Duration>>,
}

impl Log {
    fn takes(&self) -> std::sync::MutexGuard<'_, Vec<(Duration, Option<Outcome>)>> {
        self.takes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store of one participant, which can be cut off from it.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn LeaseStore>,
    silent: AtomicBool,
    log: Arc<Log>,
}

impl Mortal {
    async fn pass(&self) {
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl LeaseStore for Mortal {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn epochs(&self) -> Option<&dyn Epochs> {
        None
    }
    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    fn roster(&self) -> Option<&dyn Roster> {
        None
    }
    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.pass().await;
        let asked = now();
        let looked = self.inner.look(component).await;
        self.log.looks().push(now() - asked);
        looked
    }
    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        self.pass().await;
        let asked = now();
        let outcome = self.inner.take(take).await;
        self.log.takes().push((now() - asked, outcome.as_ref().ok().copied()));
        outcome
    }
    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.pass().await;
        self.inner.renew(term).await
    }
    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.pass().await;
        self.inner.release(term).await
    }
    fn hints(&self) -> Hints {
        self.inner.hints()
    }
    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }
    fn limit_lock_wait(&self, limit: Duration) {
        self.inner.limit_lock_wait(limit);
    }
    fn pace(&self) -> Option<Pace> {
        None
    }
}
