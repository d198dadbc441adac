//! `install`: the whole program or nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::agent_support::{PROGRAM, output, program};

#[test]
fn the_copy_is_the_program_and_can_be_run() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let target = folder.path().join("component-lease");
    for _ in 0..2 {
        let (code, said, errors) = output(program().args(["install", directory]));
        assert_eq!(code, 0, "{errors}");
        assert!(said.contains(target.to_str().unwrap()), "{said}");
    }
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(fs::read(&target).unwrap() == fs::read(PROGRAM).unwrap(), "byte for byte");
    assert_eq!(output(Command::new(&target).arg("--version")).0, 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_copy_that_is_being_run_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let target = folder.path().join("component-lease");
    assert_eq!(output(program().args(["install", directory])).0, 0);
    // It installs over itself, while it runs.
    let (code, _, errors) = output(Command::new(&target).args(["install", directory]));
    assert_eq!(code, 0, "{errors}");
}

#[test]
fn a_directory_that_is_missing_or_none_or_cannot_be_written_is_refused_with_78_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let occupied = folder.path().join("occupied");
    fs::create_dir_all(occupied.join("component-lease/inside")).unwrap();
    for (directory, says) in [
        ("/no/such/folder", "no such directory"),
        (file.to_str().unwrap(), "not a directory"),
        // Nobody can make a file there, not even root.
        ("/sys", "cannot install into /sys"),
        (occupied.to_str().unwrap(), "cannot install into"),
    ] {
        let (code, _, errors) = output(program().args(["install", directory]));
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
    assert_eq!(fs::read_dir(&occupied).unwrap().count(), 1, "no half copy is left");
}
