//! Resources and what is read off them.

use component_lease::api::{ComponentLease, ComponentLeaseStatus, StatusCondition, TermStatus};
use serde_json::{Value, json};

/// A resource whose candidates carry `app=APP`.
pub fn lease(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}},
    })
}

/// [`lease`] with more in its spec.
pub fn lease_with(name: &str, app: &str, more: &Value) -> Value {
    let mut lease = lease(name, app);
    for (key, value) in more.as_object().expect("fields of a spec") {
        lease["spec"][key] = value.clone();
    }
    lease
}

/// A request of `ada` to the leader of `discovery`: a switchover, unless its spec says otherwise. What is null in it
/// is left out.
pub fn request(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"lease": "discovery", "verb": "Switchover", "requestedBy": "ada"});
    for (key, value) in spec.as_object().expect("fields of a spec") {
        whole[key] = value.clone();
    }
    whole.as_object_mut().expect("fields of a spec").retain(|_, value| !value.is_null());
    json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "LeaseRequest",
        "metadata": {"name": name}, "spec": whole,
    })
}

pub fn typed(lease: &Value) -> ComponentLease {
    serde_json::from_value(lease.clone()).expect("a ComponentLease")
}

pub fn condition<'l>(lease: &'l ComponentLease, kind: &str) -> Option<&'l StatusCondition> {
    lease.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// The term that the status shows; version 0 where it shows none.
pub fn term(lease: &ComponentLease) -> TermStatus {
    status(lease).term.unwrap_or_default()
}

/// The UUID of the database that the resource has known.
pub fn known_database(lease: &ComponentLease) -> Option<String> {
    status(lease).internal?.database_uuid
}

/// Why somebody is elected or not.
pub fn elected(lease: &ComponentLease) -> Option<&str> {
    condition(lease, "LeaderElected").map(|elected| elected.reason.as_str())
}

pub fn status(lease: &ComponentLease) -> ComponentLeaseStatus {
    lease.status.clone().unwrap_or_default()
}
