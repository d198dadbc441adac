//! A database whose members are Lease objects that a test writes as members do.

use anyhow::{Result, ensure};
use component_lease::api::{LeaseDatabase, StatusCondition};
use component_lease_testkit::wait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{SOON, Site};

pub const DATABASE: &str = "orders";
pub const MEMBERS: [&str; 3] = ["orders-0", "orders-1", "orders-2"];
/// The label of the database.
pub const ROLE: &str = "componentlease.io/orders_role";

/// The resource `orders`, with Services for writers and readers.
pub fn database(more: &Value) -> Value {
    let service =
        |name: &str| json!({"name": name, "policy": "Manage", "ports": [{"port": 5432, "targetPort": 8080}]});
    let mut spec = json!({
        "members": MEMBERS,
        "selector": {"matchLabels": {"app": "orders"}},
        "routing": {"writer": service("orders-rw"), "readers": service("orders-ro")},
    });
    for (key, value) in more.as_object().expect("fields of a spec") {
        spec[key] = value.clone();
    }
    json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "LeaseDatabase",
        "metadata": {"name": DATABASE}, "spec": spec,
    })
}

/// The record as a primary writes it: any one of the voters acknowledges.
pub fn record(primary: &str, version: i64, voters: &[&str]) -> Value {
    json!({
        "primary": primary, "version": version, "voters": voters, "acks": 1, "asynchronous": false,
        "system": "7000000000000000001", "members": MEMBERS,
    })
}

pub fn condition<'d>(database: &'d LeaseDatabase, kind: &str) -> Option<&'d StatusCondition> {
    database.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

impl Site {
    pub fn databases(&self) -> Api<LeaseDatabase> {
        Api::namespaced(self.admin.clone(), self.name())
    }

    pub async fn make_database(&self, more: &Value) -> Result<LeaseDatabase> {
        Ok(self.databases().create(&PostParams::default(), &serde_json::from_value(database(more))?).await?)
    }

    async fn write_lease(&self, name: &str, patch: Value) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), self.name());
        let mut whole = patch;
        whole["apiVersion"] = json!("coordination.k8s.io/v1");
        whole["kind"] = json!("Lease");
        whole["metadata"]["name"] = json!(name);
        let params = PatchParams::apply("member").force();
        leases.patch(name, &params, &Patch::Apply(whole)).await?;
        Ok(())
    }

    /// The Lease as its holder has it, taken some time ago and renewed now, with this record beside it.
    pub async fn hold(&self, holder: &str, version: i64, ttl: u32, record: &Value) -> Result<()> {
        let now = Timestamp::now();
        self.write_lease(
            DATABASE,
            json!({
                "metadata": {"annotations": {"componentlease.io/record": record.to_string()}},
                "spec": {
                    "holderIdentity": holder, "leaseTransitions": version, "leaseDurationSeconds": ttl,
                    "acquireTime": "2026-02-01T00:00:00.000000Z", "renewTime": format!("{now:.6}"),
                },
            }),
        )
        .await
    }

    /// What a member says of itself.
    pub async fn says(&self, member: &str, says: &Value) -> Result<()> {
        let annotations = json!({"componentlease.io/report": says.to_string()});
        self.write_lease(&format!("{DATABASE}-{member}"), json!({"metadata": {"annotations": annotations}}))
            .await
    }

    /// Waits until the database says what is wanted; the resource.
    pub async fn wait_for_database(
        &self,
        what: &str,
        wanted: impl Fn(&LeaseDatabase) -> bool,
    ) -> Result<LeaseDatabase> {
        wait::until(SOON, format!("LeaseDatabase {DATABASE}: {what}"), async || {
            let database = self.databases().get(DATABASE).await?;
            ensure!(wanted(&database), "status: {}", serde_json::to_string(&database.status)?);
            Ok(Some(database))
        })
        .await
    }

    /// Waits until a condition has this status and reason; its message.
    pub async fn wait_for_database_to_say(&self, kind: &str, status: &str, reason: &str) -> Result<String> {
        let matches = |database: &LeaseDatabase| {
            condition(database, kind).is_some_and(|c| c.status == status && c.reason == reason)
        };
        let database = self.wait_for_database(&format!("{kind}={status} ({reason})"), matches).await?;
        Ok(condition(&database, kind).map(|c| c.message.clone()).unwrap_or_default())
    }
}
