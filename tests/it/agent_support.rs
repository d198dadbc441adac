//! Runs the real program on a SQLite file of its own and looks at it from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use component_lease::clock::{Clock, SystemClock};
use component_lease::store::{self, Source};
use component_lease_testkit::port::Port;
use rustix::process::{Pid, Signal};
use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_component-lease");
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// Well beyond anything that is waited for on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn now() -> Duration {
    SystemClock.boot()
}

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(now() - began < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The program without this environment's own settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs it to its end; answers exit code, standard output and standard error.
pub(crate) fn output(command: &Command) -> (i32, String, String) {
    // A program that hangs is ended, and then fails for its exit code.
    let mut limited = Command::new("timeout");
    limited.args(["-k", "1", "60"]).arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = limited.stdin(Stdio::null()).output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A folder with a migrated database.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    ttl: Duration,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_ttl(TTL)
    }

    /// With terms of whole seconds.
    pub(crate) fn with_ttl(ttl: Duration) -> Self {
        let rig = Self { folder: tempfile::tempdir().unwrap(), ttl };
        let (code, _, errors) =
            output(program().args(["migrate", "--first-install", "--database-url", &rig.url()]));
        assert_eq!(code, 0, "{errors}");
        rig
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.path("lease.db").display())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is in a file, once it has a whole line.
    pub(crate) fn line(&self, name: &str) -> String {
        until(&format!("a line in {name}"), || lines(&self.path(name)).pop())
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        lines(&self.path(name))
    }

    pub(crate) fn pid(&self, name: &str) -> Pid {
        Pid::from_raw(self.line(name).parse().unwrap()).unwrap()
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Stops a process between two writes; since when it does nothing. In the middle of one it would keep the file locked, and nobody could take
    /// anything (docs/failure-modes.md): that is not what is tried.
    pub(crate) fn freeze(&self, running: &Running) -> Duration {
        until("the process to be stopped between two writes", || {
            running.stop();
            let stopped = now();
            if self.can_be_written() {
                return Some(stopped);
            }
            running.signal(Signal::CONT);
            None
        })
    }

    /// Whether the database's file is not locked for writing, or soon is not.
    fn can_be_written(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store::open(Source::url(self.url()), "test").unwrap();
            store.limit_lock_wait(Duration::from_millis(100));
            // Deletes nothing, and locks the file as if it did.
            store.prune_instances(Duration::from_secs(1_000_000)).await.is_ok()
        })
    }

    fn command(&self, name: &str, verb: &str, flags: &[&str]) -> Command {
        let mut command = program();
        command
            .args([verb, "--component", "discovery", "--name", name])
            .args(["--ttl", &self.ttl.as_secs().to_string()])
            .args(["--database-url", &self.url()])
            .args(flags)
            .env("DIR", self.folder.path())
            .env("NAME", name);
        command
    }

    /// `run` around a shell script; `$DIR` is this folder and `$NAME` the participant's name.
    pub(crate) fn run(&self, name: &str, flags: &[&str], script: &str) -> Running {
        let address = free_address();
        let mut command = self.command(name, "run", &["--listen", &address.to_string()]);
        command.args(flags).args(["--", "sh", "-c", script]);
        Running::start(command, self.path(&format!("{name}.log")), address)
    }

    pub(crate) fn agent(&self, name: &str, flags: &[&str]) -> Running {
        let address = free_address();
        let mut command = self.command(name, "agent", &["--listen", &address.to_string()]);
        command.args(flags);
        Running::start(command, self.path(&format!("{name}.log")), address)
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // What has no newline yet is still being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// Nobody listens there, and nobody else gets it while these tests run.
pub(crate) fn free_address() -> SocketAddr {
    static HELD: Mutex<Vec<Port>> = Mutex::new(Vec::new());
    let port = Port::free().unwrap();
    let address = port.address();
    HELD.lock().unwrap().push(port);
    address
}

/// A participant as a process. Dropped, it is ended with everything that it started.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(mut command: Command, log: PathBuf, address: SocketAddr) -> Self {
        let to = fs::File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(to.try_clone().unwrap())
            .stderr(to)
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, address, log }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Returns when each of its threads is stopped: until then one of them may still be right to answer.
    fn stop(&self) {
        self.signal(Signal::STOP);
        until("each of its threads to be stopped", || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
            let running = threads.flatten().filter(|thread| {
                let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            });
            (running.count() == 0).then_some(())
        });
    }

    /// How it ended.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let log = self.log.clone();
        until(&format!("the end; log:\n{}", read(&log)), || self.child.try_wait().unwrap())
            .code()
            .unwrap_or(-1)
    }

    pub(crate) fn ask(&self, path: &str) -> Option<Answer> {
        ask(self.address, path)
    }

    /// Waits until `/leader` says so.
    #[track_caller]
    pub(crate) fn leads(&self) -> Answer {
        until(&format!("leadership; log:\n{}", read(&self.log)), || {
            self.ask("/leader").filter(|answer| answer.status == 200)
        })
    }

    /// Waits until it answers that it does not lead.
    #[track_caller]
    pub(crate) fn stands_by(&self) -> Answer {
        until(&format!("standing by; log:\n{}", read(&self.log)), || {
            self.ask("/leader").filter(|answer| answer.status == 503)
        })
    }

    /// Waits until it has seen that somebody else leads under this version.
    #[track_caller]
    pub(crate) fn sees(&self, version: i64) {
        until(&format!("sight of version {version}; log:\n{}", read(&self.log)), || {
            self.ask("/leader").filter(|answer| answer.status == 503 && answer.version() == version)
        });
    }

    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.log.display(), self.log());
        }
        // A killed supervisor takes its program with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn version(&self) -> i64 {
        self.json()["version"].as_i64().unwrap()
    }
}

/// `None` while nobody answers.
pub(crate) fn ask(address: SocketAddr, path: &str) -> Option<Answer> {
    exchange(address, "GET", path)
}

/// Without a body.
pub(crate) fn post(address: SocketAddr, path: &str) -> Option<Answer> {
    exchange(address, "POST", path)
}

fn exchange(address: SocketAddr, method: &str, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// One field of `/proc/PID/stat` after the name: 0 state, 1 parent, 2 group.
pub(crate) fn stat(pid: Pid) -> Option<(char, i32, i32)> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Neither there nor a zombie that nobody has fetched yet.
pub(crate) fn is_gone(pid: Pid) -> bool {
    stat(pid).is_none_or(|(state, ..)| state == 'Z' || state == 'X')
}

pub(crate) fn children_of(parent: Pid) -> Vec<(Pid, char)> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter_map(|pid| {
            let (state, its_parent, _) = stat(pid)?;
            (its_parent == parent.as_raw_nonzero().get()).then_some((pid, state))
        })
        .collect()
}

/// The guardians of a supervisor's program, the one nearest to the program first.
pub(crate) fn guardians_between(supervisor: Pid, program: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut pid = program;
    loop {
        let parent = Pid::from_raw(stat(pid).unwrap_or_else(|| panic!("{pid:?} has ended")).1).unwrap();
        if parent == supervisor {
            return found;
        }
        assert!(!parent.is_init(), "{program:?} does not run below {supervisor:?}");
        found.push(parent);
        pid = parent;
    }
}
