//! The verbs in a cluster: an object of the kind `LeaseRequest` is made, and its status tells what became of it.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::wait::await_condition;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::database::not_found;
use super::super::verbs::{Asking, Ended, Told, confirm};
use super::super::view::LeaseView;
use super::{Cluster, failed, view};
use crate::api::{
    ComponentLease, LeaseRequest, LeaseRequestSpec, LeaseRequestStatus, RequestState, RequestVerb,
};
use crate::clock::{Clock, SystemClock};
use crate::election::Verb;
use crate::process::{ExitCode, Failure};

/// A controller that runs answers a new request within this.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How much longer than the controller it is waited for: it gives up by itself, and says so.
const MARGIN: Duration = Duration::from_secs(10);
/// A watch that broke begins again after this.
const WATCH_AGAIN: Duration = Duration::from_millis(500);
/// Of a managed field.
const MANAGER: &str = "kubectl-componentlease";

impl Cluster {
    /// Asks, and waits for what becomes of it.
    pub(in crate::console) async fn ask(
        &self,
        name: &str,
        asking: &Asking,
        told: &Told<'_>,
    ) -> Result<Ended, Failure> {
        let lease = self.resource(name).await?;
        let seen = view(&lease);
        let leader = seen.holder.clone().unwrap_or_default();
        if !asking.dry_run {
            confirm(asking, &leader)?;
        }
        let api: Api<LeaseRequest> = Api::namespaced(self.client.clone(), self.address(name).0);
        let wanted = LeaseRequest::new(
            &object_name(&lease.name_any(), asking),
            spec(&seen, asking, self.user().await?)?,
        );
        let began = SystemClock.boot();
        let (made, already) = create(&api, &wanted, asking).await?;
        let object = made.name_any();
        if !asking.dry_run {
            told.asked(&object, &leader, already);
            if !asking.wait {
                return Ok(Ended::Asked { id: object });
            }
        }
        let followed = tokio::select! {
            followed = follow(&api, &object, asking) => followed?,
            () = told.end.cancelled() => None,
        };
        let took = || SystemClock.boot().saturating_sub(began);
        let status = match followed {
            Some(status) => Some(status),
            None => give_up(&api, &object).await?,
        };
        Ok(match status {
            Some(status) => told_by(status, (!already).then(took)),
            None => Ended::GivenUp {
                took: took(),
                interrupted: told.end.is_cancelled(),
                how: "was deleted, and its controller takes it back",
            },
        })
    }

    /// As the API server knows this user.
    async fn user(&self) -> Result<String, Failure> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let user = review.map_err(|error| failed(&error))?.status.and_then(|status| status.user_info);
        user.and_then(|user| user.username).filter(|name| !name.is_empty()).ok_or_else(|| {
            Failure::config("the cluster does not say who you are (kubectl auth whoami), so nothing can be asked in your name")
        })
    }

    /// Nobody takes the lease from now on. Returns when the controller says that it stands in the database.
    pub(in crate::console) async fn pause(&self, name: &str, reason: &str) -> Result<(), Failure> {
        let reason = (!reason.is_empty()).then_some(reason);
        self.patch(name, &json!({ "spec": { "paused": true, "pausedReason": reason } })).await?;
        self.until_paused(name, true).await
    }

    /// Whether there was a pause. Ends that of anybody.
    pub(in crate::console) async fn resume(&self, name: &str) -> Result<bool, Failure> {
        let lease = self.resource(name).await?;
        let paused = lease.spec.paused == Some(true) || view(&lease).paused.is_some();
        if paused {
            self.patch(name, &json!({ "spec": { "paused": false, "pausedReason": null } })).await?;
            self.until_paused(name, false).await?;
        }
        if paused || lease.spec.paused.is_some() {
            // From now on the controller leaves a pause alone that somebody makes in the database.
            self.patch(name, &json!({ "spec": { "paused": null } })).await?;
        }
        Ok(paused)
    }

    /// Waits until the status says so.
    async fn until_paused(&self, name: &str, paused: bool) -> Result<(), Failure> {
        let (namespace, resource) = self.address(name);
        let done = |lease: Option<&ComponentLease>| {
            lease.is_none_or(|lease| {
                let seen = lease.status.as_ref().and_then(|status| status.observed_generation);
                seen >= lease.metadata.generation && view(lease).paused.is_some() == paused
            })
        };
        if condition_of(&self.leases(namespace), resource, FIRST_ANSWER, done).await.is_some() {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::NotCarriedOut,
            format!(
                "spec.paused of {name} is {paused}, and its controller has not done so within {} s; describe shows why",
                FIRST_ANSWER.as_secs()
            ),
        ))
    }

    async fn patch(&self, name: &str, patch: &serde_json::Value) -> Result<(), Failure> {
        let (namespace, name) = self.address(name);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.leases(namespace).patch(name, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(not_found(name, &format!("the namespace {namespace}")))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Of a request that is asked for once; the end of the id makes it unique.
fn object_name(lease: &str, asking: &Asking) -> String {
    // A dry run is no request: its name must not be in the way of one.
    if let Some(chosen) = asking.chosen.as_ref().filter(|_| !asking.dry_run) {
        return chosen.clone();
    }
    let verb = asking.verb.as_str().replace('_', "-");
    let end: String = asking.id.chars().rev().take(8).collect();
    format!("{lease}-{verb}-{end}")
}

/// Nothing is asked in another term than the one that was seen: by its holder, or by its version where nobody holds it.
fn spec(seen: &LeaseView, asking: &Asking, requested_by: String) -> Result<LeaseRequestSpec, Failure> {
    let expects = asking.expects();
    let holder = seen.holder.clone().filter(|_| !expects);
    let version = seen.version.filter(|_| !expects && holder.is_none());
    let seconds = |away: Duration| i32::try_from(away.as_secs()).ok();
    let away_seconds = match asking.away {
        Some(away) => Some(seconds(away).ok_or_else(|| {
            Failure::new(ExitCode::Usage, format!("--away {} s is longer than a day", away.as_secs()))
        })?),
        None => None,
    };
    Ok(LeaseRequestSpec {
        lease: seen.name.clone(),
        verb: match asking.verb {
            Verb::Switchover => RequestVerb::Switchover,
            Verb::StepDown => RequestVerb::StepDown,
            Verb::Promote => RequestVerb::Promote,
            Verb::PromoteNow => RequestVerb::PromoteNow,
        },
        target: asking.to.clone(),
        expect_holder: asking.expect_holder.clone().or(holder),
        expect_version: asking.expect_version.or(version),
        reason: (!asking.reason.is_empty()).then(|| asking.reason.clone()),
        requested_by,
        replaces: asking.replace.clone(),
        away_seconds,
        dry_run: asking.dry_run,
        ttl_seconds_after_finished: if asking.dry_run { 0 } else { 3600 },
    })
}

/// The object, and whether it was there already: asking again under the same name asks nothing more.
async fn create(
    api: &Api<LeaseRequest>,
    wanted: &LeaseRequest,
    asking: &Asking,
) -> Result<(LeaseRequest, bool), Failure> {
    let name = wanted.name_any();
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let error = match api.create(&params, wanted).await {
        Ok(made) => return Ok((made, false)),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api.get(&name).await.map_err(|error| failed(&error))?;
            let mut spec = wanted.spec.clone();
            if !asking.expects() {
                // It was made when another one led.
                spec.expect_holder.clone_from(&there.spec.expect_holder);
                spec.expect_version = there.spec.expect_version;
            }
            if there.spec == spec {
                return Ok((there, true));
            }
            return Err(Failure::new(
                ExitCode::Refused,
                format!(
                    "there is another LeaseRequest {name} already (IdUsed), nothing was changed; take another --id"
                ),
            ));
        }
        Err(error) => failed(&error),
    };
    if error.exit != ExitCode::Unavailable {
        return Err(error);
    }
    Err(Failure::new(
        error.exit,
        format!(
            "{error}; it is not known whether the LeaseRequest {name} was made: ask again with --id {name}, which asks nothing twice, or delete it"
        ),
    ))
}

/// The final status; none if it did not come in time.
async fn follow(
    api: &Api<LeaseRequest>,
    name: &str,
    asking: &Asking,
) -> Result<Option<LeaseRequestStatus>, Failure> {
    if let Some(timeout) = asking.timeout {
        return until(api, name, timeout, |status| status.state.is_final()).await;
    }
    let answered = |status: &LeaseRequestStatus| status.state != RequestState::Pending;
    let Some(status) = until(api, name, FIRST_ANSWER, answered).await? else { return Ok(None) };
    if status.state.is_final() {
        return Ok(Some(status));
    }
    let began = SystemClock.boot();
    let mut within = patience(&status);
    loop {
        let left = (began + within + MARGIN).saturating_sub(SystemClock.boot());
        if let Some(status) = until(api, name, left, |status| status.state.is_final()).await? {
            return Ok(Some(status));
        }
        // Its controller gives more time, once, if the database changes meanwhile.
        let now = api.get_opt(name).await.map_err(|error| failed(&error))?.and_then(|object| object.status);
        match now.as_ref().map(patience) {
            Some(longer) if longer > within => within = longer,
            _ => return Ok(None),
        }
    }
}

/// How long it should take at most.
fn patience(status: &LeaseRequestStatus) -> Duration {
    let within = status.within_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    within.map_or(FIRST_ANSWER, Duration::from_secs)
}

/// The first status of which this is true; none if it does not come within the limit.
async fn until(
    api: &Api<LeaseRequest>,
    name: &str,
    limit: Duration,
    is_it: impl Fn(&LeaseRequestStatus) -> bool,
) -> Result<Option<LeaseRequestStatus>, Failure> {
    let seen = |object: Option<&LeaseRequest>| match object {
        // Somebody took it back.
        None => true,
        Some(object) => object.status.as_ref().is_some_and(&is_it),
    };
    match condition_of(api, name, limit, seen).await {
        None => Ok(None),
        Some(Some(object)) => Ok(object.status),
        Some(None) => Err(deleted(name)),
    }
}

/// The object once this is true of it; none if it does not become true within the limit. A watch that breaks begins
/// again: the request stands meanwhile.
async fn condition_of<K>(
    api: &Api<K>,
    name: &str,
    limit: Duration,
    is_it: impl Fn(Option<&K>) -> bool,
) -> Option<Option<K>>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let watched = async {
        loop {
            match await_condition(api.clone(), name, &is_it).await {
                Ok(object) => return object,
                Err(_) => tokio::time::sleep(WATCH_AGAIN).await,
            }
        }
    };
    tokio::time::timeout(limit, watched).await.ok()
}

/// Deletes a request that is not over. Its final status, if it was over before that.
async fn give_up(api: &Api<LeaseRequest>, name: &str) -> Result<Option<LeaseRequestStatus>, Failure> {
    let stands = |error: &Failure| {
        Failure::new(
            error.exit,
            format!(
                "{error}; the LeaseRequest {name} may still stand: delete it, so that its controller takes it back"
            ),
        )
    };
    loop {
        let Some(object) = api.get_opt(name).await.map_err(|error| stands(&failed(&error)))? else {
            return Err(deleted(name));
        };
        if let Some(status) = object.status.filter(|status| status.state.is_final()) {
            return Ok(Some(status));
        }
        let unchanged =
            Preconditions { uid: object.metadata.uid, resource_version: object.metadata.resource_version };
        match api.delete(name, &DeleteParams::default().preconditions(unchanged)).await {
            Ok(_) => return Ok(None),
            // Its status has just changed.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(stands(&failed(&error))),
        }
    }
}

fn deleted(name: &str) -> Failure {
    Failure::new(
        ExitCode::NotCarriedOut,
        format!("somebody deleted the LeaseRequest {name} (Withdrawn), and its controller takes it back"),
    )
}

fn told_by(status: LeaseRequestStatus, took: Option<Duration>) -> Ended {
    let LeaseRequestStatus { state, reason, message, steps, within_seconds, leader, version, .. } = status;
    match state {
        RequestState::Planned => Ended::Planned {
            steps,
            within: Duration::from_secs(
                within_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0),
            ),
        },
        RequestState::CarriedOut => {
            Ended::Done { leader: leader.unwrap_or_default(), version: version.unwrap_or_default(), took }
        }
        RequestState::Refused => Ended::Refused { reason, message },
        RequestState::Void | RequestState::Pending | RequestState::Accepted => {
            Ended::NotDone { reason, message }
        }
    }
}
