//! What becomes of a request that stands in the database.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;

use super::asked::{Asked, Away, bounded};
use super::say::{changed, state_of, told};
use super::{AGAIN, Error, SOON, Worker, status};
use crate::api::{LeaseRequest, LeaseRequestStatus, RequestState};
use crate::election::LeaseRow;
use crate::operator::{self, Outcome, Progress, Situation};
use crate::routing::conditions::RequestReason;
use crate::store::Snapshot;

/// A lease that has been free for so long is worth a word.
const FREE_FOR: Duration = Duration::from_secs(2);

impl Worker {
    /// Since it was accepted.
    fn elapsed(&self, request: &LeaseRequest) -> Duration {
        let now = self.handles.database.clock.boot();
        let accepted = self.watched.with(request, now, |known| known.accepted);
        if let Some(accepted) = accepted {
            return now.saturating_sub(accepted);
        }
        // By an earlier process.
        let accepted: Option<jiff::Timestamp> = status(request).accepted_at.and_then(|at| at.parse().ok());
        let ms = accepted.map_or(0, |at| self.wall_ms().saturating_sub(at.as_millisecond()));
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    pub(super) async fn follow(&self, request: LeaseRequest, asked: &Asked) -> Result<Action, Error> {
        let seen = match self.shared_look(&request, asked).await {
            Ok(seen) => seen,
            Err(away) => return self.away(&request, &away).await,
        };
        if let Some(another) = self.another(&request, asked, &seen) {
            return self.finish(&request, another).await;
        }
        let elapsed = self.elapsed(&request);
        let within = self.within(&request, asked, &seen, elapsed);
        let free = match asked.progress(&seen) {
            // By this controller or the one before, which could not say what became of it.
            Progress::Ended(Outcome::Withdrawn) if elapsed >= within => {
                return self.timed_out(&request, asked, within, &seen).await;
            }
            Progress::Ended(_) => return self.ended(&request, asked, &seen).await,
            Progress::Free => true,
            Progress::Waiting => false,
        };
        if elapsed >= within {
            return self.give_up(&request, asked, within).await;
        }
        let leader = asked.observed.leader.as_deref().unwrap_or("nobody");
        let (reason, why) = if free && elapsed > FREE_FOR {
            (RequestReason::LeaseFree, format!("{leader} has made way, and nobody has taken the lease yet"))
        } else {
            (
                RequestReason::Waiting,
                format!("{leader}, which leads with version {}, was asked", asked.request.version),
            )
        };
        let waiting = LeaseRequestStatus {
            within_seconds: i64::try_from(within.as_secs()).ok(),
            ..changed(&request, RequestState::Accepted, reason.as_str(), &why, self.wall_ms())
        };
        if self.say(&request, waiting).await?.is_none() {
            return self.read_again(&request).await;
        }
        Ok(Action::requeue(AGAIN.min(within.saturating_sub(elapsed))))
    }

    /// A look that is newer than the last one and the last news, shared with all others that are followed.
    async fn shared_look(&self, request: &LeaseRequest, asked: &Asked) -> Result<Arc<Snapshot>, Away> {
        let database = &self.handles.database;
        let now = database.clock.boot();
        let since = self.watched.with(request, now, |known| known.seen);
        let all = || {
            let all = self.all.iter().flat_map(|watched| {
                watched
                    .known()
                    .values()
                    .filter_map(|known| known.asked.as_ref().map(|(asked, _)| asked.clone()))
                    .collect::<Vec<_>>()
            });
            all.collect()
        };
        let (begun, seen) = self.looks.after(since, &asked.component, all, database).await;
        self.watched.with(request, now, |known| known.seen = known.seen.max(begun));
        seen
    }

    /// For how long it is waited since it was accepted. While nobody takes a lease of the database, it cannot be carried
    /// out: then it has as much time as if it had been asked just now, once.
    fn within(&self, request: &LeaseRequest, asked: &Asked, seen: &Snapshot, elapsed: Duration) -> Duration {
        let within =
            Duration::from_secs(u64::try_from(status(request).within_seconds.unwrap_or(0)).unwrap_or(0));
        let Some(more) = operator::within_quarantine(&Situation::of(seen, &asked.component)) else {
            return within;
        };
        let now = self.handles.database.clock.boot();
        let first = self.watched.with(request, now, |known| !std::mem::replace(&mut known.extended, true));
        if first { within.max(elapsed + more) } else { within }
    }

    /// Another database answers than the one that was asked.
    pub(super) fn another(
        &self,
        request: &LeaseRequest,
        asked: &Asked,
        seen: &Snapshot,
    ) -> Option<LeaseRequestStatus> {
        let now = seen.life.database();
        if asked.observed.database_uuid.as_deref() == now {
            return None;
        }
        let why = format!(
            "the database that was asked is not the one that answers now (component_lease_store.uuid was {}, and is {})",
            asked.observed.database_uuid.as_deref().unwrap_or("unknown"),
            now.unwrap_or("unknown")
        );
        let reason = RequestReason::AnotherDatabase.as_str();
        Some(changed(request, RequestState::Void, reason, &why, self.wall_ms()))
    }

    /// Takes back what was not carried out in time, and looks once more.
    async fn give_up(
        &self,
        request: &LeaseRequest,
        asked: &Asked,
        within: Duration,
    ) -> Result<Action, Error> {
        if let Err(away) = bounded(self.store().withdraw(&asked.component, &asked.request.id)).await {
            return self.away(request, &away).await;
        }
        let seen = match self.look(&asked.component, false).await {
            Ok(seen) => seen,
            Err(away) => return self.away(request, &away).await,
        };
        if matches!(asked.progress(&seen), Progress::Ended(Outcome::CarriedOut { .. })) {
            return self.ended(request, asked, &seen).await;
        }
        self.timed_out(request, asked, within, &seen).await
    }

    /// It was taken back.
    async fn timed_out(
        &self,
        request: &LeaseRequest,
        asked: &Asked,
        within: Duration,
        seen: &Snapshot,
    ) -> Result<Action, Error> {
        let leader = asked.observed.leader.as_deref().unwrap_or("nobody");
        let free = seen.rows.get(asked.component.as_str()).is_some_and(LeaseRow::is_free);
        let what = if free {
            format!("{leader} made way, but nobody took the lease")
        } else {
            format!("{leader} did not make way")
        };
        let why = format!("{what} within {} s; the request was taken back", within.as_secs());
        let void =
            changed(request, RequestState::Void, RequestReason::TimedOut.as_str(), &why, self.wall_ms());
        self.finish(request, self.with_leader(void, request, asked, seen)).await
    }

    async fn ended(&self, request: &LeaseRequest, asked: &Asked, seen: &Snapshot) -> Result<Action, Error> {
        let Progress::Ended(outcome) = asked.progress(seen) else { return Ok(Action::requeue(SOON)) };
        let (target, from) = (asked.observed.target.as_deref(), asked.observed.leader.as_deref());
        let why = told(&outcome, target, from);
        let over = changed(request, state_of(&outcome), outcome.reason(), &why, self.wall_ms());
        self.finish(request, self.with_leader(over, request, asked, seen)).await
    }

    fn with_leader(
        &self,
        status: LeaseRequestStatus,
        request: &LeaseRequest,
        asked: &Asked,
        seen: &Snapshot,
    ) -> LeaseRequestStatus {
        let row = seen.rows.get(asked.component.as_str());
        let ms = u32::try_from(self.elapsed(request).as_millis()).unwrap_or(u32::MAX);
        LeaseRequestStatus {
            seconds: Some(f64::from(ms) / 1000.0),
            leader: row.filter(|row| !row.is_free()).map(|row| row.holder.clone()),
            version: row.map(|row| row.version),
            ..status
        }
    }
}
