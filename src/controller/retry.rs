//! Back-off per object: what keeps failing for one resource must not disturb another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// How often each object has failed in a row.
#[derive(Debug, Default)]
pub(super) struct Retry(Mutex<HashMap<String, u32>>);

impl Retry {
    /// The wait after one more failure; `jitter` in 0..1 adds up to a quarter.
    pub(super) fn after_failure(&self, object: &str, jitter: f64) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(10)).min(LONGEST);
        *count = count.saturating_add(1);
        wait + wait.mul_f64(jitter / 4.0)
    }

    pub(super) fn succeeded(&self, object: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_limit_and_a_success_forgets_them() {
        let retry = Retry::default();
        let waits: Vec<_> = (0..12).map(|_| retry.after_failure("a", 0.0)).collect();
        assert_eq!(waits[0], FIRST);
        assert_eq!(waits[1], FIRST * 2);
        assert_eq!(waits[11], LONGEST);
        assert_eq!(retry.after_failure("b", 0.0), FIRST, "objects do not share their failures");
        retry.succeeded("a");
        assert_eq!(retry.after_failure("a", 0.0), FIRST);
    }
}
