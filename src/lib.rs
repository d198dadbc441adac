//! Leader election for a service of which one instance may work at a time: by one row in the database that its
//! replicas share anyway (PostgreSQL, MySQL, MariaDB or SQLite), with a fencing token for each term.
//!
//! ```
//! # use std::error::Error;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use component_lease::{LeaseStore, Participant, TermObserver, component};
//!
//! /// Competes for the component `scheduler` and does its work while it leads.
//! async fn lead(store: Arc<dyn LeaseStore>) -> Result<(), Box<dyn Error + Send + Sync>> {
//!     let participant =
//!         Participant::builder(store, component("scheduler")?).ttl(Duration::from_secs(30)).start()?;
//!     // `work` is called once in each term. When a term ends it is dropped where it awaits; when it returns, fails
//!     // or panics, the lease is given back, and then its outcome is ours.
//!     participant.run(async |term| work(term).await).await?;
//!     Ok(())
//! }
//!
//! async fn work(term: TermObserver) -> Result<(), Box<dyn Error + Send + Sync>> {
//!     println!("leading under version {}", term.version()); // hand it to what can refuse an older one
//!     // …
//! #   outcome(term.version())?;
//!     Ok(())
//! }
//! #
//! # fn outcome(version: i64) -> Result<(), Box<dyn Error + Send + Sync>> {
//! #     match version { 1 => Ok(()), 2 => Err("the work fails".into()), _ => panic!("the work panics") }
//! # }
//! # fn main() {
//! #     use component_lease::{MemoryStore, SystemClock};
//! #     let store: Arc<dyn LeaseStore> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
//! #     let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! #     for version in 1..=3 {
//! #         let led = std::panic::AssertUnwindSafe(|| runtime().block_on(lead(store.clone())));
//! #         let led = std::panic::catch_unwind(led);
//! #         assert_eq!(led.map(|led| led.is_ok()).ok(), [Some(true), Some(false), None][version as usize - 1]);
//! #         let row = runtime().block_on(store.look(&component("scheduler").unwrap())).unwrap().row.unwrap();
//! #         assert!(row.is_free() && row.version == version, "the lease is left held: {row:?}");
//! #     }
//! # }
//! ```
//!
//! # From nothing to a leader
//!
//! 1. **Take one store**: `component-lease = { version = "0.1", default-features = false, features = ["sqlite"] }`, or
//!    `mysql`; `postgres` is the default. Nothing of Kubernetes, HTTP or command lines is compiled.
//! 2. **Make the tables**, once: [`install`] (or [`migrate`], or the program's `component-lease migrate`). Several
//!    processes may do it at the same time.
//! 3. **Open a store** from a [`Source`] with [`open`]: one for each participant. Nothing is connected yet; a database that
//!    is away is waited for.
//! 4. **Compete**: [`Participant::builder`], [`start`](ParticipantBuilder::start), then [`Participant::run`]. In a pod
//!    [`component`] puts the pod's namespace before the name, so that it is what a `ComponentLease` resource means.
//! 5. **Ask in passing**, from anywhere: [`Participant::is_leader`] (two atomic loads and a clock reading), or
//!    [`Participant::term`] for the version and [how long it is certain to last](TermObserver::valid_for).
//! 6. **Pass the fencing token on**: [`TermObserver::version`] rises from term to term. Whatever is written under it
//!    should refuse an older one: a process that sleeps between asking and writing cannot be helped otherwise.
//! 7. **End in order**: [`Participant::shutdown`] asks the work to stop, renews the lease meanwhile, releases it, and
//!    tells whether that was acknowledged. A successor then need not wait for a ttl.
//! 8. **Health**: [`Participant::check_alive`] for a liveness probe, [`Participant::set_healthy`] for a program that
//!    cannot do its work, [`Participant::counters`] for metrics. Readiness is not leadership: a standby is ready.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # mod m {
//! use std::error::Error;
//! use std::sync::Arc;
//!
//! use component_lease::{Install, LeaseStore, Source, install, open};
//!
//! pub async fn database() -> Result<Arc<dyn LeaseStore>, Box<dyn Error + Send + Sync>> {
//!     let source = Source::url("postgres://scheduler@db.example/lease?sslmode=verify-full")
//!         .password_file("/run/secrets/lease-password");
//!     install(&source, Install::default()).await?;
//!     Ok(open(source, "scheduler")?)
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! **In tests** [`MemoryStore`] takes the place of the database: it is what the databases are held against. Two
//! participants with one `Arc<MemoryStore>` elect as two processes do; with tokio's paused time and a
//! [`Clock`](clock::Clock) of your own an hour passes in no time.
//!
//! # What to know
//!
//! * **Units**: every span of time is a [`Duration`](std::time::Duration); a ttl has whole seconds. The integers of a row
//!   ([`LeaseRow`](election::LeaseRow)) are as the table has them: seconds, and milliseconds since 1970 UTC.
//! * **Cancel safety** is said of each method that is `async`. Dropping [`Participant::run`] or a [`Participant`] gives the
//!   lease back in the background, for which the runtime must go on for a moment.
//! * **Panics**: the library has none of its own to await; one of the work goes on in the caller, after the release. A
//!   watchdog thread aborts the process if work outlives its term ([`ParticipantBuilder::on_overrun`] changes that).
//! * **Errors** have a source, and never say what their source says: print the chain. A [`StoreError`] is complete in
//!   itself; its source is for programs. While a participant competes, a database that fails is no error but logged
//!   ([`tracing`]), and told by [`Participant::watch`].
//! * **Spans**: `term` for the work of a term, and for the store's calls in it; `store` (debug) for each call.
//!
//! # What is stable
//!
//! What this page names at the root, and the modules [`participant`] and [`store`]. [`election`], [`membership`], [`name`] and
//! [`clock`] are there for authors of stores and for tests: they may change in any release before 1.0. With the feature
//! `cli`, which builds the program `component-lease`, further modules can be seen; they are no part of the library.
#![deny(unsafe_code, missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// They panic where the reader has gone: `process::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
pub mod election;
pub mod membership;
pub mod name;
pub mod participant;
pub mod store;

#[doc(hidden)]
pub mod rate;

// The program's own: no part of the library, however public for `main.rs` and its tests.
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod agent;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod api;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod console;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod controller;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod database;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod db;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod member;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod operator;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod primary;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod process;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod routing;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod run;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod supervise;
#[cfg(feature = "cli")]
#[allow(missing_docs)]
pub mod tryout;

pub use clock::SystemClock;
pub use election::{ComponentName, HolderId, NameError, StopReason};
pub use membership::Whereabouts;
pub use participant::{
    BuildError, Drained, ElectionFailed, HeldTerm, Participant, ParticipantBuilder, Stalled, TermObserver,
    component,
};
pub use store::{Directory, Epochs, LeaseStore, MemoryStore, StoreError};
#[cfg(feature = "_sql")]
pub use store::{Install, MigrationReport, Source, install, migrate, open};
