//! What a `mysql://` or `mariadb://` URL says.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::error::StoreError;
use crate::store::sql::address::{Host, Parts, Url, Variables, misconfigured, named, nearest, write_hosts};

#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct MySqlUrl {
    /// As the scheme calls it, for people.
    product: &'static str,
    /// In the order in which they are tried.
    pub hosts: Vec<(Host, u16)>,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    /// As written; `None` where the URL leaves it to us.
    pub ssl_mode: Option<SslMode>,
    pub ssl_ca: Option<PathBuf>,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
    /// For each host.
    pub connect_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SslMode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// Obeyed. Other programs write `ssl_mode` or `sslMode`.
const OBEYED: [&str; 6] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket", "connect-timeout"];

/// Obeyed by what is always so here, as long as the value begins with one of these.
const ALWAYS_SO: [(&str, &[&str], &str); 6] = [
    ("charset", &["utf8", "utf-8"], "utf8mb4 is spoken to every database"),
    ("collation", &["utf8"], "utf8mb4 is spoken to every database"),
    ("compression", &["false", "disabled", "0"], "nothing is compressed"),
    ("compress", &["false", "0"], "nothing is compressed"),
    ("tls-version", &["tlsv1.2", "tlsv1.3"], "TLS 1.2 and 1.3 are spoken"),
    ("get-server-public-key", &["true", "1"], "a password without TLS is encrypted with the server's key"),
];

const EXAMPLE: &str = "mysql://user:password@host:3306/database";

impl Url for MySqlUrl {
    const SCHEMES: &'static [&'static str] = &["mysql://", "mariadb://"];

    fn parse(text: &str, _: Variables<'_>) -> Result<Self, StoreError> {
        let product = if text.starts_with("mariadb") { "MariaDB" } else { "MySQL" };
        // As for PostgreSQL: no part that was found is quoted, it may be a piece of the password.
        let unencoded = || {
            misconfigured(format!(
                "the database URL cannot be understood: write it as {EXAMPLE}, and in user and password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
            ))
        };
        let parts = Parts::of(text, unencoded)?;
        let host = |(name, port): (String, Option<u16>)| (Host::Tcp(name), port.unwrap_or(3306));
        let mut out = Self {
            product,
            hosts: parts.hosts.into_iter().map(host).collect(),
            user: parts.user,
            password: parts.password,
            database: parts.database,
            ssl_mode: None,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: None,
        };
        for (name, value) in parts.parameters {
            out.set(&name, value)?;
        }
        out.check()?;
        Ok(out)
    }

    fn trust(&mut self, file: PathBuf) -> Result<(), StoreError> {
        self.ssl_ca = Some(file);
        match self.ssl_mode {
            None => self.ssl_mode = Some(SslMode::VerifyIdentity),
            Some(SslMode::Required) => self.ssl_mode = Some(SslMode::VerifyCa),
            Some(_) => {}
        }
        Ok(())
    }

    fn set_password(&mut self, password: String) -> Result<(), StoreError> {
        self.password = Some(password);
        Ok(())
    }

    fn weaker_tls(&self) -> Option<String> {
        let remote = self.hosts.iter().any(|(host, _)| host.is_remote());
        let mode = self.ssl_mode.filter(|_| remote)?;
        let lacks = match mode {
            SslMode::VerifyIdentity => return None,
            SslMode::VerifyCa => "does not check that the certificate is this server's",
            _ => "does not verify the server: an attacker in between can read the password and grant leases",
        };
        Some(format!(
            "ssl-mode={} {lacks}; use ssl-mode=VERIFY_IDENTITY with ssl-ca=/path/to/ca.crt",
            mode.as_str()
        ))
    }
}

impl MySqlUrl {
    fn set(&mut self, name: &str, value: String) -> Result<(), StoreError> {
        let (word, same) = (words(name), |known: &&str| words(known) == words(name));
        match OBEYED.iter().copied().find(same) {
            Some("ssl-mode") => self.ssl_mode = Some(SslMode::parse(&value)?),
            Some("ssl-ca") => self.ssl_ca = Some(value.into()),
            Some("ssl-cert") => self.ssl_cert = Some(value.into()),
            Some("ssl-key") => self.ssl_key = Some(value.into()),
            Some("socket") => self.hosts = vec![(Host::Socket(value.into()), 3306)],
            Some(_) => {
                let number: u64 = value.parse().map_err(|_| {
                    misconfigured(format!("the database URL's {name} is no whole number from 0 on"))
                })?;
                // MySQL's own URLs count milliseconds, its C and Python programs seconds.
                let limit = if name.contains('_') {
                    Duration::from_secs(number)
                } else {
                    Duration::from_millis(number)
                };
                self.connect_timeout = Some(limit).filter(|limit| !limit.is_zero());
            }
            None => {
                if let Some((_, values, why)) = ALWAYS_SO.iter().find(|(known, ..)| words(known) == word) {
                    let value = value.to_lowercase();
                    if values.iter().any(|known| value.starts_with(known)) {
                        return Ok(());
                    }
                    return Err(misconfigured(format!(
                        "the database URL's {name} has a value that cannot be obeyed: {why}; leave it out"
                    )));
                }
                // A misspelt ssl-mode must not be lost.
                let near = nearest(&name.to_lowercase(), &OBEYED);
                let near = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
                return Err(misconfigured(format!(
                    "the database URL has {}, which is not known{near}; known are {}",
                    named(name),
                    OBEYED.join(", ")
                )));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        let wrong = |what: &str| Err(misconfigured(format!("the database URL {what}; write {EXAMPLE}")));
        if self.user.is_empty() {
            return wrong("names no user");
        }
        if self.database.is_empty() {
            return wrong("names no database");
        }
        if self.hosts.iter().any(|(host, _)| *host == Host::Tcp(String::new())) {
            return wrong(if self.hosts.len() > 1 {
                "names an empty host among its hosts"
            } else {
                "names neither a host nor ?socket=/path/to/mysqld.sock"
            });
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            return Err(misconfigured("the database URL must name ssl-cert and ssl-key together"));
        }
        if self.hosts.iter().any(|(host, _)| host.is_remote())
            && let Some(mode @ (SslMode::Disabled | SslMode::Preferred)) = self.ssl_mode
        {
            return Err(misconfigured(format!(
                "ssl-mode={} would let an attacker between here and the database learn the password and grant leases; use VERIFY_IDENTITY with ssl-ca=/path/to/ca.crt (REQUIRED at least), or a Unix socket",
                mode.as_str()
            )));
        }
        Ok(())
    }

    /// The mode in force: verified when remote, unless the URL says otherwise. On a socket TLS is not
    /// for secrecy: MySQL's `caching_sha2_password` wants it at a user's first connection.
    pub(in crate::store) fn ssl_mode_in_force(&self, host: &Host) -> SslMode {
        match self.ssl_mode {
            Some(mode) => mode,
            None if host.is_remote() => SslMode::VerifyIdentity,
            None => SslMode::Preferred,
        }
    }
}

/// `ssl_mode` and `sslMode` are `ssl-mode`.
fn words(name: &str) -> String {
    name.chars().filter(|c| !"-_".contains(*c)).flat_map(char::to_lowercase).collect()
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Disabled, Self::Preferred, Self::Required, Self::VerifyCa, Self::VerifyIdentity]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(&text.replace('-', "_")))
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
        write_hosts(f, &self.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::address;

    fn parsed(text: &str) -> Result<MySqlUrl, StoreError> {
        address::read(text, &|_| None)
    }

    fn parse(text: &str) -> MySqlUrl {
        parsed(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        match parsed(text) {
            Err(StoreError::Misconfigured { message: why, .. }) => why,
            Err(other) => panic!("{text}: {other}"),
            Ok(url) => panic!("{text} was taken for {url}"),
        }
    }

    #[test]
    fn a_url_is_taken_apart() {
        let url =
            parse("mysql://me%40corp:p%40s%3As@db.example:3307/my%20app?ssl-mode=verify_ca&ssl-ca=/ca.crt");
        assert_eq!(url.hosts, [(Host::Tcp("db.example".into()), 3307)]);
        assert_eq!((url.user.as_str(), url.password.as_deref()), ("me@corp", Some("p@s:s")));
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
            assert_eq!(parse(url).hosts, [(Host::Socket("/run/mysqld/mysqld.sock".into()), 3306)], "{url}");
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
            let url = parse(url);
            assert_eq!(url.ssl_mode_in_force(&url.hosts[0].0), mode, "{url}");
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
            "mysql://u:hunter2@h/d?ssl-mode=on",
            "mysql://u:hunter2@h1,,h2/d",
            "mysql://u:hunter2@h1,h2:x/d",
            "mysql://u:hunter2@h/d?connect_timeout=soon",
            "mysql://u:hunter2@h/d?charset=latin1",
            "mysql://u:hunter2@h/d?useSSL",
            "mysql://u:hunter2@h/d?ssl-cert=/x",
        ] {
            let why = refused(url);
            assert!(!why.contains("hunter2") && !why.contains("hun@"), "{url}: {why}");
            assert!(why.len() > 30, "{url}: {why}");
        }
    }

    #[test]
    fn several_hosts_are_tried_in_their_order() {
        for url in ["mysql://u@h1,h2:3307,[::1]:3308/d", "mysql://u@[h1:3306,h2:3307,[::1]:3308]/d"] {
            let url = parse(url);
            assert_eq!(url.to_string(), "MySQL database d at h1:3306, h2:3307, [::1]:3308");
            assert_eq!(url.ssl_mode_in_force(&url.hosts[0].0), SslMode::VerifyIdentity);
            assert_eq!(url.ssl_mode_in_force(&url.hosts[2].0), SslMode::Preferred);
        }
    }

    #[test]
    fn other_programs_names_of_a_parameter_are_known_and_an_unknown_one_is_named() {
        let url = parse(
            "mysql://u@h/d?ssl_mode=REQUIRED&sslCa=/ca&charset=utf8mb4&connect_timeout=3&tls-version=TLSv1.2",
        );
        assert_eq!((url.ssl_mode, url.ssl_ca), (Some(SslMode::Required), Some("/ca".into())));
        assert_eq!(url.connect_timeout, Some(Duration::from_secs(3)));
        let url = parse("mysql://u@h/d?sslMode=verify-identity&connect-timeout=3000");
        assert_eq!(
            (url.ssl_mode, url.connect_timeout),
            (Some(SslMode::VerifyIdentity), Some(Duration::from_secs(3)))
        );
        for (parameter, pieces) in [
            ("sslmod=REQUIRED", &["sslmod", "did you mean ssl-mode"][..]),
            ("useSSL=true", &["useSSL", "known are ssl-mode"]),
            ("charset=latin1", &["charset", "utf8mb4"]),
        ] {
            let why = refused(&format!("mysql://u:hunter2@h/d?{parameter}"));
            assert!(pieces.iter().all(|piece| why.contains(piece)), "{why}");
        }
    }

    #[test]
    fn an_authority_beside_the_url_is_checked() {
        for (url, mode) in [
            ("mysql://u@127.0.0.1/d", SslMode::VerifyIdentity),
            ("mysql://u@h/d?ssl-mode=REQUIRED", SslMode::VerifyCa),
            ("mysql://u@h/d?ssl-mode=VERIFY_CA&ssl-ca=/old", SslMode::VerifyCa),
        ] {
            let mut url = parse(url);
            url.trust("/ca".into()).unwrap();
            assert_eq!((url.ssl_mode, url.ssl_ca), (Some(mode), Some("/ca".into())));
        }
    }
}
