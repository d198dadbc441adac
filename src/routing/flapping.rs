//! A lease whose leader changes too often: noticed, said, and slowed down.
//!
//! More terms than the resource says that began within an hour are too many. Then participants leave a lease that was
//! given back alone for a third of its ttl at most: a delay, and never a condition. A lease that lapsed has cost a ttl
//! already, and a target of a request does not wait.

use std::time::Duration;

use super::conditions::{Condition, ConditionType, Reason};
use super::observed::Desired;
use crate::election::Moment;

/// Changes are counted within this time.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// When terms began, the newest first, on our own boot clock.
pub type Begins = [Moment];

/// Until when it flaps, if nothing else happens; `None` where it does not.
#[must_use]
pub fn flaps_until(desired: &Desired, begins: &Begins, now: Moment) -> Option<Moment> {
    let most = desired.flapping_above?;
    // One more than may be is one too many.
    let until = *begins.get(most)? + WINDOW;
    (until > now).then_some(until)
}

/// Seconds for which participants leave a lease alone that was given back; they cut it to what their ttl allows.
#[must_use]
pub fn cooldown(desired: &Desired) -> u32 {
    desired.ttl.div_ceil(3)
}

/// Only shown while it flaps. It changes no more than that, so that no status is written for it.
#[must_use]
pub fn flapping(desired: &Desired) -> Condition {
    Condition::new(
        ConditionType::Flapping,
        true,
        Reason::ChangesTooOften,
        format!(
            "more than {} terms began within an hour, so a lease that is given back is left alone for up to a third of its TTL: find out why leaders end (component-lease history {}, and the logs of the pods)",
            desired.flapping_above.unwrap_or_default(),
            desired.name
        ),
    )
}

/// When these terms began on our own boot clock: by the database's clock alone, so that no two machines' clocks are
/// compared. `latest` is the last renewal, which has just been seen; without one the newest term is taken to have just begun.
/// The newest first, in ms.
#[must_use]
pub fn begins(lease_times: impl Iterator<Item = i64>, latest: Option<i64>, now: Moment) -> Vec<Moment> {
    let mut newest = latest;
    let ago = |time: i64| {
        let newest = *newest.get_or_insert(time);
        Duration::from_millis(u64::try_from(newest.saturating_sub(time)).unwrap_or(0))
    };
    lease_times.map(ago).map(|ago| now.saturating_sub(ago)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::{S, observed, row};

    fn desired(most: Option<usize>) -> Desired {
        Desired { flapping_above: most, ttl: 10, ..observed(row("", 7), Vec::new()).desired }
    }

    #[test]
    fn one_change_more_than_the_bound_within_an_hour_is_flapping_until_the_oldest_of_them_is_an_hour_old() {
        let now = S(10_000);
        let three = [S(9_990), S(9_000), S(6_500)];
        assert_eq!(flaps_until(&desired(Some(3)), &three, now), None, "as many as may be");
        assert_eq!(flaps_until(&desired(Some(2)), &three, now), Some(S(10_100)));
        assert_eq!(flaps_until(&desired(Some(2)), &three, S(10_100)), None);
        assert_eq!(flaps_until(&desired(Some(1)), &three, S(10_100)), Some(S(12_600)));
        assert_eq!(flaps_until(&desired(None), &three, now), None, "nobody asks");
        assert_eq!(flaps_until(&desired(Some(0)), &[], now), None);
    }

    #[test]
    fn what_is_said_names_the_bound_and_the_delay_is_a_third_of_the_ttl() {
        assert!(flapping(&desired(Some(20))).message.starts_with("more than 20 terms began within an hour"));
        assert_eq!(cooldown(&desired(Some(20))), 4);
    }

    #[test]
    fn terms_are_as_old_as_the_clock_of_the_database_says_however_it_stands_to_ours() {
        let found = begins([7_000_000, 6_999_000, 6_400_000, 7_100_000].into_iter(), None, S(500));
        assert_eq!(
            found,
            [S(500), S(499), S(0), S(500)],
            "before we were born, and after a step of its clock"
        );
        let renewed = begins([7_000_000, 6_999_000].into_iter(), Some(7_060_000), S(500));
        assert_eq!(renewed, [S(440), S(439)], "a leader that was renewed for a minute began a minute ago");
    }
}
