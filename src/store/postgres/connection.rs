//! Connecting: read the source anew, connect within a bound, set the session up, and look once at
//! the server and the table (`table.rs`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode, Postgres};
use sqlx::{ConnectOptions, Connection, Executor, SqlSafeStr, Type};

use super::errors::classify;
use super::identity::Found;
use super::table::{Table, inspect};
use crate::store::StoreError;
use crate::store::address::{Host, PostgresUrl, SslMode};
use crate::store::connect::{Source, unsafe_backend};
use crate::store::pace::PaceCell;
use crate::store::slot::{CONNECT_LIMIT, Connect, First};

/// Which database, and how to get there.
#[derive(Clone)]
pub(super) struct Place {
    source: Source,
    application: String,
    /// Without secrets.
    name: String,
    pub(super) user: String,
    /// What is weaker with somebody else's table is said once, not at every connect.
    pub(super) said: Arc<AtomicBool>,
    /// What the server says of itself.
    pub(super) form: Arc<Found>,
    /// The longest wait for a lock, ms; 0 until somebody sets it.
    pub(super) lock_limit: Arc<AtomicU64>,
    pub(super) pace: Arc<PaceCell>,
}

/// A connection that has been looked at.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    /// The limit that this connection was told, ms; 0 for none.
    pub(super) lock_limit: u64,
    /// Since the tables were looked for.
    pub(super) looks: u32,
    pub(super) table: Table,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    pub(super) fn new(source: Source, url: &PostgresUrl, application: &str) -> Self {
        Self {
            source,
            application: application.to_owned(),
            name: url.to_string(),
            user: url.user(),
            said: Arc::default(),
            form: Arc::default(),
            lock_limit: Arc::default(),
            pace: Arc::default(),
        }
    }

    /// How to get there, as sqlx wants it.
    pub(super) fn options(&self, url: &PostgresUrl) -> Result<PgConnectOptions, StoreError> {
        options(url, &self.application)
    }

    /// The same place by what the source said: the user of a rotated secret may be another one.
    pub(super) fn of(&self, url: &PostgresUrl) -> Self {
        Self { user: url.user(), name: url.to_string(), ..self.clone() }
    }
}

impl Connect for Place {
    type Session = Session;
    type Source = Box<PostgresUrl>;

    fn source(&self) -> Result<Box<PostgresUrl>, StoreError> {
        self.source.read_postgres().map(Box::new)
    }

    async fn connect(&self, url: Box<PostgresUrl>, first: First) -> Result<Session, StoreError> {
        let place = self.of(&url);
        let options = self.options(&url)?;
        let measured = self.pace.begin();
        let mut connection =
            PgConnection::connect_with(&options).await.map_err(|error| classify(error, &place))?;
        let lock_limit = self.lock_limit.load(Ordering::Relaxed);
        let table = inspect(&mut connection, lock_limit, &place).await?;
        prepare(&mut connection, &table, first, &place).await?;
        measured.connected();
        Ok(Session { connection, lock_limit, looks: 0, table })
    }
}

impl Place {
    /// A backend that forgets what it acknowledged is refused, unless the operator wants it so.
    pub(super) fn refuse_unsafe(&self, says: &str) -> Result<(), StoreError> {
        if !self.source.allows_unsafe_backend() {
            return Err(unsafe_backend(self, says));
        }
        if !self.said.load(Ordering::Relaxed) {
            tracing::warn!("{self}: {says}; allowed by --allow-unsafe-backend");
        }
        Ok(())
    }
}

pub(super) fn options(url: &PostgresUrl, application: &str) -> Result<PgConnectOptions, StoreError> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .port(url.port)
        .application_name(url.application_name.as_deref().unwrap_or(application))
        // PgBouncer refuses a connection that asks for it, and we read no floats.
        .extra_float_digits(None)
        .disable_statement_logging()
        .ssl_mode(match url.ssl_mode_in_force() {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Allow => PgSslMode::Allow,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
    options = match &url.host {
        Host::Tcp(host) => options.host(host),
        Host::Socket(folder) => options.socket(folder),
    };
    if let Some(user) = &url.user {
        options = options.username(user);
    }
    if let Some(password) = &url.password {
        options = options.password(password);
    }
    if let Some(database) = &url.database {
        options = options.database(database);
    }
    for file in [&url.ssl_root_cert, &url.ssl_cert, &url.ssl_key].into_iter().flatten() {
        readable(file, url)?;
    }
    if let Some(file) = &url.ssl_root_cert {
        options = options.ssl_root_cert(file);
    }
    if let (Some(cert), Some(key)) = (&url.ssl_cert, &url.ssl_key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    if let Some(settings) = &url.options {
        options = options.options(settings_of(settings));
    }
    Ok(options)
}

/// `-c name=value` or `--name=value`, several of them.
fn settings_of(text: &str) -> Vec<(String, String)> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches("-c").trim_start_matches("--"))
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn readable(file: &Path, url: &PostgresUrl) -> Result<(), StoreError> {
    std::fs::File::open(file).map(drop).map_err(|error| {
        StoreError::Misconfigured(format!(
            "{url}: cannot read {}, which the URL names: {error}",
            file.display()
        ))
    })
}

impl Session {
    /// For tables that were made since.
    pub(super) async fn look_again(&mut self, place: &Place) -> Result<(), StoreError> {
        self.table = inspect(&mut self.connection, self.lock_limit, place).await?;
        self.looks = 0;
        Ok(())
    }

    pub(super) async fn limit_lock_wait(&mut self, ms: u64) -> Result<(), sqlx::Error> {
        let query =
            sqlx::query("SELECT pg_catalog.set_config('lock_timeout', $1, false)").bind(lock_timeout(ms));
        self.connection.execute(query).await?;
        self.lock_limit = ms;
        Ok(())
    }
}

pub(super) fn lock_timeout(ms: u64) -> String {
    // Nobody waits for ever: whoever gave up sends no cancel, and the server would not notice. Up to PostgreSQL's own maximum.
    let limit = if ms == 0 { CONNECT_LIMIT.as_millis() } else { ms.into() };
    format!("{}ms", limit.min(i32::MAX.unsigned_abs().into()))
}

/// What will be asked first, so that it takes one round trip then. What cannot be prepared says why
/// when it is asked.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    table: &Table,
    first: First,
    place: &Place,
) -> Result<(), StoreError> {
    let (text, number) = (<str as Type<Postgres>>::type_info(), <i64 as Type<Postgres>>::type_info());
    let renew = (table.sql.renew, vec![text.clone(), text.clone(), number]);
    let look = (table.look(), vec![text.clone()]);
    let claimed = (table.sql.claimed, vec![text]);
    let statements = match first {
        First::Other => vec![],
        First::Renew => vec![renew],
        First::Look if table.instances => vec![renew, look, claimed],
        First::Look => vec![renew, look],
    };
    for (statement, types) in statements {
        let measured = place.pace.begin();
        match connection.prepare_with(statement.into_sql_str(), &types).await {
            Ok(_) if statement == table.sql.renew => measured.round_trip(),
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(classify(error, place)),
        }
    }
    Ok(())
}
