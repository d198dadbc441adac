//! What looks at the database have shown of the rows that resources claim. Compared in memory: only changes that
//! matter are reported. Renewals are not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::handover::Handover;
use super::instances::Instances;
use crate::election::life::Quarantine;
use crate::election::{ComponentName, LeaseRow, Life, Moment};
use crate::routing::observed::{RowSight, StoreSight};
use crate::routing::pause::{Pause, PauseSight};
use crate::store::{Asked, Names, Said, Snapshot, StandingIntent, StoreError};

/// A database that misses a look or two is not yet called unreachable.
const FAILURE_GRACE: Duration = Duration::from_secs(3);

/// What is known of one row.
#[derive(Debug, Clone)]
struct Seen {
    row: LeaseRow,
    /// On our own boot clock, after the answer arrived.
    since: Moment,
    /// A look has shown it unchanged for a whole ttl.
    given_up: bool,
    /// A look has shown it unchanged for so long that its renewal is late.
    late: bool,
    /// How the term followed the one before; `None` when no look has shown that.
    handover: Option<Handover>,
    /// Renewals that were late, of all terms that were seen.
    late_renewals: u64,
}

impl Seen {
    /// When it will be nobody's if it is not renewed before; `None` when it is so already.
    fn until(&self) -> Option<Moment> {
        (!self.given_up && !self.row.is_free()).then(|| self.since + self.row.judged_ttl())
    }

    /// The row as a look now shows it for the first time, after this one if there was one.
    fn next(old: Option<&Self>, row: LeaseRow, now: Moment) -> Self {
        let handover = old.and_then(|old| {
            if old.row.holder == row.holder {
                return old.handover;
            }
            (!row.is_free()).then(|| Handover::after(&old.row, old.since, now))
        });
        let late_renewals = old.map_or(0, |old| old.late_renewals);
        Self { row, since: now, given_up: false, late: false, handover, late_renewals }
    }

    /// A look that was sent at this moment has shown it unchanged.
    fn unchanged(&mut self, asked: Moment) {
        let due = self.since + self.row.judged_ttl() * 2 / 3;
        if !self.late && !self.row.is_free() && asked >= due {
            self.late = true;
            self.late_renewals += 1;
        }
    }
}

/// How the holder of a row renews it, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pulse {
    /// How old the last change of the row was when it was last looked at; `None` when nobody holds it.
    pub(super) renewal_age: Option<Duration>,
    /// How often two thirds of a ttl had passed without a renewal.
    pub(super) late_renewals: u64,
}

/// Looks that have failed in a row.
#[derive(Debug, Clone)]
struct Failure {
    /// The first of its kind: a text that changes from look to look is no news.
    error: StoreError,
    since: Moment,
    /// It was logged.
    said: bool,
    /// Everybody has been told.
    told: bool,
}

impl Failure {
    /// Whether it is more than a look or two that failed.
    fn lasts(&self, now: Moment) -> bool {
        now >= self.since + FAILURE_GRACE
    }
}

/// What changed for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    Components(Vec<String>),
    Everything,
}

/// What a look that succeeded brings about.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) changed: Option<Changed>,
    /// A holder is new, and the next look asks where it runs.
    pub(super) look_again: bool,
    /// It is the first one, or the first one after a failure that was logged.
    pub(super) is_news: bool,
}

/// What is known of the database.
#[derive(Debug)]
pub(super) struct Rows {
    /// What the last look that succeeded asked for.
    asked: Names,
    /// `None` until the first look succeeds.
    seen: Option<BTreeMap<String, Seen>>,
    intents: BTreeMap<String, StandingIntent>,
    /// What operators ask.
    operators: BTreeMap<String, Asked>,
    pub(super) quarantine: Quarantine,
    pub(super) instances: Instances,
    /// Components whose holder is new and may have said where it runs: the next look asks for that.
    untold: BTreeSet<String>,
    /// That look failed: go by the names of holders.
    by_name: bool,
    /// When the last look that succeeded was sent.
    answered: Moment,
    failure: Option<Failure>,
    since: Moment,
}

impl Rows {
    /// `max_ttl` in seconds: what the controller is configured with.
    pub(super) fn new(since: Moment, max_ttl: u32) -> Self {
        Self {
            asked: Names::none(),
            seen: None,
            intents: BTreeMap::new(),
            operators: BTreeMap::new(),
            quarantine: Quarantine::new(max_ttl),
            instances: Instances::default(),
            untold: BTreeSet::new(),
            by_name: false,
            answered: Moment::ZERO,
            failure: None,
            since,
        }
    }

    /// Whether anything is known of this component, be it that it has no row.
    fn has_looked_at(&self, component: &str) -> bool {
        self.seen.is_some() && self.asked.contains(component)
    }

    /// Whether a look has ended that was to show this component, one way or the other: before that there is nothing
    /// to go by.
    pub(super) fn looked(&self, component: &str) -> bool {
        self.has_looked_at(component) || self.failure.is_some()
    }

    /// What a decision about this component may go by, and as of when. While the database answers
    /// that is the last look: a row that has not been looked at lately has not expired.
    pub(super) fn sight(&self, component: &str, now: Moment) -> (StoreSight, RowSight, Moment) {
        let known = self.has_looked_at(component);
        let row = match self.seen.as_ref().filter(|_| known) {
            None => RowSight::Never { since: self.since },
            Some(rows) => {
                let seen = rows.get(component);
                RowSight::Seen {
                    row: seen.map(|seen| seen.row.clone()),
                    since: seen.map_or(self.since, |seen| seen.since),
                }
            }
        };
        match self.failure.as_ref().filter(|failure| !known || failure.lasts(now)) {
            Some(failure) => {
                let store = match &failure.error {
                    StoreError::Retryable { message: text, .. } => StoreSight::Unreachable(text.clone()),
                    error @ (StoreError::Misconfigured { .. } | StoreError::Bug { .. }) => {
                        StoreSight::Misconfigured(error.to_string())
                    }
                };
                (store, row, now)
            }
            None => (StoreSight::Answers, row, self.answered),
        }
    }

    /// Whether the holder of the component has been asked where it runs. Nothing is decided before: it may be in
    /// another namespace, and have the name of a pod of this one. Changes are reported after that.
    pub(super) fn knows_holder(&self, component: &str) -> bool {
        !self.untold.contains(component)
    }

    /// Whether the database, as far as it is known, lacks this intent.
    pub(super) fn lacks_intent(&self, component: &ComponentName, intent: &StandingIntent) -> bool {
        let known = self.has_looked_at(component.as_str()) && self.failure.is_none();
        known && self.intents.get(component.as_str()) != Some(intent)
    }

    /// What was just written need not be written again before the next look.
    pub(super) fn wrote_intent(&mut self, component: &ComponentName, intent: StandingIntent) {
        self.intents.insert(component.as_str().to_owned(), intent);
    }

    /// Whether the election of this component is paused, as of the last look that succeeded.
    pub(super) fn pause(&self, component: &str) -> PauseSight {
        if !self.has_looked_at(component) {
            return PauseSight::Unknown;
        }
        let asked = self.operators.get(component).and_then(|asked| asked.paused.as_ref());
        asked.map_or(PauseSight::Running, |said| {
            PauseSight::Paused(Pause { by: said.by().to_owned(), reason: said.reason().to_owned() })
        })
    }

    /// The id of the request that stands there and is not over, as of the last look that succeeded.
    pub(super) fn pending(&self, component: &str) -> Option<String> {
        let request = &self.operators.get(component)?.request.as_ref()?.request;
        let row = self.seen.as_ref()?.get(component).map(|seen| &seen.row);
        request.is_about(row).then(|| request.id.clone())
    }

    /// What was just written need not be written again before the next look.
    pub(super) fn wrote_pause(&mut self, component: &ComponentName, paused: Option<Said>) {
        self.operators.entry(component.as_str().to_owned()).or_default().paused = paused;
    }

    /// Which life of which database the last look that succeeded came from.
    pub(super) fn life(&self) -> Option<&Life> {
        self.quarantine.life()
    }

    /// The UUID of the database that answered last; `None` where it says none, or has not answered.
    pub(super) fn database(&self) -> Option<String> {
        self.life().and_then(Life::database).map(ToOwned::to_owned)
    }

    /// Seconds; `None` where the database says nothing about it.
    pub(super) fn longest_ttl(&self) -> Option<u32> {
        self.life().and_then(Life::record).map(|_| self.quarantine.longest_ttl())
    }

    /// How far the versions of two epochs are apart; `None` where the database keeps none.
    pub(super) fn epoch_step(&self) -> Option<i64> {
        match self.life()? {
            Life::Recorded { step, .. } => Some(*step),
            Life::Unknown | Life::Unrecorded { .. } => None,
        }
    }

    /// How the term of this component followed the one before, if looks have shown it.
    pub(super) fn handover(&self, component: &str) -> Option<Handover> {
        self.seen.as_ref()?.get(component)?.handover
    }

    /// How the holder of this component renews, as of the last look that succeeded.
    pub(super) fn pulse(&self, component: &str) -> Option<Pulse> {
        let seen = self.seen.as_ref()?.get(component)?;
        let age = self.answered.saturating_sub(seen.since);
        Some(Pulse { renewal_age: (!seen.row.is_free()).then_some(age), late_renewals: seen.late_renewals })
    }

    /// Whether the database answers; `None` before the first look has ended. A look or two may fail.
    pub(super) fn reachable(&self, now: Moment) -> Option<bool> {
        match &self.failure {
            Some(failure) => Some(self.seen.is_some() && !failure.lasts(now)),
            None => self.seen.is_some().then_some(true),
        }
    }

    /// Whether the last look failed.
    pub(super) fn failing(&self) -> bool {
        self.failure.is_some()
    }

    /// A row that is about to expire is looked at when it does.
    pub(super) fn until_next_expiry(&self, now: Moment) -> Duration {
        let rows = self.seen.iter().flat_map(BTreeMap::values);
        let next = rows.filter_map(Seen::until).min();
        next.map_or(Duration::MAX, |until| until.saturating_sub(now))
    }

    /// What a look showed that asked for these names at this moment, with the participants or without.
    pub(super) fn saw(
        &mut self,
        snapshot: Snapshot,
        names: Names,
        asked: Moment,
        with_instances: bool,
        now: Moment,
    ) -> Learned {
        let first = self.seen.is_none();
        let failure = self.failure.take();
        let is_news = first || failure.as_ref().is_some_and(|failure| failure.said);
        let mut learned = Learned { is_news, ..Learned::default() };
        let mut components = Vec::new();
        if with_instances {
            self.instances.saw(asked, snapshot.instances, &snapshot.rows, &mut components);
        }
        let mut before = self.seen.take().unwrap_or_default();
        let mut rows = BTreeMap::new();
        for (component, row) in snapshot.rows {
            let seen = match before.remove(&component) {
                Some(mut seen) if seen.row == row => {
                    seen.unchanged(asked);
                    if seen.until().is_some_and(|until| asked >= until) {
                        seen.given_up = true;
                        components.push(component.clone());
                    }
                    seen
                }
                old => {
                    let new_holder = old.as_ref().is_none_or(|old| old.row.holder != row.holder);
                    if old.as_ref().is_none_or(|old| means_something(old, &row)) {
                        if new_holder && self.instances.lacks(&component, &row.holder) && !with_instances {
                            // Who that is may be known to the table only.
                            self.untold.insert(component.clone());
                            self.instances.want();
                            learned.look_again = true;
                        } else {
                            self.untold.remove(&component);
                            components.push(component.clone());
                        }
                    }
                    Seen::next(old.as_ref(), row, now)
                }
            };
            rows.insert(component, seen);
        }
        if with_instances || self.by_name {
            components.extend(std::mem::take(&mut self.untold));
            self.by_name = false;
        }
        components.extend(before.into_keys());
        components.extend(differing(&self.intents, &snapshot.intents));
        components.extend(differing(&self.operators, &snapshot.asked));
        if self.asked != names {
            // Also who has no row waits for this answer.
            components.extend(names.as_slice().iter().filter(|name| !self.asked.contains(name)).cloned());
            self.asked = names;
        }
        self.seen = Some(rows);
        self.intents = snapshot.intents;
        self.operators = snapshot.asked;
        // What resources say of their floors depends on it.
        let another_life = self.quarantine.answered(now, snapshot.life);
        self.answered = asked;
        learned.changed = if first || another_life || failure.is_some_and(|failure| failure.told) {
            Some(Changed::Everything)
        } else {
            (!components.is_empty()).then_some(Changed::Components(components))
        };
        learned
    }

    /// A look that asked for participants failed: until the next one, holders are known by their names alone.
    pub(super) fn failed_with_instances(&mut self, asked: Moment) {
        self.instances.failed(asked);
        self.by_name = true;
    }

    /// A look failed, which is logged or not. It is reported once: at once when nothing is known, else when the
    /// grace has passed, which is when decisions begin to differ.
    pub(super) fn failed(&mut self, error: StoreError, logged: bool, now: Moment) -> Option<Changed> {
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        let kind = error.kind();
        let known = self.failure.take().filter(|failure| failure.error.kind() == kind);
        let mut failure = known.unwrap_or(Failure { error, since, said: false, told: false });
        failure.said |= logged;
        let tell = !failure.told && (self.seen.is_none() || failure.lasts(now));
        failure.told |= tell;
        self.failure = Some(failure);
        tell.then_some(Changed::Everything)
    }
}

/// Beyond a mere renewal: another holder or term, or a sign of life from a row that was given up.
fn means_something(old: &Seen, row: &LeaseRow) -> bool {
    old.given_up || old.row.holder != row.holder || old.row.version != row.version || old.row.ttl != row.ttl
}

fn differing<T: PartialEq>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> Vec<String> {
    let all = before.keys().chain(after.keys());
    all.filter(|component| before.get(*component) != after.get(*component)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_means_nothing_unless_the_row_was_given_up() {
        let row = LeaseRow { holder: "a".into(), lease_time: 1, renew_time: 1, version: 1, ttl: 5 };
        let old = Seen::next(None, row.clone(), Duration::from_secs(10));
        let renewed = LeaseRow { renew_time: 2, ..row.clone() };
        assert!(!means_something(&old, &renewed));
        assert!(means_something(&Seen { given_up: true, ..old.clone() }, &renewed));
        assert!(means_something(&old, &LeaseRow { version: 2, ..row }));
    }

    #[test]
    fn a_renewal_is_late_once_when_a_look_shows_that_two_thirds_of_the_ttl_have_passed() {
        let at = Duration::from_secs;
        let row = LeaseRow { holder: "a".into(), lease_time: 1, renew_time: 1, version: 1, ttl: 9 };
        let mut seen = Seen::next(None, row.clone(), at(10));
        for (asked, late) in [(15, 0), (16, 1), (17, 1)] {
            seen.unchanged(at(asked));
            assert_eq!(seen.late_renewals, late, "at {asked} s");
        }
        let mut renewed = Seen::next(Some(&seen), LeaseRow { renew_time: 2, ..row.clone() }, at(18));
        renewed.unchanged(at(24));
        assert_eq!(renewed.late_renewals, 2, "the count goes on, each renewal is judged anew");
        let mut free = Seen::next(Some(&renewed), LeaseRow { holder: String::new(), ..row }, at(25));
        free.unchanged(at(60));
        assert_eq!(free.late_renewals, 2, "nobody has to renew a free row");
    }

    #[test]
    fn a_handover_is_known_where_looks_have_shown_both_holders_and_stays_through_renewals() {
        let at = Duration::from_secs;
        let row = LeaseRow { holder: "a".into(), lease_time: 1, renew_time: 1, version: 1, ttl: 9 };
        let first = Seen::next(None, row.clone(), at(10));
        assert_eq!(first.handover, None, "what was before is not known");
        let free = Seen::next(Some(&first), LeaseRow { holder: String::new(), ..row.clone() }, at(20));
        assert_eq!(free.handover, None);
        let second = LeaseRow { holder: "b".into(), version: 2, ..row };
        let taken = Seen::next(Some(&free), second.clone(), at(21));
        assert_eq!(taken.handover, Some(Handover::after(&free.row, at(20), at(21))));
        let renewed = Seen::next(Some(&taken), LeaseRow { renew_time: 5, ..second }, at(24));
        assert_eq!(renewed.handover, taken.handover);
    }
}
