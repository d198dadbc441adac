//! The stores that the suites run on, each on a database of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use component_lease::clock::SystemClock;
use component_lease::contract;
use component_lease::election::{ComponentName, Expected, HolderId, LeaseRow, LifeId, Take, TermKey};
use component_lease::store::{
    self, Directory, LeaseStore, MemoryStore, Names, Outcome, Snapshot, Source, StoreError,
};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::postgres::{self, Database, PgBouncer, Server};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};
use tempfile::TempDir;

/// The most that anything may take that is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A store to test, and what it stands on.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Directory>,
    source: Option<Source>,
    /// The same database of a server that is not there.
    gone: Option<String>,
    file: Option<TempDir>,
    _database: Option<Box<dyn Send + Sync>>,
}

/// Nobody listens there.
const NOBODY: u16 = 1;

impl Bench {
    pub(crate) fn memory() -> Self {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        Self { store, source: None, gone: None, file: None, _database: None }
    }

    pub(crate) async fn sqlite() -> Self {
        let file = SqliteFile::migrated().await;
        let store = store::open(file.source(), "contract").unwrap();
        Self { store, source: Some(file.source()), gone: None, file: Some(file.folder), _database: None }
    }

    pub(crate) async fn postgres() -> Self {
        Self::postgres_on(postgres::shared().await.unwrap()).await
    }

    pub(crate) async fn postgres_18() -> Self {
        Self::postgres_on(postgres::shared_newest().await.unwrap()).await
    }

    /// PostgreSQL, behind a PgBouncer that pools transactions; its tables are made through it, too.
    pub(crate) async fn pgbouncer() -> Self {
        let pooler = PgBouncer::shared().await.unwrap();
        let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
        let source = Source::url(pooler.url(&database.name));
        store::migrate(&source).await.unwrap();
        let store = store::open(source.clone(), "contract").unwrap();
        let gone = Some(postgres::shared().await.unwrap().url_through(NOBODY, &database.name));
        Self { store, source: Some(source), gone, file: None, _database: Some(Box::new(database)) }
    }

    async fn postgres_on(server: &Server) -> Self {
        let database = migrated_database(server).await;
        let source = Source::url(&database.url);
        let gone = Some(server.url_through(NOBODY, &database.name));
        let store = store::open(source.clone(), "contract").unwrap();
        Self { store, source: Some(source), gone, file: None, _database: Some(Box::new(database)) }
    }

    pub(crate) async fn mysql(kind: Kind) -> Self {
        let server = mysql::shared(kind).await.unwrap();
        let database = migrated_mysql(server).await;
        let source = Source::url(&database.url);
        let gone = Some(server.url_through(NOBODY, &database.name));
        let store = store::open(source.clone(), "contract").unwrap();
        Self { store, source: Some(source), gone, file: None, _database: Some(Box::new(database)) }
    }
}

#[async_trait]
impl contract::Bench for Bench {
    fn open(&self) -> Arc<dyn LeaseStore> {
        match &self.source {
            Some(source) => store::open(source.clone(), "contract").unwrap(),
            None => self.store.clone(),
        }
    }

    async fn retryable(&self) -> Option<StoreError> {
        let failed = match &self.file {
            // Somebody has the file's lock.
            Some(file) => {
                let term = held(&*self.store, "locked", "a").await;
                let mut other =
                    SqliteConnectOptions::new().filename(file.path().join(FILE)).connect().await.unwrap();
                other.execute("BEGIN IMMEDIATE").await.unwrap();
                self.store.limit_lock_wait(Duration::from_millis(1));
                self.store.renew(&term).await.map(drop)
            }
            // Only memory is always there.
            None => {
                let gone = self.gone.clone()?;
                store::open(Source::url(gone), "contract").unwrap().look(&component("c")).await.map(drop)
            }
        };
        failed.err()
    }
}

pub(crate) async fn migrated_database(server: &Server) -> Database {
    let database = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(&database.url)).await.unwrap();
    database
}

pub(crate) async fn migrated_mysql(server: &mysql::Server) -> mysql::Database {
    let database = server.fresh_database().await.unwrap();
    store::migrate(&Source::url(&database.url)).await.unwrap();
    database
}

const FILE: &str = "lease.db";

/// A SQLite file in a folder of its own.
pub(crate) struct SqliteFile {
    pub(crate) folder: TempDir,
}

impl SqliteFile {
    pub(crate) fn none_yet() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn migrated() -> Self {
        let file = Self::none_yet();
        store::migrate(&file.source()).await.unwrap();
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    pub(crate) fn source(&self) -> Source {
        Source::url(format!("sqlite:{}", self.path().display()))
    }

    pub(crate) fn store(&self) -> Arc<dyn Directory> {
        store::open(self.source(), "test").unwrap()
    }
}

pub(crate) fn component(name: &str) -> ComponentName {
    ComponentName::new(name).unwrap()
}

pub(crate) fn term(name: &str, holder: &str, version: i64) -> TermKey {
    TermKey { component: component(name), holder: HolderId::new(holder).unwrap(), version }
}

/// The call, in the life of the database that this very moment is.
pub(crate) async fn taking(store: &dyn Directory, take: &Take) -> Result<Outcome, StoreError> {
    let life_id = store.look(&take.term.component).await?.life.id();
    store.take(&Take { life_id, ..take.clone() }).await
}

/// A take of this term by somebody who saw this row; for [`taking`].
pub(crate) fn take(term: &TermKey, seen: Option<&LeaseRow>) -> Take {
    Take { term: term.clone(), ttl: 7, expected: Expected::of(seen), life_id: LifeId::default() }
}

/// One look at these components, without instances.
pub(crate) async fn look_at(store: &dyn Directory, names: &[&str]) -> Snapshot {
    store.look_at(&named(names), false).await.unwrap()
}

/// One look at these components and their instances.
pub(crate) async fn alive_at(store: &dyn Directory, names: &[&str]) -> Snapshot {
    store.look_at(&named(names), true).await.unwrap()
}

pub(crate) fn named(names: &[&str]) -> Names {
    names.iter().map(|name| component(name)).collect()
}

pub(crate) async fn row(store: &dyn Directory, name: &str) -> Option<LeaseRow> {
    store.look(&component(name)).await.unwrap().row
}

/// The first term of a component, taken on a missing row.
pub(crate) async fn held(store: &dyn Directory, name: &str, holder: &str) -> TermKey {
    let term = term(name, holder, 1);
    assert_eq!(taking(store, &take(&term, None)).await.unwrap(), Outcome::Applied);
    term
}

pub(crate) fn misconfigured<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Misconfigured { message: why, .. }) => why,
        other => panic!("expected a misconfiguration, got {other:?}"),
    }
}

pub(crate) fn retryable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Retryable { message: why, .. }) => why,
        other => panic!("expected something that passes, got {other:?}"),
    }
}

/// Checks that a message has each of these pieces.
pub(crate) fn says(text: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(text.contains(piece), "{piece:?} is missing in: {text}");
    }
}
