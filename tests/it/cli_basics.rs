//! What is refused, with which exit code, and that the message says what to do.

use std::net::TcpListener;

use crate::agent_support::{Rig, output, program};

fn refused(args: &[&str]) -> (i32, String) {
    let (code, _, errors) = output(program().args(args));
    (code, errors)
}

#[test]
fn an_unknown_command_or_flag_is_refused_with_2_and_a_hint() {
    for (args, says) in [
        (&["rn"][..], "unrecognized subcommand"),
        (&["agent", "--componet", "c"], "--component"),
        (&["agent", "--ttl", "soon"], "--ttl"),
        (&["agent", "--stop-grace", "5s"], "number of seconds"),
        (&["agent", "--listen", "localhost"], "127.0.0.1:8355"),
        (&[], "Usage"),
    ] {
        let (code, errors) = refused(args);
        assert_eq!(code, 2, "{args:?}: {errors}");
        assert!(errors.contains(says), "{args:?}: {errors}");
    }
}

#[test]
fn what_is_missing_or_contradictory_is_named() {
    let (code, errors) = refused(&["agent", "--database-url", "sqlite:x.db"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("--component"), "{errors}");
    let (code, errors) = refused(&["agent", "--component", "c"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("--database-url"), "{errors}");
    let (code, errors) = refused(&["migrate", "--database-url", "sqlite:x.db", "--database-url-file", "/x"]);
    assert_eq!(code, 2, "{errors}");
    let (code, errors) = refused(&["run", "--component", "c", "--database-url", "sqlite:x.db"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("COMMAND"), "{errors}");
}

#[test]
fn what_belongs_to_a_database_is_no_database() {
    for only in [&["--allow-unsafe-backend"][..], &["--database-password-file", "/nope"]] {
        let (code, errors) = refused(&[&["migrate"], only].concat());
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains("--database-url") && errors.contains("--database-url-file"), "{errors}");
    }
}

#[test]
fn timing_that_cannot_fit_is_refused_with_78() {
    for (flags, says) in [
        (&["--ttl", "4"][..], "5 to 3600"),
        (&["--ttl", "3601"], "5 to 3600"),
        (&["--ttl", "10", "--stop-grace", "3.5"], "shorten the stop grace or lengthen the ttl"),
    ] {
        let all = [&["agent", "--component", "c", "--database-url", "sqlite:/tmp/x.db"], flags].concat();
        let (code, errors) = refused(&all);
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
}

#[test]
fn names_that_would_be_cut_are_refused_with_78() {
    let long = "x".repeat(254);
    for flags in
        [["--component", long.as_str(), "--name", "n"], ["--component", "c", "--name", long.as_str()]]
    {
        let (code, errors) =
            refused(&[&["agent", "--database-url", "sqlite:/tmp/x.db"][..], &flags].concat());
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains("characters"), "{errors}");
    }
}

#[test]
fn a_port_that_is_taken_is_refused_with_78_and_the_address() {
    let rig = Rig::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for verb in [&["agent"][..], &["run"]] {
        let command: &[&str] = if verb == ["run"] { &["--", "true"] } else { &[] };
        let flags = ["--component", "c", "--database-url", &rig.url(), "--listen", &address];
        let (code, errors) = refused(&[verb, &flags, command].concat());
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
    }
}

#[test]
fn a_database_url_that_means_nothing_is_refused_with_78_and_never_printed() {
    for url in [
        "nonsense",
        "oracle://me:hunter2@db/x",
        "postgres://me:hunter2@[",
        "postgres://me:hunter2@h/d?sslmod=x",
    ] {
        for verb in [&["agent", "--component", "c"][..], &["migrate"]] {
            let (code, errors) = refused(&[verb, &["--database-url", url]].concat());
            assert_eq!(code, 78, "{url}: {errors}");
            assert!(!errors.contains("hunter2"), "{errors}");
        }
    }
}

#[test]
fn help_does_not_show_the_database_url_that_is_in_the_environment() {
    let (code, help, _) = output(
        program().args(["run", "--help"]).env("COMPONENT_LEASE_DATABASE_URL", "postgres://me:hunter2@h/d"),
    );
    assert_eq!(code, 0);
    assert!(help.contains("COMPONENT_LEASE_DATABASE_URL") && !help.contains("hunter2"), "{help}");
}

#[test]
fn migrate_tells_a_database_that_is_away_from_a_file_that_cannot_be() {
    let (code, errors) =
        refused(&["migrate", "--database-url", "postgres://me@127.0.0.1:1/db?sslmode=disable"]);
    assert_eq!(code, 69, "{errors}");
    let (code, errors) = refused(&["migrate", "--database-url", "sqlite:///no/such/folder/lease.db"]);
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("/no/such/folder"), "{errors}");
}

#[test]
fn migrate_twice_changes_nothing_and_says_so() {
    let rig = Rig::new();
    let (code, said, errors) = output(program().args(["migrate", "--database-url", &rig.url()]));
    assert_eq!(code, 0, "{errors}");
    assert!(said.contains("up to date"), "{said}");
}
