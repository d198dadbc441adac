//! The smallest ttl with which a participant leads, goes on to, and is followed, by how long a round trip to
//! the database takes.

use std::time::Duration;

use component_lease::election::ComponentName;
use component_lease::participant::Participant;
use component_lease::store::{self, Install, Source};
use component_lease_testkit::tcp_proxy::TcpProxy;
use component_lease_testkit::{mysql, postgres};

use crate::{Failure, now};

/// Milliseconds.
const ROUND_TRIPS: [u64; 6] = [0, 20, 50, 100, 200, 300];
/// Seconds.
const TTLS: [u32; 8] = [1, 2, 3, 4, 5, 6, 8, 10];

pub(crate) async fn measure() -> Result<(), Failure> {
    let failed = |error: anyhow::Error| -> Failure { format!("{error:#}").into() };
    let plain = postgres::Server::start().await.map_err(failed)?;
    let tls = postgres::Server::builder().tls().start().await.map_err(failed)?;
    let my_plain = mysql::Server::start(mysql::Kind::MySql9).await.map_err(failed)?;
    let my_tls = mysql::Server::builder(mysql::Kind::MySql9).tls().start().await.map_err(failed)?;
    let name = "roundtrip";
    for server in [&my_plain, &my_tls] {
        server.sql(&format!("CREATE DATABASE {name}")).await.map_err(failed)?;
    }
    println!(
        "\nThe smallest ttl (s) with which one leads, renews for three ttls and is followed by another, by the round trip"
    );
    print!("  {:<24}", "");
    for ms in ROUND_TRIPS {
        print!("{:>8}", format!("{ms} ms"));
    }
    println!();
    let plain_url = |port| plain.url_through(port, "postgres") + "?sslmode=disable";
    let tls_url = |port| tls.url_through(port, "postgres") + "?sslmode=require";
    let my_plain_url = |port| my_plain.url_through(port, name) + "?ssl-mode=DISABLED";
    let my_tls_url = |port| my_tls.url_through(port, name) + "?ssl-mode=REQUIRED";
    let places: [(&str, u16, &(dyn Fn(u16) -> String + Sync)); 4] = [
        ("PostgreSQL", plain.port(), &plain_url),
        ("PostgreSQL, TLS", tls.port(), &tls_url),
        ("MySQL", my_plain.port(), &my_plain_url),
        ("MySQL, TLS", my_tls.port(), &my_tls_url),
    ];
    for (what, port, url) in places {
        let install = Install::default().first(true).max_ttl(Duration::from_secs(30));
        store::install(&Source::url(url(port)), install).await?;
        let mut trials = tokio::task::JoinSet::new();
        for (index, ms) in ROUND_TRIPS.into_iter().enumerate() {
            let proxy = TcpProxy::start(([127, 0, 0, 1], port).into()).map_err(failed)?;
            proxy.delay(Duration::from_micros(ms * 500));
            let url = url(proxy.port());
            trials.spawn(async move {
                let _proxy = proxy;
                for ttl in TTLS {
                    if works(&url, &format!("rt{ms}-{ttl}"), ttl).await {
                        return (index, Some(ttl));
                    }
                }
                (index, None)
            });
        }
        let mut found = trials.join_all().await;
        found.sort_unstable();
        print!("  {what:<24}");
        for (_, ttl) in found {
            print!("{:>8}", ttl.map_or("-".to_owned(), |ttl| ttl.to_string()));
        }
        println!();
    }
    Ok(())
}

async fn works(url: &str, component: &str, ttl: u32) -> bool {
    let start = || -> Option<Participant> {
        let store = store::open(Source::url(url), "component-lease bench").ok()?;
        let builder = Participant::builder(store, ComponentName::new(component).ok()?);
        builder
            .ttl(Duration::from_secs(ttl.into()))
            .max_ttl(Duration::from_secs(30))
            .on_overrun(|_| {})
            .start()
            .ok()
    };
    let (Some(one), term) = (start(), Duration::from_secs(ttl.into())) else { return false };
    if !leads_within(&one, Duration::from_secs(15)).await {
        return false;
    }
    let Some(two) = start() else { return false };
    let end = now() + term * 3 + Duration::from_secs(10);
    while now() < end {
        if !one.is_leader() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.drain();
    one.ended().await.ok();
    leads_within(&two, term + Duration::from_secs(5)).await
}

async fn leads_within(participant: &Participant, limit: Duration) -> bool {
    let end = now() + limit;
    while now() < end {
        if participant.is_leader() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
