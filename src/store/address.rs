//! What a database URL may say, and what it means. No error quotes a piece of a URL that could not
//! be understood: it might be a piece of the password.

mod mysql;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use url::Url;

pub(super) use self::mysql::MySqlUrl;
#[cfg(feature = "mysql")]
pub(super) use self::mysql::SslMode as MySqlSslMode;
use super::StoreError;

pub(super) fn misconfigured(text: impl Into<String>) -> StoreError {
    StoreError::Misconfigured(text.into())
}

/// A database URL that makes sense. Displayed without secrets.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum DatabaseUrl {
    Postgres(Box<PostgresUrl>),
    MySql(Box<MySqlUrl>),
    Sqlite(PathBuf),
}

/// What a `postgres://` URL says.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PostgresUrl {
    pub host: Host,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: Option<String>,
    /// As written; `None` where the URL leaves it to us.
    pub ssl_mode: Option<SslMode>,
    pub ssl_root_cert: Option<PathBuf>,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
    pub application_name: Option<String>,
    /// Server settings, as `-c name=value`.
    pub options: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or an address without brackets.
    Tcp(String),
    /// The folder of a Unix socket.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const PARAMETERS: &str =
    "sslmode, sslrootcert, sslcert, sslkey, application_name, options, host, port, user, password, dbname";

impl DatabaseUrl {
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("sqlite:") {
            return parse_sqlite(rest).map(Self::Sqlite);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text).map(|url| Self::Postgres(Box::new(url)));
        }
        if text.starts_with("mysql://") || text.starts_with("mariadb://") {
            return MySqlUrl::parse(text).map(|url| Self::MySql(Box::new(url)));
        }
        Err(misconfigured(
            "the database URL must begin with postgres://, mysql://, mariadb:// or sqlite: (for example postgres://user@host:5432/db or sqlite:///absolute/path.db)",
        ))
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

#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "parsed to be refused by name"))]
impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, StoreError> {
        // The parser's own words are not passed on, nor is a part that it found: in a URL whose
        // password was not encoded, any part may be a piece of the password.
        let unencoded = || {
            misconfigured(
                "the database URL cannot be understood: write it as postgres://user:password@host:5432/database, and in user and password write @ : / ? # % as %40 %3A %2F %3F %23 %25",
            )
        };
        // The URL standard has no empty host with a user; a socket's folder then is in ?host=.
        let (text, no_host) = match text.split_once("@/") {
            Some((before, after)) if !before.contains('?') => (format!("{before}@localhost/{after}"), true),
            _ => (text.to_owned(), text.contains(":///")),
        };
        let url = Url::parse(&text).map_err(|_| unencoded())?;
        if url.fragment().is_some()
            || url.path().contains('@')
            || url.query().is_some_and(|q| q.contains('@'))
        {
            return Err(unencoded());
        }
        let mut out = Self {
            host: Host::Tcp("localhost".to_owned()),
            port: url.port().unwrap_or(5432),
            user: Some(decode(url.username())?).filter(|user| !user.is_empty()),
            password: url.password().map(decode).transpose()?,
            database: Some(decode(url.path().trim_start_matches('/'))?).filter(|name| !name.is_empty()),
            ssl_mode: None,
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            application_name: None,
            options: None,
        };
        let mut host = url.host_str().filter(|_| !no_host).map(decode).transpose()?;
        for (key, value) in url.query_pairs() {
            let value = value.into_owned();
            match &*key {
                "sslmode" => out.ssl_mode = Some(SslMode::parse(&value)?),
                "sslrootcert" => out.ssl_root_cert = Some(value.into()),
                "sslcert" => out.ssl_cert = Some(value.into()),
                "sslkey" => out.ssl_key = Some(value.into()),
                "application_name" => out.application_name = Some(value),
                "options" => out.options = Some(value),
                "host" => host = Some(value),
                "port" => {
                    let wrong = |_| misconfigured("the database URL's port is no number from 1 to 65535");
                    out.port = value.parse().map_err(wrong)?;
                }
                "user" => out.user = Some(value),
                "password" => out.password = Some(value),
                "dbname" => out.database = Some(value),
                _ => {
                    // sqlx would log and ignore it, and a misspelt sslmode be lost.
                    return Err(misconfigured(format!(
                        "the database URL has a parameter that is not known here; known are {PARAMETERS}"
                    )));
                }
            }
        }
        out.host = match host {
            Some(host) if host.starts_with('/') => Host::Socket(host.into()),
            Some(host) if host.contains(',') => {
                return Err(misconfigured(
                    "the database URL names several hosts; name one that always leads to the primary",
                ));
            }
            Some(host) if !host.is_empty() => {
                Host::Tcp(host.trim_start_matches('[').trim_end_matches(']').to_owned())
            }
            _ => {
                return Err(misconfigured(
                    "the database URL names no host; write postgres://user@host:5432/database, or ?host=/folder for a Unix socket",
                ));
            }
        };
        if out.ssl_cert.is_some() != out.ssl_key.is_some() {
            return Err(misconfigured("the database URL must name sslcert and sslkey together"));
        }
        Ok(out)
    }

    /// The mode in force: verified when remote, unless the URL says otherwise.
    pub(super) fn ssl_mode_in_force(&self) -> SslMode {
        match (self.ssl_mode, &self.host) {
            (_, Host::Socket(_)) => SslMode::Disable,
            (Some(mode), _) => mode,
            (None, _) if self.host.is_remote() => SslMode::VerifyFull,
            (None, _) => SslMode::Prefer,
        }
    }

    /// What an explicit `sslmode` gives up, for the log.
    pub(super) fn weaker_tls(&self) -> Option<String> {
        let mode = self.ssl_mode.filter(|_| self.host.is_remote())?;
        let lacks = match mode {
            SslMode::VerifyFull => return None,
            SslMode::VerifyCa => "does not check that the certificate is this server's",
            SslMode::Require => {
                "does not check who the server is: whoever is in between can read the password and grant leases"
            }
            SslMode::Prefer => {
                "lets whoever is in between turn encryption off, read the password and grant leases"
            }
            SslMode::Allow | SslMode::Disable => {
                "sends password and leases in the clear: whoever is in between can read the one and change the other"
            }
        };
        Some(format!(
            "sslmode={} {lacks}; use sslmode=verify-full with sslrootcert=/path/to/ca.crt",
            mode.as_str()
        ))
    }

    pub(super) fn user(&self) -> String {
        self.user.clone().unwrap_or_else(|| {
            std::env::var("PGUSER").unwrap_or_else(|_| "the operating system's user".to_owned())
        })
    }
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| {
                misconfigured("the database URL's sslmode must be verify-full, verify-ca, require, prefer, allow or disable")
            })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
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

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL ")?;
        if let Some(database) = &self.database {
            write!(f, "database {database} ")?;
        }
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "at [{host}]:{}", self.port),
            Host::Tcp(host) => write!(f, "at {host}:{}", self.port),
            Host::Socket(folder) => write!(f, "at {}", folder.display()),
        }
    }
}

/// Decodes `%40` and the like.
fn decode(text: &str) -> Result<String, StoreError> {
    let wrong = || {
        misconfigured(
            "the database URL has a % that is not followed by two hexadecimal digits of UTF-8; write % itself as %25",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16)).ok_or_else(wrong);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
