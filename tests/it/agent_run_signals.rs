//! `run` in the place of the program that it runs: signals in, exit codes out.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;

use crate::agent_support::*;

#[test]
fn signals_are_passed_on_to_the_program() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &[],
        r"trap 'echo USR1 >> $DIR/heard' USR1; trap 'echo USR2 >> $DIR/heard' USR2
        trap 'echo HUP >> $DIR/heard' HUP; trap 'echo TERM >> $DIR/heard; exit 7' TERM
        echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    rig.pid("pid");
    for (count, signal) in [Signal::USR1, Signal::USR2, Signal::HUP, Signal::TERM].into_iter().enumerate() {
        first.signal(signal);
        until("the signal", || (rig.lines("heard").len() > count).then_some(()));
    }
    assert_eq!(first.exit_code(), 7);
    assert_eq!(rig.lines("heard"), ["USR1", "USR2", "HUP", "TERM"]);
}

#[test]
fn an_interrupt_reaches_the_program_as_an_interrupt_and_is_not_followed_by_another_signal() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &[],
        r"trap 'echo INT >> $DIR/heard; exit 5' INT; trap 'echo TERM >> $DIR/heard' TERM
        echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    rig.pid("pid");
    first.signal(Signal::INT);
    assert_eq!(first.exit_code(), 5);
    assert_eq!(rig.lines("heard"), ["INT"]);
}

#[test]
fn a_program_that_gets_no_time_to_drain_hears_sigterm_only_after_half_of_its_stop_grace() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &["--drain-timeout", "0", "--stop-grace", "1.5"],
        r"trap 'echo INT >> $DIR/heard' INT; trap 'echo TERM >> $DIR/heard; exit 6' TERM
        echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    rig.pid("pid");
    let began = now();
    first.signal(Signal::INT);
    assert_eq!(first.exit_code(), 6, "before it was killed");
    assert!(now() - began >= Duration::from_millis(750), "took {:?}", now() - began);
    assert_eq!(rig.lines("heard"), ["INT", "TERM"]);
}

#[test]
fn a_program_that_is_being_stopped_gets_signals_all_the_same() {
    let rig = Rig::new();
    let well = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = well.local_addr().unwrap().to_string();
    let probe = ["--health-tcp", &address, "--health-interval", "0.1", "--health-threshold", "1"];
    let flags = [&probe[..], &["--health-start-grace", "0", "--stop-grace", "1.5"]].concat();
    let mut first = rig.run(
        "first",
        &flags,
        r"trap 'echo TERM >> $DIR/heard' TERM; trap 'echo USR1 >> $DIR/heard' USR1
        trap 'echo INT >> $DIR/heard; exit 9' INT; echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    rig.pid("pid");
    // Sick, it is to stop.
    drop(well);
    for (count, signal) in [(1, Signal::USR1), (2, Signal::INT)] {
        until("the signal before", || (rig.lines("heard").len() == count).then_some(()));
        first.signal(signal);
    }
    assert_eq!(first.exit_code(), 9, "the last one also asked for the end");
    assert_eq!(rig.lines("heard"), ["TERM", "USR1", "INT"]);
}

#[test]
fn a_program_that_dies_of_the_signal_that_was_passed_on_ends_with_128_plus_its_number() {
    let rig = Rig::new();
    let mut first = rig.run("first", &[], "echo $$ > $DIR/pid; exec sleep 100");
    rig.pid("pid");
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 143);
}

#[test]
fn a_standby_that_is_told_to_end_ends_with_0_and_disturbs_nobody() {
    let rig = Rig::new();
    let first = rig.run("first", &[], "sleep 100");
    first.leads();
    let mut second = rig.run("second", &[], "sleep 100");
    second.sees(1);
    second.signal(Signal::USR1);
    second.signal(Signal::TERM);
    assert_eq!(second.exit_code(), 0);
    let still = first.ask("/leader").unwrap();
    assert_eq!((still.status, still.version()), (200, 1));
}

#[test]
fn a_stopped_program_hears_that_it_must_end() {
    let rig = Rig::new();
    let mut first =
        rig.run("first", &[], "trap 'exit 4' TERM; echo $$ > $DIR/pid; while :; do sleep 0.02; done");
    let program = rig.pid("pid");
    rustix::process::kill_process(program, Signal::STOP).unwrap();
    until("the program to be stopped", || stat(program).filter(|(state, ..)| *state == 'T'));
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 4);
}

#[test]
fn a_command_that_is_not_there_or_is_no_program_is_refused_before_anything_is_taken() {
    let rig = Rig::new();
    let text = rig.path("text");
    std::fs::write(&text, "not a program").unwrap();
    for (command, code) in
        [("no-such-command", 127), ("/no/such/command", 127), (text.to_str().unwrap(), 126)]
    {
        let (exit, _, errors) =
            output(program().args(["run", "--component", "c", "--database-url", &rig.url(), "--", command]));
        assert_eq!(exit, code, "{errors}");
        assert!(errors.contains(command), "{errors}");
        assert!(!errors.contains("leading"), "{errors}");
    }
}

#[test]
fn a_script_whose_interpreter_is_missing_ends_with_127_and_releases() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let file = rig.path("script");
    std::fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = rig.url();
    let run = |command: &str| {
        let flags =
            ["run", "--component", "c", "--ttl", "30", "--listen", "127.0.0.1:0", "--database-url", &url];
        output(program().args(flags).args(["--", command]))
    };
    let (exit, _, errors) = run(file.to_str().unwrap());
    assert_eq!(exit, 127, "{errors}");
    assert!(errors.contains("interpreter"), "{errors}");
    // Were the row not released, this would wait for a minute.
    let (exit, _, errors) = run("true");
    assert_eq!(exit, 0, "{errors}");
}

/// Longer than anything that was granted before the signal lasts.
const LONG: Duration = Duration::from_secs(7);

#[test]
fn a_program_that_needs_longer_than_its_term_to_stop_keeps_the_lease_meanwhile() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &[],
        r"trap 'echo told > $DIR/told; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 8' TERM
        echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    first.leads();
    let program = rig.pid("pid");
    let second = rig.run("second", &[], "sleep 100");
    second.sees(1);
    first.signal(Signal::TERM);
    let began = now();
    rig.line("told");
    until("longer than a term", || {
        assert!(!is_gone(program), "it was to be waited for; log:\n{}", first.log());
        assert_eq!(second.ask("/leader").unwrap().status, 503);
        (now() - began > LONG).then_some(())
    });
    std::fs::write(rig.path("go"), "").unwrap();
    let stopped = now();
    assert_eq!(second.leads().version(), 2);
    assert!(now() - stopped < TTL / 2, "released, not expired: took {:?}", now() - stopped);
    assert_eq!(first.exit_code(), 8);
}

#[test]
fn a_program_that_does_not_stop_within_the_drain_timeout_is_told_again_and_killed() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &["--drain-timeout", "6"],
        r"trap 'echo told >> $DIR/told' TERM; echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    first.leads();
    rig.pid("pid");
    let second = rig.run("second", &[], "sleep 100");
    second.sees(1);
    first.signal(Signal::TERM);
    let began = now();
    assert_eq!(first.exit_code(), 137);
    let took = now() - began;
    assert!(took >= Duration::from_secs(6) && took < Duration::from_secs(6) + TTL / 2, "took {took:?}");
    assert_eq!(rig.lines("told"), ["told", "told"]);
    assert_eq!(second.leads().version(), 2);
    assert!(now() - began < took + TTL / 2, "released, not expired: took {:?}", now() - began);
}
