//! Real members of PostgreSQL on the API server, and the resource that shows and routes them.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::wait;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::support::databases::{DATABASE, MEMBERS, ROLE, condition};
use crate::support::{Replica, SOON, Site};

/// A process of `db run`, and its server's files.
struct Process {
    files: Member,
    child: Child,
}

impl Process {
    async fn start(site: &Site, name: &str) -> Result<Self> {
        let files = Member::new(Release::Installed).await?;
        let password = files.password_file();
        let address = format!("127.0.0.1:{}", files.port());
        let (members, password) = (MEMBERS.join(","), password.to_str().context("a path")?);
        let said = [
            ["--cluster", DATABASE],
            ["--member", name],
            ["--members", &members],
            ["--address", &address],
            ["--lease", "kubernetes"],
            ["--ttl", "5"],
            ["--listen", "localhost:0"],
            ["--replication-user", REPLICATOR],
            ["--replication-password-file", password],
            ["--replication-tls-mode", "disable"],
        ];
        let words = ["db", "run"].into_iter().chain(said.into_iter().flatten()).chain(["--"]);
        let words: Vec<OsString> = words.map(OsString::from).chain(files.command()).collect();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(files.log_file())?;
        let child = Command::new(env!("CARGO_BIN_EXE_component-lease"))
            .args(words)
            .env("KUBECONFIG", site.plane.kubeconfig())
            .env("POD_NAMESPACE", site.name())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { files, child })
    }
}

fn logs(members: &[Process]) -> String {
    members.iter().map(|member| member.files.log()).collect::<Vec<_>>().join("\n==\n")
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn real_members_are_shown_and_after_a_killed_primary_the_next_one_is_routed_to() -> Result<()> {
    let site = Site::new("members").await?;
    site.make_pods("orders", &MEMBERS).await?;
    let mut members = Vec::new();
    for name in MEMBERS {
        members.push(Process::start(&site, name).await?);
    }
    let _controller = Replica::start(&site).await?;
    site.make_database(&json!({})).await?;
    let whole = |database: &component_lease::api::LeaseDatabase| {
        let all = ["Ready", "Replicating", "FailoverReady"];
        all.iter().all(|kind| condition(database, kind).is_some_and(|c| c.status == "True"))
    };
    let database = wait::until(SOON * 3, "a whole database", async || {
        let database = site.databases().get(DATABASE).await?;
        ensure!(whole(&database), "{:?}\n{}", database.status, logs(&members));
        Ok(Some(database))
    })
    .await?;
    let status = database.status.context("a status")?;
    let primary = status.primary.context("a primary")?;
    let at = MEMBERS.iter().position(|name| *name == primary).context("a member")?;
    site.wait_for_labelled(ROLE, "primary", &[&primary]).await?;
    ensure!(members[at].files.psql("SELECT pg_is_in_recovery()").await? == "f", "{primary} is no primary");
    ensure!(status.members.iter().all(|member| member.ready), "{:?}", status.members);

    members[at].child.start_kill()?;
    let pods = site.pods().list(&ListParams::default()).await?;
    let pod = pods.iter().find(|pod| pod.name_any() == primary).context("a pod")?;
    let mut dead = FakePod::new(&primary, "orders").not_ready();
    dead.address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("an address")?;
    site.plane.update_fake_pod(site.name(), &dead).await?;
    let database = wait::until(SOON * 3, "a failover", async || {
        let database = site.databases().get(DATABASE).await?;
        let over = database.status.as_ref().is_some_and(|status| status.last_failover.is_some());
        ensure!(over, "{:?}\n{}", database.status, logs(&members));
        Ok(Some(database))
    })
    .await?;
    let status = database.status.context("a status")?;
    let last = status.last_failover.context("a failover")?;
    ensure!(last.from == primary && status.primary.as_ref() == Some(&last.to), "{last:?}");
    ensure!(last.seconds.is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{last:?}");
    site.wait_for_labelled(ROLE, "primary", &[&last.to]).await?;
    let to = MEMBERS.iter().position(|name| *name == last.to).context("a member")?;
    ensure!(members[to].files.psql("SELECT pg_is_in_recovery()").await? == "f", "{} is no primary", last.to);
    let why = site.wait_for_database_to_say("Replicating", "False", "MembersMissing").await?;
    ensure!(why.starts_with(&primary), "{why}");
    site.wait_for_database_to_say("FailoverReady", "False", "TooFewMembers").await.map(drop)
}
