//! Asking a server: over its own Unix socket as the supervisor's account, or another member's server. Every statement
//! is sent as text, and every answer is read as text.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use super::config::{Config, Peers};
use crate::database::engine::{EngineError, Leader};

/// How long an ordinary statement may take before it is given up with its connection.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// What each session says first. Nothing that somebody has made in the database is to be taken for the server's own.
const FIRST: &str = "SET search_path = pg_catalog; SET synchronous_commit = on; SET statement_timeout = 0; \
                     SET lock_timeout = '2s'; SET default_transaction_read_only = off; SET client_min_messages = warning";

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    whose: String,
}

/// The values of a row, in the order in which they were asked for.
pub(super) type Values = Vec<Option<String>>;

impl Session {
    /// To the server on this machine.
    pub(super) async fn own(config: &Config, socket: &Path, port: u16) -> Result<Self, EngineError> {
        let options = base()?.socket(socket).port(port).username(&config.user).database(&config.database);
        let options = options.ssl_mode(PgSslMode::Disable).application_name("component-lease");
        Self::connect(options, format!("the server of {}", config.data.display())).await
    }

    /// To the server of another member.
    pub(super) async fn of(peers: &Peers, leader: &Leader, database: &str) -> Result<Self, EngineError> {
        let mode = match peers.mode() {
            "disable" => PgSslMode::Disable,
            "allow" => PgSslMode::Allow,
            "prefer" => PgSslMode::Prefer,
            "require" => PgSslMode::Require,
            "verify-ca" => PgSslMode::VerifyCa,
            "verify-full" => PgSslMode::VerifyFull,
            other => return Err(EngineError::refused(format!("there is no sslmode {other:?}"))),
        };
        let mut options = base()?.port(leader.port).username(&peers.user).database(database).ssl_mode(mode);
        options = options.application_name("component-lease");
        options = if leader.host.starts_with('/') {
            options.socket(&leader.host)
        } else {
            options.host(&leader.host)
        };
        options = match &peers.tls_root {
            Some(root) => options.ssl_root_cert(root),
            None => options.ssl_root_cert_from_pem(Vec::new()),
        };
        if let (Some(cert), Some(key)) = (&peers.tls_cert, &peers.tls_key) {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        }
        if let Some(password) = password(peers)? {
            options = options.password(&password);
        }
        Self::connect(options, format!("the server of {leader}")).await
    }

    async fn connect(options: PgConnectOptions, whose: String) -> Result<Self, EngineError> {
        let options = options.disable_statement_logging();
        let failed = |why: String| EngineError::failed(format!("{whose} cannot be asked: {why}"));
        let connection = match timeout(LIMIT, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(failed(said(&error))),
            Err(_) => return Err(failed(format!("no connection within {LIMIT:?}"))),
        };
        let mut session = Self { connection, whose };
        session.run(FIRST).await?;
        Ok(session)
    }

    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Values>, EngineError> {
        self.rows_within(LIMIT, sql).await
    }

    /// A session whose statement was given up must not be used again: it would answer the earlier question.
    pub(super) async fn rows_within(
        &mut self,
        limit: Duration,
        sql: &str,
    ) -> Result<Vec<Values>, EngineError> {
        let asked = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        let rows = match timeout(limit, asked).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                return Err(EngineError::failed(format!("{}: {}", self.whose, said(&error))));
            }
            Err(_) => {
                return Err(EngineError::failed(format!(
                    "{} does not answer within {limit:?}: {sql}",
                    self.whose
                )));
            }
        };
        let values = |row: &sqlx::postgres::PgRow| {
            (0..row.len())
                .map(|at| row.try_get_unchecked::<Option<String>, _>(at))
                .collect::<Result<Vec<_>, _>>()
        };
        rows.iter().map(values).collect::<Result<_, _>>().map_err(|error| EngineError::failed(said(&error)))
    }

    pub(super) async fn row(&mut self, sql: &str) -> Result<Values, EngineError> {
        let rows = self.rows(sql).await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| EngineError::failed(format!("{} gives no row for {sql}", self.whose)))
    }

    /// The first value of the first row; empty where it is NULL.
    pub(super) async fn value(&mut self, sql: &str) -> Result<String, EngineError> {
        Ok(self.row(sql).await?.into_iter().next().flatten().unwrap_or_default())
    }

    pub(super) async fn run(&mut self, sql: &str) -> Result<(), EngineError> {
        self.rows(sql).await.map(drop)
    }
}

/// A URL is the one way to options that look for no password in files.
fn base() -> Result<PgConnectOptions, EngineError> {
    "postgres://:none@localhost/".parse().map_err(|error| EngineError::failed(said(&error)))
}

/// PostgreSQL's own words, without those of the library.
fn said(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(said) => said.message().to_owned(),
        None => error.to_string(),
    }
}

/// Read each time: a mounted secret may be rotated.
pub(super) fn password(peers: &Peers) -> Result<Option<String>, EngineError> {
    let Some(file) = &peers.password_file else { return Ok(None) };
    let text = std::fs::read_to_string(file).map_err(|error| {
        EngineError::failed(format!(
            "cannot read the password of {} from {}: {error}",
            peers.user,
            file.display()
        ))
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(EngineError::failed(format!("the password file {} is empty", file.display())));
    }
    Ok(Some(text.to_owned()))
}

/// A text in SQL.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether the server says that it answers. One whose data are not whole never does.
pub(super) fn says_ready(postmaster: &str) -> bool {
    postmaster.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

/// Where the server listens, as its own file says: its socket's folder and its port.
pub(super) fn place(data: &Path) -> Result<(PathBuf, u16), EngineError> {
    let file = data.join("postmaster.pid");
    let text = std::fs::read_to_string(&file).map_err(|error| {
        EngineError::failed(format!("the server has not begun: {}: {error}", file.display()))
    })?;
    let mut lines = text.lines();
    let port = lines.nth(3).and_then(|port| port.trim().parse().ok());
    let port = port.ok_or_else(|| EngineError::failed("the server has not begun to listen"))?;
    match lines.next().map(str::trim) {
        Some(socket) if socket.starts_with('/') => Ok((socket.into(), port)),
        // Its state is the eighth line, which comes when it has written the others.
        Some(_) if text.lines().count() >= 8 => Err(EngineError::refused(
            "the server has no Unix socket, over which it is managed; set unix_socket_directories to a folder",
        )),
        _ => Err(EngineError::failed("the server has not begun to listen")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let wrote = |text: &str| {
            std::fs::write(folder.path().join("postmaster.pid"), text).unwrap();
            place(folder.path())
        };
        assert_eq!(wrote("7\n/data\n17\n5433\n/run/pg\nlocalhost\n").unwrap(), ("/run/pg".into(), 5433));
        assert!(!wrote("7\n/data\n17\n5433\n\n").unwrap_err().is_refusal(), "it may be about to listen");
        assert!(wrote("7\n/data\n17\n5433\n\nlocalhost\n 5 6\nready\n").unwrap_err().is_refusal());
        assert!(!wrote("7\n/data\n").unwrap_err().is_refusal());
    }

    #[test]
    fn a_server_says_when_it_answers() {
        let says =
            |state: &str| says_ready(&format!("7\n/data\n17\n5433\n/run/pg\nlocalhost\n 5 6\n{state}\n"));
        assert!(says("ready   ") && !says("starting"));
        assert!(!says_ready("7\n/data\n17\n5433\n/run/pg\nlocalhost\n 5 6\n"));
    }

    #[test]
    fn a_text_ends_where_it_is_meant_to() {
        assert_eq!(quoted("it's"), "'it''s'");
    }
}
