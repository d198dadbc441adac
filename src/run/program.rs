//! Finding the command of `run` before anything is taken: a program that cannot start must not
//! win a lease, and must not be tried by one replica after the other.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::process::{ExitCode, Failure};

/// Whether `program` could be executed, searched for in `path` as `execvp` does.
pub(super) fn check(program: &OsStr, path: Option<OsString>) -> Result<(), Failure> {
    if program.as_bytes().contains(&b'/') {
        return executable(Path::new(program)).map_err(|error| failure(program, &error));
    }
    let path = path.unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut found = io::Error::from(io::ErrorKind::NotFound);
    for directory in std::env::split_paths(&path) {
        match executable(&directory.join(program)) {
            Ok(()) => return Ok(()),
            // Goes on looking, as a shell does, but remembers that there was something.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found = error,
            Err(_) => {}
        }
    }
    Err(failure(program, &found))
}

fn executable(file: &Path) -> io::Result<()> {
    let found = fs::metadata(file)?;
    if found.is_file() && found.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// What a program that cannot be started ends us with.
pub(super) fn failure(program: &OsStr, error: &io::Error) -> Failure {
    let program = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            ExitCode::NotFound,
            format!(
                "there is no command {program:?}, or no interpreter that it names; check its spelling, the image and PATH"
            ),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            ExitCode::CannotExecute,
            format!("{program:?} cannot be executed; is it a program, and may this user run it?"),
        ),
        _ => Failure::new(ExitCode::CannotExecute, format!("{program:?} cannot be executed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_as_a_shell_finds_it() {
        let path = Some(OsString::from("/nowhere:/bin:/usr/bin"));
        assert!(check(OsStr::new("sh"), path.clone()).is_ok());
        assert!(check(OsStr::new("/bin/sh"), None).is_ok());
        assert_eq!(check(OsStr::new("no-such-command"), path).unwrap_err().exit.code(), 127);
        assert_eq!(check(OsStr::new("/no/such/file"), None).unwrap_err().exit.code(), 127);
        assert_eq!(check(OsStr::new("/etc/passwd"), None).unwrap_err().exit.code(), 126);
        assert_eq!(check(OsStr::new("/tmp"), None).unwrap_err().exit.code(), 126);
    }
}
