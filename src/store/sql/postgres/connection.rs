//! Connecting: read the source anew, connect within a bound, set the session up, and look once at
//! the server and the table (`table.rs`).

use std::fmt::{self, Write as _};
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode, PgTypeInfo, Postgres};
use sqlx::{ConnectOptions, Connection, Executor, Row, SqlSafeStr, Type};

use super::errors::{self, classify};
use super::identity::{Found, Seen};
use super::pooler::{self, How, Met, Options, Pooler, Probe};
use super::statement::{Line, Statement as Sent};
use super::url::{PostgresUrl, Root, SslMode};
use crate::store::error::StoreError;
use crate::store::sql::address::Host;
use crate::store::sql::dialect::Settings;
use crate::store::sql::session::Session;
use crate::store::sql::several::{self, Says, Writer};
use crate::store::sql::slot::{CONNECT_LIMIT, Connect, First};
use crate::store::sql::source::{Source, readable};
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
    /// Of the server where statements go.
    pub(super) seen: Arc<Seen>,
    pub(super) pooler: Arc<Pooler>,
    pub(super) settings: Settings,
}

/// A connection, and how statements are sent on it.
pub(in crate::store::sql) struct Connected {
    pub(super) connection: PgConnection,
    pub(super) how: How,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// `url` is what the source said just now; every connect asks the source again.
    pub(super) fn new(source: Source, url: &PostgresUrl, application: &str) -> Self {
        Self {
            source,
            application: application.to_owned(),
            name: url.to_string(),
            user: url.user(),
            form: Arc::default(),
            seen: Arc::default(),
            pooler: Arc::default(),
            settings: Settings::default(),
        }
    }

    /// How to get to the server that can be written to, as sqlx wants it, for a connection that is to listen.
    pub(super) async fn options(
        &self,
        url: &PostgresUrl,
        probe: &Probe,
    ) -> Result<PgConnectOptions, StoreError> {
        let (host, port) = match url.hosts.as_slice() {
            [(host, port)] => (host.clone(), *port),
            _ => {
                let found = dial_one_of(url, &self.application, &self.of(url)).await?;
                let _ = found.connection.0.close().await;
                (found.host, found.port)
            }
        };
        options(url, &host, port, &self.application, &Asked::Probe(probe))
    }

    /// Where to listen, and whether that is another address than the one for statements; `None` where
    /// there is a pooler only.
    pub(super) fn listens_at(
        &self,
        url: &PostgresUrl,
    ) -> Result<Option<(Box<PostgresUrl>, bool)>, StoreError> {
        if let Some(direct) = self.source.read_direct::<PostgresUrl>()? {
            return Ok(Some((Box::new(direct), true)));
        }
        Ok(self.pooler.known(url).is_none().then(|| (Box::new(url.clone()), false)))
    }

    pub(super) fn listens_apart(&self) -> bool {
        self.source.has_direct()
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
        self.source.read().map(Box::new)
    }

    async fn ping(&self, session: &mut Session<Self>) -> bool {
        session.line.connection.ping().await.is_ok()
    }

    async fn connect(&self, url: Box<PostgresUrl>, first: First) -> Result<Session<Self>, StoreError> {
        let place = self.of(&url);
        let measured = self.settings.pace().begin();
        let (mut connection, met) = dial(&url, &self.application, &place).await?;
        let how = met.how(&mut connection, &url, self.settings.lock_limit(), &place).await?;
        let session = Session::begin(&place, Connected { connection, how }, first).await?;
        if let Some(why) = session.line.how.pooler() {
            self.pooler.found(&url, why, &place);
        }
        measured.connected();
        Ok(session)
    }
}

/// What a connection asks for at its start, beside what everybody does.
enum Asked<'a> {
    /// What the URL does, and the probe.
    Probe(&'a Probe),
    /// What the URL does of others than the server.
    Nothing,
}

/// A connection to the server, or to the one of several that can be written to.
pub(super) async fn dial(
    url: &PostgresUrl,
    application: &str,
    place: &Place,
) -> Result<(PgConnection, Met), StoreError> {
    let [(host, port)] = url.hosts.as_slice() else {
        return Ok(dial_one_of(url, application, place).await?.connection);
    };
    let limit = url.connect_timeout.map_or(CONNECT_LIMIT, |limit| limit.min(CONNECT_LIMIT));
    match tokio::time::timeout(limit, dial_host(url, host, *port, application, place)).await {
        Ok(answer) => answer?.map_err(|error| classify(error, place)),
        Err(_) => Err(StoreError::retryable(format!("{place}: no connection within {limit:?}"))),
    }
}

/// Once more without what a pooler may refuse. The outer error is of the URL's.
async fn dial_host(
    url: &PostgresUrl,
    host: &Host,
    port: u16,
    application: &str,
    place: &Place,
) -> Result<Result<(PgConnection, Met), sqlx::Error>, StoreError> {
    let plain = options(url, host, port, application, &Asked::Nothing)?;
    let plainly = async |why: String| {
        let connection = PgConnection::connect_with(&plain).await?;
        Ok((connection, Met::Pooler(why)))
    };
    if let Some(why) = place.pooler.known(url) {
        return Ok(plainly(why.to_owned()).await);
    }
    let probe = Probe::new();
    let options = options(url, host, port, application, &Asked::Probe(&probe))?;
    Ok(match PgConnection::connect_with(&options).await {
        Ok(connection) => Ok((connection, Met::Unknown(probe))),
        Err(error) if pooler::may_be_for_options(&error) => plainly(pooler::refusal(&error)).await,
        Err(error) => Err(error),
    })
}

/// Of several servers the one that can be written to.
async fn dial_one_of(
    url: &PostgresUrl,
    application: &str,
    place: &Place,
) -> Result<Writer<(PgConnection, Met)>, StoreError> {
    let mut hosts = url.hosts.clone();
    if url.shuffled {
        fastrand::shuffle(&mut hosts);
    }
    let ask = |host: Host, port: u16| {
        let (url, application, place) = (url.clone(), application.to_owned(), place.clone());
        async move {
            let found = match dial_host(&url, &host, port, &application, &place).await {
                Ok(Ok((connection, met))) => writable(connection).await.map(|found| (found, met)),
                Ok(Err(error)) => Err(error),
                Err(error) => return Says::Refused(error),
            };
            match found {
                Ok((Some((connection, version)), met)) => Says::Writable((connection, met), version),
                Ok((None, _)) => Says::ReadOnly,
                Err(error) if errors::is_of_this_host(&error) => Says::Away(error.to_string()),
                Err(error) => Says::Refused(classify(error, &place)),
            }
        }
    };
    several::writer(hosts, url.connect_timeout, place, &place.settings, ask).await
}

/// The connection, if the server can be written to, and the version of the lease under which it became the primary:
/// 0 where nobody says that to all databases of the server.
async fn writable(mut connection: PgConnection) -> Result<Option<(PgConnection, i64)>, sqlx::Error> {
    let asked = "SELECT pg_catalog.pg_is_in_recovery()
                 OR pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on',
                 pg_catalog.current_setting('component_lease.primary_version', true)";
    let row = connection.fetch_one(sqlx::raw_sql(asked)).await?;
    if row.try_get(0)? {
        let _ = connection.close().await;
        return Ok(None);
    }
    let version: Option<String> = row.try_get(1)?;
    Ok(Some((connection, version.and_then(|text| text.parse().ok()).unwrap_or(0))))
}

fn options(
    url: &PostgresUrl,
    host: &Host,
    port: u16,
    application: &str,
    asked: &Asked<'_>,
) -> Result<PgConnectOptions, StoreError> {
    let mut options = base(url, asked)?
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

/// Options for the server: a URL is the one way to hand them to sqlx without a change. (With a password, so that
/// it looks for none in files.)
fn base(url: &PostgresUrl, asked: &Asked<'_>) -> Result<PgConnectOptions, StoreError> {
    let options = match asked {
        Asked::Probe(probe) => url.options.iter().cloned().chain([probe.option()]).collect::<Vec<_>>(),
        Asked::Nothing => Options::of(url).others,
    };
    let mut text = String::from("postgres://:none@localhost/");
    if !options.is_empty() {
        text += "?options=";
        for byte in options.join(" ").bytes() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text.parse().map_err(|_| StoreError::bug(format!("{url}: the options cannot be handed on")))
}

impl Connected {
    pub(super) fn line(&mut self) -> Line<'_> {
        Line { connection: &mut self.connection, how: &self.how }
    }

    pub(super) async fn limit_lock_wait(&mut self, ms: u64) -> Result<(), sqlx::Error> {
        self.how.limit_lock_wait(ms);
        if !self.how.is_shared() {
            let limit = lock_timeout(ms);
            let set = Sent::new("SELECT pg_catalog.set_config('lock_timeout', $1, false)");
            self.line().execute(set.bind(&limit)).await?;
        }
        Ok(())
    }
}

pub(super) fn lock_timeout(ms: u64) -> String {
    // A statement does not wait for ever: a caller that gave up sends no cancel, and the server would not notice. Up to PostgreSQL's own maximum.
    let limit = if ms == 0 { CONNECT_LIMIT.as_millis() } else { ms.into() };
    format!("{}ms", limit.min(i32::MAX.unsigned_abs().into()))
}

/// On a session of our own.
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
        "version" | "id" | "lasts" | "leads" | "longest_promise" | "priority" => {
            <i64 as Type<Postgres>>::type_info()
        }
        "healthy" | "promises_outside" => <bool as Type<Postgres>>::type_info(),
        _ => <str as Type<Postgres>>::type_info(),
    }
}
