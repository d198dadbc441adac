//! The HTTP endpoints of every program under an attack: probes are answered, and memory stays within bounds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use component_lease_testkit::machine;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::agent_support::{PATIENCE, PROGRAM, Rig, Running, free_address, now, until};

/// No connection is opened before the server has closed the one that was opened so many before it. That is more than the
/// 256 that it serves at a time, so each that it accepts takes the place of another. The rest waits to be accepted, and a
/// probe behind it: however slow this machine is, that takes less than a second.
const AHEAD: usize = 300;
const HALF: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ";
/// A kubelet's default time-out.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Each program that listens, with as many open files as most systems allow.
fn programs(rig: &Rig) -> Vec<(&'static str, Running)> {
    let kubeconfig = rig.path("kubeconfig");
    let nobody = "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\n";
    std::fs::write(&kubeconfig, nobody).unwrap();
    let url = rig.url();
    let start = |name: &'static str, flags: &[&str], then: &[&str]| {
        let address = free_address();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 1024; exec \"$0\" \"$@\"", PROGRAM, name]);
        command.args(["--database-url", &url, "--listen", &address.to_string()]).args(flags).args(then);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("KUBECONFIG", &kubeconfig);
        (name, Running::start(command, rig.path(&format!("{name}.log")), address))
    };
    vec![
        start("agent", &["--component", "a", "--ttl", "5"], &[]),
        start("run", &["--component", "b", "--ttl", "5"], &["--", "sleep", "1000"]),
        start("controller", &["--leader-elect=false"], &[]),
    ]
}

/// Attackers need files, too.
fn raise_the_limit_of_files() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    usize::try_from(hard.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
}

fn half(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.write_all(HALF).ok()?;
    Some(stream)
}

/// Returns when the server has closed it.
fn until_closed(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let waits = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!waits, "the server closes no connection for another");
                return;
            }
        }
    }
}

/// Opens connections until there are so many.
fn pour(address: SocketAddr, open: &mut Vec<TcpStream>, many: usize) {
    for _ in open.len()..many {
        if let Some(before) = open.len().checked_sub(AHEAD) {
            until_closed(&open[before]);
        }
        open.extend(half(address));
    }
}

/// From another address of this machine than the attacker's, as a kubelet would; whether it was well in time.
fn probe(address: SocketAddr, path: &str) -> bool {
    answered(address, path).is_ok()
}

/// The same, with what went wrong.
fn answered(address: SocketAddr, path: &str) -> Result<(), String> {
    let begun = now();
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(Ipv4Addr::new(127, 0, 0, 77).into(), 0)).unwrap();
    connect(&socket, &address).map_err(|error| format!("no connection: {error}"))?;
    let connected = now() - begun;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PROBE_TIMEOUT)).unwrap();
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    let took = now() - begun;
    let in_time = asked.is_ok() && read.is_ok() && text.starts_with("HTTP/1.1 200") && took < PROBE_TIMEOUT;
    let went =
        || format!("connected after {connected:?}, asked {asked:?}, read {read:?} {text:?} after {took:?}");
    in_time.then_some(()).ok_or_else(went)
}

/// Resident memory of the process, MiB.
fn memory(of: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", of.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// However the test ends.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn half_sent_requests_keep_no_probe_from_its_answer_and_use_up_no_memory() {
    let _machine = machine::alone_blocking();
    let files = raise_the_limit_of_files();
    let rig = Rig::new();
    for (name, running) in programs(&rig) {
        until(&format!("an answer of {name}"), || probe(running.address, "/livez").then_some(()));
        let before = memory(&running);
        let mut open = Vec::new();
        pour(running.address, &mut open, 1100);
        assert!(probe(running.address, "/livez"), "{name}; log:\n{}", running.log());
        let many = 12_000.min(files.saturating_sub(500));
        pour(running.address, &mut open, many);
        assert!(probe(running.address, "/livez"), "{name}; log:\n{}", running.log());
        assert!(probe(running.address, "/metrics"), "{name}; log:\n{}", running.log());
        let after = memory(&running);
        println!("{name}: {before} MiB before, {after} MiB with {} connections", open.len());
        assert!(after < before + 16, "{name} grew from {before} to {after} MiB");
        let said = running.log().matches("too many connections").count();
        assert_eq!(said, 1, "said once a minute; log:\n{}", running.log());
    }
}

#[test]
fn while_connections_pour_in_every_probe_is_answered_in_time_and_the_election_goes_on() {
    let _machine = machine::alone_blocking();
    raise_the_limit_of_files();
    let rig = Rig::new();
    for (name, running) in programs(&rig) {
        until(&format!("an answer of {name}"), || probe(running.address, "/livez").then_some(()));
        let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
        let late = std::thread::scope(|scope| {
            let _ends_the_flood = Sets(&over);
            scope.spawn(|| {
                let mut open = VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    open.extend(half(running.address));
                    opened.fetch_add(1, Ordering::Relaxed);
                    if open.len() == AHEAD {
                        until_closed(&open.pop_front().unwrap());
                    }
                }
            });
            until("the flood", || (opened.load(Ordering::Relaxed) > 1000).then_some(()));
            (0..200).filter_map(|_| answered(running.address, "/livez").err()).collect::<Vec<_>>()
        });
        println!(
            "{name}: {} of 200 probes late during {} connections",
            late.len(),
            opened.load(Ordering::Relaxed)
        );
        assert!(late.is_empty(), "{name}: {late:#?}; log:\n{}", running.log());
        if name != "controller" {
            running.leads();
        }
    }
}
