//! One participant: the command `run` as a process of its own, so that it can be killed like one.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::sync::mpsc;

use super::ledger::Write;
use crate::clock::{Clock, SystemClock};
use crate::election::Moment;

/// What the participants compete for, and for how long at a time.
pub(super) const COMPONENT: &str = "try";
pub(super) const TTL_SECONDS: u32 = 5;

/// The program that runs while its participant leads: it writes ten times a second and hands its version along.
pub(super) const PROGRAM: &str =
    "n=0; while sleep 0.1; do n=$((n+1)); echo \"write $COMPONENT_LEASE_VERSION $n\"; done";

/// A write that a program made, with who supervises it and when it arrived (boot clock).
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) from: &'static str,
    pub(super) write: Write,
    pub(super) at: Moment,
}

#[derive(Debug)]
pub(super) struct Competitor {
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Competitor {
    /// The command line is the one that is shown to the user.
    pub(super) fn arguments(name: &str, database: &str) -> Vec<String> {
        let ttl = TTL_SECONDS.to_string();
        let words =
            ["run", "--component", COMPONENT, "--name", name, "--ttl", &ttl, "--database-url", database];
        words.into_iter().map(str::to_owned).collect()
    }

    /// Must be called on the main thread: the kernel ends the process when the thread that started it ends.
    pub(super) fn start(
        name: &'static str,
        database: &str,
        folder: &Path,
        arrivals: mpsc::UnboundedSender<Arrival>,
    ) -> io::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(Self::arguments(name, database))
            .args(["--", "sh", "-c", PROGRAM])
            // A setting of the user's own (another database, a pod's name) must not lead this elsewhere.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            // Ctrl-C is for the process that shows all this; it ends the others.
            .process_group(0);
        end_with_this_process(&mut command);
        let mut child = command.spawn()?;
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let Some(write) = Write::parse(&line) else { continue };
                    let arrival = Arrival { from: name, write, at: SystemClock.boot() };
                    if arrivals.send(arrival).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { name, child, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It is a child that was not waited for yet, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it has ended, and if so how, in words.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        })
    }

    /// The last lines of its log, for a report of what went wrong.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Competitor {
    fn drop(&mut self) {
        // Its program goes with it: that is what `run` is for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(unsafe_code, reason = "between fork and exec the child makes one system call and allocates nothing")]
fn end_with_this_process(command: &mut Command) {
    // SAFETY: the closure is async-signal-safe: one raw system call, no allocation, no lock.
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::TERM)).map_err(Into::into));
    }
}
