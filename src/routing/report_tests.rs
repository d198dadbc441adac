//! What the status says of each situation, down to the sentence that tells what to do.

use super::super::decide::{Decision, decide};
use super::super::fixtures::*;
use super::super::floor::{FloorSight, Remedy};
use super::super::observed::{Claim, DesiredService, SeenService, ServiceSight};
use super::super::pod::Pod;
use super::super::split_brain::Belief;
use super::*;
use crate::election::row::LeaseRow;

/// The status of this view when everything that was planned has been done.
fn said(o: &Observed) -> Status {
    report(o, &plan(o), &Outcome::default())
}

/// A condition as people see it: its status, its reason, its message.
fn of(status: &Status, kind: ConditionType) -> (Truth, Reason, String) {
    let found: Vec<_> = status.conditions.iter().filter(|condition| condition.kind == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {:?}", status.conditions);
    (found[0].status, found[0].reason, found[0].message.clone())
}

fn short(status: &Status, kind: ConditionType) -> (Truth, Reason) {
    let (truth, reason, _) = of(status, kind);
    (truth, reason)
}

/// Three candidates; `b` leads version 7, is labelled, and the last status says so.
fn led() -> Observed {
    let pods =
        vec![pod("a").marked("standby", 7), pod("b").marked("leader", 7), pod("c").marked("standby", 7)];
    Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) }
}

fn served(managed: bool, sight: ServiceSight) -> Observed {
    let mut o = led();
    o.desired.service = Some(DesiredService { name: "web-svc".into(), managed, ..DesiredService::default() });
    o.service = sight;
    o
}

fn selecting(ours: bool, pairs: &[(&str, &str)]) -> ServiceSight {
    ServiceSight::Exists(SeenService { ours, selector: strings(pairs), ..SeenService::default() })
}

#[test]
fn when_all_is_well_every_condition_is_true_and_the_row_is_told_as_it_is() {
    let row = LeaseRow { lease_time: 51_000, renew_time: 58_000, ttl: 12, ..held_by("b", 7) };
    let o = Observed { row: RowSight::Seen { row: Some(row.clone()), since: S(95) }, ..led() };
    let status = said(&o);
    let kinds: Vec<_> = status.conditions.iter().map(|c| (c.kind, c.status)).collect();
    assert_eq!(
        kinds,
        [
            (ConditionType::Ready, Truth::True),
            (ConditionType::LeaderElected, Truth::True),
            (ConditionType::HolderAccepted, Truth::True),
            (ConditionType::Routed, Truth::True),
            (ConditionType::DatabaseReachable, Truth::True),
            (ConditionType::Stalled, Truth::False),
        ],
        "and nothing is said of a regression that there is not"
    );
    assert_eq!((status.holder.clone(), status.version), (Some(row.holder), 7));
    assert_eq!((status.lease_time, status.renew_time, status.ttl), (Some(51_000), Some(58_000), Some(12)));
    assert_eq!((status.candidates, status.floor, status.transitions), (3, 7, 4));
    assert_eq!(status.observed_generation, 3);
    assert_eq!(status.holder_pod.map(|pod| pod.name).as_deref(), Some("b"));
    assert_eq!(status.applied, Some(o.desired.labels));
}

#[test]
fn a_new_term_is_counted_once_and_raises_the_floor() {
    let o = Observed { memory: remembers("a", 6), ..led() };
    let status = said(&o);
    assert_eq!((status.transitions, status.floor), (5, 7));
    let again = said(&Observed { memory: status.remembered(), ..o });
    assert_eq!(again, status, "a status that is read back is not written again");
}

#[test]
fn a_released_and_an_expired_lease_are_told_apart() {
    let released = said(&Observed { memory: remembers("b", 7), ..observed(row("", 7), vec![pod("b")]) });
    assert_eq!(released.holder, None);
    let (truth, reason, message) = of(&released, ConditionType::LeaderElected);
    assert_eq!((truth, reason), (Truth::False, Reason::Vacant));
    assert!(message.contains("released"), "{message}");
    assert_eq!(short(&released, ConditionType::Ready), (Truth::False, Reason::Vacant));

    let expired = said(&Observed { now: S(106), ..led() });
    assert_eq!(expired.holder.clone(), Some(held_by("b", 7).holder));
    let (truth, reason, message) = of(&expired, ConditionType::LeaderElected);
    assert_eq!((truth, reason), (Truth::False, Reason::Expired));
    assert!(message.contains("b_bbbbbbbb_0badcafe stopped renewing version 7"), "{message}");
    assert_eq!(short(&expired, ConditionType::HolderAccepted), (Truth::False, Reason::NoLeader));
    assert_eq!(expired.holder_pod, None);
}

#[test]
fn a_component_that_nobody_ever_took_says_so_and_has_no_row_to_tell() {
    let o = observed(row("", 0), vec![pod("a"), pod("c")]);
    let status = said(&Observed { row: RowSight::Seen { row: None, since: S(95) }, ..o });
    let (_, _, message) = of(&status, ConditionType::LeaderElected);
    assert!(message.contains("has ever taken"), "{message}");
    assert_eq!((status.version, status.candidates), (0, 2));
    assert_eq!((status.ttl, status.lease_time, status.renew_time), (None, None, None));
}

#[test]
fn before_the_row_was_seen_nothing_that_was_known_is_forgotten() {
    let never = Observed { row: RowSight::Never { since: S(95) }, ..led() };
    for (store, reason, says) in [
        (StoreSight::Answers, Reason::NotYetKnown, "has not been seen yet"),
        (down(), Reason::DatabaseUnreachable, "has not answered since the controller started"),
    ] {
        let status = said(&Observed { store, ..never.clone() });
        assert_eq!((status.version, status.floor), (7, 7));
        assert_eq!(status.holder, Some(held_by("b", 7).holder));
        assert_eq!(status.holder_pod.as_ref().map(|pod| pod.name.as_str()), Some("b"));
        for kind in [ConditionType::LeaderElected, ConditionType::HolderAccepted, ConditionType::Routed] {
            let (truth, why, message) = of(&status, kind);
            assert_eq!((truth, why), (Truth::Unknown, reason), "{kind}");
            assert!(message.contains(says), "{kind}: {message}");
        }
    }
}

#[test]
fn with_the_database_down_and_labels_kept_it_is_unknown_and_not_untrue_whether_all_is_well() {
    let mut o = Observed { store: down(), now: S(999), ..led() };
    let kept = said(&o);
    assert_eq!(short(&kept, ConditionType::DatabaseReachable), (Truth::False, Reason::DatabaseUnreachable));
    let (_, _, message) = of(&kept, ConditionType::DatabaseReachable);
    assert_eq!(message, "no route", "what the database said, word by word");
    assert_eq!(short(&kept, ConditionType::LeaderElected), (Truth::Unknown, Reason::DatabaseUnreachable));
    assert_eq!(short(&kept, ConditionType::Routed), (Truth::True, Reason::LabelApplied));
    assert_eq!(short(&kept, ConditionType::Ready), (Truth::Unknown, Reason::DatabaseUnreachable));
    let (_, _, message) = of(&kept, ConditionType::Ready);
    assert!(message.contains("held version 7 when the database last answered"), "{message}");

    o.desired.on_database_unreachable = OnDatabaseUnreachable::Remove;
    let removed = said(&o);
    assert_eq!(short(&removed, ConditionType::Ready), (Truth::False, Reason::Expired));
}

#[test]
fn a_database_that_cannot_be_used_is_told_from_one_that_is_away() {
    let wrong = StoreSight::Misconfigured("table too narrow; widen it".into());
    let status = said(&Observed { store: wrong, ..led() });
    let (truth, reason, message) = of(&status, ConditionType::DatabaseReachable);
    assert_eq!((truth, reason), (Truth::False, Reason::DatabaseMisconfigured));
    assert_eq!(message, "table too narrow; widen it");
    assert_eq!(short(&status, ConditionType::Ready), (Truth::Unknown, Reason::DatabaseMisconfigured));
    assert_eq!(short(&status, ConditionType::LeaderElected).0, Truth::True, "its lease has not run out");
}

#[test]
fn a_version_below_the_floor_is_said_as_long_as_it_is_below_and_the_floor_stays() {
    let mut o = Observed { row_confirmed: true, ..led() };
    o.memory.floor = 70;
    let status = said(&o);
    let (truth, reason, message) = of(&status, ConditionType::VersionRegressed);
    assert_eq!((truth, reason), (Truth::True, Reason::VersionBelowFloor));
    assert!(message.contains("version 7, but 70 has been seen"), "{message}");
    assert_eq!((status.version, status.floor), (7, 70));
    assert_eq!(short(&status, ConditionType::Ready).0, Truth::True, "it is said beside, and routes on");

    o.memory.floor = 7;
    assert!(
        said(&o).conditions.iter().all(|c| c.kind != ConditionType::VersionRegressed),
        "equal is no less"
    );
    o.memory.floor = 70;
    o.row = RowSight::Never { since: S(95) };
    assert!(
        said(&o).conditions.iter().all(|c| c.kind != ConditionType::VersionRegressed),
        "of a row that was not seen nothing can be said"
    );
}

#[test]
fn a_version_below_the_floor_is_said_with_what_becomes_of_it() {
    let mut o = Observed { row_confirmed: true, ..led() };
    o.memory.floor = 70;
    for (status, exhausted, says) in [
        (Remedy::Nothing, false, "later terms are above that"),
        (Remedy::Nothing, true, "later terms are above that"),
        (Remedy::Epoch(2), false, "an epoch begins"),
        (Remedy::Epoch(2), true, "run `component-lease epoch bump`"),
        (Remedy::Unexplained, false, "make this resource again"),
        (Remedy::NoEpochs, false, "run `component-lease migrate`"),
    ] {
        o.floor = FloorSight { status, annotation: Remedy::Epoch(9), exhausted };
        let said = said(&o);
        let (_, reason, message) = of(&said, ConditionType::VersionRegressed);
        assert_eq!(reason, Reason::VersionBelowFloor);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn what_the_annotation_says_is_told_with_the_remedy_and_never_becomes_the_floor() {
    let mut o = led();
    o.memory.floor_copy = 9_000_000_000_000_000;
    for (annotation, says) in [
        (Remedy::Epoch(2), "until you run `component-lease epoch bump`"),
        (Remedy::Unexplained, "the date explains no version that high: remove the annotation"),
        (Remedy::NoEpochs, "run `component-lease migrate`"),
    ] {
        o.floor = FloorSight { annotation, ..FloorSight::default() };
        let said = said(&o);
        let (truth, reason, message) = of(&said, ConditionType::VersionRegressed);
        assert_eq!((truth, reason), (Truth::True, Reason::VersionBelowAnnotation));
        assert!(message.contains(says) && message.contains("9000000000000000"), "{message}");
        assert_eq!(said.floor, 7, "the row's version");
        assert_eq!(short(&said, ConditionType::Ready).0, Truth::True, "it is said beside, and routes on");
    }
    o.floor = FloorSight::default();
    assert!(said(&o).conditions.iter().all(|c| c.kind != ConditionType::VersionRegressed));
}

#[test]
fn a_row_that_is_gone_is_told_from_one_that_never_was() {
    let mut o = Observed { row_confirmed: true, ..led() };
    o.row = RowSight::Seen { row: None, since: S(95) };
    o.memory.floor = 0;
    assert!(of(&said(&o), ConditionType::LeaderElected).2.contains("ever taken"));
    o.memory.floor = 7;
    assert!(of(&said(&o), ConditionType::LeaderElected).2.contains("the row is gone"));
}

#[test]
fn who_goes_on_claiming_another_term_is_named_beside_the_holder_and_nothing_else_changes() {
    let mut o = led();
    let before = said(&o);
    o.disputed = vec![Belief { holder: "a_1_1f0c9a3d".into(), version: 6 }];
    let after = said(&o);
    let (truth, reason, message) = of(&after, ConditionType::SplitBrain);
    assert_eq!((truth, reason), (Truth::True, Reason::TermDisputed));
    for named in ["a_1_1f0c9a3d", "version 6", "version 7"] {
        assert!(message.contains(named), "{message}");
    }
    assert!(before.conditions.iter().all(|c| c.kind != ConditionType::SplitBrain));
    let others = after.conditions.iter().filter(|c| c.kind != ConditionType::SplitBrain);
    assert!(others.eq(before.conditions.iter()), "it is routed to all the same");
}

#[test]
fn a_ttl_above_what_the_database_allows_is_said_with_both_numbers_and_routes_on() {
    let mut o = led();
    o.desired.ttl = 60;
    let status = said(&o);
    let (truth, reason, message) = of(&status, ConditionType::TtlLimited);
    assert_eq!((truth, reason), (Truth::True, Reason::AboveMaxTtl));
    assert!(message.contains("spec.ttlSeconds is 60") && message.contains("longer than 30 s"), "{message}");
    assert_eq!(short(&status, ConditionType::Ready).0, Truth::True);
    for (ttl, longest) in [(30, Some(30)), (60, None)] {
        o.desired.ttl = ttl;
        o.longest_ttl = longest;
        assert!(said(&o).conditions.iter().all(|c| c.kind != ConditionType::TtlLimited), "{ttl} {longest:?}");
    }
}

#[test]
fn a_version_written_by_hand_does_not_make_every_later_one_look_regressed() {
    let huge = i64::MAX - 1;
    let o = observed(held_by("b", huge), vec![pod("b").marked("leader", huge)]);
    let status = said(&o);
    assert_eq!((status.version, status.floor), (huge, FLOOR_MAX));
}

#[test]
fn a_holder_that_is_no_pod_of_ours_is_rejected_by_name_and_ready_repeats_it() {
    let o = Observed { row: RowSight::Seen { row: Some(held_by("stranger", 8)), since: S(95) }, ..led() };
    let status = said(&o);
    let (truth, reason, message) = of(&status, ConditionType::HolderAccepted);
    assert_eq!((truth, reason), (Truth::False, Reason::HolderRejected));
    assert!(message.contains("stranger_") && message.contains("names no pod of this namespace"), "{message}");
    assert_eq!(of(&status, ConditionType::Ready), (truth, reason, message));
    assert_eq!(short(&status, ConditionType::Routed), (Truth::False, Reason::HolderRejected));
    assert_eq!(short(&status, ConditionType::LeaderElected).0, Truth::True, "it leads all the same");
    assert_eq!(status.holder_pod, None);
}

#[test]
fn of_what_keeps_a_pod_from_being_routed_to_the_most_dangerous_is_said() {
    let mut o = served(false, ServiceSight::Missing);
    o.pods.as_mut().unwrap().push(pod("d").marked("leader", 7));
    let plan = plan(&o);
    assert_eq!(plan.foreign, ["d"]);
    let mut outcome = Outcome {
        strip_failed: vec!["pod d: forbidden".into(), "pod e: timed out".into()],
        stamp_failed: vec!["pod c: timed out".into()],
        label_failed: Some("pod b: forbidden".into()),
        ..Outcome::default()
    };
    let routed = |outcome: &Outcome| of(&report(&o, &plan, outcome), ConditionType::Routed);
    assert_eq!(
        routed(&outcome),
        (Truth::False, Reason::StripFailed, "pod d: forbidden; pod e: timed out".into())
    );
    outcome.strip_failed.clear();
    assert_eq!(routed(&outcome), (Truth::False, Reason::LabelFailed, "pod b: forbidden".into()));
    outcome.label_failed = None;
    let (truth, reason, message) = routed(&outcome);
    assert_eq!((truth, reason), (Truth::False, Reason::ForeignLabel), "a stamp that failed stops nobody");
    assert!(message.contains("somebody else put the leader label on d"), "{message}");
}

#[test]
fn whatever_failed_is_tried_again_and_told_in_one_line() {
    assert_eq!(Outcome::default().failed(), None);
    assert_eq!(Outcome { conflict: true, ..Outcome::default() }.failed(), None, "that is decided anew");
    let all = Outcome {
        strip_failed: vec!["a".into(), "b".into()],
        stamp_failed: vec!["c".into()],
        label_failed: Some("d".into()),
        service_failed: Some("e".into()),
        service_invalid: Some("f".into()),
        conflict: false,
        unserved: None,
    };
    assert_eq!(all.failed().as_deref(), Some("a; b; c; d; e; f"));
    let stamp = Outcome { stamp_failed: vec!["c".into()], ..Outcome::default() };
    assert_eq!(stamp.failed().as_deref(), Some("c"));
}

#[test]
fn a_service_that_would_reach_the_wrong_pods_is_said_with_what_to_change() {
    for (managed, sight, reason, says) in [
        (false, ServiceSight::Missing, Reason::ServiceMissing, "Service web-svc does not exist; create it"),
        (
            false,
            selecting(false, &[("app", "web")]),
            Reason::ServiceSelectorMismatch,
            "does not select componentlease.io/web=leader",
        ),
        (
            false,
            selecting(false, &[(KEY, "standby")]),
            Reason::ServiceSelectorMismatch,
            "change that to componentlease.io/web=leader",
        ),
        (
            false,
            selecting(false, &[(KEY, "leader"), ("tier", "front")]),
            Reason::ServiceSelectorMismatch,
            "pod b does not carry that",
        ),
        (
            true,
            selecting(false, &[(KEY, "leader")]),
            Reason::ServiceNotOurs,
            "it is left as it is. Delete it",
        ),
    ] {
        let status = said(&served(managed, sight));
        let (truth, why, message) = of(&status, ConditionType::Routed);
        assert_eq!((truth, why), (Truth::False, reason), "{message}");
        assert!(message.contains(says), "{message}");
        assert_eq!(short(&status, ConditionType::Ready), (Truth::False, reason));
    }
    let blind = said(&served(false, ServiceSight::Unknown("may not list services".into())));
    let unknown = (Truth::Unknown, Reason::Forbidden, "may not list services".to_owned());
    assert_eq!(of(&blind, ConditionType::Routed), unknown);
    for (managed, sight) in [
        (false, selecting(false, &[(KEY, "leader"), ("app", "web")])),
        (true, ServiceSight::Missing),
        (true, selecting(true, &[("app", "old")])),
    ] {
        let status = said(&served(managed, sight));
        assert_eq!(short(&status, ConditionType::Routed), (Truth::True, Reason::LabelApplied));
    }
    // What somebody else did to the type of our own is undone.
    let external = SeenService { ours: true, external_name: true, outward: true, ..SeenService::default() };
    let status = said(&served(true, ServiceSight::Exists(external)));
    assert_eq!(short(&status, ConditionType::Routed), (Truth::True, Reason::LabelApplied));
    let selector = strings(&[(KEY, "leader")]);
    let unready = SeenService { publishes_unready: true, selector, ..SeenService::default() };
    let (truth, _, message) = of(&said(&served(false, ServiceSight::Exists(unready))), ConditionType::Routed);
    assert_eq!(truth, Truth::True);
    assert!(message.contains("unset that unless it is meant so"), "{message}");
    let o = served(true, ServiceSight::Missing);
    let failed = Outcome { service_failed: Some("quota exceeded".into()), ..Outcome::default() };
    let status = report(&o, &plan(&o), &failed);
    let told = (Truth::False, Reason::ServiceFailed, "quota exceeded".to_owned());
    assert_eq!(of(&status, ConditionType::Routed), told);
}

#[test]
fn pods_that_cannot_be_listed_leave_the_election_known_and_the_routing_unknown() {
    let status = said(&Observed { pods: Err("may not list pods; apply rbac.yaml".into()), ..led() });
    assert_eq!(short(&status, ConditionType::LeaderElected), (Truth::True, Reason::Held));
    assert_eq!(short(&status, ConditionType::HolderAccepted), (Truth::Unknown, Reason::Forbidden));
    let (truth, reason, message) = of(&status, ConditionType::Routed);
    assert_eq!((truth, reason), (Truth::Unknown, Reason::Forbidden));
    assert_eq!(message, "may not list pods; apply rbac.yaml");
    assert_eq!(status.holder_pod.map(|pod| pod.name).as_deref(), Some("b"), "as it was recorded");
}

#[test]
fn a_selector_that_matches_no_pod_is_said_whether_or_not_somebody_leads() {
    let finished = || Pod { finished: true, ..pod("a") };
    for row in [held_by("b", 7), row("", 0)] {
        let status = said(&observed(row, vec![finished()]));
        let (truth, reason, message) = of(&status, ConditionType::Routed);
        assert_eq!((truth, reason), (Truth::False, Reason::NoCandidates));
        assert!(message.contains("spec.selector matches no running pod"), "{message}");
        assert_eq!(short(&status, ConditionType::Ready).0, Truth::False);
        assert_eq!(status.candidates, 0);
    }
}

#[test]
fn a_resource_that_came_second_touches_nothing_and_keeps_what_it_had_applied() {
    let mut o = Observed { claim: Claim::Taken("shop/first was first".into()), ..led() };
    o.memory.applied = Some(scheme("componentlease.io/old", "first"));
    o.memory.floor = 41;
    assert!(matches!(decide(&o), Decision::Conflict(by) if by == "shop/first was first"));
    let status = report_conflict(&o, "shop/first was first");
    assert_eq!((status.holder.as_deref(), status.version), (None, 0));
    assert!(status.remembered().in_conflict);
    assert_eq!((status.floor, status.transitions, status.candidates), (41, 4, 0));
    assert_eq!(status.applied, o.memory.applied, "so that it can be taken off the pods one day");
    let first = (Truth::False, Reason::Conflict, "shop/first was first".to_owned());
    assert_eq!(of(&status, ConditionType::Ready), first);
    for kind in [ConditionType::LeaderElected, ConditionType::HolderAccepted, ConditionType::Routed] {
        assert_eq!(short(&status, kind), (Truth::Unknown, Reason::Conflict));
    }
    assert_eq!(short(&status, ConditionType::DatabaseReachable).0, Truth::True, "the database is all right");
}

#[test]
fn another_database_is_said_and_what_was_known_of_the_right_one_stays() {
    let why = "the database that answers has the UUID uuid-b";
    let mut o = Observed { memory: remembers("b", 7), store: StoreSight::Another(why.into()), ..led() };
    o.database = Some("uuid-b".into());
    for policy in [OnDatabaseUnreachable::Keep, OnDatabaseUnreachable::Remove] {
        o.desired.on_database_unreachable = policy;
        let status = said(&o);
        assert_eq!((status.database.as_deref(), status.version, status.floor), (Some("uuid-a"), 7, 7));
        assert_eq!(
            (status.holder, status.holder_pod),
            (o.memory.holder.clone(), o.memory.holder_pod.clone())
        );
        for (kind, truth) in [
            (ConditionType::DatabaseChanged, Truth::True),
            (ConditionType::DatabaseReachable, Truth::False),
            (ConditionType::LeaderElected, Truth::Unknown),
            (ConditionType::Ready, Truth::Unknown),
        ] {
            let condition = status.conditions.iter().find(|c| c.kind == kind).expect("it is said");
            assert_eq!((condition.status, condition.reason), (truth, Reason::AnotherDatabase), "{kind}");
            assert!(condition.message.contains(why), "{}", condition.message);
        }
        let regressed = status.conditions.iter().any(|c| c.kind == ConditionType::VersionRegressed);
        assert!(!regressed, "another database has not lost anything");
    }
    // Accepted: what is there now is what is known from then on.
    let status = said(&Observed { store: StoreSight::Answers, ..o });
    assert_eq!(status.database.as_deref(), Some("uuid-b"));
}
