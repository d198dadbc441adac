//! What a `postgres://` URL says, and the environment beneath it: libpq's parameters and variables, each
//! of them obeyed, or refused by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::error::StoreError;
use crate::store::sql::address::{Host, Parts, Url, Variables, misconfigured, named, nearest, write_hosts};

/// What a `postgres://` URL says.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct PostgresUrl {
    /// In the order in which they are tried.
    pub hosts: Vec<(Host, u16)>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: Option<String>,
    /// As written; `None` where it is left to us.
    pub ssl_mode: Option<SslMode>,
    pub ssl_root: Root,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
    pub application_name: Option<String>,
    /// Server settings, as libpq has them.
    pub options: Option<String>,
    /// For each host.
    pub connect_timeout: Option<Duration>,
    /// In an order of chance.
    pub shuffled: bool,
    /// A pooler is in between, by the URL's own word.
    pub pooled: bool,
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Root {
    /// The public ones.
    Public,
    /// Those of the operating system.
    System,
    /// Also those in a file.
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// libpq's variables and what they stand for, each used where the URL leaves it out.
const VARIABLES: [(&str, &str); 33] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGSERVICE", "service"),
    ("PGSERVICEFILE", "servicefile"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLSNI", "sslsni"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGKRBSRVNAME", "krbsrvname"),
    ("PGGSSDELEGATION", "gssdelegation"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGCLIENTENCODING", "client_encoding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];

/// Obeyed.
const OBEYED: [&str; 20] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "options",
    "password",
    "pgbouncer",
    "port",
    "ssl",
    "sslcert",
    "sslcertmode",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// Obeyed by what is always so here, as long as it has one of these values (any, where none is listed).
const ALWAYS_SO: [(&str, &[&str], &str); 19] = [
    ("client_encoding", &["utf8", "utf-8", "auto", "unicode"], "UTF8 is spoken to every database"),
    ("gssencmode", &["disable", "prefer"], "GSSAPI is not supported"),
    ("sslnegotiation", &["postgres"], "TLS is asked for as servers before PostgreSQL 17 know it"),
    ("sslsni", &["1"], "the host's name is always told"),
    ("ssl_min_protocol_version", &["", "TLSv1", "TLSv1.1", "TLSv1.2"], "TLS 1.2 and 1.3 are spoken"),
    ("ssl_max_protocol_version", &["", "TLSv1.3"], "TLS 1.2 and 1.3 are spoken"),
    ("min_protocol_version", &["", "3.0"], "version 3.0 of the protocol is spoken"),
    ("replication", &["", "false", "off", "no", "0"], "no replication is done"),
    // No call ever waits as long as any keepalive, and there are neither compression nor GSSAPI.
    ("max_protocol_version", &[], ""),
    ("keepalives", &[], ""),
    ("keepalives_idle", &[], ""),
    ("keepalives_interval", &[], ""),
    ("keepalives_count", &[], ""),
    ("tcp_user_timeout", &[], ""),
    ("sslcompression", &[], ""),
    ("krbsrvname", &[], ""),
    ("gsslib", &[], ""),
    ("gssdelegation", &[], ""),
    ("scram_client_key", &[""], "a password is needed"),
];

/// Known, and refused with what to do.
const REFUSED: [(&str, &str); 14] = [
    ("passfile", "name a file that holds only the password with --database-password-file"),
    ("service", "write host, database and user into the URL"),
    ("servicefile", "write host, database and user into the URL"),
    (
        "require_auth",
        "it cannot be obeyed; use sslmode=verify-full, so that the password reaches the right server alone",
    ),
    ("requirepeer", "it cannot be obeyed; give the socket's folder to the server's account alone"),
    ("sslcrl", "revoked certificates are not looked up; leave it out"),
    ("sslcrldir", "revoked certificates are not looked up; leave it out"),
    ("sslpassword", "decrypt the key: openssl pkey -in client.key -out plain.key"),
    ("sslkeylogfile", "it would write down the keys of the connection; leave it out"),
    ("scram_server_key", "leave it out"),
    ("requiressl", "write sslmode=verify-full"),
    ("schema", "write options=-c%20search_path%3DSCHEMA, or ALTER ROLE ... SET search_path"),
    ("currentSchema", "write options=-c%20search_path%3DSCHEMA, or ALTER ROLE ... SET search_path"),
    ("search_path", "write options=-c%20search_path%3DSCHEMA, or ALTER ROLE ... SET search_path"),
];

/// Where a value comes from, for messages.
#[derive(Clone, Copy)]
enum From {
    Url,
    Variable(&'static str),
}

impl From {
    fn says(self, name: &str) -> String {
        match self {
            Self::Url => format!("the database URL's {name}"),
            Self::Variable(variable) => format!("the variable {variable} ({name})"),
        }
    }
}

type Given = BTreeMap<String, (String, From)>;

fn unencoded() -> StoreError {
    misconfigured(
        "the database URL cannot be understood: write it as postgres://user:password@host:5432/database, and in user and password write @ : / ? # % as %40 %3A %2F %3F %23 %25",
    )
}

impl Url for PostgresUrl {
    const SCHEMES: &'static [&'static str] = &["postgres://", "postgresql://"];

    const HAS_DIRECT: bool = true;

    fn parse(text: &str, variables: Variables<'_>) -> Result<Self, StoreError> {
        let mut given = Given::new();
        for (variable, name) in VARIABLES {
            if let Some(value) = variables(variable).filter(|value| !value.is_empty()) {
                given.insert(name.to_owned(), (value, From::Variable(variable)));
            }
        }
        if variables("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
            let require = ("require".to_owned(), From::Variable("PGREQUIRESSL"));
            given.entry("sslmode".to_owned()).or_insert(require);
        }
        let parts = Parts::of(text, unencoded)?;
        let mut say = |name: &str, value: String| given.insert(name.to_owned(), (value, From::Url));
        let join = |of: &dyn Fn(&(String, Option<u16>)) -> String| {
            parts.hosts.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let hosts = join(&|(host, _)| host.clone());
        if !hosts.is_empty() {
            say("host", hosts);
        }
        if parts.hosts.iter().any(|(_, port)| port.is_some()) {
            say("port", join(&|(_, port)| port.map_or_else(String::new, |port| port.to_string())));
        }
        for (name, value) in [("user", parts.user), ("dbname", parts.database)] {
            if !value.is_empty() {
                say(name, value);
            }
        }
        if let Some(password) = parts.password {
            say("password", password);
        }
        for (name, value) in parts.parameters {
            check_name(&name)?;
            say(&name, value);
        }
        Self::of(&given)
    }

    fn trust(&mut self, file: PathBuf) -> Result<(), StoreError> {
        self.ssl_root = Root::File(file);
        match self.ssl_mode {
            None => self.ssl_mode = Some(SslMode::VerifyFull),
            Some(SslMode::Require) => self.ssl_mode = Some(SslMode::VerifyCa),
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
            SslMode::VerifyFull => return None,
            SslMode::VerifyCa => "does not check that the certificate is this server's",
            SslMode::Require => {
                "does not verify the server: an attacker in between can read the password and grant leases"
            }
            SslMode::Prefer => {
                "lets an attacker in between turn encryption off, read the password and grant leases"
            }
            SslMode::Allow | SslMode::Disable => {
                "sends password and leases unencrypted: an attacker in between can read the one and change the other"
            }
        };
        Some(format!(
            "sslmode={} {lacks}; use sslmode=verify-full with sslrootcert=/path/to/ca.crt",
            mode.as_str()
        ))
    }
}

impl PostgresUrl {
    fn of(given: &Given) -> Result<Self, StoreError> {
        for (name, (value, from)) in given {
            refuse(name, value, *from)?;
        }
        let text =
            |name: &str| given.get(name).map(|(value, _)| value.clone()).filter(|value| !value.is_empty());
        let one_of = |name: &str, values: &[&str]| -> Result<Option<String>, StoreError> {
            match given.get(name) {
                Some((value, from)) if !values.contains(&value.as_str()) => {
                    Err(misconfigured(format!("{} must be {}", from.says(name), values.join(", "))))
                }
                found => Ok(found.map(|(value, _)| value.clone())),
            }
        };
        let mut out = Self {
            hosts: hosts(text("host"), text("hostaddr"), text("port").as_deref())?,
            user: text("user"),
            password: given.get("password").map(|(value, _)| value.clone()),
            database: text("dbname"),
            ssl_mode: None,
            ssl_root: match text("sslrootcert").as_deref() {
                None => Root::Public,
                Some("system") => Root::System,
                Some(file) => Root::File(file.into()),
            },
            ssl_cert: text("sslcert").map(PathBuf::from),
            ssl_key: text("sslkey").map(PathBuf::from),
            application_name: text("application_name").or_else(|| text("fallback_application_name")),
            options: text("options"),
            connect_timeout: None,
            shuffled: one_of("load_balance_hosts", &["disable", "random"])?.as_deref() == Some("random"),
            pooled: one_of("pgbouncer", &["true", "false"])?.as_deref() == Some("true"),
        };
        let wanted = one_of(
            "target_session_attrs",
            &["any", "read-write", "primary", "read-only", "standby", "prefer-standby"],
        )?;
        if let Some(wanted @ ("read-only" | "standby" | "prefer-standby")) = wanted.as_deref() {
            return Err(misconfigured(format!(
                "target_session_attrs={wanted} asks for a server that cannot grant a lease; write read-write or primary"
            )));
        }
        if let Some((value, from)) = given.get("connect_timeout") {
            let seconds: i32 = value.trim().parse().map_err(|_| {
                misconfigured(format!("{} is no number of seconds", from.says("connect_timeout")))
            })?;
            // As libpq: no limit at 0, and never less than two seconds.
            out.connect_timeout =
                u64::try_from(seconds).ok().filter(|s| *s > 0).map(|s| Duration::from_secs(s.max(2)));
        }
        out.tls(given)?;
        Ok(out)
    }

    /// What is said of TLS, in all places, together.
    fn tls(&mut self, given: &Given) -> Result<(), StoreError> {
        let value = |name: &str| given.get(name).map(|(value, _)| value.as_str());
        let mode = match (value("sslmode"), value("ssl")) {
            (Some(mode), _) => Some(SslMode::parse(mode)?),
            (None, Some("true")) => Some(SslMode::Require),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(misconfigured(
                    "the database URL's ssl must be true; better write sslmode=verify-full",
                ));
            }
        };
        self.ssl_mode = match (mode, &self.ssl_root) {
            // As libpq: to require TLS and to name an authority means to have that checked.
            (Some(SslMode::Require), Root::File(_)) => Some(SslMode::VerifyCa),
            (None | Some(SslMode::VerifyFull), Root::System | Root::File(_)) => Some(SslMode::VerifyFull),
            (Some(mode), Root::System) => {
                return Err(misconfigured(format!(
                    "sslmode={} with sslrootcert=system would take any certificate that a public authority signed; write sslmode=verify-full",
                    mode.as_str()
                )));
            }
            (mode, _) => mode,
        };
        match value("channel_binding") {
            None | Some("disable" | "prefer") => {}
            // What it guards against, a password passed on by somebody in between, this does too.
            Some("require") => match self.ssl_mode {
                Some(SslMode::Disable | SslMode::Allow | SslMode::Prefer) => {
                    return Err(misconfigured(
                        "channel_binding=require needs TLS; write sslmode=verify-full beside it",
                    ));
                }
                _ => self.ssl_mode = Some(SslMode::VerifyFull),
            },
            Some(_) => return Err(misconfigured("channel_binding must be disable, prefer or require")),
        }
        match value("sslcertmode") {
            None | Some("allow") => {}
            Some("disable") => (self.ssl_cert, self.ssl_key) = (None, None),
            Some("require") if self.ssl_cert.is_some() => {}
            Some("require") => {
                return Err(misconfigured(
                    "sslcertmode=require needs sslcert and sslkey in the database URL",
                ));
            }
            Some(_) => return Err(misconfigured("sslcertmode must be disable, allow or require")),
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            return Err(misconfigured("the database URL must name sslcert and sslkey together"));
        }
        Ok(())
    }

    /// The mode in force for a host: verified when remote, unless the URL says otherwise.
    pub(in crate::store) fn ssl_mode_in_force(&self, host: &Host) -> SslMode {
        match (self.ssl_mode, host) {
            (_, Host::Socket(_)) => SslMode::Disable,
            (Some(mode), _) => mode,
            (None, _) if host.is_remote() => SslMode::VerifyFull,
            (None, _) => SslMode::Prefer,
        }
    }

    pub(in crate::store) fn user(&self) -> String {
        self.user.clone().unwrap_or_else(|| "the operating system's user".to_owned())
    }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let known = || {
        let refused = REFUSED.iter().map(|(name, _)| *name);
        OBEYED.into_iter().chain(ALWAYS_SO.iter().map(|(name, ..)| *name)).chain(refused)
    };
    if known().any(|known| known == name) {
        return Ok(());
    }
    let near = nearest(name, &known().collect::<Vec<_>>());
    let near = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
    // To ignore it would lose a misspelt sslmode.
    Err(misconfigured(format!(
        "the database URL has {}, which is not known{near}; known are those of PostgreSQL's own programs (libpq)",
        named(name)
    )))
}

fn refuse(name: &str, value: &str, from: From) -> Result<(), StoreError> {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(misconfigured(format!("{} cannot be used here: {why}", from.says(name))));
    }
    let Some((_, values, why)) = ALWAYS_SO.iter().find(|(known, ..)| *known == name) else { return Ok(()) };
    if values.is_empty() || values.iter().any(|known| known.eq_ignore_ascii_case(value)) {
        return Ok(());
    }
    Err(misconfigured(format!("{} has a value that cannot be obeyed: {why}; leave it out", from.says(name))))
}

/// As libpq pairs them: one port for all, or one for each.
fn hosts(
    names: Option<String>,
    addresses: Option<String>,
    ports: Option<&str>,
) -> Result<Vec<(Host, u16)>, StoreError> {
    let names = match (names, addresses) {
        (Some(_), Some(_)) => {
            return Err(misconfigured(
                "the database URL names both host and hostaddr; name one, whose certificate is then checked by that name",
            ));
        }
        (names, addresses) => names.or(addresses),
    };
    let Some(names) = names else {
        return Err(misconfigured(
            "the database URL names no host; write postgres://user@host:5432/database, or ?host=/folder for a Unix socket",
        ));
    };
    let names: Vec<&str> = names.split(',').collect();
    let ports: Vec<&str> = ports.unwrap_or_default().split(',').collect();
    if ports.len() > 1 && ports.len() != names.len() {
        return Err(misconfigured(format!(
            "the database URL names {} hosts and {} ports; name one port for all hosts, or one for each",
            names.len(),
            ports.len()
        )));
    }
    let mut out = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or_default();
        let wrong = || misconfigured("the database URL's port is no number from 1 to 65535");
        let port: u16 = if port.is_empty() { 5432 } else { port.trim().parse().map_err(|_| wrong())? };
        let name = name.trim();
        out.push(match name {
            "" => {
                return Err(misconfigured(
                    "the database URL names an empty host among its hosts; name each of them",
                ));
            }
            _ if port == 0 => return Err(wrong()),
            folder if folder.starts_with('/') => (Host::Socket(folder.into()), port),
            _ => (Host::Tcp(name.trim_start_matches('[').trim_end_matches(']').to_owned()), port),
        });
    }
    Ok(out)
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

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL ")?;
        if let Some(database) = &self.database {
            write!(f, "database {database} ")?;
        }
        write_hosts(f, &self.hosts)
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
