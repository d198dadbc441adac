//! Takes before their answer, and takes that failed.

use std::time::Duration;

use crate::election::life::LifeId;
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
    life_id: LifeId,
    count: u32,
}

impl FailedTakes {
    /// One more take failed.
    pub(super) fn and(before: Option<Self>, take: &Take) -> Self {
        let same = before.filter(|b| b.expected == take.expected && b.life_id == take.life_id);
        Self {
            expected: take.expected.clone(),
            life_id: take.life_id.clone(),
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
