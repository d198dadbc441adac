//! What a follower saw last, and when it looks again: sight that lags adds to the time without a leader.

use std::time::Duration;

use super::life::FLOOR_MAX;
use super::row::{Expected, LeaseRow};
use super::timing::Moment;

/// How long after a renewal a follower looks for it, at most.
const SIGHT_LAG: Duration = Duration::from_millis(200);

/// The last row that was seen, and since when it is unchanged on this machine's boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The row, if there was one.
    pub row: Option<LeaseRow>,
    /// What is known beside it.
    pub past: Past,
    /// Since when it is unchanged: boot clock.
    pub since: Moment,
    /// How long before `since` the row was written, at most. A hint, like all that comes of it.
    lag: Duration,
    last_look: Moment,
}

/// What is known of a component beside its row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Past {
    /// It never had a term.
    #[default]
    NeverLived,
    /// The highest version that was ever granted.
    Lived(i64),
    /// The history has lost it, but a participant says of itself that it leads, or has led, this version.
    Claimed(i64),
    /// There is no history.
    Unknown,
}

impl Past {
    /// `claimed` counts where a history is kept (`is_kept`) and knows nothing.
    #[must_use]
    pub fn of(is_kept: bool, recorded: Option<i64>, claimed: Option<i64>) -> Self {
        match (is_kept, recorded, claimed) {
            (false, ..) => Self::Unknown,
            (true, Some(version), _) => Self::Lived(version),
            // No version of ours is beyond that; that it lived is believed all the same.
            (true, None, Some(version)) => Self::Claimed(if version > FLOOR_MAX { 0 } else { version }),
            (true, None, None) => Self::NeverLived,
        }
    }

    /// Of all that is known, wherever from.
    #[must_use]
    pub fn highest(self) -> i64 {
        match self {
            Self::Lived(version) | Self::Claimed(version) => version,
            Self::NeverLived | Self::Unknown => 0,
        }
    }

    /// What the history itself tells, which an INSERT is bound to.
    #[must_use]
    pub fn recorded(self) -> i64 {
        match self {
            Self::Lived(version) => version,
            Self::Claimed(_) | Self::NeverLived | Self::Unknown => 0,
        }
    }

    /// What a take compares that is decided on this and on the row.
    #[must_use]
    pub(super) fn expects(self, row: Option<&LeaseRow>) -> Expected {
        match row {
            None => Expected::Missing { highest: self.recorded() },
            Some(_) => Expected::of(row),
        }
    }
}

impl Sight {
    /// After a look that was answered at `at`; `before` is what was seen until then.
    #[must_use]
    pub(super) fn after(
        before: Option<Self>,
        at: Moment,
        row: Option<LeaseRow>,
        past: Past,
        database_now: i64,
    ) -> Self {
        match before {
            // A row that went and came back unseen leaves a trace in the history.
            Some(sight) if sight.row == row && (row.is_some() || sight.past == past) => {
                Self { last_look: at, ..sight }
            }
            before => {
                let third = row.as_ref().map_or(Duration::ZERO, |row| row.judged_ttl() / 3);
                let lag = row.as_ref().and_then(|row| age(row, database_now)).unwrap_or(third);
                let lag = before.map_or(lag, |before| {
                    // It was not there yet at the look before, and a holder lets a third of its ttl pass.
                    let unseen = at.saturating_sub(before.last_look);
                    let version = |row: &Option<LeaseRow>| row.as_ref().map(|row| row.version);
                    let earliest = before.since + third - before.lag.min(third);
                    let renewed = version(&before.row) == version(&row);
                    let rhythm = at.checked_sub(earliest).filter(|_| renewed).unwrap_or(unseen);
                    lag.min(unseen).min(rhythm)
                });
                Self { row, past, since: at, lag, last_look: at }
            }
        }
    }

    /// Whatever was seen before `at` does not count.
    pub(super) fn watched_from(&mut self, at: Moment) {
        self.since = self.since.max(at);
    }

    /// How long after `at` to look for the holder's next renewal; `third` of a ttl at most, also when
    /// there is no holder.
    ///
    /// The row's age by the database's clock tells when that renewal is due. While that clock tells
    /// nothing (it stepped, and until it has caught up each renewal lies in its future), the renewals
    /// themselves do: they are searched for a third of a ttl after the last, in steps of a quarter of
    /// what is uncertain, so that this is soon little.
    #[must_use]
    pub(super) fn look_again_in(&self, at: Moment, database_now: i64, third: Duration) -> Duration {
        let Some(row) = self.row.as_ref().filter(|row| !row.is_free()) else { return third };
        let ttl = row.judged_ttl();
        let third = ttl / 3;
        let soon = (ttl / 60).min(SIGHT_LAG);
        let (due, late) = (self.since + third - self.lag, self.since + third);
        let wait = match age(row, database_now) {
            Some(age) if at < due + soon => (third - age).min(due.saturating_sub(at)) + soon,
            // Just before it is due, to know that it did not come early.
            _ if at + soon < due => due - soon - at,
            _ if at < late => (self.lag / 4).max(soon),
            // Overdue but perhaps only late: the sooner a late renewal is seen, the less sight lags.
            _ if at < late + third => ((at - late) / 4).clamp(soon, ttl / 20),
            _ => third,
        };
        wait.min(third)
    }
}

/// Of a row that is not overdue, by the clock that wrote it. Nothing when that clock makes no sense.
fn age(row: &LeaseRow, database_now: i64) -> Option<Duration> {
    let age = u64::try_from(database_now.checked_sub(row.renew_time)?).ok().map(Duration::from_millis)?;
    (age < row.judged_ttl() / 3).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);
    const THIRD: Duration = Duration::from_secs(10);

    /// Watches a holder that renews every third of a ttl, 3 ms late each time, through a database whose
    /// clock is off by what `off` says. Answers the looks and the longest lags, in each third of a ttl.
    fn watch(thirds: u64, off: impl Fn(Duration) -> i64) -> Vec<(usize, Duration)> {
        let period = THIRD + Duration::from_millis(3);
        let began = Duration::from_secs(1_000);
        let database = |at: Duration| i64::try_from(at.as_millis()).unwrap() + off(at);
        let mut seen = vec![(0, Duration::ZERO); usize::try_from(thirds).unwrap() + 1];
        let (mut sight, mut renewal, mut renew_time) = (None, began, database(began));
        let mut at = began + Duration::from_secs(4);
        while at < began + THIRD * u32::try_from(thirds).unwrap() {
            while renewal + period <= at {
                renewal += period;
                renew_time = database(renewal).max(renew_time + 1);
            }
            let row = LeaseRow { holder: "h".into(), lease_time: 0, renew_time, version: 1, ttl: 30 };
            let next = Sight::after(sight, at, Some(row), Past::Lived(1), database(at));
            let place = usize::try_from((at - began).as_secs() / THIRD.as_secs()).unwrap();
            seen[place].0 += 1;
            seen[place].1 = seen[place].1.max(next.since.saturating_sub(renewal));
            at += next.look_again_in(at, database(at), THIRD);
            sight = Some(next);
        }
        assert_eq!(sight.unwrap().row.unwrap().judged_ttl(), TTL);
        seen
    }

    #[test]
    fn while_the_clock_is_right_each_renewal_is_looked_for_once_and_soon_seen() {
        for (looks, lag) in watch(100, |_| 0).into_iter().skip(1).take(98) {
            assert!(looks <= 2 && lag <= Duration::from_millis(250), "{looks} looks, {lag:?}");
        }
    }

    #[test]
    fn no_step_of_the_clock_makes_a_follower_see_a_renewal_late_or_look_without_end() {
        for step in [-86_400_000, -3_600_000, -31_000, -5_000, 2_000, 31_000, 86_400_000] {
            for when in 0..40 {
                let moment = Duration::from_secs(1_020) + THIRD * when / 40;
                let seen = watch(40, |at| if at < moment { 0 } else { step });
                for (place, (looks, lag)) in seen.into_iter().enumerate().skip(1).take(38) {
                    assert!(looks <= 8, "{place} after {step} ms at {moment:?}: {looks} looks");
                    assert!(
                        lag <= Duration::from_millis(450),
                        "{place} after {step} ms at {moment:?}: {lag:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_follower_that_comes_when_the_clock_makes_no_sense_finds_the_rhythm_within_a_ttl() {
        for off in [-86_400_000, 86_400_000] {
            // The row was written before the step.
            let seen = watch(20, |at| if at <= Duration::from_secs(1_000) { 0 } else { off });
            for (place, (looks, lag)) in seen.into_iter().enumerate().take(19) {
                assert!(looks <= 12, "{place}, {off} ms off: {looks} looks");
                assert!(place < 4 || lag <= Duration::from_millis(450), "{place}, {off} ms off: {lag:?}");
            }
        }
    }

    fn sight(renew_time: i64, since: Duration, lag: Duration) -> Sight {
        let row = LeaseRow { holder: "h".into(), lease_time: 0, renew_time, version: 1, ttl: 30 };
        Sight { row: Some(row), past: Past::Lived(1), since, lag, last_look: since }
    }

    #[test]
    fn when_it_looks_again_depends_on_where_in_the_rhythm_of_the_holder_it_is() {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        // Seen at 100 s, written 2 s before: the next renewal is due at 108 s, and late from 110 s on.
        let sight = sight(1_000, s(100), s(2));
        for (at, age_ms, wait) in [
            // By the age of the row: due in 8 s, and a moment more.
            (s(100), Some(2_000), ms(8_200)),
            (s(107), Some(9_000), ms(1_200)),
            // No clock tells: shortly before it is due, in case that it came early.
            (s(100), None, ms(7_800)),
            (ms(107_700), None, ms(100)),
            // Around that, in steps of a quarter of what is uncertain.
            (ms(107_800), None, ms(500)),
            (ms(109_999), None, ms(500)),
            // Late: the later it is, the longer the steps, up to a twentieth of a ttl.
            (s(110), None, ms(200)),
            (s(112), None, ms(500)),
            (s(119), None, ms(1_500)),
            // Then the holder is gone, and only the end of the ttl counts.
            (s(120), None, s(10)),
        ] {
            let now = age_ms.map_or(-1, |age| 1_000 + age);
            assert_eq!(sight.look_again_in(at, now, THIRD), wait, "at {at:?}, age {age_ms:?}");
        }
    }

    #[test]
    fn a_row_that_is_due_by_its_own_clock_has_no_age() {
        let row = sight(1_000, THIRD, THIRD).row.unwrap();
        assert_eq!(age(&row, 1_000), Some(Duration::ZERO));
        assert_eq!(age(&row, 10_999), Some(Duration::from_millis(9_999)));
        assert_eq!([age(&row, 11_000), age(&row, 999), age(&row, i64::MIN)], [None; 3]);
    }

    #[test]
    fn a_claim_of_a_version_that_none_of_ours_can_be_counts_as_a_life_of_unknown_version() {
        assert_eq!(Past::of(true, None, Some(FLOOR_MAX)), Past::Claimed(FLOOR_MAX));
        assert_eq!(Past::of(true, None, Some(FLOOR_MAX + 1)), Past::Claimed(0));
        assert_eq!(Past::of(true, Some(3), Some(9)), Past::Lived(3));
        assert_eq!(Past::of(false, Some(3), Some(9)), Past::Unknown);
    }
}
