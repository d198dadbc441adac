//! The identity of a data directory: random, kept beside it, and bound to the very folders, so that a copy has another one.
//!
//! A copy that this program makes keeps it: it holds all that the primary had acknowledged, so what the member has acknowledged is in it. Any
//! other directory at this path is a new one: nobody knows what it lacks. A volume that was copied block by block cannot be told from its
//! original here.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::config::beside;
use super::files;
use crate::database::engine::EngineError;

#[cfg(test)]
const DIGITS: usize = 12;

/// What differs between a folder and a copy of it: its number, and when it was made, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    number: u64,
    /// Nanoseconds since 1970, where the file system tells.
    made: Option<i128>,
}

impl Place {
    fn of(folder: &Path) -> io::Result<Self> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        match statx(CWD, folder, AtFlags::empty(), wanted) {
            Ok(is) => {
                let tells = is.stx_mask & StatxFlags::BTIME.bits() != 0;
                let made = i128::from(is.stx_btime.tv_sec) * 1_000_000_000 + i128::from(is.stx_btime.tv_nsec);
                Ok(Self { number: is.stx_ino, made: tells.then_some(made) })
            }
            // An old kernel, or a sandbox that does not let it through.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                use std::os::unix::fs::MetadataExt as _;
                Ok(Self { number: fs::metadata(folder)?.ino(), made: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As far as both times are known.
    fn is(self, other: Self) -> bool {
        let same_time = self.made.zip(other.made).is_none_or(|(one, other)| one == other);
        self.number == other.number && same_time
    }

    fn show(self) -> String {
        self.made.map_or_else(|| format!("{} -", self.number), |made| format!("{} {made}", self.number))
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, made) = text.split_once(' ')?;
        let made = if made == "-" { None } else { Some(made.parse().ok()?) };
        Some(Self { number: number.parse().ok()?, made })
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    identity: String,
    /// The folder that the file is in.
    folder: Place,
    /// The data directory, where there are data.
    data: Option<Place>,
}

impl Kept {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let identity = value("identity")?.to_owned();
        let folder = Place::parse(value("folder")?)?;
        let data = match value("data")? {
            "none" => None,
            place => Some(Place::parse(place)?),
        };
        Some(Self { identity, folder, data })
    }

    fn show(&self) -> String {
        let data = self.data.map_or_else(|| "none".to_owned(), Place::show);
        format!("identity {}\nfolder {}\ndata {data}\n", self.identity, self.folder.show())
    }
}

/// The same in the data directory of another, or of this one after somebody has put it elsewhere, is another one.
fn is_here(kept: &Kept, folder: Place, data: Option<Place>) -> bool {
    // Without data there is nothing that could be another's.
    kept.folder.is(folder) && data.is_none_or(|data| kept.data.is_some_and(|kept| kept.is(data)))
}

/// Where there is nothing, nothing can be another's.
fn place_of_data(data: &Path) -> io::Result<Option<Place>> {
    if files::has_data(data) { Place::of(data).map(Some) } else { Ok(None) }
}

fn read(state: &Path) -> io::Result<Option<Kept>> {
    match fs::read_to_string(state.join("identity")) {
        Ok(text) => Ok(Kept::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(state: &Path, kept: &Kept) -> io::Result<()> {
    files::durably(&state.join("identity"), &kept.show(), 0o600)
}

/// The identity of the data directory, made now if it has none, or if somebody else has put it here.
fn settled(data: &Path, state: &Path) -> io::Result<String> {
    let (folder, place) = (Place::of(state)?, place_of_data(data)?);
    match read(state)? {
        Some(kept) if is_here(&kept, folder, place) => Ok(kept.identity),
        _ => {
            let identity = random();
            write(state, &Kept { identity: identity.clone(), folder, data: place })?;
            Ok(identity)
        }
    }
}

fn random() -> String {
    format!("{:012x}", fastrand::u64(..) >> 16)
}

/// The identity of this data directory, for [`Config::member`](super::Config::member). Ask before the server is started for the first time.
///
/// # Errors
/// When nothing can be kept beside it, or another process manages it.
pub fn identity(data: &Path) -> Result<String, EngineError> {
    let state = beside(data, "component-lease");
    let refused = |what: &str, error: io::Error| {
        EngineError::refused(format!("cannot {what} {}: {error}", state.display()))
    };
    files::make_folder(&state).map_err(|error| refused("make", error))?;
    // Held for as long as this takes. The engine holds it later.
    let Some(_held) = files::lock(&state).map_err(|error| refused("lock", error))? else {
        return Err(EngineError::refused(format!(
            "another process manages {} already; end it first",
            data.display()
        )));
    };
    settled(data, &state).map_err(|error| refused("keep an identity in", error))
}

/// After this program has put a copy of the primary's data in the place of what was there.
pub(super) fn keeps_after_a_copy(data: &Path, state: &Path) -> io::Result<()> {
    let Some(kept) = read(state)? else { return Ok(()) };
    let kept = Kept { folder: Place::of(state)?, data: place_of_data(data)?, ..kept };
    write(state, &kept)
}

/// Whether the data directory is the one whose identity was asked for. One without identity is as good as another.
pub(super) fn is_as_it_was(data: &Path, state: &Path) -> io::Result<bool> {
    let (folder, place) = (Place::of(state)?, place_of_data(data)?);
    Ok(read(state)?.is_none_or(|kept| is_here(&kept, folder, place)))
}

/// The next start takes another one.
pub(super) fn forget(state: &Path) -> io::Result<()> {
    files::remove_file_if_there(&state.join("identity"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// A folder with a data directory in it, and that one's path.
    fn member() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("main");
        made(&data);
        (folder, data)
    }

    fn made(data: &Path) {
        fs::create_dir_all(data.join("global")).unwrap();
        fs::write(data.join("global/pg_control"), "").unwrap();
    }

    fn copied(from: &Path, to: &Path) {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    #[test]
    fn an_identity_stays_as_long_as_the_folders_do() {
        let (_folder, data) = member();
        let first = identity(&data).unwrap();
        assert!(first.len() == DIGITS && first.bytes().all(|c| c.is_ascii_hexdigit()), "{first}");
        fs::write(data.join("more"), "").unwrap();
        assert_eq!(identity(&data).unwrap(), first);
        assert!(is_as_it_was(&data, &beside(&data, "component-lease")).unwrap());
    }

    #[test]
    fn a_copy_of_all_of_it_has_another_identity_and_the_original_keeps_its_own() {
        let (folder, data) = member();
        let first = identity(&data).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for to in [folder.path().join("copy"), elsewhere.path().join("main")] {
            copied(&data, &to);
            copied(&beside(&data, "component-lease"), &beside(&to, "component-lease"));
            assert_ne!(identity(&to).unwrap(), first);
        }
        assert_eq!(identity(&data).unwrap(), first);
    }

    #[test]
    fn another_directory_at_the_same_path_has_another_identity_but_a_copy_of_ours_keeps_it() {
        let (folder, data) = member();
        let (state, first) = (beside(&data, "component-lease"), identity(&data).unwrap());
        let (aside, new) = (folder.path().join("aside"), folder.path().join("new"));
        copied(&data, &new);
        files::replace(&data, &new, &aside).unwrap();
        assert!(!is_as_it_was(&data, &state).unwrap(), "nobody has said that it is ours");
        keeps_after_a_copy(&data, &state).unwrap();
        assert_eq!(identity(&data).unwrap(), first);
        // Without data nothing is claimed, so nothing changes.
        fs::remove_dir_all(&data).unwrap();
        assert_eq!(identity(&data).unwrap(), first);
        // Somebody else puts data there.
        copied(&aside, &data);
        let second = identity(&data).unwrap();
        assert_ne!(second, first);
        assert_eq!(identity(&data).unwrap(), second);
        forget(&state).unwrap();
        assert_ne!(identity(&data).unwrap(), second);
    }

    #[test]
    fn the_time_counts_where_the_file_system_tells_it() {
        let place = |number, made| Place { number, made };
        assert!(place(7, Some(1)).is(place(7, Some(1))) && place(7, None).is(place(7, Some(1))));
        assert!(!place(7, Some(1)).is(place(7, Some(2))) && !place(7, None).is(place(8, None)));
        for one in [place(7, Some(-1)), place(7, None)] {
            assert_eq!(Place::parse(&one.show()), Some(one));
        }
    }
}
