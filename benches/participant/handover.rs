//! A leader that is asked to step down: it releases, and the other one of two leads.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use component_lease::election::machine::Looked;
use component_lease::election::{ComponentName, Pace, Take, TermKey};
use component_lease::participant::Participant;
use component_lease::store::{
    self, Directory, Epochs, Hints, LeaseStore, Outcome, Roster, Source, StoreError,
};
use component_lease_testkit::figures::Distribution;

use crate::{Failure, TTL, now, number, participant, postgres, sees};

pub(crate) async fn measure() -> Result<(), Failure> {
    let (_server, source) = postgres().await?;
    println!("\nAsked to step down, to the next leader, PostgreSQL, ttl {TTL} s; ms");
    println!("  {:<36}{}", "", Distribution::heads());
    let open = |source: &Source| store::open(source.clone(), "component-lease bench");
    let (one, two) = (open(&source)?, open(&source)?);
    between("with LISTEN", "listening", one, two, number("RUNS", 200)?).await?;
    let (one, two) = (Arc::new(Deaf(open(&source)?)), Arc::new(Deaf(open(&source)?)));
    between("without (found by polling)", "deaf", one, two, number("RUNS", 50)?).await
}

async fn between(
    what: &str,
    component: &str,
    one: Arc<dyn LeaseStore>,
    two: Arc<dyn LeaseStore>,
    runs: usize,
) -> Result<(), Failure> {
    let mut leader = participant(one, component)?.start()?;
    let version = version_of(&leader).await?;
    let mut other = participant(two, component)?.start()?;
    sees(&other, version).await?;
    let mut took = Vec::new();
    for _ in 0..runs {
        // At any moment between two looks.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..200))).await;
        let asked = now();
        leader.step_down();
        let version = version_of(&other).await?;
        took.push((now() - asked).as_secs_f64() * 1e3);
        (leader, other) = (other, leader);
        sees(&other, version).await?;
    }
    println!("  {what:<36}{}", Distribution::of(took));
    Ok(())
}

/// Of the term that it begins, without work that would have to be stopped.
pub(crate) async fn version_of(participant: &Participant) -> Result<i64, Failure> {
    let held = participant.lead().await?.ok_or("a participant has ended")?;
    Ok(held.version())
}

/// A store whose notifications do not arrive.
#[derive(Debug)]
struct Deaf(Arc<dyn LeaseStore>);

#[async_trait]
impl LeaseStore for Deaf {
    fn describe(&self) -> String {
        self.0.describe()
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
        self.0.look(component).await
    }
    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        self.0.take(take).await
    }
    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.0.renew(term).await
    }
    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.0.release(term).await
    }
    fn hints(&self) -> Hints {
        Hints::none()
    }
    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }
    fn limit_lock_wait(&self, limit: Duration) {
        self.0.limit_lock_wait(limit);
    }
    fn pace(&self) -> Option<Pace> {
        None
    }
}
