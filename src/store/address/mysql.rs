//! What a `mysql://` or `mariadb://` URL says.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::{Host, StoreError, decode, misconfigured};

#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct MySqlUrl {
    /// As the scheme calls it, for people.
    product: &'static str,
    /// [`Host::Socket`] is the socket itself here, not its folder.
    pub host: Host,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    /// As written; `None` where the URL leaves it to us.
    pub ssl_mode: Option<SslMode>,
    pub ssl_ca: Option<PathBuf>,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SslMode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

const PARAMETERS: &str = "ssl-mode, ssl-ca, ssl-cert, ssl-key, socket";

const EXAMPLE: &str = "mysql://user:password@host:3306/database";

#[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "parsed to be refused by name"))]
impl MySqlUrl {
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let product = if text.starts_with("mariadb") { "MariaDB" } else { "MySQL" };
        // As for PostgreSQL: no part that was found is quoted, it may be a piece of the password.
        let unencoded = || {
            misconfigured(format!(
                "the database URL cannot be understood: write it as {EXAMPLE}, and in user and password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
            ))
        };
        // The URL standard has no empty host with a user; the socket then is in ?socket=.
        let (text, no_host) = match text.split_once("@/") {
            Some((before, after)) if !before.contains('?') => (format!("{before}@localhost/{after}"), true),
            _ => (text.to_owned(), text.contains(":///")),
        };
        let url = Url::parse(&text).map_err(|_| unencoded())?;
        if url.fragment().is_some()
            || url.path().contains('@')
            || url.path().trim_start_matches('/').contains('/')
            || url.query().is_some_and(|query| query.contains('@'))
        {
            return Err(unencoded());
        }
        let host = url.host_str().filter(|_| !no_host).map(decode).transpose()?.unwrap_or_default();
        let mut out = Self {
            product,
            host: Host::Tcp(host.trim_start_matches('[').trim_end_matches(']').to_owned()),
            port: url.port().unwrap_or(3306),
            user: decode(url.username())?,
            password: url.password().map(decode).transpose()?,
            database: decode(url.path().trim_start_matches('/'))?,
            ssl_mode: None,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
        };
        for (key, value) in url.query_pairs() {
            let value = value.into_owned();
            match &*key {
                "ssl-mode" => out.ssl_mode = Some(SslMode::parse(&value)?),
                "ssl-ca" => out.ssl_ca = Some(value.into()),
                "ssl-cert" => out.ssl_cert = Some(value.into()),
                "ssl-key" => out.ssl_key = Some(value.into()),
                "socket" => out.host = Host::Socket(value.into()),
                // A misspelt ssl-mode must not be lost.
                _ => {
                    return Err(misconfigured(format!(
                        "the database URL has a parameter that is not known here; known are {PARAMETERS}"
                    )));
                }
            }
        }
        out.check()?;
        Ok(out)
    }

    fn check(&self) -> Result<(), StoreError> {
        let wrong = |what: &str| Err(misconfigured(format!("the database URL {what}; write {EXAMPLE}")));
        if self.user.is_empty() {
            return wrong("names no user");
        }
        if self.database.is_empty() {
            return wrong("names no database");
        }
        match &self.host {
            Host::Tcp(host) if host.is_empty() => {
                return wrong("names neither a host nor ?socket=/path/to/mysqld.sock");
            }
            Host::Tcp(host) if host.contains(',') => {
                return wrong("names several hosts, but must name one that always leads to the primary");
            }
            _ => {}
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            return Err(misconfigured("the database URL must name ssl-cert and ssl-key together"));
        }
        if self.host.is_remote()
            && let Some(mode @ (SslMode::Disabled | SslMode::Preferred)) = self.ssl_mode
        {
            return Err(misconfigured(format!(
                "ssl-mode={} would let whoever is between here and the database learn the password and grant leases; use VERIFY_IDENTITY with ssl-ca=/path/to/ca.crt (REQUIRED at least), or a Unix socket",
                mode.as_str()
            )));
        }
        Ok(())
    }

    /// The mode in force: verified when remote, unless the URL says otherwise. On a socket TLS is not
    /// for secrecy: MySQL's `caching_sha2_password` wants it at a user's first connection.
    pub(in crate::store) fn ssl_mode_in_force(&self) -> SslMode {
        match self.ssl_mode {
            Some(mode) => mode,
            None if self.host.is_remote() => SslMode::VerifyIdentity,
            None => SslMode::Preferred,
        }
    }

    /// What an explicit `ssl-mode` gives up, for the log.
    pub(in crate::store) fn weaker_tls(&self) -> Option<String> {
        let mode = self.ssl_mode.filter(|_| self.host.is_remote())?;
        let lacks = match mode {
            SslMode::VerifyIdentity => return None,
            SslMode::VerifyCa => "does not check that the certificate is this server's",
            _ => {
                "does not check who the server is: whoever is in between can read the password and grant leases"
            }
        };
        Some(format!(
            "ssl-mode={} {lacks}; use ssl-mode=VERIFY_IDENTITY with ssl-ca=/path/to/ca.crt",
            mode.as_str()
        ))
    }
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Disabled, Self::Preferred, Self::Required, Self::VerifyCa, Self::VerifyIdentity]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                misconfigured("the database URL's ssl-mode must be VERIFY_IDENTITY, VERIFY_CA, REQUIRED, PREFERRED or DISABLED")
            })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
            Self::VerifyCa => "VERIFY_CA",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }
}

impl fmt::Display for MySqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} database {} ", self.product, self.database)?;
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "at [{host}]:{}", self.port),
            Host::Tcp(host) => write!(f, "at {host}:{}", self.port),
            Host::Socket(socket) => write!(f, "at {}", socket.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> MySqlUrl {
        MySqlUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        match MySqlUrl::parse(text) {
            Err(StoreError::Misconfigured(why)) => why,
            Err(other) => panic!("{text}: {other}"),
            Ok(url) => panic!("{text} was taken for {url}"),
        }
    }

    #[test]
    fn a_url_is_taken_apart() {
        let url =
            parse("mysql://me%40corp:p%40s%3As@db.example:3307/my%20app?ssl-mode=verify_ca&ssl-ca=/ca.crt");
        assert_eq!(url.host, Host::Tcp("db.example".into()));
        assert_eq!((url.port, url.user.as_str(), url.password.as_deref()), (3307, "me@corp", Some("p@s:s")));
        assert_eq!((url.database.as_str(), url.ssl_mode), ("my app", Some(SslMode::VerifyCa)));
        assert_eq!(url.ssl_ca, Some("/ca.crt".into()));
        assert_eq!(url.to_string(), "MySQL database my app at db.example:3307");
        assert_eq!(
            parse("mariadb://u@[2001:db8::1]/d").to_string(),
            "MariaDB database d at [2001:db8::1]:3306"
        );
    }

    #[test]
    fn a_socket_is_named_by_its_path() {
        for url in [
            "mysql://u@/d?socket=/run/mysqld/mysqld.sock",
            "mysql://u@ignored/d?socket=/run/mysqld/mysqld.sock",
        ] {
            assert_eq!(parse(url).host, Host::Socket("/run/mysqld/mysqld.sock".into()), "{url}");
        }
    }

    #[test]
    fn a_remote_server_is_verified_unless_the_url_says_otherwise() {
        for (url, mode) in [
            ("mysql://u@db.example/d", SslMode::VerifyIdentity),
            ("mysql://u@10.0.0.7/d", SslMode::VerifyIdentity),
            ("mysql://u@localhost.example/d", SslMode::VerifyIdentity),
            ("mysql://u@localhost/d", SslMode::Preferred),
            ("mysql://u@127.1.2.3/d", SslMode::Preferred),
            ("mysql://u@[::1]:3306/d", SslMode::Preferred),
            ("mysql://u@127.0.0.1/d?ssl-mode=DISABLED", SslMode::Disabled),
            ("mysql://u@db.example/d?ssl-mode=REQUIRED", SslMode::Required),
            ("mysql://u@/d?socket=/s", SslMode::Preferred),
        ] {
            assert_eq!(parse(url).ssl_mode_in_force(), mode, "{url}");
        }
    }

    #[test]
    fn a_password_never_goes_to_another_machine_without_tls() {
        for mode in ["DISABLED", "PREFERRED", "preferred"] {
            let why = refused(&format!("mysql://u:hunter2@db.example/d?ssl-mode={mode}"));
            assert!(why.contains("VERIFY_IDENTITY") && !why.contains("hunter2"), "{why}");
        }
        for (mode, weaker) in [("REQUIRED", true), ("VERIFY_CA", true), ("VERIFY_IDENTITY", false)] {
            let url = parse(&format!("mysql://u@db.example/d?ssl-mode={mode}"));
            assert_eq!(url.weaker_tls().is_some(), weaker, "{mode}");
        }
    }

    #[test]
    fn a_malformed_url_is_refused_with_what_to_write_and_without_a_piece_of_the_password() {
        for url in [
            "mysql:",
            "mysql://",
            "mysql://h/d",
            "mysql://u:hunter2@h",
            "mysql://u:hunter2@h/",
            "mysql://u:hunter2@/d",
            "mysql://u:hunter2@h:99999/d",
            "mysql://u:hun@hunter2/x@h/d",
            "mysql://u:12#hunter2@h/d",
            "mysql://u:hun/hunter2@h/d",
            "mysql://u:hunter2%@h/d",
            "mysql://u:hunter2@h/d?ssl_mode=REQUIRED",
            "mysql://u:hunter2@h/d?ssl-mode=on",
            "mysql://u:hunter2@h1,h2/d",
            "mysql://u:hunter2@h/d?ssl-cert=/x",
        ] {
            let why = refused(url);
            assert!(!why.contains("hunter2") && !why.contains("hun@"), "{url}: {why}");
            assert!(why.len() > 30, "{url}: {why}");
        }
    }
}
