//! A member that does not hold the lease.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::sleep;

use super::says::{Says, Sealed};
use super::{GRACE, LOOK, Seen, State, Supervisor};
use crate::database::{End, Engine, EngineError, Followed, Leader};

/// How long after the store is back others leave the lease to a primary that they receive from.
const LEFT: Duration = Duration::from_secs(3);

impl<E: Engine + 'static> Supervisor<E> {
    /// One look, and what follows from it.
    pub(super) async fn stand_by(&self) {
        let seen = match self.read().await {
            Ok(seen) => seen,
            // It follows on whom it followed: what it acknowledges there is still what the record counts on.
            Err(error) => {
                self.complain("store", &format!("the lease's store does not answer: {error}"));
                return self.leave_the_lease_to_the_primary().await;
            }
        };
        self.compete_again(&seen).await;
        if let Err(error) = self.obey(&seen).await {
            self.complain("server", &format!("this member's server: {error}"));
        }
    }

    /// Whether it receives from a primary.
    async fn receives(&self) -> bool {
        let follows = matches!(*self.state.borrow(), State::Follows(_));
        follows && self.engine.observe().await.is_ok_and(|seen| seen.receives.is_some())
    }

    /// A primary that other members acknowledge goes on while the store is away. It should have the lease when the store is back.
    async fn leave_the_lease_to_the_primary(&self) {
        if self.receives().await {
            self.participant.set_healthy(false);
            *self.leaves_it.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.boot());
        }
    }

    /// Once that has taken it, is gone, or has had its time.
    async fn compete_again(&self, seen: &Seen) {
        let since = *self.leaves_it.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = since else { return };
        let had_its_time = self.clock.boot() >= since + LEFT;
        let is_as_it_was = *self.state.borrow() == State::Follows(seen.version);
        if had_its_time || !is_as_it_was || !self.receives().await {
            *self.leaves_it.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.participant.set_healthy(true);
        }
    }

    async fn obey(&self, seen: &Seen) -> Result<(), EngineError> {
        if self.heed_as_standby(seen).await? {
            return Ok(());
        }
        if let Some(leader) = self.leader(seen) {
            return self.follow(&leader).await;
        }
        if !self.engine.runs() {
            self.becomes(State::Alone);
            self.is_ready(self.engine.start().await)?;
        }
        let own = seen.said.get(&self.settings.member).and_then(Says::report);
        // A new term: whatever its primary will be, the old one gets no acknowledgement any more.
        if seen.is_held && own.is_none_or(|own| own.version < seen.version) {
            self.seal(seen.version).await?;
        }
        Ok(())
    }

    /// The primary of this term, as it says.
    pub(super) fn leader(&self, seen: &Seen) -> Option<Leader> {
        let mut others = seen.said.iter().filter(|(member, _)| **member != self.settings.member);
        others.find_map(|(member, says)| says.leader(member, seen.version))
    }

    /// Seals the server at this version, and says so to all.
    pub(super) async fn seal(&self, version: i64) -> Result<(), EngineError> {
        let report = self.engine.seal(version).await?;
        self.becomes(State::Alone);
        let says = Says { sealed: Some(Sealed::from(&report)), ..Says::default() };
        self.report(&says).await.map_err(|error| EngineError::failed(error.to_string()))
    }

    /// A member without a server that can be used does not compete.
    fn is_ready<T>(&self, outcome: Result<T, EngineError>) -> Result<T, EngineError> {
        self.participant.set_healthy(outcome.is_ok());
        outcome
    }

    async fn follow(&self, leader: &Leader) -> Result<(), EngineError> {
        if self.engine.runs() {
            let is_followed = *self.state.borrow() == State::Follows(leader.version)
                && self.engine.observe().await?.receives.is_some();
            if is_followed {
                return Ok(());
            }
            // A primary that is frozen does not answer, while another may have the lease already.
            let followed = tokio::select! {
                followed = self.engine.follow(leader) => followed?,
                now = self.until_another_than(leader.version) => return Err(EngineError::failed(format!(
                    "following {leader} was given up, as the lease has version {now}"
                ))),
            };
            match followed {
                Followed::Follows => {
                    self.becomes(State::Follows(leader.version));
                    return Ok(());
                }
                Followed::Diverged { .. } | Followed::TooFarBehind => {
                    self.becomes(State::Alone);
                    self.engine.end(End::AtOnce { grace: GRACE }).await?;
                }
            }
        }
        // It cannot lead meanwhile, and that may take hours.
        self.participant.set_healthy(false);
        let rejoined = tokio::select! {
            rejoined = self.engine.rejoin(leader, self.settings.cloning) => rejoined,
            now = self.until_another_than(leader.version) => Err(EngineError::failed(format!(
                "coming back to {leader} was given up, as the lease has version {now}"
            ))),
        };
        self.is_ready(rejoined)?;
        self.becomes(State::Follows(leader.version));
        Ok(())
    }

    /// Resolves when the lease has another version: whom this member comes back to may be no primary any more.
    pub(super) async fn until_another_than(&self, version: i64) -> i64 {
        loop {
            sleep(LOOK).await;
            if let Ok(seen) = self.read().await
                && seen.version != version
            {
                return seen.version;
            }
        }
    }
}
