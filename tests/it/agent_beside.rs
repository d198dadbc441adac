//! `agent`: what it answers over HTTP, and that it answers in time.

use std::time::Duration;

use rustix::process::Signal;

use crate::agent_support::*;

#[test]
fn a_leader_and_a_standby_tell_who_leads_in_body_and_headers() {
    let rig = Rig::new();
    let first = rig.agent("first", &[]);
    let answer = first.leads();
    let json = answer.json();
    assert_eq!(json["leader"], true);
    assert_eq!(json["component"], "discovery");
    assert_eq!(json["holder"], json["self"]);
    assert!(json["self"].as_str().unwrap().starts_with("first_"));
    assert_eq!(json["version"], 1);
    let valid = json["valid_for_ms"].as_u64().unwrap();
    assert!((1..=1000).contains(&valid), "no promise is longer than the stop grace: {valid}");
    assert_eq!(answer.header("Component-Lease-Version"), Some("1"));
    assert_eq!(answer.header("Component-Lease-Valid-For-Ms"), Some(valid.to_string().as_str()));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));

    let second = rig.agent("second", &[]);
    let standby = until("sight of the leader", || {
        second.ask("/leader").filter(|answer| answer.json()["holder"] == json["self"])
    });
    assert_eq!(standby.status, 503);
    assert_eq!(standby.json()["leader"], false);
    assert_eq!(standby.json()["valid_for_ms"], 0);
    assert_eq!(standby.header("Component-Lease-Valid-For-Ms"), Some("0"));
    for agent in [&first, &second] {
        assert_eq!(agent.ask("/readyz").unwrap().status, 200, "a standby is ready too");
        assert_eq!(agent.ask("/livez").unwrap().status, 200);
    }
}

#[test]
fn the_pods_name_and_uid_become_the_holder() {
    let rig = Rig::new();
    let address = free_address();
    let mut command = program();
    command
        .args(["agent", "--component", "c", "--database-url", &rig.url(), "--listen", &address.to_string()])
        .env("POD_NAME", "discovery-7d4b9c-x2x1z")
        .env("POD_UID", "8b7e12c0-1111-2222-3333-444444444444");
    let agent = Running::start(command, rig.path("pod.log"), address);
    let me = agent.leads().json()["self"].as_str().unwrap().to_owned();
    assert!(me.starts_with("discovery-7d4b9c-x2x1z_8b7e12c0_"), "{me}");
}

#[test]
fn no_promise_that_was_given_out_outlives_the_release() {
    let rig = Rig::new();
    let mut first = rig.agent("first", &[]);
    first.leads();
    let second = rig.agent("second", &[]);
    second.sees(1);
    let before = now();
    let promised = first.ask("/leader").unwrap().json()["valid_for_ms"].as_u64().unwrap();
    let until = before + Duration::from_millis(promised);
    first.signal(Signal::TERM);
    assert_eq!(second.leads().version(), 2);
    assert!(now() >= until, "the next leader began while the last promise still held");
    assert!(now() - before < TTL, "released, not expired");
    assert_eq!(first.exit_code(), 0);
}

#[test]
fn an_agent_that_was_stopped_beyond_its_term_says_503_at_the_first_ask() {
    let rig = Rig::new();
    let first = rig.agent("first", &[]);
    first.leads();
    let second = rig.agent("second", &[]);
    second.sees(1);
    rig.freeze(&first);
    assert_eq!(second.leads().version(), 2);
    first.signal(Signal::CONT);
    let answer = first.ask("/leader").unwrap();
    assert_eq!((answer.status, answer.json()["valid_for_ms"].as_u64()), (503, Some(0)));
}

#[test]
fn a_database_that_is_away_at_the_start_is_waited_for() {
    let rig = Rig::new();
    let nobody = free_address();
    let url = format!("postgres://me:hunter2@{nobody}/db?sslmode=disable");
    let address = free_address();
    let mut command = program();
    command.args(["agent", "--component", "c", "--database-url", &url, "--listen", &address.to_string()]);
    let mut agent = Running::start(command, rig.path("away.log"), address);
    assert_eq!(agent.stands_by().json()["leader"], false);
    assert_eq!(agent.ask("/readyz").unwrap().status, 200);
    assert_eq!(agent.ask("/livez").unwrap().status, 200);
    until("a line that says so", || agent.log().contains("retrying").then_some(()));
    agent.signal(Signal::TERM);
    assert_eq!(agent.exit_code(), 0);
    assert!(!agent.log().contains("hunter2"), "{}", agent.log());
}

#[test]
fn tables_that_are_missing_are_made_where_that_was_asked_for_and_waited_for_where_not() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    let start = |name: &str, flags: &[&str]| {
        let address = free_address();
        let mut command = program();
        command
            .args(["agent", "--component", "c", "--ttl", "5", "--database-url", &url])
            .args(["--listen", &address.to_string()])
            .args(flags);
        Running::start(command, folder.path().join(name), address)
    };
    let patient = start("patient.log", &[]);
    patient.stands_by();
    until("a line that says what to do", || patient.log().contains("migrate").then_some(()));
    let maker = start("maker.log", &["--migrate", "--first-install"]);
    until("a leader", || {
        [&patient, &maker]
            .iter()
            .any(|agent| agent.ask("/leader").is_some_and(|a| a.status == 200))
            .then_some(())
    });
}

#[test]
fn the_metrics_say_whether_it_leads_and_under_which_version() {
    let rig = Rig::new();
    let agent = rig.agent("first", &[]);
    agent.leads();
    let page = agent.ask("/metrics").unwrap();
    assert_eq!(page.status, 200);
    assert!(page.header("Content-Type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "componentlease_leader{component=\"discovery\"} 1.0",
        "componentlease_term_version{component=\"discovery\"} 1.0",
        "componentlease_takes_total{component=\"discovery\",outcome=\"won\"} 1",
        "componentlease_call_duration_seconds_count{component=\"discovery\",call=\"take\"} 1",
        "componentlease_call_duration_seconds_bucket{le=\"+Inf\",component=\"discovery\",call=\"take\"} 1",
        "# EOF",
    ] {
        assert!(page.body.lines().any(|found| found == line), "no {line} in\n{}", page.body);
    }
    let age = "componentlease_renewal_age_seconds{component=\"discovery\"} ";
    let age = page.body.lines().find_map(|line| line.strip_prefix(age)).unwrap();
    assert!((0.0..5.0).contains(&age.parse::<f64>().unwrap()), "{age}");
}

#[test]
fn a_program_that_says_that_it_stopped_lets_the_lease_be_released_at_once() {
    // So that a promise is longer than all this takes.
    let rig = Rig::with_ttl(TTL * 6);
    let first = rig.agent("first", &["--stop-grace", "9"]);
    first.leads();
    let second = rig.agent("second", &["--stop-grace", "9"]);
    second.sees(1);
    let promised = first.ask("/leader").unwrap().json()["valid_for_ms"].as_u64().unwrap();
    assert!(promised > 5000, "{promised}");
    assert_eq!(post(first.address, "/stopped?version=1").unwrap().status, 409, "it still leads");
    let asked = now();
    first.signal(Signal::TERM);
    until("the end of the term", || {
        first.ask("/leader").is_none_or(|answer| answer.status != 200).then_some(())
    });
    for wrong in ["/stopped", "/stopped?version=2", "/stopped?version=x"] {
        let status = post(first.address, wrong).unwrap().status;
        assert!((400..500).contains(&status), "{wrong}: {status}");
    }
    assert_eq!(post(first.address, "/stopped?version=1").unwrap().status, 204);
    assert_eq!(second.leads().version(), 2);
    assert!(now() - asked < Duration::from_millis(promised), "the promise was not waited for");
}
