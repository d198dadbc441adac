//! The guardian: a tiny process between the supervisor and its program, which ends everything that
//! the program has started when the supervisor dies or is stopped beyond the abort moment.
//!
//! ```text
//! supervisor ── guardian ── guardian ── program ── whatever it starts
//! ```
//! Each of the three is a subreaper: what loses its parent becomes a child of the nearest one above it
//! that lives, whatever group or session it is in. So a guardian that has no child left knows that
//! nothing is left of the program, and no process can slip away from all three. There are two guardians
//! because a process cannot be put above another one later: when one is killed, the other one has
//! everything below it already.
//!
//! A guardian has one end of a socket as its standard input. The supervisor alone holds the other end:
//! the end of the stream is the end of the supervisor. First comes a descriptor (the outer guardian:
//! the socket of the inner one; the inner one: the program's standard input), then a line
//! `begin <deadline> <abort> <length of the command>` and the command, then `watch <group> <abort>`
//! for each change; moments in ms of the boot clock. It answers `started <itself> <child>` or
//! `failed <errno>`, and `ended <pid> <exit|signal> <number>`, and exits with 0 when nothing is left.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, WaitOptions, getpid, wait};

use super::birth::Birth;
use super::children::Ended;
use super::processes::Process;
use super::tree::{self, ROUND, Scope};
use crate::clock::{Clock, SystemClock};
use crate::election::Moment;
use crate::process::output::complain;

/// The hidden command that is the guardian.
pub const COMMAND: &str = "guard-group";

/// How often the boot clock is read: a longer wait would sleep through a suspend.
const TICK: Duration = Duration::from_millis(50);
/// How often a process that cannot be ended is complained of.
const REPEAT: Duration = Duration::from_secs(60);

/// A guardian to be started: this very program, unless another one is named.
pub(crate) fn command(program: Option<&Path>) -> Command {
    let itself = Path::new("/proc/self/exe");
    let mut command = match program {
        Some(program) => Command::new(program),
        None if itself.exists() => Command::new(itself),
        None => Command::new(std::env::args_os().next().unwrap_or_else(|| "component-lease".into())),
    };
    command.arg(COMMAND);
    // A group of its own: Ctrl-C in a terminal is not for it.
    command.process_group(0);
    command
}

/// What a guardian reads first.
#[derive(Debug)]
struct Orders {
    handed: OwnedFd,
    deadline: Moment,
    abort: Moment,
    /// Empty for the outer guardian, which starts the inner one.
    command: Vec<OsString>,
}

impl Orders {
    /// `None` when the supervisor ended before it gave any.
    fn receive(control: &mut BufReader<UnixStream>) -> io::Result<Option<Self>> {
        let Some(handed) = receive_descriptor(control.get_ref())? else { return Ok(None) };
        let mut line = String::new();
        control.read_line(&mut line)?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "the supervisor's orders cannot be read");
        if line.is_empty() {
            return Ok(None);
        }
        let mut words = line.strip_prefix("begin ").ok_or_else(bad)?.split_ascii_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(bad);
        let (deadline, abort, length) = (number()?, number()?, number()?);
        let mut command = Vec::new();
        control.take(length).read_to_end(&mut command)?;
        if command.len() as u64 != length {
            return Ok(None);
        }
        Ok(Some(Self {
            handed,
            deadline: Duration::from_millis(deadline),
            abort: Duration::from_millis(abort),
            command: words_of(&command),
        }))
    }

    fn is_outer(&self) -> bool {
        self.command.is_empty()
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = match self.command.split_first() {
            None => command(None),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).process_group(0);
                command
            }
        };
        command.stdin(self.handed.try_clone()?);
        Birth { parent: getpid(), deadline: self.deadline }.before_exec_of(&mut command);
        command.spawn()
    }
}

/// A command as it is sent: each word ends with a byte that no word can contain.
pub(crate) fn packed(command: &[OsString]) -> Vec<u8> {
    command.iter().flat_map(|word| word.as_bytes().iter().copied().chain([0])).collect()
}

fn words_of(packed: &[u8]) -> Vec<OsString> {
    let words = packed.split_inclusive(|byte| *byte == 0);
    words.map(|word| OsStr::from_bytes(word.strip_suffix(&[0]).unwrap_or(word)).to_owned()).collect()
}

/// Comes with one byte; `None` at the end of the stream.
fn receive_descriptor(control: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let received = loop {
        match recvmsg(control, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let handed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    handed.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came along"))
}

/// Which group the program leads, and by when it must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Charge {
    group: Option<Pid>,
    abort: Moment,
}

fn parse(line: &[u8]) -> Option<Charge> {
    let mut words = std::str::from_utf8(line).ok()?.strip_prefix("watch ")?.split_ascii_whitespace();
    // Groups 0 and 1 would mean "my own" and "everybody".
    let group = words.next()?.parse().ok().filter(|group| *group > 1).and_then(Pid::from_raw);
    Some(Charge { group, abort: Duration::from_millis(words.next()?.parse().ok()?) })
}

/// The guardian's side: returns the exit code, when nothing is left of the program.
pub fn guard() -> u8 {
    let guarded = io::stdin().as_fd().try_clone_to_owned().and_then(|control| guard_on(control.into()));
    match guarded {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("component-lease: the guardian process cannot go on: {error}\n"));
            1
        }
    }
}

fn guard_on(control: UnixStream) -> io::Result<()> {
    let mut tell = control.try_clone()?;
    let mut control = BufReader::new(control);
    // Before there is anybody who could lose a parent.
    rustix::process::set_child_subreaper(Some(getpid()))?;
    let Some(orders) = Orders::receive(&mut control)? else { return Ok(()) };
    let child = match orders.start() {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            // The supervisor may be gone: then nobody needs to know.
            let _ = writeln!(tell, "failed {errno}");
            return Ok(());
        }
    };
    let _ = writeln!(tell, "started {} {}", getpid().as_raw_nonzero(), child.as_raw_nonzero());
    let group = (!orders.is_outer()).then_some(child);
    let inner = orders.is_outer().then(|| Process::read(child)).flatten();
    let (abort, outer) = (orders.abort, orders.is_outer());
    // The supervisor is to see whether the program's side of its pipes is closed.
    drop(orders);
    let charge = Charge { group, abort };
    let program = Arc::new(AtomicI32::new(number(group)));
    let known = Arc::clone(&program);
    let round = Arc::new(Mutex::new(()));
    let rounds = Arc::clone(&round);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let (why, charge) = watch(control, charge, |group| known.store(number(group), Ordering::Relaxed));
        if outer {
            // The inner guardian first: it is nearer.
            thread::sleep(TICK);
        }
        end(&charge, why, inner.as_ref(), &rounds);
    })?;
    let reap = |pid: Pid, ended: Ended| {
        // Below the outer guardian, the program is fetched here if the inner one was killed.
        if pid == child || number(Some(pid)) == program.load(Ordering::Relaxed) {
            let (how, number) = match ended {
                Ended::Exited(code) => ("exit", code),
                Ended::Signalled(signal) => ("signal", signal),
            };
            let _ = writeln!(tell, "ended {} {how} {number}", pid.as_raw_nonzero());
        }
    };
    reap_until_nothing_is_left(reap)?;
    // What was killed is reaped at once: the other thread may still be about to name it. Not for long, as nobody
    // may be reading what it writes.
    let patience = SystemClock.boot() + TICK;
    while round.try_lock().is_err() && SystemClock.boot() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn number(pid: Option<Pid>) -> i32 {
    pid.map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// As a subreaper, this process is the parent of whatever lost its own: no child means that nothing is left.
fn reap_until_nothing_is_left(mut reaped: impl FnMut(Pid, Ended)) -> io::Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                if let Some(ended) = Ended::of(status) {
                    reaped(pid, ended);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Why everything must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    SupervisorGone,
    Abort,
}

/// Returns when everything must end.
fn watch(
    mut control: BufReader<UnixStream>,
    mut charge: Charge,
    learned: impl Fn(Option<Pid>),
) -> (Why, Charge) {
    let mut line = Vec::new();
    if control.get_ref().set_read_timeout(Some(TICK)).is_err() {
        return (Why::SupervisorGone, charge);
    }
    loop {
        match control.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {
                if let Some(next) = parse(&line) {
                    charge = Charge { group: next.group.or(charge.group), ..next };
                    learned(charge.group);
                }
                line.clear();
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            Ok(_) | Err(_) => return (Why::SupervisorGone, charge),
        }
        if SystemClock.boot() >= charge.abort {
            return (Why::Abort, charge);
        }
    }
}

/// Ends everything below this process; the process itself ends when it has no child left. `rounds` is locked
/// from each kill until what was killed is named.
fn end(charge: &Charge, why: Why, inner: Option<&Process>, rounds: &Mutex<()>) -> ! {
    let guardians = inner.map(|inner| inner.id).into_iter().collect();
    let scope = Scope { guardians, group: charge.group, ..Scope::default() };
    let (mut said, mut complained) = (false, None);
    loop {
        let under_way = rounds.lock();
        let round = scope.kill();
        match &round {
            Ok(round) if round.living.is_empty() => {
                // One that is stopped keeps what has ended from being fetched.
                if let Some(inner) = inner {
                    let _ = inner.signal(Signal::KILL);
                }
            }
            Ok(round) if !said => {
                said = true;
                let names = tree::name(&Ok(round.living.clone()));
                match why {
                    Why::SupervisorGone => complain(&format!(
                        "component-lease: the supervisor is gone; what was left of its program was killed: {names}\n"
                    )),
                    Why::Abort => complain(&format!(
                        "component-lease: the supervisor did not stop its program in time (is it stopped or frozen?); the program was killed before the lease ran out: {names}\n"
                    )),
                }
            }
            _ => {}
        }
        let now = SystemClock.boot();
        if complained.is_none_or(|at| now >= at + REPEAT)
            && let Ok(round) = &round
            && let Some((process, error)) = round.refused.first()
        {
            complained = Some(now);
            complain(&format!(
                "component-lease: process {} of the program cannot be killed: {error}; it may go on beside the next leader: end it by hand\n",
                process.describe()
            ));
        }
        drop(under_way);
        thread::sleep(ROUND);
    }
}
