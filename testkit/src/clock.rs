//! A server's wall clock that a test moves while the server runs: a small library that is loaded before
//! all others (`shim/clock.c`), and a file that says by how much.

use std::ffi::OsString;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const SOURCE: &str = include_str!("../shim/clock.c");

/// The wall clock of one server.
#[derive(Debug)]
pub(crate) struct ServerClock {
    library: PathBuf,
    /// Nanoseconds that it is ahead of this machine's.
    offset: PathBuf,
}

impl ServerClock {
    /// In the server's own directory: whatever account or tree it runs in, it sees that.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let clock = Self { library: scratch.join("clock.so"), offset: scratch.join("clock") };
        let built = built()?;
        std::fs::copy(&built, &clock.library).with_context(|| format!("cannot copy {}", built.display()))?;
        std::fs::set_permissions(&clock.library, std::fs::Permissions::from_mode(0o755))?;
        std::fs::write(&clock.offset, 0_i64.to_ne_bytes())?;
        std::fs::set_permissions(&clock.offset, std::fs::Permissions::from_mode(0o644))?;
        Ok(clock)
    }

    /// For the command that starts the server.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("TESTKIT_CLOCK", &self.offset)]
    }

    /// From now on the server's clock is this many seconds ahead of this machine's.
    pub(crate) fn set(&self, ahead: i64) -> Result<()> {
        // In one write, never shortened: the server has it mapped.
        let file = std::fs::OpenOptions::new().write(true).open(&self.offset)?;
        file.write_all_at(&(ahead * 1_000_000_000).to_ne_bytes(), 0)?;
        Ok(())
    }
}

/// The library, built once per source and kept in the user's cache.
fn built() -> Result<PathBuf> {
    let cache = cache().context("neither XDG_CACHE_HOME nor HOME says where the cache is")?;
    let folder = PathBuf::from(cache).join("component-lease/shim");
    let library = folder.join(format!("clock-{}-{:016x}.so", std::env::consts::ARCH, hash(SOURCE)));
    if library.is_file() {
        return Ok(library);
    }
    std::fs::create_dir_all(&folder)?;
    let work = tempfile::tempdir_in(&folder)?;
    let (source, new) = (work.path().join("clock.c"), work.path().join("clock.so"));
    std::fs::write(&source, SOURCE)?;
    let done = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&new, &source])
        .output()
        .context("cannot run cc (package gcc), which builds the clock of the servers")?;
    if !done.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&done.stderr));
    }
    // Another process that builds it at this moment makes the same.
    std::fs::rename(&new, &library)?;
    Ok(library)
}

fn cache() -> Option<OsString> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("XDG_CACHE_HOME").or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache").into()))
}

/// FNV-1a, which is the same on every machine.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(clock: &ServerClock) -> i64 {
        let date = Command::new("date").arg("+%s").envs(clock.variables()).output().unwrap();
        assert!(date.status.success(), "{date:?}");
        String::from_utf8(date.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_program_sees_the_clock_that_is_set_and_none_without_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let clock = ServerClock::new(folder.path()).unwrap();
        for ahead in [0, 86_400, -3_600, 0] {
            clock.set(ahead).unwrap();
            let here = Command::new("date").arg("+%s").output().unwrap().stdout;
            let here: i64 = String::from_utf8(here).unwrap().trim().parse().unwrap();
            let off = shown(&clock) - here - ahead;
            assert!((0..10).contains(&off), "{ahead}: off by {off} s");
        }
        std::fs::remove_file(folder.path().join("clock")).unwrap();
        let lost = Command::new("date").envs(clock.variables()).output().unwrap();
        assert_eq!(lost.status.code(), Some(127));
    }
}
