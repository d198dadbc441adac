//! The alerts as the chart renders them, tried by promtool. `tests/cluster/metrics.rs` loads them into a Prometheus.

use std::collections::BTreeMap;
use std::fs;

use component_lease_testkit::prometheus::promtool;
use component_lease_testkit::repository;
use serde_yaml::Value;

use crate::{documents, kind, render, values};

/// The rules of the chart with these further arguments of helm.
fn rules(arguments: &[&str]) -> Value {
    let file = values("default-postgres");
    let all = [&["-f", file.as_str(), "--set", "metrics.rules.enabled=true"], arguments].concat();
    let rendered = documents(&render(&all).unwrap());
    rendered.iter().find(|document| kind(document) == "PrometheusRule").unwrap()["spec"].clone()
}

fn sequence(value: &Value) -> &[Value] {
    value.as_sequence().map_or(&[], Vec::as_slice)
}

/// Runs the unit tests on these rules.
fn tried(rules: &Value, tests: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), serde_yaml::to_string(rules).unwrap()).unwrap();
    fs::write(folder.path().join("tests.yaml"), tests).unwrap();
    promtool(folder.path(), &["check", "rules", "--lint-fatal", "rules.yaml"], "")?;
    promtool(folder.path(), &["test", "rules", "tests.yaml"], "")
}

#[test]
fn each_alert_fires_when_it_should_and_not_when_it_should_not() {
    let tests = fs::read_to_string(repository().join("tests/chart/alerts.yaml")).unwrap();
    let rules = rules(&[]);
    tried(&rules, &tests).unwrap();

    let mut tried_as: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    let parsed: Value = serde_yaml::from_str(&tests).unwrap();
    for test in sequence(&parsed["tests"]).iter().flat_map(|test| sequence(&test["alert_rule_test"])) {
        let fires = !sequence(&test["exp_alerts"]).is_empty();
        *tried_as.entry((test["alertname"].as_str().unwrap(), fires)).or_default() += 1;
    }
    let names: Vec<_> = sequence(&rules["groups"])
        .iter()
        .flat_map(|group| sequence(&group["rules"]))
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        for fires in [true, false] {
            assert!(tried_as.contains_key(&(name, fires)), "no test in which {name} fires: {fires}");
        }
    }
}

#[test]
fn an_alert_that_does_not_fire_and_a_rule_that_is_none_are_noticed() {
    let tests = fs::read_to_string(repository().join("tests/chart/alerts.yaml")).unwrap();
    let spoilt = |from: &str, to: &str| {
        let text = serde_yaml::to_string(&rules(&[])).unwrap();
        assert!(text.contains(from), "{text}");
        tried(&serde_yaml::from_str(&text.replace(from, to)).unwrap(), &tests).unwrap_err().to_string()
    };
    let later = spoilt("for: 2m", "for: 20m");
    assert!(later.contains("ComponentLeaseNoLeader"), "{later}");
    let doubled =
        spoilt("max by (namespace, name) (componentlease_resource_held)", "componentlease_resource_held");
    assert!(doubled.contains("a replica takes over"), "{doubled}");
    assert!(spoilt("max by (namespace, name)", "max by namespace, name").contains("parse"), "no rule");
}

#[test]
fn with_a_monitor_the_missing_controller_is_this_releases_own() {
    for monitor in ["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"] {
        let text = serde_yaml::to_string(&rules(&["--set", monitor])).unwrap();
        let expression = text.lines().find(|line| line.contains("absent(")).unwrap();
        assert!(expression.contains("namespace=\"leases\""), "{expression}");
    }
}

#[test]
fn the_dashboard_is_one_json_object_with_a_title_and_an_expression_in_each_panel() {
    let rendered = documents(&render(&["-f", &values("everything")]).unwrap());
    let map = rendered.iter().find(|document| kind(document) == "ConfigMap").unwrap();
    let text = map["data"]["component-lease.json"].as_str().unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(dashboard["uid"], "component-lease");
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(panel["title"].is_string(), "{panel}");
        let targets = panel["targets"].as_array();
        assert!(panel["type"] == "row" || targets.is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
}
