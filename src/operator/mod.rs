//! What operators ask of an election, and what becomes of it. One implementation for the command line, which talks
//! to the database, and for the controller, which carries out `LeaseRequest` resources.
//!
//! [`plan`] decides on one snapshot whether a wish can be asked, and says what would happen; [`progress`] reads from
//! later snapshots what became of it. Both are pure. [`post`] writes a plan down, by compare-and-set on everything
//! that it was decided on. What participants then do is `src/election/intent.rs`.

mod plan;
mod progress;
mod refusal;
mod situation;

use std::fmt;

pub use plan::{LEARN, Plan, Wish, plan, within_quarantine};
pub use progress::{Outcome, Progress, progress};
pub use refusal::Refusal;
pub use situation::{Leader, Situation};

use crate::election::ComponentName;
use crate::store::{self, Directory, Names, Snapshot, StoreError};

/// Why nothing was asked.
#[derive(Debug)]
pub enum NotAsked {
    /// It makes no sense now. Nothing was changed.
    Refused(Refusal),
    /// The database did not answer. The request may have been written down: asking again under the same id finds it.
    Store(StoreError),
}

impl fmt::Display for NotAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for NotAsked {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for NotAsked {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// One component as it is now, with its instances.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn look(store: &dyn Directory, component: &ComponentName) -> Result<Snapshot, StoreError> {
    store.look_at(&std::iter::once(component.clone()).collect::<Names>(), true).await
}

/// Writes a plan down and wakes those who wait for notifications. Asking again under the same id changes nothing.
///
/// # Errors
/// [`NotAsked::Refused`] when the lease or its request is not as it was when the plan was made.
pub async fn post(
    store: &dyn Directory,
    component: &ComponentName,
    wish: &Wish,
    plan: &Plan,
) -> Result<(), NotAsked> {
    if plan.already {
        return Ok(());
    }
    let outcome = store.ask(component, &plan.request, &wish.said, plan.replaces.as_deref()).await?;
    if outcome == store::Outcome::Applied {
        // Costs speed only: who misses it polls.
        let _ = store.notify(component).await;
        return Ok(());
    }
    let now = look(store, component).await?;
    let situation = Situation::of(&now, component);
    match situation.asked.and_then(|asked| asked.request.as_ref()) {
        // An answer was lost on the way, and somebody asked again.
        Some(posted) if posted.request == plan.request => Ok(()),
        Some(posted) if situation.is_pending(&posted.request) => {
            Err(Refusal::pending(posted, situation.database_now).into())
        }
        _ => {
            Err(Refusal::Changed { version: plan.request.version, leader: situation.leader().to_string() }
                .into())
        }
    }
}

#[cfg(test)]
mod tests;
