//! `component-lease db run` as a person uses it: three processes, each with its server, and a lease elsewhere.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use component_lease::store::{self, Install, Source};
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::scratch::Scratch;
use component_lease_testkit::{postgres, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::site::SOON;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Where the lease is.
struct Lease {
    url: String,
    /// Dropped with it.
    _kept: Kept,
}

enum Kept {
    File(#[expect(dead_code, reason = "it is there to be dropped")] Scratch),
    Database(#[expect(dead_code, reason = "it is there to be dropped")] postgres::Database),
}

impl Lease {
    /// PostgreSQL on a server of its own for one release, a file for the other.
    async fn new(release: Release) -> Self {
        let (url, kept) = match release {
            Release::Installed => {
                let scratch = Scratch::new("files").unwrap();
                (format!("sqlite://{}", scratch.join("lease.db").display()), Kept::File(scratch))
            }
            Release::Eighteen => {
                let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
                (database.url.clone(), Kept::Database(database))
            }
        };
        install(&url).await;
        Self { url, _kept: kept }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

async fn install(url: &str) {
    store::install(&Source::url(url), Install::default().first(true)).await.unwrap();
}

/// One member as it is started.
struct Process {
    name: &'static str,
    files: Arc<Member>,
    port: u16,
    child: Child,
}

/// The words of `db run` for this member.
fn words(lease: &str, name: &str, files: &Member, port: u16) -> Vec<OsString> {
    let address = format!("127.0.0.1:{}", files.port());
    let listen = format!("localhost:{port}");
    let password = files.password_file();
    let said = [
        "db",
        "run",
        "--cluster",
        "orders-db",
        "--member",
        name,
        "--members",
        "a,b,c",
        "--address",
        &address,
        "--lease",
        lease,
        "--ttl",
        "5",
        "--clone",
        "if-needed",
        "--listen",
        &listen,
        "--replication-user",
        REPLICATOR,
        "--replication-password-file",
        password.to_str().unwrap(),
        "--replication-tls-mode",
        "disable",
        "--",
    ];
    said.iter().map(OsString::from).chain(files.command()).collect()
}

fn spawn(words: &[OsString], files: &Member) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(files.log_file()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_component-lease"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Process {
    fn start(lease: &Lease, name: &'static str, files: Arc<Member>) -> Self {
        let port = free_port().unwrap();
        let child = spawn(&words(&lease.url, name, &files, port), &files);
        Self { name, files, port, child }
    }

    /// The status and the body of an answer.
    async fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            let (_, body) = answer.split_once("\r\n\r\n")?;
            Some((status, body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?
    }

    async fn says(&self, path: &str) -> Option<u16> {
        Some(self.ask("GET", path).await?.0)
    }

    /// The version under which it is what the path asks for.
    async fn version_as(&self, path: &str) -> Option<i64> {
        let (status, body) = self.ask("GET", path).await?;
        let body: Value = serde_json::from_str(&body).ok()?;
        body["version"].as_i64().filter(|_| status == 200)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(SOON, self.child.wait()).await.expect("the process ends").unwrap()
    }
}

/// The server's first process.
fn kill_server(files: &Member) {
    let text = std::fs::read_to_string(files.data().join("postmaster.pid")).unwrap();
    let pid = text.lines().next().unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
}

struct Cluster {
    lease: Lease,
    members: Vec<Process>,
}

impl Cluster {
    async fn new(release: Release) -> Self {
        let lease = Lease::new(release).await;
        let mut members = Vec::new();
        for name in NAMES {
            members.push(Process::start(&lease, name, Arc::new(Member::new(release).await.unwrap())));
        }
        Self { lease, members }
    }

    fn logs(&self) -> String {
        let of = |member: &Process| [format!("== {}\n", member.name), member.files.log()];
        self.members.iter().flat_map(of).collect()
    }

    /// Waits until there is a primary after this version, with the other two among those that acknowledge.
    async fn whole(&self, after: i64) -> (usize, i64) {
        wait::until(SOON * 3, "a primary with two that acknowledge", async || {
            let mut found = (None, 0);
            for (at, member) in self.members.iter().enumerate() {
                if let Some(version) = member.version_as("/primary").await {
                    found.0 = Some((at, version)).filter(|_| version > after);
                }
                found.1 +=
                    usize::from(member.version_as("/sync").await.is_some_and(|version| version > after));
            }
            Ok(found.0.filter(|_| found.1 == 2))
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()))
    }
}

/// Writes one row after the other to whichever server takes it.
struct Writer {
    acknowledged: Arc<Mutex<Vec<u64>>>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(files: Vec<Arc<Member>>) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let done = Arc::clone(&acknowledged);
        let task = tokio::spawn(async move {
            let mut at = 0;
            for number in 1_u64.. {
                let insert =
                    format!("SET statement_timeout = '500ms'; INSERT INTO written VALUES ({number})");
                match tokio::time::timeout(Duration::from_secs(2), files[at].psql(&insert)).await {
                    Ok(Ok(_)) => done.lock().unwrap().push(number),
                    _ => at = (at + 1) % files.len(),
                }
            }
        });
        Self { acknowledged, task }
    }

    fn so_far(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn more(&self, rows: usize, cluster: &Cluster) {
        let before = self.so_far().len();
        wait::until_true(SOON * 2, format!("{rows} more rows to be acknowledged"), async || {
            self.so_far().len() >= before + rows
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_of_db_run_lose_nothing_that_was_acknowledged_whatever_is_killed_15() {
    three_processes_of_db_run_lose_nothing_that_was_acknowledged_whatever_is_killed(Release::Installed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_of_db_run_lose_nothing_that_was_acknowledged_whatever_is_killed_18() {
    three_processes_of_db_run_lose_nothing_that_was_acknowledged_whatever_is_killed(Release::Eighteen).await;
}

async fn three_processes_of_db_run_lose_nothing_that_was_acknowledged_whatever_is_killed(release: Release) {
    let mut cluster = Cluster::new(release).await;
    let (mut at, mut version) = cluster.whole(0).await;
    cluster.members[at].files.psql("CREATE TABLE written (n int)").await.unwrap();
    for (other, member) in cluster.members.iter().enumerate() {
        probes_say_what_it_is(member, other == at).await;
    }
    status_tells(&cluster, at, version).await;
    let writer = Writer::start(cluster.members.iter().map(|member| Arc::clone(&member.files)).collect());
    for fault in ["server", "supervisor", "switchover", "SIGTERM"] {
        writer.more(5, &cluster).await;
        match fault {
            "server" => kill_server(&cluster.members[at].files),
            "supervisor" => cluster.members[at].signal("-KILL"),
            "switchover" => hand_over(&cluster).await,
            _ => cluster.members[at].signal("-TERM"),
        }
        if matches!(fault, "supervisor" | "SIGTERM") {
            let ended = cluster.members[at].ended().await;
            assert_eq!(ended.code(), (fault == "SIGTERM").then_some(0), "{}", cluster.logs());
            let (name, files) = (cluster.members[at].name, Arc::clone(&cluster.members[at].files));
            writer.more(1, &cluster).await;
            if fault == "SIGTERM" {
                // It comes back as a copy of the primary.
                std::fs::remove_dir_all(files.data()).unwrap();
            }
            cluster.members[at] = Process::start(&cluster.lease, name, files);
        }
        (at, version) = cluster.whole(version).await;
        writer.more(5, &cluster).await;
        let acknowledged = writer.so_far();
        let found = cluster.members[at].files.psql("SELECT n FROM written").await.unwrap();
        let found: Vec<u64> = found.lines().map(|line| line.parse().unwrap()).collect();
        let lost: Vec<u64> = acknowledged.iter().copied().filter(|one| !found.contains(one)).collect();
        assert!(lost.is_empty(), "{fault}: lost {lost:?} of {}\n{}", acknowledged.len(), cluster.logs());
    }
    writer.task.abort();
    let sum = "SELECT md5(string_agg(n::text, ',' ORDER BY n)) FROM written";
    wait::until_true(SOON, "all to have the same", async || {
        let mut sums = Vec::new();
        for member in &cluster.members {
            sums.push(member.files.psql(sum).await.ok());
        }
        sums[0].is_some() && sums.iter().all(|other| *other == sums[0])
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    for member in &cluster.members {
        member.signal("-TERM");
    }
    for member in &mut cluster.members {
        assert_eq!(member.ended().await.code(), Some(0), "{}", member.files.log());
        assert!(!member.files.data().join("postmaster.pid").exists(), "a server is left");
    }
}

/// As any other leader is asked.
async fn hand_over(cluster: &Cluster) {
    let words = ["switchover", "orders-db", "--database-url", &cluster.lease.url].map(OsString::from);
    let (code, text) = perform(&words).await;
    assert_eq!(code, Some(0), "{text}\n{}", cluster.logs());
}

async fn probes_say_what_it_is(member: &Process, is_primary: bool) {
    let (of_primary, of_replica) = if is_primary { (200, 503) } else { (503, 200) };
    for (path, wanted) in [
        ("/primary", of_primary),
        ("/master", of_primary),
        ("/replica", of_replica),
        ("/replica?lag=1GB", of_replica),
        ("/replica?lag=x", 400),
        ("/sync", of_replica),
        ("/read-only", 200),
        ("/livez", 200),
        ("/readyz", 200),
    ] {
        assert_eq!(member.says(path).await, Some(wanted), "{} {path}", member.name);
    }
    assert_eq!(member.ask("OPTIONS", "/primary").await.unwrap().0, of_primary, "as HAProxy asks");
    let (_, page) = member.ask("GET", "/metrics").await.unwrap();
    let labels = format!("{{cluster=\"orders-db\",member=\"{}\"}}", member.name);
    let primary = i32::from(is_primary);
    for line in [
        format!("componentlease_db_primary{labels} {primary}.0"),
        format!("componentlease_db_replica{labels} {}.0", 1 - primary),
        format!("componentlease_db_sync{labels} {}.0", 1 - primary),
        format!("componentlease_db_lease_reachable{labels} 1.0"),
    ] {
        assert!(page.contains(&line), "{line} in {page}");
    }
    assert_eq!(page.contains("componentlease_db_lag_bytes{"), !is_primary, "{page}");
}

/// What was printed, and the exit code.
async fn perform(words: &[OsString]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_component-lease"));
    let ended = command.args(words).stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(SOON, ended).await.expect("the command ends").unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8_lossy(&text).into_owned())
}

async fn status_tells(cluster: &Cluster, at: usize, version: i64) {
    let words =
        |name: &str| ["db", "status", "--cluster", name, "--lease", &cluster.lease.url].map(OsString::from);
    let (code, text) = perform(&words("orders-db")).await;
    let primary = cluster.members[at].name;
    let address = format!("127.0.0.1:{}", cluster.members[at].files.port());
    for piece in [
        format!("version {version}, held by {primary}_"),
        format!("primary {primary}; a commit is acknowledged by any 1 of "),
        "Failover   ready if 2 of ".to_owned(),
        address,
    ] {
        assert!(text.contains(&piece), "{piece} in {text}");
    }
    assert_eq!((code, text.matches("voter").count()), (Some(0), 2), "{text}");
    let (code, text) = perform(&words("other-db")).await;
    assert_eq!((code, text.contains("there is no lease other-db")), (Some(5), true), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_during_the_first_start_ends_at_once_and_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let lease = Lease::new(Release::Installed).await;
    let files = Member::new(Release::Installed).await.unwrap();
    // A server that never answers, as one whose recovery takes hours.
    let slow = files.folder().join("postgres");
    let began = files.folder().join("began");
    std::fs::write(&slow, format!("#!/bin/sh\ntouch {}\nexec sleep 3600\n", began.display())).unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = words(&lease.url, "a", &files, free_port().unwrap());
    let at = said.iter().position(|word| word == "--").unwrap();
    let (flags, data) = (&said[..=at], files.data());
    let command = [slow.into_os_string(), "-D".into(), data.into_os_string()];
    let mut child = spawn(&[flags, &command].concat(), &files);
    wait::until_true(SOON, "the server to be started", async || began.exists())
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", files.log()));
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(8), child.wait()).await;
    let ended = ended.unwrap_or_else(|_| panic!("it goes on\n{}", files.log())).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", files.log());
    assert_eq!(crate::site::processes_in(files.folder()), 0);
}

/// Neither the server nor what it starts has to know where the lease is, and how to get there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_url_may_come_from_the_environment_and_no_server_gets_it() {
    let lease = Lease::new(Release::Installed).await;
    let files = Member::new(Release::Installed).await.unwrap();
    let said = words("URL", "a", &files, free_port().unwrap());
    let at = said.iter().position(|word| word == "--lease").unwrap();
    let said = [&said[..at], &said[at + 2..]].concat();
    let log = std::fs::File::create(files.log_file()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_component-lease"))
        .args(&said)
        .env("COMPONENT_LEASE_DATABASE_URL", &lease.url)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait::until_true(SOON, "the server to answer", async || files.psql("SELECT 1").await.is_ok())
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", files.log()));
    let words = std::fs::read(format!("/proc/{}/cmdline", child.id().unwrap())).unwrap();
    assert!(!String::from_utf8_lossy(&words).contains(&lease.url), "as ps shows it");
    let server = std::fs::read_to_string(files.data().join("postmaster.pid")).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", server.lines().next().unwrap())).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("COMPONENT_LEASE"), "the server has it");
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(SOON, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0), "{}", files.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_work_is_refused_at_the_start_with_what_to_change() {
    let lease = Lease::new(Release::Installed).await;
    let files = Member::new(Release::Installed).await.unwrap();
    let port = free_port().unwrap();
    let refused = async |lease: &str, name: &str, pieces: &[&str]| {
        let (code, text) = perform(&words(lease, name, &files, port)).await;
        assert_eq!(code, Some(78), "{text}\n{}", files.log());
        for piece in pieces {
            assert!(text.contains(piece), "{piece} in {text}");
        }
    };
    refused(&lease.url, "d", &["--member \"d\" is not among --members"]).await;
    refused("postgres:/nonsense", "a", &["URL"]).await;
    files.set("fsync = off\nrestart_after_crash = off\nmax_slot_wal_keep_size = -1").unwrap();
    let settings =
        ["fsync is off", "restart_after_crash is off", "max_slot_wal_keep_size is unlimited", "set it to"];
    refused(&lease.url, "a", &settings).await;
    assert!(!files.data().join("postmaster.pid").exists(), "a refused server is left");
    files.set("fsync = on\nrestart_after_crash = on\nmax_slot_wal_keep_size = 64MB").unwrap();

    // A second process on one data directory.
    let mut first = spawn(&words(&lease.url, "a", &files, free_port().unwrap()), &files);
    wait::until_true(SOON, "the first one to have the directory", async || {
        files.data().join("postmaster.pid").exists()
    })
    .await
    .unwrap();
    refused(&lease.url, "a", &["another process manages", "end it first"]).await;
    let pid = first.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(SOON, first.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0), "{}", files.log());

    // The lease in the database whose primary it is about: a server with the same data, as another member has them.
    let governed = Member::new(Release::Installed).await.unwrap();
    let command = governed.command();
    let mut server = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait::until_true(SOON, "the server to answer", async || governed.psql("SELECT 1").await.is_ok())
        .await
        .unwrap();
    install(&governed.url()).await;
    refused(
        &governed.url(),
        "a",
        &["the lease is in the very database", "system identifier", "--lease kubernetes"],
    )
    .await;
    server.kill().await.unwrap();
}
