//! Patroni beside us, with its lease in an etcd of its own: the same faults, the same writer and judge.
//!
//! Its settings are the shortest that it accepts, and ask for the same: no acknowledged row may be lost.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use component_lease_testkit::port::Port;
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::wait;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::PATIENCE;
use crate::ours::succeeds;
use crate::site::{CLUSTER, Supervised};

/// Patroni's `ttl`: it accepts none below 20.
pub(crate) const TERM: Duration = Duration::from_secs(20);

pub(crate) struct Patroni {
    client: Port,
    /// The folder that etcd writes to.
    files: Member,
    _peer: Port,
    _etcd: Child,
}

impl Patroni {
    pub(crate) async fn start() -> Result<Self> {
        let files = Member::empty(Release::WithPatroni).await?;
        let (client, peer) = (Port::free()?, Port::free()?);
        let log = std::fs::File::create(files.log_file())?;
        let [client_url, peer_url] =
            [&client, &peer].map(|port| format!("http://127.0.0.1:{}", port.number()));
        let mut command = in_tree(&files, "etcd");
        command
            .args(["--data-dir", &text(files.folder().join("etcd").into())?])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let etcd = command.spawn().context("cannot run etcd")?;
        wait::until_true(PATIENCE, "etcd to listen", async || {
            TcpStream::connect(("127.0.0.1", client.number())).await.is_ok()
        })
        .await?;
        Ok(Self { client, files, _peer: peer, _etcd: etcd })
    }

    /// The port of the lease.
    pub(crate) fn store(&self) -> u16 {
        self.client.number()
    }

    pub(crate) fn command(&self, member: &Supervised) -> Result<Command> {
        configure(member)?;
        let mut command = in_tree(&member.files, "patroni");
        command.arg(member.files.folder().join("patroni.json"));
        Ok(command)
    }

    /// As an operator asks.
    pub(crate) async fn switch_over(&self, primary: &Supervised) -> Result<()> {
        let mut command = in_tree(&primary.files, "patronictl");
        command.arg("-c").arg(primary.files.folder().join("patroni.json"));
        command.args(["switchover", CLUSTER, "--primary", primary.name, "--force"]);
        succeeds(command, "patronictl switchover").await
    }

    pub(crate) fn log(&self) -> String {
        self.files.log()
    }
}

fn in_tree(files: &Member, program: &str) -> Command {
    let (mut words, _) = files.programs();
    words.push(format!("/usr/bin/{program}").into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn text(word: OsString) -> Result<String> {
    word.into_string().ok().context("the folder of temporary files has a strange name")
}

/// JSON is YAML, too.
fn configure(member: &Supervised) -> Result<()> {
    let files = &member.files;
    let file = files.folder().join("patroni.json");
    if file.exists() {
        return Ok(());
    }
    let (_, programs) = files.programs();
    let password = std::fs::read_to_string(files.password_file())?;
    let replicator = json!({ "username": REPLICATOR, "password": password });
    let settings = json!({
        "scope": CLUSTER,
        "name": member.name,
        "restapi": { "listen": format!("127.0.0.1:{}", member.http.number()), "connect_address": member.to_http.address().to_string() },
        // It would go around the proxy to the address that etcd has for itself.
        "etcd3": { "hosts": [member.to_store.address().to_string()], "use_proxies": true },
        "bootstrap": { "dcs": {
            "ttl": TERM.as_secs(),
            "loop_wait": 2,
            "retry_timeout": 3,
            "synchronous_mode": "quorum",
            "synchronous_mode_strict": true,
            "synchronous_node_count": 1,
            "postgresql": { "use_pg_rewind": true, "use_slots": true },
        } },
        "postgresql": {
            "listen": format!("127.0.0.1:{}", files.port()),
            "connect_address": member.to_server.address().to_string(),
            "data_dir": files.data(),
            "bin_dir": programs,
            "pgpass": files.folder().join("pgpass"),
            "remove_data_directory_on_diverged_timelines": true,
            "remove_data_directory_on_rewind_failure": true,
            "parameters": { "unix_socket_directories": files.folder() },
            "authentication": {
                "superuser": { "username": "postgres", "password": password },
                "replication": replicator,
                "rewind": replicator,
            },
        },
        "watchdog": { "mode": "off" },
    });
    std::fs::write(&file, serde_json::to_vec_pretty(&settings)?)?;
    // Its account is another one, and the folder goes with the drill.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    Ok(())
}
