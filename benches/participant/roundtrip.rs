//! How far away a database may be, behind a proxy that delays each direction by half a round trip: what the first
//! connection and a look take, and the smallest ttl with which a leader renews and is replaced when it is killed.

use std::time::Duration;

use component_lease::election::ComponentName;
use component_lease::participant::Participant;
use component_lease::store::{self, Install, Source};
use component_lease_testkit::figures::Distribution;
use component_lease_testkit::tcp_proxy::TcpProxy;
use component_lease_testkit::{mysql, postgres};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::{Failure, TTL, kill, now, number};

/// Milliseconds.
const ROUND_TRIPS: [u32; 6] = [0, 20, 50, 100, 200, 300];
/// Seconds, tried in this order.
const TTLS: [u32; 7] = [1, 2, 3, 4, 5, 6, 8];
/// Stores of which the first connection is measured, for each round trip.
const STORES: usize = 3;
/// Looks on a connection, for each store; the first of them may be the first use of a statement.
const LOOKS: usize = 5;
/// A leader that has not led by then never will.
const PATIENCE: Duration = Duration::from_secs(10);
const NAME: &str = "roundtrip";

/// Only kept so that it runs.
enum Server {
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

/// One way to one server.
struct Place {
    what: String,
    server: Server,
    query: &'static str,
}

impl Place {
    fn port(&self) -> u16 {
        match &self.server {
            Server::Postgres(server) => server.port(),
            Server::MySql(server) => server.port(),
        }
    }

    fn url(&self, port: u16) -> String {
        self.url_of_any_kind(port) + self.query
    }

    /// With TLS where the server has it.
    fn url_of_any_kind(&self, port: u16) -> String {
        match &self.server {
            Server::Postgres(server) => server.url_through(port, "postgres"),
            Server::MySql(server) => server.url_through(port, NAME),
        }
    }
}

async fn places() -> Result<Vec<Place>, Failure> {
    let failed = |error: anyhow::Error| -> Failure { format!("{error:#}").into() };
    let mut places = Vec::new();
    let tls = postgres::Server::builder().tls().setting("max_connections", "200").start().await;
    let plain = postgres::Server::builder().setting("max_connections", "200").start().await;
    for (what, server, query) in
        [("PostgreSQL", plain, "?sslmode=disable"), ("PostgreSQL, TLS", tls, "?sslmode=require")]
    {
        let server = Server::Postgres(server.map_err(failed)?);
        places.push(Place { what: what.to_owned(), server, query });
    }
    for kind in [mysql::Kind::MySql9, mysql::Kind::MariaDb11_8] {
        let tls = mysql::Server::builder(kind).tls().start().await.map_err(failed)?;
        let plain = mysql::Server::start(kind).await.map_err(failed)?;
        for (with, server, query) in [("", plain, "?ssl-mode=DISABLED"), (", TLS", tls, "?ssl-mode=REQUIRED")]
        {
            server.sql(&format!("CREATE DATABASE {NAME}")).await.map_err(failed)?;
            places.push(Place { what: format!("{kind}{with}"), server: Server::MySql(server), query });
        }
    }
    for place in &places {
        let install = Install::default().first(true);
        // MySQL takes a password without TLS only from somebody whom it has seen with TLS.
        store::install(&Source::url(place.url_of_any_kind(place.port())), install).await?;
    }
    Ok(places)
}

pub(crate) async fn measure() -> Result<(), Failure> {
    let kills = number("RUNS", 3)?;
    let wanted = std::env::var("PLACE").unwrap_or_default();
    let mut places = places().await?;
    places.retain(|place| place.what.starts_with(&wanted));
    print!("\n  {:<40}", "By the round trip");
    for ms in ROUND_TRIPS {
        print!("{:>8}", format!("{ms} ms"));
    }
    println!();
    let mut cells = JoinSet::new();
    for (row, place) in places.iter().enumerate() {
        for (column, ms) in ROUND_TRIPS.into_iter().enumerate() {
            let (direct, port) = (place.url(place.port()), place.port());
            let proxy = delayed(port, ms)?;
            let far = place.url(proxy.port());
            cells.spawn(async move {
                let _proxy = proxy;
                let looks = looks(&direct, &far, ms).await?;
                let far = ttls(&direct, &far, ms, kills).await?;
                Ok::<_, Failure>((row, column, Far { looks, ..far }))
            });
        }
    }
    let mut found = Vec::new();
    while let Some(cell) = cells.join_next().await {
        found.push(cell??);
    }
    found.sort_by_key(|(row, column, _)| (*row, *column));
    let show = |what: &str, of: &dyn Fn(&Far) -> String| {
        println!("  {what}");
        for (row, place) in places.iter().enumerate() {
            print!("    {:<38}", place.what);
            for (_, _, cell) in found.iter().filter(|(at, ..)| *at == row) {
                print!("{:>8}", of(cell));
            }
            println!();
        }
    };
    let slope = |of: &dyn Fn(&Far) -> f64| {
        let (near, far) = (ROUND_TRIPS[0], ROUND_TRIPS[ROUND_TRIPS.len() - 1]);
        for (row, place) in places.iter().enumerate() {
            let of_row: Vec<f64> =
                found.iter().filter(|(at, ..)| *at == row).map(|(_, _, cell)| of(cell)).collect();
            let trips = (of_row[of_row.len() - 1] - of_row[0]) / f64::from(far - near);
            println!("    {:<38}{trips:>8.1} round trips", place.what);
        }
    };
    show("connect, inspect and first look, ms", &|cell| format!("{:.0}", cell.looks.0));
    slope(&|cell| cell.looks.0);
    show("each further look, ms", &|cell| format!("{:.0}", cell.looks.1));
    slope(&|cell| cell.looks.1);
    show(
        &format!(
            "smallest ttl (s) with which a leader renews for three ttls, and each of {kills} that are killed is replaced within 1.5 ttl"
        ),
        &|cell| cell.smallest.map_or("-".to_owned(), |ttl| ttl.to_string()),
    );
    show(&format!("killed at ttl {TTL} s, to the next leader, the longest, s"), &|cell| {
        cell.longest.map_or("-".to_owned(), |took| format!("{:.2}", took.as_secs_f64()))
    });
    Ok(())
}

fn delayed(port: u16, ms: u32) -> Result<TcpProxy, Failure> {
    let proxy = TcpProxy::start(([127, 0, 0, 1], port).into()).map_err(|error| format!("{error:#}"))?;
    proxy.delay(Duration::from_micros(u64::from(ms) * 500));
    Ok(proxy)
}

/// The first look of a store, which connects and inspects the server, and the looks after it; the medians, ms.
async fn looks(direct: &str, far: &str, ms: u32) -> Result<(f64, f64), Failure> {
    let component = ComponentName::new(format!("looked-at-{ms}"))?;
    // As nearly always: somebody has led before.
    let near = store::open(Source::url(direct), "component-lease bench")?;
    let before =
        Participant::builder(near, component.clone()).ttl(Duration::from_secs(TTL.into())).start()?;
    drop(before.lead().await?);
    before.drain();
    before.ended().await?;
    let (mut first, mut next) = (Vec::new(), Vec::new());
    for _ in 0..STORES {
        let store = store::open(Source::url(far), "component-lease bench")?;
        let timed = async || -> Result<f64, Failure> {
            let asked = now();
            store.look(&component).await?;
            Ok((now() - asked).as_secs_f64() * 1e3)
        };
        first.push(timed().await?);
        for _ in 0..LOOKS {
            next.push(timed().await?);
        }
    }
    Ok((Distribution::of(first).quantile(0.5), Distribution::of(next).quantile(0.5)))
}

/// What was found at one distance of one database.
struct Far {
    looks: (f64, f64),
    smallest: Option<u32>,
    /// At [`TTL`], from a kill to the next leader. `None` where one was not replaced.
    longest: Option<Duration>,
}

async fn ttls(direct: &str, far: &str, ms: u32, kills: usize) -> Result<Far, Failure> {
    let mut smallest = None;
    let mut longest = None;
    for ttl in TTLS {
        if smallest.is_some() && ttl != TTL {
            continue;
        }
        let worst = replaced(direct, far, &format!("at-{ms}-ms-with-ttl-{ttl}"), ttl, kills).await?;
        if smallest.is_none() && worst.is_some_and(|took| took <= Duration::from_secs(ttl.into()) * 3 / 2) {
            smallest = Some(ttl);
        }
        if ttl == TTL {
            longest = worst;
        }
    }
    Ok(Far { looks: (f64::NAN, f64::NAN), smallest, longest })
}

/// Of so many leaders that are killed, each on a row of its own, the longest time to the next. `None` where one does
/// not lead for three ttls, or is not replaced within three, which is said.
async fn replaced(
    direct: &str,
    far: &str,
    component: &str,
    ttl: u32,
    kills: usize,
) -> Result<Option<Duration>, Failure> {
    let mut rows = JoinSet::new();
    for run in 0..kills {
        let (direct, far, component) = (direct.to_owned(), far.to_owned(), format!("{component}-{run}"));
        rows.spawn(async move { one(&direct, &far, &component, ttl).await });
    }
    let mut worst = Some(Duration::ZERO);
    while let Some(row) = rows.join_next().await {
        let row = row??;
        if let Err(why) = row {
            eprintln!("  {component}: {why}");
        }
        worst = worst.zip(row.ok()).map(|(worst, took)| worst.max(took));
    }
    Ok(worst)
}

async fn one(
    direct: &str,
    far: &str,
    component: &str,
    ttl: u32,
) -> Result<Result<Duration, &'static str>, Failure> {
    let (term, name) = (Duration::from_secs(ttl.into()), ComponentName::new(component)?);
    let near = store::open(Source::url(direct), "component-lease bench")?;
    let mut process: Child = kill::start(far, component, ttl)?;
    let holder = async || -> Result<Option<(String, i64)>, Failure> {
        Ok(near.look(&name).await?.row.map(|row| (row.holder, row.version)))
    };
    let end = now() + PATIENCE;
    let led = loop {
        match holder().await? {
            Some(led) => break led,
            None if now() > end => return Ok(Err("nobody led in time")),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let store = store::open(Source::url(far), "component-lease bench")?;
    let follower = Participant::builder(store, name.clone()).ttl(term);
    let follower = follower.on_overrun(|_| {}).start()?;
    // And any moment between two renewals.
    tokio::time::sleep(term * 3 + (term / 3).mul_f64(fastrand::f64())).await;
    // A term that was lost in between has another version.
    if holder().await? != Some(led) || follower.is_leader() {
        return Ok(Err("the leader lost its term"));
    }
    let killed = now();
    process.start_kill()?;
    let next = tokio::time::timeout(term * 3, follower.lead()).await;
    let took = now() - killed;
    process.wait().await?;
    follower.drain();
    Ok(if next.is_ok() { Ok(took) } else { Err("the killed leader was not replaced") })
}
