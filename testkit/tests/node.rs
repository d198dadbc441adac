//! The node that the end-to-end tests are built on, tested itself. Needs Linux and root.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::node::Node;
use component_lease_testkit::postgres;
use component_lease_testkit::scratch::Scratch;
use component_lease_testkit::{image, wait};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// Says its first argument to each client; runs itself once more as a child, so that
/// there are two processes.
const PROGRAM: &str = r#"
    use std::{env, io::Write, net::TcpListener, process::Command, thread};
    fn main() {
        let arguments: Vec<String> = env::args().collect();
        if arguments.len() > 2 {
            let mut child = Command::new(&arguments[0]).arg(&arguments[1]).spawn().unwrap();
            std::process::exit(child.wait().unwrap().code().unwrap_or(9));
        }
        for stream in TcpListener::bind("0.0.0.0:8080").unwrap().incoming() {
            let word = arguments[1].clone();
            thread::spawn(move || stream.unwrap().write_all(word.as_bytes()));
        }
    }"#;

const MANIFESTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker, labels: {app: talker}}
spec:
  containers:
  - {name: main, image: "localhost/talker:1", args: [hello, twice], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: talker}
spec: {selector: {app: talker}, ports: [{port: 80, targetPort: 8080}]}
"#;

async fn talker(folder: &Path) -> Result<PathBuf> {
    std::fs::write(folder.join("talker.rs"), PROGRAM)?;
    let mut compile = tokio::process::Command::new("rustc");
    compile.args(["--edition=2024", "-o", "talker-unpacked/talker", "talker.rs"]).current_dir(folder);
    std::fs::create_dir(folder.join("talker-unpacked"))?;
    ensure!(compile.status().await.context("cannot run rustc")?.success(), "rustc failed");
    image::pack(&folder.join("talker-unpacked/talker"), "localhost/talker:1", folder).await
}

async fn hear(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut word = String::new();
    stream.read_to_string(&mut word).await?;
    ensure!(!word.is_empty(), "the connection was closed without a word");
    Ok(word)
}

#[tokio::test]
async fn a_pod_of_our_image_runs_answers_through_its_service_and_can_be_killed() -> Result<()> {
    let files = Scratch::new("files")?;
    let archive = talker(files.path()).await?;
    let node = Node::start(&[&archive]).await?;
    node.apply(MANIFESTS).await?;
    let restarts = async || {
        let pod = node.get(&["pod", "talker"]).await?;
        let status = &pod["status"]["containerStatuses"][0];
        Ok((status["ready"] == true).then(|| status["restartCount"].clone()))
    };
    let ready = wait::until(PATIENCE, "the pod to be ready", restarts).await?;
    assert_eq!(ready, 0);

    // Through the Service, from out here and from in there.
    let service = node.get(&["service", "talker"]).await?;
    let service: SocketAddr = format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap()).parse()?;
    let near = node.forward(service)?;
    wait::until(PATIENCE, "an answer of the Service", async || hear(near).await.map(Some)).await?;
    assert_eq!(hear(near).await?, "hello");
    let inside = node.inside().spawn(async move { hear(service).await }).await??;
    assert_eq!(inside, "hello");

    // The child is killed: its parent passes the end on. Then the whole container.
    for (kill, expected) in [("process", 1), ("container", 2)] {
        match kill {
            "process" => node.kill_process_in("default", "talker", "main", "talker").await?,
            _ => node.kill_container("default", "talker", "main").await?,
        }
        wait::until_true(PATIENCE, format!("a restart after the end of its {kill}"), async || {
            restarts().await.is_ok_and(|count| count == Some(expected.into()))
        })
        .await?;
    }
    let missing = node.kill_process_in("default", "talker", "main", "nobody").await;
    assert!(format!("{:#}", missing.unwrap_err()).contains("no process of program nobody"));

    // A server of this machine, seen from in there; and the API server restarted.
    let postgres = postgres::shared().await?;
    let exposed = node.expose(([127, 0, 0, 1], postgres.port()).into(), 5432)?;
    let inside = node.inside().spawn(async move { TcpStream::connect(exposed).await.map(drop) });
    inside.await??;
    node.restart_apiserver().await?;
    node.kubectl(&["get", "node", "node"]).await?;
    assert!(std::fs::metadata(node.host_folder())?.is_dir());
    Ok(())
}
