//! Starts processes and reaps everything that ends, as PID 1 and a subreaper must.
//!
//! One plain OS thread does both: a process that cannot be executed is waited for by the standard
//! library itself, which must not be overtaken by a `waitpid` for any child. Nothing else in this
//! process may wait for children.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::debug;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Signalled(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Ended {
    /// As a shell would pass it on.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    pub(crate) fn of(status: WaitStatus) -> Option<Self> {
        status.exit_status().map(Self::Exited).or_else(|| status.terminating_signal().map(Self::Signalled))
    }
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// Never sent on when the process table lost it, which cannot happen while only this thread reaps.
    pub(crate) ended: oneshot::Receiver<Ended>,
}

enum Order {
    Start(Box<Command>, oneshot::Sender<io::Result<Started>>),
    Await(Pid, oneshot::Sender<Ended>),
    Reap,
}

/// The handle of the thread.
#[derive(Debug, Clone)]
pub struct Children {
    orders: mpsc::Sender<Order>,
}

impl Children {
    /// Begins; orphans of children become children of this process.
    pub fn new() -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Self::begin(Whom::All)
    }

    /// For a process in which others wait for children of theirs, as in tests. Orphans are not taken in.
    pub fn among_others() -> io::Result<Self> {
        Self::begin(Whom::Started)
    }

    fn begin(whom: Whom) -> io::Result<Self> {
        let mut ended = signal(SignalKind::child())?;
        let (orders, inbox) = mpsc::channel();
        thread::Builder::new().name("children".to_owned()).spawn(move || keep(&inbox, whom))?;
        let reap = orders.clone();
        tokio::spawn(async move { while ended.recv().await.is_some() && reap.send(Order::Reap).is_ok() {} });
        Ok(Self { orders })
    }

    pub(crate) async fn start(&self, command: Command) -> io::Result<Started> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes has ended");
        self.orders.send(Order::Start(Box::new(command), reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// How a process ends that becomes a child of this one when its own parent has died. Never told of one
    /// that ends before.
    pub(crate) fn await_orphan(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (tell, ended) = oneshot::channel();
        // Without the thread nothing is ever told.
        let _ = self.orders.send(Order::Await(pid, tell));
        ended
    }
}

/// Whom the thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    All,
    /// Those that it has started, and what others were told to await.
    Started,
}

/// The caller that waits for a process to end.
struct Awaited {
    tell: oneshot::Sender<Ended>,
    /// Started here: it is reaped though nobody listens, and its number is nobody else's until then.
    is_ours: bool,
}

fn keep(inbox: &mpsc::Receiver<Order>, whom: Whom) {
    let mut awaited = HashMap::new();
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Start(mut command, reply) => {
                let started = command.spawn().map(|child| {
                    let (tell, ended) = oneshot::channel();
                    let pid = Pid::from_child(&child);
                    awaited.insert(pid, Awaited { tell, is_ours: true });
                    Started { pid, ended }
                });
                // Its ends of pipes and sockets are the child's alone from now on.
                drop(command);
                // The caller may have given up; the process is reaped all the same.
                let _ = reply.send(started);
            }
            Order::Await(pid, tell) => {
                awaited.insert(pid, Awaited { tell, is_ours: false });
            }
            Order::Reap if whom == Whom::All => reap(&mut awaited),
            Order::Reap => reap_only(&mut awaited),
        }
    }
}

fn reap(awaited: &mut HashMap<Pid, Awaited>) {
    forget_the_unheard(awaited);
    // Any child: `waitpid(None)` would see those of our own process group only. An error means that
    // there is no child left.
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let Some(ended) = Ended::of(status) else { continue };
        if let Some(one) = awaited.remove(&pid) {
            // The waiting call may have been given up.
            let _ = one.tell.send(ended);
        } else {
            debug!(pid = pid.as_raw_nonzero(), ?ended, "reaped an orphan");
        }
    }
}

fn reap_only(awaited: &mut HashMap<Pid, Awaited>) {
    forget_the_unheard(awaited);
    let ended: Vec<_> = awaited
        .keys()
        .filter_map(|pid| rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG).ok().flatten())
        .filter_map(|(pid, status)| Some((pid, Ended::of(status)?)))
        .collect();
    for (pid, ended) in ended {
        if let Some(one) = awaited.remove(&pid) {
            let _ = one.tell.send(ended);
        }
    }
}

/// The number of a process that was not started here may be another's by now, for whose end somebody else waits.
fn forget_the_unheard(awaited: &mut HashMap<Pid, Awaited>) {
    awaited.retain(|_, one| one.is_ours || !one.tell.is_closed());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_passed_on_as_a_shell_does() {
        assert_eq!(Ended::Exited(0).exit_code(), 0);
        assert_eq!(Ended::Exited(42).exit_code(), 42);
        assert_eq!(Ended::Signalled(9).exit_code(), 137);
        assert_eq!(Ended::Signalled(15).exit_code(), 143);
    }

    const SOON: std::time::Duration = std::time::Duration::from_secs(20);

    /// Of a process that is there.
    fn state(pid: Pid) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn sleeps() -> Command {
        let mut command = Command::new("sleep");
        command.arg("1000");
        command
    }

    /// Returns when all that has ended so far was looked at.
    async fn looked(children: &Children) {
        children.start(Command::new("true")).await.unwrap().ended.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_process_for_which_nobody_listens_any_more_is_left_to_others() {
        let children = Children::among_others().unwrap();
        // As one that was given the number of a guardian's child.
        let mut other = sleeps().spawn().unwrap();
        drop(children.await_orphan(Pid::from_child(&other)));
        other.kill().unwrap();
        let dies = async {
            while state(Pid::from_child(&other)).is_some_and(|state| state != 'Z') {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, dies).await.expect("it dies");
        looked(&children).await;
        assert_eq!(other.wait().unwrap().code(), None, "nobody has taken it away");
    }

    #[tokio::test]
    async fn what_was_started_is_reaped_though_nobody_listens() {
        let children = Children::among_others().unwrap();
        let Started { pid, ended } = children.start(sleeps()).await.unwrap();
        drop(ended);
        drop(children.await_orphan(rustix::process::getpid()));
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let reaped = async {
            while state(pid).is_some() {
                looked(&children).await;
            }
        };
        tokio::time::timeout(SOON, reaped).await.expect("no zombie is left");
    }
}
