//! The signals that a supervisor hears, and what they mean to it.

use std::fs::File;
use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// A signal, by what is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Pass it on, and end once the program has.
    End(Signal),
    /// Pass it on; what it means is the program's business.
    PassOn(Signal),
}

#[derive(Debug)]
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
    has_terminal: bool,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            hangup: unix::signal(SignalKind::hangup())?,
            user1: unix::signal(SignalKind::user_defined1())?,
            user2: unix::signal(SignalKind::user_defined2())?,
            has_terminal: File::open("/dev/tty").is_ok(),
        })
    }

    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::End(Signal::TERM),
            _ = self.interrupt.recv() => Heard::End(Signal::INT),
            _ = self.quit.recv() => Heard::End(Signal::QUIT),
            // From a terminal that was closed it means the end; otherwise it mostly means "read your configuration".
            _ = self.hangup.recv() => if self.has_terminal { Heard::End(Signal::HUP) } else { Heard::PassOn(Signal::HUP) },
            _ = self.user1.recv() => Heard::PassOn(Signal::USR1),
            _ = self.user2.recv() => Heard::PassOn(Signal::USR2),
        }
    }
}
