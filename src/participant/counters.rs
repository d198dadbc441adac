//! How often things happened.

use std::sync::atomic::{AtomicU64, Ordering};

use super::latencies::Latencies;
use crate::election::StopReason;

impl StopReason {
    /// For logs and metrics: a bounded set of words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Deadline => "deadline",
            Self::Unhealthy => "unhealthy",
            Self::SteppedDown => "stepped_down",
            Self::SwitchedOver => "switched_over",
            Self::Promoted => "promoted",
            Self::Draining => "draining",
        }
    }
}

/// How often things happened since the start.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Looks at the row that were answered.
    pub looks: AtomicU64,
    /// Looks that failed or got no answer in time.
    pub looks_failed: AtomicU64,
    /// Takes that began a term.
    pub takes_won: AtomicU64,
    /// Takes that somebody else was faster than.
    pub takes_lost: AtomicU64,
    /// Takes whose outcome is not known.
    pub takes_unknown: AtomicU64,
    /// Renewals that were acknowledged.
    pub renewals: AtomicU64,
    /// Renewals that found the term lost.
    pub renewals_lost: AtomicU64,
    /// Renewals whose outcome is not known.
    pub renewals_unknown: AtomicU64,
    /// Releases that were acknowledged.
    pub releases: AtomicU64,
    /// Terms that ended by [`StopReason::Lost`].
    pub ended_lost: AtomicU64,
    /// Terms that ended by [`StopReason::Deadline`].
    pub ended_deadline: AtomicU64,
    /// Terms that ended by [`StopReason::Unhealthy`].
    pub ended_unhealthy: AtomicU64,
    /// Terms that ended by [`StopReason::SteppedDown`].
    pub ended_stepped_down: AtomicU64,
    /// Terms that ended by [`StopReason::SwitchedOver`].
    pub ended_switched_over: AtomicU64,
    /// Terms that ended by [`StopReason::Promoted`].
    pub ended_promoted: AtomicU64,
    /// Terms that ended by [`StopReason::Draining`].
    pub ended_draining: AtomicU64,
    /// How long looks took.
    pub look_times: Latencies,
    /// How long takes took.
    pub take_times: Latencies,
    /// How long renewals took.
    pub renew_times: Latencies,
    /// How long releases took.
    pub release_times: Latencies,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, reason: StopReason) -> &AtomicU64 {
        match reason {
            StopReason::Lost => &self.ended_lost,
            StopReason::Deadline => &self.ended_deadline,
            StopReason::Unhealthy => &self.ended_unhealthy,
            StopReason::SteppedDown => &self.ended_stepped_down,
            StopReason::SwitchedOver => &self.ended_switched_over,
            StopReason::Promoted => &self.ended_promoted,
            StopReason::Draining => &self.ended_draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are labels of metrics, so they stay as they are.
    #[test]
    fn a_reason_to_stop_is_one_word() {
        let all = [
            StopReason::Lost,
            StopReason::Deadline,
            StopReason::Unhealthy,
            StopReason::SteppedDown,
            StopReason::SwitchedOver,
            StopReason::Promoted,
            StopReason::Draining,
        ];
        let words = all.map(StopReason::as_str);
        assert_eq!(
            words,
            ["lost", "deadline", "unhealthy", "stepped_down", "switched_over", "promoted", "draining"]
        );
    }
}
