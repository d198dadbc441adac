//! A second pair of eyes: a tiny process that ends the program's whole group when its supervisor
//! dies or is stopped beyond the abort moment.
//!
//! The parent-death signal reaches only the direct child, and only when the supervisor is dead.
//! What the program started itself would live on without a lease, and so would everything while
//! the supervisor is frozen (SIGSTOP, a debugger). The guardian reads from a pipe whose other end
//! only the supervisor holds: one line per change, `<process group> <abort moment in ms>`; the end
//! of the pipe is the end of the supervisor. The first line is written by the program's own process
//! before it becomes the program: a supervisor that is stopped right after the fork cannot.

use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tracing::warn;

use super::children::Children;
use super::group;
use crate::clock::{Clock, SystemClock};
use crate::domain::Moment;
use crate::process::output::complain;

/// The hidden command that is the guardian.
pub const COMMAND: &str = "guard-group";

/// How often the boot clock is read: a longer wait would sleep through a suspend.
const TICK: Duration = Duration::from_millis(50);

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Guardian {
    pipe: Option<ChildStdin>,
    said: (i32, u128),
}

/// What the process that becomes the program says to the guardian first.
#[derive(Debug)]
pub(super) struct Announcement {
    pipe: OwnedFd,
    abort: Moment,
}

impl Announcement {
    pub(super) fn on(pipe: OwnedFd, abort: Moment) -> Self {
        Self { pipe, abort }
    }

    /// That its group, which it leads, is to be watched. Between fork and exec: allocates nothing, never waits.
    pub(super) fn say(&self, group: Pid) -> Result<(), Errno> {
        let mut pipe = [PollFd::new(&self.pipe, PollFlags::OUT)];
        poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if pipe[0].revents() != PollFlags::OUT {
            // No guardian: the supervisor finds out by itself. Should it end just now, writing ends this process
            // too (SIGPIPE), and the supervisor takes it for a program that was killed.
            return Ok(());
        }
        let mut line = [0; 64];
        let mut rest = &mut line[..];
        let fits = writeln!(rest, "{} {}", group.as_raw_nonzero(), self.abort.as_millis());
        let left = rest.len();
        fits.map_err(|_| Errno::OVERFLOW)?;
        rustix::io::write(&self.pipe, &line[..line.len() - left]).map(drop)
    }
}

impl Guardian {
    /// Without a guardian the program still runs, and still dies with its supervisor.
    pub(super) async fn start(children: &Children) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
        // A group of its own: Ctrl-C in a terminal is not for it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let pipe = match children.start(command).await {
            Ok(started) => started.stdin,
            Err(error) => {
                warn!(%error, "cannot start the guardian process: what the program starts itself would outlive a killed supervisor");
                None
            }
        };
        Self { pipe, said: (0, 0) }
    }

    /// For the process that becomes the program; `None` without a guardian.
    pub(super) fn announcement(&mut self, abort: Moment) -> Option<Announcement> {
        // Whatever comes next is news, also that there is nothing to guard.
        self.said = (-1, 0);
        let pipe = self.pipe.as_ref()?.as_fd().try_clone_to_owned();
        pipe.map(|pipe| Announcement::on(pipe, abort)).ok()
    }

    /// Which group to end, and when at the latest.
    pub(super) fn watch(&mut self, group: Pid, abort: Moment) {
        self.say((group.as_raw_nonzero().get(), abort.as_millis()));
    }

    /// Nothing is left to guard. Never said by a mere drop: a supervisor that panics is as good as dead.
    pub(super) fn dismiss(mut self) {
        self.say((0, 0));
    }

    fn say(&mut self, what: (i32, u128)) {
        let Some(pipe) = &mut self.pipe else { return };
        if what == self.said {
            return;
        }
        self.said = what;
        if let Err(error) = writeln!(pipe, "{} {}", what.0, what.1) {
            warn!(%error, "the guardian process is gone; going on without");
            self.pipe = None;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Charge {
    group: Pid,
    abort: Moment,
}

/// `None` when there is nothing to guard.
fn parse(line: &str) -> Option<Charge> {
    let (group, abort) = line.trim().split_once(' ')?;
    let group = group.parse().ok().filter(|group| *group > 1).and_then(Pid::from_raw)?;
    Some(Charge { group, abort: Duration::from_millis(abort.parse().ok()?) })
}

/// The guardian's side: returns when its supervisor is gone or needs it no more.
pub fn guard() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(parse(&line)).is_err() {
                return;
            }
        }
    });
    let mut charge: Option<Charge> = None;
    loop {
        match told.recv_timeout(TICK) {
            Ok(next) => charge = next,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(Charge { group, abort }) = charge
            && SystemClock.boot() >= abort
            && group::send(group, Signal::KILL)
        {
            charge = None;
            complain(
                "component-lease: the supervisor did not stop its program in time (is it stopped or frozen?); the program was killed before the lease ran out\n",
            );
        }
    }
    if let Some(Charge { group, .. }) = charge
        && group::send(group, Signal::KILL)
    {
        complain("component-lease: the supervisor is gone; what was left of its program was killed\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_group_and_a_moment_and_zero_means_nothing() {
        let charge = parse("1234 5000\n").unwrap();
        assert_eq!((charge.group.as_raw_nonzero().get(), charge.abort), (1234, Duration::from_secs(5)));
        // Groups 0 and 1 would mean "my own" and "everybody".
        for nothing in ["0 0", "1 5000", "-5 5000", "", "x y", "12"] {
            assert_eq!(parse(nothing), None, "{nothing:?}");
        }
    }
}
