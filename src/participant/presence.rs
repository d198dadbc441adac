//! Signs of life in `component_instance`: calls of their own, made while there is nothing else to do, never
//! at the expense of a renewal, and of no consequence when they fail.

use std::time::Duration;

use tracing::{debug, info};

use crate::election::{Moment, Timing};
use crate::membership::Instance;
use crate::membership::instance::rhythm;
use crate::rate::repeats::{Repeats, kind_of};
use crate::store::StoreError;

/// Less time than this before the next thing to do is left alone.
const LEAST: Duration = Duration::from_millis(20);

pub(super) struct Presence {
    says: Instance,
    row: Option<i64>,
    /// What the row says by now; `None` before the first.
    said: Option<(bool, Option<i64>)>,
    due: Moment,
    trouble: Option<String>,
    repeats: Repeats,
}

impl Presence {
    pub(super) fn new(says: Instance) -> Self {
        Self {
            says: says.cut(),
            row: None,
            said: None,
            due: Moment::ZERO,
            trouble: None,
            repeats: Repeats::default(),
        }
    }

    /// What is to be said now, and how long it may take, if it is time for it and there is time for it: half
    /// of what is left until the next thing to do, or as long as the database `takes` to answer. Less is left alone: a
    /// call that is given up costs the connection.
    pub(super) fn due(
        &mut self,
        now: Moment,
        until: Moment,
        takes: Duration,
        timing: &Timing,
        (healthy, leads): (bool, Option<i64>),
    ) -> Option<(Instance, Option<i64>, Duration)> {
        let news = self.said.is_none_or(|said| said != (healthy, leads));
        let left = until.saturating_sub(now);
        let limit = timing.attempt_timeout().min((left / 2).max(left.min(takes)));
        if limit < LEAST.max(takes) || now < self.due && (!news || self.trouble.is_some()) {
            return None;
        }
        self.says.lasts = rhythm(timing).1;
        (self.says.healthy, self.says.leads) = (healthy, leads);
        Some((self.says.clone(), self.row, limit))
    }

    /// The last sign of life: that it is one no longer. `None` where nobody was told that this participant lives.
    pub(super) fn farewell(&mut self) -> Option<(Instance, i64)> {
        let row = self.row.take()?;
        Some((Instance { lasts: 0, healthy: false, leads: None, ..self.says.clone() }, row))
    }

    /// `None`: it was given up for something more important.
    pub(super) fn said(
        &mut self,
        now: Moment,
        timing: &Timing,
        answer: Option<Result<Option<i64>, StoreError>>,
    ) {
        self.due = now + rhythm(timing).0;
        match answer {
            Some(Ok(row)) => {
                if self.row.is_some() && row.is_some() && self.row != row {
                    info!(component = %self.says.component, "the last heartbeat is too old, or its row in component_instance is gone: beginning a new row");
                }
                (self.row, self.trouble) = (row, None);
                self.said = Some((self.says.healthy, self.says.leads));
            }
            Some(Err(error)) => {
                let text = error.to_string();
                if self.repeats.is_due(&kind_of(&text), now) {
                    info!(component = %self.says.component, error = text, "the heartbeat could not be written to component_instance; nothing else is affected");
                }
                self.trouble = Some(text);
            }
            None => debug!(component = %self.says.component, "a heartbeat was given up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{ComponentName, HolderId};
    use crate::membership::Whereabouts;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const NEAR: Duration = Duration::from_millis(1);

    fn presence() -> (Presence, Timing) {
        let says = Instance {
            component: ComponentName::new("c").unwrap(),
            holder: HolderId::new("a").unwrap(),
            lasts: 0,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: None,
            promise: None,
            priority: None,
            healthy: true,
            leads: None,
        };
        (Presence::new(says), Timing::with_default_grace(18).unwrap())
    }

    #[test]
    fn the_first_sign_is_given_at_once_and_the_next_after_an_interval_or_with_news() {
        let (mut presence, timing) = presence();
        let following = (true, None);
        let (says, row, limit) = presence.due(S(0), S(4), NEAR, &timing, following).unwrap();
        assert_eq!((says.lasts, row, limit), (54, None, S(2)));
        presence.said(S(0), &timing, Some(Ok(Some(7))));
        assert!(presence.due(S(17), S(21), NEAR, &timing, following).is_none());
        let (says, row, _) = presence.due(S(1), S(5), NEAR, &timing, (true, Some(41))).unwrap();
        assert_eq!((says.leads, row), (Some(41), Some(7)));
        assert!(presence.due(S(18), S(22), NEAR, &timing, following).is_some());
    }

    #[test]
    fn a_sign_takes_half_of_what_is_left_at_most_and_waits_where_that_is_too_little() {
        let (mut presence, timing) = presence();
        let limit = presence.due(S(0), S(1), NEAR, &timing, (true, None)).unwrap().2;
        assert_eq!(limit, Duration::from_millis(500));
        assert!(presence.due(S(0), Duration::from_millis(30), NEAR, &timing, (true, None)).is_none());
        assert!(presence.due(S(1), S(0), NEAR, &timing, (true, None)).is_none());
    }

    #[test]
    fn a_sign_for_which_the_database_needs_longer_than_there_is_time_waits() {
        let (mut presence, timing) = presence();
        let mut limit = |left, takes| {
            let (left, takes) = (Duration::from_millis(left), Duration::from_millis(takes));
            presence.due(S(0), left, takes, &timing, (true, None)).map(|(.., limit)| limit.as_millis())
        };
        assert_eq!(limit(700, 750), None);
        assert_eq!(limit(800, 750), Some(750), "more than half of what is left");
        assert_eq!(limit(2000, 750), Some(1000));
        // An attempt of any kind takes a sixth of the ttl at most.
        assert_eq!(limit(6000, 3100), None);
    }

    #[test]
    fn a_farewell_says_that_this_life_is_over_and_is_said_once_and_to_those_who_knew_of_it() {
        let (mut presence, timing) = presence();
        assert_eq!(presence.farewell(), None, "nobody knows of it");
        presence.due(S(0), S(4), NEAR, &timing, (true, Some(41))).unwrap();
        presence.said(S(0), &timing, Some(Ok(Some(7))));
        let (says, row) = presence.farewell().unwrap();
        assert_eq!((says.lasts, says.healthy, says.leads, row), (0, false, None, 7));
        assert_eq!(presence.farewell(), None);
    }

    #[test]
    fn a_sign_that_failed_is_not_repeated_before_its_time() {
        let (mut presence, timing) = presence();
        presence.due(S(0), S(4), NEAR, &timing, (true, None)).unwrap();
        presence.said(S(0), &timing, Some(Err(StoreError::retryable("no"))));
        assert!(presence.due(S(4), S(8), NEAR, &timing, (true, Some(1))).is_none());
        assert!(presence.due(S(18), S(22), NEAR, &timing, (true, Some(1))).is_some());
    }
}
