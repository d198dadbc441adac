//! What waiting heals, what only an edit heals, and what needs neither.

use super::conditions::{ConditionType, Reason, Truth};
use super::fixtures::*;
use super::observed::{DesiredService, Observed, SeenService, ServiceSight, Status};
use super::outcome::Outcome;
use super::report::{report, report_conflict, report_invalid};

fn said(o: &Observed) -> Status {
    report(o, &plan(o), &Outcome::default())
}

fn short(status: &Status, kind: ConditionType) -> (Truth, Reason) {
    let condition = status.condition(kind).unwrap();
    (condition.status, condition.reason)
}

/// `b` leads version 7 and is labelled.
fn led() -> Observed {
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 7)];
    Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) }
}

fn managed(service: ServiceSight, mut o: Observed) -> Observed {
    o.desired.service =
        Some(DesiredService { name: "web".into(), managed: true, ..DesiredService::default() });
    o.service = service;
    o
}

fn of_somebody_else() -> ServiceSight {
    let selector = strings(&[(KEY, "leader")]);
    ServiceSight::Exists(SeenService { selector, ..SeenService::default() })
}

#[test]
fn of_a_workload_that_was_scaled_to_nothing_ready_says_nothing_and_in_doubt_it_is_not_taken_for_one() {
    let scaled = || Observed { memory: remembers("b", 7), ..observed(row("", 7), vec![]) };
    for o in [scaled(), Observed { now: S(999), row: led().row, ..scaled() }] {
        let status = said(&o);
        assert_eq!(short(&status, ConditionType::Routed), (Truth::False, Reason::ScaledToZero));
        assert_eq!(status.condition(ConditionType::Ready), None);
        assert_eq!(short(&status, ConditionType::Stalled).0, Truth::False);
        let again = said(&Observed { memory: status.remembered(), ..o });
        assert_eq!(again, status, "it is not written again");
    }
    let never_led = observed(row("", 0), vec![]);
    let still_held = Observed { row: led().row, ..scaled() };
    let away = Observed { store: down(), ..scaled() };
    let unlisted = Observed { pods: Err("forbidden".into()), ..scaled() };
    let competes = Observed { instances: vec![instance("b")], ..scaled() };
    for o in [never_led, still_held, away, unlisted, competes] {
        assert_ne!(said(&o).condition(ConditionType::Ready).map(|c| c.status), None, "{o:?}");
    }
    let o = managed(of_somebody_else(), scaled());
    assert_eq!(short(&said(&o), ConditionType::Stalled), (Truth::True, Reason::ServiceNotOurs));
    assert_eq!(short(&said(&o), ConditionType::Ready), (Truth::False, Reason::Vacant));
}

#[test]
fn what_only_an_edit_can_heal_is_stalled_and_what_time_may_heal_is_not() {
    let not_ours = said(&managed(of_somebody_else(), led()));
    assert_eq!(short(&not_ours, ConditionType::Stalled), (Truth::True, Reason::ServiceNotOurs));
    let o = managed(ServiceSight::Missing, led());
    let outcome = |invalid: bool| {
        let why = Some("no".to_owned());
        let outcome = Outcome::default();
        if invalid {
            Outcome { service_invalid: why, ..outcome }
        } else {
            Outcome { service_failed: why, ..outcome }
        }
    };
    let invalid = report(&o, &plan(&o), &outcome(true));
    assert_eq!(short(&invalid, ConditionType::Stalled), (Truth::True, Reason::ServiceInvalid));
    assert_eq!(short(&invalid, ConditionType::Routed), (Truth::False, Reason::ServiceInvalid));
    let failed = report(&o, &plan(&o), &outcome(false));
    assert_eq!(short(&failed, ConditionType::Stalled), (Truth::False, Reason::NoEditNeeded));
    let conflict = report_conflict(&led(), "another");
    assert_eq!(short(&conflict, ConditionType::Stalled), (Truth::True, Reason::Conflict));
    let memory = remembers("b", 7);
    let bad = report_invalid(&memory, 4, Some(10), Reason::InvalidSpec, "spec.x");
    assert_eq!(short(&bad, ConditionType::Stalled), (Truth::True, Reason::InvalidSpec));
    assert_eq!((bad.holder, bad.version, bad.floor, bad.observed_generation), (memory.holder, 7, 7, 4));
}
