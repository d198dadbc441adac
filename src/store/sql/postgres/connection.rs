//! Connecting: read the source anew, connect within a bound, set the session up, and look once at
//! the server and the table (`table.rs`).

use std::fmt::{self, Write as _};
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode, PgTypeInfo, Postgres};
use sqlx::{ConnectOptions, Connection, Executor, Row, SqlSafeStr, Type};

use super::errors::{self, classify};
use super::identity::Found;
use crate::store::StoreError;
use crate::store::sql::Session;
use crate::store::sql::address::{At, Host, PostgresUrl, Root, SslMode};
use crate::store::sql::connect::{Source, readable};
use crate::store::sql::dialect::Settings;
use crate::store::sql::slot::{CONNECT_LIMIT, Connect, First};
use crate::store::sql::statement::Statement;
use crate::store::sql::tls::system_authorities;

/// Which database, and how to get there.
#[derive(Clone)]
pub(in crate::store::sql) struct Place {
    pub(super) source: Source,
    application: String,
    /// Without secrets.
    name: String,
    pub(super) user: String,
    /// What the server says of itself.
    pub(super) form: Arc<Found>,
    pub(super) settings: Settings,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// `url` is what the source said just now; every connect asks the source again.
    pub(in crate::store::sql) fn new(source: Source, url: &PostgresUrl, application: &str) -> Self {
        Self {
            source,
            application: application.to_owned(),
            name: url.to_string(),
            user: url.user(),
            form: Arc::default(),
            settings: Settings::default(),
        }
    }

    /// How to get to the server that can be written to, as sqlx wants it.
    pub(super) async fn options(&self, url: &PostgresUrl) -> Result<PgConnectOptions, StoreError> {
        if let [(host, port)] = url.hosts.as_slice() {
            return options(url, host, *port, &self.application);
        }
        let (options, connection) = dial_one_of(url, &self.application, &self.of(url)).await?;
        let _ = connection.close().await;
        Ok(options)
    }

    /// The same place by what the source said: the user of a rotated secret may be another one.
    pub(super) fn of(&self, url: &PostgresUrl) -> Self {
        Self { user: url.user(), name: url.to_string(), ..self.clone() }
    }
}

impl Connect for Place {
    type Session = Session<Self>;
    type Source = Box<PostgresUrl>;

    fn source(&self) -> Result<Box<PostgresUrl>, StoreError> {
        self.source.read_postgres().map(Box::new)
    }

    async fn ping(&self, session: &mut Session<Self>) -> bool {
        session.line.ping().await.is_ok()
    }

    async fn connect(&self, url: Box<PostgresUrl>, first: First) -> Result<Session<Self>, StoreError> {
        let place = self.of(&url);
        let measured = self.settings.pace().begin();
        let connection = dial(&url, &self.application, &place).await?;
        let session = Session::begin(&place, connection, first).await?;
        measured.connected();
        Ok(session)
    }
}

/// A connection to the server, or to the first of several that can be written to.
pub(super) async fn dial(
    url: &PostgresUrl,
    application: &str,
    place: &Place,
) -> Result<PgConnection, StoreError> {
    let [(host, port)] = url.hosts.as_slice() else {
        return Ok(dial_one_of(url, application, place).await?.1);
    };
    let options = options(url, host, *port, application)?;
    let limit = url.connect_timeout.map_or(CONNECT_LIMIT, |limit| limit.min(CONNECT_LIMIT));
    match tokio::time::timeout(limit, PgConnection::connect_with(&options)).await {
        Ok(answer) => answer.map_err(|error| classify(error, place)),
        Err(_) => Err(StoreError::Retryable(format!("{place}: no connection within {limit:?}"))),
    }
}

/// As libpq: in the order of the URL, and where a server lets us not in, no other is asked.
async fn dial_one_of(
    url: &PostgresUrl,
    application: &str,
    place: &Place,
) -> Result<(PgConnectOptions, PgConnection), StoreError> {
    let mut hosts = url.hosts.clone();
    if url.shuffled {
        fastrand::shuffle(&mut hosts);
    }
    // Each gets its share, so that one that says nothing does not use up the time of those behind it.
    let share = CONNECT_LIMIT / u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let limit = url.connect_timeout.map_or(share, |limit| limit.min(share));
    let mut found = Vec::new();
    for (host, port) in &hosts {
        let options = options(url, host, *port, application)?;
        let says = match tokio::time::timeout(limit, writable(&options)).await {
            Ok(Ok(Some(connection))) => return Ok((options, connection)),
            Ok(Ok(None)) => "a standby, or lets this session only read".to_owned(),
            Ok(Err(error)) if errors::is_of_this_host(&error) => error.to_string(),
            Ok(Err(error)) => return Err(classify(error, place)),
            Err(_) => format!("no connection within {limit:?}"),
        };
        found.push(format!("{}: {says}", At(host, *port)));
    }
    Err(StoreError::Retryable(format!("{place}: no server of these can be written to: {}", found.join("; "))))
}

/// The connection, if the server can be written to.
async fn writable(options: &PgConnectOptions) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let asked = "SELECT pg_catalog.pg_is_in_recovery()
                 OR pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on'";
    let only_reads: bool = connection.fetch_one(sqlx::raw_sql(asked)).await?.try_get(0)?;
    if only_reads {
        let _ = connection.close().await;
        return Ok(None);
    }
    Ok(Some(connection))
}

pub(super) fn options(
    url: &PostgresUrl,
    host: &Host,
    port: u16,
    application: &str,
) -> Result<PgConnectOptions, StoreError> {
    let mut options = base(url)?
        .port(port)
        .application_name(url.application_name.as_deref().unwrap_or(application))
        // PgBouncer refuses a connection that asks for it, and we read no floats.
        .extra_float_digits(None)
        .disable_statement_logging()
        .ssl_mode(match url.ssl_mode_in_force(host) {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Allow => PgSslMode::Allow,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
    options = match host {
        Host::Tcp(host) => options.host(host),
        Host::Socket(folder) => options.socket(folder),
    };
    if let Some(user) = &url.user {
        options = options.username(user);
    }
    options = options.password(url.password.as_deref().unwrap_or_default());
    if let Some(database) = &url.database {
        options = options.database(database);
    }
    let root = match &url.ssl_root {
        Root::Public => None,
        Root::System => system_authorities(),
        Root::File(file) => Some(file.clone()),
    };
    for file in [&root, &url.ssl_cert, &url.ssl_key].into_iter().flatten() {
        readable(file, url)?;
    }
    options = match root {
        Some(file) => options.ssl_root_cert(file),
        // Nothing that sqlx would find in the environment.
        None => options.ssl_root_cert_from_pem(Vec::new()),
    };
    if let (Some(cert), Some(key)) = (&url.ssl_cert, &url.ssl_key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

/// Options for the server as they stand in the URL: a URL is the one way to hand them to sqlx without a
/// change. (With a password, so that it looks for none in files.)
fn base(url: &PostgresUrl) -> Result<PgConnectOptions, StoreError> {
    let mut text = String::from("postgres://:none@localhost/");
    if let Some(options) = &url.options {
        text += "?options=";
        for byte in options.bytes() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text.parse().map_err(|_| StoreError::Bug(format!("{url}: the options cannot be handed on")))
}

pub(super) async fn limit_lock_wait(connection: &mut PgConnection, ms: u64) -> Result<(), sqlx::Error> {
    let query = sqlx::query("SELECT pg_catalog.set_config('lock_timeout', $1, false)").bind(lock_timeout(ms));
    connection.execute(query).await.map(drop)
}

pub(super) fn lock_timeout(ms: u64) -> String {
    // Nobody waits for ever: whoever gave up sends no cancel, and the server would not notice. Up to PostgreSQL's own maximum.
    let limit = if ms == 0 { CONNECT_LIMIT.as_millis() } else { ms.into() };
    format!("{}ms", limit.min(i32::MAX.unsigned_abs().into()))
}

pub(super) async fn prepare(
    connection: &mut PgConnection,
    statement: &'static Statement,
) -> Result<(), sqlx::Error> {
    let types: Vec<_> = statement.places().iter().map(|place| type_of(place)).collect();
    connection.prepare_with(statement.text().into_sql_str(), &types).await.map(drop)
}

/// As the values of these names are sent.
fn type_of(place: &str) -> PgTypeInfo {
    match place {
        "version" | "id" | "lasts" | "leads" | "longest_promise" => <i64 as Type<Postgres>>::type_info(),
        "healthy" | "promises_outside" => <bool as Type<Postgres>>::type_info(),
        _ => <str as Type<Postgres>>::type_info(),
    }
}
