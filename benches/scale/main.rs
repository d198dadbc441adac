//! What the controller costs where there is much: `make bench WHAT=scale`. Figures, not pass or fail.
//!
//! ```text
//! SIZE=1000         resources; PODS=3 candidates for each
//! BURST=300         of them change their leader at once, RUNS=3 times
//! ROWS=100000       rows of others in the same table
//! UNRELATED=1000    pods of 50 kB that no resource selects, in another namespace
//! SECONDS=30        how long the steady state is watched
//! BEFORE=PROGRAM    another build of the program, measured first, on servers of its own
//! ```
//! The API server, its controllers, PostgreSQL, the controller and this program share the machine. So the bare rate
//! of writes of the same API server is measured in the same run: it bounds all that follows.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures by the machine's own clock")]

mod cluster;
mod process;
mod rows;
mod sight;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use component_lease_testkit::figures::{Distribution, machine};
use component_lease_testkit::wait;

use cluster::{Cluster, OTHERS};
use process::Program;
use rows::Rows;
use sight::Sight;

/// Longer than anything takes that is waited for here.
const PATIENCE: Duration = Duration::from_secs(600);
/// Patches of the bare rate of writes, and events of unrelated pods.
const SAMPLE: usize = 2000;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    leases: usize,
    pods: usize,
    burst: usize,
    runs: usize,
    rows: usize,
    unrelated: usize,
    steady: Duration,
}

impl Size {
    fn of_environment() -> Result<Self> {
        let leases = number("SIZE", 1000)?;
        let steady = Duration::from_secs(number("SECONDS", 30)?.try_into()?);
        let size = Self {
            leases,
            pods: number("PODS", 3)?,
            burst: number("BURST", 300)?.min(leases),
            runs: number("RUNS", 3)?,
            rows: number("ROWS", 100_000)?,
            unrelated: number("UNRELATED", 1000)?,
            steady,
        };
        if size.leases == 0 || size.pods == 0 || size.burst > 0 && size.runs > 0 && size.pods < 2 {
            bail!("SIZE and PODS are at least 1, and a change of leader needs PODS=2 or more (or BURST=0)");
        }
        Ok(size)
    }
}

/// A number of the environment.
fn number(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name}={text} is no number")),
        _ => Ok(default),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let size = Size::of_environment()?;
    println!("The controller among many.\n{}", machine());
    println!(
        "{} resources of {} pods, {} rows of others, {} other pods of 50 kB",
        size.leases, size.pods, size.rows, size.unrelated
    );
    let now = PathBuf::from(env!("CARGO_BIN_EXE_component-lease"));
    let before = std::env::var_os("BEFORE").filter(|path| !path.is_empty()).map(PathBuf::from);
    for program in before.iter().chain([&now]) {
        if before.is_some() {
            println!("\n=== {}", if *program == now { "this version" } else { "BEFORE" });
        }
        measure(program, size).await?;
    }
    Ok(())
}

async fn measure(path: &Path, size: Size) -> Result<()> {
    let cluster = Cluster::start(path).await?;
    let rows = Rows::start(path, size.rows).await?;
    unrelated(path, &cluster, &rows, size).await?;

    let began = Instant::now();
    let uids = cluster.resources(size.leases, size.pods).await?;
    rows.fill(&uids, size.pods).await?;
    println!("\n  (made in {:.0} s)", began.elapsed().as_secs_f64());
    let bare = cluster.bare_rate(&uids, SAMPLE).await?;
    println!("  the API server alone: {bare:.0} patches of pods a second, 32 at a time");

    let sight = Sight::watch(&cluster).await?;
    let program = adoption(path, &cluster, &rows, &sight, size, bare).await?;
    for run in 0..size.runs.min(size.burst) {
        burst(&cluster, &rows, &sight, &uids, size, run).await?;
    }
    steady(&cluster, &rows, &program, size).await
}

/// Pods that no resource selects: memory, and what their events cost while there is no resource. What reading a page
/// of a list takes is there with few pods too, so a pod is what one more pod takes.
async fn unrelated(path: &Path, cluster: &Cluster, rows: &Rows, size: Size) -> Result<()> {
    let few = size.unrelated / 4;
    cluster.unrelated_pods(0..few).await?;
    let program = Program::start(path, &cluster.account, rows.url()).await?;
    let base = program.memory()?;
    program.stop().await?;
    cluster.unrelated_pods(few..size.unrelated).await?;
    let program = Program::start(path, &cluster.account, rows.url()).await?;
    let listed = program.memory()?;
    let event = event_cost(cluster, &program, size).await?;
    let changed = program.memory()?;
    #[expect(clippy::cast_precision_loss, reason = "kilobytes of one process")]
    let each = |kb: u64| kb.saturating_sub(base) as f64 / (size.unrelated - few).max(1) as f64;
    println!("\n  memory, {few} pods: {:.1} MB", mega(base));
    println!(
        "  memory for each further pod, kB: {:.1} after the list, {:.1} after {SAMPLE} changes",
        each(listed),
        each(changed)
    );
    println!("  an event of such a pod, without resources: {event:.0} µs of a core");
    program.stop().await
}

fn mega(kb: u64) -> f64 {
    f64::from(u32::try_from(kb).unwrap_or(u32::MAX)) / 1024.0
}

/// Microseconds of a core for each event of a pod that no resource selects.
async fn event_cost(cluster: &Cluster, program: &Program, size: Size) -> Result<f64> {
    if size.unrelated == 0 {
        return Ok(f64::NAN);
    }
    let (idle, pause) = (program.processor()?, Duration::from_secs(5));
    tokio::time::sleep(pause).await;
    let (before, began) = (program.processor()?, Instant::now());
    let idle = (before - idle).as_secs_f64() / pause.as_secs_f64();
    cluster.change_unrelated(size.unrelated, SAMPLE).await?;
    // The last events are on their way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = (program.processor()? - before).as_secs_f64() - idle * began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    Ok(used * 1e6 / SAMPLE as f64)
}

/// A controller starts beside leaders that no pod shows.
async fn adoption(
    path: &Path,
    cluster: &Cluster,
    rows: &Rows,
    sight: &Sight,
    size: Size,
    bare: f64,
) -> Result<Program> {
    let (mark, began) = (cluster.plane.audit_mark()?, Instant::now());
    let program = Program::spawn(path, &cluster.account, rows.url())?;
    sight.until(PATIENCE, "all leaders are labelled", |seen| seen.labelled.len() == size.leases).await?;
    let labelled = began.elapsed();
    sight.until(PATIENCE, "all are Ready", |seen| seen.ready.len() == size.leases).await?;
    let ready = began.elapsed();
    let used = program.processor()?;
    let writes = cluster.writes_when_quiet(mark).await?;
    println!("\n  adoption, from the start of the controller:");
    println!(
        "    all leaders labelled: {:.1} s; all Ready: {:.1} s",
        labelled.as_secs_f64(),
        ready.as_secs_f64()
    );
    println!(
        "    {} writes of the API, {:.0} a second; {:.1} s of a core",
        writes.values().sum::<usize>(),
        rate(writes.values().sum::<usize>(), ready),
        used.as_secs_f64()
    );
    println!(
        "    at the API server's bare rate they take {:.1} s",
        rate(writes.values().sum::<usize>(), Duration::from_secs_f64(bare))
    );
    say_writes(&writes, size.leases, size.pods);
    println!("    memory: {:.1} MB", mega(program.memory()?));
    Ok(program)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// How often each kind of object was written for each resource. The ideal of a change of leader: each pod, and one
/// status.
fn say_writes(writes: &BTreeMap<String, usize>, resources: usize, pods: usize) {
    println!("    writes for each resource ({pods} patches of pods and 1 status must be):");
    for (what, count) in writes {
        println!(
            "      {what:<40}{:>7.2}",
            rate(*count, Duration::from_secs(1)) / rate(resources, Duration::from_secs(1))
        );
    }
}

/// So many rows get another holder in one transaction.
async fn burst(
    cluster: &Cluster,
    rows: &Rows,
    sight: &Sight,
    uids: &BTreeMap<String, String>,
    size: Size,
    run: usize,
) -> Result<()> {
    let mark = cluster.plane.audit_mark()?;
    sight.forget();
    let leader = (run + 1) % size.pods.min(2);
    let changed = rows.hand_over(uids, size.burst, leader).await?;
    sight.until(PATIENCE, "the next leaders are labelled", |seen| seen.labelled.len() == size.burst).await?;
    sight.until(PATIENCE, "they are Ready", |seen| seen.ready.len() == size.burst).await?;
    let (labels, statuses) = sight.since(changed);
    println!("\n  {} leaders change at once:\n    {:<28}{}", size.burst, "", Distribution::heads());
    println!("    {:<28}{}", "row to label, s", Distribution::of(labels));
    println!("    {:<28}{}", "row to status, s", Distribution::of(statuses));
    say_writes(&cluster.writes_when_quiet(mark).await?, size.burst, size.pods);
    Ok(())
}

/// Nothing happens but renewals.
async fn steady(cluster: &Cluster, rows: &Rows, program: &Program, size: Size) -> Result<()> {
    let renewing = rows.renew_all();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mark, before) = (cluster.plane.audit_mark()?, program.processor()?);
    tokio::time::sleep(size.steady).await;
    let cores = (program.processor()? - before).as_secs_f64() / size.steady.as_secs_f64();
    let writes: usize = cluster.writes(mark)?.values().sum();
    let memory = program.memory()?;
    let event = event_cost(cluster, program, size).await?;
    println!("\n  steady state, {} resources among {} rows, {:?}:", size.leases, size.rows, size.steady);
    println!("    memory {:.1} MB, {cores:.3} cores, {writes} writes of the API", mega(memory));
    println!("    an event of an unrelated pod in {OTHERS}: {event:.0} µs of a core");
    renewing.abort();
    Ok(())
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    wait::until(PATIENCE, what.to_owned(), async || Ok(holds().await?.then_some(()))).await
}
