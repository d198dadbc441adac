//! What is said of a request: its status, an Event on the `ComponentLease`, a line in the log.

use kube::api::{Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::info;

use super::super::announcer::name_of;
use super::super::cluster::FIELD_MANAGER;
use super::check::{self, No};
use super::{Error, Worker, status};
use crate::api::{ConditionStatus, LeaseRequest, LeaseRequestStatus, RequestState, StatusCondition};
use crate::operator::Outcome;
use crate::routing::conditions::EventReason;
use crate::routing::decide::Event;

/// The condition that says whether a request is over.
const FINISHED: &str = "Finished";
/// Characters of a message that the schema takes.
const MESSAGE_MAX: usize = 4096;

/// Milliseconds since 1970 as RFC 3339.
pub(super) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_string()
}

fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).collect()
}

/// The status of a request that is now in this state; what else is known of it stays. `now` in ms since 1970 UTC.
pub(super) fn changed(
    request: &LeaseRequest,
    state: RequestState,
    reason: &str,
    message: &str,
    now: i64,
) -> LeaseRequestStatus {
    let before = status(request);
    let finished = if state.is_final() { ConditionStatus::True } else { ConditionStatus::False };
    let same = before.conditions.iter().find(|known| known.type_ == FINISHED && known.status == finished);
    let since = same.map_or_else(|| rfc3339(now / 1000 * 1000), |same| same.last_transition_time.clone());
    LeaseRequestStatus {
        state,
        reason: reason.to_owned(),
        message: cut(message),
        id: before.id.clone(),
        finished_at: state.is_final().then(|| rfc3339(now)),
        conditions: vec![StatusCondition {
            type_: FINISHED.to_owned(),
            status: finished,
            reason: reason.to_owned(),
            message: cut(message),
            last_transition_time: since,
            observed_generation: request.metadata.generation,
        }],
        ..before
    }
}

/// What became of a request that was asked, for people.
pub(super) fn told(outcome: &Outcome, target: Option<&str>, from: Option<&str>) -> String {
    let from = from.unwrap_or("nobody");
    match outcome {
        Outcome::CarriedOut { leader, version } => {
            format!("{leader} leads with version {version}; before it, {from} led")
        }
        Outcome::AnotherLeads { leader, version } => format!(
            "{leader} leads with version {version}, and not {}: it did not take the lease while it had its head start",
            target.unwrap_or("somebody else")
        ),
        Outcome::SameLeads { leader, version } => {
            format!("{leader} leads again, with version {version}: nobody else took the lease")
        }
        Outcome::Replaced { by } => format!("the request {by} was put in its place"),
        Outcome::Withdrawn => "it was taken back before it was carried out".to_owned(),
        Outcome::Lost => {
            "the row is gone, or its version went back: this is not the database that was asked".to_owned()
        }
    }
}

/// The state in which a request ends so.
pub(super) fn state_of(outcome: &Outcome) -> RequestState {
    match outcome {
        Outcome::CarriedOut { .. } => RequestState::CarriedOut,
        _ => RequestState::Void,
    }
}

/// Who asked for what, for people.
fn asked(request: &LeaseRequest, verified: bool) -> String {
    let spec = &request.spec;
    let verified = if verified { "" } else { ", unverified" };
    let target = spec.target.as_ref().map(|target| format!(" to {target}")).unwrap_or_default();
    let why = spec.reason.as_ref().filter(|why| !why.is_empty());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("request {} of {}{verified}: {:?}{target}{why}", request.name_any(), spec.requested_by, spec.verb)
}

impl Worker {
    /// Writes the status where it says something new. `None`: somebody else has written it, or the object is gone.
    pub(super) async fn say(
        &self,
        request: &LeaseRequest,
        mut wanted: LeaseRequestStatus,
    ) -> Result<Option<LeaseRequest>, Error> {
        wanted.requester_verified = Some(self.verified);
        let before = status(request);
        // Words about what fails differ from one failure to the next, and each writing is read by everybody who watches.
        let same = (before.state, &before.reason, &before.observed)
            == (wanted.state, &wanted.reason, &wanted.observed);
        if same && (&before.id, before.within_seconds) == (&wanted.id, wanted.within_seconds) {
            return Ok(Some(request.clone()));
        }
        let patch = json!({
            "apiVersion": LeaseRequest::api_version(&()),
            "kind": LeaseRequest::kind(&()),
            "metadata": {
                "name": request.name_any(),
                "uid": request.uid(),
                "resourceVersion": request.resource_version(),
            },
            "status": wanted,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written =
            self.api(request).patch_status(&request.name_any(), &params, &Patch::Apply(patch)).await;
        match written {
            Ok(written) => {
                let handles = &self.handles;
                handles.announcer.metrics.status_written();
                let now = handles.database.clock.boot();
                self.watched.with(request, now, |known| known.newest = Some(written.clone()));
                Ok(Some(written))
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(Error::Status(error)),
        }
    }

    /// Says who asked for what, and what became of it, where operators look for it.
    pub(super) async fn announce(&self, request: &LeaseRequest) {
        let status = status(request);
        let (reason, warning) = match status.state {
            RequestState::Accepted => (EventReason::RequestAccepted, false),
            RequestState::CarriedOut => (EventReason::RequestCarriedOut, false),
            RequestState::Refused => (EventReason::RequestRefused, true),
            RequestState::Void => (EventReason::RequestVoid, true),
            RequestState::Pending | RequestState::Planned => return,
        };
        let note = format!("{}: {} ({})", asked(request, self.verified), status.message, status.reason);
        let lease = check::known(request, &self.watched.scope);
        match lease.as_ref().and_then(|lease| lease.0.as_ref().ok()).filter(|_| !request.spec.dry_run) {
            Some(lease) => {
                let event = Event { reason, warning, note };
                self.handles.announcer.record(lease, &[event]).await;
            }
            None => info!(object = name_of(request), reason = reason.as_str(), "{note}"),
        }
    }

    /// The request is over without having been asked.
    pub(super) fn refused(&self, request: &LeaseRequest, no: &No) -> LeaseRequestStatus {
        let now = self.handles.database.clock.wall_ms();
        changed(request, RequestState::Refused, no.reason, &no.why, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> LeaseRequest {
        let made = json!({
            "apiVersion": "componentlease.io/v1alpha1", "kind": "LeaseRequest",
            "metadata": {"name": "r", "namespace": "shop", "uid": "u", "generation": 1},
            "spec": {"lease": "web", "verb": "PromoteNow", "target": "web-1", "reason": "it hangs", "requestedBy": "ada"},
        });
        serde_json::from_value(made).unwrap()
    }

    #[test]
    fn a_status_says_when_it_became_final_and_keeps_what_is_known() {
        let mut request = request();
        request.status =
            Some(LeaseRequestStatus { id: Some("u.l".to_owned()), ..LeaseRequestStatus::default() });
        let waiting = changed(&request, RequestState::Accepted, "Waiting", "it was asked", 61_500);
        assert_eq!((waiting.id.as_deref(), &waiting.finished_at), (Some("u.l"), &None));
        assert_eq!(waiting.conditions[0].status, ConditionStatus::False);
        assert_eq!(waiting.conditions[0].last_transition_time, "1970-01-01T00:01:01Z");
        request.status = Some(LeaseRequestStatus { within_seconds: Some(45), ..waiting });
        let free = changed(&request, RequestState::Accepted, "LeaseFree", "nobody took it yet", 63_000);
        assert_eq!(
            free.conditions[0].last_transition_time, "1970-01-01T00:01:01Z",
            "it is no more over than before"
        );
        let over = changed(&request, RequestState::CarriedOut, "CarriedOut", &"ü".repeat(5000), 65_250);
        assert_eq!(over.finished_at.as_deref(), Some("1970-01-01T00:01:05.25Z"));
        assert_eq!((over.conditions[0].status, over.within_seconds), (ConditionStatus::True, Some(45)));
        assert_eq!(over.conditions[0].last_transition_time, "1970-01-01T00:01:05Z");
        assert_eq!(over.message.chars().count(), MESSAGE_MAX, "longer ones are refused as a whole");
    }

    #[test]
    fn only_a_lease_that_changed_hands_as_asked_was_carried_out_and_each_outcome_names_who_leads() {
        let (leader, version) = ("web-2".to_owned(), 8);
        for (outcome, state, words) in [
            (
                Outcome::CarriedOut { leader: leader.clone(), version },
                RequestState::CarriedOut,
                "web-2 leads",
            ),
            (Outcome::AnotherLeads { leader: leader.clone(), version }, RequestState::Void, "and not web-1"),
            (Outcome::SameLeads { leader, version }, RequestState::Void, "web-2 leads again"),
            (Outcome::Replaced { by: "r2".to_owned() }, RequestState::Void, "r2 was put in its place"),
            (Outcome::Withdrawn, RequestState::Void, "taken back"),
            (Outcome::Lost, RequestState::Void, "not the database"),
        ] {
            assert_eq!(state_of(&outcome), state);
            let told = told(&outcome, Some("web-1"), Some("web-0"));
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(asked(&request(), false), "request r of ada, unverified: PromoteNow to web-1 (it hangs)");
        assert_eq!(asked(&request(), true), "request r of ada: PromoteNow to web-1 (it hangs)");
    }
}
