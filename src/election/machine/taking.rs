//! Takes before their answer, and takes that failed.

use std::time::Duration;

use crate::election::life::Generation;
use crate::election::row::{Expected, Take};
use crate::election::timing::Timing;

/// Whether a take was asked for and has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Taking {
    No,
    Yes,
    /// Asked to step down meanwhile: a term that is won is given back.
    Declined,
}

/// Takes in a row that were all decided on the same sight, and not won.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FailedTakes {
    expected: Expected,
    generation: Generation,
    count: u32,
}

impl FailedTakes {
    /// One more take failed.
    pub(super) fn and(before: Option<Self>, take: &Take) -> Self {
        let same = before.filter(|b| b.expected == take.expected && b.generation == take.generation);
        Self {
            expected: take.expected.clone(),
            generation: take.generation.clone(),
            count: same.map_or(0, |same| same.count) + 1,
        }
    }

    /// How long to wait before the next look. After one lost race: not at all. But a take that was decided on one sight
    /// and fails again and again (a full disk, a right that is missing) must not be tried as fast as the database can
    /// refuse it.
    pub(super) fn pause(&self, timing: Timing) -> Duration {
        match self.count {
            0 | 1 => Duration::ZERO,
            n => (timing.retry_after(0.5) * 2u32.pow((n - 2).min(8))).min(timing.renew_interval()),
        }
    }
}
