//! What a run of `migrate` is asked to do, and what it has done, for people.

use std::fmt;
use std::time::Duration;

use crate::election::life::MAX_TTL_DEFAULT_SECONDS;
use crate::store::error::StoreError;

/// Says which tables of schema `version` are not to be seen: such a table must not pass for one that
/// never had companions, which means no history and no quarantine.
pub(super) fn not_to_be_seen(
    place: &impl fmt::Display,
    version: i64,
    tables: &str,
    user: &str,
) -> StoreError {
    StoreError::misconfigured(format!(
        "{place}: schema version {version} has the table {tables}, which {user} does not see: GRANT what `component-lease migrate` prints; or if it was dropped, run `component-lease migrate` again, which makes it anew (docs/databases.md, Tables)"
    ))
}

/// How tables are made that are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Install {
    pub(super) first: bool,
    /// Seconds, as the table has it.
    pub(super) max_ttl: u32,
}

impl Install {
    /// Whether nobody can have led by this database before, under tables that are gone: then the first
    /// election need not wait, and versions begin at 1. Default: no.
    #[must_use]
    pub fn first(mut self, first: bool) -> Self {
        self.first = first;
        self
    }

    /// The longest ttl of any lease, the same as every participant's: 1 s to 3600 s, rounded up to whole seconds;
    /// default 30 s.
    #[must_use]
    pub fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = u32::try_from(max_ttl.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        self
    }
}

impl Default for Install {
    /// As for tables that may have been there before.
    fn default() -> Self {
        Self { first: false, max_ttl: MAX_TTL_DEFAULT_SECONDS }
    }
}

/// What a run of the migrations did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// Which database.
    pub database: String,
    /// The schema's version now.
    pub version: i64,
    /// Names of the steps that were applied; empty when there was nothing to do.
    pub applied: Vec<&'static str>,
    /// What was missing of tables that were there, and was made.
    pub mended: Vec<String>,
    /// `component_lease` was there before us and stays as it is.
    pub foreign_lease_table: bool,
    /// How long nobody takes a lease, where the tables were made or upgraded just now and may have forgotten one.
    pub waits: Option<Duration>,
    /// What to grant to whom, as SQL to run; `None` where the database knows no roles.
    pub grants: Option<&'static str>,
}

impl MigrationReport {
    /// What was done, without what is to be granted.
    #[must_use]
    pub fn summary(&self) -> String {
        let whole = Self { grants: None, ..self.clone() }.to_string();
        whole.lines().map(|line| line.trim_start_matches("-- ")).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for MigrationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.mended.is_empty() {
            writeln!(
                f,
                "-- {}: made what was missing: {}. Rights went with what was dropped: run the grants below again.",
                self.database,
                self.mended.join(", ")
            )?;
        }
        match self.applied.as_slice() {
            [] if !self.mended.is_empty() => {}
            [] => writeln!(f, "-- {}: up to date (schema version {})", self.database, self.version)?,
            applied => writeln!(
                f,
                "-- {}: applied {} (schema version {})",
                self.database,
                applied.join(", "),
                self.version
            )?,
        }
        if self.foreign_lease_table {
            writeln!(
                f,
                "-- The table component_lease was made by somebody else and stays as it is: only companion tables were added, and changes of holder are found by polling, not by notification."
            )?;
        }
        if let Some(wait) = self.waits {
            writeln!(
                f,
                "-- Nobody knows what these tables may have forgotten, so nobody takes a lease for the first {} s; for a database that was never used before, say --first-install when they are made.",
                wait.as_secs()
            )?;
        }
        if let Some(grants) = self.grants {
            write!(f, "-- Grants for the roles that use it (put in your own names):\n{grants}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// A database may have an encoding that lacks any other character.
    #[test]
    fn everything_that_is_sent_to_a_server_is_ascii() {
        let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sql");
        let mut seen = 0;
        for (folder, _) in crate::store::sql::kinds::products() {
            let sources = std::fs::read_dir(store.join(folder)).unwrap();
            for file in sources.map(|entry| entry.unwrap().path()) {
                let text = std::fs::read_to_string(&file).unwrap();
                let sent = text.split("#[cfg(test)]").next().unwrap_or_default();
                let is_sql = |line: &&str| {
                    let line = line.trim_start();
                    !line.starts_with("//") && !line.contains("format!(\"{place}")
                };
                for line in sent.lines().filter(is_sql) {
                    // What people read may have others: messages begin with the place.
                    assert!(line.is_ascii() || line.contains("{place}"), "{}: {line}", file.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
