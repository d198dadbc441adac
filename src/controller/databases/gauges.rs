//! What the metrics say of databases: what their statuses say. Labels are names of resources and of members that they declare.

use std::sync::Arc;

use kube::Resource as _;
use prometheus_client::registry::Registry;

use crate::api::{ConditionStatus, LeaseDatabase, LeaseDatabaseStatus, MemberRole, StatusCondition};
use crate::controller::acting::Acting;
use crate::controller::cluster::Cluster;
use crate::process::metrics::{Family, ReadAtScrape};
use crate::routing::conditions::{ConditionType, Reason};

/// Only the replica that acts says anything of databases.
pub(in crate::controller) fn register(registry: &mut Registry, acting: Acting, cluster: Arc<Cluster>) {
    registry.register_collector(Box::new(ReadAtScrape(move || {
        if !acting.acts() {
            return Vec::new();
        }
        let all = cluster.scopes.iter().flat_map(|scope| scope.databases.state());
        let ours = all.filter_map(|database| {
            let read = database.0.as_ref().ok()?;
            let namespace = database.meta().namespace.as_deref().unwrap_or_default();
            let ours = read.spec.class_name == cluster.lookout.class() && !cluster.lookout.leaves(namespace);
            ours.then(|| read.clone())
        });
        families(&ours.collect::<Vec<_>>())
    })));
}

/// A gauge: the further label if there is one, and the value.
type Samples<'d> = Vec<(Option<(&'static str, &'d str)>, f64)>;

fn families(databases: &[LeaseDatabase]) -> Vec<Family> {
    let family = |name, help, samples: fn(&LeaseDatabaseStatus) -> Samples<'_>| {
        let mut family = Family::of(name, help);
        for database in databases {
            let Some(status) = database.status.as_ref().filter(|status| is_known(status)) else { continue };
            let (namespace, name) = (&database.metadata.namespace, &database.metadata.name);
            let named = [
                ("namespace", namespace.as_deref().unwrap_or_default()),
                ("name", name.as_deref().unwrap_or_default()),
            ];
            for (further, value) in samples(status) {
                let labels: Vec<_> = named.into_iter().chain(further).collect();
                let one = Family::gauge("", "", &labels, value);
                family.samples.extend(one.samples);
            }
        }
        family
    };
    vec![
        family("database_ready", "1 while users reach a primary, else 0", |status| {
            vec![(None, f64::from(u8::from(known(status, ConditionType::Ready) == Some(true))))]
        }),
        family(
            "database_primary",
            "1 for the member that is the primary and acknowledges writes, else 0; absent while that is not known",
            |status| {
                let known = known(status, ConditionType::PrimaryElected);
                let elected = known == Some(true);
                let members = status.members.iter().filter(|_| known.is_some());
                let is_primary = |role| f64::from(u8::from(elected && role == MemberRole::Primary));
                members.map(|m| (Some(("member", m.name.as_str())), is_primary(m.role))).collect()
            },
        ),
        family("database_version", "Version of the Lease, the fencing token", |status| {
            status.version.map(|version| (None, number(version))).into_iter().collect()
        }),
        family(
            "database_voters",
            "Members that acknowledge commits, as the record beside the Lease says",
            |status| {
                let voters =
                    status.record.as_ref().map(|record| i64::try_from(record.voters.len()).unwrap_or(0));
                voters.map(|voters| (None, number(voters))).into_iter().collect()
            },
        ),
        family(
            "database_failover_ready",
            "1 while another member would take over without loss if the primary died now, else 0; absent while that is not known",
            |status| truth(status, ConditionType::FailoverReady),
        ),
    ]
}

fn condition(status: &LeaseDatabaseStatus, kind: ConditionType) -> Option<&StatusCondition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Whether a controller has looked at it.
fn is_known(status: &LeaseDatabaseStatus) -> bool {
    condition(status, ConditionType::Ready).is_some_and(|ready| ready.reason != Reason::Pending.as_str())
}

fn known(status: &LeaseDatabaseStatus, kind: ConditionType) -> Option<bool> {
    match condition(status, kind)?.status {
        ConditionStatus::True => Some(true),
        ConditionStatus::False => Some(false),
        ConditionStatus::Unknown => None,
    }
}

fn truth(status: &LeaseDatabaseStatus, kind: ConditionType) -> Samples<'_> {
    known(status, kind).map(|truth| (None, f64::from(u8::from(truth)))).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "versions of a Lease have 32 bits")]
fn number(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::process::metrics::{encode, registry};

    fn database(elected: &str, ready_reason: &str) -> LeaseDatabase {
        let ready = if elected == "Unknown" { "Unknown" } else { "False" };
        let c = |kind: &str, status: &str, reason: &str| -> Value {
            json!({ "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "t" })
        };
        let member = |name: &str, role: &str| json!({ "name": name, "role": role, "ready": true });
        serde_json::from_value(json!({
            "apiVersion": "componentlease.io/v1alpha1", "kind": "LeaseDatabase",
            "metadata": { "name": "orders", "namespace": "shop" },
            "spec": { "members": ["a", "b"], "selector": { "matchLabels": { "app": "orders" } } },
            "status": {
                "version": 4, "record": { "primary": "a", "version": 4, "voters": ["b"], "acks": 1 },
                "members": [member("a", "Primary"), member("b", "Replica")],
                "conditions": [
                    c("Ready", ready, ready_reason), c("PrimaryElected", elected, "Recorded"),
                    c("FailoverReady", "False", "TooFewMembers"),
                ],
            },
        }))
        .unwrap()
    }

    fn page(database: LeaseDatabase) -> String {
        let mut registry = registry();
        let databases = vec![database];
        registry.register_collector(Box::new(ReadAtScrape(move || families(&databases))));
        encode(&registry)
    }

    #[test]
    fn a_database_is_measured_by_what_its_status_says() {
        let page = page(database("True", "LeaderNotReady"));
        for line in [
            r#"ready{namespace="shop",name="orders"} 0.0"#,
            r#"primary{namespace="shop",name="orders",member="a"} 1.0"#,
            r#"primary{namespace="shop",name="orders",member="b"} 0.0"#,
            r#"version{namespace="shop",name="orders"} 4.0"#,
            r#"voters{namespace="shop",name="orders"} 1.0"#,
            r#"failover_ready{namespace="shop",name="orders"} 0.0"#,
        ] {
            assert!(page.contains(&format!("componentlease_database_{line}\n")), "{line}: {page}");
        }
    }

    #[test]
    fn nobody_is_the_primary_while_none_is_elected_and_nothing_is_said_of_what_is_not_known() {
        let lost = page(database("False", "Promoting"));
        assert!(lost.contains(r#"primary{namespace="shop",name="orders",member="a"} 0.0"#), "{lost}");
        let unknown = page(database("Unknown", "Forbidden"));
        assert!(!unknown.contains("componentlease_database_primary{"), "{unknown}");
        // A database that is looked at is always ready or not: an alert goes by that.
        assert!(unknown.contains(r#"ready{namespace="shop",name="orders"} 0.0"#), "{unknown}");
        let pending = page(database("Unknown", "Pending"));
        assert!(!pending.contains("componentlease_database_"), "{pending}");
    }
}
