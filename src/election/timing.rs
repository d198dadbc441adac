//! How the durations of one term relate to each other.
//!
//! ```text
//! t0          boot clock, read before the attempt to take or renew
//! deadline    t0 + 0.9 ttl - stop_grace      the leader no longer leads, its work must stop
//! abort       t0 + 0.9 ttl                   the work is ended by force
//! seizable    first unchanged sight + ttl    on a follower's clock, which began after t0
//! ```
//! The tenth that is left covers boot clocks that run up to 5 % off real time on either side.

use std::time::Duration;

/// A reading of the local boot clock: time since this machine started, suspends included.
/// Only readings of one machine are ever compared.
pub type Moment = Duration;

/// Shortest ttl that a resource or an agent may ask for, in seconds.
pub const TTL_MIN_SECONDS: u32 = 5;
/// Longest ttl, in seconds.
pub const TTL_MAX_SECONDS: u32 = 3600;
/// The ttl that is used when nobody chose one, in seconds.
pub const TTL_DEFAULT_SECONDS: u32 = 30;

/// Why a ttl and a stop grace do not go together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TimingError {
    /// No lease may be so short or so long.
    #[error("a ttl of {} s is outside {} to {} s", .ttl.as_secs(), .min.as_secs(), .max.as_secs())]
    TtlOutOfRange { ttl: Duration, min: Duration, max: Duration },
    /// There is not enough time to lead between two renewals.
    #[error(
        "a stop grace of {grace:?} leaves no time to lead within a ttl of {} s; it may be {most:?} at most (0.3 of the ttl): shorten the stop grace or lengthen the ttl",
        .ttl.as_secs()
    )]
    StopGraceTooLong { ttl: Duration, grace: Duration, most: Duration },
}

/// How fast a database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the beginning of a connection until it may be used.
    pub connect: Duration,
    /// One statement, on a connection that stands.
    pub round_trip: Duration,
}

/// The durations of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    ttl: u32,
    stop_grace: Duration,
    /// Nobody chose the stop grace: with another ttl it is another one.
    follows: bool,
}

impl Timing {
    /// `ttl` in seconds, 1 to 3600 (agents and resources ask for 5 at least);
    /// `stop_grace` is what is kept for stopping the work, at most 0.3 of the ttl.
    ///
    /// # Errors
    /// [`TimingError`] when the two cannot work together.
    pub fn new(ttl: u32, stop_grace: Duration) -> Result<Self, TimingError> {
        if !(1..=TTL_MAX_SECONDS).contains(&ttl) {
            let [min, max] = [1, TTL_MAX_SECONDS].map(seconds);
            return Err(TimingError::TtlOutOfRange { ttl: seconds(ttl), min, max });
        }
        let most = seconds(ttl) * 3 / 10;
        if stop_grace > most {
            return Err(TimingError::StopGraceTooLong { ttl: seconds(ttl), grace: stop_grace, most });
        }
        Ok(Self { ttl, stop_grace, follows: false })
    }

    /// With the stop grace that is used when nobody chose one: 0.2 of the ttl, whatever it becomes.
    ///
    /// # Errors
    /// [`TimingError`] when the ttl is outside its range.
    pub fn with_default_grace(ttl: u32) -> Result<Self, TimingError> {
        Ok(Self { follows: true, ..Self::new(ttl, seconds(ttl) / 5)? })
    }

    /// The stop grace, if somebody chose it.
    #[must_use]
    pub fn chosen_grace(&self) -> Option<Duration> {
        (!self.follows).then_some(self.stop_grace)
    }

    /// The same participant's durations in a term with another ttl.
    ///
    /// # Errors
    /// [`TimingError`] when the ttl and the chosen stop grace cannot work together.
    pub fn for_ttl(&self, ttl: u32) -> Result<Self, TimingError> {
        if self.follows { Self::with_default_grace(ttl) } else { Self::new(ttl, self.stop_grace) }
    }

    /// In whole seconds, as the row carries it.
    #[must_use]
    pub fn ttl_seconds(&self) -> u32 {
        self.ttl
    }

    /// How long a term lasts without renewal.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        seconds(self.ttl)
    }

    /// What is kept for stopping the work.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace
    }

    /// From here a leader whose last acknowledged attempt began at `t0` no longer leads.
    #[must_use]
    pub fn deadline(&self, t0: Moment) -> Moment {
        t0 + self.attempt_counts_for()
    }

    /// By here its work must have ended.
    #[must_use]
    pub fn abort(&self, t0: Moment) -> Moment {
        t0 + self.ttl() * 9 / 10
    }

    /// How long after its beginning the acknowledgement of a take still counts.
    #[must_use]
    pub fn attempt_counts_for(&self) -> Duration {
        self.ttl() * 9 / 10 - self.stop_grace
    }

    /// From the beginning of one successful renewal to the beginning of the next.
    #[must_use]
    pub fn renew_interval(&self) -> Duration {
        self.ttl() / 3
    }

    /// When an attempt to look, renew or release is given up; also the longest wait for a row lock.
    #[must_use]
    pub fn attempt_timeout(&self) -> Duration {
        self.ttl() / 6
    }

    /// The wait before a failed attempt is repeated; `jitter` in 0..1.
    #[must_use]
    pub fn retry_after(&self, jitter: f64) -> Duration {
        self.ttl() / 30 + (self.ttl() / 30).mul_f64(jitter)
    }

    /// Whether a database of this pace leaves room for these durations. A statement that is new to its
    /// connection takes two round trips, and so does the first look at a component that never had a leader.
    /// A leader whose connection broke has to make another one between two renewals and its deadline.
    #[must_use]
    pub fn has_room_for(&self, pace: &Pace) -> bool {
        let reconnect = pace.connect + pace.round_trip;
        pace.round_trip * 2 < self.attempt_timeout()
            && self.renew_interval() + self.retry_after(1.0) + reconnect < self.attempt_counts_for()
    }

    /// The shortest ttl from this one on, in seconds, for which a database of this pace leaves room. `None`
    /// where there is none.
    #[must_use]
    pub fn ttl_with_room_for(&self, pace: &Pace) -> Option<u32> {
        let fits = |ttl: &u32| self.for_ttl(*ttl).is_ok_and(|timing| timing.has_room_for(pace));
        (self.ttl..=TTL_MAX_SECONDS).find(fits)
    }

    /// What a follower adds to the moment at which it may seize, so that not all try at once; `jitter` in 0..1.
    #[must_use]
    pub fn seize_spread(&self, jitter: f64) -> Duration {
        (self.ttl() / 20).min(Duration::from_millis(500)).mul_f64(jitter)
    }
}

/// How long a row with this ttl must be unchanged before it may be seized. Rows of other programs
/// may carry anything; what is outside 1 to 3600 s is clamped when it is judged.
#[must_use]
pub fn judged_ttl(row_ttl: i64) -> Duration {
    Duration::from_secs(row_ttl.clamp(1, i64::from(TTL_MAX_SECONDS)).unsigned_abs())
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(u64::from(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_stops_before_any_follower_may_seize_even_with_clocks_5_percent_apart() {
        for ttl in [1, 5, 30, 3600] {
            let timing = Timing::new(ttl, Duration::ZERO).unwrap();
            let t0 = Duration::from_secs(100);
            let slow_leader = (timing.abort(t0) - t0).as_secs_f64() / 0.95;
            let fast_follower = timing.ttl().as_secs_f64() / 1.05;
            assert!(slow_leader < fast_follower, "ttl {ttl}: {slow_leader} vs {fast_follower}");
        }
    }

    #[test]
    fn a_stop_grace_that_leaves_no_time_is_refused() {
        assert!(Timing::new(10, Duration::from_secs(3)).is_ok());
        assert!(matches!(
            Timing::new(10, Duration::from_millis(3001)),
            Err(TimingError::StopGraceTooLong { most, .. }) if most == Duration::from_secs(3)
        ));
    }

    #[test]
    fn a_stop_grace_that_nobody_chose_follows_the_ttl_of_the_resource() {
        let default = Timing::with_default_grace(30).unwrap();
        assert_eq!(default.stop_grace(), Duration::from_secs(6));
        assert_eq!(default.for_ttl(5).unwrap().stop_grace(), Duration::from_secs(1));
        assert_eq!(default.for_ttl(5).unwrap().for_ttl(30), Ok(default));
        let chosen = Timing::new(30, Duration::from_secs(6)).unwrap();
        assert_eq!(chosen.for_ttl(60).unwrap().stop_grace(), Duration::from_secs(6));
        assert!(matches!(chosen.for_ttl(5), Err(TimingError::StopGraceTooLong { .. })));
    }

    #[test]
    fn a_ttl_outside_its_range_is_refused() {
        assert!(matches!(Timing::new(0, Duration::ZERO), Err(TimingError::TtlOutOfRange { .. })));
        assert!(matches!(Timing::new(3601, Duration::ZERO), Err(TimingError::TtlOutOfRange { .. })));
    }

    #[test]
    fn at_least_two_renewals_can_fail_before_the_deadline() {
        let timing = Timing::new(30, Duration::from_secs(9)).unwrap();
        assert!(timing.renew_interval() + timing.attempt_timeout() < timing.attempt_counts_for());
    }

    #[test]
    fn a_database_is_too_slow_where_an_attempt_or_the_way_back_to_it_does_not_fit() {
        let ms = Duration::from_millis;
        let timing = Timing::with_default_grace(5).unwrap();
        let fits = |connect, round_trip| {
            timing.has_room_for(&Pace { connect: ms(connect), round_trip: ms(round_trip) })
        };
        assert!(fits(10, 1) && fits(1_000, 100) && fits(1_000, 400));
        assert!(!fits(1_000, 420), "two round trips within a sixth of the ttl");
        assert!(!fits(1_500, 10), "a lost connection is made anew before the deadline");
        let needed = |connect, round_trip| {
            timing.ttl_with_room_for(&Pace { connect: ms(connect), round_trip: ms(round_trip) })
        };
        assert_eq!(needed(10, 1), Some(5));
        assert_eq!(needed(1_000, 500), Some(7));
        assert_eq!(needed(4_000, 100), Some(14));
        assert_eq!(needed(10, 600_000), None);
    }

    #[test]
    fn a_foreign_ttl_is_clamped_when_it_is_judged() {
        assert_eq!(judged_ttl(-5), Duration::from_secs(1));
        assert_eq!(judged_ttl(7), Duration::from_secs(7));
        assert_eq!(judged_ttl(1_000_000), Duration::from_secs(3600));
    }

    #[test]
    fn only_a_stop_grace_that_somebody_chose_is_said_to_be_chosen() {
        assert_eq!(Timing::with_default_grace(30).unwrap().chosen_grace(), None);
        let chosen = Timing::new(30, Duration::from_secs(6)).unwrap();
        assert_eq!(chosen.chosen_grace(), Some(Duration::from_secs(6)));
    }

    #[test]
    fn followers_spread_over_a_twentieth_of_the_ttl_and_half_a_second_at_most() {
        let spread = |ttl, jitter| Timing::with_default_grace(ttl).unwrap().seize_spread(jitter);
        assert_eq!(spread(4, 1.0), Duration::from_millis(200));
        assert_eq!(spread(4, 0.5), Duration::from_millis(100));
        assert_eq!(spread(3600, 1.0), Duration::from_millis(500));
    }
}
