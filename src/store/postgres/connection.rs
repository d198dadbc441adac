//! Connecting: read the source anew, connect within a bound, set the session up, and look once at
//! the server and the table (`table.rs`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor};

use super::errors::classify;
use super::identity::Found;
use super::table::{Table, inspect};
use crate::store::StoreError;
use crate::store::address::{Host, PostgresUrl, SslMode};
use crate::store::connect::{Source, unsafe_backend};

/// How long a connect may take where nobody limited the wait for locks (which is a fraction of the ttl).
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

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
        }
    }

    /// What the source says now, as sqlx wants it.
    pub(super) fn options(&self) -> Result<PgConnectOptions, StoreError> {
        self.source.read_postgres().and_then(|url| options(&url, &self.application))
    }

    pub(super) async fn connect(&self, lock_limit: u64) -> Result<Session, StoreError> {
        let limit = connect_limit(lock_limit);
        let url = self.source.read_postgres()?;
        let options = options(&url, &self.application)?;
        // The user of a rotated secret may be another one.
        let place = Self { user: url.user(), name: url.to_string(), ..self.clone() };
        let connecting = async {
            let mut connection =
                PgConnection::connect_with(&options).await.map_err(|error| classify(error, &place))?;
            let table = inspect(&mut connection, lock_limit, &place).await?;
            Ok(Session { connection, lock_limit, looks: 0, table })
        };
        match tokio::time::timeout(limit, connecting).await {
            Ok(session) => session,
            Err(_) => Err(StoreError::Retryable(format!("{place}: no connection within {limit:?}"))),
        }
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

/// A connect may take as long as one attempt, which is also the longest wait for a lock.
pub(super) fn connect_limit(lock_limit: u64) -> Duration {
    match lock_limit {
        0 => CONNECT_LIMIT,
        ms => Duration::from_millis(ms).clamp(Duration::from_secs(1), CONNECT_LIMIT),
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
