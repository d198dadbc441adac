//! Says what was found: the status by server-side apply, only when something other than a time has
//! changed, and Events for what happened.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use super::FIELD_MANAGER;
use super::error::text;
use crate::api::{self, ComponentLease, ComponentLeaseStatus};
use crate::domain::ComponentName;
use crate::domain::decide::Event;
use crate::domain::observed::Status;

/// Longest note of an Event, in bytes.
const NOTE_MAX: usize = 1024;

/// Writes the status if it differs from `before`; what was written, with its resource version.
pub(super) async fn write_status(
    client: &Client,
    lease: &ComponentLease,
    before: Option<&ComponentLeaseStatus>,
    component: Option<&ComponentName>,
    wanted: &Status,
    now_ms: i64,
) -> Result<Option<ComponentLease>, kube::Error> {
    let now = jiff::Timestamp::from_millisecond(now_ms / 1000 * 1000).unwrap_or_default().to_string();
    let Some(status) = api::status(before, component, wanted, &now) else { return Ok(None) };
    let name = lease.name_any();
    let leases: Api<ComponentLease> = Api::namespaced(client.clone(), &lease.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": ComponentLease::api_version(&()),
        "kind": ComponentLease::kind(&()),
        // A resource of the same name made in the meantime is another one.
        "metadata": { "name": name, "uid": lease.uid() },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match leases.patch_status(&name, &params, &Patch::Apply(patch)).await {
        Ok(written) => Ok(Some(written)),
        // Deleted meanwhile: there is nobody left to tell.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn record(recorder: &Recorder, lease: &ComponentLease, events: &[Event]) {
    let about: ObjectReference = lease.object_ref(&());
    for Event { reason, warning, note } in events {
        let object = format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any());
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
        // The status and the log say it as well.
        if let Err(error) = recorder.publish(&event, &about).await {
            warn!(object, error = text(&error), "an Event could not be recorded");
        }
    }
}
