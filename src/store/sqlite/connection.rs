//! Opening the file: look at it first, because SQLite's own "unable to open database file" says
//! nothing, then look once at the table, so that what cannot work is said here.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use super::errors::classify;
use super::migrate;
use crate::store::StoreError;

/// How long to wait for the file's lock where nobody limited it.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Which file.
#[derive(Clone)]
pub(super) struct Place {
    path: PathBuf,
    /// What is weaker with somebody else's table is said once, not at every connect.
    said: Arc<AtomicBool>,
}

/// A connection that has been looked at.
pub(super) struct Session {
    pub(super) connection: SqliteConnection,
    /// The limit that this connection was told, ms; 0 for none.
    pub(super) lock_limit: u64,
    pub(super) has_intent: bool,
    file: FileId,
}

/// Device and inode.
type FileId = (u64, u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite file {}", self.path.display())
    }
}

impl Place {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, said: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> Option<FileId> {
        std::fs::metadata(&self.path).ok().map(|file| (file.dev(), file.ino()))
    }

    pub(super) fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(LOCK_LIMIT)
            .thread_name(|_| "sqlite".to_owned())
            .disable_statement_logging()
    }

    pub(super) async fn connect(&self, lock_limit: u64) -> Result<Session, StoreError> {
        let file = self.check_file()?;
        let failed = |error| classify(error, self);
        let connection = self.options().connect().await.map_err(failed)?;
        let mut session = Session { connection, lock_limit, has_intent: false, file };
        session.limit_lock_wait(lock_limit).await.map_err(failed)?;
        session.has_intent = inspect(&mut session.connection, self).await?;
        Ok(session)
    }

    /// The file must be there and writable. It is never opened here: closing a file that SQLite has
    /// open elsewhere in this process would drop SQLite's locks on it.
    fn check_file(&self) -> Result<FileId, StoreError> {
        let wrong = |what: String| StoreError::Misconfigured(format!("{self}: {what}"));
        let folder = self.folder();
        if !folder.is_dir() {
            return Err(wrong(format!(
                "the folder {} does not exist; create it, or correct the path",
                folder.display()
            )));
        }
        let file = match std::fs::metadata(&self.path) {
            Ok(file) if file.is_dir() => return Err(wrong("this is a folder; name a file in it".to_owned())),
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(wrong("the file does not exist; run `component-lease migrate` to create it, or correct the path".to_owned()));
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        self.check_writable(&self.path, "the file")?;
        self.check_writable(folder, "the folder, in which SQLite keeps the -wal and -shm files,")?;
        Ok((file.dev(), file.ino()))
    }

    pub(super) fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    pub(super) fn check_writable(&self, path: &Path, what: &str) -> Result<(), StoreError> {
        access(path, Access::WRITE_OK).map_err(|error| {
            let why = match error {
                Errno::ROFS => "is on a read-only file system; mount it writable".to_owned(),
                Errno::ACCESS => {
                    "may not be written by this process; give its user or group write permission".to_owned()
                }
                other => format!("cannot be written: {other}"),
            };
            StoreError::Misconfigured(format!("{self}: {what} {why}"))
        })
    }
}

impl Session {
    /// Whether this connection still has the file that the path names: one that was replaced is
    /// another database, and whoever went on with the old one would lead beside its new leader.
    pub(super) fn is_of(&self, place: &Place) -> bool {
        place.file() == Some(self.file)
    }

    pub(super) async fn limit_lock_wait(&mut self, ms: u64) -> Result<(), sqlx::Error> {
        let wait = if ms == 0 { LOCK_LIMIT } else { Duration::from_millis(ms) };
        let wait = wait.as_millis().min(i32::MAX.unsigned_abs().into());
        // A PRAGMA takes no parameters; this is a number.
        self.connection.execute(AssertSqlSafe(format!("PRAGMA busy_timeout = {wait}"))).await?;
        self.lock_limit = ms;
        Ok(())
    }

    pub(super) fn has_intent(&self, place: &Place) -> Result<(), StoreError> {
        if self.has_intent {
            return Ok(());
        }
        Err(StoreError::Misconfigured(format!(
            "{place}: the table component_lease_intent is missing; run `component-lease migrate`"
        )))
    }
}

const INSPECT: &str = "
SELECT EXISTS (SELECT 1 FROM pragma_table_info('component_lease')) AS has_lease,
       EXISTS (SELECT 1 FROM pragma_table_info('component_lease_intent')) AS has_intent,
       EXISTS (SELECT 1 FROM pragma_table_info('component_lease_schema')) AS has_schema,
       (SELECT group_concat(needed.name, ', ')
        FROM (SELECT 'component_name' AS name UNION ALL SELECT 'holder_id' UNION ALL SELECT 'lease_time'
              UNION ALL SELECT 'renew_time' UNION ALL SELECT 'version' UNION ALL SELECT 'ttl') AS needed
        WHERE needed.name NOT IN (SELECT lower(name) FROM pragma_table_info('component_lease'))) AS missing,
       (SELECT x.coll
        FROM pragma_index_list('component_lease') AS i, pragma_index_xinfo(i.name) AS x
        WHERE i.\"unique\" AND NOT i.partial AND x.seqno = 0 AND lower(x.name) = 'component_name'
          AND 1 = (SELECT count(*) FROM pragma_index_info(i.name))) AS key_collation,
       (SELECT journal_mode FROM pragma_journal_mode) AS journal_mode";

/// Whether the companion table is there.
async fn inspect(connection: &mut SqliteConnection, place: &Place) -> Result<bool, StoreError> {
    let failed = |error| classify(error, place);
    let wrong = |what: String| StoreError::Misconfigured(format!("{place}: {what}"));
    let facts = connection.fetch_one(sqlx::query(INSPECT).persistent(false)).await.map_err(failed)?;
    let yes = |name: &str| facts.try_get::<bool, _>(name).map_err(failed);
    let text = |name: &str| facts.try_get::<Option<String>, _>(name).map_err(failed);

    if !yes("has_lease")? {
        return Err(wrong("there is no table component_lease; run `component-lease migrate`".to_owned()));
    }
    if let Some(missing) = text("missing")? {
        return Err(wrong(format!(
            "the table component_lease has no column {missing}; it is not the table that component-lease works with (docs/databases.md says what that looks like)"
        )));
    }
    match text("key_collation")?.as_deref() {
        Some("BINARY") => {}
        None => {
            return Err(wrong(
                "the table component_lease has no primary key on component_name, so two participants could both insert a row: CREATE UNIQUE INDEX component_lease_key ON component_lease (component_name)".to_owned(),
            ));
        }
        Some(other) => {
            return Err(wrong(format!(
                "the column component_lease.component_name has the collation {other}, which takes different names for one; use COLLATE BINARY"
            )));
        }
    }
    if yes("has_schema")? {
        let query = sqlx::query(migrate::VERSION).persistent(false);
        let version: i64 =
            connection.fetch_one(query).await.and_then(|row| row.try_get(0)).map_err(failed)?;
        migrate::known(version, place)?;
    }
    let has_intent = yes("has_intent")?;
    let wal = text("journal_mode")?.is_some_and(|mode| mode.eq_ignore_ascii_case("wal"));
    if !place.said.swap(true, Ordering::Relaxed) {
        for (weak, says) in [
            (
                !has_intent,
                "the table component_lease_intent is missing, so a ttl set in a ComponentLease resource has no effect; run `component-lease migrate`",
            ),
            (
                !wal,
                "the file is not in WAL mode, so a long read by another program keeps leaders from renewing: PRAGMA journal_mode = WAL",
            ),
        ] {
            if weak {
                tracing::warn!("{place}: {says}");
            }
        }
    }
    Ok(has_intent)
}
