//! Arguments that more than one command takes, and how their values are read.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, ArgGroup, Args, ValueEnum};

/// A database URL: may carry a password, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL itself, for the code that connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(…)")
    }
}

/// Which database.
#[derive(Debug, Clone, Args)]
#[command(
    next_help_heading = "Database",
    group = ArgGroup::new("database").required(true).multiple(true).args(["database_url", "database_url_file"])
)]
// Else all of the fields would count as naming a database.
#[group(skip)]
pub struct DatabaseArgs {
    /// Database URL: `postgres://user@host:5432/db?sslmode=verify-full&sslrootcert=/path`,
    /// `mysql://user@host:3306/db?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path` (or `mariadb://`),
    /// `sqlite:///absolute/path.db` or `sqlite:relative.db`
    #[arg(long, env = "COMPONENT_LEASE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<SecretUrl>,
    /// File that holds the URL. It is read at every connect, so a mounted secret can be rotated
    #[arg(
        long,
        env = "COMPONENT_LEASE_DATABASE_URL_FILE",
        value_name = "FILE",
        conflicts_with = "database_url"
    )]
    pub database_url_file: Option<PathBuf>,
    /// PostgreSQL behind a connection pooler: URL of the server itself, only for notifications. Without it changes
    /// are found by polling
    #[arg(
        long,
        env = "COMPONENT_LEASE_DIRECT_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "direct_database_url_file"
    )]
    pub direct_database_url: Option<SecretUrl>,
    /// File that holds the direct URL. It is read at every connect
    #[arg(long, env = "COMPONENT_LEASE_DIRECT_DATABASE_URL_FILE", value_name = "FILE")]
    pub direct_database_url_file: Option<PathBuf>,
    /// File that holds only the password. It is read at every connect
    #[arg(long, env = "COMPONENT_LEASE_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// File with the certificates of the authorities that sign the database server's certificate, for a URL that
    /// names none. It is read at every connect
    #[arg(long, env = "COMPONENT_LEASE_DATABASE_CA_FILE", value_name = "FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Use the database even if it may forget what it acknowledged. Then two participants may lead at once
    #[arg(
        long,
        env = "COMPONENT_LEASE_ALLOW_UNSAFE_BACKEND",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    pub allow_unsafe_backend: bool,
}

/// What is said of tables when they are made.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Database")]
pub struct TablesArgs {
    /// Declare that no lease was ever granted in this database: if tables are created, the first election does not
    /// wait, and versions begin at 1. With `agent`, `run` and `controller` it needs --migrate. Do not keep it in a
    /// manifest: later it would take dropped tables for new ones
    #[arg(
        long,
        env = "COMPONENT_LEASE_FIRST_INSTALL",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    pub first_install: bool,
    /// Longest TTL of any lease in the database, in seconds (1 to 3600); after the database changes, no lease is taken
    /// for this long. Must be the same for all participants; stop all of them to change it
    #[arg(
        long,
        env = "COMPONENT_LEASE_MAX_TTL",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=3600),
        value_name = "SECONDS"
    )]
    pub max_ttl: u32,
}

/// Whether to make the tables first.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Database")]
pub struct MigrateArgs {
    /// Create or upgrade the tables at start. The database account needs the right to do so
    #[arg(
        long = "migrate",
        id = "migrate_at_start",
        env = "COMPONENT_LEASE_MIGRATE",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    pub migrate: bool,
    #[command(flatten)]
    pub tables: TablesArgs,
}

/// What is logged, and how. Logs go to standard error.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// Log filter: a level, or `target=level` pairs separated by commas
    #[arg(long, env = "COMPONENT_LEASE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Format of a log line
    #[arg(long, env = "COMPONENT_LEASE_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads a duration given in seconds; a fraction is allowed.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let hint = || format!("{text:?} is not a number of seconds; write for example 5 or 0.5");
    let seconds: f64 = text.trim().parse().map_err(|_| hint())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| hint())
}

/// As [`seconds`], for durations that cannot be nothing.
pub fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("0 seconds is too short; write for example 5 or 0.5".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_but_no_unit_and_no_sign() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for bad in ["5s", "-1", "", "NaN", "1e40"] {
            assert!(seconds(bad).unwrap_err().contains("number of seconds"), "{bad}");
        }
        assert!(positive_seconds("0").is_err());
    }

    #[test]
    fn a_database_url_is_not_shown() {
        let url: SecretUrl = "postgres://me:hunter2@db/x".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
