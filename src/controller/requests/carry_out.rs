//! A request from its creation until it stands in the database.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::debug;

use super::super::announcer::name_of;
use super::super::caches::Lease;
use super::asked::{Asked, Away, CALL_LIMIT, bounded};
use super::check::{self, About, No};
use super::forgotten::id_of;
use super::say::{changed, rfc3339};
use super::{AGAIN, Error, PATIENCE, SOON, Worker, status};
use crate::api::{LeaseRequest, LeaseRequestStatus, ObservedTerm, RequestState};
use crate::election::ComponentName;
use crate::operator::{self, NotAsked, Plan, Refusal, Situation, Wish, plan};
use crate::routing::conditions::RequestReason;
use crate::store::{Directory, Names, Said, Snapshot};

/// What the user wants, for the planner.
fn wish(request: &LeaseRequest, id: String, expect_version: Option<i64>) -> Result<Wish, No> {
    let spec = &request.spec;
    let said = Said::new(spec.requested_by.clone(), spec.reason.clone().unwrap_or_default())
        .map_err(|error| No::new(RequestReason::InvalidRequest, error.to_string()))?;
    Ok(Wish {
        id,
        verb: spec.verb.into(),
        to: spec.target.clone(),
        expect_holder: spec.expect_holder.clone(),
        expect_version: expect_version.or(spec.expect_version),
        away: spec.away_seconds.map(|away| Duration::from_secs(u64::from(away.unsigned_abs()))),
        replace: spec.replaces.clone(),
        said,
    })
}

fn refusal(refusal: &Refusal) -> No {
    No { reason: refusal.reason(), why: refusal.to_string() }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl Worker {
    pub(super) fn store(&self) -> &Arc<dyn Directory> {
        self.handles.database.store()
    }

    pub(super) fn wall_ms(&self) -> i64 {
        self.handles.database.clock.wall_ms()
    }

    pub(super) async fn look(&self, component: &ComponentName, instances: bool) -> Result<Snapshot, Away> {
        let names: Names = std::iter::once(component.clone()).collect();
        bounded(self.store().look_at(&names, instances)).await
    }

    pub(super) async fn carry_out(
        &self,
        request: LeaseRequest,
        observed: Option<ObservedTerm>,
    ) -> Result<Action, Error> {
        let scope = &self.watched.scope;
        // What is claimed by whom is known once all are listed.
        if !scope.settled() {
            return Ok(Action::requeue(SOON));
        }
        let Some(observed) = observed else { return Box::pin(self.begin(request)).await };
        if observed.class_name != self.handles.cluster.lookout.class() {
            return Ok(Action::await_change());
        }
        let Some(asked) = Asked::of(&request, observed) else {
            let no = No::new(RequestReason::InvalidRequest, "status.observed was written by somebody else");
            return self.finish(&request, self.refused(&request, &no)).await;
        };
        self.remember(&request, &asked.component, &asked.request.id);
        if status(&request).state == RequestState::Accepted {
            self.follow(request, &asked).await
        } else {
            Box::pin(self.go_on_asking(request, asked)).await
        }
    }

    /// From now on it may stand in the database.
    fn remember(&self, request: &LeaseRequest, component: &ComponentName, id: &str) {
        let now = self.handles.database.clock.boot();
        let asked = (component.clone(), id.to_owned());
        self.watched.with(request, now, |known| known.asked = Some(asked));
    }

    fn is_too_late(&self, request: &LeaseRequest) -> bool {
        let now = self.handles.database.clock.boot();
        let known = now.saturating_sub(self.watched.with(request, now, |known| known.first_seen));
        let made = request.creation_timestamp().map(|made| made.0.as_millisecond());
        waited(known, made, self.wall_ms()) > PATIENCE
    }

    /// Nothing was asked yet.
    async fn begin(&self, request: LeaseRequest) -> Result<Action, Error> {
        let (cluster, scope) = (&self.handles.cluster, &self.watched.scope);
        let lease = match check::about(&request, &self.watched, cluster).await? {
            About::Ours(lease) => lease,
            About::Others => return Ok(Action::await_change()),
            About::NotYet if self.is_too_late(&request) => return self.too_late(&request).await,
            About::NotYet => return Ok(Action::requeue(SOON * 5)),
            About::Nothing => {
                let why = format!(
                    "there is no ComponentLease {} in this namespace; kubectl get componentleases shows those that there are",
                    request.spec.lease
                );
                let no = No::new(RequestReason::NoSuchLease, why);
                return self.finish(&request, self.refused(&request, &no)).await;
            }
        };
        if self.is_too_late(&request) {
            return self.too_late(&request).await;
        }
        if let Err(no) = check::room(&request, &self.watched) {
            return self.finish(&request, self.refused(&request, &no)).await;
        }
        let ours = match check::usable(&lease, scope, cluster) {
            Ok(ours) => ours,
            Err(no) => return self.finish(&request, self.refused(&request, &no)).await,
        };
        let component = ours.1.component.clone();
        // Of a look that fails, another one may not: until it has waited for too long.
        let seen = match self.look(&component, true).await {
            Ok(seen) => seen,
            Err(away) => return self.not_asked(&request, &away).await,
        };
        match self.planned(&request, &lease, &seen, None) {
            Err(no) => self.finish(&request, self.refused(&request, &no)).await,
            Ok((_, plan)) if request.spec.dry_run => {
                let steps = plan.steps.join(" ");
                let (state, reason) = (RequestState::Planned, RequestReason::DryRun.as_str());
                let planned = changed(&request, state, reason, &steps, self.wall_ms());
                self.finish(&request, self.with_plan(planned, &component, &plan, &seen)).await
            }
            Ok((wish, plan)) => {
                let (state, reason) = (RequestState::Pending, RequestReason::Asking.as_str());
                let asking =
                    changed(&request, state, reason, "it is being written into the database", self.wall_ms());
                let asking = self.with_plan(asking, &component, &plan, &seen);
                let Some(request) = self.say(&request, asking).await? else {
                    return self.read_again(&request).await;
                };
                Box::pin(self.ask(request, &component, &wish, &plan)).await
            }
        }
    }

    /// What is to be asked, by what this look shows.
    fn planned(
        &self,
        request: &LeaseRequest,
        lease: &Lease,
        seen: &Snapshot,
        version: Option<i64>,
    ) -> Result<(Wish, Plan), No> {
        let (cluster, scope) = (&self.handles.cluster, &self.watched.scope);
        let (lease, desired) = check::usable(lease, scope, cluster)?;
        check::right_place(lease, &desired, seen, cluster)?;
        // What may have been written already keeps its id.
        let known = version.and_then(|_| status(request).id.or_else(|| request.uid()));
        let lease_uid = lease.metadata.uid.as_deref().unwrap_or_default();
        let id = known.unwrap_or_else(|| id_of(&request.uid().unwrap_or_default(), lease_uid));
        let wish = wish(request, id, version)?;
        let plan = plan(&Situation::of(seen, &desired.component), &wish).map_err(|no| refusal(&no))?;
        check::candidate(&plan, &desired, seen, scope)?;
        Ok((wish, plan))
    }

    fn with_plan(
        &self,
        status: LeaseRequestStatus,
        component: &ComponentName,
        plan: &Plan,
        seen: &Snapshot,
    ) -> LeaseRequestStatus {
        let away = plan.request.away;
        LeaseRequestStatus {
            id: Some(plan.request.id.clone()),
            steps: plan.steps.clone(),
            within_seconds: Some(seconds(plan.within)),
            observed: Some(ObservedTerm {
                class_name: self.handles.cluster.lookout.class().to_owned(),
                component: component.to_string(),
                database_uuid: seen.life.database().map(ToOwned::to_owned),
                version: plan.request.version,
                leader: Some(plan.leader.clone()).filter(|leader| !leader.is_empty()),
                target: plan.request.target.as_ref().map(ToString::to_string),
                away_seconds: (!away.is_zero()).then(|| seconds(away)),
            }),
            ..status
        }
    }

    /// Writes it into the database. That it is about to is in the status.
    async fn ask(
        &self,
        request: LeaseRequest,
        component: &ComponentName,
        wish: &Wish,
        plan: &Plan,
    ) -> Result<Action, Error> {
        self.remember(&request, component, &plan.request.id);
        let posted =
            tokio::time::timeout(CALL_LIMIT, operator::post(self.store().as_ref(), component, wish, plan));
        match posted.await {
            Ok(Ok(())) => Box::pin(self.accepted(request)).await,
            Ok(Err(NotAsked::Refused(no))) => {
                self.finish(&request, self.refused(&request, &refusal(&no))).await
            }
            Ok(Err(NotAsked::Store(error))) => self.not_asked(&request, &error.into()).await,
            Err(_) => self.away(&request, &Away::silent()).await,
        }
    }

    async fn not_asked(&self, request: &LeaseRequest, away: &Away) -> Result<Action, Error> {
        if !away.hopeless {
            return self.away(request, away).await;
        }
        let no = No::new(RequestReason::DatabaseMisconfigured, away.why.clone());
        self.finish(request, self.refused(request, &no)).await
    }

    /// The status says that it may have been asked, and not that it was.
    async fn go_on_asking(&self, request: LeaseRequest, asked: Asked) -> Result<Action, Error> {
        let seen = match self.look(&asked.component, true).await {
            Ok(seen) => seen,
            Err(away) => return self.away(&request, &away).await,
        };
        if let Some(another) = self.another(&request, &asked, &seen) {
            return self.finish(&request, another).await;
        }
        let situation = Situation::of(&seen, &asked.component);
        let posted = situation.asked.and_then(|known| known.request.as_ref());
        if posted.is_some_and(|posted| posted.request.id == asked.request.id) {
            return Box::pin(self.accepted(request)).await;
        }
        if !asked.request.is_about(situation.row) {
            let why = "the term that it is about ended before it was known whether it was written down";
            let (state, reason) = (RequestState::Void, "LeaseChanged");
            return self.finish(&request, changed(&request, state, reason, why, self.wall_ms())).await;
        }
        let no = if self.is_too_late(&request) {
            None
        } else if let Some(lease) = check::known(&request, &self.watched.scope) {
            match self.planned(&request, &lease, &seen, Some(asked.request.version)) {
                Ok((wish, plan)) => {
                    return Box::pin(self.ask(request, &asked.component, &wish, &plan)).await;
                }
                Err(no) => Some(no),
            }
        } else {
            Some(No::new(RequestReason::NoSuchLease, "the ComponentLease is gone"))
        };
        // It may have been written down since this look, by a call that was given up.
        if let Err(away) = bounded(self.store().withdraw(&asked.component, &asked.request.id)).await {
            return self.away(&request, &away).await;
        }
        match no {
            Some(no) => self.finish(&request, self.refused(&request, &no)).await,
            None => self.too_late(&request).await,
        }
    }

    async fn too_late(&self, request: &LeaseRequest) -> Result<Action, Error> {
        let unreachable = RequestReason::DatabaseUnreachable.as_str();
        let (reason, why) = if status(request).reason == unreachable {
            (unreachable, "the database did not answer")
        } else {
            (RequestReason::TooLate.as_str(), "no controller could look at it")
        };
        let why = format!(
            "{why} for {} s after the request was made, so nothing was asked; ask again if it is still needed",
            PATIENCE.as_secs()
        );
        self.finish(request, changed(request, RequestState::Void, reason, &why, self.wall_ms())).await
    }

    async fn accepted(&self, request: LeaseRequest) -> Result<Action, Error> {
        let clock = &self.handles.database.clock;
        let now = clock.boot();
        // What was looked at before does not show it.
        self.watched.with(&request, now, |known| (known.accepted, known.seen) = (Some(now), now));
        let observed = status(&request).observed;
        let leader = observed.as_ref().and_then(|observed| observed.leader.as_deref()).unwrap_or("nobody");
        let version = observed.as_ref().map_or(0, |observed| observed.version);
        let why = format!("{leader}, which leads with version {version}, was asked");
        let (state, reason) = (RequestState::Accepted, RequestReason::Waiting.as_str());
        let wall = clock.wall_ms();
        let accepted = LeaseRequestStatus {
            accepted_at: Some(rfc3339(wall)),
            ..changed(&request, state, reason, &why, wall)
        };
        let Some(written) = self.say(&request, accepted).await? else {
            // Where the object is gone, so is what it asked.
            return self.read_again(&request).await;
        };
        let Some(asked) = observed.and_then(|observed| Asked::of(&written, observed)) else {
            return Ok(Action::requeue(SOON));
        };
        let ((), followed) = futures::join!(self.announce(&written), self.follow(written.clone(), &asked));
        followed
    }

    pub(super) async fn finish(
        &self,
        request: &LeaseRequest,
        wanted: LeaseRequestStatus,
    ) -> Result<Action, Error> {
        let Some(written) = self.say(request, wanted).await? else { return self.read_again(request).await };
        self.watched.is_over(request);
        self.handles.announcer.metrics.request_ended(status(&written).state.as_str());
        self.announce(&written).await;
        self.tidy(&written).await
    }

    /// The database does not answer. What was not asked yet is not asked after a while ([`PATIENCE`]); of what may have
    /// been asked nothing is said before it is known.
    pub(super) async fn away(&self, request: &LeaseRequest, away: &Away) -> Result<Action, Error> {
        let before = status(request);
        let reason = RequestReason::DatabaseUnreachable.as_str();
        let why = match (before.state, &before.observed) {
            (RequestState::Pending, None) => format!(
                "{}; it is asked as soon as the database answers, within {} s",
                away.why,
                PATIENCE.as_secs()
            ),
            (RequestState::Pending, Some(_)) => format!(
                "{}; it may have been written down, which is known once the database answers",
                away.why
            ),
            _ => format!("{}; what became of it is known once the database answers", away.why),
        };
        if before.reason != reason {
            // Of the database itself the poll says more, and once for all.
            debug!(object = name_of(request), error = away.why, "a request waits for the database");
        }
        if self.say(request, changed(request, before.state, reason, &why, self.wall_ms())).await?.is_none() {
            return self.read_again(request).await;
        }
        Ok(Action::requeue(AGAIN))
    }
}

/// How long a request has been waiting to be asked: for as long as this process knows of it, and not less than its
/// age by this node's clock. Both in ms since 1970 UTC.
fn waited(known: Duration, made: Option<i64>, wall: i64) -> Duration {
    let age = made.map_or(0, |made| wall.saturating_sub(made));
    known.max(Duration::from_millis(u64::try_from(age).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_by_either_clock_and_one_from_the_future_has_just_been_made() {
        let s = Duration::from_secs;
        assert_eq!(waited(s(3), Some(100_000), 102_000), s(3));
        assert_eq!(
            waited(s(0), Some(100_000), 170_000),
            s(70),
            "found by a controller that was started later"
        );
        assert_eq!(waited(s(61), Some(100_000), 40_000), s(61), "this node's clock is behind");
        assert_eq!(waited(s(0), Some(i64::MAX), i64::MIN), s(0));
        assert_eq!(waited(s(1), None, 0), s(1));
    }
}
