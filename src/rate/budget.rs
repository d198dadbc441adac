//! How often a hint may be followed. Any role that may connect to a PostgreSQL database may notify, as fast as it
//! can, and nobody can tell such a notification from a true one but by a look. So looks that find nothing
//! are rationed; a look that finds a change costs nothing, so that true changes are followed at once.

use std::time::Duration;

use crate::election::timing::Moment;

/// One look that finds nothing per interval on average, with a burst.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    left: f64,
    at: Moment,
    burst: u32,
    interval: Duration,
}

impl Budget {
    #[must_use]
    pub fn new(burst: u32, interval: Duration, now: Moment) -> Self {
        Self { left: f64::from(burst), at: now, burst, interval }
    }

    fn refill(&mut self, now: Moment) {
        let earned = now.saturating_sub(self.at).as_secs_f64() / self.interval.as_secs_f64();
        self.left = (self.left + earned).min(f64::from(self.burst));
        self.at = now;
    }

    /// How long to wait at `now` before the next look.
    pub fn wait(&mut self, now: Moment) -> Duration {
        self.refill(now);
        self.interval.mul_f64((1.0 - self.left).max(0.0))
    }

    /// A look at `now` found nothing.
    pub fn spend(&mut self, now: Moment) {
        self.refill(now);
        self.left -= 1.0;
    }

    /// A look at `now` found what it looked for: hints mean something.
    pub fn restore(&mut self, now: Moment) {
        self.left = f64::from(self.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// How many looks hints that never end make in a minute, if every one of them finds nothing.
    #[test]
    fn hints_that_never_end_cost_one_look_per_interval() {
        for burst in [5, 10] {
            let mut budget = Budget::new(burst, S, Moment::ZERO);
            let (mut now, mut looks) = (Moment::ZERO, 0);
            while now < S * 60 {
                now += budget.wait(now) + Duration::from_millis(20);
                budget.spend(now);
                looks += 1;
            }
            assert!((60..=61 + burst).contains(&looks), "{looks}");
        }
    }

    #[test]
    fn a_hint_after_silence_or_after_a_change_is_followed_at_once() {
        let mut budget = Budget::new(3, S, Moment::ZERO);
        for _ in 0..3 {
            assert_eq!(budget.wait(Moment::ZERO), Duration::ZERO);
            budget.spend(Moment::ZERO);
        }
        assert_eq!(budget.wait(Moment::ZERO), S);
        assert_eq!(budget.wait(S / 2), S / 2);
        assert_eq!(budget.clone().wait(S), Duration::ZERO);
        budget.restore(S / 2);
        assert_eq!(budget.wait(S / 2), Duration::ZERO);
    }

    #[test]
    fn a_look_is_earned_anew_in_each_interval_however_long_that_is() {
        for interval in [S / 4, S * 8] {
            let mut budget = Budget::new(1, interval, Moment::ZERO);
            budget.spend(Moment::ZERO);
            assert_eq!(budget.wait(interval / 4), interval * 3 / 4);
            assert_eq!(budget.wait(interval), Moment::ZERO);
        }
    }
}
