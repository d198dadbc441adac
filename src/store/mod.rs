//! Where the row lives. Four small traits ([`LeaseStore`], [`Epochs`], [`Directory`], [`Roster`]), one behaviour on
//! every database; `memory` is the specification, and the contract suite (`src/contract`) holds the others
//! against the same behaviours.

mod asked;
mod bump;
mod error;
mod hints;
mod history;
#[cfg(feature = "cli")]
pub mod kubernetes;
mod memory;
mod names;
mod roster;
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
mod traits;
mod uuid;

pub use asked::{Asked, Posted, Said, SaidError, StandingIntent, check_id};
pub use bump::{Begun, begin_epoch};
pub use error::StoreError;
pub use hints::{Hint, HintSender, Hints};
pub use history::{End, EndReason, Ending, Retention, Term, When};
pub use memory::{MemoryStore, MemoryTables};
pub use names::Names;
pub use roster::{Rostered, TEXT_MAX};
#[cfg(feature = "cli")]
pub(crate) use sql::open_rosters;
#[cfg(feature = "_sql")]
pub use sql::{Install, MigrationReport, Source, install, migrate, open};
pub use traits::{Directory, Epochs, LeaseStore, Outcome, Roster, Snapshot};
#[cfg(feature = "cli")]
pub(crate) use traits::{INSTANCES_EACH, PRUNED_AT_ONCE};
#[cfg(feature = "cli")]
pub(crate) use uuid::new_uuid;

#[cfg(all(test, feature = "sqlite"))]
#[path = "store_tests.rs"]
mod tests;
