//! A resource in every state, as the rules make it: `tests/chart/states.json` is what GitOps tools are asked about
//! (`tests/chart/gitops.rs`). `UPDATE=1` writes it anew.

use serde_json::{Value, json};

use super::definition::pending;
use super::v1alpha1::ComponentLease;
use crate::routing::conditions::{ConditionType, Reason};
use crate::routing::fixtures::*;
use crate::routing::floor::{FloorSight, Remedy};
use crate::routing::observed::{
    Claim, DesiredService, Endpoint, Observed, OnDatabaseUnreachable, Quarantined, RowSight, SeenService,
    ServiceSight, Status, StoreSight,
};
use crate::routing::outcome::Outcome;
use crate::routing::pause::{Pause, PauseSight, pauser};
use crate::routing::report::{report, report_conflict, report_invalid};
use crate::routing::serving::unserved;
use crate::routing::split_brain::Belief;

/// `b` leads version 7, is labelled, and has a ready endpoint in Service `web`.
fn led() -> Observed {
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 7)];
    let mut o = Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) };
    o.desired.service =
        Some(DesiredService { name: "web".into(), managed: true, ..DesiredService::default() });
    let selector = strings(&[(KEY, "leader"), ("app", "web")]);
    o.service = ServiceSight::Exists(SeenService { ours: true, selector, ..SeenService::default() });
    o.endpoints = Ok(vec![Endpoint { pod: pod("b").uid, ready: true, ..Endpoint::default() }]);
    o
}

fn said(o: &Observed, outcome: &Outcome) -> Status {
    let plan = plan(o);
    report(o, &plan, &Outcome { unserved: unserved(o, &plan), ..outcome.clone() })
}

fn seen(mut o: Observed, change: impl FnOnce(&mut Observed)) -> Status {
    change(&mut o);
    said(&o, &Outcome::default())
}

fn done(change: impl FnOnce(&mut Outcome)) -> Status {
    let mut outcome = Outcome::default();
    change(&mut outcome);
    said(&led(), &outcome)
}

fn checked(selector: &[(&str, &str)]) -> impl FnOnce(&mut Observed) {
    let seen = SeenService { selector: strings(selector), ..SeenService::default() };
    move |o| {
        o.desired.service.as_mut().unwrap().managed = false;
        o.service = ServiceSight::Exists(seen);
    }
}

fn paused(by: &str) -> PauseSight {
    PauseSight::Paused(Pause { by: by.to_owned(), reason: "backup".to_owned() })
}

/// What the controller says of each state.
fn states() -> Vec<(&'static str, Status)> {
    let why = || Some("the API server's words".to_owned());
    let free = |o: &mut Observed| o.row = RowSight::Seen { row: Some(row("", 7)), since: S(95) };
    let scaled = || Observed { row_confirmed: true, pods: Ok(vec![]), ..led() };
    let invalid = |reason, why: &str| report_invalid(&remembers("b", 7), 3, Some(10), reason, why);
    vec![
        ("leader routed to", said(&led(), &Outcome::default())),
        ("database away, label kept", seen(led(), |o| (o.store, o.now) = (down(), S(999)))),
        (
            "database away, label removed",
            seen(led(), |o| {
                (o.store, o.now) = (down(), S(999));
                o.desired.on_database_unreachable = OnDatabaseUnreachable::Remove;
            }),
        ),
        ("database cannot be used", seen(led(), |o| o.store = StoreSight::Misconfigured("no table".into()))),
        ("another database", seen(led(), |o| o.store = StoreSight::Another("uuid-b".into()))),
        ("row not seen yet", seen(led(), |o| o.row = RowSight::Never { since: S(95) })),
        ("lease released", seen(led(), free)),
        ("lease expired", seen(led(), |o| o.now = S(106))),
        (
            "quarantine",
            seen(led(), |o| {
                o.now = S(106);
                o.quarantine = Some(Quarantined { until: S(130), told: "2026-11-29T10:00:00Z".into() });
            }),
        ),
        (
            "holder is no candidate",
            seen(led(), |o| {
                o.row = RowSight::Seen { row: Some(held_by("stranger", 8)), since: S(95) };
            }),
        ),
        (
            "leader not ready",
            seen(led(), |o| o.pods.as_mut().unwrap()[1].unready = Some("initialising".into())),
        ),
        ("no endpoint", seen(led(), |o| o.endpoints = Ok(vec![]))),
        ("endpoints may not be read", seen(led(), |o| o.endpoints = Err("forbidden".into()))),
        ("follower cannot be stripped", done(|outcome| outcome.strip_failed.push("pod a: refused".into()))),
        ("leader cannot be labelled", done(|outcome| outcome.label_failed = why())),
        (
            "label put by somebody else",
            seen(led(), |o| {
                o.pods.as_mut().unwrap().push(pod("d").marked("leader", 7));
            }),
        ),
        (
            "Service missing",
            seen(led(), |o| {
                o.desired.service.as_mut().unwrap().managed = false;
                o.service = ServiceSight::Missing;
            }),
        ),
        ("Service reaches others", seen(led(), checked(&[("app", "web")]))),
        (
            "Service of somebody else",
            seen(led(), |o| o.service = ServiceSight::Exists(SeenService::default())),
        ),
        ("Service cannot be written", done(|outcome| outcome.service_failed = why())),
        ("Service refused", done(|outcome| outcome.service_invalid = why())),
        ("no pod matches", seen(scaled(), |o| o.memory.transitions = 0)),
        ("scaled to nothing", seen(scaled(), free)),
        (
            "another resource was first",
            report_conflict(
                &Observed { claim: Claim::Taken(String::new()), ..led() },
                "shop/first was first",
            ),
        ),
        ("invalid spec", invalid(Reason::InvalidSpec, "spec.routing.labelKey")),
        ("component not allowed", invalid(Reason::ComponentNotAllowed, "spec.componentName")),
        (
            "version below the floor",
            seen(led(), |o| {
                (o.memory.floor, o.row_confirmed) = (70, true);
                o.floor = FloorSight { status: Remedy::Epoch(2), ..FloorSight::default() };
            }),
        ),
        ("ttl cut", seen(led(), |o| o.desired.ttl = 60)),
        ("paused, leader routed to", seen(led(), |o| o.pause = paused("ada"))),
        (
            "paused, nobody leads",
            seen(led(), |o| {
                free(o);
                o.pause = paused(&pauser("shop", "web"));
            }),
        ),
        ("split brain", seen(led(), |o| o.disputed = vec![Belief { holder: "a".into(), version: 6 }])),
    ]
}

/// The whole resource, as the API server would show it.
fn resource(state: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "lease-uid", "generation": 3,
            "annotations": { "state": state },
        },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
        "status": status,
    })
}

fn written(status: &Status) -> Value {
    let status = super::status(None, None, status, "2026-11-29T09:00:00Z").unwrap();
    serde_json::to_value(status).unwrap()
}

fn reason_of_ready(resource: &Value) -> Option<&str> {
    let conditions = resource["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == ConditionType::Ready.as_str())?["reason"].as_str()
}

#[test]
fn a_resource_in_every_state_is_kept_for_the_tools_that_judge_it() {
    let mut all = vec![resource("just made", &pending())];
    all.extend(states().iter().map(|(state, status)| resource(state, &written(status))));
    let mut edited = written(&states()[0].1);
    edited["observedGeneration"] = json!(2);
    all.push(resource("spec edited, not seen yet", &edited));
    for resource in &all {
        let lease: Result<ComponentLease, _> = serde_json::from_value(resource.clone());
        assert!(lease.is_ok(), "{lease:?}");
    }
    // What Ready never repeats: it is good news, stands beside it, or comes with something that goes first.
    let elsewhere = [
        Reason::Held,
        Reason::HolderIsCandidate,
        Reason::LabelApplied,
        Reason::DatabaseAnswered,
        Reason::NoEditNeeded,
        Reason::ScaledToZero,
        Reason::NoLeader,
        Reason::NoCandidates,
        Reason::VersionBelowFloor,
        Reason::VersionBelowAnnotation,
        Reason::AboveMaxTtl,
        Reason::TermDisputed,
        Reason::ReleasedByWorkload,
        Reason::PausedBySpec,
        Reason::PausedByOperator,
        Reason::ChangesTooOften,
        // Of a LeaseDatabase.
        Reason::PrimaryRouted,
        Reason::Recorded,
        Reason::Promoting,
        Reason::RecordUnreadable,
        Reason::LeaseUnreadable,
        Reason::AllFollow,
        Reason::MembersMissing,
        Reason::MembersDiffer,
        Reason::EnoughMembers,
        Reason::TooFewMembers,
        Reason::WouldLoseCommits,
    ];
    let of_ready: Vec<_> = all.iter().filter_map(reason_of_ready).collect();
    for reason in Reason::ALL.iter().filter(|reason| !elsewhere.contains(reason)) {
        assert!(of_ready.contains(&reason.as_str()), "no state in which Ready says {reason}: {of_ready:?}");
    }
    for reason in elsewhere {
        assert!(!of_ready.contains(&reason.as_str()), "Ready says {reason}");
    }
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart/states.json");
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "{} is stale: run UPDATE=1 cargo test --lib api::states_tests", file.display());
}
