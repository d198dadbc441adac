//! What follows when a resource has seen a later version than its database knows of: writes were lost, and the
//! database cannot tell. A new epoch repairs that, but nobody takes a lease for a quarantine then, and each
//! one uses up versions. So writing a resource must not be enough to begin one.

use std::time::Duration;

use crate::election::life::{Life, STEP, date};
use crate::election::timing::Moment;

/// So many epochs may begin for this reason ...
const MOST: usize = 3;
/// ... within this time, by one controller in one database.
const WITHIN: Duration = Duration::from_secs(3600);
/// After an attempt that failed, the next one waits for this long.
const AGAIN: Duration = Duration::from_secs(60);

/// What a version that was seen once asks of the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: the next version that is granted is above it.
    #[default]
    Nothing,
    /// An epoch, of this number at least: versions of any other one may repeat.
    Epoch(i64),
    /// Nobody can have granted it by now: the date explains no epoch that high.
    Unexplained,
    /// The database keeps no epochs.
    NoEpochs,
}

impl Remedy {
    /// For a database that is at `version` with this component. `now_ms` is the date.
    #[must_use]
    pub fn of(life: &Life, version: i64, seen: i64, now_ms: i64) -> Self {
        if version >= seen || life.base() >= seen {
            return Self::Nothing;
        }
        match life {
            Life::Unknown => Self::NoEpochs,
            // An epoch begins anyway.
            Life::Unrecorded { .. } => Self::Nothing,
            // No room for dates: what does not fit the column is refused by the store.
            Life::Recorded { step, .. } if *step < STEP => Self::Epoch(above(seen, *step)),
            Life::Recorded { step, .. } if above(seen, *step) <= date(now_ms, *step) => {
                Self::Epoch(above(seen, *step))
            }
            Life::Recorded { .. } => Self::Unexplained,
        }
    }
}

/// The first epoch that is certainly above a version.
fn above(version: i64, step: i64) -> i64 {
    version / step + 2
}

/// What the database knows of the versions that a resource remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FloorSight {
    /// Of the floor in the status, which only the controller may write: an epoch may begin.
    pub status: Remedy,
    /// Of its copy in the annotation, which is anybody's to write: it is only told.
    pub annotation: Remedy,
    /// As many epochs as may begin for this reason have begun.
    pub exhausted: bool,
}

/// How many epochs one controller begins in its database because resources remember later versions.
#[derive(Debug, Clone, Default)]
pub struct EpochRate {
    begun: Vec<Moment>,
    not_before: Moment,
}

impl EpochRate {
    fn of_late(&self, now: Moment) -> usize {
        self.begun.iter().filter(|&&begun| now.saturating_sub(begun) < WITHIN).count()
    }

    #[must_use]
    pub fn is_exhausted(&self, now: Moment) -> bool {
        self.of_late(now) >= MOST
    }

    /// Whether one may begin now. It counts from here on; the other methods report the outcome.
    pub fn begin(&mut self, now: Moment) -> bool {
        if now < self.not_before || self.is_exhausted(now) {
            return false;
        }
        self.begun.retain(|&begun| now.saturating_sub(begun) < WITHIN);
        self.begun.push(now);
        true
    }

    /// The one that was to begin at this moment did not: somebody else's did, or none was needed.
    pub fn not_begun(&mut self, at: Moment) {
        if let Some(index) = self.begun.iter().position(|&begun| begun == at) {
            self.begun.swap_remove(index);
        }
    }

    /// The one that was to begin at this moment could not be recorded, or nobody knows.
    pub fn failed(&mut self, at: Moment) {
        self.not_begun(at);
        self.not_before = self.not_before.max(at + AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::life::{EPOCH_ZERO, LifeRecord, NARROW_STEP};

    const S: fn(u64) -> Duration = Duration::from_secs;
    /// 2026-11-22, in ms.
    const NOW: i64 = (EPOCH_ZERO + 28_000_000) * 1000;

    fn life(epoch: i64, step: i64) -> Life {
        let record = LifeRecord { identity: "a".into(), epoch, settled: true, max_ttl: 30 };
        Life::Recorded { identity: "a".into(), step, record }
    }

    #[test]
    fn a_version_above_all_that_the_database_knows_asks_for_an_epoch_above_it_and_only_then() {
        let of = |epoch, version, seen| Remedy::of(&life(epoch, STEP), version, seen, NOW);
        assert_eq!(of(28_000_000, 5, 41), Remedy::Nothing);
        assert_eq!(of(0, 41, 41), Remedy::Nothing);
        assert_eq!(of(0, 5, 41), Remedy::Epoch(2));
        assert_eq!(of(0, 5, 27_000_000_000_007), Remedy::Epoch(27_000_002));
        assert_eq!(of(27_000_002, 5, 27_000_000_000_007), Remedy::Nothing, "not for ever");
    }

    #[test]
    fn no_epoch_is_asked_for_above_the_one_that_the_date_explains() {
        let of = |seen, now| Remedy::of(&life(0, STEP), 5, seen, now);
        for seen in [28_000_000_000_007, 9_000_000_000_000_000, i64::MAX] {
            assert_eq!(of(seen, NOW), Remedy::Unexplained, "{seen}");
        }
        assert_eq!(of(28_000_000_000_007, NOW + 2_000), Remedy::Epoch(28_000_002));
        // A clock that was never set explains nothing but the first epochs.
        for now in [i64::MIN, 0, EPOCH_ZERO * 1000] {
            assert_eq!(of(41, now), Remedy::Unexplained, "{now}");
        }
    }

    #[test]
    fn a_narrow_column_has_no_dates_and_a_bare_table_no_epochs() {
        assert_eq!(Remedy::of(&life(0, NARROW_STEP), 5, 41_000, 0), Remedy::Epoch(43));
        assert_eq!(Remedy::of(&Life::Unknown, 5, 41, NOW), Remedy::NoEpochs);
        assert_eq!(Remedy::of(&Life::Unknown, 41, 41, NOW), Remedy::Nothing);
        let unrecorded = Life::Unrecorded { identity: "a".into(), step: STEP };
        assert_eq!(Remedy::of(&unrecorded, 5, 41, NOW), Remedy::Nothing);
    }

    #[test]
    fn three_epochs_may_begin_within_an_hour_and_no_more() {
        let mut rate = EpochRate::default();
        for at in [0, 1, 1800] {
            assert!(!rate.is_exhausted(S(at)) && rate.begin(S(at)), "{at}");
        }
        assert!(rate.is_exhausted(S(1801)) && !rate.begin(S(1801)) && !rate.begin(S(3599)));
        assert!(rate.begin(S(3600)) && !rate.begin(S(3600)), "the first is an hour ago");
        assert!(rate.begin(S(3601)) && !rate.begin(S(5399)) && rate.begin(S(5400)));
    }

    #[test]
    fn in_any_hour_of_any_world_there_are_three_at_most() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut rate = EpochRate::default();
        let (mut now, mut begun) = (S(1), Vec::new());
        for _ in 0..20_000 {
            now += Duration::from_millis(random.u64(0..600_000));
            if rate.begin(now) {
                match random.u8(0..3) {
                    0 => rate.not_begun(now),
                    1 => rate.failed(now),
                    _ => begun.push(now),
                }
            }
        }
        assert!(begun.len() > 1_000, "{}", begun.len());
        assert!(begun.windows(MOST + 1).all(|window| window[MOST] - window[0] >= WITHIN));
    }

    #[test]
    fn what_did_not_begin_is_not_counted_and_a_failure_is_not_repeated_at_once() {
        let mut rate = EpochRate::default();
        for at in 0..100 {
            assert!(rate.begin(S(at)), "{at}");
            rate.not_begun(S(at));
        }
        assert!(rate.begin(S(200)));
        rate.failed(S(200));
        assert!(!rate.begin(S(259)) && !rate.is_exhausted(S(259)) && rate.begin(S(260)));
    }
}
