//! What becomes of a take: won, lost, too late, or without an answer.

use std::time::Duration;

use super::Election;
use super::Phase;
use super::StaysAway;
use super::StopReason;
use super::Term;
use super::leftover::Leftover;
use crate::election::life::Generation;
use crate::election::row::{Expected, Take};
use crate::election::timing::{Moment, Timing};

/// Takes in a row that were all decided on the same sight, and not won.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FailedTakes {
    expected: Expected,
    generation: Generation,
    count: u32,
}

/// Whether a take was asked for and has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Taking {
    No,
    Yes,
    /// Asked to step down meanwhile: a term that is won is given back.
    Declined,
}

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
            self.phase = Phase::Leading(Term {
                key: take.term.clone(),
                timing,
                t0,
                next_attempt: t0 + timing.renew_interval(),
                generation: take.generation.clone(),
            });
            if declined {
                self.stop(StopReason::SteppedDown);
            }
            if self.unhealthy {
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
        let next_look = at + self.pause_after(take, timing);
        self.phase = Phase::Following { next_look, fresh: false };
    }

    /// Who lost a race looks at once. But what was decided on one sight and fails again and again
    /// (a full disk, a right that is missing) must not be tried as fast as the database can refuse it.
    fn pause_after(&mut self, take: &Take, timing: Timing) -> Duration {
        let before = self.failed_takes.take();
        let same = before.filter(|b| b.expected == take.expected && b.generation == take.generation);
        let count = same.map_or(0, |same| same.count) + 1;
        self.failed_takes =
            Some(FailedTakes { expected: take.expected.clone(), generation: take.generation.clone(), count });
        match count {
            0 | 1 => Duration::ZERO,
            n => (timing.retry_after(0.5) * 2u32.pow((n - 2).min(8))).min(timing.renew_interval()),
        }
    }
}
