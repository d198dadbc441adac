//! What is written into and beside a data directory, so that it is there after a loss of power.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::lsn::{History, history_file};

/// What a member has promised and must not forget. Beside the data directory: `pg_rewind` removes from it what the primary
/// does not have, and `pg_basebackup` brings what that one has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Promises {
    /// Nothing is acknowledged to a primary below this version.
    pub(super) sealed: i64,
    /// The data that this is about; 0 before any were seen.
    pub(super) system: u64,
    /// The highest timeline on which it was seen to receive.
    pub(super) line: u32,
    /// The version of the last primary of whose log the data are a beginning, whatever of it has arrived: it was followed, or is this very
    /// server.
    pub(super) of: i64,
    /// A repair that changes the data has begun and not ended: they are of no use.
    pub(super) repairing: bool,
}

impl Promises {
    fn parse(text: &str) -> Option<Self> {
        let mut read = Self::default();
        for line in text.lines() {
            let (name, value) = line.split_once(' ')?;
            match name {
                "sealed" => read.sealed = value.parse().ok()?,
                "system" => read.system = value.parse().ok()?,
                "line" => read.line = value.parse().ok()?,
                "of" => read.of = value.parse().ok()?,
                "repairing" => read.repairing = value.parse().ok()?,
                _ => return None,
            }
        }
        // The last line. A file without it was cut, and is refused.
        text.contains("repairing ").then_some(read)
    }

    fn show(self) -> String {
        let Self { sealed, system, line, of, repairing } = self;
        format!("sealed {sealed}\nsystem {system}\nline {line}\nof {of}\nrepairing {repairing}\n")
    }

    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let file = folder.join("promises");
        match fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} cannot be understood", file.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(self, folder: &Path) -> io::Result<()> {
        durably(&folder.join("promises"), &self.show(), 0o600)
    }
}

/// A text of the member's supervisor that must not be forgotten.
const KEPT: &str = "record";

pub(super) fn keep(folder: &Path, text: &str) -> io::Result<()> {
    durably(&folder.join(KEPT), text, 0o600)
}

pub(super) fn kept(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(KEPT)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the folder for them, as the owner of what is beside it.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    rustix::fs::chmod(folder, rustix::fs::Mode::from_raw_mode(0o700))?;
    let parent = above(folder);
    give(folder, &parent)?;
    File::open(parent)?.sync_all()
}

/// Kept for as long as the returned file is open: two supervisors of one data directory would change it beside each other.
/// `None` when another process has it.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(folder.join("lock"))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn above(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// A supervisor that runs as root writes for a server that does not.
fn give(path: &Path, as_owner_of: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = fs::metadata(as_owner_of)?;
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

pub(super) fn remove_file_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Either the old content is there afterwards, or all of the new one.
pub(super) fn durably(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = above(file);
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // The owner of this folder may have put a link there, to a file of somebody else.
    remove_file_if_there(&new)?;
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    opened.write_all(text.as_bytes())?;
    if rustix::process::geteuid().is_root() {
        let owner = fs::metadata(&folder)?;
        std::os::unix::fs::fchown(&opened, Some(owner.uid()), Some(owner.gid()))?;
    }
    opened.sync_all()?;
    fs::rename(&new, file)?;
    File::open(folder)?.sync_all()
}

/// Where a server finds this file when it starts, it takes no writes.
pub(super) const STANDBY: &str = "standby.signal";

/// Whether the file was missing.
pub(super) fn mark_as_standby(data: &Path) -> io::Result<bool> {
    let file = data.join(STANDBY);
    // It would go its own way, and end at a place that nobody asked for.
    let recovers = data.join("recovery.signal");
    if recovers.exists() {
        fs::remove_file(&recovers)?;
    }
    if file.exists() {
        return Ok(false);
    }
    durably(&file, "", 0o600)?;
    Ok(true)
}

/// Sets these in `postgresql.auto.conf` while the server cannot do it itself.
pub(super) fn set(data: &Path, settings: &[(&str, &str)]) -> io::Result<()> {
    let file = data.join("postgresql.auto.conf");
    let text = match read_itself(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    durably(&file, &with(&text, settings), 0o600)
}

/// Not through a link.
fn read_itself(file: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    io::read_to_string(OpenOptions::new().read(true).custom_flags(flags).open(file)?)
}

fn with(text: &str, settings: &[(&str, &str)]) -> String {
    let name_of = |line: &str| {
        let name: String =
            line.trim_start().chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.')).collect();
        name.to_ascii_lowercase()
    };
    let kept = text.lines().filter(|line| settings.iter().all(|(name, _)| *name != name_of(line)));
    let mut new: String = kept.flat_map(|line| [line, "\n"]).collect();
    for (name, value) in settings {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        new.extend([name, " = '", &value, "'\n"]);
    }
    new
}

/// Whether there is a database in this folder.
pub(super) fn has_data(data: &Path) -> bool {
    data.join("global/pg_control").exists()
}

/// The system identifier of the database in this folder, whether or not its server runs: the first thing in its control
/// file, as this machine writes numbers.
pub(super) fn system(data: &Path) -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open(data.join("global/pg_control"))?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The names of the files of the log; none where they cannot be listed.
pub(super) fn of_the_log(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("pg_wal")).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Where a timeline of these data comes from.
pub(super) fn history(data: &Path, line: u32) -> io::Result<History> {
    let text =
        history_file(line).map_or_else(|| Ok(String::new()), |file| fs::read_to_string(data.join(file)))?;
    History::parse(line, &text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it cannot be understood"))
}

/// Which folder a copy is made in, while it is.
const COPYING: &str = "copying";

fn identity(folder: &Path) -> io::Result<String> {
    let is = fs::symlink_metadata(folder)?;
    Ok(format!("{} {} {}\n", is.dev(), is.ino(), is.is_dir()))
}

/// Makes an empty folder for a copy, and removes what an earlier one left there. False where somebody else has made what is there.
pub(super) fn begin_copy(new: &Path, state: &Path) -> io::Result<bool> {
    let marked = state.join(COPYING);
    match identity(new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if fs::read_to_string(&marked).is_ok_and(|ours| ours == found) => fs::remove_dir_all(new)?,
        // An empty folder is nobody's loss.
        Ok(_) if fs::remove_dir(new).is_ok() => {}
        Ok(_) => return Ok(false),
    }
    make_folder(new)?;
    durably(&marked, &identity(new)?, 0o600)?;
    Ok(true)
}

/// Once the copy has its place.
pub(super) fn end_copy(state: &Path) -> io::Result<()> {
    remove_file_if_there(&state.join(COPYING))
}

/// Puts `new` in the place of `data`, which is kept as `aside`; a `data` without content is removed.
pub(super) fn replace(data: &Path, new: &Path, aside: &Path) -> io::Result<()> {
    match fs::remove_dir(data) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => fs::rename(data, aside)?,
    }
    fs::rename(new, data)?;
    File::open(above(data))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_read_as_they_were_written_and_never_half_of_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Promises::read(folder.path()).unwrap(), Promises::default());
        let promises =
            Promises { sealed: 12, system: 7_312_345_678_901_234_567, line: 3, of: 11, repairing: true };
        promises.write(folder.path()).unwrap();
        assert_eq!(Promises::read(folder.path()).unwrap(), promises);
        let whole = promises.show();
        fs::write(folder.path().join("promises"), &whole[..whole.len() / 2]).unwrap();
        assert!(
            Promises::read(folder.path()).unwrap_err().to_string().contains("promises cannot be understood")
        );
    }

    #[test]
    fn settings_take_the_place_of_those_of_the_same_name() {
        let before = "# Do not edit\nprimary_conninfo = 'host=a'\nwork_mem = '1MB'\n  PRIMARY_CONNINFO='x'\n";
        let after = with(before, &[("primary_conninfo", "user='me' \\ x")]);
        assert_eq!(after, "# Do not edit\nwork_mem = '1MB'\nprimary_conninfo = 'user=''me'' \\\\ x'\n");
    }

    #[test]
    fn a_data_directory_is_marked_as_a_standbys_and_never_recovers_to_some_target() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("recovery.signal"), "").unwrap();
        assert!(mark_as_standby(folder.path()).unwrap());
        assert!(!mark_as_standby(folder.path()).unwrap(), "it was there already");
        assert!(folder.path().join(STANDBY).exists() && !folder.path().join("recovery.signal").exists());
    }

    #[test]
    fn only_what_an_earlier_copy_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (new, state) = (folder.path().join("copying"), folder.path().join("state"));
        fs::create_dir(&state).unwrap();
        assert!(begin_copy(&new, &state).unwrap());
        fs::write(new.join("half"), "").unwrap();
        assert!(begin_copy(&new, &state).unwrap() && !new.join("half").exists(), "it was ours");
        // Somebody puts his own there, under the same name.
        fs::rename(&new, folder.path().join("elsewhere")).unwrap();
        fs::create_dir(&new).unwrap();
        fs::write(new.join("precious"), "").unwrap();
        assert!(!begin_copy(&new, &state).unwrap() && new.join("precious").exists());
        end_copy(&state).unwrap();
        end_copy(&state).unwrap();
        assert!(!begin_copy(&new, &state).unwrap() && new.join("precious").exists());
    }

    #[test]
    fn what_is_replaced_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["data", "new"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), name).unwrap();
        }
        replace(&at("data"), &at("new"), &at("aside")).unwrap();
        let content = |name: &str| fs::read_to_string(at(name).join("file")).unwrap();
        assert_eq!((content("data").as_str(), content("aside").as_str()), ("new", "data"));
        fs::create_dir(at("empty")).unwrap();
        replace(&at("empty"), &at("data"), &at("nothing")).unwrap();
        assert!(!at("nothing").exists() && content("empty") == "new");
    }
}
