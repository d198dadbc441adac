//! Where PostgreSQL's programs are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::account::Account;
use crate::trees::Programs;

/// Which PostgreSQL. No suite of Debian has 14 or 16 with all their programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// What is installed here: 15 on Debian 12.
    Installed,
    Thirteen,
    Seventeen,
    Eighteen,
    /// PostgreSQL 18 in a tree that has Patroni and etcd, too.
    WithPatroni,
}

/// The programs of one PostgreSQL.
#[derive(Debug, Clone)]
pub struct Home {
    programs: Programs,
    folder: PathBuf,
}

impl Home {
    /// What is installed here, or what `TEST_POSTGRES_BIN` names.
    pub fn installed() -> Result<Self> {
        Ok(Self { programs: Programs::Installed, folder: folder()? })
    }

    /// One of a release. A major one is installed here, or a tree.
    pub async fn of(release: Release) -> Result<Self> {
        let (tree, number) = match release {
            Release::Installed => return Self::installed(),
            Release::Thirteen => ("postgres-13", "13"),
            Release::Seventeen => ("postgres-17", "17"),
            Release::Eighteen => ("postgres-18", "18"),
            Release::WithPatroni => ("patroni", "18"),
        };
        let folder = Path::new("/usr/lib/postgresql").join(number).join("bin");
        let server = folder.join("postgres").display().to_string();
        let programs = match release {
            Release::WithPatroni => Programs::tree(tree).await?,
            _ => Programs::find(tree, &server, &format!(" {number}.")).await?,
        };
        Ok(Self { programs, folder })
    }

    /// A program as this account, which sees `scratch`.
    pub fn command(&self, name: &str, account: Option<&Account>, scratch: &Path) -> Command {
        self.programs.command(&self.folder.join(name).display().to_string(), account, scratch)
    }

    /// For somebody else who starts its programs: the words before each of them, and their folder.
    pub fn prefix(&self, account: Option<&Account>, scratch: &Path) -> (Vec<OsString>, PathBuf) {
        (self.programs.prefix(account, scratch), self.folder.clone())
    }
}

/// The folder that holds `initdb`, `postgres` and `psql`.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TEST_POSTGRES_BIN").filter(|v| !v.is_empty()) {
        let folder = PathBuf::from(folder);
        if !has_server(&folder) {
            bail!("TEST_POSTGRES_BIN={} holds no initdb and postgres", folder.display());
        }
        return Ok(folder);
    }
    newest(Path::new("/usr/lib/postgresql")).or_else(on_path).context(
        "no PostgreSQL server programs under /usr/lib/postgresql/*/bin or on the PATH: \
         install them (hack/prerequisites.sh says how), or name their folder in \
         TEST_POSTGRES_BIN, or a running server in TEST_POSTGRES_URL",
    )
}

/// `psql`: of the server's own folder, or whichever the PATH has.
pub fn psql() -> PathBuf {
    beside_psql("psql")
}

/// As [`psql`], another of the clients.
pub fn beside_psql(program: &str) -> PathBuf {
    folder()
        .map(|folder| folder.join(program))
        .ok()
        .filter(|path| path.is_file())
        .unwrap_or_else(|| program.into())
}

/// Debian's layout: a folder per major version. (The ones on the PATH there are wrappers.)
fn newest(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        has_server(&folder).then_some((version, folder))
    });
    versions.max().map(|(_, folder)| folder)
}

fn on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| has_server(folder))
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_version_that_is_complete() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in [("9", 2), ("15", 2), ("17", 1)] {
            let folder = root.path().join(version).join("bin");
            std::fs::create_dir_all(&folder).unwrap();
            for name in &["postgres", "initdb"][..programs] {
                std::fs::write(folder.join(name), "").unwrap();
            }
        }
        assert_eq!(newest(root.path()), Some(root.path().join("15/bin")));
    }
}
