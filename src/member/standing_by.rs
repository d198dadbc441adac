//! A member that does not hold the lease.

use std::sync::PoisonError;
use std::time::Duration;

use super::away::Away;
use super::says::{Says, Sealed};
use super::{GRACE, Seen, State, Supervisor};
use crate::database::{End, Engine, EngineError, Followed, Leader};

/// How long after the store is back others leave the lease to the primary. That may take it anew a ttl after it has seen it again, and looks
/// every third of a ttl at least.
const LEFT_TTLS: u32 = 2;
const LEFT: Duration = Duration::from_secs(1);

impl<E: Engine + 'static> Supervisor<E> {
    /// One look, and what follows from it.
    pub(super) async fn stand_by(&self) {
        let seen = match self.read().await {
            Ok(seen) => seen,
            // It follows on whom it followed: what it acknowledges there is still what the record counts on.
            Err(error) => {
                self.complain("store", &format!("the lease's store does not answer: {error}"));
                return self.leave_the_lease_to_the_primary();
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

    /// A primary that other members acknowledge goes on while the store is away. It should have the lease when the store is back. One that does
    /// not follow cannot know whether there is such a primary. Before the first there is none.
    fn leave_the_lease_to_the_primary(&self) {
        if !matches!(*self.state.borrow(), State::Follows(_)) && !matches!(self.engine.kept(), Ok(Some(_))) {
            return;
        }
        self.away.set(&self.participant, Away::Outage, true);
        // Its participant looks more often, and judges by what it has seen itself.
        let row = self.participant.watch().borrow().row.clone();
        let seen = row.map_or((0, 0), |row| (row.version, row.renew_time));
        *self.leaves_it.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.clock.boot(), seen));
    }

    /// Once that has it, is gone, or has had its time.
    async fn compete_again(&self, seen: &Seen) {
        let since = *self.leaves_it.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, renewed)) = since else { return };
        let had_its_time = self.clock.boot() >= since + self.participant.ttl() * LEFT_TTLS + LEFT;
        let has_it = seen.is_held && seen.renewed > renewed;
        let followed = matches!(*self.state.borrow(), State::Follows(_));
        if had_its_time || has_it || followed && !self.receives().await {
            *self.leaves_it.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.away.set(&self.participant, Away::Outage, false);
        }
    }

    async fn obey(&self, seen: &Seen) -> Result<(), EngineError> {
        if !self.is_alone_by_its_name(seen).await? {
            // It says nothing of its data yet, and follows nobody.
            return self.is_up().await;
        }
        let newest = self.newest(seen)?;
        self.keep(seen.record.as_ref())?;
        self.compete_by_the_list(seen, newest.as_ref());
        let leader = seen
            .said
            .iter()
            .filter(|(member, _)| **member != self.settings.member)
            .find_map(|(member, says)| says.leader(member, seen.version));
        if let Some(leader) = leader {
            return self.follow(&leader).await;
        }
        self.is_up().await?;
        let own = seen.said.get(&self.settings.member).and_then(Says::report);
        // A new term: whatever its primary will be, the old one gets no acknowledgement any more.
        if seen.is_held && own.is_none_or(|own| own.version < seen.version) {
            self.seal(seen.version).await?;
        }
        Ok(())
    }

    /// With a server that can be asked.
    async fn is_up(&self) -> Result<(), EngineError> {
        if self.engine.runs() || self.has_to_end().is_some() {
            return Ok(());
        }
        self.becomes(State::Alone);
        self.is_ready(self.engine.start().await)
    }

    /// Seals the server at this version, and says so to all.
    pub(super) async fn seal(&self, version: i64) -> Result<(), EngineError> {
        let report = self.engine.seal(version).await?;
        self.away.set(&self.participant, Away::Server, false);
        self.becomes(State::Alone);
        let says = Says { sealed: Some(Sealed::of(&report, self.engine.of()?)), ..Says::default() };
        self.report(says).await.map_err(|error| EngineError::failed(error.to_string()))
    }

    /// A member without a server that can be used does not compete.
    fn is_ready<T>(&self, outcome: Result<T, EngineError>) -> Result<T, EngineError> {
        self.away.set(&self.participant, Away::Server, outcome.is_err());
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
                    self.away.set(&self.participant, Away::Server, false);
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
        self.away.set(&self.participant, Away::Server, true);
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
}
