//! No agent renews for an unhealthy program.

use std::net::TcpListener;

use crate::agent_support::*;

const QUICK: &[&str] = &[
    "--health-interval",
    "0.1",
    "--health-threshold",
    "2",
    "--health-start-grace",
    "0",
    "--health-timeout",
    "2",
];

fn with_probe<'a>(address: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--health-tcp", address][..], QUICK, more].concat()
}

#[test]
fn beside_a_program_a_sick_leader_releases_and_stays_away_for_the_cooldown() {
    let rig = Rig::new();
    let address = free_address();
    let well = TcpListener::bind(address).unwrap();
    let text = address.to_string();
    let first = rig.agent("first", &with_probe(&text, &["--cooldown", "600"]));
    assert_eq!(first.leads().version(), 1);
    let second = rig.agent("second", &[]);
    second.sees(1);

    let began = now();
    drop(well);
    assert_eq!(second.leads().version(), 2);
    assert!(now() - began < TTL - TTL / 10, "released, not expired: took {:?}", now() - began);

    // Well again, and the row is free: it stays away all the same.
    let _well = TcpListener::bind(address).unwrap();
    drop(second);
    let third = rig.agent("third", &[]);
    assert_eq!(third.leads().version(), 3);
    assert_eq!(first.ask("/leader").unwrap().status, 503);
}

#[test]
fn beside_a_program_a_standby_whose_program_does_not_answer_never_takes() {
    let rig = Rig::new();
    let address = free_address();
    let text = address.to_string();
    let first = rig.agent("first", &with_probe(&text, &[]));
    first.stands_by();
    // A second participant comes later and yet wins: the row was left alone.
    let second = rig.agent("second", &[]);
    assert_eq!(second.leads().version(), 1);
    drop(second);
    // Once its program answers, it takes part.
    let _well = TcpListener::bind(address).unwrap();
    assert_eq!(first.leads().version(), 2);
}

#[test]
fn around_a_program_a_sick_one_is_stopped_and_another_starts_after_the_cooldown() {
    let rig = Rig::new();
    let nobody = free_address().to_string();
    let script = "echo $$ >> $DIR/$NAME.pid; trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let first = rig.run("first", &with_probe(&nobody, &["--cooldown", "2"]), script);
    let program = rig.pid("first.pid");
    until("the end of the sick program", || is_gone(program).then_some(()));
    let stopped = now();
    first.stands_by();
    until("another program", || rig.lines("first.pid").get(1).cloned());
    let away = now() - stopped;
    assert!(away.as_millis() >= 1900, "stayed away for {away:?} only");
}

#[test]
fn around_a_program_failures_before_the_first_success_are_forgiven_for_the_start_grace() {
    let rig = Rig::new();
    let address = free_address();
    let text = address.to_string();
    let flags = [
        "--health-tcp",
        &text,
        "--health-interval",
        "0.1",
        "--health-threshold",
        "1",
        "--health-start-grace",
        "600",
    ];
    let first = rig.run("first", &flags, "echo $$ > $DIR/pid; exec sleep 100");
    first.leads();
    let program = rig.pid("pid");
    let failures = || first.log().matches("is unhealthy").count();
    until("some failures", || (failures() >= 5).then_some(()));
    assert!(!is_gone(program), "they are forgiven");
    let well = TcpListener::bind(address).unwrap();
    until("a success", || well.accept().ok());
    drop(well);
    until("the end of the program", || is_gone(program).then_some(()));
}
