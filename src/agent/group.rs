//! The process group of the supervised program: what is signalled, and what must be gone before
//! the lease is released. A program that leaves its group (a daemon that calls `setsid`) is out of
//! reach; so is one that runs as another user.

use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tracing::warn;

/// The group that runs now, if any; shared with the thread that ends it by force.
#[derive(Debug, Default)]
pub(super) struct Group(AtomicI32);

impl Group {
    pub(super) fn set(&self, leader: Option<Pid>) {
        self.0.store(leader.map_or(0, |pid| pid.as_raw_nonzero().get()), Ordering::SeqCst);
    }

    fn get(&self) -> Option<Pid> {
        Pid::from_raw(self.0.load(Ordering::SeqCst))
    }

    /// Sends to every process of the group; false when there is none left.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        self.get().is_some_and(|group| send(group, signal))
    }

    /// To stop by itself. A stopped process must be continued to hear it.
    pub(super) fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.get().is_none_or(|group| test_kill_process_group(group) == Err(Errno::SRCH))
    }
}

/// False when the group is gone.
pub(super) fn send(group: Pid, signal: Signal) -> bool {
    match kill_process_group(group, signal) {
        Ok(()) => true,
        Err(Errno::SRCH) => false,
        Err(error) => {
            warn!(group = group.as_raw_nonzero(), signal = signal.as_raw(), %error, "cannot signal the program; does it run as another user?");
            true
        }
    }
}
