//! `component-lease install DIR`: an init container copies this very binary into a volume, so that
//! it can run in anybody's image.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::Failure;

/// What the copy is called.
pub const PROGRAM: &str = "component-lease";

/// Copies the running program to `DIR/component-lease`: all of it, or nothing changes.
pub fn install(directory: &Path) -> Result<PathBuf, Failure> {
    let refuse =
        |what: String| Failure::config(format!("cannot install into {}: {what}", directory.display()));
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(refuse("it is not a directory".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse("there is no such directory; make it, or mount a volume there".to_owned()));
        }
        Err(error) => return Err(refuse(error.to_string())),
    }
    let target = directory.join(PROGRAM);
    let temporary = directory.join(format!(".{PROGRAM}.{}", std::process::id()));
    // Others may be running the old copy, so it is replaced and never written to.
    let copied = copy(&temporary).and_then(|()| fs::rename(&temporary, &target));
    if let Err(error) = copied {
        let _ = fs::remove_file(&temporary);
        let advice = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "; mount a writable volume there",
            io::ErrorKind::PermissionDenied => {
                "; let this user write there (for a Kubernetes volume: securityContext.fsGroup)"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room for it",
            io::ErrorKind::IsADirectory => "; move the directory of that name away",
            _ => "",
        };
        return Err(refuse(format!("{error}{advice}")));
    }
    Ok(target)
}

fn copy(to: &Path) -> io::Result<()> {
    let mut from = File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))?;
    let mut file = File::create(to)?;
    io::copy(&mut from, &mut file)?;
    file.flush()?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    file.sync_all()
}
