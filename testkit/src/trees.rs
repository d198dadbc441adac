//! Programs of servers: of this machine, or of a tree that `hack/databases.sh` fetched.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::account::Account;
use crate::hack;

/// Where the programs of a server are.
#[derive(Debug, Clone)]
pub(crate) enum Programs {
    /// Installed here, by their path.
    Installed,
    /// In the tree of this name.
    Tree(&'static str),
}

impl Programs {
    /// The programs of a tree, fetched if they are not there yet. A program that is installed here
    /// and whose `--version` contains this text is preferred.
    pub(crate) async fn find(tree: &'static str, program: &str, version: &str) -> Result<Self> {
        let asked = Command::new(program).arg("--version").output();
        if asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains(version)) {
            return Ok(Self::Installed);
        }
        Self::tree(tree).await
    }

    /// The programs of a tree, fetched if they are not there yet.
    pub(crate) async fn tree(tree: &'static str) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("{tree} runs in a tree of its own (hack/databases.sh), which needs root");
        }
        let done = tokio::process::Command::new(hack("databases.sh"))
            .arg(tree)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .context("cannot run hack/databases.sh")?;
        if !done.status.success() {
            bail!("{tree} is not there: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(Self::Tree(tree))
    }

    /// A program as this account, which sees `scratch` (and of this machine's other folders, when it
    /// is in a tree, nothing).
    pub(crate) fn command(&self, program: &str, account: Option<&Account>, scratch: &Path) -> Command {
        let mut command = match self {
            Self::Installed => Command::new(program),
            Self::Tree(name) => {
                let mut command = Command::new(hack("databases.sh"));
                let name_of_account = account.map_or("root", |account| &account.name);
                command.args(["--in", name, name_of_account]).arg(mounted(scratch)).arg(program);
                return command;
            }
        };
        if let Some(account) = account {
            command.uid(account.user).gid(account.group);
        }
        command
    }

    /// What stands before a program in a command that somebody else runs, to the same effect.
    pub(crate) fn prefix(&self, account: Option<&Account>, scratch: &Path) -> Vec<OsString> {
        match self {
            Self::Installed => account.map_or_else(Vec::new, |account| {
                let (user, group) =
                    (format!("--reuid={}", account.user), format!("--regid={}", account.group));
                vec!["setpriv".into(), user.into(), group.into(), "--clear-groups".into()]
            }),
            Self::Tree(name) => {
                let account = account.map_or("root", |account| &account.name);
                vec![
                    hack("databases.sh").into(),
                    "--in".into(),
                    (*name).into(),
                    account.into(),
                    mounted(scratch).into(),
                ]
            }
        }
    }
}

/// The folder to mount: the one that holds all scratch directories, so that a tree does not fill
/// up with mount points.
fn mounted(scratch: &Path) -> PathBuf {
    scratch.parent().unwrap_or(scratch).to_owned()
}
