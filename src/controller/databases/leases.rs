//! The Leases of databases, as a watch shows them: of a namespace that has a `LeaseDatabase`, and of no other one. A cluster has a
//! Lease for each node, which is renewed every ten seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use crate::election::{HOLDER_ID_MAX, LeaseRow, Moment};
use crate::store::kubernetes::{roster, row};

/// One Lease, and since when it is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) row: LeaseRow,
    /// Which object, and which state of it.
    state: Option<(String, u64)>,
    /// Why the row cannot be gone by, if it cannot.
    pub(super) wrong: Option<String>,
    /// When the row changed last, as it was seen here.
    pub(super) since: Moment,
    pub(super) record: Option<String>,
    pub(super) report: Option<String>,
    /// The last sign of life of a term, while the record is of an earlier one.
    ended: Option<Moment>,
    /// How long it took from there to the record: of a term of this version.
    pub(super) took: Option<(i64, Duration)>,
}

/// What is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Nothing,
    /// Only the time of the last renewal, within its term.
    Renewed,
    Something,
}

impl Known {
    fn new(lease: &Lease, now: Moment) -> Self {
        let (record, report) = (roster::record(lease), roster::report(lease));
        let mut row = row(lease);
        let wrong = too_long(&row.holder);
        if wrong.is_some() {
            row.holder.clear();
        }
        let state = state(lease);
        Self { row, state, wrong, since: now, record, report, ended: None, took: None }
    }

    /// What is known once the watch has shown this. Of a Lease that is shown as it is known, nothing changes.
    fn shown(&self, lease: &Lease, now: Moment) -> (Self, Changed) {
        let mut new = Self::new(lease, now);
        (new.ended, new.took) = (self.ended, self.took);
        if new.row == self.row {
            new.since = self.since;
        }
        if new.row.version != self.row.version {
            // What was seen of the term before: its last renewal, or its release.
            new.ended = new.ended.or(Some(self.since));
        }
        if new.record != self.record
            && let Some(ended) = new.ended.take()
        {
            new.took = Some((new.row.version, now.saturating_sub(ended)));
        }
        let changed = self.differs_from(&new, now);
        (new, changed)
    }

    /// Whether what is shown is an earlier state of this very object. A watch that is behind shows such after the Lease was read.
    fn is_newer_than(&self, lease: &Lease) -> bool {
        match (&self.state, &state(lease)) {
            (Some((known, at)), Some((shown, then))) => known == shown && then < at,
            _ => false,
        }
    }

    fn differs_from(&self, new: &Self, now: Moment) -> Changed {
        if (&self.record, &self.report, &self.wrong) != (&new.record, &new.report, &new.wrong) {
            return Changed::Something;
        }
        if self.row == new.row {
            return Changed::Nothing;
        }
        let renewed = LeaseRow { renew_time: new.row.renew_time, ..self.row.clone() } == new.row;
        // A term that had run out goes on.
        if renewed && !self.has_run_out(now) { Changed::Renewed } else { Changed::Something }
    }

    /// Whether the holder has not renewed for a whole ttl.
    pub(super) fn has_run_out(&self, now: Moment) -> bool {
        !self.row.is_free() && now >= self.since + self.row.judged_ttl()
    }
}

fn state(lease: &Lease) -> Option<(String, u64)> {
    Some((lease.uid()?, lease.resource_version()?.parse().ok()?))
}

/// Anybody who may write the Lease may write a holder of any length. No participant has such a name.
fn too_long(holder: &str) -> Option<String> {
    let length = holder.chars().count();
    (length > HOLDER_ID_MAX).then(|| {
        format!("spec.holderIdentity of the Lease has {length} characters, and no member writes more than {HOLDER_ID_MAX}: find out who wrote it, and empty it")
    })
}

/// Those of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    known: BTreeMap<String, Known>,
    /// What a list has shown so far.
    listing: BTreeMap<String, Known>,
    listed: bool,
}

/// All that are watched, by namespace.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<String, Namespace>>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Namespace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch has shown this. The name of the Lease that has changed; everything of the namespace, where it was listed anew.
    pub(super) fn saw(&self, namespace: &str, event: &Event<Lease>, now: Moment) -> Shown {
        let mut all = self.lock();
        let here = all.entry(namespace.to_owned()).or_default();
        match event {
            Event::Init => here.listing.clear(),
            Event::InitApply(lease) => {
                let name = lease.name_any();
                let known = here.known.get(&name);
                let known = known.map_or_else(|| Known::new(lease, now), |known| known.shown(lease, now).0);
                here.listing.insert(name, known);
            }
            Event::InitDone => {
                here.known = std::mem::take(&mut here.listing);
                here.listed = true;
                return Shown::Everything;
            }
            Event::Apply(lease) => {
                let name = lease.name_any();
                let known = here.known.get(&name);
                if known.is_some_and(|known| known.is_newer_than(lease)) {
                    return Shown::Nothing;
                }
                let (known, changed) = known.map_or_else(
                    || (Known::new(lease, now), Changed::Something),
                    |known| known.shown(lease, now),
                );
                here.known.insert(name.clone(), known);
                if changed == Changed::Something {
                    return Shown::Lease(name);
                }
            }
            Event::Delete(lease) => {
                let name = lease.name_any();
                here.known.remove(&name);
                return Shown::Lease(name);
            }
        }
        Shown::Nothing
    }

    /// The Lease was read: this is what there is.
    pub(super) fn read(&self, namespace: &str, name: &str, found: Option<Lease>, now: Moment) {
        match found {
            Some(lease) => drop(self.saw(namespace, &Event::Apply(lease), now)),
            None => drop(self.lock().entry(namespace.to_owned()).or_default().known.remove(name)),
        }
    }

    /// Whether they have been listed once.
    pub(super) fn listed(&self, namespace: &str) -> bool {
        self.lock().get(namespace).is_some_and(|here| here.listed)
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Known> {
        self.lock().get(namespace)?.known.get(name).cloned()
    }

    /// Nobody watches this namespace any more.
    pub(super) fn forget(&self, namespace: &str) {
        self.lock().remove(namespace);
    }
}

/// What a watch has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing that concerns anybody.
    Nothing,
    Lease(String),
    Everything,
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
