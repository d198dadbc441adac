//! What the metrics say of each resource. Labels are the resource's namespace and name, and words of ours: their
//! number is bounded by the resources. Only the replica that acts says anything of resources, and nothing of one that
//! is gone.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;

use super::handover::{Handover, Progress, Step};
use crate::api::{ComponentLease, ComponentLeaseStatus};
use crate::election::{ComponentName, Moment};
use crate::routing::conditions::{ConditionType, Truth};
use crate::routing::observed::Status;

/// Namespace and name.
pub(super) type Key = (Arc<str>, Arc<str>);

/// What is known of one resource.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) uid: String,
    pub(super) component: Option<Arc<str>>,
    /// Whether it is Ready, and why; `None` while the workload is scaled to nothing on purpose.
    pub(super) ready: Option<(bool, &'static str)>,
    /// `None` while that is not known.
    pub(super) held: Option<bool>,
    pub(super) candidates: i64,
    pub(super) version: i64,
    pub(super) transitions: i64,
    /// Seconds.
    pub(super) ttl: Option<i64>,
    /// Seconds since 1970.
    pub(super) last_transition: Option<f64>,
    /// The conditions that are True and mean that something is wrong.
    pub(super) problems: Vec<&'static str>,
    pub(super) leaderless: Leaderless,
    pub(super) progress: Progress,
}

/// How long it was known that nobody led.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leaderless {
    before: Duration,
    since: Option<Moment>,
}

impl Leaderless {
    fn note(&mut self, held: Option<bool>, now: Moment) {
        self.before = self.until(now);
        self.since = (held == Some(false)).then_some(now);
    }

    pub(super) fn until(&self, now: Moment) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// All of them, shared by those who learn something and by the scrape.
#[derive(Debug, Clone, Default)]
pub(super) struct Resources(Arc<Mutex<BTreeMap<Key, Facts>>>);

impl Resources {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Facts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of this very resource: what was known of an earlier one of the same name is forgotten.
    fn with<T>(&self, lease: &ComponentLease, then: impl FnOnce(&mut Facts) -> T) -> T {
        let uid = lease.uid().unwrap_or_default();
        let key = (lease.namespace().unwrap_or_default().into(), lease.name_any().into());
        let mut all = self.lock();
        let facts = all.entry(key).or_default();
        if facts.uid != uid {
            *facts = Facts { uid, ..Facts::default() };
        }
        then(facts)
    }

    /// The leader's pod carries the label. The steps of the handover that are over by this.
    pub(super) fn labelled(
        &self,
        lease: &ComponentLease,
        handover: Handover,
        now: Moment,
    ) -> Vec<(Step, Duration)> {
        self.with(lease, |facts| facts.progress.labelled(handover, now))
    }

    /// What a reconcile found. `written` is the status as it is now. The step of the handover that is over by this.
    pub(super) fn found(
        &self,
        lease: &ComponentLease,
        component: Option<&ComponentName>,
        found: &Status,
        written: Option<&ComponentLeaseStatus>,
        now: Moment,
    ) -> Option<(Step, Duration)> {
        let ready = found.condition(ConditionType::Ready);
        self.with(lease, |facts| {
            facts.component = component.map(|component| component.as_str().into());
            facts.ready = ready.map(|ready| (ready.status == Truth::True, ready.reason.as_str()));
            facts.held = match found.condition(ConditionType::LeaderElected).map(|elected| elected.status) {
                Some(Truth::True) => Some(true),
                Some(Truth::False) => Some(false),
                Some(Truth::Unknown) | None => None,
            };
            facts.leaderless.note(facts.held, now);
            facts.candidates = found.candidates;
            facts.version = found.version;
            facts.transitions = found.transitions;
            facts.ttl = found.ttl;
            facts.last_transition = written.and_then(last_transition);
            let wrong = found.conditions.iter().filter(|condition| is_problem(condition.kind));
            facts.problems = wrong
                .filter(|condition| condition.status == Truth::True)
                .map(|condition| condition.kind.as_str())
                .collect();
            if ready.is_some_and(|ready| ready.status == Truth::True) {
                facts.progress.ready(now)
            } else {
                None
            }
        })
    }

    /// A resource is gone.
    pub(super) fn forget(&self, lease: &impl kube::ResourceExt) {
        let key = (lease.namespace().unwrap_or_default().into(), lease.name_any().into());
        self.lock().remove(&key);
    }

    /// Of the resources that exist, by their UIDs: what was noted just after its resource had gone is forgotten.
    pub(super) fn of(&self, exist: &HashSet<&str>) -> BTreeMap<Key, Facts> {
        let mut all = self.lock();
        all.retain(|_, facts| exist.contains(facts.uid.as_str()));
        all.clone()
    }

    /// A replica that begins to act knows nothing yet.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }
}

/// Whether such a condition is True only when something is wrong.
fn is_problem(kind: ConditionType) -> bool {
    !matches!(
        kind,
        ConditionType::Ready
            | ConditionType::LeaderElected
            | ConditionType::HolderAccepted
            | ConditionType::Routed
            | ConditionType::DatabaseReachable
    )
}

/// When the term, or the time without one, began.
fn last_transition(status: &ComponentLeaseStatus) -> Option<f64> {
    let elected = ConditionType::LeaderElected.as_str();
    let elected = status.conditions.iter().find(|condition| condition.type_ == elected)?;
    let at: jiff::Timestamp = elected.last_transition_time.parse().ok()?;
    Some(at.as_duration().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_leader_counts_only_while_it_is_known_that_there_is_none() {
        let at = Duration::from_secs;
        let mut leaderless = Leaderless::default();
        leaderless.note(Some(false), at(10));
        assert_eq!(leaderless.until(at(13)), at(3), "it grows between two reconciles");
        leaderless.note(Some(false), at(14));
        leaderless.note(None, at(15));
        assert_eq!(leaderless.until(at(100)), at(5), "what is not known is not counted");
        leaderless.note(Some(false), at(100));
        leaderless.note(Some(true), at(101));
        assert_eq!(leaderless.until(at(200)), at(6));
    }
}
