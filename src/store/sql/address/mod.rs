//! What a database URL may say, and what it means. No error quotes a piece of a URL that could not
//! be understood: it might be a piece of the password. The name of a parameter is quoted where it
//! looks like one.

mod mistakes;
mod mysql;
mod parts;
mod postgres;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

pub(super) use self::mysql::MySqlUrl;
#[cfg(feature = "mysql")]
pub(super) use self::mysql::SslMode as MySqlSslMode;
use self::parts::decode;
pub(super) use self::postgres::PostgresUrl;
#[cfg(feature = "postgres")]
pub(super) use self::postgres::{Root, SslMode};
use super::StoreError;

pub(super) fn misconfigured(text: impl Into<String>) -> StoreError {
    StoreError::misconfigured(text)
}

/// A database URL that makes sense. Displayed without secrets.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum DatabaseUrl {
    Postgres(Box<PostgresUrl>),
    MySql(Box<MySqlUrl>),
    Sqlite(PathBuf),
}

/// One of the servers that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or an address without brackets.
    Tcp(String),
    /// The folder of a Unix socket (PostgreSQL), or the socket itself (MySQL).
    Socket(PathBuf),
}

impl Host {
    /// Whether the connection leaves this machine.
    fn is_remote(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Tcp(host) => {
                let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                !(loopback || host.eq_ignore_ascii_case("localhost"))
            }
        }
    }
}

/// For people.
pub(super) struct At<'a>(pub(super) &'a Host, pub(super) u16);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Host::Tcp(host), port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self(Host::Tcp(host), port) => write!(f, "{host}:{port}"),
            Self(Host::Socket(path), _) => write!(f, "{}", path.display()),
        }
    }
}

fn write_hosts(f: &mut fmt::Formatter<'_>, hosts: &[(Host, u16)]) -> fmt::Result {
    for (index, (host, port)) in hosts.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { "at " } else { ", " }, At(host, *port))?;
    }
    Ok(())
}

/// The environment, or a test's own.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl DatabaseUrl {
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::parse_with(text, &|name| std::env::var(name).ok())
    }

    fn parse_with(text: &str, variables: Variables<'_>) -> Result<Self, StoreError> {
        let text = text.trim();
        if let Some(mistake) = mistakes::found(text) {
            return Err(mistake);
        }
        if let Some(rest) = text.strip_prefix("sqlite:") {
            return parse_sqlite(rest).map(Self::Sqlite);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text, variables).map(|url| Self::Postgres(Box::new(url)));
        }
        if text.starts_with("mysql://") || text.starts_with("mariadb://") {
            return MySqlUrl::parse(text).map(|url| Self::MySql(Box::new(url)));
        }
        Err(misconfigured(
            "the database URL must begin with postgres://, mysql://, mariadb:// or sqlite: (for example postgres://user@host:5432/db or sqlite:///absolute/path.db)",
        ))
    }

    /// The authority beside a URL that does not name it; beats the URL's own.
    pub(super) fn trust(&mut self, file: PathBuf) -> Result<(), StoreError> {
        match self {
            Self::Postgres(url) => url.trust(file),
            Self::MySql(url) => url.trust(file),
            Self::Sqlite(_) => {
                return Err(misconfigured("a SQLite file has no certificate; leave out the CA file"));
            }
        }
        Ok(())
    }
}

fn parse_sqlite(rest: &str) -> Result<PathBuf, StoreError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.contains(['?', '#']) {
        return Err(misconfigured(
            "a sqlite: URL takes no parameters; write ? and # in a file name as %3F and %23",
        ));
    }
    let path = decode(path)?;
    match path.as_str() {
        "" => Err(misconfigured("the sqlite: URL names no file; write sqlite:///absolute/path.db")),
        ":memory:" => {
            Err(misconfigured("a SQLite database in memory is seen by nobody else; name a file instead"))
        }
        _ => Ok(PathBuf::from(path)),
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) => url.fmt(f),
            Self::MySql(url) => url.fmt(f),
            Self::Sqlite(path) => write!(f, "SQLite file {}", path.display()),
        }
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
