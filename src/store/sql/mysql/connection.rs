//! Connecting: read the source anew, connect within a bound, set the session up, and look once at
//! the server and the table (`inspect.rs`), so that what cannot work is said here and not by a
//! statement that fails.

use std::fmt;
use std::io;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::errors::classify;
use super::url::{MySqlUrl, SslMode};
use crate::store::error::StoreError;
use crate::store::sql::address::Host;
use crate::store::sql::dialect::Settings;
use crate::store::sql::session::Session;
use crate::store::sql::several::{self, Says};
use crate::store::sql::slot::{CONNECT_LIMIT, Connect, First};
use crate::store::sql::source::{Source, readable};

/// Which database, and how to get there.
#[derive(Clone)]
pub(in crate::store::sql) struct Place {
    pub(super) source: Source,
    /// Without secrets.
    name: String,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) settings: Settings,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// `url` is what the source said just now; every connect asks the source again.
    pub(super) fn new(source: Source, url: &MySqlUrl) -> Self {
        Self {
            source,
            name: url.to_string(),
            user: url.user.clone(),
            database: url.database.clone(),
            settings: Settings::default(),
        }
    }
}

impl Connect for Place {
    type Session = Session<Self>;
    type Source = Box<MySqlUrl>;

    fn source(&self) -> Result<Box<MySqlUrl>, StoreError> {
        self.source.read().map(Box::new)
    }

    async fn ping(&self, session: &mut Session<Self>) -> bool {
        session.line.ping().await.is_ok()
    }

    async fn connect(&self, url: Box<MySqlUrl>, first: First) -> Result<Session<Self>, StoreError> {
        // The user of a rotated secret may be another one.
        let (name, user, database) = (url.to_string(), url.user.clone(), url.database.clone());
        let place = Self { name, user, database, ..self.clone() };
        let measured = self.settings.pace().begin();
        let connection = dial(&url, &place).await?;
        let session = Session::begin(&place, connection, first).await?;
        measured.connected();
        Ok(session)
    }
}

/// A connection to the server, or to the one of several that can be written to.
pub(super) async fn dial(url: &MySqlUrl, place: &Place) -> Result<MySqlConnection, StoreError> {
    let [(host, port)] = url.hosts.as_slice() else { return dial_one_of(url, place).await };
    let limit = url.connect_timeout.map_or(CONNECT_LIMIT, |limit| limit.min(CONNECT_LIMIT));
    match tokio::time::timeout(limit, options(url, host, *port)?.connect()).await {
        Ok(answer) => answer.map_err(|error| classify(error, place)),
        Err(_) => Err(StoreError::retryable(format!("{place}: no connection within {limit:?}"))),
    }
}

async fn dial_one_of(url: &MySqlUrl, place: &Place) -> Result<MySqlConnection, StoreError> {
    let ask = |host: Host, port: u16| {
        let (options, place) = (options(url, &host, port), place.clone());
        async move {
            let connected = match options {
                Ok(options) => options.connect().await,
                Err(error) => return Says::Refused(error),
            };
            let found = match connected {
                Ok(mut connection) => only_reads(&mut connection).await.map(|reads| (reads, connection)),
                Err(error) => Err(error),
            };
            match found {
                Ok((false, connection)) => Says::Writable(connection, 0),
                Ok((true, _)) => Says::ReadOnly,
                Err(error) if is_of_this_host(&error) => Says::Away(error.to_string()),
                Err(error) => Says::Refused(classify(error, &place)),
            }
        }
    };
    let writer = several::writer(url.hosts.clone(), url.connect_timeout, place, &place.settings, ask).await?;
    Ok(writer.connection)
}

/// Nobody there, or not yet; not a refusal of us.
fn is_of_this_host(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData)
}

async fn only_reads(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let asked = "SELECT CAST(@@global.read_only OR @@global.innodb_read_only AS SIGNED)";
    let only_reads: i64 = connection.fetch_one(sqlx::raw_sql(asked)).await?.try_get(0)?;
    Ok(only_reads != 0)
}

fn options(url: &MySqlUrl, host: &Host, port: u16) -> Result<MySqlConnectOptions, StoreError> {
    let mut options = MySqlConnectOptions::new()
        .port(port)
        .username(&url.user)
        .database(&url.database)
        // All of this is said by `set_up`, in the round trip of the first look.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .disable_statement_logging()
        .ssl_mode(match url.ssl_mode_in_force(host) {
            SslMode::Disabled => MySqlSslMode::Disabled,
            SslMode::Preferred => MySqlSslMode::Preferred,
            SslMode::Required => MySqlSslMode::Required,
            SslMode::VerifyCa => MySqlSslMode::VerifyCa,
            SslMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        });
    options = match host {
        Host::Tcp(host) => options.host(host),
        Host::Socket(socket) => options.socket(socket),
    };
    // An empty password is sent as no password: its scramble would not be empty.
    if let Some(password) = url.password.as_deref().filter(|password| !password.is_empty()) {
        options = options.password(password);
    }
    for file in [&url.ssl_ca, &url.ssl_cert, &url.ssl_key].into_iter().flatten() {
        readable(file, url)?;
    }
    if let Some(file) = &url.ssl_ca {
        options = options.ssl_ca(file);
    }
    if let (Some(cert), Some(key)) = (&url.ssl_cert, &url.ssl_key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

pub(super) async fn limit_lock_wait(connection: &mut MySqlConnection, ms: u64) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("SET {}", limits(ms))))).await.map(drop)
}

/// What a session must not leave to the server's configuration.
///
/// Strict mode: nothing is ever cut or clamped. READ COMMITTED: an UPDATE that finds no row leaves
/// no gap lock behind. No limit of rows, joins or time: `sql_select_limit` would cut a look at all
/// rows without a word. (Comments of the form `/*!80000` are MySQL's; MariaDB leaves out those from 50700 on.)
pub(super) fn set_up(lock_limit: u64) -> String {
    format!(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', \
             SESSION autocommit = 1, SESSION completion_type = 'NO_CHAIN', {}, \
             SESSION sql_select_limit = 18446744073709551615, SESSION max_join_size = 18446744073709551615, \
             SESSION sql_big_selects = 1, SESSION sql_safe_updates = 0, SESSION sql_auto_is_null = 0, \
             SESSION lc_messages = 'en_US' \
             /*!80000 , SESSION max_execution_time = 0 */ \
             /*M!100600 , SESSION max_statement_time = 0, SESSION idle_transaction_timeout = 0, \
             SESSION idle_write_transaction_timeout = 0 */, NAMES utf8mb4 COLLATE utf8mb4_bin; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; ",
        limits(lock_limit)
    )
}

/// Waits for a row's lock, and for a table's (an ALTER TABLE, LOCK TABLES, a backup's global lock:
/// by default these waits have no end that matters). Whole seconds, one at least, is what the
/// servers offer, so a wait may be longer than asked for by less than one second.
///
/// `wait_timeout` is how long the server keeps the connection of a participant that vanished. A
/// live one says something every third of its ttl, which is twice the limit.
fn limits(lock_limit: u64) -> String {
    let limit = match lock_limit {
        0 => CONNECT_LIMIT.as_secs(),
        ms => ms.div_ceil(1000).clamp(1, 31_536_000),
    };
    let idle = limit.saturating_mul(6).clamp(60, 28_800);
    format!(
        "SESSION innodb_lock_wait_timeout = {limit}, SESSION lock_wait_timeout = {limit}, SESSION wait_timeout = {idle}"
    )
}
