//! `check`: whether the database can be used.

use std::fs;

use crate::agent_support::{Rig, output, program};

#[test]
fn a_database_that_can_be_used_is_said_to_be_and_is_left_as_it_was() {
    let rig = Rig::new();
    let before = fs::read(rig.path("lease.db")).unwrap();
    let (code, said, errors) = output(program().args(["check", "--database-url", &rig.url()]));
    assert_eq!(code, 0, "{errors}");
    assert!(said.contains("lease.db") && said.contains("can be used (longest ttl 30 s)"), "{said}");
    assert!(fs::read(rig.path("lease.db")).unwrap() == before, "something was written");
}

#[test]
fn one_that_cannot_be_reached_ends_it_with_69_and_one_that_cannot_be_used_with_78_and_what_to_do() {
    let rig = Rig::new();
    let nobody = "postgres://me:hunter2@127.0.0.1:1/d";
    let missing = format!("sqlite://{}", rig.path("none.db").display());
    let empty = format!("sqlite://{}", rig.path("empty.db").display());
    fs::write(rig.path("empty.db"), "").unwrap();
    for (url, ends_with, says) in
        [(nobody, 69, "127.0.0.1:1"), (&missing, 78, "none.db"), (&empty, 78, "migrate")]
    {
        let (code, said, errors) = output(program().args(["check", "--database-url", url]));
        assert_eq!(code, ends_with, "{url}: {errors}");
        assert!(errors.contains(says) && said.is_empty(), "{url}: {errors}{said}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
    assert!(!rig.path("none.db").exists(), "a file was made");
}
