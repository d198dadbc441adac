//! What becomes of a take: won, lost, too late, or without an answer.

use super::fitness::{Fitness, StaysAway};
use super::leftover::Leftover;
use super::taking::{FailedTakes, Taking};
use super::{Election, Phase, StopReason, Term};
use crate::election::row::Take;
use crate::election::timing::Moment;

impl Election {
    /// A take that began at `t0` was answered at `at`. `won` is `None` when the answer never came.
    pub fn took(&mut self, t0: Moment, at: Moment, take: &Take, won: Option<bool>) {
        let declined = self.taking == Taking::Declined;
        self.taking = Taking::No;
        self.highest_version = match won {
            // It may have been applied: that version must never be asked for again.
            Some(true) | None => self.highest_version.max(take.term.version),
            Some(false) => self.highest_version,
        };
        self.leftover = match won {
            Some(true) => Leftover::unused(take),
            None => Leftover::unanswered(take),
            // What took the row may be an earlier one of ours that was never answered.
            Some(false) => self.leftover.take().filter(Leftover::is_unanswered),
        };
        let Ok(timing) = self.own.for_ttl(take.ttl) else { return };
        if won == Some(true) && at < timing.deadline(t0) {
            self.stays_away = None;
            self.failed_takes = None;
            self.leftover = None;
            self.has_lived = true;
            self.quarantine.wrote(take.term.version);
            let mut term = Term {
                key: take.term.clone(),
                timing,
                t0,
                next_attempt: t0 + timing.renew_interval(),
                next_look: Moment::MAX,
                life_id: take.life_id.clone(),
            };
            term.listen_from(at + self.longest_wait);
            self.phase = Phase::Leading(term);
            if declined {
                self.stop(StopReason::SteppedDown);
            }
            if self.fitness == Fitness::Unhealthy {
                self.stop(StopReason::Unhealthy);
            }
            if self.draining {
                self.stop(StopReason::Draining);
            }
            return;
        }
        if declined && won != Some(false) {
            // It may have been applied, and then was to be given back.
            let after_version = self.highest_version;
            self.stays_away = Some(StaysAway { until: at + self.cooldown, after_version });
        }
        let failed = FailedTakes::and(self.failed_takes.take(), take);
        let next_look = at + failed.pause(timing);
        self.failed_takes = Some(failed);
        self.phase = Phase::Following { next_look, fresh: false };
    }
}
