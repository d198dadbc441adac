//! The supervisor's side of the guardians of one term: starts the program through them, tells them
//! by when it must have ended, and hears what becomes of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, waitid};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::children::{Children, Ended};
use super::guardian::{self, packed};
use super::processes::{self, Id, Process};
use super::tree::{Scope, Tree};
use crate::clock::{Clock, SystemClock};
use crate::election::Moment;

/// What the program is started with.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<OsString>,
    pub(crate) set: Vec<(&'static str, OsString)>,
    pub(crate) unset: Vec<&'static str>,
    /// What is started as a guardian, if not this very program.
    pub(crate) guardian: Option<PathBuf>,
    /// Where it writes, if not where this process does.
    pub(crate) output: Option<OwnedFd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Outer,
    Inner,
}

/// A guardian as far as is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Runs,
    /// It saw that nothing was left below it.
    Done,
    /// It was killed, or could not go on.
    Died,
}

/// What a guardian or the process table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Started {
        guardian: Pid,
        child: Pid,
    },
    Failed(i32),
    Ended(Pid, Ended),
    /// Nothing more will be said by this guardian.
    Closed,
}

impl News {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<i32>().ok();
        match kind {
            "started" => {
                Some(Self::Started { guardian: Pid::from_raw(number()?)?, child: Pid::from_raw(number()?)? })
            }
            "failed" => Some(Self::Failed(number()?)),
            "ended" => {
                let pid = Pid::from_raw(number()?)?;
                let how = words.next()?;
                let number = words.next()?.parse().ok()?;
                match how {
                    "exit" => Some(Self::Ended(pid, Ended::Exited(number))),
                    "signal" => Some(Self::Ended(pid, Ended::Signalled(number))),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// What the supervisor needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    ProgramStarted(Pid),
    /// Its error number.
    NotStarted(i32),
    ProgramEnded(Ended),
    /// One guardian is left, which has everything below it.
    OneLost,
    /// No guardian is left: the program runs below the supervisor alone.
    BothLost,
    NothingLeft,
}

/// What was heard of the guardians and their program; decides what that means.
#[derive(Debug)]
struct Ledger {
    outer: (Pid, Life),
    inner: Option<(Pid, Life)>,
    inner_is_silent: bool,
    program: Option<Pid>,
    status: Option<Ended>,
}

impl Ledger {
    fn new(outer: Pid) -> Self {
        Self { outer: (outer, Life::Runs), inner: None, inner_is_silent: false, program: None, status: None }
    }

    fn hear(&mut self, from: Which, news: News) -> Option<Happening> {
        match news {
            News::Started { guardian, child } => match from {
                Which::Outer => {
                    self.meet_inner(child);
                    None
                }
                Which::Inner => {
                    self.meet_inner(guardian);
                    self.program.is_none().then(|| {
                        self.program = Some(child);
                        Happening::ProgramStarted(child)
                    })
                }
            },
            News::Failed(error) => Some(Happening::NotStarted(error)),
            News::Ended(pid, ended) => self.ended(pid, ended),
            News::Closed => {
                self.inner_is_silent |= from == Which::Inner;
                let was_alone = self.is_alone();
                self.doubt_inner();
                (!was_alone && self.is_alone()).then_some(Happening::BothLost)
            }
        }
    }

    fn meet_inner(&mut self, pid: Pid) {
        self.inner.get_or_insert((pid, Life::Runs));
    }

    /// The outer guardian may have fetched the inner one and been killed before it could say so.
    fn doubt_inner(&mut self) {
        if self.outer.1 == Life::Died
            && self.inner_is_silent
            && let Some(inner) = self.inner.as_mut().filter(|inner| inner.1 == Life::Runs)
        {
            inner.1 = Life::Died;
        }
    }

    fn ended(&mut self, pid: Pid, ended: Ended) -> Option<Happening> {
        let life = if ended == Ended::Exited(0) { Life::Done } else { Life::Died };
        if pid == self.outer.0 && self.outer.1 == Life::Runs {
            self.outer.1 = life;
            self.doubt_inner();
        } else if let Some(inner) =
            self.inner.as_mut().filter(|inner| inner.0 == pid && inner.1 == Life::Runs)
        {
            inner.1 = life;
        } else if self.program == Some(pid) && self.status.is_none() {
            self.status = Some(ended);
            return Some(Happening::ProgramEnded(ended));
        } else {
            return None;
        }
        if self.is_over() {
            Some(Happening::NothingLeft)
        } else if life == Life::Done {
            // The inner guardian; the outer one sees it too.
            None
        } else if self.is_alone() {
            Some(Happening::BothLost)
        } else {
            Some(Happening::OneLost)
        }
    }

    /// A guardian that has no child left has seen the end of everything, as long as all of it was below it:
    /// the outer one always, the inner one when it is the last.
    fn is_over(&self) -> bool {
        let inner = self.inner.map(|inner| inner.1);
        match self.outer.1 {
            Life::Done => true,
            Life::Runs => false,
            Life::Died => inner == Some(Life::Done),
        }
    }

    /// Neither guardian is left, and none has seen the end.
    fn is_alone(&self) -> bool {
        self.outer.1 == Life::Died && self.inner.is_none_or(|inner| inner.1 == Life::Died)
    }
}

/// The guardians of one term and what they watch.
#[derive(Debug)]
pub(crate) struct Guardians {
    ledger: Ledger,
    outer: Option<Id>,
    inner: Option<Id>,
    tree: Arc<Tree>,
    children: Children,
    lines: Option<[OwnedWriteHalf; 2]>,
    said: String,
    news: mpsc::UnboundedReceiver<(Which, News)>,
    tell: mpsc::UnboundedSender<(Which, News)>,
    /// Those who listen to the guardians.
    heard: [JoinHandle<()>; 2],
    /// What ran below this process before.
    strangers: Vec<Id>,
    /// Further programs may be started while this one runs.
    among_others: bool,
}

impl Guardians {
    /// Starts them, and lets them start the program, unless that takes until `deadline`.
    pub(crate) async fn start(
        children: &Children,
        tree: &Arc<Tree>,
        program: Program,
        (deadline, abort): (Moment, Moment),
    ) -> io::Result<Self> {
        let strangers = processes::all().unwrap_or_default();
        let strangers = processes::below(&strangers, getpid(), &[]).into_iter().map(|process| process.id);
        let strangers: Vec<_> = strangers.collect();
        let stdin = standard_input()?;
        let (outer, outers_end) = Socket::pair()?;
        let (inner, inners_end) = Socket::pair()?;
        let mut command = guardian::command(program.guardian.as_deref());
        command.stdin(OwnedFd::from(outers_end)).envs(program.set);
        for name in program.unset {
            command.env_remove(name);
        }
        if let Some(output) = program.output {
            command.stdout(output.try_clone()?).stderr(output);
        }
        let started = children.start(command).await?;
        // From here on something runs, and what goes wrong is what the guardians or their end will say.
        let _ = hand(&outer, inners_end.as_fd());
        let _ = hand(&inner, stdin.as_fd());
        // Each end is in one process alone: its end is the end of the stream.
        drop((inners_end, stdin));

        let (tell, news) = mpsc::unbounded_channel();
        let (outer, inner) = (asynchronous(outer)?, asynchronous(inner)?);
        let ((hears_outer, mut outer), (hears_inner, mut inner)) = (outer.into_split(), inner.into_split());
        let heard = [
            tokio::spawn(hear(hears_outer, Which::Outer, tell.clone())),
            tokio::spawn(hear(hears_inner, Which::Inner, tell.clone())),
        ];
        tokio::spawn(pass_on(started.pid, started.ended, tell.clone()));
        let words = packed(&program.command);
        let begin =
            |length: usize| format!("begin {} {} {length}\n", deadline.as_millis(), abort.as_millis());
        let orders = async {
            let _ = outer.write_all(begin(0).as_bytes()).await;
            let _ = inner.write_all(begin(words.len()).as_bytes()).await;
            let _ = inner.write_all(&words).await;
        };
        // A guardian that hangs is given up by `started`.
        let _ = timeout(deadline.saturating_sub(SystemClock.boot()), orders).await;
        let guardians = Self {
            outer: Process::read(started.pid).map(|process| process.id),
            inner: None,
            ledger: Ledger::new(started.pid),
            tree: Arc::clone(tree),
            children: children.clone(),
            lines: Some([outer, inner]),
            said: String::new(),
            news,
            tell,
            heard,
            strangers,
            among_others: false,
        };
        guardians.look_there();
        Ok(guardians)
    }

    /// Other programs run below this process too. So a process that is not below the guardians belongs to the program only
    /// after both of them were killed.
    pub(crate) fn expect_others(&mut self) {
        self.among_others = true;
        self.look_there();
    }

    /// The program, once it runs; an error when it does not, or not before `deadline`.
    pub(crate) async fn started(&mut self, deadline: Moment) -> io::Result<Pid> {
        loop {
            let left = deadline.saturating_sub(SystemClock.boot());
            match timeout(left, self.next()).await {
                Ok(Happening::ProgramStarted(pid)) => return Ok(pid),
                Ok(Happening::NotStarted(error)) => return Err(io::Error::from_raw_os_error(error)),
                Ok(Happening::BothLost | Happening::NothingLeft) => {
                    return Err(io::Error::other("the guardian processes ended before the program began"));
                }
                Ok(Happening::OneLost | Happening::ProgramEnded(_)) => {}
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// By when everything must have ended.
    pub(crate) fn watch(&mut self, abort: Moment) {
        let group = self.ledger.program.map_or(0, |pid| pid.as_raw_nonzero().get());
        let line = format!("watch {group} {}\n", abort.as_millis());
        if line == self.said {
            return;
        }
        for writer in self.lines.iter().flatten() {
            // A guardian that is gone says so by ending; one that is stopped has room for thousands of lines.
            let _ = writer.try_write(line.as_bytes());
        }
        self.said = line;
    }

    /// As if this process had ended: the guardians end everything. They are still heard.
    pub(crate) fn dismiss(&mut self) {
        self.lines = None;
    }

    /// The next thing that matters. Nothing is lost when this is dropped.
    pub(crate) async fn next(&mut self) -> Happening {
        loop {
            let Some((from, news)) = self.news.recv().await else { return std::future::pending().await };
            let inner = self.ledger.inner;
            let happening = self.ledger.hear(from, news);
            if inner.is_none()
                && let Some((pid, _)) = self.ledger.inner
            {
                self.inner = Process::read(pid).map(|process| process.id);
                tokio::spawn(pass_on(pid, self.children.await_orphan(pid), self.tell.clone()));
            }
            self.look_there();
            match happening {
                Some(Happening::ProgramStarted(pid)) => {
                    tokio::spawn(pass_on(pid, self.children.await_orphan(pid), self.tell.clone()));
                    return Happening::ProgramStarted(pid);
                }
                Some(Happening::OneLost) => {
                    warn!(
                        "a guardian process was killed; the other one still guards all processes of the program"
                    );
                    return Happening::OneLost;
                }
                Some(happening) => return happening,
                None => {}
            }
        }
    }

    /// Tells the tree where the program's processes are now.
    fn look_there(&self) {
        // A group that has lost its leader may be any other's after a while.
        let group = self.ledger.program.filter(|_| self.ledger.status.is_none());
        self.tree.set(Some(Scope {
            root: self.outer,
            apart: self.strangers.clone(),
            guardians: self.outer.into_iter().chain(self.inner).collect(),
            group,
            nowhere_else: self.among_others && !self.ledger.is_alone(),
        }));
    }

    pub(crate) fn program(&self) -> Option<Pid> {
        self.ledger.program
    }

    pub(crate) fn status(&self) -> Option<Ended> {
        self.ledger.status
    }

    /// How the program ended, once nothing is left: what was said last may not have been heard yet.
    pub(crate) async fn last_word(&mut self) -> Ended {
        for heard in &mut self.heard {
            let _ = timeout(Duration::from_secs(1), heard).await;
        }
        while let Ok((from, news)) = self.news.try_recv() {
            self.ledger.hear(from, news);
        }
        // Only a guardian that was killed at that very moment takes it along.
        self.ledger.status.unwrap_or(Ended::Signalled(Signal::KILL.as_raw()))
    }

    /// Whether nothing is left of the program. Certain: no process can leave the guardians.
    pub(crate) fn nothing_is_left(&self) -> bool {
        if !self.ledger.is_alone() {
            return self.ledger.is_over();
        }
        if waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT).err()
            == Some(Errno::CHILD)
        {
            return true;
        }
        // Orphans became children of this process, which may have others too.
        let living = || self.tree.scope().and_then(|scope| scope.living().ok());
        let gone = || living().is_some_and(|living| living.is_empty());
        gone() && gone()
    }

    /// Lets guardians that somebody stopped go on.
    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// For guardians that hang: what is below them comes to this process.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let inner = self.ledger.inner.filter(|inner| inner.1 == Life::Runs).map(|inner| inner.0);
        let outer = (self.ledger.outer.1 == Life::Runs).then_some(self.ledger.outer.0);
        for pid in [inner, outer].into_iter().flatten() {
            let above =
                |process: &Process| process.is_child_of(getpid()) || process.is_child_of(self.ledger.outer.0);
            if let Some(process) = Process::read(pid).filter(above) {
                let _ = process.signal(signal);
            }
        }
    }
}

async fn hear(line: OwnedReadHalf, from: Which, tell: mpsc::UnboundedSender<(Which, News)>) {
    let mut lines = BufReader::new(line).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(news) = News::parse(&line) {
            let _ = tell.send((from, news));
        }
    }
    let _ = tell.send((from, News::Closed));
}

async fn pass_on(pid: Pid, ended: oneshot::Receiver<Ended>, tell: mpsc::UnboundedSender<(Which, News)>) {
    tokio::select! {
        ended = ended => {
            if let Ok(ended) = ended {
                let _ = tell.send((Which::Outer, News::Ended(pid, ended)));
            }
        }
        // The term is over.
        () = tell.closed() => {}
    }
}

fn asynchronous(socket: Socket) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Sends a descriptor, with the one byte that it must come with.
fn hand(to: &Socket, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    sendmsg(to, &[IoSlice::new(b"!")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What the program reads. In a group of its own, it would be stopped on its first read from a terminal.
fn standard_input() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if stdin.is_terminal() { Ok(File::open("/dev/null")?.into()) } else { stdin.as_fd().try_clone_to_owned() }
}

#[cfg(test)]
#[path = "guardians_tests.rs"]
mod tests;
