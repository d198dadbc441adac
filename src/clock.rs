//! The only place that reads a clock. Everything else is given one.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clocks of this machine.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since the machine started, suspends included (`CLOCK_BOOTTIME`). `std::time::Instant`
    /// is not it: it stops while the machine is suspended, and a leader that slept would lead on.
    fn boot(&self) -> Duration;

    /// Wall clock, ms since 1970 UTC. For people only; nothing is decided by it.
    fn wall_ms(&self) -> i64;
}

/// The real clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_goes_on_and_the_wall_clock_knows_the_century() {
        let (before, wall) = (SystemClock.boot(), SystemClock.wall_ms());
        let later = std::iter::repeat_with(|| SystemClock.boot()).find(|now| *now > before);
        assert!(later.is_some() && before > Duration::ZERO);
        // 2026-01-01, and 2100-01-01.
        assert!((1_767_225_600_000..4_102_444_800_000).contains(&wall), "{wall}");
    }
}
