//! One component at one moment, as a snapshot shows it.

use std::fmt;
use std::time::Duration;

use crate::election::{ComponentName, LeaseRow, Life, Request};
use crate::membership::SeenInstance;
use crate::membership::holder_id::OwnFormat;
use crate::store::{Asked, INSTANCES_EACH, Snapshot};

/// What a snapshot shows of one component.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// Which component.
    pub component: &'a str,
    /// Its row; none where nobody has ever led.
    pub row: Option<&'a LeaseRow>,
    /// What operators ask of it.
    pub asked: Option<&'a Asked>,
    /// The participants that are alive, the longest-lived first; at most 256.
    pub instances: Vec<&'a SeenInstance>,
    /// The database's clock, ms since 1970 UTC.
    pub database_now: i64,
    /// Of the database.
    pub life: &'a Life,
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader<'a> {
    /// The row is free, or the component has no row.
    Nobody,
    /// A participant that gives signs of life.
    Participant(&'a SeenInstance),
    /// A program with its own SQL, or a participant that has ended: it will not hear a request.
    Unheard(&'a str),
}

impl fmt::Display for Leader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Participant(instance) => f.write_str(&instance.holder),
            Self::Unheard(holder) => f.write_str(holder),
        }
    }
}

impl<'a> Situation<'a> {
    /// What this snapshot shows of the component.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot, component: &'a ComponentName) -> Self {
        let name = component.as_str();
        let alive = snapshot.instances.iter().flatten();
        let mut instances: Vec<_> =
            alive.filter(|seen| seen.component == name && !seen.is_over(snapshot.database_now)).collect();
        instances.sort_by_key(|seen| seen.id);
        Self {
            component: name,
            row: snapshot.rows.get(name),
            asked: snapshot.asked.get(name),
            instances,
            database_now: snapshot.database_now,
            life: &snapshot.life,
        }
    }

    /// Who leads, as the row says.
    #[must_use]
    pub fn leader(&self) -> Leader<'a> {
        match self.row.map(|row| row.holder.as_str()).filter(|holder| !holder.is_empty()) {
            None => Leader::Nobody,
            Some(holder) => self
                .instances
                .iter()
                .find(|seen| seen.holder == holder)
                .map_or(Leader::Unheard(holder), |seen| Leader::Participant(seen)),
        }
    }

    /// Who could lead instead, as far as health and priority go.
    pub fn others(&self) -> impl Iterator<Item = &'a SeenInstance> {
        let holder = self.row.map_or("", |row| row.holder.as_str());
        self.instances
            .iter()
            .copied()
            .filter(move |seen| seen.holder != holder && seen.healthy && seen.priority != Some(0))
    }

    /// Since when the leader has not renewed, if that is longer than its ttl. By the database's clock: a hint.
    #[must_use]
    pub fn lapsed(&self) -> Option<Duration> {
        let row = self.row.filter(|row| !row.is_free())?;
        let silent = millis(self.database_now.saturating_sub(row.renew_time));
        (silent > row.judged_ttl()).then_some(silent)
    }

    /// Whether this request still waits for its term to end.
    #[must_use]
    pub fn is_pending(&self, request: &Request) -> bool {
        request.is_about(self.row)
    }

    /// For how long nobody takes anything because the database has changed: at most this.
    #[must_use]
    pub fn quarantine(&self) -> Option<Duration> {
        let record = self.life.record()?;
        (!self.life.is_settled()).then(|| Duration::from_secs(record.max_ttl.into()))
    }

    /// Whether more participants may be alive than the snapshot shows.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        i64::try_from(self.instances.len()).is_ok_and(|shown| shown >= INSTANCES_EACH)
    }
}

/// Whether an operator may mean this participant: by its holder id, the name in it, or its pod.
pub(super) fn is_meant(seen: &SeenInstance, name: &str) -> bool {
    seen.holder == name
        || seen.whereabouts.pod.as_deref() == Some(name)
        || OwnFormat::parse(&seen.holder).is_some_and(|own| own.name == name)
}

pub(super) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
