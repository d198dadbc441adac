//! Says what was found: the status by server-side apply, only when something other than a time has
//! changed, and Events for what happened.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use super::cluster::FIELD_MANAGER;
use super::error::text;
use super::metrics::Metrics;
use crate::api::{self, ComponentLease, ComponentLeaseStatus, FLOOR_ANNOTATION};
use crate::clock::Clock;
use crate::election::ComponentName;
use crate::routing::conditions::EventReason;
use crate::routing::decide::Event;
use crate::routing::observed::Status;

/// Longest note of an Event, in bytes.
const NOTE_MAX: usize = 1024;

/// How a resource is called in the log.
pub(super) fn name_of(lease: &impl kube::ResourceExt) -> String {
    format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any())
}

fn number(object: &impl kube::ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

/// What an Event said of whom.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    uid: Option<String>,
    reason: EventReason,
    note: String,
}

/// Publishes Events, and counts those up that repeat. Two that differ in their note alone are one to
/// kube's recorder, which goes on showing the first note: the second leader would never be named.
/// So each note has a recorder of its own.
pub(super) struct Announcer {
    client: Client,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    /// Statuses as they were last written, until the watch has caught up.
    written: Mutex<HashMap<String, ComponentLease>>,
    /// By UID, the floor's second copy as it was last written, and the resource version that came of it.
    copied: Mutex<HashMap<String, (Option<u64>, i64)>>,
    /// The oldest first.
    known: Mutex<VecDeque<(Said, Recorder)>>,
}

/// So many notes may be counted up; one that is older is said anew.
const KNOWN_NOTES: usize = 512;

impl Announcer {
    pub(super) fn new(client: Client, reporter: Reporter, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            client,
            reporter,
            clock,
            metrics,
            written: Mutex::default(),
            copied: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The status as it was last written.
    pub(super) fn status_before(&self, lease: &ComponentLease) -> Option<ComponentLeaseStatus> {
        let uid = lease.uid().unwrap_or_default();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&uid) {
            Some(known) if number(known) > number(lease) => known.status.clone(),
            _ => {
                written.remove(&uid);
                lease.status.clone()
            }
        }
    }

    /// Keeps the floor's second copy up to date; `may_lag` by so much.
    pub(super) async fn copy_floor(
        &self,
        lease: &ComponentLease,
        floor: i64,
        may_lag: i64,
    ) -> Result<(), kube::Error> {
        let uid = lease.uid().unwrap_or_default();
        let known = self.copied.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).copied();
        // Somebody may have changed it since, which the watch then shows.
        let copy =
            known.filter(|(version, _)| *version > number(lease)).map(|(_, copy)| copy).or_else(|| {
                let written = lease.annotations().get(FLOOR_ANNOTATION)?;
                written.parse().ok()
            });
        let copy = copy.unwrap_or(0);
        if floor == 0 || floor.saturating_sub(copy) < may_lag && copy != 0 {
            return Ok(());
        }
        let leases: Api<ComponentLease> =
            Api::namespaced(self.client.clone(), &lease.namespace().unwrap_or_default());
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = json!({ "metadata": { "annotations": { FLOOR_ANNOTATION: floor.to_string() } } });
        let answer = leases.patch_metadata(&lease.name_any(), &params, &Patch::Merge(patch)).await?;
        self.copied.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, (number(&answer), floor));
        Ok(())
    }

    /// Writes the status if it differs from `before`; whether it was written.
    pub(super) async fn write_status(
        &self,
        lease: &ComponentLease,
        before: Option<&ComponentLeaseStatus>,
        component: Option<&ComponentName>,
        wanted: &Status,
    ) -> Result<bool, kube::Error> {
        let now = self.clock.wall_ms() / 1000 * 1000;
        let now = jiff::Timestamp::from_millisecond(now).unwrap_or_default().to_string();
        let status = api::status(before, component, wanted, &now);
        let written = status.as_ref().or(before);
        let ended = self.metrics.resources.found(lease, component, wanted, written, self.clock.boot());
        self.metrics.measured(ended);
        let Some(status) = status else { return Ok(false) };
        let name = lease.name_any();
        let namespace = lease.namespace().unwrap_or_default();
        let leases: Api<ComponentLease> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": ComponentLease::api_version(&()),
            "kind": ComponentLease::kind(&()),
            // A resource of the same name made in the meantime is another one.
            "metadata": { "name": name, "uid": lease.uid() },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match leases.patch_status(&name, &params, &Patch::Apply(patch)).await {
            Ok(written) => {
                self.metrics.status_written();
                let uid = written.uid().unwrap_or_default();
                self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, written);
                Ok(true)
            }
            // Deleted meanwhile: there is nobody left to tell.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn forget(&self, uid: &str) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.copied.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn recorder(&self, said: Said) -> Recorder {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, recorder)) = known.iter().find(|(before, _)| *before == said) {
            return recorder.clone();
        }
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        known.push_back((said, recorder.clone()));
        if known.len() > KNOWN_NOTES {
            known.pop_front();
        }
        recorder
    }

    /// Publishes Events, and logs them.
    pub(super) async fn record(&self, lease: &impl Resource<DynamicType = ()>, events: &[Event]) {
        let about: ObjectReference = lease.object_ref(&());
        for Event { reason, warning, note } in events {
            let object = name_of(lease);
            if *warning {
                warn!(object, reason = reason.as_str(), "{note}");
            } else {
                info!(object, reason = reason.as_str(), "{note}");
            }
            let event = KubeEvent {
                type_: if *warning { EventType::Warning } else { EventType::Normal },
                reason: reason.to_string(),
                note: Some(note.chars().take(NOTE_MAX / 4).collect()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            let said = Said { uid: about.uid.clone(), reason: *reason, note: note.clone() };
            // The status and the log say it as well.
            if let Err(error) = self.recorder(said).publish(&event, &about).await {
                let error = text(&error);
                warn!(object, error, "an Event could not be recorded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::events::Reporter;
    use serde_json::Value;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::kubernetes::fake_api::FakeApi;

    #[tokio::test]
    async fn the_copy_of_the_floor_is_written_once_though_the_watch_does_not_show_it_yet() {
        let path = "/apis/componentlease.io/v1alpha1/namespaces/shop/componentleases/web";
        let api = FakeApi::default();
        let lease = json!({
            "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
            "metadata": { "name": "web", "namespace": "shop", "uid": "u" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } },
        });
        api.put(path, lease);
        let shown = || -> ComponentLease { serde_json::from_value(api.get(path)).unwrap() };
        let reporter = Reporter { controller: "test".to_owned(), instance: None };
        let announcer = Announcer::new(api.client(), reporter, Arc::new(SystemClock), Metrics::default());
        let before = shown();
        for floor in [0, 7, 7, 9] {
            announcer.copy_floor(&before, floor, 64).await.unwrap();
        }
        assert_eq!(api.patches().len(), 1);
        assert_eq!(shown().annotations()[FLOOR_ANNOTATION], "7");
        announcer.copy_floor(&before, 71, 64).await.unwrap();
        assert_eq!(shown().annotations()[FLOOR_ANNOTATION], "71");
        // Somebody removes it, which the watch shows.
        let mut removed = api.get(path);
        removed["metadata"]["annotations"] = Value::Null;
        api.put(path, removed);
        announcer.copy_floor(&shown(), 71, 64).await.unwrap();
        assert_eq!(shown().annotations()[FLOOR_ANNOTATION], "71");
        assert_eq!(api.patches().len(), 3);
    }
}
