//! Where the row lives. Three small traits ([`LeaseStore`], [`Epochs`], [`Directory`]), one behaviour on every
//! database; `memory` is the specification, and the contract suite (`src/contract`) holds the others
//! against the same behaviours.
//!
//! Promises that every store keeps:
//!
//! * A call is **one statement and one round trip** once its connection stands; a look that asks for instances is two.
//! * Dropping the future of a call gives it up: the connection it used is closed, never reused and
//!   never sent a cancel, and the outcome is *unknown*: it may have been applied, or may be applied later.
//!   A connection that is still being made goes on: the next call uses it.
//! * A take is **one transaction**: compare-and-set on the row, on the life of the database (the
//!   server's own identity, evaluated then and there, equal to the recorded one and to the one that the
//!   decision saw; and the epoch), and the new line in the history, or nothing.
//! * A lost race is an ordinary answer ([`Outcome::Lost`]), not an error.
//! * What is read is bounded: one row of each component that was asked for, a holder's first 1,024 characters.
//! * Times in the row are the database's own clock at execution, in ms since 1970 UTC.
//! * No secret ever appears in an error or in `Debug`.

mod asked;
mod bump;
mod error;
mod hints;
#[cfg(feature = "cli")]
pub mod kubernetes;
mod memory;
mod names;
pub mod rules;
#[cfg(feature = "_sql")]
#[cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        unused_imports,
        reason = "what one kind of database needs is unused where that is not built"
    )
)]
mod sql;
mod uuid;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use asked::{Asked, Posted, Said, SaidError, check_id};
pub use bump::{Begun, begin_epoch};
pub use error::StoreError;
pub use hints::{Hint, HintSender, Hints};
pub use memory::{MemoryStore, MemoryTables};
pub use names::Names;
#[cfg(feature = "_sql")]
pub use sql::{Install, MigrationReport, Source, install, migrate, open};

use crate::election::machine::Looked;
use crate::election::{ComponentName, Generation, LeaseRow, Life, NewEpoch, Pace, Request, Take, TermKey};
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

/// What the controller writes for participants to find: the standing part of `component_lease_intent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingIntent {
    /// Seconds; in force from a participant's next term.
    pub ttl: u32,
}

/// Characters of a holder that are read: as many as a status can show.
#[cfg(feature = "_sql")]
const HOLDER_READ: i64 = 1024;
/// So many instances of a component are read, and so many in all.
const INSTANCES_EACH: i64 = 256;
const INSTANCES_IN_ALL: i64 = 20_000;

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
/// What else a store can do it says by implementing [`Epochs`] and [`Directory`] and by returning itself from
/// the two methods of these names; so no method has to answer that it does nothing here. No method has a
/// default: a store that wraps another one and forgets a method does not compile.
#[async_trait]
pub trait LeaseStore: fmt::Debug + Send + Sync + 'static {
    /// For people: kind, host and database, without credentials.
    fn describe(&self) -> String;

    /// `Some` where the store can tell one life of the database from another.
    fn epochs(&self) -> Option<&dyn Epochs>;

    /// `Some` where the store can list who takes part.
    fn directory(&self) -> Option<&dyn Directory>;

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
    /// evaluated now, and an epoch by [`next_epoch`](rules::next_epoch). Clears `settled`.
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError>;

    /// Records that the quarantine of exactly this generation was waited out.
    async fn settle(&self, waited_out: &Generation) -> Result<Outcome, StoreError>;

    /// [`LeaseStore::release`] for a term that is over for its holder, however late it arrives: only in the life
    /// of the database that is named, evaluated as for a take.
    async fn release_late(&self, term: &TermKey, within: &Generation) -> Result<Outcome, StoreError>;
}

/// All components of a store and who takes part: what a controller reads and asks for. Participants enter
/// themselves in it.
#[async_trait]
pub trait Directory: LeaseStore {
    /// Rows and intents of these components in one query, and their instances in another where these are asked for
    /// too: they may be a moment newer.
    /// Rows of other components are not read, however many there are: anybody may use the table.
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError>;

    /// A participant's sign of life: moves the heartbeat of its row `id`, and begins a new row where there
    /// is none or its heartbeat is out of date. The row's id; `None` where the tables of this very database have
    /// no room for it, because they are somebody else's.
    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError>;

    /// Deletes instances whose last sign of life is older than this (the controller's call); how many.
    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Writes the standing intent of a component (the controller's call).
    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError>;

    /// Removes the standing intent of a component that no resource claims any more.
    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError>;

    /// From now on nobody takes the component's row; its leader goes on. An operator's call, as all that follow.
    async fn pause(&self, component: &ComponentName, said: &Said) -> Result<(), StoreError>;

    /// Ends a pause. [`Outcome::Lost`]: there was none.
    async fn resume(&self, component: &ComponentName) -> Result<Outcome, StoreError>;

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
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::Arc;

    use super::{LeaseStore, MemoryStore, Outcome, Source, migrate, open};
    use crate::clock::SystemClock;
    use crate::election::{ComponentName, Expected, Generation, HolderId, Take, TermKey};

    #[tokio::test]
    async fn a_take_that_was_decided_on_another_life_of_the_database_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::url(format!("sqlite:{}", folder.path().join("lease.db").display()));
        migrate(&source).await.unwrap();
        let stores: [Arc<dyn LeaseStore>; 2] =
            [Arc::new(MemoryStore::new(Arc::new(SystemClock))), open(source, "test").unwrap()];
        for store in stores {
            let component = ComponentName::new("c").unwrap();
            let term = TermKey { component, holder: HolderId::new("a").unwrap(), version: 1 };
            let expected = Expected::Missing { highest: 0 };
            let right = store.look(&term.component).await.unwrap().life.generation();
            let others = [
                Generation::default(),
                Generation { identity: "another".to_owned(), ..right.clone() },
                Generation { epoch: right.epoch + 1, ..right.clone() },
            ];
            for other in others {
                let take = Take { term: term.clone(), ttl: 5, expected: expected.clone(), generation: other };
                assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost);
                assert_eq!(store.look(&take.term.component).await.unwrap().row, None);
            }
            let take = Take { term, ttl: 5, expected, generation: right };
            assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
        }
    }
}
