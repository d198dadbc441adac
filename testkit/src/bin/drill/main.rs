//! The drill of a database that elects its primary: three `component-lease db run`, a writer, and one fault after the
//! other. `hack/db-drill.sh` builds what it needs and runs it.
//!
//! ```text
//! drill PROGRAM          (FAULTS, RELEASE and KINDS of the environment)
//! ```
//!
//! It ends with 1 where an acknowledged row is lost, the servers differ, a process outlives its supervisor, or the
//! cluster does not become whole again. An outage beyond its aim is only printed: machines differ.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "what is shown is measured by the machine's own clock")]

mod faults;
mod judge;
mod processes;
mod site;
mod writer;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use component_lease_testkit::figures::machine;
use component_lease_testkit::postgres::member::Release;

use faults::{KINDS, Kind};
use judge::Round;
use site::Site;
use writer::Writer;

/// How long the lease lasts: the aims are for this.
const TERM: Duration = Duration::from_secs(8);
/// For anything that a healthy cluster does within its term or soon after.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program] = arguments.as_slice() else {
        eprintln!("usage: hack/db-drill.sh");
        return ExitCode::from(2);
    };
    match perform(Path::new(program)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ndrill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn release() -> Result<Release> {
    match variable("RELEASE").as_deref() {
        None => Ok(Release::Installed),
        Some("18") => Ok(Release::Eighteen),
        Some(other) => {
            bail!("RELEASE={other}: there are 18 and, without RELEASE, the PostgreSQL that is installed")
        }
    }
}

/// What is done, in this order.
fn plan() -> Result<Vec<Kind>> {
    let count = variable("FAULTS").map_or(Ok(20), |text| text.parse());
    let count: usize = count.context("FAULTS is not a number")?;
    let kinds: Vec<Kind> = match variable("KINDS") {
        None => KINDS.to_vec(),
        Some(names) => names.split([' ', ',']).map(Kind::parse).collect::<Result<_>>()?,
    };
    Ok(kinds.into_iter().cycle().take(count).collect())
}

/// Whether everything is as it must be.
async fn perform(program: &Path) -> Result<bool> {
    let (release, plan) = (release()?, plan()?);
    println!("{}\nterm {} s, {} faults", machine(), TERM.as_secs(), plan.len());
    let mut site = Site::start(program, release).await?;
    let done = drill(&mut site, &plan).await;
    if done.is_err() {
        eprintln!("{}", site.ends_of_logs());
    }
    done
}

async fn drill(site: &mut Site, plan: &[Kind]) -> Result<bool> {
    judge::table(site).await?;
    let writer = Writer::start(site.urls());
    judge::whole(site, &writer).await.context("before the first fault")?;
    let (mut rounds, mut counted) = (Vec::new(), 0);
    for (number, kind) in plan.iter().enumerate() {
        let round = faults::inflict(*kind, site, &writer, &mut counted).await;
        let round = round.with_context(|| format!("fault {}, {}", number + 1, kind.name()))?;
        println!("{:>3} {}", number + 1, round.line());
        rounds.push(round);
    }
    let acknowledged = writer.stop().await;
    let verdict = judge::end(site, &acknowledged).await?;
    print_table(&rounds);
    let left = site.stop().await?;
    if left > 0 {
        println!("{left} processes of servers outlived their supervisors at the end");
    }
    println!("{verdict}");
    Ok(verdict.is_good() && left == 0 && rounds.iter().all(Round::is_good))
}

fn print_table(rounds: &[Round]) {
    println!(
        "\n{:<28}{:>7}{:>19}{:>9}{:>14}{:>6}{:>14}",
        "kind", "faults", "longest outage, ms", "aim, ms", "acknowledged", "lost", "after waking"
    );
    for kind in KINDS {
        let of: Vec<&Round> = rounds.iter().filter(|round| round.kind == kind).collect();
        if of.is_empty() {
            continue;
        }
        let longest = of.iter().map(|round| round.outage).max().unwrap_or_default().as_millis();
        let aim = kind.aim().map_or_else(|| "-".to_owned(), |aim| aim.as_millis().to_string());
        let sum = |part: fn(&Round) -> usize| of.iter().map(|round| part(round)).sum::<usize>();
        let (acknowledged, lost) = (sum(|round| round.acknowledged), sum(|round| round.lost));
        let woken = sum(|round| round.after_waking);
        let missed = if kind.aim().is_some_and(|aim| longest > aim.as_millis()) { "  missed" } else { "" };
        println!(
            "{:<28}{:>7}{longest:>19}{aim:>9}{acknowledged:>14}{lost:>6}{woken:>14}{missed}",
            kind.name(),
            of.len()
        );
    }
}
