//! How often a store that hints at every commit may be looked at.

use std::time::Duration;

use crate::domain::Moment;

/// Hints may cost this many looks above one per interval.
const BURST: f64 = 5.0;

/// One look per interval on average, with a burst.
pub(super) struct Budget {
    left: f64,
    at: Moment,
    interval: Duration,
}

impl Budget {
    pub(super) fn new(interval: Duration, now: Moment) -> Self {
        Self { left: BURST, at: now, interval }
    }

    fn refill(&mut self, now: Moment) {
        let earned = now.saturating_sub(self.at).as_secs_f64() / self.interval.as_secs_f64();
        self.left = (self.left + earned).min(BURST);
        self.at = now;
    }

    pub(super) fn wait(&mut self, now: Moment) -> Duration {
        self.refill(now);
        self.interval.mul_f64((1.0 - self.left).max(0.0))
    }

    pub(super) fn spend(&mut self, now: Moment) {
        self.refill(now);
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_never_end_cost_one_look_per_interval() {
        let mut budget = Budget::new(Duration::from_secs(1), Moment::ZERO);
        let mut now = Moment::ZERO;
        let mut looks = 0;
        while now < Duration::from_secs(60) {
            now += budget.wait(now) + Duration::from_millis(100);
            budget.spend(now);
            looks += 1;
        }
        assert!((60..=66).contains(&looks), "{looks}");
    }
}
