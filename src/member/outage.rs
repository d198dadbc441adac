//! A primary whose lease cannot be renewed: it stays writable while acknowledged writes prove that nobody else was promoted, and goes on under
//! its next term if the record is still its own.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::leading::{Holding, Over};
use super::{GRACE, LOOK, State, Supervisor};
use crate::database::{Engine, EngineError};
use crate::election::Moment;
use crate::participant::{HeldTerm, TermObserver};
use crate::primary::promotion::may_go_on;
use crate::primary::writable::{Proof, writable_until};

impl<E: Engine + 'static> Supervisor<E> {
    /// A write that is acknowledged within `limit`, and is remembered as a proof.
    pub(super) async fn prove(&self, limit: Duration) -> Result<(), EngineError> {
        let beat = self.engine.beat(limit).await?;
        let mut newest = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Proof::of(beat.began, beat.acks).max(*newest);
        Ok(())
    }

    /// What was proved of an earlier server says nothing of this one.
    pub(super) fn forget_proofs(&self) {
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether an acknowledged write proves now that nobody else was promoted, whatever the lease says.
    pub fn is_proven(&self) -> bool {
        self.proven_until() > self.clock.boot()
    }

    /// Until when the server may be writable without a term.
    fn proven_until(&self) -> Moment {
        let proof = *self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        writable_until(None, proof).unwrap_or_default()
    }

    /// The term under which the server goes on, or how it ends.
    pub(super) async fn go_on_without(
        &self,
        holding: &mut Holding,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<HeldTerm, Over> {
        warn!(
            member = %self.settings.member,
            "the lease could not be renewed: the server stays writable while other members acknowledge its writes"
        );
        loop {
            let until = self.proven_until();
            // What is left is for its end.
            let left = until.saturating_sub(self.clock.boot()).saturating_sub(GRACE);
            if left.is_zero() {
                warn!(member = %self.settings.member, "neither the lease nor other members say any more that this is the primary");
                return Err(Over::AtOnce);
            }
            self.engine.abort_at(Some(until));
            let held = tokio::select! {
                held = self.participant.lead() => held,
                () = &mut *stop => return Err(Over::Stopped),
                () = self.engine.ended() => return Err(Over::AtOnce),
                () = sleep(left) => continue,
                proved = self.prove(left) => {
                    if let Err(error) = proved {
                        self.complain("beat", &format!("a write is not acknowledged: {error}"));
                    }
                    sleep(LOOK).await;
                    continue;
                }
            };
            let Ok(Some(held)) = held else { return Err(Over::AtOnce) };
            // Until it is known that nobody else was recorded, the proof bounds how long the server is writable.
            let may = timeout(left, self.may_go_on_under(&held)).await;
            let gone_on = match may {
                Ok(Ok(true)) => {
                    self.engine.abort_at(Some(held.abort_at()));
                    let left = held.abort_at().saturating_sub(self.clock.boot()).saturating_sub(GRACE * 2);
                    timeout(left, self.go_on_under(&held, holding)).await
                }
                other => other,
            };
            return match gone_on {
                Ok(Ok(true)) => Ok(held),
                Ok(Ok(false)) | Err(_) => Err(Over::AtOnce),
                Ok(Err(error)) => {
                    warn!(member = %self.settings.member, "the server cannot go on under its new term: {error}");
                    Err(Over::AtOnce)
                }
            };
        }
    }

    /// Whether the record is still its own last one, read with the lease.
    async fn may_go_on_under(&self, held: &TermObserver) -> Result<bool, EngineError> {
        let version = held.version();
        let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
        let newest = self.newest(&seen)?;
        // One that is older than what is known was put back by somebody: what came in between is unknown.
        let is_newest = newest.as_ref() == seen.record.as_ref();
        let recorded = seen.record.as_ref().filter(|_| is_newest).and_then(|record| record.rule(&[]));
        let is_its = recorded.is_some_and(|record| may_go_on(&self.settings.bearer(), &record.primary, true));
        if seen.version != version || !is_its {
            info!(member = %self.settings.member, version, "another was recorded as the primary in between");
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the lease is still its own in the end.
    async fn go_on_under(&self, held: &TermObserver, holding: &mut Holding) -> Result<bool, EngineError> {
        let term = self.term(held);
        self.engine.go_on(term.version, term.holder.as_str(), &self.others()).await?;
        self.say_that_it_leads(term.version).await?;
        if !self.write_record(&term, &holding.record).await? {
            return Ok(false);
        }
        self.becomes(State::Primary(term.version));
        Ok(true)
    }
}
