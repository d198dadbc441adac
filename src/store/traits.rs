//! The four small traits, and what their calls give and take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::asked::{Asked, Said, StandingIntent};
use super::error::StoreError;
use super::hints::Hints;
use super::history::{Ending, Retention, Term};
use super::names::Names;
use super::roster::Rostered;
use crate::election::machine::Looked;
use crate::election::{ComponentName, LeaseRow, Life, LifeId, NewEpoch, Pace, Request, Take, TermKey};
use crate::membership::{Instance, SeenInstance};

/// How a compare-and-set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row is changed.
    Applied,
    /// The row is not as expected; nothing was changed.
    Lost,
}

impl Outcome {
    pub(crate) fn of(applied: bool) -> Self {
        if applied { Self::Applied } else { Self::Lost }
    }
}

/// Characters of a holder that are read: as many as a status can show.
#[cfg(feature = "_sql")]
pub(in crate::store) const HOLDER_READ: i64 = 1024;
/// So many instances of a component are read, and so many in all.
pub(crate) const INSTANCES_EACH: i64 = 256;
pub(in crate::store) const INSTANCES_IN_ALL: i64 = 20_000;
/// So many lines of a history are deleted by one call, so that it holds no lock for long.
pub(crate) const PRUNED_AT_ONCE: u32 = 1_000;

/// What one look shows of the components that it asked for, and of no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By component; those that have one.
    pub rows: BTreeMap<String, LeaseRow>,
    /// By component; those that have one.
    pub intents: BTreeMap<String, StandingIntent>,
    /// What operators ask, by component; those of which something is asked.
    pub asked: BTreeMap<String, Asked>,
    /// The database's clock, ms since 1970 UTC.
    pub database_now: i64,
    /// Of the database that answered.
    pub life: Life,
    /// Those that are alive; `None` where they were not asked for, or the database keeps none. At most 256 of a
    /// component (its holder, then those that say that they lead, then the newest) and 20,000 in all.
    pub instances: Option<Vec<SeenInstance>>,
}

/// A place that keeps leases: what a participant needs.
///
/// What else a store can do it says by implementing [`Epochs`], [`Directory`] and [`Roster`] and by returning itself from
/// the three methods of these names; so no method has to answer that it does nothing here. No method has a
/// default: a store that wraps another one and forgets a method does not compile.
///
/// Promises that every store keeps:
///
/// * A call is **one statement and one round trip** once its connection stands; a look that asks for instances is two.
/// * Dropping the future of a call gives it up: the connection it used is closed, never reused and
///   never sent a cancel, and the outcome is *unknown*: it may have been applied, or may be applied later.
///   A connection that is still being made goes on: the next call uses it.
/// * A take is **one transaction**: compare-and-set on the row, on the life of the database (the
///   server's own identity, evaluated then and there, equal to the recorded one and to the one that the
///   decision saw; and the epoch), and the new line in the history, or nothing.
/// * A lost race is an ordinary answer ([`Outcome::Lost`]), not an error.
/// * What is read is bounded: one row of each component that was asked for, a holder's first 1,024 characters.
/// * Times in the row are the database's own clock at execution, in ms since 1970 UTC.
/// * No secret ever appears in an error or in `Debug`.
#[async_trait]
pub trait LeaseStore: fmt::Debug + Send + Sync + 'static {
    /// For people: kind, host and database, without credentials.
    fn describe(&self) -> String;

    /// `Some` where the store can tell one life of the database from another.
    fn epochs(&self) -> Option<&dyn Epochs>;

    /// `Some` where the store can list who takes part.
    fn directory(&self) -> Option<&dyn Directory>;

    /// `Some` where the store keeps a record and reports beside each lease.
    fn roster(&self) -> Option<&dyn Roster>;

    /// What a participant needs to decide: the row, its past, the standing intent, the database's
    /// clock and which life of the database this is.
    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError>;

    /// Begins a term by compare-and-set on version and renew time, or by insertion on "no row and no
    /// later version in the history"; both only in the life of the database that the take names.
    async fn take(&self, take: &Take) -> Result<Outcome, StoreError>;

    /// Extends a term; always changes the row. [`Outcome::Lost`] means definitely lost.
    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError>;

    /// Empties the holder; version and row stay.
    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError>;

    /// Wake-ups: something may have changed. Hints only; a participant that misses one finds out by polling.
    /// Costs at most one more connection, closed when the [`Hints`] are dropped, and none before the
    /// first call was answered.
    fn hints(&self) -> Hints;

    /// Tells all who listen that the holder of this component has changed. A call of its own after a take
    /// or a release that was applied, so that neither can fail or wait for it. An error costs speed only, and
    /// where changes are noticed without it, there is nothing to send.
    async fn notify(&self, component: &ComponentName) -> Result<(), StoreError>;

    /// The longest a statement may wait on the server for a row lock, so that queued renewals of a
    /// dead participant do not revive its row. In force from the next statement.
    fn limit_lock_wait(&self, limit: Duration);

    /// How fast the database answered, as far as that was measured.
    fn pace(&self) -> Option<Pace>;
}

/// The record of which life of which database this is: `src/election/life.rs` says what it is for.
#[async_trait]
pub trait Epochs: Send + Sync {
    /// Records that an epoch begins, by compare-and-set on what was recorded: the server's identity,
    /// evaluated now, and an epoch by [`next_epoch`](super::rules::next_epoch). Clears `settled`.
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError>;

    /// Records that the quarantine of exactly this life was waited out.
    async fn settle(&self, waited_out: &LifeId) -> Result<Outcome, StoreError>;

    /// [`LeaseStore::release`] for a term that is over for its holder, however late it arrives: only in the life
    /// of the database that is named, evaluated as for a take.
    async fn release_late(&self, term: &TermKey, within: &LifeId) -> Result<Outcome, StoreError>;
}

/// All components of a store and who takes part: what a controller reads and asks for. Participants enter
/// themselves in it.
#[async_trait]
pub trait Directory: LeaseStore {
    /// Rows and intents of these components in one query, and their instances in another where these are asked for
    /// too: they may be a moment newer.
    /// Rows of other components are not read, however many there are: anybody may use the table.
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError>;

    /// A participant's sign of life: moves the heartbeat of its row `id`, and begins a new row if that
    /// row is missing or its heartbeat is out of date. The row's id; `None` where the tables of this very database have
    /// no room for it, because they are somebody else's.
    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError>;

    /// Deletes instances whose last sign of life is older than this (the controller's call); how many.
    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Writes the standing intent of a component (the controller's call).
    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError>;

    /// Removes the standing intent of a component that no resource claims any more.
    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError>;

    /// From now on nobody takes the component's row; its leader goes on. By compare-and-set: only in place of the pause
    /// that was seen (`over`: who had made it; `None`: there was none). An operator's call, as all that follow.
    async fn pause(&self, of: &ComponentName, said: &Said, over: Option<&str>)
    -> Result<Outcome, StoreError>;

    /// Ends the pause of this one (`None`: of anybody). [`Outcome::Lost`]: there was none, or it is another's.
    async fn resume(&self, component: &ComponentName, of: Option<&str>) -> Result<Outcome, StoreError>;

    /// Writes a request down, by compare-and-set: only in the term that it is about, and only in place of the
    /// request that was seen (`replaces`; `None`: there was none).
    async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError>;

    /// Takes a request back. [`Outcome::Lost`]: another one is there, or none.
    async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError>;

    /// The names of the components that have a row, in the order of the database's column: those after this one, so
    /// many at most. As they stand there: anybody may use the table.
    async fn components(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError>;

    /// The terms of a component, the newest first: those before this version, so many at most.
    async fn history(
        &self,
        component: &ComponentName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Term>, StoreError>;

    /// Writes down how a term ended: once, and nothing else of its line. A call of its own after the one that ended
    /// it, so that neither can fail or wait for it. [`Outcome::Lost`]: the end is written already, or there is no such
    /// line.
    async fn end_term(
        &self,
        component: &ComponentName,
        version: i64,
        ending: &Ending,
    ) -> Result<Outcome, StoreError>;

    /// Deletes the oldest lines of a component's history that need not be kept: at most 1,000 by one call, and never
    /// the last. How many (the controller's call).
    async fn prune_history(&self, component: &ComponentName, kept: Retention) -> Result<u64, StoreError>;
}

/// A store that keeps a record and reports beside each lease.
#[async_trait]
pub trait Roster: LeaseStore {
    /// The lease with its record, read at one moment, and then what these members say.
    async fn read_roster(
        &self,
        component: &ComponentName,
        members: &BTreeSet<String>,
    ) -> Result<Rostered, StoreError>;

    /// Replaces the record. [`Outcome::Lost`]: the lease is no longer held by this holder at this version, so nothing was
    /// written.
    async fn record(&self, term: &TermKey, record: &str) -> Result<Outcome, StoreError>;

    /// From now on [`LeaseStore::look`] answers of this very store that versions up to this one were granted: so the next take that is decided by it
    /// begins above. For those who know it from elsewhere when the lease has been deleted. What is lower than before is ignored. A
    /// version that the store cannot exceed is ignored, too.
    fn begin_above(&self, component: &ComponentName, version: i64);

    /// Replaces what a member says. Only that member calls this.
    async fn report(&self, component: &ComponentName, member: &str, says: &str) -> Result<(), StoreError>;

    /// Replaces what is asked of a member; `None`: nothing more. An operator's call.
    async fn wish(
        &self,
        component: &ComponentName,
        member: &str,
        wish: Option<&str>,
    ) -> Result<(), StoreError>;
}
