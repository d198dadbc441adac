//! Opening the file: look at it first, because SQLite's own "unable to open database file" says
//! nothing, then look once at the table, so that what cannot work is said here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, StatxFlags, access, major, minor, stat, statfs, statx};
use rustix::io::Errno;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use super::errors::classify;
use super::statements;
use crate::store::error::StoreError;
use crate::store::sql::dialect::{Dialect, Settings};
use crate::store::sql::migrate;
use crate::store::sql::migration::not_to_be_seen;
use crate::store::sql::session::Session;
use crate::store::sql::slot::{Connect, First};
use crate::store::sql::table::{Column, Table};

/// How long to wait for the file's lock where nobody limited it.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Which file.
#[derive(Clone)]
pub(in crate::store::sql) struct Place {
    path: PathBuf,
    /// Whether the operator wants also what may forget.
    unsafe_backend: bool,
    pub(super) settings: Settings,
}

/// A connection, and which file it opened.
pub(in crate::store::sql) struct Line {
    pub(super) connection: SqliteConnection,
    pub(super) file: FileId,
    /// The first part of the identity, which is the file's.
    pub(super) name: String,
}

/// What tells a file from others on this machine. A number of an inode is given out again, most often at
/// once: a file that was removed and put back from a backup has it too, but not the time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sql) struct FileId {
    /// Major and minor.
    device: (u32, u32),
    inode: u64,
    /// Seconds and nanoseconds; `None` where the file system keeps none.
    birth: Option<(i64, u32)>,
}

impl FileId {
    fn of(path: &Path) -> Option<Self> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let Ok(file) = statx(CWD, path, AtFlags::empty(), wanted) else {
            // Not every sandbox lets this call through.
            let file = stat(path).ok()?;
            return Some(Self {
                device: (major(file.st_dev), minor(file.st_dev)),
                inode: file.st_ino,
                birth: None,
            });
        };
        let has_birth = StatxFlags::from_bits_retain(file.stx_mask).contains(StatxFlags::BTIME);
        Some(Self {
            device: (file.stx_dev_major, file.stx_dev_minor),
            inode: file.stx_ino,
            birth: has_birth.then_some((file.stx_btime.tv_sec, file.stx_btime.tv_nsec)),
        })
    }

    /// The first part of the identity. Not the device, which may have another number after a restart of
    /// the machine. The boot, because a file's inode and birth go back with a snapshot of its volume.
    pub(super) fn name(self) -> String {
        let birth = self.birth.map_or_else(String::new, |(s, ns)| format!("{s}.{ns:09}"));
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        format!("sqlite/{}/{birth}/{}/", self.inode, boot.trim())
    }
}

/// New at each start of the machine, the same in all its containers.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// By the numbers that `statfs` tells. FUSE is not among them: much behind it is local.
fn network_file_system(magic: i128) -> Option<&'static str> {
    Some(match magic & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0102_1997 => "9P",
        _ => return None,
    })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite file {}", self.path.display())
    }
}

impl Place {
    pub(super) fn new(path: PathBuf, unsafe_backend: bool) -> Self {
        // Who reads of it has another working directory.
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path, unsafe_backend, settings: Settings::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> Option<FileId> {
        FileId::of(&self.path)
    }

    pub(super) fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(LOCK_LIMIT)
            .thread_name(|_| "sqlite".to_owned())
            .disable_statement_logging()
    }

    pub(super) async fn open(&self) -> Result<Line, StoreError> {
        let file = self.check_file()?;
        let connection = self.options().connect().await.map_err(|error| classify(error, self))?;
        let line = Line { connection, file, name: file.name() };
        // Replaced while it was opened: then nobody knows which of the two this is.
        if !line.is_of(self) {
            return Err(StoreError::retryable(format!("{self}: the file was replaced just now")));
        }
        Ok(line)
    }

    /// The file must be there and writable. It is never opened here: closing a file that SQLite has
    /// open elsewhere in this process would drop SQLite's locks on it.
    fn check_file(&self) -> Result<FileId, StoreError> {
        let wrong = |what: String| StoreError::misconfigured(format!("{self}: {what}"));
        let folder = self.folder();
        if !folder.is_dir() {
            return Err(wrong(format!(
                "the folder {} does not exist; create it, or correct the path",
                folder.display()
            )));
        }
        match std::fs::metadata(&self.path) {
            Ok(file) if file.is_dir() => return Err(wrong("this is a folder; name a file in it".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(wrong("the file does not exist; run `component-lease migrate` to create it, or correct the path".to_owned()));
            }
            Err(error) => return Err(wrong(error.to_string())),
        }
        self.check_writable(&self.path, "the file")?;
        self.check_writable(folder, "the folder, in which SQLite keeps the -wal and -shm files,")?;
        self.check_file_system(folder)?;
        self.file().ok_or_else(|| StoreError::retryable(format!("{self}: the file was removed just now")))
    }

    /// The locks of network file systems do not keep two machines apart, nor does shared memory reach
    /// from one to the other.
    pub(super) fn check_file_system(&self, folder: &Path) -> Result<(), StoreError> {
        let Ok(facts) = statfs(folder) else { return Ok(()) };
        let Some(kind) = network_file_system(i128::from(facts.f_type)) else { return Ok(()) };
        let says = format!(
            "the folder {} is on a network file system ({kind}), over which SQLite's locks do not hold: use a disk of this machine, or PostgreSQL",
            folder.display()
        );
        self.settings.refuse_unsafe(self, self.unsafe_backend, &says)
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
            StoreError::misconfigured(format!("{self}: {what} {why}")).caused_by(error)
        })
    }
}

impl Connect for Place {
    type Session = Session<Self>;
    type Source = Option<FileId>;

    fn source(&self) -> Result<Option<FileId>, StoreError> {
        Ok(self.file())
    }

    /// A file does not close.
    async fn ping(&self, _: &mut Session<Self>) -> bool {
        true
    }

    async fn connect(&self, _: Option<FileId>, first: First) -> Result<Session<Self>, StoreError> {
        Session::begin(self, self.open().await?, first).await
    }
}

impl Line {
    /// Whether this connection still has the file that the path names: one that was replaced is
    /// another database, and a leader that went on with the old one would lead beside its new leader.
    pub(super) fn is_of(&self, place: &Place) -> bool {
        place.file() == Some(self.file)
    }
}

pub(super) async fn limit_lock_wait(connection: &mut SqliteConnection, ms: u64) -> Result<(), sqlx::Error> {
    let wait = if ms == 0 { LOCK_LIMIT } else { Duration::from_millis(ms) };
    let wait = wait.as_millis().min(i32::MAX.unsigned_abs().into());
    // A PRAGMA takes no parameters; this is a number.
    connection.execute(AssertSqlSafe(format!("PRAGMA busy_timeout = {wait}"))).await.map(drop)
}

/// SQLite cuts nothing, whatever a column was declared as.
const ANY_TEXT: Column = Column { max: None, unicode: true };

const VERSION: &str = "SELECT coalesce(max(version), 0) FROM component_lease_schema";

const INSPECT: &str = "
SELECT (SELECT group_concat(name, ', ') FROM sqlite_schema
        WHERE type = 'view' AND lower(name) IN ('component_lease', 'component_lease_intent', 'component_lease_history',
                                                'component_lease_store', 'component_lease_schema',
                                                'component_lease_record', 'component_lease_report')) AS views,
       EXISTS (SELECT 1 FROM pragma_table_info('component_lease')) AS has_lease,
       EXISTS (SELECT 1 FROM pragma_table_info('component_lease_intent')) AS has_intent,
       EXISTS (SELECT 1 FROM pragma_table_info('component_lease_history'))
         AND EXISTS (SELECT 1 FROM pragma_table_info('component_lease_store')) AS has_life,
       EXISTS (SELECT 1 FROM pragma_table_info('component_instance') WHERE name = 'priority') AS has_instances,
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

pub(super) async fn inspect(connection: &mut SqliteConnection, place: &Place) -> Result<Table, StoreError> {
    let failed = |error| classify(error, place);
    let wrong = |what: String| StoreError::misconfigured(format!("{place}: {what}"));
    let facts = connection.fetch_one(sqlx::query(INSPECT).persistent(false)).await.map_err(failed)?;
    let yes = |name: &str| facts.try_get::<bool, _>(name).map_err(failed);
    let text = |name: &str| facts.try_get::<Option<String>, _>(name).map_err(failed);

    if !yes("has_lease")? {
        return Err(wrong("there is no table component_lease; run `component-lease migrate`".to_owned()));
    }
    if let Some(views) = text("views")? {
        return Err(wrong(format!(
            "{views} is a view, which may hide rows: DROP VIEW it, and give the table its name again or run `component-lease migrate`"
        )));
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
    let companions = yes("has_intent")? && yes("has_life")?;
    if yes("has_schema")? {
        let query = sqlx::query(VERSION).persistent(false);
        let version: i64 =
            connection.fetch_one(query).await.and_then(|row| row.try_get(0)).map_err(failed)?;
        migrate::known(version, place)?;
        for (sees, tables) in [
            (yes("has_intent")?, "component_lease_intent"),
            (yes("has_life")?, "component_lease_history or component_lease_store"),
        ] {
            if version > 0 && !sees {
                return Err(not_to_be_seen(place, version, tables, "this program"));
            }
        }
    }
    let table = Table {
        component: ANY_TEXT,
        holder: ANY_TEXT,
        version_max: i64::MAX,
        companions,
        instances: companions && yes("has_instances")?,
        sql: statements(),
    };
    let wal = text("journal_mode")?.is_some_and(|mode| mode.eq_ignore_ascii_case("wal"));
    if !place.settings().said_before() {
        for says in table.weaknesses::<Place>("a restored file or a deleted row") {
            tracing::warn!("{place}: {says}");
        }
        if !wal {
            tracing::warn!(
                "{place}: the file is not in WAL mode, so a long read by another program keeps leaders from renewing: PRAGMA journal_mode = WAL"
            );
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known_by_their_numbers_whatever_their_sign() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        // As a 32-bit machine has it.
        assert_eq!(network_file_system(i128::from(0xff53_4d42_u32.cast_signed())), Some("CIFS"));
        for local in [0xef53, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_file_system(local), None);
        }
    }
}
