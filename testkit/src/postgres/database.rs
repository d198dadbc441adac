//! A database of its own for a test, and `psql` to look into one.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;

use super::programs;
use super::server::Server;

/// A database that is dropped with this value (kept with `KEEP=1`).
pub struct Database {
    /// The superuser's URL of this database.
    pub url: String,
    /// The database's name.
    pub name: String,
    administration: String,
}

impl std::fmt::Debug for Database {
    /// Without the URLs, which hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Database {
    pub(super) async fn create(server: &Server, options: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}_{:04x}", std::process::id(), fastrand::u16(..));
        server.psql(&format!("CREATE DATABASE {name} {options}")).await?;
        let url = server.url(&name);
        if crate::keep() {
            eprintln!("KEEP=1: database {url} stays");
        }
        Ok(Self { url, name, administration: server.superuser_url().to_owned() })
    }

    /// Runs SQL in this database as the superuser; the rows, one a line, fields with `|`
    /// between them.
    ///
    /// # Errors
    /// PostgreSQL's own words.
    pub async fn psql(&self, sql: &str) -> Result<String> {
        psql(&self.url, sql).await
    }

    /// Runs `pg_dump`, `pg_restore` or the like on this database as the superuser.
    ///
    /// # Errors
    /// The program's own words.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let parts = parse(&self.url)?;
        let mut command = tokio::process::Command::new(programs::beside_psql(program));
        command.args(["-d", &parts.without_password]).args(arguments).env("PGPASSWORD", &parts.password);
        let done = command.output().await.with_context(|| format!("cannot run {program}"))?;
        if !done.status.success() {
            bail!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    /// How many statements clients have executed in this database so far, counted by the
    /// server (`pg_stat_statements`), whose text is like the pattern (SQL's `LIKE`).
    ///
    /// # Errors
    /// When the server has no such counter.
    pub async fn statements(&self, like: &str) -> Result<u64> {
        let pattern = like.replace('\'', "''");
        // This very question must not count itself.
        let count = self
            .psql(&format!(
                "SET client_min_messages = warning;
                 CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
                 SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
                 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND query LIKE '{pattern}' AND query NOT LIKE '%pg_stat_statements%'"
            ))
            .await
            .context("the server does not count statements (pg_stat_statements)")?;
        Ok(count.trim().parse()?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if crate::keep() {
            return;
        }
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A server that was stopped on purpose takes its databases along.
        let _ = psql_command(&self.administration).map(|mut command| {
            command.args(["-c", &sql]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.env("PGCONNECT_TIMEOUT", "2").status()
        });
    }
}

pub(super) async fn psql(url: &str, sql: &str) -> Result<String> {
    let mut command = tokio::process::Command::from(psql_command(url)?);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.kill_on_drop(true).spawn().context("cannot run psql (package postgresql-client)")?;
    let mut input = child.stdin.take().expect("the pipe was asked for");
    input.write_all(sql.as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// `psql` for a URL. The password goes by the environment: arguments can be read by all.
fn psql_command(url: &str) -> Result<std::process::Command> {
    let parts = parse(url)?;
    let mut command = std::process::Command::new(programs::psql());
    command
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(&parts.without_password)
        .env("PGPASSWORD", &parts.password)
        .env("PGCONNECT_TIMEOUT", "10");
    Ok(command)
}

pub(super) struct Parts {
    pub user: String,
    pub password: String,
    pub host: String,
    pub port: u16,
    without_password: String,
}

/// Takes `postgres://user:password@host:port/database?options` apart.
pub(super) fn parse(url: &str) -> Result<Parts> {
    let wrong = "not of the form postgres://user:password@host:port/database";
    let (scheme, rest) = url.split_once("://").context(wrong)?;
    if !matches!(scheme, "postgres" | "postgresql") {
        bail!(wrong);
    }
    let (credentials, place) = rest.rsplit_once('@').context(wrong)?;
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let authority = place.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "5432"));
    Ok(Parts {
        user: percent_decode(user),
        password: percent_decode(password),
        host: host.to_owned(),
        port: port.parse().context(wrong)?,
        without_password: format!("{scheme}://{user}@{place}"),
    })
}

pub(super) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_url_apart_and_keeps_its_password_out() {
        let url = "postgres://me:p%40ss%3aw@db.example:6432/app?sslmode=require";
        let parts = parse(url).unwrap();
        assert_eq!((parts.user.as_str(), parts.password.as_str()), ("me", "p@ss:w"));
        assert_eq!((parts.host.as_str(), parts.port), ("db.example", 6432));
        assert_eq!(parts.without_password, "postgres://me@db.example:6432/app?sslmode=require");
    }

    #[test]
    fn refuses_what_is_no_url() {
        for url in ["", "localhost", "mysql://a:b@c/d", "postgres://host/db"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn encoding_and_decoding_a_password_gives_it_back() {
        for password in ["plain", "a:b@c/d?e", "100%", "ü%41"] {
            assert_eq!(percent_decode(&percent_encode(password)), password);
        }
    }
}
