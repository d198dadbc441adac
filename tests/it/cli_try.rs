//! `component-lease try`: what a newcomer sees first.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::agent_support::{output, program, until};

/// The numbers of the processes that the line `started …` names.
fn pids(line: &str) -> Vec<Pid> {
    let numbers = line.split("(pid ").skip(1).filter_map(|rest| rest.split(')').next());
    numbers.map(|number| Pid::from_raw(number.parse().unwrap()).unwrap()).collect()
}

/// The seconds in front of the line that contains this.
fn seconds(text: &str, what: &str) -> f64 {
    let line = text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what:?}: {text}"));
    line.trim_start().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_first_try_shows_two_handovers_and_a_refused_write_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // Settings of the user's own lead nowhere else.
    let strange = [("COMPONENT_LEASE_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("POD_NAME", "x")];
    let (code, shown, errors) = output(program().arg("try").env("TMPDIR", folder.path()).envs(strange));
    assert_eq!((code, errors.as_str()), (0, ""), "{shown}");
    let (killed, second) = (seconds(&shown, "kill -9"), seconds(&shown, "leads with version 2"));
    assert!(second > killed && second - killed < 15.0, "{shown}");
    assert!(seconds(&shown, "leads with version 3") - seconds(&shown, "SIGTERM") < 3.0, "{shown}");
    assert!(shown.contains("refused, version 2 has written"), "{shown}");
    assert!(shown.contains("--database-url sqlite:leases.db"), "it says what to type next: {shown}");
    // Where this build lies may take more than a line.
    let named = shown.replace(env!("CARGO_BIN_EXE_component-lease"), "component-lease");
    let wide: Vec<_> = named.lines().filter(|line| line.chars().count() > 120).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is gone");
    let left: Vec<_> = pids(&shown).into_iter().filter(|pid| test_kill_process(*pid).is_ok()).collect();
    assert!(left.is_empty() && pids(&shown).len() == 3, "{left:?}: {shown}");
}

#[test]
fn a_first_try_that_is_killed_leaves_no_participant_running() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.arg("try").env("TMPDIR", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut shown = command.spawn().unwrap();
    let mut lines = BufReader::new(shown.stdout.take().unwrap()).lines().map(Result::unwrap);
    let started = lines.by_ref().find(|line| line.contains("started")).unwrap();
    lines.find(|line| line.contains("leads with version 1")).unwrap();
    kill_process(Pid::from_child(&shown), Signal::KILL).unwrap();
    shown.wait().unwrap();
    until("the participants to end", || {
        pids(&started).iter().all(|pid| test_kill_process(*pid).is_err()).then_some(())
    });
}

#[test]
fn a_first_try_that_cannot_make_its_files_says_where_and_what_to_do() {
    let (code, _, errors) = output(program().arg("try").env("TMPDIR", "/nonexistent"));
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("/nonexistent") && errors.contains("TMPDIR"), "{errors}");
}
