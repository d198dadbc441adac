//! The process group of the supervised program: what is signalled, and what must be gone before
//! the lease is released. A program that leaves its group (a daemon that calls `setsid`) is out of
//! reach; so is one that runs as another user.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tracing::warn;

/// The group that runs now, if any; shared with the thread that ends it by force.
#[derive(Debug, Default)]
pub(super) struct Group {
    leader: AtomicI32,
    /// That it cannot be signalled has been said: it is killed again and again until it is gone.
    said: AtomicBool,
}

impl Group {
    pub(super) fn set(&self, leader: Option<Pid>) {
        self.leader.store(leader.map_or(0, |pid| pid.as_raw_nonzero().get()), Ordering::SeqCst);
        self.said.store(false, Ordering::SeqCst);
    }

    fn get(&self) -> Option<Pid> {
        Pid::from_raw(self.leader.load(Ordering::SeqCst))
    }

    /// Sends to every process of the group; false when there is none left.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        self.get().is_some_and(|group| self.sent(group, signal, kill_process_group(group, signal)))
    }

    fn sent(&self, group: Pid, signal: Signal, outcome: Result<(), Errno>) -> bool {
        match outcome {
            Ok(()) => true,
            Err(Errno::SRCH) => false,
            Err(error) => {
                if !self.said.swap(true, Ordering::SeqCst) {
                    complain(group, signal, error);
                }
                true
            }
        }
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
            complain(group, signal, error);
            true
        }
    }
}

fn complain(group: Pid, signal: Signal, error: Errno) {
    warn!(group = group.as_raw_nonzero(), signal = signal.as_raw(), %error, "cannot signal the program; does it run as another user?");
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_program_that_cannot_be_signalled_is_complained_of_once() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let (one, other) = (Pid::from_raw(4_000_001).unwrap(), Pid::from_raw(4_000_002).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            let group = Group::default();
            for pid in [one, other] {
                group.set(Some(pid));
                for _ in 0..100 {
                    assert!(group.sent(pid, Signal::KILL, Err(Errno::PERM)), "it is not gone");
                }
                assert!(!group.sent(pid, Signal::KILL, Err(Errno::SRCH)));
            }
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("cannot signal the program").count(), 2, "{log}");
    }
}
