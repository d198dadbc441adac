use super::super::fixtures::*;
use super::super::observed::DesiredService;
use super::super::pod::{Requirement, Selector};
use super::*;

fn lease(requirement: Requirement, managed: bool) -> Desired {
    let service = DesiredService { name: "web".into(), managed, ..DesiredService::default() };
    Desired {
        selector: Selector::new(vec![requirement]).unwrap(),
        service: Some(service),
        ..observed(held_by("a", 1), Vec::new()).desired
    }
}

fn of(values: &[&str]) -> Requirement {
    Requirement::In("app".into(), values.iter().map(|value| (*value).to_owned()).collect())
}

#[test]
fn a_managed_service_that_cannot_say_which_pods_shares_the_key_with_nobody() {
    for (one, other, shares) in [
        (of(&["a"]), of(&["b"]), false),
        (of(&["a", "c"]), of(&["b", "d"]), true),
        (of(&["a"]), of(&["b", "d"]), true),
        (of(&["a"]), Requirement::NotIn("app".into(), vec!["a".into()]), true),
        (Requirement::Exists("a".into()), Requirement::Exists("b".into()), true),
    ] {
        let (one, other) = (lease(one, true), lease(other, true));
        assert_eq!(shared(&one, &other, [], &[]).is_some(), shares, "{:?}", other.selector);
        assert_eq!(shared(&other, &one, [], &[]).is_some(), shares, "{:?}", other.selector);
    }
    let (one, mut other) = (lease(of(&["a", "c"]), true), lease(of(&["b"]), false));
    assert!(shared(&one, &other, [], &[]).is_some());
    (other.labels.leader, other.labels.standby) = ("primary".into(), "secondary".into());
    assert_eq!(shared(&one, &other, [], &[]), None, "other values under the same key");
}

#[test]
fn a_service_that_somebody_made_is_judged_by_the_pods_that_it_would_reach() {
    let (one, other) = (lease(of(&["a"]), false), lease(of(&["b"]), false));
    let pods = ["a", "b"].map(|app| strings(&[("app", app), ("team", "t")]));
    for (selector, pods, shares) in [
        (strings(&[(KEY, "leader")]), &pods[..], true),
        (strings(&[(KEY, "standby")]), &pods[..], true),
        (strings(&[(KEY, "leader"), ("team", "t")]), &pods[..], true),
        (strings(&[(KEY, "leader"), ("app", "a")]), &pods[..], false),
        (strings(&[(KEY, "other")]), &pods[..], false),
        (strings(&[(KEY, "leader")]), &pods[..1], false),
        (strings(&[("team", "t")]), &pods[..], false),
    ] {
        let found = shared(&one, &other, [("theirs", &selector)], pods);
        assert_eq!(found.is_some(), shares, "{selector:?} {pods:?}");
    }
}

/// What lease `web` says of a Service with this selector, where `pods` are its candidates and the first one leads.
fn judged(selector: &[(&str, &str)], pods: &[Pod]) -> Result<(), Mismatch> {
    let desired = observed(held_by("a", 1), Vec::new()).desired;
    let service = SeenService { selector: strings(selector), ..SeenService::default() };
    reaches_the_leader(&desired, &service, pods.first(), pods)
}

#[test]
fn a_service_is_right_if_it_reaches_the_leader_alone_whatever_pods_carry_now() {
    // Not labelled yet, the wrong way round, or a follower with a label that somebody else put.
    let bare = [pod("a").label("tier", "db"), pod("b")];
    let swapped = [pod("a").label("tier", "db").marked("standby", 1), pod("b").marked("leader", 1)];
    let foreign = [pod("a").label("tier", "db").marked("leader", 1), pod("b").marked("leader", 1)];
    for pods in [&bare, &swapped, &foreign] {
        for selector in [
            &[(KEY, "leader")][..],
            &[(KEY, "leader"), ("app", "web")],
            // The others need not carry it.
            &[(KEY, "leader"), ("tier", "db")],
        ] {
            assert_eq!(judged(selector, pods), Ok(()), "{selector:?} {pods:?}");
        }
    }
}

#[test]
fn a_service_that_reaches_somebody_else_or_not_the_leader_is_said_with_what_to_change() {
    let three = [pod("a").label("role", "leader"), pod("b").label("tier", "db"), pod("c")];
    let many: Vec<Pod> = ["a", "b", "c", "d", "e"].map(pod).into();
    let none: [Pod; 0] = [];
    for (selector, pods, wrong, right) in [
        // Followers too.
        (&[("app", "web")][..], &three[..], "reaches pods a, b, c whether they lead or not", "add that to"),
        (&[("app", "web")], &many, "reaches pods a, b, c and 2 more whether they lead", "add that to"),
        // Nobody but the leader, and that only until another one leads.
        (&[("app", "web")], &three[..1], "reaches pod a whether it leads or not", "add that to its selector"),
        (&[("role", "leader")], &three, "reaches pod a whether it leads or not", "add that to its selector"),
        (&[("tier", "db")], &three, "reaches pod b whether it leads or not", "add that to its selector"),
        (
            &[("app", "web")],
            &none,
            "does not select componentlease.io/web=leader",
            "add that to its selector",
        ),
        // Nobody.
        (
            &[("role", "primary")],
            &three,
            "selects role=primary, which pod a",
            "select componentlease.io/web=leader instead",
        ),
        (
            &[("web", "leader")],
            &three,
            "which pod a does not carry",
            "select componentlease.io/web=leader instead",
        ),
        (&[(KEY, "primary")], &three, "so it reaches no pod", "change that to componentlease.io/web=leader"),
        (&[(KEY, "standby"), ("app", "x")], &three, "so it reaches no pod", "change that to"),
        (&[], &three, "has no selector", "give it a selector with componentlease.io/web=leader"),
        // Followers alone.
        (&[(KEY, "standby")], &three, "reaches pods a, b, c only while they do not lead", "change that to"),
        (&[(KEY, "standby"), ("tier", "db")], &three, "pod b only while it does not lead", "change that to"),
        // Not the leader, because of another label.
        (
            &[(KEY, "leader"), ("tier", "db")],
            &three,
            "pod a does not carry that",
            "remove tier=db from its selector, or add it to",
        ),
        (
            &[(KEY, "leader"), ("app", "old"), ("tier", "db")],
            &three,
            "selects app=old,tier=db beside",
            "remove app=old,tier=db",
        ),
    ] {
        let mismatch = judged(selector, pods).unwrap_err();
        let said = mismatch.explained("svc", &scheme(KEY, "leader"));
        for piece in [wrong, right, "Service svc "] {
            assert!(said.contains(piece), "{piece:?} in {said:?} for {selector:?}");
        }
    }
}

#[test]
fn a_name_of_a_host_reaches_no_pod_whatever_it_selects_and_readiness_changes_nothing() {
    let desired = observed(held_by("a", 1), Vec::new()).desired;
    let pods = [pod("a"), pod("b")];
    let selector = strings(&[(KEY, "leader")]);
    let external = SeenService { external_name: true, selector: selector.clone(), ..SeenService::default() };
    let mismatch = reaches_the_leader(&desired, &external, pods.first(), &pods).unwrap_err();
    let said = mismatch.explained("svc", &desired.labels);
    assert!(
        said.contains("is of type ExternalName") && said.contains("change its type to ClusterIP"),
        "{said}"
    );
    for (selector, right) in [(selector, true), (strings(&[("app", "web")]), false)] {
        let unready = SeenService { publishes_unready: true, selector, ..SeenService::default() };
        assert_eq!(reaches_the_leader(&desired, &unready, pods.first(), &pods).is_ok(), right);
    }
}

#[test]
fn while_nobody_leads_a_service_is_wrong_only_if_it_would_reach_no_candidate() {
    let desired = observed(held_by("a", 1), Vec::new()).desired;
    let pods = [pod("a"), pod("b").label("tier", "db")];
    for (value, right) in [("db", true), ("cache", false)] {
        let selector = strings(&[(KEY, "leader"), ("tier", value)]);
        let service = SeenService { selector, ..SeenService::default() };
        assert_eq!(reaches_the_leader(&desired, &service, None, &pods).is_ok(), right, "{value}");
        assert!(reaches_the_leader(&desired, &service, None, []).is_ok(), "no pod speaks against it");
    }
}
