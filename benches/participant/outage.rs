//! A server that is frozen for two ttls, with participants on many rows: from the moment it goes on to each row's next leader.

use std::time::Duration;

use component_lease::participant::Participant;
use component_lease::store::{self, Source};
use component_lease_testkit::figures::Distribution;
use component_lease_testkit::{mysql, postgres};

use crate::{Failure, TTL, now, number, open, participant};

const FROZEN: Duration = Duration::from_secs(10);
/// Rows of one server, each with a leader and a follower in this process.
const ROWS: usize = 10;

enum Server {
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

impl Server {
    fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        let done = match (self, frozen) {
            (Self::Postgres(server), true) => server.freeze_all(),
            (Self::Postgres(server), false) => server.thaw_all(),
            (Self::MySql(server), true) => server.freeze_all(),
            (Self::MySql(server), false) => server.thaw_all(),
        };
        done.map_err(|error| format!("{error:#}").into())
    }
}

pub(crate) async fn measure() -> Result<(), Failure> {
    let runs = number("RUNS", 10)?;
    println!(
        "\nDatabase frozen for {FROZEN:?}, from its return to each row's next leader, ttl {TTL} s, {ROWS} rows at a time; s"
    );
    println!("  {:<36}{}", "", Distribution::heads());
    let failed = |error| Failure::from(format!("{error:#}"));
    let server =
        postgres::Server::builder().setting("max_connections", "600").start().await.map_err(failed)?;
    let source = Source::url(server.superuser_url());
    let mut databases = vec![("PostgreSQL".to_owned(), Server::Postgres(server), source)];
    for kind in [mysql::Kind::MySql9, mysql::Kind::MariaDb11_8] {
        let server = mysql::Server::builder(kind).start().await.map_err(failed)?;
        server.sql("CREATE DATABASE bench").await.map_err(failed)?;
        let source = Source::url(server.url("bench"));
        databases.push((kind.to_string(), Server::MySql(server), source));
    }
    // At the same time: nearly all of it is waiting.
    let mut measured = tokio::task::JoinSet::new();
    for (name, server, source) in databases {
        measured.spawn(async move { on(&name, &server, &source, runs).await });
    }
    while let Some(done) = measured.join_next().await {
        done??;
    }
    Ok(())
}

async fn on(name: &str, server: &Server, source: &Source, runs: usize) -> Result<(), Failure> {
    open(source).await?;
    let mut rows = Vec::new();
    for row in 0..ROWS {
        let start = || {
            participant(store::open(source.clone(), "component-lease bench")?, &format!("outage-{row}"))?
                .start()
                .map_err(Failure::from)
        };
        rows.push([start()?, start()?]);
    }
    let mut took = Vec::new();
    for _ in 0..runs {
        let mut versions = Vec::new();
        for row in &rows {
            versions.push(led(row, 0).await.0);
        }
        // Any moment between two renewals, once each has been renewed.
        tokio::time::sleep(Duration::from_secs(3).mul_f64(1.0 + fastrand::f64())).await;
        server.freeze(true)?;
        tokio::time::sleep(FROZEN).await;
        server.freeze(false)?;
        let returned = now();
        for (row, version) in rows.iter().zip(versions) {
            took.push(led(row, version).await.1.saturating_sub(returned).as_secs_f64());
        }
    }
    println!("  {name:<36}{}", Distribution::of(took));
    Ok(())
}

/// The version of the first term after this one, and when it was first seen to be led, to 2 ms.
async fn led(row: &[Participant; 2], after: i64) -> (i64, Duration) {
    loop {
        let versions = row.iter().filter_map(Participant::term).map(|guard| guard.version());
        if let Some(version) = versions.filter(|version| *version > after).max() {
            return (version, now());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
