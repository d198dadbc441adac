//! The specification: the [`rules`] on a map. For tests, and for a reading of
//! what the databases must do.

mod roster;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::asked::{Asked, Posted, Said, StandingIntent};
use super::error::StoreError;
use super::hints::{Hint, Hints};
use super::history::{Ending, Retention, Term};
use super::names::Names;
use super::rules;
use super::traits::{
    Directory, Epochs, INSTANCES_EACH, INSTANCES_IN_ALL, LeaseStore, Outcome, PRUNED_AT_ONCE, Roster,
    Snapshot,
};
use super::uuid::new_uuid;
use crate::clock::Clock;
use crate::election::life::{MAX_TTL_DEFAULT_SECONDS, STEP};
use crate::election::machine::{Looked, Past};
use crate::election::{
    ComponentName, LeaseRow, Life, LifeId, LifeRecord, NewEpoch, Pace, Request, Take, TermKey,
};
use crate::membership::{Instance, SeenInstance};

/// A store within this process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    tables: Mutex<MemoryTables>,
    /// Counts the lives of this "server".
    life: Mutex<u64>,
    changed: broadcast::Sender<String>,
}

/// Everything that a database keeps, and may lose.
#[derive(Debug, Clone, Default)]
pub struct MemoryTables {
    rows: BTreeMap<String, LeaseRow>,
    intents: BTreeMap<String, StandingIntent>,
    asked: BTreeMap<String, Asked>,
    /// By component and version.
    history: BTreeMap<String, BTreeMap<i64, Term>>,
    record: Option<LifeRecord>,
    /// Of the record: another one with each that is made anew.
    uuid: String,
    instances: BTreeMap<i64, SeenInstance>,
    last_instance: i64,
    /// The highest version that an instance ever led.
    led: BTreeMap<i64, i64>,
    /// Of a lease: what its leader wrote last.
    recorded: BTreeMap<String, String>,
    /// Of a lease: all versions up to this one count as granted.
    above: BTreeMap<String, i64>,
    /// Of a lease, by member.
    reports: BTreeMap<String, BTreeMap<String, String>>,
    /// Of a lease, by member.
    wishes: BTreeMap<String, BTreeMap<String, String>>,
}

impl MemoryTables {
    /// The highest version in a component's history, or that was said to have been granted.
    fn highest(&self, component: &ComponentName) -> Option<i64> {
        let history = self.history.get(component.as_str());
        let recorded = history.and_then(|history| history.keys().next_back().copied());
        recorded.max(self.above.get(component.as_str()).copied())
    }
}

impl MemoryStore {
    /// The database clock of this store is the given clock's wall clock. It is a first
    /// installation: there is nothing that could have been forgotten.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_max_ttl(clock, Duration::from_secs(MAX_TTL_DEFAULT_SECONDS.into()))
    }

    /// With another longest ttl, in whole seconds.
    #[must_use]
    pub fn with_max_ttl(clock: Arc<dyn Clock>, max_ttl: Duration) -> Self {
        let max_ttl = u32::try_from(max_ttl.as_secs()).unwrap_or(u32::MAX);
        let uuid = new_uuid();
        let record = LifeRecord { identity: identity(1, &uuid), epoch: 0, settled: true, max_ttl };
        let tables = MemoryTables { record: Some(record), uuid, ..MemoryTables::default() };
        Self { clock, tables: Mutex::new(tables), life: Mutex::new(1), changed: broadcast::channel(64).0 }
    }

    /// A copy of everything, as a backup or a standby has it.
    #[must_use]
    pub fn copy(&self) -> MemoryTables {
        self.tables().clone()
    }

    /// Goes on as another server, with these tables: a promoted standby, a restored volume.
    pub fn become_another(&self, tables: MemoryTables) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        *self.tables() = tables;
    }

    /// Goes on as the same server with these tables: a backup that was read into it under way.
    pub fn reload(&self, tables: MemoryTables) {
        *self.tables() = tables;
    }

    /// What nobody but an administrator by hand does.
    pub fn delete_row(&self, component: &ComponentName) {
        self.tables().rows.remove(component.as_str());
    }

    fn tables(&self) -> MutexGuard<'_, MemoryTables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self, tables: &MemoryTables) -> String {
        identity(*self.life.lock().unwrap_or_else(PoisonError::into_inner), &tables.uuid)
    }

    fn life(&self, tables: &MemoryTables) -> Life {
        let (identity, step) = (self.identity(tables), STEP);
        match &tables.record {
            None => Life::Unrecorded { identity, step },
            Some(record) => Life::Recorded { identity, step, record: record.clone() },
        }
    }

    fn apply(
        &self,
        component: &ComponentName,
        rule: impl FnOnce(&MemoryTables, Option<&LeaseRow>, i64) -> Option<LeaseRow>,
    ) -> Outcome {
        let mut tables = self.tables();
        let before = tables.rows.get(component.as_str());
        let Some(after) = rule(&tables, before, self.clock.wall_ms()) else { return Outcome::Lost };
        let new_holder = before.is_none_or(|before| before.holder != after.holder);
        if before.is_none_or(|before| before.version != after.version) {
            let term = Term::begun_by(&after);
            tables.history.entry(component.as_str().to_owned()).or_default().insert(after.version, term);
        }
        tables.rows.insert(component.as_str().to_owned(), after);
        if new_holder {
            // Nobody listening is fine.
            let _ = self.changed.send(component.as_str().to_owned());
        }
        Outcome::Applied
    }

    /// What is asked of a component, beside its row.
    fn asked<T>(
        &self,
        component: &ComponentName,
        change: impl FnOnce(Option<&LeaseRow>, &mut Asked) -> T,
    ) -> T {
        let mut tables = self.tables();
        let MemoryTables { rows, asked, .. } = &mut *tables;
        // Nobody listening is fine.
        let _ = self.changed.send(component.as_str().to_owned());
        change(rows.get(component.as_str()), asked.entry(component.as_str().to_owned()).or_default())
    }

    fn write_record(&self, rule: impl FnOnce(Option<&LifeRecord>, &str) -> Option<LifeRecord>) -> Outcome {
        let mut tables = self.tables();
        if tables.record.is_none() {
            tables.uuid = new_uuid();
        }
        match rule(tables.record.as_ref(), &self.identity(&tables)) {
            None => Outcome::Lost,
            Some(record) => {
                tables.record = Some(record);
                Outcome::Applied
            }
        }
    }
}

/// Those that matter most come first: each component's holder, then who says that it leads, then the newest.
fn bounded<'a>(
    alive: impl Iterator<Item = &'a SeenInstance>,
    rows: &BTreeMap<String, LeaseRow>,
) -> Vec<SeenInstance> {
    let mut of: BTreeMap<&str, Vec<&SeenInstance>> = BTreeMap::new();
    for seen in alive {
        of.entry(&seen.component).or_default().push(seen);
    }
    let mut ranked = Vec::new();
    for (component, mut all) in of {
        let holds = |seen: &SeenInstance| rows.get(component).is_some_and(|row| row.holder == seen.holder);
        all.sort_by_key(|seen| (!holds(seen), seen.leads.is_none(), Reverse(seen.id)));
        ranked
            .extend(all.into_iter().take(usize::try_from(INSTANCES_EACH).unwrap_or(usize::MAX)).enumerate());
    }
    ranked.sort_by_key(|(rank, seen)| (*rank, Reverse(seen.id)));
    let mut chosen: Vec<SeenInstance> = ranked
        .into_iter()
        .take(usize::try_from(INSTANCES_IN_ALL).unwrap_or(usize::MAX))
        .map(|(_, seen)| seen.clone())
        .collect();
    chosen.sort_by_key(|seen| seen.id);
    chosen
}

/// As every database has it, with the UUID at its end.
fn identity(life: u64, uuid: &str) -> String {
    format!("memory/{life}/{uuid}")
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("tables", &self.tables).finish_non_exhaustive()
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn epochs(&self) -> Option<&dyn Epochs> {
        Some(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        let tables = self.tables();
        let highest = tables.highest(component);
        let of = tables.instances.values().filter(|seen| seen.component == component.as_str());
        let asked = tables.asked.get(component.as_str());
        let standing = tables.intents.get(component.as_str());
        let claimed = of.filter_map(|seen| tables.led.get(&seen.id)).max().copied();
        Ok(Looked {
            row: tables.rows.get(component.as_str()).cloned(),
            database_now: self.clock.wall_ms(),
            standing_ttl: standing.map(|intent| intent.ttl),
            preferred: standing.and_then(|intent| intent.preferred.clone()),
            cooldown: Duration::from_secs(standing.map_or(0, |intent| intent.cooldown.into())),
            paused: asked.is_some_and(|asked| asked.paused.is_some()),
            request: asked.and_then(|asked| asked.request.as_ref()).map(|posted| posted.request.clone()),
            past: Past::of(true, highest, claimed),
            life: self.life(&tables),
        })
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        Ok(self.apply(&take.term.component, |tables, row, now| {
            let highest = tables.highest(&take.term.component).unwrap_or(0);
            let paused = tables.asked.get(take.term.component.as_str());
            let paused = paused.is_some_and(|asked| asked.paused.is_some());
            (!paused && rules::same_life(&take.life_id, &self.life(tables)))
                .then(|| rules::take(row, highest, take, now))
                .flatten()
        }))
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        Ok(self.apply(&term.component, |_, row, now| rules::renew(row, term, now)))
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        Ok(self.apply(&term.component, |_, row, _| rules::release(row, term)))
    }

    fn hints(&self) -> Hints {
        let mut changed = self.changed.subscribe();
        Hints::fed_by(|hints| async move {
            hints.set_flowing(true);
            loop {
                let hint = match changed.recv().await {
                    Ok(component) => Hint::Component(component),
                    Err(broadcast::error::RecvError::Lagged(_)) => Hint::Any,
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if !hints.send(hint) {
                    return;
                }
            }
        })
    }

    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }

    fn limit_lock_wait(&self, _: Duration) {}

    fn pace(&self) -> Option<Pace> {
        None
    }
}

#[async_trait]
impl Epochs for MemoryStore {
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        let now = self.clock.wall_ms();
        Ok(self.write_record(|recorded, identity| rules::begin(recorded, new, identity, now, STEP)))
    }

    async fn settle(&self, waited_out: &LifeId) -> Result<Outcome, StoreError> {
        Ok(self.write_record(|recorded, identity| rules::settle(recorded, waited_out, identity)))
    }

    async fn release_late(&self, term: &TermKey, within: &LifeId) -> Result<Outcome, StoreError> {
        Ok(self.apply(&term.component, |tables, row, _| {
            rules::release_late(row, term, within, &self.life(tables))
        }))
    }
}

#[async_trait]
impl Directory for MemoryStore {
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        let tables = self.tables();
        let asked = |name: &&String| names.contains(name);
        let database_now = self.clock.wall_ms();
        let alive = |seen: &&SeenInstance| asked(&&seen.component) && !seen.is_over(database_now);
        let rows: BTreeMap<String, LeaseRow> = tables
            .rows
            .iter()
            .filter(|(name, _)| asked(name))
            .map(|(n, row)| (n.clone(), row.clone()))
            .collect();
        let intents =
            tables.intents.iter().filter(|(name, _)| asked(name)).map(|(n, i)| (n.clone(), i.clone()));
        let operators = tables.asked.iter().filter(|(name, of)| asked(name) && !of.is_empty());
        Ok(Snapshot {
            intents: intents.collect(),
            asked: operators.map(|(name, of)| (name.clone(), of.clone())).collect(),
            database_now,
            life: self.life(&tables),
            instances: instances.then(|| bounded(tables.instances.values().filter(alive), &rows)),
            rows,
        })
    }

    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        let (mut tables, now) = (self.tables(), self.clock.wall_ms());
        let known = id.and_then(|id| tables.instances.get(&id));
        let seen = known.and_then(|seen| seen.beat(says, now)).unwrap_or_else(|| {
            tables.last_instance += 1;
            SeenInstance::begin(tables.last_instance, says, now)
        });
        let id = seen.id;
        if let Some(version) = says.leads {
            let led = tables.led.entry(id).or_default();
            *led = version.max(*led);
        }
        tables.instances.insert(id, seen);
        Ok(Some(id))
    }

    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let since =
            self.clock.wall_ms().saturating_sub(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let before = tables.instances.len();
        tables.instances.retain(|_, seen| seen.heartbeat >= since);
        let MemoryTables { instances, led, .. } = &mut *tables;
        led.retain(|id, _| instances.contains_key(id));
        Ok((before - tables.instances.len()) as u64)
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        self.tables().intents.insert(component.as_str().to_owned(), intent);
        Ok(())
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.tables().intents.remove(component.as_str());
        Ok(())
    }

    async fn pause(
        &self,
        component: &ComponentName,
        said: &Said,
        over: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        Ok(self.asked(component, |_, asked| Outcome::of(asked.pause(said, over))))
    }

    async fn resume(&self, component: &ComponentName, of: Option<&str>) -> Result<Outcome, StoreError> {
        Ok(self.asked(component, |_, asked| Outcome::of(asked.resume(of))))
    }

    async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        let posted = Posted { request: request.clone(), said: said.clone(), at: self.clock.wall_ms() };
        Ok(self.asked(component, |row, asked| Outcome::of(asked.post(row, posted, replaces))))
    }

    async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError> {
        Ok(self.asked(component, |_, asked| Outcome::of(asked.withdraw(id))))
    }

    async fn components(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        let tables = self.tables();
        let names = tables.rows.keys().filter(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(names.take(limit as usize).cloned().collect())
    }

    async fn history(
        &self,
        component: &ComponentName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Term>, StoreError> {
        let tables = self.tables();
        let terms = tables.history.get(component.as_str()).into_iter().flat_map(BTreeMap::values).rev();
        let terms = terms.filter(|term| before.is_none_or(|before| term.version < before));
        Ok(terms.take(limit as usize).cloned().collect())
    }

    async fn end_term(
        &self,
        component: &ComponentName,
        version: i64,
        ending: &Ending,
    ) -> Result<Outcome, StoreError> {
        let (mut tables, now) = (self.tables(), self.clock.wall_ms());
        let MemoryTables { history, asked, .. } = &mut *tables;
        let posted = asked.get(component.as_str()).and_then(|asked| asked.request.as_ref());
        let term = history.get_mut(component.as_str()).and_then(|terms| terms.get_mut(&version));
        let end = term.as_deref().and_then(|term| rules::end(term, ending, posted, now));
        Ok(Outcome::of(term.zip(end).map(|(term, end)| term.end = Some(end)).is_some()))
    }

    async fn prune_history(&self, component: &ComponentName, kept: Retention) -> Result<u64, StoreError> {
        let (mut tables, now) = (self.tables(), self.clock.wall_ms());
        let Some(terms) = tables.history.get_mut(component.as_str()) else { return Ok(0) };
        let before = terms.len();
        let mut places = before;
        let mut left = PRUNED_AT_ONCE;
        terms.retain(|_, term| {
            places -= 1;
            let looks = left > 0;
            left = left.saturating_sub(1);
            !(looks && rules::may_be_forgotten(term, places, kept, now))
        });
        Ok((before - terms.len()) as u64)
    }
}
