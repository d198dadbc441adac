//! Which replica of the controller acts: the same state machine as everywhere, on a Kubernetes
//! `Lease` instead of a row. What the controller writes to is the API server, so that is where it
//! must elect: with its own database down, somebody still has to say so.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::FIELD_MANAGER;
use super::error::text;
use crate::clock::Clock;
use crate::election::machine::Looked;
use crate::election::{ComponentName, LeaseRow, Take, TermKey, row};
use crate::store::{Hints, Names, Outcome, Snapshot, StandingIntent, Store, StoreError};

/// One `Lease` object as a store of one row: holderIdentity is the holder, leaseTransitions the version.
pub(super) struct LeaseStore {
    leases: Api<KubeLease>,
    name: String,
    clock: Arc<dyn Clock>,
    /// The object as the last answer showed it: its resource version guards the next write.
    last: Mutex<Option<KubeLease>>,
}

impl LeaseStore {
    pub(super) fn new(client: Client, namespace: &str, name: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            clock,
            last: Mutex::default(),
        }
    }

    fn remember(&self, lease: Option<KubeLease>) -> Option<LeaseRow> {
        let row = lease.as_ref().map(row);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = lease;
        row
    }

    fn last(&self) -> Option<KubeLease> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self) -> Result<Option<LeaseRow>, StoreError> {
        let lease = self.leases.get_opt(&self.name).await.map_err(|error| self.failed(&error))?;
        Ok(self.remember(lease))
    }

    fn failed(&self, error: &kube::Error) -> StoreError {
        let message = format!("Lease {}: {}", self.name, text(error));
        match error {
            kube::Error::Api(status) if status.code == 403 => StoreError::Misconfigured(message),
            _ => StoreError::Retryable(message),
        }
    }

    /// Writes what the rule makes of the object as it was last seen. After a conflict it is read
    /// once more: somebody may only have touched its labels.
    async fn write(
        &self,
        rule: impl Fn(Option<&LeaseRow>, i64) -> Option<LeaseRow> + Send + Sync,
    ) -> Result<Outcome, StoreError> {
        for _ in 0..2 {
            if self.last().is_none() {
                self.read().await?;
            }
            let seen = self.last();
            let before = seen.as_ref().map(row);
            let Some(after) = rule(before.as_ref(), self.clock.wall_ms()) else { return Ok(Outcome::Lost) };
            let spec = spec(&after);
            let written = match &seen {
                None => {
                    let lease = KubeLease {
                        metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                        spec: Some(spec),
                    };
                    let params =
                        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                    self.leases.create(&params, &lease).await
                }
                Some(seen) => {
                    let patch = json!({
                        "metadata": { "resourceVersion": seen.resource_version(), "uid": seen.uid() },
                        "spec": spec,
                    });
                    let params = PatchParams {
                        field_manager: Some(FIELD_MANAGER.to_owned()),
                        ..PatchParams::default()
                    };
                    self.leases.patch(&self.name, &params, &Patch::Merge(patch)).await
                }
            };
            match written {
                Ok(lease) => {
                    self.remember(Some(lease));
                    return Ok(Outcome::Applied);
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    self.read().await?;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Err(StoreError::Retryable(format!("Lease {} keeps changing", self.name)))
    }
}

impl fmt::Debug for LeaseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseStore").field("name", &self.name).finish_non_exhaustive()
    }
}

fn ms(time: Option<&MicroTime>) -> i64 {
    time.map_or(0, |time| time.0.as_millisecond())
}

fn row(lease: &KubeLease) -> LeaseRow {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseRow {
        holder: spec.holder_identity.unwrap_or_default(),
        lease_time: ms(spec.acquire_time.as_ref()),
        renew_time: ms(spec.renew_time.as_ref()),
        version: i64::from(spec.lease_transitions.unwrap_or(0)),
        ttl: i64::from(spec.lease_duration_seconds.unwrap_or(0)),
    }
}

fn spec(row: &LeaseRow) -> LeaseSpec {
    let time = |ms| Timestamp::from_millisecond(ms).ok().map(MicroTime);
    LeaseSpec {
        holder_identity: Some(row.holder.clone()),
        acquire_time: time(row.lease_time),
        renew_time: time(row.renew_time),
        lease_transitions: i32::try_from(row.version).ok(),
        lease_duration_seconds: i32::try_from(row.ttl).ok(),
        ..LeaseSpec::default()
    }
}

#[async_trait]
impl Store for LeaseStore {
    fn describe(&self) -> String {
        format!("Kubernetes Lease {}", self.name)
    }

    async fn look(&self, _: &ComponentName) -> Result<Looked, StoreError> {
        Ok(Looked {
            row: self.read().await?,
            database_now: self.clock.wall_ms(),
            // etcd forgets nothing, and an overlap of two replicas is harmless: no quarantine.
            ..Looked::default()
        })
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        // The sight that the take was decided on is the object that was read for it.
        self.write(|row, now| row::take(row, 0, take, now)).await
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.write(|row, now| row::renew(row, term, now)).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.write(|row, _| row::release(row, term)).await
    }

    async fn look_at(&self, names: &Names, _: bool) -> Result<Snapshot, StoreError> {
        let row = self.read().await?.filter(|_| names.contains(&self.name));
        let rows = row.map(|row| (self.name.clone(), row)).into_iter().collect();
        Ok(Snapshot { rows, database_now: self.clock.wall_ms(), ..Snapshot::default() })
    }

    async fn set_intent(&self, _: &ComponentName, _: StandingIntent) -> Result<(), StoreError> {
        Err(StoreError::Bug("a Lease carries no intents".to_owned()))
    }

    async fn clear_intent(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }

    fn hints(&self) -> Hints {
        Hints::none()
    }

    fn limit_lock_wait(&self, _: Duration) {}
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
