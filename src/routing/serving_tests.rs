//! Whether users get answers, and how often it is said anew.

use super::super::conditions::{ConditionType, Reason, Truth};
use super::super::fixtures::*;
use super::super::observed::{DesiredService, RowSight, ServicePort};
use super::super::outcome::Outcome;
use super::super::report::report;
use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// `b` leads version 7 and is labelled; Service `web` leads to it by port `http`.
fn served() -> Observed {
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 7)];
    let mut o = Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) };
    o.desired.service = Some(DesiredService { name: "web".into(), ..DesiredService::default() });
    let http = ServicePort {
        name: Some("http".into()),
        port: 80,
        target: Some("web-http".into()),
        protocol: "TCP".into(),
        app_protocol: None,
    };
    let selector = strings(&[(KEY, "leader")]);
    o.service = ServiceSight::Exists(SeenService { selector, ports: vec![http], ..SeenService::default() });
    o.endpoints = Ok(vec![endpoint("b")]);
    o
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint { pod: pod(name).uid, ready: true, draining: false, ports: vec!["http".into()] }
}

fn judged(o: &Observed) -> Option<(Reason, String)> {
    unserved(o, &plan(o)).map(|unserved| (unserved.reason, unserved.why))
}

fn because(o: &Observed) -> (Reason, String) {
    judged(o).expect("it is not served")
}

/// What `Routed` and `Ready` say by that.
fn told(o: &Observed) -> [(Truth, Reason); 2] {
    let plan = plan(o);
    let outcome = Outcome { unserved: unserved(o, &plan), ..Outcome::default() };
    let status = report(o, &plan, &outcome);
    [ConditionType::Routed, ConditionType::Ready].map(|kind| {
        let condition = status.condition(kind).unwrap();
        (condition.status, condition.reason)
    })
}

#[test]
fn a_leader_with_a_ready_endpoint_serves_and_so_does_a_ready_one_without_a_service() {
    assert_eq!(judged(&served()), None);
    assert_eq!(told(&served()), [(Truth::True, Reason::LabelApplied), (Truth::True, Reason::LeaderRouted)]);
    let mut alone = served();
    alone.desired.service = None;
    alone.endpoints = Ok(vec![]);
    assert_eq!(judged(&alone), None);
}

#[test]
fn a_leader_that_is_not_ready_does_not_serve_whatever_its_endpoint_says() {
    let mut o = served();
    o.pods.as_mut().unwrap()[1].unready = Some("it is still initialising".into());
    let not_ready = (Truth::False, Reason::LeaderNotReady);
    assert_eq!(told(&o), [not_ready, not_ready]);
    assert_eq!(because(&o).1, "pod b leads, but is not ready: it is still initialising");
    o.desired.service = None;
    assert_eq!(because(&o).0, Reason::LeaderNotReady);
    // A follower may be as unready as it likes.
    let mut o = served();
    o.pods.as_mut().unwrap()[0].unready = Some("no".into());
    assert_eq!(judged(&o), None);
}

#[test]
fn without_an_endpoint_of_the_leader_for_each_port_nobody_is_reached() {
    let none = Observed { endpoints: Ok(vec![]), ..served() };
    assert_eq!(told(&none), [(Truth::False, Reason::NoEndpoint); 2]);
    let other = Observed { endpoints: Ok(vec![endpoint("a")]), ..served() };
    assert_eq!(because(&other).0, Reason::NoEndpoint);
    let by_name = Endpoint { pod: "b".into(), ..endpoint("b") };
    assert_eq!(judged(&Observed { endpoints: Ok(vec![by_name]), ..served() }), None);
    let portless = Endpoint { ports: vec![], ..endpoint("b") };
    let mut portless = Observed { endpoints: Ok(vec![portless]), ..served() };
    let (reason, why) = because(&portless);
    assert_eq!(reason, Reason::NoEndpoint);
    assert!(why.contains("its port 80 at pod b: name a port of one of its containers web-http"), "{why}");
    let ServiceSight::Exists(seen) = &mut portless.service else { panic!("it exists") };
    seen.ports[0].target = Some("8080".into());
    assert!(because(&portless).1.ends_with("its port 80 at pod b yet"), "a number needs no name");
    let ServiceSight::Exists(seen) = &mut portless.service else { panic!("it exists") };
    seen.ports.clear();
    assert_eq!(judged(&portless), None, "a headless Service needs no ports");
}

#[test]
fn a_managed_service_that_is_being_made_has_no_endpoint_and_a_missing_one_is_said_in_its_own_words() {
    let mut o = Observed { service: ServiceSight::Missing, ..served() };
    assert_eq!(told(&o), [(Truth::False, Reason::ServiceMissing); 2]);
    o.desired.service.as_mut().unwrap().managed = true;
    assert_eq!(told(&o), [(Truth::False, Reason::NoEndpoint); 2]);
    let forbidden = Observed { service: ServiceSight::Unknown("no".into()), ..served() };
    assert_eq!(told(&forbidden), [(Truth::Unknown, Reason::Forbidden); 2]);
}

#[test]
fn an_endpoint_that_is_not_ready_serves_only_while_its_pod_ends_and_a_proxy_leads_to_it() {
    let unready = Endpoint { ready: false, ..endpoint("b") };
    let mut o = Observed { endpoints: Ok(vec![unready.clone()]), ..served() };
    assert_eq!(because(&o).0, Reason::LeaderNotReady);
    o.endpoints = Ok(vec![Endpoint { draining: true, ..unready.clone() }]);
    assert_eq!(judged(&o), None);
    let ServiceSight::Exists(seen) = &mut o.service else { panic!("it exists") };
    seen.headless = true;
    assert_eq!(because(&o).0, Reason::LeaderNotReady);
    // One address family is enough.
    o.endpoints = Ok(vec![unready, endpoint("b")]);
    assert_eq!(judged(&o), None);
}

#[test]
fn endpoints_that_may_not_be_listed_leave_it_unknown() {
    let o = Observed { endpoints: Err("may not list endpointslices".into()), ..served() };
    assert_eq!(told(&o), [(Truth::Unknown, Reason::Forbidden); 2]);
}

#[test]
fn with_the_database_away_a_leader_that_does_not_serve_is_said_all_the_same() {
    let o = Observed { store: down(), now: S(999), endpoints: Ok(vec![]), ..served() };
    assert_eq!(told(&o), [(Truth::False, Reason::NoEndpoint); 2]);
    let o = Observed { store: down(), now: S(999), ..served() };
    assert_eq!(
        told(&o),
        [(Truth::True, Reason::LabelApplied), (Truth::Unknown, Reason::DatabaseUnreachable)]
    );
}

#[test]
fn of_nobody_who_leads_nothing_is_said() {
    let o = Observed { row: RowSight::Seen { row: Some(row("", 7)), since: S(95) }, ..served() };
    assert_eq!(judged(&Observed { endpoints: Ok(vec![]), ..o }), None);
}

#[expect(clippy::unnecessary_wraps, reason = "what is seen is compared with what is said")]
fn not_ready() -> Option<Unserved> {
    Some(Unserved { reason: Reason::LeaderNotReady, why: "no".into() })
}

#[expect(clippy::unnecessary_wraps, reason = "what is seen is compared with what is said")]
fn no_endpoint() -> Option<Unserved> {
    Some(Unserved { reason: Reason::NoEndpoint, why: "none yet".into() })
}

#[test]
fn in_a_handover_nothing_is_held_back() {
    let mut steady = Steady::default();
    for term in [7, 8] {
        for (at, seen) in [(0, no_endpoint()), (100, None), (200, not_ready())] {
            assert_eq!(steady.say(("uid", term), seen.clone(), MS(at)), (seen, None), "{at}");
        }
    }
    // Another pod of the same term, as where a foreign program goes on in a new pod.
    assert_eq!(steady.say(("other", 8), None, MS(300)), (None, None));
}

#[test]
fn what_has_recovered_before_must_last_before_it_counts_again() {
    let mut steady = Steady::default();
    let mut say = |seen, at| steady.say(("uid", 7), seen, MS(at));
    assert_eq!(say(not_ready(), 0), (not_ready(), None));
    assert_eq!(say(None, 100), (None, None), "the first time it counts at once");
    assert_eq!(say(not_ready(), 200), (not_ready(), None), "bad news does so always");
    let until = MS(300) + STEADY;
    assert_eq!(say(None, 300), (not_ready(), Some(until)));
    assert_eq!(say(None, 5_299), (not_ready(), Some(until)));
    assert_eq!(say(None, 5_300), (None, None));
    assert_eq!(say(None, 5_400), (None, None));
}

#[test]
fn an_endpoint_that_flips_ten_times_a_second_is_said_to_be_not_ready_and_said_once() {
    let mut steady = Steady::default();
    let mut changes = Vec::new();
    for tick in 0..600 {
        let seen = [None, not_ready(), no_endpoint()][tick % 3].clone();
        let (said, _) = steady.say(("uid", 7), seen, MS(100 * tick as u64));
        if changes.last() != Some(&said) {
            changes.push(said);
        }
    }
    assert_eq!(changes, [None, not_ready(), None, not_ready()], "in a minute");
}

#[test]
fn however_it_flips_what_is_said_changes_at_most_twice_in_five_seconds() {
    let (mut said, mut changes) = (None, Vec::new());
    let mut steady = Steady::default();
    let mut random = fastrand::Rng::with_seed(7);
    let mut now = MS(0);
    for _ in 0..20_000 {
        now += MS(random.u64(1..8_000));
        let seen = [None, None, not_ready(), no_endpoint()][random.usize(0..4)].clone();
        let (says, again) = steady.say(("uid", 7), seen.clone(), now);
        assert!(says == seen || again.is_some_and(|at| at > now), "it is looked at again");
        if says != said {
            said = says;
            changes.push(now);
        }
    }
    // The first recovery of a term is free.
    let quick = changes.windows(3).skip(3).filter(|all| all[2] - all[0] < STEADY).count();
    assert!(changes.len() > 1_000 && quick == 0, "{quick} of {}", changes.len());
}
