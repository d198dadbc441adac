//! The operators' commands against a cluster: with the real controller, real participants and a real database.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use component_lease::api::RequestState;
use component_lease::store::{Directory as _, Install, Said, Source, install, open};
use component_lease_testkit::{postgres, wait};
use serde_json::json;
use tokio::process::Command;

use crate::requests::{ask, leader, until};
use crate::support::objects::{condition, lease_with};
use crate::support::participants::compete_on;
use crate::support::{FLOOD, Replica, Rows, SOON, Site};

/// Seconds from the creation of a request until its status says that another one leads.
const QUICK: f64 = 0.5;

/// What the command says, and its exit code.
async fn run(site: &Site, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_component-lease"))
        .args(arguments)
        .args(["--namespace", site.name()])
        .env("KUBECONFIG", site.plane.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(said)?))
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn operators_commands_move_leaders_in_a_cluster_within_half_a_second() -> Result<()> {
    let database = postgres::shared().await?.fresh_database().await?;
    let source = Source::url(database.url.clone());
    install(&source, Install::default().first(true)).await?;
    let mut site = Site::new("verbs").await?;
    site.rows = Arc::new(Rows::on(open(source.clone(), "controller")?, site.name()));
    let all = ["d-0", "d-1"];
    site.make_pods("discovery", &all).await?;
    site.make_lease(&lease_with("discovery", "discovery", &json!({"ttlSeconds": 10}))).await?;
    let _controller = Replica::start(&site).await?;
    let store = || Ok(open(source.clone(), "participant")? as Arc<_>);
    let _competitors = compete_on(&site, &all, Duration::from_secs(10), store).await?;
    let other_than = |pod: &str| all.into_iter().find(|other| *other != pod).expect("there are two");

    let quiet = FLOOD.lock().await;
    let mut quickest = f64::MAX;
    for round in 0..4 {
        let target = other_than(&leader(&site).await?);
        let (name, began) = (format!("round-{round}"), Instant::now());
        ask(&site, &name, &json!({ "target": target })).await?;
        let over = until(&site, &name, RequestState::CarriedOut, "CarriedOut").await?;
        let took = began.elapsed().as_secs_f64();
        println!("{took:.3} s from the request to its outcome, {:?} s after it was accepted", over.seconds);
        quickest = quickest.min(took);
    }
    drop(quiet);
    // Other tests run beside this one.
    ensure!(quickest < QUICK, "the quickest of four took {quickest} s");

    let was = leader(&site).await?;
    let target = other_than(&was);
    let (code, said) = run(&site, &["switchover", "discovery", "--to", target, "--dry-run"]).await?;
    ensure!(code == Some(0) && said.contains("leave it alone"), "{code:?} {said}");
    let (code, said) = run(&site, &["switchover", "discovery", "--to", target, "--reason", "drill"]).await?;
    ensure!(code == Some(0) && said.contains(&format!("{target}_")), "{code:?} {said}");
    assert_eq!(leader(&site).await?, target);
    let began = wait::until(SOON, "the status to say why the term began", async || {
        let (_, said) = run(&site, &["describe", "discovery"]).await?;
        // Statuses come after labels: the one of the round before says as much of another leader.
        let is_this = said.contains(&format!("Before it {was}_")) && said.contains("(SwitchedOver)");
        Ok(is_this.then_some(said))
    });
    let began = began.await?;
    ensure!(began.contains("asked by"), "{began}");
    let (code, said) = run(&site, &["step-down", "discovery"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    assert_eq!(leader(&site).await?, was);
    let (code, said) = run(&site, &["promote", "discovery", "--to", "nobody"]).await?;
    ensure!(code == Some(3) && said.contains("no live participant is called nobody"), "{code:?} {said}");

    let (code, said) = run(&site, &["pause", "discovery", "--reason", "backup"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    site.wait_for_condition("discovery", "Paused", "True", "PausedBySpec").await?;
    let (_, said) = run(&site, &["describe", "discovery"]).await?;
    ensure!(said.contains("paused, by spec.paused") && said.contains("backup"), "{said}");
    let (code, said) = run(&site, &["resume", "discovery"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    site.wait_for_lease("discovery", "no pause", |lease| condition(lease, "Paused").is_none()).await?;

    assert_eq!(site.leases().get("discovery").await?.spec.paused, None, "nothing of it stays");
    site.rows.pause(&site.rows.key("discovery")?, &Said::new("ada", "drill")?, None).await?;
    site.wait_for_condition("discovery", "Paused", "True", "PausedByOperator").await?;
    let (_, said) = run(&site, &["describe", "discovery"]).await?;
    ensure!(said.contains("ada paused the election") && said.contains("drill"), "{said}");
    let (code, said) = run(&site, &["resume", "discovery"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    wait::until(SOON, "the pause to end", async || {
        Ok(site.rows.asked_of("discovery").await?.paused.is_none().then_some(()))
    })
    .await
}
