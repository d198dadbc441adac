//! Scratch directories of servers, and who ends a server when nobody drops its handle.
//!
//! `Drop` of a static never runs, and a killed process drops nothing at all. So the first
//! scratch directory starts a watcher (`watcher.sh`) that holds the reading end of a pipe:
//! however this process ends, the pipe ends with it, and the watcher ends what is left.
//! Should the watcher have been killed too, the next run finds the directory by its name
//! (`component-lease-KIND-PID-…`, PID being no longer alive) and ends that server first.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result, bail};

use crate::{hack, keep};

/// A directory that ends its server and disappears with this value (unless `KEEP=1`).
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory for a server of this kind (a word that `hack/end-server.sh` knows).
    ///
    /// # Errors
    /// When the directory cannot be made or the watcher cannot be started.
    pub fn new(kind: &str) -> Result<Self> {
        sweep();
        let prefix = format!("component-lease-{kind}-{}-", std::process::id());
        let path = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot make a scratch directory")?
            .keep();
        if keep() {
            std::fs::write(path.join("keep"), "")?;
        } else {
            tell_watcher('+', &path)?;
        }
        Ok(Self { path })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below this directory.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Copies a folder below this directory to another name, in the place of what is there.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy(&self, from: &str, to: &str) -> Result<()> {
        let to = self.join(to);
        if to.exists() {
            std::fs::remove_dir_all(&to)?;
        }
        let done = Command::new("cp").arg("-a").arg(self.join(from)).arg(&to).output();
        let done = done.context("cannot run cp")?;
        if !done.status.success() {
            bail!("cp: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// What a person types to end a server that was kept.
    #[must_use]
    pub fn how_to_end(&self) -> String {
        format!("{} {}", hack("end-server.sh").display(), self.path.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if keep() {
            return;
        }
        end(&self.path);
        let _ = tell_watcher('-', &self.path);
    }
}

fn end(path: &Path) {
    let done = Command::new(hack("end-server.sh")).arg(path).stdin(Stdio::null()).status();
    match done {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("ending the server in {} failed: {status}", path.display()),
        Err(error) => eprintln!("cannot end the server in {}: {error}", path.display()),
    }
}

fn tell_watcher(sign: char, path: &Path) -> Result<()> {
    static WATCHER: Mutex<Option<std::process::ChildStdin>> = Mutex::new(None);
    let mut watcher = WATCHER.lock().unwrap_or_else(|poison| poison.into_inner());
    let pipe = match &mut *watcher {
        Some(pipe) => pipe,
        empty @ None => empty.insert(start_watcher()?),
    };
    writeln!(pipe, "{sign}{}", path.display()).context("the watcher of the servers is gone")
}

fn start_watcher() -> Result<std::process::ChildStdin> {
    let mut child = Command::new("bash")
        .args(["-c", include_str!("watcher.sh"), "testkit-watcher"])
        .arg(hack("end-server.sh"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start the watcher of the servers (needs bash)")?;
    Ok(child.stdin.take().expect("the pipe was asked for"))
}

/// Ends what earlier processes left behind, once a process.
fn sweep() {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(|| {
        let done = Command::new(hack("clean-servers.sh")).arg("--stale").stdin(Stdio::null()).status();
        if let Err(error) = done {
            eprintln!("cannot look for servers left by earlier runs: {error}");
        }
    });
}
