//! `run`: the program lives exactly as long as its term, however either of them ends.

use std::time::Duration;

use rustix::process::Signal;

use crate::agent_support::*;

/// A term whose end nothing can be mistaken for, on a busy machine either.
const LONG: Duration = Duration::from_secs(30);
/// The longest that such a term allows: 9 s.
const GRACE: [&str; 2] = ["--stop-grace", "9"];

/// Says that it runs, under which version, and goes on until it gets SIGTERM.
const WORK: &str = r"trap 'exit 0' TERM; echo $$ >> $DIR/$NAME.pid; echo $COMPONENT_LEASE_VERSION >> $DIR/versions
    while :; do sleep 0.05; done";

#[test]
fn of_two_supervisors_one_runs_its_program_and_the_other_takes_over_at_once_when_it_is_drained() {
    let rig = Rig::with_ttl(LONG);
    let mut first = rig.run("first", &[], WORK);
    assert_eq!(first.leads().version(), 1);
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    let program = rig.pid("first.pid");
    assert!(rig.lines("second.pid").is_empty(), "a standby runs nothing");

    let began = now();
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 0, "the program's own exit code");
    assert!(is_gone(program));
    assert_eq!(second.leads().version(), 2);
    assert!(now() - began < LONG / 2, "released, not expired: took {:?}", now() - began);
    rig.pid("second.pid");
    assert_eq!(rig.lines("versions"), ["1", "2"]);
}

#[test]
fn a_program_that_ends_by_itself_releases_at_once_and_its_exit_code_is_passed_on() {
    let rig = Rig::with_ttl(LONG);
    let mut first =
        rig.run("first", &[], "echo $$ > $DIR/pid; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 42");
    first.leads();
    rig.pid("pid");
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    let began = now();
    std::fs::write(rig.path("go"), "").unwrap();
    assert_eq!(first.exit_code(), 42);
    assert_eq!(second.leads().version(), 2);
    assert!(now() - began < LONG / 2, "released, not expired: took {:?}", now() - began);
}

#[test]
fn a_program_that_is_killed_releases_at_once_and_128_plus_the_signal_is_passed_on() {
    let rig = Rig::with_ttl(LONG);
    let mut first = rig.run("first", &[], WORK);
    first.leads();
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    let began = now();
    rustix::process::kill_process(rig.pid("first.pid"), Signal::KILL).unwrap();
    assert_eq!(first.exit_code(), 137);
    assert_eq!(second.leads().version(), 2);
    assert!(now() - began < LONG / 2, "released, not expired: took {:?}", now() - began);
}

#[test]
fn when_the_supervisor_is_killed_the_program_and_what_it_started_die_with_it() {
    let rig = Rig::new();
    let supervisor = rig.run(
        "first",
        &[],
        "(trap '' TERM; echo go > $DIR/ready; while :; do sleep 0.05; done) & echo $! > $DIR/grandchild; echo $$ > $DIR/child; wait",
    );
    supervisor.leads();
    let (child, grandchild) = (rig.pid("child"), rig.pid("grandchild"));
    rig.line("ready");
    assert!(!is_gone(child) && !is_gone(grandchild));
    supervisor.signal(Signal::KILL);
    until("the end of the child", || is_gone(child).then_some(()));
    until("the end of the grandchild", || is_gone(grandchild).then_some(()));
}

#[test]
fn a_supervisor_that_is_stopped_beyond_its_term_leaves_no_program_running_and_says_503_at_the_first_ask() {
    let rig = Rig::new();
    let first = rig.run("first", &[], WORK);
    first.leads();
    let program = rig.pid("first.pid");
    let stopped = rig.freeze(&first);
    // Its guardian ends the program although the supervisor itself cannot.
    until("the end of the program", || is_gone(program).then_some(()));
    assert!(now() - stopped < TTL, "before anybody could seize the row: took {:?}", now() - stopped);
    until("the end of the term", || (now() - stopped > TTL).then_some(()));
    first.signal(Signal::CONT);
    assert_eq!(first.ask("/leader").unwrap().status, 503);
    // It goes on as a standby and may win again, with another program.
    assert_eq!(first.leads().version(), 2);
    until("another program", || rig.lines("first.pid").get(1).cloned());
}

#[test]
fn a_group_that_ignores_term_is_killed_before_the_term_ends_and_only_then_released() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &["--drain-timeout", "0"],
        r"trap '' TERM; (while :; do sleep 0.05; done) & echo $! > $DIR/grandchild
        echo $$ > $DIR/child; while :; do sleep 0.05; done",
    );
    first.leads();
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    let (child, grandchild) = (rig.pid("child"), rig.pid("grandchild"));
    let began = now();
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 137);
    assert!(is_gone(child) && is_gone(grandchild));
    assert!(now() - began < TTL, "took {:?}", now() - began);
    assert_eq!(second.leads().version(), 2);
}

#[test]
fn a_program_that_ends_while_something_that_it_started_lives_on_is_released_only_when_that_is_gone() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &[],
        r"(trap 'echo asked > $DIR/asked' TERM; echo go > $DIR/ready; while :; do sleep 0.05; done) &
        echo $! > $DIR/grandchild; while [ ! -e $DIR/ready ]; do sleep 0.02; done; exit 3",
    );
    assert_eq!(first.exit_code(), 3);
    let grandchild = rig.pid("grandchild");
    assert!(is_gone(grandchild));
    assert_eq!(rig.line("asked"), "asked", "it was asked to stop before it was killed");
}

#[test]
fn orphans_are_reaped() {
    let rig = Rig::new();
    let first = rig.run(
        "first",
        &[],
        // The orphan's parent ends before it does, so a guardian inherits it.
        r"sh -c '(while [ ! -e $DIR/go ]; do sleep 0.02; done) & echo $! > $DIR/orphan'
        echo $$ > $DIR/child; trap 'exit 0' TERM; while :; do sleep 0.05; done",
    );
    first.leads();
    let (child, orphan) = (rig.pid("child"), rig.pid("orphan"));
    let guardian = guardians_between(first.pid(), child)[0];
    until("a guardian as the orphan's parent", || {
        children_of(guardian).iter().any(|(pid, _)| *pid == orphan).then_some(())
    });
    std::fs::write(rig.path("go"), "").unwrap();
    until("the orphan out of the process table", || stat(orphan).is_none().then_some(()));
    assert!(!is_gone(child), "the program itself is not mistaken for it");
    for parent in [guardian, first.pid()] {
        assert!(children_of(parent).iter().all(|(_, state)| *state != 'Z'));
    }
}

#[test]
fn a_release_waits_until_nobody_can_believe_any_more_what_was_told_beside_the_program() {
    let rig = Rig::with_ttl(TTL * 2);
    let mut first = rig.run("first", &[], "while [ ! -e $DIR/end ]; do sleep 0.02; done; exit 7");
    first.leads();
    let second = rig.agent("second", &[]);
    second.sees(1);
    let before = now();
    // A sidecar asks; then the program ends.
    let promised = first.ask("/leader").unwrap().json()["valid_for_ms"].as_u64().unwrap();
    assert!((1000..=2000).contains(&promised), "no promise is longer than the stop grace: {promised}");
    std::fs::write(rig.path("end"), "").unwrap();
    until("an answer that it does not lead", || {
        first.ask("/leader").filter(|answer| answer.status == 503 && answer.json()["valid_for_ms"] == 0)
    });
    assert_eq!(second.leads().version(), 2);
    assert!(
        now() >= before + Duration::from_millis(promised),
        "the next leader began while the promise held"
    );
    assert!(now() - before < rig.ttl(), "released, not expired");
    assert_eq!(first.exit_code(), 7);
}

#[test]
fn a_program_beside_which_nobody_asked_is_not_waited_for() {
    let rig = Rig::with_ttl(LONG);
    let first = rig.run("first", &GRACE, "echo $$ > $DIR/pid; exec sleep 100");
    let pid = rig.pid("pid");
    let second = rig.agent("second", &[]);
    second.sees(1);
    let before = now();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(second.leads().version(), 2);
    assert!(now() - before < LONG / 6, "{:?}; log:\n{}", now() - before, first.log());
}

#[test]
fn what_the_program_itself_was_told_ends_with_it_and_delays_no_release() {
    let rig = Rig::with_ttl(LONG);
    // By bash's own sockets, so that it is the program that asks.
    let script = r#"
        url=${COMPONENT_LEASE_AGENT_URL#http://}; host=${url%%/*}; path=/${url#*/}/leader
        while [ ! -e "$DIR/end" ]; do
            exec 3<>"/dev/tcp/${host%:*}/${host##*:}"
            printf 'GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' "$path" >&3
            head -1 <&3 >>"$DIR/answers"
            exec 3<&-
            sleep 0.02
        done"#;
    std::fs::write(rig.path("asks.bash"), script).unwrap();
    let mut first = rig.run("first", &GRACE, "exec bash $DIR/asks.bash");
    assert!(rig.line("answers").contains("200"));
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    // It ends at once; this process does so only after the release.
    let ended = now();
    std::fs::write(rig.path("end"), "").unwrap();
    until("the next program", || (!rig.lines("second.pid").is_empty()).then_some(()));
    assert!(now() - ended < LONG / 6, "the release waited for what the program was told");
    first.exit_code();
}

#[test]
fn the_program_is_told_what_it_needs_and_not_how_to_reach_the_database() {
    let rig = Rig::new();
    let first = rig.run(
        "first",
        &[],
        "env | grep ^COMPONENT_LEASE | sort > $DIR/env.new; mv $DIR/env.new $DIR/env; sleep 100",
    );
    let answer = first.leads();
    let mut told = until("the environment", || Some(rig.lines("env")).filter(|lines| !lines.is_empty()));
    told.sort();
    let url = told[0].clone();
    let (before, secret) = url.split_once("/program/").unwrap();
    told[0] = before.to_owned();
    assert_eq!(first.ask(&format!("/program/{secret}/leader")).unwrap().status, 200);
    assert_eq!(first.ask(&format!("/program/{}/leader", "0".repeat(36))).unwrap().status, 404);
    assert_eq!(
        told,
        [
            format!("COMPONENT_LEASE_AGENT_URL=http://{}", first.address),
            "COMPONENT_LEASE_COMPONENT=discovery".to_owned(),
            format!("COMPONENT_LEASE_HOLDER={}", answer.json()["self"].as_str().unwrap()),
            "COMPONENT_LEASE_VERSION=1".to_owned(),
        ]
    );
}

/// The environment of a program that is run with these variables and flags.
fn environment_of_a_program(variables: &[(&str, &str)], flags: &[&str]) -> (Vec<String>, String) {
    let rig = Rig::new();
    let url_file = rig.path("url");
    std::fs::write(&url_file, rig.url()).unwrap();
    let mut command = program();
    command
        .args(["run", "--component", "another", "--listen", "127.0.0.1:0"])
        .args(flags)
        // What is between them and the program has it no more than the program.
        .args(["--", "sh", "-c", "tr '\\0' '\\n' < /proc/$PPID/environ > $DIR/env; env >> $DIR/env; exit 9"])
        .env("COMPONENT_LEASE_DATABASE_URL_FILE", &url_file)
        .env("DIR", rig.path(""));
    command.envs(variables.iter().copied());
    let (code, _, errors) = output(&command);
    assert_eq!(code, 9, "{errors}");
    (rig.lines("env"), errors)
}

#[test]
fn the_program_gets_nothing_that_gives_access_to_the_database_unless_it_is_to_have_it() {
    let secrets = [("PGPASSWORD", "hush-1"), ("PGPASSFILE", "/hush-2"), ("PGSSLKEY", "hush-3")];
    let others = [("PGHOST", "db"), ("MINE", "1")];
    let variables = [&secrets[..], &others[..]].concat();
    let (environment, errors) = environment_of_a_program(&variables, &[]);
    let has = |environment: &[String], name: &str| {
        environment.iter().any(|line| line.starts_with(&format!("{name}=")))
    };
    for (name, secret) in secrets {
        assert!(!has(&environment, name), "{environment:?}");
        assert!(errors.contains(name), "it is said what is kept back: {errors}");
        assert!(!errors.contains(secret), "{errors}");
    }
    assert!(!has(&environment, "COMPONENT_LEASE_DATABASE_URL_FILE"));
    assert!(others.iter().all(|(name, _)| has(&environment, name)), "{environment:?}");

    let (environment, _) = environment_of_a_program(&variables, &["--pass-env", "PGPASSWORD"]);
    assert!(has(&environment, "PGPASSWORD") && !has(&environment, "PGSSLKEY"), "{environment:?}");

    let mut by_url = program();
    let rig = Rig::new();
    by_url
        .args(["run", "--listen", "127.0.0.1:0", "--", "sh", "-c", "env > $DIR/env; exit 9"])
        .env("COMPONENT_LEASE_COMPONENT", "another")
        .env("COMPONENT_LEASE_DATABASE_URL", rig.url())
        .env("DIR", rig.path(""));
    let (code, _, errors) = output(&by_url);
    assert_eq!(code, 9, "{errors}");
    assert!(!has(&rig.lines("env"), "COMPONENT_LEASE_DATABASE_URL"));
}

#[test]
fn a_variable_that_is_passed_on_anyway_cannot_be_asked_for() {
    let (code, _, errors) = output(program().args([
        "run",
        "--component",
        "c",
        "--database-url",
        "sqlite:x",
        "--pass-env",
        "PATH",
        "--",
        "true",
    ]));
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("PGPASSWORD"), "{errors}");
}
