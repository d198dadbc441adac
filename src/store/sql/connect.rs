//! From what an operator wrote to a store: where the database URL and its password come from.
//! Nothing of this module prints a secret.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::SqlStore;
#[cfg(feature = "mysql")]
use super::address::MySqlUrl;
#[cfg(feature = "postgres")]
use super::address::PostgresUrl;
use super::address::{DatabaseUrl, misconfigured};
use super::migration::MigrationReport;
use crate::election::life::MAX_TTL_DEFAULT_SECONDS;
use crate::election::timing::TTL_MAX_SECONDS;
use crate::store::{Directory, StoreError};

/// Where the database URL and its password come from. Files are read again at every connect, so
/// that a mounted secret may be rotated.
#[derive(Clone)]
pub struct Source {
    url: UrlFrom,
    direct: Option<UrlFrom>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    unsafe_backend: bool,
}

/// How tables are made that are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Install {
    pub(super) first: bool,
    /// Seconds, as the table has it.
    pub(super) max_ttl: u32,
}

impl Install {
    /// Whether nobody can have led by this database before, under tables that are gone: then the first
    /// election need not wait, and versions begin at 1. Default: no.
    #[must_use]
    pub fn first(mut self, first: bool) -> Self {
        self.first = first;
        self
    }

    /// The longest ttl of any lease, the same as every participant's: 1 s to 3600 s, rounded up to whole seconds;
    /// default 30 s.
    #[must_use]
    pub fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = u32::try_from(max_ttl.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        self
    }
}

impl Default for Install {
    /// As for tables that may have been there before.
    fn default() -> Self {
        Self { first: false, max_ttl: MAX_TTL_DEFAULT_SECONDS }
    }
}

#[derive(Clone)]
enum UrlFrom {
    Literal(String),
    File(PathBuf),
}

impl UrlFrom {
    fn read(&self, what: &str) -> Result<String, StoreError> {
        match self {
            Self::Literal(url) => Ok(url.clone()),
            Self::File(path) => read_secret(path, what),
        }
    }
}

impl Source {
    /// A URL given as text.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(UrlFrom::Literal(url.into()))
    }

    /// A file that holds the URL.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(UrlFrom::File(path.into()))
    }

    fn of(url: UrlFrom) -> Self {
        Self { url, direct: None, password_file: None, ca_file: None, unsafe_backend: false }
    }

    /// PostgreSQL behind a connection pooler: the server's own URL, for notifications alone, which no pooler
    /// passes on. Statements go by the first URL. The password file and the CA file are for both.
    #[must_use]
    pub fn direct_url(mut self, url: impl Into<String>) -> Self {
        self.direct = Some(UrlFrom::Literal(url.into()));
        self
    }

    /// As [`Source::direct_url`], a file that holds the URL.
    #[must_use]
    pub fn direct_url_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.direct = Some(UrlFrom::File(path.into()));
        self
    }

    /// A file that holds only the password; beats the one in the URL.
    #[must_use]
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_file = Some(path.into());
        self
    }

    /// A file with the certificates of the authorities that sign the server's; beats what the URL names. A
    /// server that is not signed by one of them (or by a public one) is refused then, on this machine too.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Also a database that may forget what it acknowledged (see docs/databases.md).
    #[must_use]
    pub fn unsafe_backend(mut self, allow: bool) -> Self {
        self.unsafe_backend = allow;
        self
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn allows_unsafe_backend(&self) -> bool {
        self.unsafe_backend
    }

    /// Reads and checks everything anew.
    pub(super) fn read(&self) -> Result<DatabaseUrl, StoreError> {
        let url = self.complete(&self.url.read("database URL")?)?;
        match (&self.direct, &url) {
            (Some(_), DatabaseUrl::MySql(_) | DatabaseUrl::Sqlite(_)) => Err(misconfigured(
                "a direct database URL is for PostgreSQL behind a connection pooler; leave it out",
            )),
            _ => Ok(url),
        }
    }

    /// The server's own address, if there is one beside a pooler's.
    #[cfg(feature = "postgres")]
    pub(super) fn read_direct(&self) -> Result<Option<PostgresUrl>, StoreError> {
        let Some(direct) = &self.direct else { return Ok(None) };
        match self.complete(&direct.read("direct database URL")?) {
            Ok(DatabaseUrl::Postgres(url)) => Ok(Some(*url)),
            Ok(other) => Err(misconfigured(format!(
                "the direct database URL leads to another kind of database ({other}); name the PostgreSQL server that the pooler leads to"
            ))),
            Err(error) => Err(misconfigured(format!("direct database URL: {error}"))),
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn has_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// With the files that are beside it.
    fn complete(&self, text: &str) -> Result<DatabaseUrl, StoreError> {
        let mut url = DatabaseUrl::parse(text)?;
        if let Some(path) = &self.ca_file {
            url.trust(path.clone())?;
        }
        if let Some(path) = &self.password_file {
            match &mut url {
                DatabaseUrl::Postgres(url) => url.password = Some(read_secret(path, "database password")?),
                DatabaseUrl::MySql(url) => url.password = Some(read_secret(path, "database password")?),
                DatabaseUrl::Sqlite(_) => {
                    return Err(misconfigured("a SQLite file has no password; leave out the password file"));
                }
            }
        }
        Ok(url)
    }

    /// As [`Source::read`], for a store that can only be of this kind: a URL file that changes from
    /// one kind of database to another under a running program is no rotation.
    #[cfg(feature = "postgres")]
    pub(super) fn read_postgres(&self) -> Result<PostgresUrl, StoreError> {
        match self.read()? {
            DatabaseUrl::Postgres(url) => Ok(*url),
            other => Err(became(&other)),
        }
    }

    /// As [`Source::read`], for a MySQL or MariaDB store.
    #[cfg(feature = "mysql")]
    pub(super) fn read_mysql(&self) -> Result<MySqlUrl, StoreError> {
        match self.read()? {
            DatabaseUrl::MySql(url) => Ok(*url),
            other => Err(became(&other)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Source");
        for (from, name, file) in
            [(Some(&self.url), "url", "url_file"), (self.direct.as_ref(), "direct_url", "direct_url_file")]
        {
            match from {
                Some(UrlFrom::Literal(_)) => out.field(name, &"(given)"),
                Some(UrlFrom::File(path)) => out.field(file, path),
                None => &mut out,
            };
        }
        out.field("password_file", &self.password_file).field("ca_file", &self.ca_file);
        out.field("unsafe_backend", &self.unsafe_backend).finish()
    }
}

/// Opens a store. Nothing is connected yet: each call connects when it must, and a database that is
/// away answers [`StoreError::Retryable`] until it is there. `application` is the name that the
/// database shows for our connections.
///
/// # Errors
/// [`StoreError::Misconfigured`] when the URL or a file cannot be read or means nothing.
#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    expect(
        clippy::needless_pass_by_value,
        reason = "PostgreSQL and MySQL keep the source, to read it again at each connect"
    )
)]
pub fn open(source: Source, application: &str) -> Result<Arc<dyn Directory>, StoreError> {
    // PostgreSQL alone shows it.
    let _ = application;
    match source.read()? {
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => {
            // What is wrong with it is said before anything is connected.
            let _ = source.read_direct()?;
            say_what_is_weaker(&url, url.weaker_tls());
            Ok(Arc::new(SqlStore::new(super::postgres::Place::new(source, &url, application))))
        }
        #[cfg(feature = "mysql")]
        DatabaseUrl::MySql(url) => {
            say_what_is_weaker(&url, url.weaker_tls());
            Ok(Arc::new(SqlStore::new(super::mysql::Place::new(source, &url))))
        }
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(path) => {
            Ok(Arc::new(SqlStore::new(super::sqlite::Place::new(path, source.unsafe_backend))))
        }
        #[cfg(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")))]
        other => Err(not_built(&other)),
    }
}

/// Creates or upgrades the tables; does nothing where they are up to date. Any number of processes
/// may do this at once. Tables made by this are not called a first installation: their first election
/// waits for the longest ttl.
///
/// # Errors
/// As [`open`], and whatever keeps the database from being changed.
pub async fn migrate(source: &Source) -> Result<MigrationReport, StoreError> {
    install(source, Install::default()).await
}

/// As [`migrate`], with a say in how tables are made that are not there yet.
///
/// # Errors
/// As [`migrate`].
pub async fn install(source: &Source, how: Install) -> Result<MigrationReport, StoreError> {
    if !(1..=TTL_MAX_SECONDS).contains(&how.max_ttl) {
        return Err(misconfigured(format!(
            "a longest ttl of {} s is outside 1 to {TTL_MAX_SECONDS} s",
            how.max_ttl
        )));
    }
    match source.read()? {
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => super::postgres::migrate(&url, how).await,
        #[cfg(feature = "mysql")]
        DatabaseUrl::MySql(url) => super::mysql::migrate(&url, how).await,
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(path) => super::sqlite::migrate(&path, how).await,
        #[cfg(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")))]
        other => Err(not_built(&other)),
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn say_what_is_weaker(url: &impl fmt::Display, weaker: Option<impl fmt::Display>) {
    if let Some(weaker) = weaker {
        tracing::warn!("{url}: {weaker}");
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn became(url: &DatabaseUrl) -> StoreError {
    misconfigured(format!(
        "the database URL became {url} while this program runs; restart it to change the kind of database"
    ))
}

#[cfg(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")))]
fn not_built(url: &DatabaseUrl) -> StoreError {
    misconfigured(format!("{url}: this program was built without support for this kind of database"))
}

fn read_secret(path: &Path, what: &str) -> Result<String, StoreError> {
    let says = |why: &str| misconfigured(format!("the file {} for the {what} {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| {
        misconfigured(format!("cannot read the {what} from the file {}: {error}", path.display()))
            .caused_by(error)
    })?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(says(
            "is in UTF-16, as some programs of Windows write it; save it as UTF-8 without a byte order mark",
        ));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(says("begins with a byte order mark; save it as UTF-8 without one"));
    }
    let text = String::from_utf8(bytes).map_err(|_| says("is not text in UTF-8"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(says("is empty"));
    }
    Ok(text.to_owned())
}

/// Refuses a file that the URL names and that cannot be read.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) fn readable(file: &Path, url: &impl fmt::Display) -> Result<(), StoreError> {
    std::fs::File::open(file).map(drop).map_err(|error| {
        StoreError::misconfigured(format!(
            "{url}: cannot read {}, which the URL names: {error}",
            file.display()
        ))
        .caused_by(error)
    })
}

/// Refuses a database that may forget what it acknowledged.
pub(super) fn unsafe_backend(place: &impl fmt::Display, says: &str) -> StoreError {
    misconfigured(format!(
        "UnsafeBackend: {place}: {says}; or, where two leaders and repeated versions do no harm, say --allow-unsafe-backend"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_prints_where_secrets_come_from_and_never_a_secret() {
        let given = Source::url("postgres://u:hunter2@h/d").password_file("/run/password");
        assert!(!format!("{given:?}").contains("hunter2"));
        assert!(format!("{given:?}").contains("/run/password"));
    }

    #[test]
    fn a_password_file_beats_the_url_and_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let source = Source::url("postgres://u:old@h/d").password_file(&file);
        let password = || match source.read() {
            Ok(DatabaseUrl::Postgres(url)) => Ok(url.password.unwrap()),
            Ok(other) => panic!("{other}"),
            Err(error) => Err(error.to_string()),
        };
        assert!(password().unwrap_err().contains(&file.display().to_string()));
        for now in ["first\n", "second"] {
            std::fs::write(&file, now).unwrap();
            assert_eq!(password().unwrap(), now.trim());
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(password().unwrap_err().contains("is empty"));
        for (bytes, piece) in [
            (&b"\xff\xfeh\0"[..], "UTF-16"),
            (b"\xef\xbb\xbfhunter2", "byte order mark"),
            (b"\xc3hunter2", "UTF-8"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let why = password().unwrap_err();
            assert!(why.contains(piece) && !why.contains("hunter2"), "{why}");
        }
    }
}
