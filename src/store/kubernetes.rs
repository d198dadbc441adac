//! Rows in Kubernetes: one `Lease` object (coordination.k8s.io/v1) for each component, of the component's name.
//! holderIdentity is the holder, leaseTransitions the version. The controller's replicas elect by one: what they
//! write to is the API server, so that is where they must elect; with the database down, one of them still has
//! to say so.
//!
//! A record and reports stand in annotations: the record in that of the lease, a report in a `Lease` of its own, so that a member
//! needs no right to write another's.
//!
//! What operators ask of a lease stands in a third annotation (`asked.rs`). A `Lease` carries no history. etcd forgets nothing that it acknowledged, so there are no epochs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use super::asked::Asked;
use super::error::StoreError;
use super::hints::Hints;
use super::rules;
use super::traits::{Directory, Epochs, LeaseStore, Outcome, Roster};
use crate::clock::Clock;
use crate::election::machine::{Looked, Past};
use crate::election::{ComponentName, LeaseRow, Pace, Take, TermKey};

/// Whose the fields are that we write, in Kubernetes' words.
pub(crate) const FIELD_MANAGER: &str = "component-lease";

/// How long the API server may take, for those who connect by [`KubernetesStore::connect`].
const ANSWER: Duration = Duration::from_secs(5);

/// The `Lease` objects of a namespace.
pub struct KubernetesStore {
    leases: Api<Lease>,
    namespace: String,
    clock: Arc<dyn Clock>,
    /// The objects as the last answers showed them: their resource versions guard the next writes.
    last: Mutex<BTreeMap<String, Lease>>,
    /// Versions that were granted before an object was deleted, as members know.
    above: Mutex<BTreeMap<String, i64>>,
    /// Whether what operators ask in an annotation is obeyed.
    hears: bool,
}

impl KubernetesStore {
    /// The clock stands in for a database's: each participant writes its own into the object, for people.
    #[must_use]
    pub fn new(client: Client, namespace: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            clock,
            last: Mutex::default(),
            above: Mutex::default(),
            hears: false,
        }
    }

    /// By the service account of this pod, or the kubeconfig; `namespace` is that of the configuration where none is given.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] where no way to an API server is configured.
    pub async fn connect(namespace: Option<&str>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let wrong = |error: &dyn std::error::Error| {
            StoreError::misconfigured(format!(
                "no way to the API server is configured (run within a pod with a service account, or set KUBECONFIG): {error}"
            ))
        };
        let mut config = Config::infer().await.map_err(|error| wrong(&error))?;
        // Members do nothing else meanwhile.
        (config.connect_timeout, config.read_timeout) = (Some(ANSWER), Some(ANSWER));
        config.write_timeout = Some(ANSWER);
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = Client::try_from(config).map_err(|error| wrong(&error))?;
        Ok(Self::new(client, &namespace, clock))
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<String, Lease>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn above(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, component: &ComponentName, lease: Option<Lease>) -> Option<LeaseRow> {
        let row = lease.as_ref().map(row);
        match lease {
            Some(lease) => self.last().insert(component.as_str().to_owned(), lease),
            None => self.last().remove(component.as_str()),
        };
        row
    }

    async fn read(&self, component: &ComponentName) -> Result<Option<LeaseRow>, StoreError> {
        named(component)?;
        let lease =
            self.leases.get_opt(component.as_str()).await.map_err(|error| failed(component, error))?;
        Ok(self.remember(component, lease))
    }

    /// Writes what the rule makes of the object as it was last seen. After a conflict it is read
    /// once more: somebody may only have touched its labels.
    async fn write(
        &self,
        component: &ComponentName,
        rule: impl Fn(Option<&Lease>, Option<&LeaseRow>, i64) -> Option<LeaseRow> + Send + Sync,
    ) -> Result<Outcome, StoreError> {
        for _ in 0..2 {
            let mut seen = self.last().get(component.as_str()).cloned();
            if seen.is_none() {
                self.read(component).await?;
                seen = self.last().get(component.as_str()).cloned();
            }
            let before = seen.as_ref().map(row);
            let Some(after) = rule(seen.as_ref(), before.as_ref(), self.clock.wall_ms()) else {
                return Ok(Outcome::Lost);
            };
            let spec = spec(component, &after)?;
            let written = match &seen {
                None => {
                    let lease = Lease {
                        metadata: ObjectMeta {
                            name: Some(component.as_str().to_owned()),
                            ..ObjectMeta::default()
                        },
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
                    self.leases.patch(component.as_str(), &params, &Patch::Merge(patch)).await
                }
            };
            match written {
                Ok(lease) => {
                    self.remember(component, Some(lease));
                    return Ok(Outcome::Applied);
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    self.read(component).await?;
                }
                Err(error) => return Err(failed(component, error)),
            }
        }
        Err(StoreError::retryable(format!("Lease {component} keeps changing")))
    }
}

impl fmt::Debug for KubernetesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

fn failed(component: &ComponentName, error: kube::Error) -> StoreError {
    let message = format!("Lease {component}: {}", text(&error));
    let says = match &error {
        kube::Error::Api(status) if status.code == 403 => StoreError::misconfigured(message),
        _ => StoreError::retryable(message),
    };
    says.caused_by(error)
}

/// An error and its causes in one line, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = said(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = said(error);
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// One error without its causes.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(refused @ kube::Error::Api(_)) => text(refused),
        _ => error.to_string(),
    }
}

/// What the API server said, for people.
pub(crate) fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "forbidden: {} (see the chart's templates/rbac.yaml and admission-policy.yaml)",
                status.message
            )
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
    .replace('\n', " ")
}

/// An object's name is a DNS subdomain: a component of any other name has no object.
fn named(component: &ComponentName) -> Result<(), StoreError> {
    let name = component.as_str();
    let is_label = |label: &str| {
        let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(());
    }
    Err(StoreError::misconfigured(format!(
        "{name:?} cannot be the name of a Lease object: use lowercase letters, digits, '-' and '.', 253 characters at most"
    )))
}

fn ms(time: Option<&MicroTime>) -> i64 {
    time.map_or(0, |time| time.0.as_millisecond())
}

pub(crate) fn row(lease: &Lease) -> LeaseRow {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseRow {
        holder: spec.holder_identity.unwrap_or_default(),
        lease_time: ms(spec.acquire_time.as_ref()),
        renew_time: ms(spec.renew_time.as_ref()),
        version: i64::from(spec.lease_transitions.unwrap_or(0)),
        ttl: i64::from(spec.lease_duration_seconds.unwrap_or(0)),
    }
}

fn spec(component: &ComponentName, row: &LeaseRow) -> Result<LeaseSpec, StoreError> {
    let time = |ms| Timestamp::from_millisecond(ms).ok().map(MicroTime);
    let number = |what: &str, value: i64| {
        i32::try_from(value).map_err(|error| {
            let why = format!("Lease {component}: {what} {value} does not fit {}", i32::MAX);
            StoreError::misconfigured(why).caused_by(error)
        })
    };
    Ok(LeaseSpec {
        holder_identity: Some(row.holder.clone()),
        acquire_time: time(row.lease_time),
        renew_time: time(row.renew_time),
        lease_transitions: Some(number("the next version", row.version)?),
        lease_duration_seconds: Some(number("a ttl of", row.ttl)?),
        ..LeaseSpec::default()
    })
}

#[async_trait]
impl LeaseStore for KubernetesStore {
    fn describe(&self) -> String {
        format!("Kubernetes Leases of namespace {}", self.namespace)
    }

    fn epochs(&self) -> Option<&dyn Epochs> {
        None
    }

    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        let row = self.read(component).await?;
        let asked = if self.hears {
            let lease = self.last().get(component.as_str()).cloned();
            written::asked_of(component, lease.as_ref())?
        } else {
            Asked::default()
        };
        Ok(Looked {
            row,
            paused: asked.paused.is_some(),
            request: asked.request.map(|posted| posted.request),
            database_now: self.clock.wall_ms(),
            // etcd forgets nothing but what somebody deletes, and an overlap of two replicas is harmless: no quarantine.
            past: Past::of(true, None, self.above().get(component.as_str()).copied()),
            ..Looked::default()
        })
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        // The sight that the take was decided on is the object that was read for it.
        let component = &take.term.component;
        // A pause is part of that object, too. What cannot be read may be one.
        let may = |lease: Option<&Lease>| {
            !self.hears || written::asked_of(component, lease).is_ok_and(|asked| asked.paused.is_none())
        };
        self.write(component, |lease, row, now| may(lease).then(|| rules::take(row, 0, take, now)).flatten())
            .await
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.write(&term.component, |_, row, now| rules::renew(row, term, now)).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        self.write(&term.component, |_, row, _| rules::release(row, term)).await
    }

    /// A watch would cost a connection for each replica; they look every few seconds.
    fn hints(&self) -> Hints {
        Hints::none()
    }

    async fn notify(&self, _: &ComponentName) -> Result<(), StoreError> {
        Ok(())
    }

    /// The API server has no locks to wait for.
    fn limit_lock_wait(&self, _: Duration) {}

    fn pace(&self) -> Option<Pace> {
        None
    }
}

mod asked;
#[cfg(test)]
pub(crate) mod fake_api;
pub(crate) mod roster;
#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
mod written;
