//! What the process that becomes the program sees to by itself, between fork and exec: its parent
//! may be stopped or killed at any moment.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::clock::{Clock, SystemClock};
use crate::election::Moment;

/// The conditions under which a program may begin.
pub(crate) struct Birth {
    /// The guardian that starts it.
    pub(crate) parent: Pid,
    /// No program begins after this.
    pub(crate) deadline: Moment,
}

impl Birth {
    #[expect(
        unsafe_code,
        reason = "between fork and exec the child makes a few system calls and allocates nothing"
    )]
    pub(crate) fn before_exec_of(self, command: &mut Command) {
        // SAFETY: the closure is async-signal-safe: raw system calls, no allocation, no lock.
        unsafe {
            command.pre_exec(move || self.check().map_err(Into::into));
        }
    }

    fn check(&self) -> Result<(), Errno> {
        // A guardian that died in between cannot say which process it has started.
        if rustix::process::getppid() != Some(self.parent) {
            return Err(Errno::SRCH);
        }
        if SystemClock.boot() >= self.deadline { Err(Errno::TIMEDOUT) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    fn born(parent: Pid, deadline: Moment) -> io::Result<std::process::ExitStatus> {
        let mut command = Command::new("true");
        Birth { parent, deadline }.before_exec_of(&mut command);
        command.status()
    }

    #[test]
    fn no_program_begins_after_its_term() {
        let (me, now) = (rustix::process::getpid(), SystemClock.boot());
        assert_eq!(born(me, now).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(born(me, now + Duration::from_secs(60)).unwrap().success());
    }

    #[test]
    fn no_program_begins_whose_guardian_is_gone() {
        let deadline = SystemClock.boot() + Duration::from_secs(60);
        let error = born(Pid::INIT, deadline).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
    }
}
