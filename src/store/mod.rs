//! Where the row lives. One trait, one behaviour on every database; `memory` is the specification,
//! and the contract suite (`tests/it/store_contract.rs`) holds the others against it.
//!
//! Promises that every store keeps:
//!
//! * A call is **one statement and one round trip** once its connection stands.
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

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod address;
mod bump;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod connect;
mod error;
mod hints;
mod memory;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod migration;
#[cfg(feature = "mysql")]
mod mysql;
mod names;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod pace;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod schema;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only PostgreSQL has a second connection"))]
mod slot;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod suspicion;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod tls;
mod uuid;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use bump::{Begun, begin_epoch};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub use connect::{Install, Source, install, migrate, open};
pub use error::StoreError;
pub use hints::{Hint, HintSender, Hints};
pub use memory::{MemoryStore, MemoryTables};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub use migration::MigrationReport;
pub use names::Names;

use crate::election::machine::Looked;
use crate::election::{ComponentName, Generation, LeaseRow, Life, NewEpoch, Pace, Take, TermKey};
use crate::membership::{Instance, SeenInstance};

/// How a compare-and-set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row is changed.
    Applied,
    /// The row is not as expected; nothing was changed.
    Lost,
}

/// What the controller writes for participants to find: the standing part of `component_lease_intent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingIntent {
    /// Seconds; in force from a participant's next term.
    pub ttl: u32,
}

/// What one look shows of the components that it asked for, and of no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By component; those that have one.
    pub rows: BTreeMap<String, LeaseRow>,
    /// By component; those that have one.
    pub intents: BTreeMap<String, StandingIntent>,
    /// The database's clock, ms since 1970 UTC.
    pub database_now: i64,
    /// Of the database that answered.
    pub life: Life,
    /// Those that are alive; `None` where they were not asked for, or the database keeps none. At most 256 of a
    /// component (its holder, then those that say that they lead, then the newest) and 20,000 in all.
    pub instances: Option<Vec<SeenInstance>>,
}

/// One database with the table `component_lease`.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// For people: kind, host and database, without credentials.
    fn describe(&self) -> String;

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

    /// The same for a term that is over for its holder, however late it arrives: only in the life of the
    /// database that is named, evaluated as for a take. Stores that cannot tell lives apart release nothing.
    async fn release_late(&self, _: &TermKey, _within: &Generation) -> Result<Outcome, StoreError> {
        Ok(Outcome::Lost)
    }

    /// Rows and intents of these components, and their instances where these are asked for too, in one query.
    /// Rows of other components are not read, however many there are: anybody may use the table.
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError>;

    /// A participant's sign of life: moves the heartbeat of its row `id`, and begins a new row where there
    /// is none or its heartbeat is out of date. The row's id; `None` where the database keeps none.
    async fn beat(&self, _: &Instance, _id: Option<i64>) -> Result<Option<i64>, StoreError> {
        Ok(None)
    }

    /// Deletes instances whose last sign of life is older than this (the controller's call); how many.
    async fn prune_instances(&self, _older_than: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Writes the standing intent of a component (the controller's call).
    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError>;

    /// Removes the standing intent of a component that no resource claims any more.
    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError>;

    /// Records that an epoch begins, by compare-and-set on what was recorded: the server's identity,
    /// evaluated now, and an epoch by [`next_epoch`](crate::election::life::next_epoch). Clears `settled`.
    /// Stores that keep no record have nothing to say.
    async fn begin_epoch(&self, _: &NewEpoch) -> Result<Outcome, StoreError> {
        Ok(Outcome::Lost)
    }

    /// Records that the quarantine of exactly this generation was waited out.
    async fn settle(&self, _: &Generation) -> Result<Outcome, StoreError> {
        Ok(Outcome::Lost)
    }

    /// Wake-ups: something may have changed. Hints only; whoever misses one finds out by polling.
    /// Costs at most one more connection, closed when the [`Hints`] are dropped, and none before the
    /// first call was answered.
    fn hints(&self) -> Hints;

    /// Tells whoever listens that the holder of this component has changed. A call of its own after a take
    /// or a release that was applied, so that neither can fail or wait for it. An error costs speed only.
    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }

    /// The longest a statement may wait on the server for a row lock, so that queued renewals of a
    /// dead participant do not revive its row. In force from the next statement.
    fn limit_lock_wait(&self, limit: Duration);

    /// How fast the database answered, as far as that was measured.
    fn pace(&self) -> Option<Pace> {
        None
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::Arc;

    use super::{MemoryStore, Outcome, Source, Store, migrate, open};
    use crate::clock::SystemClock;
    use crate::election::{ComponentName, Expected, Generation, HolderId, Take, TermKey};

    #[tokio::test]
    async fn a_take_that_was_decided_on_another_life_of_the_database_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::url(format!("sqlite:{}", folder.path().join("lease.db").display()));
        migrate(&source).await.unwrap();
        let stores: [Arc<dyn Store>; 2] =
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
