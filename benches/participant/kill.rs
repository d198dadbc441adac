//! Processes that lead and are killed, each with a follower that has watched it for a ttl.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use component_lease::election::ComponentName;
use component_lease::store::{self, Source};
use component_lease_testkit::figures::Distribution;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::{Failure, TERM, TTL, now, number, participant, postgres, sees};

/// The role of a process that leads and is killed.
pub(crate) const HOLDER: &str = "holder";
/// Whose database URL is in the environment: arguments can be read by all.
const URL: &str = "BENCH_DATABASE_URL";
/// So many at a time; each with a row, a process and a follower of its own.
const AT_A_TIME: usize = 20;

/// That process. It ends with the one that started it, however that ends.
pub(crate) async fn hold(component: &str, ttl: &str) -> Result<(), Failure> {
    let store = store::open(Source::url(std::env::var(URL)?), "component-lease bench")?;
    let _participant = participant(store, component)?.ttl(Duration::from_secs(ttl.parse()?)).start()?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

pub(crate) async fn measure() -> Result<(), Failure> {
    let (server, source) = postgres().await?;
    let runs = number("RUNS", 200)?;
    println!("\nProcess killed, to the next leader, PostgreSQL, ttl {TTL} s; s");
    println!("  {:<36}{}", "", Distribution::heads());
    let url: Arc<str> = server.superuser_url().into();
    let mut rows = JoinSet::new();
    for row in 0..AT_A_TIME.min(runs) {
        let (url, source) = (Arc::clone(&url), source.clone());
        let mine = (row..runs).step_by(AT_A_TIME);
        rows.spawn(async move {
            let mut took = Vec::new();
            for run in mine {
                took.push(one(&url, &source, &format!("killed-{run}")).await?.as_secs_f64());
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut took = Vec::new();
    while let Some(row) = rows.join_next().await {
        took.extend(row??);
    }
    let limit = (TERM + Duration::from_secs(1)).as_secs_f64();
    let late = took.iter().filter(|took| **took > limit).count();
    println!("  {:<36}{}", "killed to led", Distribution::of(took));
    println!("  later than ttl + 1 s: {late}");
    Ok(())
}

async fn one(url: &str, source: &Source, component: &str) -> Result<Duration, Failure> {
    let store = store::open(source.clone(), "component-lease bench")?;
    let mut process = start(url, component, TTL)?;
    let name = ComponentName::new(component)?;
    // A follower that came first would take the row.
    while store.look(&name).await?.row.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let follower = participant(store, component)?.start()?;
    sees(&follower, 1).await?;
    // A ttl, and any moment between two renewals.
    tokio::time::sleep(TERM + (TERM / 3).mul_f64(fastrand::f64())).await;
    let killed = now();
    process.start_kill()?;
    let held = follower.lead().await?.ok_or("the follower has ended")?;
    let took = now() - killed;
    process.wait().await?;
    drop(held);
    follower.drain();
    follower.ended().await?;
    Ok(took)
}

pub(crate) fn start(url: &str, component: &str, ttl: u32) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([HOLDER, component, &ttl.to_string()]).env(URL, url).kill_on_drop(true);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?)
}
