//! What the controller's metrics say, and what Prometheus makes of them: the alerts and the dashboard of the chart on
//! the expositions of real programs.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::port::Port;
use component_lease_testkit::prometheus::{Prometheus, promtool};
use component_lease_testkit::{repository, wait};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::resilience::{replica, wait_until_elected};
use crate::support::databases::{MEMBERS, record};
use crate::support::objects::{lease, lease_with};
use crate::support::rows::Mood;
use crate::support::{KEY, LONG, Replica, SOON, Site};

/// The value of a series, named as a scrape names it; `None` when it is not there.
fn value(scrape: &str, series: &str) -> Option<f64> {
    let value = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    value.parse().ok()
}

/// A series of the resource `discovery`.
fn of(site: &Site, metric: &str, further: &str) -> String {
    format!("componentlease_resource_{metric}{{namespace=\"{}\",name=\"discovery\"{further}}}", site.name())
}

async fn wait_for(replica: &Replica, series: &str, wanted: impl Fn(Option<f64>) -> bool) -> Result<()> {
    wait::until(SOON, series.to_owned(), async || {
        let scrape = replica.scrape();
        ensure!(wanted(value(&scrape, series)), "{scrape}");
        Ok(Some(()))
    })
    .await
}

/// Two replicas, the first of which acts, and the leader `d-0`.
async fn two_replicas(prefix: &str) -> Result<(Site, Replica, Replica)> {
    let site = Site::new(prefix).await?;
    site.make_pods("discovery", &["d-0", "d-1", "d-2"]).await?;
    let first = replica(&site, "first").await?;
    wait_until_elected(&site, "first").await?;
    let second = replica(&site, "second").await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_until_ready("discovery").await?;
    Ok((site, first, second))
}

#[tokio::test(crate = "crate::harness")]
async fn a_resource_has_metrics_of_the_acting_replica_alone_and_only_while_it_exists() -> Result<()> {
    let (site, first, second) = two_replicas("metrics").await?;
    for (metric, wanted) in [("ready", 1.0), ("held", 1.0), ("candidates", 3.0), ("version", 1.0)] {
        wait_for(&first, &of(&site, metric, ""), |value| value == Some(wanted)).await?;
    }
    wait_for(&first, &of(&site, "ready_reason", ",reason=\"LeaderRouted\""), |value| value == Some(1.0))
        .await?;
    let acting = "componentlease_controller_acting";
    wait_for(&first, acting, |value| value == Some(1.0)).await?;
    wait_for(&first, "componentlease_controller_database_reachable", |value| value == Some(1.0)).await?;
    let stands_by = second.scrape();
    ensure!(value(&stands_by, acting) == Some(0.0), "{stands_by}");
    ensure!(!stands_by.contains("componentlease_resource_"), "{stands_by}");
    ensure!(!stands_by.contains("componentlease_controller_database_reachable"), "{stands_by}");

    // A handover by a release: nothing to detect, and each step counts once.
    site.rows.release("discovery").await?;
    wait_for(&first, &of(&site, "held", ""), |value| value == Some(0.0)).await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    wait_for(&first, &of(&site, "last_handover_seconds", ",step=\"reach\""), |value| value.is_some()).await?;
    let scrape = first.scrape();
    for step in ["detect", "elect", "label", "reach"] {
        let series = format!("componentlease_controller_handover_duration_seconds_count{{step=\"{step}\"}}");
        ensure!(value(&scrape, &series) == Some(1.0), "{step}: {scrape}");
    }
    ensure!(value(&scrape, &of(&site, "last_handover_seconds", ",step=\"detect\"")) == Some(0.0), "{scrape}");
    let leaderless = value(&scrape, &of(&site, "leaderless_seconds_total", "")).context("leaderless")?;
    ensure!(leaderless > 0.0 && leaderless < 20.0, "{scrape}");

    // With the database away nobody knows who leads, and nobody is said to.
    site.rows.unreachable();
    wait_for(&first, "componentlease_controller_database_reachable", |value| value == Some(0.0)).await?;
    wait_for(&first, &of(&site, "ready", ""), |value| value == Some(0.0)).await?;
    site.rows.set_mood(Mood::Answers);
    wait_for(&first, &of(&site, "ready", ""), |value| value == Some(1.0)).await?;

    site.leases().delete("discovery", &DeleteParams::default()).await?;
    wait_for(&first, &of(&site, "ready", ""), |value| value.is_none()).await?;
    ensure!(!first.scrape().contains("componentlease_resource_"), "{}", first.scrape());
    Ok(())
}

/// As promtool reads it: the older format, where the name of a counter has its ending in the description too.
fn in_the_older_format(scrape: &str) -> String {
    let mut lines: Vec<String> = scrape.lines().filter(|l| *l != "# EOF").map(str::to_owned).collect();
    for (kind, ending) in [(" counter", "_total"), (" info", "_info")] {
        let of_kind = |line: &String| line.strip_prefix("# TYPE ")?.strip_suffix(kind).map(str::to_owned);
        for name in lines.iter().filter_map(of_kind).collect::<Vec<_>>() {
            let wanted = if kind == " info" { " gauge" } else { kind };
            for line in &mut lines {
                if *line == format!("# TYPE {name}{kind}") {
                    *line = format!("# TYPE {name}{ending}{wanted}");
                } else if let Some(help) = line.strip_prefix(&format!("# HELP {name} ")) {
                    *line = format!("# HELP {name}{ending} {help}");
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

/// An agent that leads, and where its metrics are.
fn agent(folder: &std::path::Path) -> Result<(tokio::process::Child, Port)> {
    let port = Port::free()?;
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_component-lease"))
        .args(["agent", "--component", "discovery", "--migrate", "--first-install"])
        .env("COMPONENT_LEASE_DATABASE_URL", format!("sqlite://{}", folder.join("leases.db").display()))
        .env("COMPONENT_LEASE_LISTEN", port.address().to_string())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("agent.log"))?)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, port))
}

/// All expressions of the dashboard, as Grafana sends them when everything is chosen.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    // A test does not wait for hours: what a rate looks back over is no matter of names.
    let spans = ["[1h]", "[5m]"];
    expressions
        .map(|text| text.replace("$namespace", ".*").replace("$name", ".*"))
        .map(|text| spans.iter().fold(text, |text, span| text.replace(span, "[30s]")))
        .collect()
}

/// The names of our metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("componentlease_")).collect()
}

#[tokio::test(crate = "crate::harness")]
async fn prometheus_loads_the_alerts_counts_a_resource_once_and_answers_each_query_of_the_dashboard()
-> Result<()> {
    let (site, first, second) = two_replicas("scraped").await?;
    // Something to be seen of each kind: a condition that means trouble, a handover, an early release.
    site.change("discovery", json!({"ttlSeconds": 3000})).await?;
    site.wait_for_condition("discovery", "TtlLimited", "True", "AboveMaxTtl").await?;
    site.let_a_second_pass("discovery").await?;
    site.make_lease(&lease_with(
        "second",
        "discovery",
        &json!({"componentName": format!("{}/discovery", site.name())}),
    ))
    .await?;
    site.wait_for_condition("second", "Ready", "False", "Conflict").await?;
    site.make_pods("orders", &MEMBERS).await?;
    let primary = site.holder(MEMBERS[0]).await?;
    site.hold(&primary, 4, LONG, &record(MEMBERS[0], 4, &MEMBERS[1..])).await?;
    site.make_database(&json!({})).await?;
    site.wait_for_database_to_say("Ready", "True", "PrimaryRouted").await?;
    let folder = tempfile::tempdir()?;
    let (_agent, port) = agent(folder.path())?;
    let targets =
        [first.serve().await?.to_string(), second.serve().await?.to_string(), port.address().to_string()];
    let configuration = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{
            "job_name": "test", "honor_labels": true, "static_configs": [{"targets": targets}],
        }],
    });
    let files = repository().join("charts/component-lease/files");
    let rules = std::fs::read_to_string(files.join("alerts.yaml"))?;
    let prometheus = Prometheus::start(&configuration.to_string(), &rules).await?;
    wait::until(SOON, "three targets that are up", async || {
        let up = prometheus.query("sum(up)").await?;
        ensure!(up.first().is_some_and(|one| one["value"][1] == "3"), "{up:?}");
        Ok(Some(()))
    })
    .await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;

    let ready = prometheus.query("componentlease_resource_ready{name=\"discovery\"}").await?;
    ensure!(ready.len() == 1, "a replica that stands by counts too: {ready:?}");

    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(files.join("dashboard.json"))?)?;
    let queries = queries(&dashboard);
    ensure!(queries.len() > 20, "only {} queries", queries.len());
    let text: Value = serde_yaml::from_str(&rules)?;
    let alerts: Vec<String> = text["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array().into_iter().flatten())
        .filter_map(|rule| rule["expr"].as_str().map(str::to_owned))
        .collect();
    // A query that names what does not exist finds nothing, and neither does an alert, for ever.
    let metrics = alerts.iter().flat_map(|alert| named(alert)).map(str::to_owned);
    for query in queries.iter().cloned().chain(metrics) {
        wait::until(SOON, query.clone(), async || {
            Ok((!prometheus.query(&query).await?.is_empty()).then_some(()))
        })
        .await?;
    }

    wait::until(SOON, "every alert was evaluated", async || {
        let loaded = prometheus.get("/api/v1/rules").await?;
        let groups = loaded["groups"].as_array().into_iter().flatten();
        let rules: Vec<_> =
            groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
        ensure!(rules.len() == alerts.len(), "{loaded}");
        Ok(rules.iter().all(|rule| rule["health"] == "ok").then_some(()))
    })
    .await?;
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await?;
    ensure!(firing.is_empty(), "{firing:?}");
    let pending = prometheus.query("ALERTS{alertname=\"ComponentLeaseConflict\"}").await?;
    ensure!(
        pending.len() == 1 && pending.first().is_some_and(|alert| alert["metric"]["name"] == "second"),
        "{pending:?}"
    );

    for replica in [&first, &second] {
        promtool(folder.path(), &["check", "metrics"], &in_the_older_format(&replica.scrape()))?;
    }
    Ok(())
}
