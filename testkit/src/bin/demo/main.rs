//! The demo: a leader elected in a database, shown and routed to by Kubernetes, and killed in four
//! ways under the eyes of a client that asks 50 times a second. `hack/demo.sh` builds what it
//! needs and runs it.
//!
//! ```text
//! demo sqlite|postgres IMAGE.tar|PROGRAM PROGRAM
//! demo relay DIR PORT PORT            (keeps a kept cluster's database within reach)
//! ```

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "what is shown is measured by the machine's own clock")]

mod screen;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use component_lease_testkit::control_plane::Recorder;
use component_lease_testkit::node::{self, Node};
use component_lease_testkit::scratch::Scratch;
use component_lease_testkit::stage::client::Client;
use component_lease_testkit::stage::judge::{self, Handover};
use component_lease_testkit::stage::rows::Rows;
use component_lease_testkit::stage::store::{self, Store};
use component_lease_testkit::stage::{IMAGE, PROGRAM_IMAGE, Stage};
use component_lease_testkit::{hack, image, keep, wait};
use screen::Screen;
use tokio::signal::unix::{SignalKind, signal};

const NAMESPACE: &str = "demo";
/// 50 requests a second.
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(40);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["relay", directory, server, port] => relay(Path::new(directory), server, port),
        [kind @ ("sqlite" | "postgres"), image, program] => {
            perform(kind, Path::new(image), Path::new(program)).await
        }
        _ => {
            eprintln!("usage: hack/demo.sh [sqlite|postgres]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole demo, or as much of it as is seen before somebody has had enough. Whichever way it
/// ends, what was started ends with it.
async fn perform(kind: &str, image: &Path, program: &Path) -> Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = show(kind, image, program) => done,
        _ = interrupt.recv() => Ok(stopped(130)),
        _ = terminate.recv() => Ok(stopped(143)),
    }
}

fn stopped(code: u8) -> ExitCode {
    eprintln!("\ndemo: interrupted; what it started has been ended and removed");
    ExitCode::from(code)
}

async fn show(kind: &str, image: &Path, program: &Path) -> Result<ExitCode> {
    let begun = Instant::now();
    let screen = Screen::new();
    let database = if kind == "sqlite" { "SQLite" } else { "PostgreSQL" };
    screen.title(&format!("One leader of three replicas, elected in {database}, routed to by Kubernetes"));

    let files = Scratch::new("files")?;
    let program = image::pack(program, PROGRAM_IMAGE, files.path()).await?;
    // A program that cargo just built, while the demo itself is being worked on.
    let image = match image.extension() {
        Some(tar) if tar == "tar" => image.to_owned(),
        _ => image::pack(image, IMAGE, files.path()).await?,
    };
    let images: [&Path; 2] = [&image, &program];
    let node = screen.doing("a Kubernetes node of its own, Ready", Node::start(&images)).await?;
    let stage = set_up(&screen, &node, kind).await?;

    let rows = stage.record_rows().await?;
    let label = stage.record_label()?;
    let client = stage.client(PACE).await?;
    let scene = Scene { stage: &stage, screen: &screen, rows, label, client };
    let answered = async || scene.client.first_of(0).is_some();
    wait::until_true(PATIENCE, "a first answer through the Service", answered).await?;
    scene.resource().await?;
    screen.say(
        "\n  From now on a client asks the Service 50 times a second, half over kept-alive connections.\n  \
         Times are seconds since the blow; silence is what the client notices.",
    );
    scene.play().await?;
    scene.resource().await?;

    // The watch that told who was labelled must have been on to the end, or a 0 says nothing.
    scene.label.is_whole()?;
    let verdict = judge::judge(&scene.client.answers(), &scene.rows.changes(), &scene.label.duplicates());
    screen.summary(&verdict);
    screen.say(&format!("\n  {:.0} s in all", begun.elapsed().as_secs_f64()));
    drop(scene);
    if keep() {
        how_to_go_on(&screen, &node);
    }
    Ok(if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn set_up<'n>(screen: &Screen, node: &'n Node, kind: &str) -> Result<Stage<'n>> {
    let store = match kind {
        "sqlite" => Store::sqlite(node)?,
        _ => {
            let store = screen.doing("a PostgreSQL server with TLS", Store::postgres()).await?;
            expose(node, &store)?;
            store
        }
    };
    let stage = Stage::prepare(node, NAMESPACE, "component-lease", store).await?;
    if kind == "postgres" {
        let what = "tables made by `component-lease migrate`, roles granted what it says";
        screen.doing(what, stage.make_tables()).await?;
    }
    screen
        .doing("helm install component-lease charts/component-lease, controller ready", stage.install(&[]))
        .await?;
    screen.doing("three replicas ready, one of them leads and is routed to", stage.deploy()).await?;
    Ok(stage)
}

struct Scene<'a> {
    stage: &'a Stage<'a>,
    screen: &'a Screen,
    rows: Rows,
    label: Recorder,
    client: Client,
}

impl Scene<'_> {
    async fn play(&self) -> Result<()> {
        self.step(
            1,
            "The leader's container is killed",
            "(SIGKILL of its PID 1: the lease has to run out)",
            async |pod| self.stage.kill_container(pod).await,
        )
        .await?;
        self.step(
            2,
            "Only the program in it is killed",
            "(its supervisor releases the lease at once)",
            async |pod| self.stage.kill_program(pod).await,
        )
        .await?;
        self.step(3, "A planned restart", "(kubectl rollout restart: SIGTERM, stop, release)", async |_| {
            self.stage.restart().await
        })
        .await?;
        self.step(
            4,
            "The leader's pod is force-deleted",
            "(kubectl delete pod --force --grace-period=0)",
            async |pod| self.stage.force_delete(pod).await,
        )
        .await
    }

    async fn step(
        &self,
        number: usize,
        what: &str,
        so: &str,
        blow: impl AsyncFnOnce(&str) -> Result<Instant>,
    ) -> Result<()> {
        self.screen.step(number, what, so);
        let before = self.rows.now().context("the row has not been seen")?;
        let leader = before.pod().with_context(|| format!("{before:?} names no pod"))?;
        let begun = blow(leader).await?;
        let mut shown = 0;
        let mut settled = false;
        let settling = async {
            let next = async || self.rows.now().is_some_and(|row| row.version > before.version);
            wait::until_true(PATIENCE, "another leader", next).await?;
            self.stage.settle().await
        };
        tokio::pin!(settling);
        // Each change is shown as soon as its new leader has answered.
        loop {
            let changes = self.handovers(begun);
            while let Some(change) = changes.get(shown)
                && (change.answer.is_some() || changes.len() > shown + 1)
            {
                self.screen.handover(change, self.since(change, begun));
                shown += 1;
            }
            if settled && shown == changes.len() {
                return Ok(());
            }
            if settled && begun.elapsed() > 2 * PATIENCE {
                bail!("the new leader never answered through the Service");
            }
            tokio::select! {
                done = &mut settling, if !settled => { done?; settled = true; }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    fn handovers(&self, since: Instant) -> Vec<Handover> {
        judge::handovers(since, &self.client.answers(), &self.rows.changes(), &self.label.changes())
    }

    /// When the old leader was struck: in a restart each pod has its own moment.
    fn since(&self, change: &Handover, begun: Instant) -> Instant {
        let endings = self.label.endings();
        let struck = endings
            .iter()
            .find(|ending| ending.pod == change.from && (begun..=change.row).contains(&ending.at));
        struck.map_or(begun, |ending| ending.at)
    }

    async fn resource(&self) -> Result<()> {
        let arguments = ["get", "componentleases"];
        let table = self.stage.kubectl(&arguments).await?;
        self.screen.command("kubectl get componentleases", &table);
        Ok(())
    }
}

/// Lets pods reach the server: by a relay in this process, or, when the cluster is to outlive this
/// process, by one of its own that ends with the cluster.
fn expose(node: &Node, store: &Store) -> Result<()> {
    let Store::Postgres { server, .. } = store else { return Ok(()) };
    if !keep() {
        return node.expose(([127, 0, 0, 1], server.port()).into(), store::PORT).map(drop);
    }
    let directory = node.directory();
    let log = std::fs::File::create(directory.join("log/relay.log"))?;
    let mut relay = std::process::Command::new(std::env::current_exe()?);
    relay
        .arg("relay")
        .arg(directory)
        .args([server.port().to_string(), store::PORT.to_string()])
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut relay, 0);
    let relay = relay.spawn().context("cannot start the relay to the database")?;
    std::fs::write(directory.join("run/relay.pid"), relay.id().to_string())?;
    Ok(())
}

fn relay(directory: &Path, server: &str, port: &str) -> Result<ExitCode> {
    node::relay_for_good(directory, ([127, 0, 0, 1], server.parse()?).into(), port.parse()?)?;
    Ok(ExitCode::SUCCESS)
}

fn how_to_go_on(screen: &Screen, node: &Node) {
    let relative = |path: PathBuf| match path.strip_prefix(std::env::current_dir().unwrap_or_default()) {
        Ok(inside) => inside.display().to_string(),
        Err(_) => path.display().to_string(),
    };
    let inside = format!("{} {}", relative(hack("kubernetes/in.sh")), node.directory().display());
    screen.title("KEEP=1: all of it runs on");
    screen.say(&format!(
        "  look   {inside} kubectl -n {NAMESPACE} get componentleases --watch\n  \
           break  {inside} kubectl -n {NAMESPACE} delete pod -l componentlease.io/discovery=leader\n  \
           shell  {inside} bash        (kubectl, helm and the cluster's network; KUBECONFIG is set)\n  \
           end    make clean-servers"
    ));
}
