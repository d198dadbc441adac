use serde_json::{Value, json};

use super::*;
use crate::membership::Whereabouts;
use crate::routing::conditions::{Condition, Reason};
use crate::routing::observed::Place;

fn lease(spec: &Value) -> ComponentLease {
    let mut lease = json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
        "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "generation": 3 },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
    });
    for (key, value) in spec.as_object().unwrap() {
        lease["spec"][key] = value.clone();
    }
    serde_json::from_value(lease).unwrap()
}

fn wanted(spec: &Value) -> Result<Desired, InvalidSpec> {
    desired(&lease(spec), &[])
}

fn refused(spec: &Value) -> String {
    wanted(spec).unwrap_err().to_string()
}

#[test]
fn what_is_left_out_has_its_default() {
    let desired = wanted(&json!({})).unwrap();
    assert_eq!(
        (desired.namespace.as_str(), desired.name.as_str(), desired.uid.as_str()),
        ("shop", "web", "u-1")
    );
    assert_eq!((desired.generation, desired.ttl), (3, 30));
    let (key, leader, standby) =
        ("componentlease.io/web".to_owned(), "leader".to_owned(), "standby".to_owned());
    assert_eq!(desired.labels, LabelScheme { key, leader, standby });
    assert_eq!(desired.on_database_unreachable, Unreachable::Keep);
    assert_eq!((desired.service, desired.holder_pattern), (None, None));
}

#[test]
fn what_is_said_is_meant() {
    let desired = wanted(&json!({
        "ttlSeconds": 5, "holderPattern": "(?P<pod>[-a-z0-9]+)",
        "selector": {
            "matchLabels": { "app": "web" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["a", "b"] },
                { "key": "canary", "operator": "NotIn", "values": ["yes"] },
                { "key": "zone", "operator": "Exists" },
                { "key": "old", "operator": "DoesNotExist" },
            ],
        },
        "routing": {
            "labelKey": "componentlease.io/role", "leaderValue": "on", "standbyValue": "off",
            "onDatabaseUnreachable": "Remove",
            "service": { "name": "web", "policy": "Manage", "headless": true, "labels": { "a": "b" }, "annotations": { "c": "d" }, "ports": [
                { "port": 80 }, { "name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP", "appProtocol": "kubernetes.io/h2c" },
                { "port": 9, "targetPort": 8009, "protocol": "SCTP" },
            ] },
        },
    }))
    .unwrap();
    assert_eq!((desired.ttl, desired.holder_pattern.is_some()), (5, true));
    assert_eq!(desired.on_database_unreachable, Unreachable::Remove);
    assert_eq!((desired.labels.leader.as_str(), desired.labels.standby.as_str()), ("on", "off"));
    let pod =
        |labels: &[(&str, &str)]| labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let matching = [("app", "web"), ("tier", "b"), ("zone", "1")];
    assert!(desired.selector.matches(&pod(&matching)));
    for more in [("app", "other"), ("tier", "c"), ("canary", "yes"), ("old", "")] {
        assert!(!desired.selector.matches(&pod(&[&matching[..], &[more]].concat())), "{more:?}");
    }
    assert!(!desired.selector.matches(&pod(&matching[..2])), "zone must exist");
    let service = desired.service.unwrap();
    let ports: Vec<_> =
        service.ports.iter().map(|p| (p.port, p.target.as_deref().unwrap(), p.protocol.as_str())).collect();
    assert_eq!(
        ports,
        [(80, "80", "TCP"), (53, "dns", "UDP"), (9, "8009", "SCTP")],
        "as the API server defaults them"
    );
    assert!(service.managed && service.headless && service.name == "web");
    let named = &service.ports[1];
    assert_eq!(
        (named.name.as_deref(), named.app_protocol.as_deref()),
        (Some("dns"), Some("kubernetes.io/h2c"))
    );
    assert_eq!(
        (service.labels.get("a").unwrap(), service.annotations.get("c").unwrap()),
        (&"b".into(), &"d".into())
    );
}

#[test]
fn what_cannot_work_is_refused_with_what_to_write() {
    for (spec, pieces) in [
        (json!({ "componentName": "a b" }), &["spec.componentName", "white space"][..]),
        (json!({ "ttlSeconds": 4 }), &["ttlSeconds 4", "5 to 3600"]),
        (json!({ "ttlSeconds": 3601 }), &["ttlSeconds 3601"]),
        (json!({ "ttlSeconds": -1 }), &["ttlSeconds -1"]),
        (json!({ "holderPattern": "(" }), &["spec.holderPattern"]),
        (json!({ "selector": {} }), &["spec.selector is empty"]),
        (
            json!({ "routing": { "labelKey": "example.org/role" } }),
            &["example.org/role", "componentlease.io/", "allowedLabelPrefixes"],
        ),
        (
            json!({ "selector": { "matchLabels": { "componentlease.io/web": "leader" } } }),
            &["componentlease.io/web", "spec.selector"],
        ),
        (
            json!({ "routing": { "labelKey": "componentlease.io/orders_role" } }),
            &["componentlease.io/orders_role", "LeaseDatabase"],
        ),
        (json!({ "routing": { "leaderValue": "x", "standbyValue": "x" } }), &["\"x\"", "differ"]),
    ] {
        let said = refused(&spec);
        for piece in pieces {
            assert!(said.contains(piece), "{piece:?} is missing for {spec}: {said}");
        }
    }
    let mut long = lease(&json!({}));
    long.metadata.name = Some("n".repeat(56));
    assert_eq!(desired(&long, &[]).unwrap_err(), InvalidSpec::NameTooLong("n".repeat(56)));
    long.metadata.name = Some("n".repeat(55));
    assert!(desired(&long, &[]).is_ok());
}

#[test]
fn other_label_prefixes_are_those_that_were_allowed() {
    let theirs = lease(&json!({ "routing": { "labelKey": "example.org/role-web" } }));
    let allowed = |prefixes: &[&str]| {
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        desired(&theirs, &prefixes).is_ok()
    };
    assert!(allowed(&["example.org/"]) && allowed(&["x/", "example.org/role-"]));
    assert!(!allowed(&[]) && !allowed(&["example.org/other-"]) && !allowed(&["org/"]));
    assert!(may_write("componentlease.io/x", &[]) && !may_write("componentlease.iox", &[]));
}

fn with_status(status: &Value, floor: Option<&str>) -> ComponentLease {
    let mut lease = lease(&json!({}));
    lease.metadata.annotations = floor.map(|floor| [(FLOOR_ANNOTATION.to_owned(), floor.to_owned())].into());
    lease.status = serde_json::from_value(status.clone()).unwrap();
    lease
}

fn remembers(lease: &ComponentLease) -> Memory {
    memory(lease, lease.status.as_ref())
}

#[test]
fn a_resource_that_has_no_status_remembers_its_annotation_only() {
    assert_eq!(remembers(&with_status(&Value::Null, None)), Memory::default());
    for (written, floor) in [("7", 7), ("", 0), ("seven", 0), ("99999999999999999999999", 0)] {
        assert_eq!(
            remembers(&with_status(&Value::Null, Some(written))),
            Memory { floor_copy: floor, ..Memory::default() }
        );
    }
}

#[test]
fn a_status_is_remembered_as_it_was_written_and_the_annotation_beside_it() {
    let status = json!({
        "term": { "holder": "web-0_1_2", "version": 41 }, "versionFloor": 41, "transitions": 9,
        "leader": { "podName": "web-0", "uid": "u", "nodeName": "n" },
        "internal": {
            "applied": { "labelKey": "k", "leaderValue": "l", "standbyValue": "s" },
            "containerIds": ["c"], "databaseUuid": "d",
        },
    });
    for (annotation, copy) in [(None, 0), (Some("40"), 40), (Some("42"), 42)] {
        let seen = remembers(&with_status(&status, annotation));
        assert_eq!((seen.floor, seen.floor_copy), (41, copy));
        assert_eq!((seen.version, seen.transitions), (41, 9));
        assert_eq!(seen.holder.as_deref(), Some("web-0_1_2"));
        assert_eq!(seen.applied.unwrap().key, "k");
        let pod = HolderPod {
            name: "web-0".into(),
            uid: "u".into(),
            node: Some("n".into()),
            container_ids: vec!["c".into()],
        };
        assert_eq!((seen.holder_pod, seen.database.as_deref()), (Some(pod), Some("d")));
    }
}

#[test]
fn whether_somebody_held_the_lease_and_whether_another_was_first_is_read_from_the_conditions() {
    let said = |kind: &str, status: &str, reason: &str| {
        let condition = json!({ "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "t" });
        let seen = remembers(&with_status(&json!({ "conditions": [condition] }), None));
        (seen.held, seen.in_conflict)
    };
    assert_eq!(said("LeaderElected", "True", "Held"), (true, false));
    assert_eq!(said("LeaderElected", "Unknown", "DatabaseUnreachable"), (false, false));
    assert_eq!(said("LeaderElected", "Unknown", "Conflict"), (false, false));
    assert_eq!(said("Ready", "False", "Conflict"), (false, true));
    assert_eq!(said("Ready", "True", "LeaderRouted"), (false, false));
}

#[test]
fn the_status_of_a_resource_that_was_never_seen_is_replaced_whole() {
    let pending = super::super::definition::pending();
    let before: ComponentLeaseStatus = serde_json::from_value(pending).unwrap();
    let mut wanted = says("x");
    wanted.conditions = vec![Condition::new(ConditionType::Ready, Truth::Unknown, Reason::NotYetKnown, "x")];
    let first = status(Some(&before), None, &wanted, "t1").unwrap();
    assert_eq!(times(&first), ["t1"], "nobody looked in 1970");
    assert_eq!(times(&status(Some(&first), None, &Status { floor: 50, ..wanted }, "t2").unwrap()), ["t1"]);
}

#[test]
fn a_term_is_shown_once_there_has_been_one_and_a_released_one_without_its_holder() {
    let term = |version, holder: Option<&str>| {
        let wanted = Status { version, holder: holder.map(ToOwned::to_owned), ..says("x") };
        status(None, None, &wanted, "t").unwrap().term.map(|term| (term.version, term.holder))
    };
    assert_eq!(term(0, None), None);
    assert_eq!(term(41, None), Some((41, None)));
    assert_eq!(term(0, Some("a")), Some((0, Some("a".to_owned()))));
}

fn says(message: &str) -> Status {
    Status {
        observed_generation: 3,
        holder: Some("a".to_owned()),
        holder_pod: None,
        version: 41,
        place: Some(Place { epoch: 0, number: 41 }),
        ttl: Some(30),
        lease_time: Some(1_764_000_000_000),
        renew_time: Some(1_764_000_000_000),
        floor: 41,
        transitions: 2,
        candidates: 3,
        instances: Vec::new(),
        applied: None,
        database: None,
        last_transition: None,
        conditions: vec![
            Condition::new(ConditionType::LeaderElected, true, Reason::InvalidSpec, message),
            Condition::new(ConditionType::Ready, false, Reason::InvalidSpec, message),
        ],
    }
}

fn times(status: &ComponentLeaseStatus) -> Vec<&str> {
    status.conditions.iter().map(|condition| condition.last_transition_time.as_str()).collect()
}

#[test]
fn a_status_is_written_where_something_but_a_time_has_changed() {
    let first = status(None, None, &says("x"), "t1").unwrap();
    assert_eq!(times(&first), ["t1", "t1"]);
    assert_eq!(first.term.as_ref().unwrap().start_time.as_deref(), Some("2025-11-24T16:00:00Z"));
    let later = Status { renew_time: Some(1_764_000_009_000), ..says("x") };
    assert_eq!(status(Some(&first), None, &later, "t2"), None, "renewals are not mirrored");
    for changed in [
        Status { candidates: 4, ..says("x") },
        Status { floor: 42, ..says("x") },
        Status { ttl: None, ..says("x") },
        Status { observed_generation: 4, ..says("x") },
        says("y"),
    ] {
        assert!(status(Some(&first), None, &changed, "t2").is_some(), "{changed:?}");
    }
    let component = ComponentName::new("shop/web").unwrap();
    assert!(status(Some(&first), Some(&component), &says("x"), "t2").is_some());
}

#[test]
fn the_last_transition_is_remembered_as_it_was_written_and_cut_to_what_may_be() {
    let transition = Transition {
        version: 41,
        from: Some("z".to_owned()),
        to: "a".to_owned(),
        at: 1_764_000_000_123,
        reason: Some("SwitchedOver".to_owned()),
        by: Some("ada".to_owned()),
        without_leader_ms: Some(420),
    };
    let wanted = Status { last_transition: Some(transition.clone()), ..says("x") };
    let written = status(None, None, &wanted, "t").unwrap();
    let told = written.last_transition.as_ref().unwrap();
    assert_eq!(told.time.as_deref(), Some("2025-11-24T16:00:00.123Z"));
    assert_eq!(remembered(told), transition);
    assert_eq!(status(Some(&written), None, &wanted, "t2"), None);
    let odd = Transition {
        from: Some("ü".repeat(2000)),
        at: -5,
        by: Some("y".repeat(300)),
        reason: Some("x".repeat(99)),
        ..transition
    };
    let cut = super::transition(&odd);
    let length = |text: &Option<String>| text.as_ref().unwrap().chars().count();
    assert_eq!((length(&cut.from), length(&cut.requested_by), length(&cut.reason)), (1024, 253, 64));
    assert_eq!(super::transition(&remembered(&cut)), cut, "no status is written for a time that cannot be");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes_and_the_leaders_until_another_leads() {
    let first = status(None, None, &says("x"), "t1").unwrap();
    assert_eq!(times(&status(Some(&first), None, &says("y"), "t2").unwrap()), ["t1", "t1"]);
    let mut ready = says("x");
    ready.conditions[1] = Condition::new(ConditionType::Ready, true, Reason::InvalidSpec, "x");
    assert_eq!(times(&status(Some(&first), None, &ready, "t2").unwrap()), ["t1", "t2"]);
    for led in [Status { version: 42, ..says("x") }, Status { holder: Some("b".to_owned()), ..says("x") }] {
        assert_eq!(times(&status(Some(&first), None, &led, "t2").unwrap()), ["t2", "t1"]);
    }
}

#[test]
fn whatever_the_database_says_the_api_server_accepts_the_status() {
    let whereabouts =
        Whereabouts { pod: Some("p".repeat(300)), node: Some("ü".repeat(300)), ..Whereabouts::default() };
    let seen = SeenInstance {
        id: 1,
        component: "web".to_owned(),
        holder: "ö".repeat(2000),
        start_time: i64::MIN,
        heartbeat: 0,
        lasts: 0,
        whereabouts,
        program_version: Some("v".repeat(254)),
        mode: None,
        promise: None,
        priority: None,
        healthy: false,
        leads: None,
    };
    let mut odd = says(&"ü".repeat(600));
    (odd.lease_time, odd.renew_time, odd.instances) = (Some(-1), Some(i64::MAX), vec![seen]);
    let written = status(None, None, &odd, "t").unwrap();
    let term = written.term.as_ref().unwrap();
    assert_eq!((&term.start_time, &term.renew_time), (&None, &None));
    let length = written.conditions[0].message.len();
    assert!(length <= MESSAGE_MAX && length > MESSAGE_MAX - 4, "{length} bytes");
    let shown = &written.instances[0];
    assert_eq!((shown.instance.chars().count(), &shown.start_time), (1024, &None));
    let lengths = [&shown.pod, &shown.node_name, &shown.program_version]
        .map(|text| text.as_ref().unwrap().chars().count());
    assert_eq!(lengths, [253, 253, 253]);
}
