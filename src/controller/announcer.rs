//! Says what was found: the status by server-side apply, only when something other than a time has
//! changed, and Events for what happened.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use super::cluster::FIELD_MANAGER;
use super::error::text;
use super::metrics::Metrics;
use crate::api::{self, ComponentLease, ComponentLeaseStatus};
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
    /// The oldest first.
    known: Mutex<VecDeque<(Said, Recorder)>>,
}

/// So many notes may be counted up; one that is older is said anew.
const KNOWN_NOTES: usize = 512;

impl Announcer {
    pub(super) fn new(client: Client, reporter: Reporter, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { client, reporter, clock, metrics, written: Mutex::default(), known: Mutex::default() }
    }

    /// The status as it was last written.
    pub(super) fn status_before(&self, lease: &ComponentLease) -> Option<ComponentLeaseStatus> {
        let number = |lease: &ComponentLease| lease.resource_version().and_then(|v| v.parse::<u64>().ok());
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
    pub(super) async fn record(&self, lease: &ComponentLease, events: &[Event]) {
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
