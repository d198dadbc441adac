//! A database of its own for a test, the program `mariadb` to look into one, and the log of commands.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;

use super::server::{ADMIN, Server};

/// A database that is dropped with this value (kept with `KEEP=1`).
pub struct Database {
    /// The administrator's URL of this database.
    pub url: String,
    /// The database's name.
    pub name: String,
    socket: PathBuf,
    password: String,
}

impl std::fmt::Debug for Database {
    /// Without the URL, which holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Database {
    pub(super) async fn create(server: &Server) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}_{:04x}", std::process::id(), fastrand::u16(..));
        server.sql(&format!("CREATE DATABASE {name}")).await?;
        let url = server.url(&name);
        if crate::keep() {
            eprintln!("KEEP=1: database {url} stays");
        }
        Ok(Self { url, name, socket: server.socket(), password: server.password().to_owned() })
    }

    /// Runs SQL in this database as the administrator; the rows, one a line, fields with tabs
    /// between them.
    ///
    /// # Errors
    /// The server's own words.
    pub async fn sql(&self, sql: &str) -> Result<String> {
        self::sql(&self.socket, &self.password, Some(&self.name), sql).await
    }

    /// What clients of this database have sent over TCP so far, as `Command argument`, in order:
    /// one entry is one round trip. (The commands of [`Database::sql`] come by the socket.)
    ///
    /// # Errors
    /// When the server's log cannot be read.
    pub fn commands(&self, server: &Server) -> Result<Vec<String>> {
        let all = server.commands()?;
        let connected = format!(" on {} using ", self.name);
        let clients: Vec<u64> = all
            .iter()
            .filter(|(_, command, argument)| {
                command == "Connect" && argument.contains(&connected) && !argument.ends_with("Socket")
            })
            .map(|(id, ..)| *id)
            .collect();
        let of_clients = all.into_iter().filter(|(id, ..)| clients.contains(id));
        Ok(of_clients.map(|(_, command, argument)| format!("{command} {argument}")).collect())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if crate::keep() {
            return;
        }
        let sql = format!("SET SESSION lock_wait_timeout = 5; DROP DATABASE IF EXISTS {}", self.name);
        // A server that was stopped on purpose takes its databases along.
        let _ = client(&self.socket, &self.password, None)
            .args(["-e", &sql])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

pub(super) async fn sql(socket: &Path, password: &str, database: Option<&str>, sql: &str) -> Result<String> {
    let mut command = tokio::process::Command::from(client(socket, password, database));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .context("cannot run the program mariadb (package mariadb-client-core)")?;
    let mut input = child.stdin.take().expect("the pipe was asked for");
    input.write_all(sql.as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
}

/// The password goes by the environment: arguments can be read by all.
fn client(socket: &Path, password: &str, database: Option<&str>) -> std::process::Command {
    let mut command = std::process::Command::new("mariadb");
    command
        .args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--connect-timeout=10"])
        .args(["--default-character-set=utf8mb4", "--user", ADMIN, "--socket"])
        .arg(socket)
        .args(database)
        .env("MYSQL_PWD", password);
    command
}

/// Takes a general log apart: `TIME<tab>ID COMMAND<tab>ARGUMENT`, where an argument may go on for
/// several lines, and MariaDB leaves the time out when it is as before.
pub(super) fn commands(log: &str) -> Vec<(u64, String, String)> {
    let mut found: Vec<(u64, String, String)> = Vec::new();
    for line in log.lines() {
        if let Some((id, command, argument)) = command(line) {
            found.push((id, command.to_owned(), argument.to_owned()));
        } else if let Some((.., argument)) = found.last_mut() {
            argument.push('\n');
            argument.push_str(line);
        }
    }
    found
}

fn command(line: &str) -> Option<(u64, &str, &str)> {
    let (head, argument) = line.rsplit_once('\t').filter(|(head, _)| head.contains('\t'))?;
    let (id, command) = head.rsplit('\t').next()?.trim_start().split_once(' ')?;
    Some((id.parse().ok()?, command, argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_general_logs_of_both_apart() {
        let mariadb = "Tcp port: 3306  Unix socket: /x\nTime\t\t    Id Command\tArgument\n\
                       261122  9:01:02\t     3 Connect\ta@127.0.0.1 on d using TCP/IP\n\
                       \t\t     3 Query\tSELECT\n1\n\t\t     3 Quit\t\n";
        let mysql = "2026-11-22T09:01:02.123456Z\t    3 Connect\ta@127.0.0.1 on d using TCP/IP\n\
                     2026-11-22T09:01:02.123456Z\t    3 Query\tSELECT\n1\n\
                     2026-11-22T09:01:02.123456Z\t    3 Quit\t\n";
        let expected = [
            (3, "Connect".to_owned(), "a@127.0.0.1 on d using TCP/IP".to_owned()),
            (3, "Query".to_owned(), "SELECT\n1".to_owned()),
            (3, "Quit".to_owned(), String::new()),
        ];
        assert_eq!(commands(mariadb), expected);
        assert_eq!(commands(mysql), expected);
    }
}
