//! How long calls of the store took: a histogram of plain numbers, since a library should not choose its user's
//! metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in ms: a call of a database in the next rack takes one, one that is given up a sixth of
/// the ttl.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000];

/// How long calls took, failed ones too.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Those up to each bound that are above the one before; the last ones are above all bounds.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    micros: AtomicU64,
}

impl Latencies {
    pub(super) fn took(&self, time: Duration) {
        let place = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < time);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Of each bucket its upper bound in seconds and how many calls are in it alone; the last bound is
    /// infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_MS.iter().map(|bound| Duration::from_millis(*bound).as_secs_f64());
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }

    /// Of all calls.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_counts_in_the_first_bucket_that_holds_it_and_in_the_sum() {
        let latencies = Latencies::default();
        for ms in [0, 1, 3, 10_000, 10_001] {
            latencies.took(Duration::from_millis(ms));
        }
        let filled: Vec<_> = latencies.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 2), (0.005, 1), (10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(latencies.sum(), Duration::from_millis(20_005));
    }
}
