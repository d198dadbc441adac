use serde_json::{Value, json};

use super::*;
use crate::routing::conditions::Reason;
use crate::routing::reach::managed_selector;

fn database(spec: &Value) -> LeaseDatabase {
    let mut whole = json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "LeaseDatabase",
        "metadata": { "name": "orders", "namespace": "shop", "uid": "u", "generation": 3 },
        "spec": { "members": ["a", "b", "c"], "selector": { "matchLabels": { "app": "orders" } } },
    });
    for (key, value) in spec.as_object().unwrap() {
        whole["spec"][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

#[test]
fn the_lease_has_the_name_of_the_resource_unless_it_says_otherwise() {
    assert_eq!(desired_database(&database(&json!({}))).unwrap().lease, "orders");
    let other = desired_database(&database(&json!({ "lease": "other" }))).unwrap();
    assert_eq!((other.lease.as_str(), other.writer.component.as_str()), ("other", "other"));
    assert_eq!(other.writer.name, "orders_role", "its marks have the resource's name");
}

#[test]
fn writers_and_readers_are_led_by_different_values_of_one_label() {
    let service = |name: &str| json!({ "name": name, "policy": "Manage", "ports": [{ "port": 5432 }] });
    let routing = json!({ "routing": { "writer": service("rw"), "readers": service("ro") } });
    let desired = desired_database(&database(&routing)).unwrap();
    let readers = desired.for_readers().unwrap();
    let selects = |desired| json!(managed_selector(desired));
    assert_eq!(
        selects(&desired.writer),
        json!({ "app": "orders", "componentlease.io/orders_role": "primary" })
    );
    assert_eq!(selects(&readers), json!({ "app": "orders", "componentlease.io/orders_role": "replica" }));
    assert_eq!(
        (readers.service.unwrap().name, readers.service_field),
        ("ro".to_owned(), "spec.routing.readers")
    );
    assert!(desired.names("rw") && desired.names("ro") && !desired.names("r"));
    assert_eq!(desired_database(&database(&json!({}))).unwrap().for_readers(), None);
}

#[test]
fn what_an_older_schema_let_through_is_refused_with_a_reason() {
    let refused = |spec: Value| desired_database(&database(&spec)).unwrap_err().to_string();
    assert!(refused(json!({ "selector": {} })).contains("spec.selector is empty"));
    assert!(refused(json!({ "lease": "a b" })).contains("spec.lease"));
    let selects = json!({ "selector": { "matchLabels": { "componentlease.io/orders_role": "primary" } } });
    assert!(refused(selects).contains("componentlease.io/orders_role"));
    assert!(refused(json!({ "members": ["a"] })).contains("2 to 16 members, and has 1"));
    let many: Vec<_> = (0..17).map(|n| format!("m-{n}")).collect();
    assert!(refused(json!({ "members": many })).contains("has 17"));
    assert!(refused(json!({ "members": ["a", "b".repeat(64)] })).contains("1 to 63 characters"));
    let fits = |lease: usize| {
        let members = ["a".to_owned(), "b".repeat(63)];
        desired_database(&database(&json!({ "lease": "l".repeat(lease), "members": members }))).is_ok()
    };
    assert!(fits(189) && !fits(190), "what a member says is in an object of its own");
    let mut long = database(&json!({}));
    long.metadata.name = Some("n".repeat(51));
    assert!(desired_database(&long).unwrap_err().to_string().contains("50 characters"));
}

fn elected(status: bool) -> Condition {
    Condition::new(ConditionType::PrimaryElected, status, Reason::Recorded, "a is the primary")
}

#[test]
fn a_status_is_written_only_when_something_but_a_time_has_changed() {
    let of = |primary: &str| LeaseDatabaseStatus {
        primary: Some(primary.to_owned()),
        observed_generation: Some(3),
        ..LeaseDatabaseStatus::default()
    };
    let first = database_status(None, of("a"), &[elected(true)], "t1").unwrap();
    assert_eq!(database_status(Some(&first), of("a"), &[elected(true)], "t2"), None);
    let lost = database_status(Some(&first), of("a"), &[elected(false)], "t3").unwrap();
    assert_eq!(lost.conditions[0].last_transition_time, "t3");
    // The status is the same, but it is another primary's.
    let another = database_status(Some(&first), of("b"), &[elected(true)], "t4").unwrap();
    assert_eq!(another.conditions[0].last_transition_time, "t4");
}

#[test]
fn what_is_remembered_is_who_held_the_lease_and_whose_pod_was_labelled() {
    assert_eq!(database_memory(None), Memory::default());
    let status = json!({
        "holder": "a_1_2", "version": 4, "internal": { "podName": "a", "podUid": "uid-a" },
        "conditions": [{
            "type": "PrimaryElected", "status": "True", "reason": "Recorded", "message": "", "lastTransitionTime": "t",
        }],
    });
    let memory = database_memory(Some(&serde_json::from_value(status).unwrap()));
    assert_eq!((memory.held, memory.holder.as_deref(), memory.version), (true, Some("a_1_2"), 4));
    assert_eq!(memory.holder_pod.map(|pod| (pod.name, pod.uid)), Some(("a".to_owned(), "uid-a".to_owned())));
}
