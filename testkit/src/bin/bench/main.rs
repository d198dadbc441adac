//! How long a failover takes on a real node, as distributions. Figures, not pass or fail.
//! `hack/bench.sh` builds what it needs and runs it.
//!
//! ```text
//! bench IMAGE.tar PROGRAM sqlite,postgres failover,release,switchover,rollout,surgeless,statefulset,stock
//! ```

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use component_lease_testkit::figures::{Distribution, machine};
use component_lease_testkit::node::Node;
use component_lease_testkit::scratch::Scratch;
use component_lease_testkit::stage::judge::{Handover, handovers};
use component_lease_testkit::stage::store::{PORT, Store};
use component_lease_testkit::stage::{IMAGE, PROGRAM_IMAGE, Stage, TTL};
use component_lease_testkit::{image, wait};
use tokio::signal::unix::{SignalKind, signal};

const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// The leader's container is killed: its lease runs out.
    Failover,
    /// The leader is asked to end: it releases.
    Release,
    /// An operator asks for a switchover to another pod.
    Switchover,
    /// All replicas are replaced, one after the other.
    Rollout,
    /// Likewise, where none is made before another one is gone.
    Surgeless,
    /// Likewise, of a StatefulSet.
    StatefulSet,
    /// The leader is asked to end, with the slice controller as Kubernetes has it by default.
    Stock,
}

impl Section {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "failover" => Self::Failover,
            "release" => Self::Release,
            "switchover" => Self::Switchover,
            "rollout" => Self::Rollout,
            "surgeless" => Self::Surgeless,
            "statefulset" => Self::StatefulSet,
            "stock" => Self::Stock,
            _ => bail!(
                "there is no section {name:?}; there are failover, release, switchover, rollout, surgeless, statefulset and stock"
            ),
        })
    }

    fn runs(self) -> usize {
        match self {
            Self::Failover => 10,
            Self::Rollout | Self::Surgeless | Self::StatefulSet => 5,
            Self::Release | Self::Switchover | Self::Stock => 20,
        }
    }

    fn is_rollout(self) -> bool {
        matches!(self, Self::Rollout | Self::Surgeless | Self::StatefulSet)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Failover => "the leader's container killed (SIGKILL of its PID 1)",
            Self::Release => "the leader asked to end (SIGTERM), which releases",
            Self::Switchover => "a LeaseRequest made with kubectl: switchover to another pod",
            Self::Rollout => "kubectl rollout restart, maxSurge 1, maxUnavailable 0",
            Self::Surgeless => "kubectl rollout restart, maxSurge 0, maxUnavailable 1",
            Self::StatefulSet => "kubectl rollout restart of a StatefulSet",
            Self::Stock => "the leader asked to end, EndpointSlice batch period 0 as in stock Kubernetes",
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, program, databases, sections] = arguments.as_slice() else {
        eprintln!("usage: hack/bench.sh");
        return ExitCode::from(2);
    };
    let sections: Result<Vec<Section>> = sections.split(',').map(Section::parse).collect();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return ExitCode::FAILURE;
    };
    let work = async {
        let databases: Vec<&str> = databases.split(',').collect();
        measure(Path::new(image), Path::new(program), &databases, &sections?).await
    };
    let done = tokio::select! {
        done = work => done,
        _ = interrupt.recv() => return ExitCode::from(130),
        _ = terminate.recv() => return ExitCode::from(143),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(image: &Path, program: &Path, databases: &[&str], sections: &[Section]) -> Result<()> {
    println!("Failover on a real node; ttl {TTL} s, three replicas, a request every {PACE:?}; seconds.");
    println!("{}", machine());
    let files = Scratch::new("files")?;
    let program = image::pack(program, PROGRAM_IMAGE, files.path()).await?;
    let image = match image.extension() {
        Some(tar) if tar == "tar" => image.to_owned(),
        _ => image::pack(image, IMAGE, files.path()).await?,
    };
    for database in databases {
        // Sections that want the same cluster share it.
        for stock in [false, true] {
            let wanted: Vec<Section> =
                sections.iter().copied().filter(|section| (*section == Section::Stock) == stock).collect();
            if wanted.is_empty() {
                continue;
            }
            let variables: &[(&str, &str)] = if stock { &[("SLICE_BATCH", "0s")] } else { &[] };
            let node = Node::start_with(&[&image, &program], variables).await?;
            let stage = set_up(&node, database).await?;
            for section in wanted {
                println!("\n{database}: {}", section.title());
                println!("  {:<34}{}", "", Distribution::heads());
                match section {
                    Section::Rollout => stage.roll_by(1, 0).await?,
                    Section::Surgeless => stage.roll_by(0, 1).await?,
                    Section::StatefulSet => stage.become_a_stateful_set().await?,
                    _ => {}
                }
                run(&stage, section).await?;
            }
        }
    }
    Ok(())
}

async fn set_up<'n>(node: &'n Node, database: &str) -> Result<Stage<'n>> {
    let store = match database {
        "sqlite" => Store::sqlite(node)?,
        "postgres" => Store::postgres().await?,
        other => bail!("there is no database {other:?}; there are sqlite and postgres"),
    };
    if let Store::Postgres { server, .. } = &store {
        node.expose(([127, 0, 0, 1], server.port()).into(), PORT)?;
    }
    let stage = Stage::prepare(node, "bench", "component-lease", store).await?;
    stage.make_tables().await?;
    stage.install(&[]).await?;
    stage.deploy().await?;
    // So many handovers in an hour are what is wanted here.
    let often = r#"{"spec":{"flappingAbove":0}}"#;
    stage.kubectl(&["patch", "componentlease", "discovery", "--type", "merge", "--patch", often]).await?;
    Ok(stage)
}

/// One leader that was ended, and its successor.
struct Run {
    struck: Instant,
    handover: Handover,
}

async fn run(stage: &Stage<'_>, section: Section) -> Result<()> {
    let (rows, label, client) =
        (stage.record_rows().await?, stage.record_label()?, stage.client(PACE).await?);
    let mut runs = Vec::new();
    for _ in 0..section.runs() {
        let answers = async || client.first_of(rows.now()?.version);
        wait::until(PATIENCE, "an answer of the leader", async || Ok(answers().await)).await?;
        let before = rows.now().context("the row has not been seen")?;
        let leader = before.pod().context("nobody leads")?;
        let struck = match section {
            Section::Failover => stage.kill_container(leader).await?,
            Section::Release | Section::Stock => stage.end_container(leader).await?,
            Section::Switchover => stage.switch_over(leader).await?,
            Section::Rollout | Section::Surgeless | Section::StatefulSet => stage.restart().await?,
        };
        if section.is_rollout() {
            stage.settle().await?;
            let all = handovers(struck, &client.answers(), &rows.changes(), &label.changes());
            let silences = all.iter().filter_map(|one| one.silence).map(|silence| silence.as_secs_f64());
            println!(
                "  {} handovers; seconds without an answer: {}",
                all.len(),
                silences.map(|silence| format!("{silence:.3}")).collect::<Vec<_>>().join(", ")
            );
            continue;
        }
        let handover = wait::until(PATIENCE, "an answer of the next leader", async || {
            let all = handovers(struck, &client.answers(), &rows.changes(), &label.changes());
            Ok(all.into_iter().find(|change| change.answer.is_some() && change.label.is_some()))
        });
        runs.push(Run { struck, handover: handover.await? });
        stage.settle().await?;
    }
    label.is_whole()?;
    if !runs.is_empty() {
        report(&runs);
    }
    Ok(())
}

fn report(runs: &[Run]) {
    let show = |what: &str, from: &dyn Fn(&Run) -> Option<Instant>, to: &dyn Fn(&Run) -> Option<Instant>| {
        let spans = runs.iter().filter_map(|run| Some((from(run)?, to(run)?)));
        let spans = spans.map(|(from, to)| to.saturating_duration_since(from).as_secs_f64());
        let spans: Vec<f64> = spans.collect();
        if !spans.is_empty() {
            println!("  {what:<34}{}", Distribution::of(spans));
        }
    };
    let (struck, row) = (|run: &Run| Some(run.struck), |run: &Run| Some(run.handover.row));
    let (released, label) = (|run: &Run| run.handover.released, |run: &Run| run.handover.label);
    let answer = |run: &Run| run.handover.answer;
    show("signal to released", &struck, &released);
    show("signal to taken", &struck, &row);
    show("taken to labelled", &row, &label);
    show("labelled to first answer", &label, &answer);
    show("RELEASED TO FIRST ANSWER", &released, &answer);
    show("SIGNAL TO FIRST ANSWER", &struck, &answer);
    let silence = runs.iter().filter_map(|run| run.handover.silence).map(|silence| silence.as_secs_f64());
    println!("  {:<34}{}", "silence between two answers", Distribution::of(silence));
}
