//! `component-lease db run` with its lease in a cluster, and the rights that the page about it gives.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::control_plane;
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::wait;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::SOON;

const MEMBERS: [&str; 2] = ["orders-db-0", "orders-db-1"];

/// The first block of YAML of the page: the role.
fn role() -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/run-a-database.md");
    let page = std::fs::read_to_string(page)?;
    let (_, block) = page.split_once("```yaml\n").context("the page has a block of YAML")?;
    let (block, _) = block.split_once("```").context("the block ends")?;
    ensure!(block.contains("kind: Role\n"), "the first block is no role: {block}");
    Ok(block.to_owned())
}

fn start(name: &str, files: &Member, kubeconfig: &Path, namespace: &str) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(files.log_file())?;
    let address = format!("127.0.0.1:{}", files.port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_component-lease"));
    command
        .args(["db", "run", "--cluster", "orders-db", "--lease", "kubernetes", "--member", name])
        .args(["--members", &MEMBERS.join(","), "--address", &address, "--listen", "localhost:0"])
        .args(["--replication-user", REPLICATOR, "--replication-tls-mode", "disable"])
        .arg("--replication-password-file")
        .arg(files.password_file())
        .arg("--")
        .args(files.command())
        .env("KUBECONFIG", kubeconfig)
        .env("POD_NAMESPACE", namespace)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_database_need_no_more_than_to_read_and_change_their_leases_by_name() -> Result<()> {
    let plane = control_plane::shared().await?;
    let namespace = plane.namespace("database").await?;
    let name = namespace.name();
    let kubectl = async |arguments: &[&str]| plane.kubectl(&[&["-n", name], arguments].concat()).await;
    kubectl(&["create", "serviceaccount", "orders-db"]).await?;
    let role = role()?
        .replace("metadata: {name: orders-db}", &format!("metadata: {{name: orders-db, namespace: {name}}}"));
    plane.apply(&role).await?;
    let account = format!("{name}:orders-db");
    kubectl(&["create", "rolebinding", "orders-db", "--role", "orders-db", "--serviceaccount", &account])
        .await?;
    let leases =
        ["orders-db".to_owned()].into_iter().chain(MEMBERS.map(|member| format!("orders-db-{member}")));
    for lease in leases {
        let manifest = format!(
            "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {{name: {lease}, namespace: {name}}}\n"
        );
        plane.apply(&manifest).await?;
    }
    let kubeconfig = plane.kubeconfig_for(name, "orders-db").await?;
    let (mut files, mut children) = (Vec::new(), Vec::new());
    for member in MEMBERS {
        let of_member = Member::new(Release::Installed).await?;
        children.push(start(member, &of_member, &kubeconfig, name)?);
        files.push(of_member);
    }
    let logs = || files.iter().map(Member::log).collect::<String>();
    let read = async |lease: &str| plane.get(&["-n", name, "lease", lease]).await;
    // Two servers start before there is one.
    let record = wait::until(SOON * 3, "a record beside the lease", async || {
        let lease = read("orders-db").await?;
        let text = lease["metadata"]["annotations"]["componentlease.io/record"].as_str();
        Ok(text.and_then(|text| serde_json::from_str::<Value>(text).ok()))
    })
    .await
    .with_context(logs)?;
    let primary = record["primary"].as_str().context("it names a primary")?;
    let at = MEMBERS.iter().position(|member| *member == primary).context("one of the two")?;
    wait::until_true(SOON, "an acknowledged write", async || {
        files[at]
            .psql("SET statement_timeout = '1s'; CREATE TABLE IF NOT EXISTS written (n int)")
            .await
            .is_ok()
    })
    .await
    .with_context(logs)?;
    let holder = read("orders-db").await?["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    ensure!(holder.starts_with(primary), "{holder} holds the lease, {primary} is recorded");
    // What operators ask stands in annotations, and the same rights do.
    let verb = async |words: &[&str]| -> Result<Value> {
        let said = Command::new(env!("CARGO_BIN_EXE_component-lease"))
            .args(["db", words[0], "--cluster", "orders-db", "--lease", "kubernetes", "-o", "json"])
            .args(&words[1..])
            .env("KUBECONFIG", &kubeconfig)
            .env("POD_NAMESPACE", name)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        serde_json::from_str(&text)
            .with_context(|| format!("{words:?}: {text}{}", String::from_utf8_lossy(&said.stderr)))
    };
    let to = MEMBERS[1 - at];
    let moved = wait::until(SOON, "a switchover that is not refused", async || {
        let told = verb(&["switchover", "--to", to, "--reason", "a test"]).await?;
        Ok((told["state"] != "Refused").then_some(told))
    })
    .await
    .with_context(logs)?;
    ensure!(moved["state"] == "CarriedOut" && moved["primary"] == to, "{moved}\n{}", logs());
    println!("{moved}");
    let paused = verb(&["pause", "--reason", "a test"]).await?;
    ensure!(paused["state"] == "CarriedOut", "{paused}");
    let lease = read("orders-db").await?;
    let asked = lease["metadata"]["annotations"]["componentlease.io/asked"].as_str().unwrap_or_default();
    ensure!(asked.contains("\"reason\":\"a test\""), "{lease}");
    let refused = verb(&["switchover"]).await?;
    ensure!(refused["reason"] == "Paused", "{refused}");
    let resumed = verb(&["resume"]).await?;
    ensure!(resumed["state"] == "CarriedOut", "{resumed}");
    for child in &mut children {
        let pid = child.id().context("it runs")?.to_string();
        ensure!(std::process::Command::new("kill").args(["-TERM", &pid]).status()?.success());
        let ended = tokio::time::timeout(SOON, child.wait()).await.context("it ends")??;
        ensure!(ended.code() == Some(0), "{ended}\n{}", logs());
    }
    Ok(())
}
