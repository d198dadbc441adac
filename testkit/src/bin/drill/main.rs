//! The drill of a database that elects its primary: three `component-lease db run`, a writer, and one fault after the
//! other. `hack/db-drill.sh` builds what it needs and runs it.
//!
//! ```text
//! drill PROGRAM          (FAULTS, RELEASE, KINDS and PEER of the environment)
//! ```
//!
//! It ends with 1 where an acknowledged row is lost, the servers differ, a process outlives its supervisor, or the
//! cluster does not become whole again. An outage beyond its aim is only printed: machines differ.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "what is shown is measured by the machine's own clock")]

mod faults;
mod judge;
mod ours;
mod patroni;
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
use ours::Ours;
use patroni::Patroni;
use site::{Elector, Site};
use writer::Writer;

/// For anything that a healthy cluster does within some terms.
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
        Some("13") => Ok(Release::Thirteen),
        Some("17") => Ok(Release::Seventeen),
        Some("18") => Ok(Release::Eighteen),
        Some(other) => {
            bail!(
                "RELEASE={other}: there are 13, 17, 18 and, without RELEASE, the PostgreSQL that is installed"
            )
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
    let peer = match variable("PEER").as_deref() {
        None => false,
        Some("patroni") => true,
        Some(other) => bail!("PEER={other}: there is patroni"),
    };
    let plan = plan()?;
    let (elector, release) = if peer {
        (Elector::Patroni(Patroni::start().await?), Release::WithPatroni)
    } else {
        (Elector::Ours(Ours::start(program).await?), release()?)
    };
    let mut site = Site::start(elector, release).await?;
    let name = if peer { "Patroni" } else { "component-lease db run" };
    println!("{}\n{name}, term {} s, {} faults", machine(), site.term().as_secs(), plan.len());
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
    print_table(&rounds, site.is_ours());
    let left = site.stop().await?;
    if left > 0 {
        println!("{left} processes of servers outlived their supervisors at the end");
    }
    println!("{verdict}");
    Ok(verdict.is_good() && left == 0 && rounds.iter().all(Round::is_good))
}

fn print_table(rounds: &[Round], ours: bool) {
    println!(
        "\n{:<28}{:>7}{:>19}{:>9}{:>14}{:>6}{:>6}",
        "kind", "faults", "longest outage, ms", "aim, ms", "acknowledged", "lost", "late"
    );
    for kind in KINDS {
        let of: Vec<&Round> = rounds.iter().filter(|round| round.kind == kind).collect();
        if of.is_empty() {
            continue;
        }
        let longest = of.iter().map(|round| round.outage).max().unwrap_or_default().as_millis();
        let aim =
            kind.aim().filter(|_| ours).map_or_else(|| "-".to_owned(), |aim| aim.as_millis().to_string());
        let sum = |part: fn(&Round) -> usize| of.iter().map(|round| part(round)).sum::<usize>();
        let (acknowledged, lost) = (sum(|round| round.acknowledged), sum(|round| round.lost));
        let late = sum(|round| round.late);
        let missed =
            if ours && kind.aim().is_some_and(|aim| longest > aim.as_millis()) { "  missed" } else { "" };
        println!(
            "{:<28}{:>7}{longest:>19}{aim:>9}{acknowledged:>14}{lost:>6}{late:>6}{missed}",
            kind.name(),
            of.len()
        );
    }
}
