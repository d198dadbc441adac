//! An operator's request, to the next leader: written into the database as `component-lease` does it, to the moment
//! from which its target leads. The leader's work stops at once here: a program's own stop comes on top.

use std::sync::Arc;
use std::time::Duration;

use component_lease::election::{ComponentName, Request, Verb};
use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Outcome, Said, Source};
use component_lease_testkit::figures::Distribution;
use component_lease_testkit::mysql;

use crate::handover::version_of;
use crate::{Failure, TTL, now, number, open, participant, postgres, sees};

pub(crate) async fn measure() -> Result<(), Failure> {
    println!("\nAn operator's request, to the next leader, ttl {TTL} s; ms");
    println!("  {:<36}{}", "", Distribution::heads());
    let folder = tempfile::tempdir()?;
    let source = Source::url(format!("sqlite://{}", folder.path().join("bench.db").display()));
    open(&source).await?;
    on("SQLite", &source, number("RUNS", 200)?).await?;
    let (_server, source) = postgres().await?;
    on("PostgreSQL", &source, number("RUNS", 200)?).await?;
    for kind in [mysql::Kind::MySql9, mysql::Kind::MariaDb11_8] {
        let failed = |error| Failure::from(format!("{error:#}"));
        let server = mysql::Server::builder(kind).start().await.map_err(failed)?;
        server.sql("CREATE DATABASE bench").await.map_err(failed)?;
        let source = Source::url(server.url("bench"));
        open(&source).await?;
        // Found by polling, on both sides.
        on(&kind.to_string(), &source, number("RUNS", 50)?).await?;
    }
    Ok(())
}

async fn on(database: &str, source: &Source, runs: usize) -> Result<(), Failure> {
    for verb in [Verb::Switchover, Verb::StepDown, Verb::PromoteNow] {
        let what = format!("{database}, {}", verb.as_str().replace('_', " "));
        let component = ComponentName::new(format!("verbs-{}", verb.as_str()))?;
        let store = || store::open(source.clone(), "component-lease bench");
        let operator = store()?;
        let mut leader = participant(store()?, component.as_str())?.start()?;
        let mut version = version_of(&leader).await?;
        let mut other = participant(store()?, component.as_str())?.start()?;
        sees(&other, version).await?;
        let mut took = Vec::new();
        for run in 0..runs {
            // At any moment between two looks.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(100..1200))).await;
            let asked = now();
            ask(&operator, &component, verb, version, run, &other).await?;
            version = version_of(&other).await?;
            took.push((now() - asked).as_secs_f64() * 1e3);
            (leader, other) = (other, leader);
            sees(&other, version).await?;
        }
        println!("  {what:<36}{}", Distribution::of(took));
        drop(leader);
    }
    Ok(())
}

async fn ask(
    operator: &Arc<dyn Directory>,
    component: &ComponentName,
    verb: Verb,
    version: i64,
    run: usize,
    other: &Participant,
) -> Result<(), Failure> {
    let id = |run: usize| format!("{}-{run}", verb.as_str());
    let request = Request {
        id: id(run),
        verb,
        version,
        target: (verb != Verb::StepDown).then(|| other.holder().clone()),
        away: Duration::from_secs(1),
    };
    let before = run.checked_sub(1).map(id);
    let said = Said::new("bench", "to measure it")?;
    match operator.ask(component, &request, &said, before.as_deref()).await? {
        Outcome::Applied => Ok(operator.notify(component).await?),
        Outcome::Lost => Err(format!("the request {} was not written", request.id).into()),
    }
}
