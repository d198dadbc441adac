//! `run`: guardians that hang, and a program that hangs while it is started.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::agent_support::*;

/// A Python program that does what no flag of ours does, for as long as this lives.
struct Helper(Child);

impl Helper {
    /// Returns once it says that it is ready.
    fn start(script: &str, argument: &str) -> Self {
        let mut python = Command::new("python3");
        python.args(["-c", script, argument]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut helper = Self(python.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(helper.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "it failed");
        helper
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With a lease of the kernel's on a file, an `exec` of it waits.
const HOLD_FILE: &str = r#"
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
signal.pause()
"#;

/// What is traced and interrupted hangs: SIGCONT does not make it go on, but SIGKILL ends it.
const HANG: &str = r#"
import ctypes, os, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
SEIZE, INTERRUPT, ALL = 0x4206, 0x4207, 0x40000000
process = int(sys.argv[1])
for request in SEIZE, INTERRUPT:
    if ptrace(request, process, None, None) != 0:
        sys.exit("ptrace (it needs root): " + os.strerror(ctypes.get_errno()))
os.waitpid(process, ALL)
print("ready", flush=True)
while not os.WIFSIGNALED(os.waitpid(process, ALL)[1]):
    pass
"#;

#[test]
fn a_supervisor_that_cannot_start_its_program_within_a_term_lets_another_lead() {
    let rig = Rig::new();
    let slow = rig.path("slow");
    fs::copy("/usr/bin/sleep", &slow).unwrap();
    let held = Helper::start(HOLD_FILE, slow.to_str().unwrap());
    let address = free_address();
    let mut command = program();
    command.args(["run", "--component", "discovery", "--ttl", "5", "--name", "first"]);
    command.args(["--database-url", &rig.url(), "--listen", &address.to_string(), "--"]);
    command.arg(&slow).arg("1000");
    let mut first = Running::start(command, rig.path("first.log"), address);
    assert_eq!(first.leads().version(), 1);
    let second = rig.agent("second", &[]);
    second.sees(1);
    // Renewing as it does, it would keep the lease for ever.
    assert_eq!(second.leads().version(), 2);
    let log = first.log();
    assert!(
        log.contains("over before the program could be started") && log.contains("INFO released"),
        "{log}"
    );
    drop(held);
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 0);
}

#[test]
fn a_guardian_that_hangs_when_everything_has_ended_is_killed() {
    let rig = Rig::new();
    let mut first =
        rig.run("first", &[], "echo $$ > $DIR/pid; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 3");
    first.leads();
    let outer = guardians_between(first.pid(), rig.pid("pid"))[1];
    let _hangs = Helper::start(HANG, &outer.as_raw_nonzero().to_string());
    fs::write(rig.path("go"), "").unwrap();
    assert_eq!(first.exit_code(), 3, "{}", first.log());
    assert!(first.log().contains("INFO released"), "{}", first.log());
}

/// Stops a process for as long as nobody lets it go on.
fn stop(pid: Pid) {
    until("it to be stopped", || {
        kill_process(pid, Signal::STOP).unwrap();
        stat(pid).filter(|(state, ..)| *state == 'T')
    });
}

#[test]
fn a_guardian_that_somebody_stopped_goes_on() {
    let rig = Rig::new();
    let mut first =
        rig.run("first", &[], "trap 'exit 0' TERM; echo $$ > $DIR/pid; while :; do sleep 0.05; done");
    first.leads();
    for guardian in guardians_between(first.pid(), rig.pid("pid")) {
        stop(guardian);
        until("it to go on", || stat(guardian).filter(|(state, ..)| *state != 'T'));
    }
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 0);
}

#[test]
fn guardians_that_are_stopped_while_the_program_stops_go_on_too() {
    let rig = Rig::new();
    // Without time to drain, it gets SIGTERM and is being stopped at once.
    let mut first = rig.run(
        "first",
        &["--drain-timeout", "0", "--stop-grace", "1.5"],
        r"trap 'kill -STOP $PPID $(cut -d\  -f4 /proc/$PPID/stat); exit 5' TERM
        echo $$ > $DIR/pid; while :; do sleep 0.02; done",
    );
    first.leads();
    rig.pid("pid");
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 5);
    assert!(!first.log().contains("a guardian process was killed"), "{}", first.log());
}
