//! One reconcile of a database, which reads downwards as it runs: observe, decide, apply, report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use tracing::warn;

use super::observe::{self, Look};
use super::report::{Facts, report};
use super::watched::Watched;
use crate::api::{DesiredDatabase, InvalidSpec, LeaseDatabase, LeaseDatabaseStatus, desired_database};
use crate::controller::acting::Acting;
use crate::controller::announcer::name_of;
use crate::controller::caches::Database;
use crate::controller::handles::Handles;
use crate::controller::reconcile::apply;
use crate::controller::turns::Labelling;
use crate::routing::conditions::{Condition, ConditionType, EventReason, Reason, Truth};
use crate::routing::decide::service::change_services;
use crate::routing::decide::{Decision, Event, Plan, decide};
use crate::routing::observed::{Observed, Status};
use crate::routing::outcome::Outcome;
use crate::routing::{report::report as routing_report, service_problem};

/// A pass that meets a changed pod begins again on a fresh view, this often.
const PASSES: usize = 5;
/// No sooner is a database looked at again.
const AGAIN: Duration = Duration::from_millis(5);

/// Why a database is looked at again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the Lease could not be read")]
    Lease(#[source] kube::Error),
    #[error("the watch does not show yet what was written to pods")]
    WatchBehind,
    #[error(transparent)]
    Apply(#[from] apply::Error),
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
}

impl Error {
    /// For metrics: a bounded set of words.
    fn kind(&self) -> &'static str {
        match self {
            Self::Lease(_) => "stale",
            Self::WatchBehind => "watch_behind",
            Self::Apply(error) => error.kind(),
            Self::Status(_) => "status",
        }
    }
}

/// What each call has at hand.
pub(super) struct Worker {
    pub(super) acting: Acting,
    pub(super) handles: Arc<Handles>,
    pub(super) watched: Arc<Watched>,
}

impl Worker {
    /// Reconciles one database.
    #[tracing::instrument(level = "debug", skip_all, fields(namespace = database.namespace(), name = database.name_any()))]
    pub(super) async fn reconcile(&self, database: &Database) -> Result<Action, Error> {
        if !self.acts_on(database) || !self.watched.scope.settled() {
            return Ok(Action::await_change());
        }
        let clock = &self.handles.database.clock;
        let begun = clock.boot();
        let outcome = match &database.0 {
            Err(unreadable) => {
                let (object, error) = (name_of(database), &unreadable.error);
                warn!(object, error, "the resource is invalid; correct it (no other resource is affected)");
                return Ok(Action::await_change());
            }
            Ok(database) => match desired_database(database) {
                // Boxed for its size.
                Ok(desired) => Box::pin(self.reconcile_valid(database, &desired)).await,
                Err(invalid) => self.say_invalid(database, &invalid).await.map(|()| Action::await_change()),
            },
        };
        let took = clock.boot().saturating_sub(begun);
        self.handles.announcer.metrics.reconciled(outcome.as_ref().err().map(Error::kind), took);
        outcome
    }

    /// Whether it is one for this controller, which acts, and where no other release is in front of it.
    fn acts_on(&self, database: &Database) -> bool {
        let lookout = &self.handles.cluster.lookout;
        let ours = |database: &LeaseDatabase| database.spec.class_name == lookout.class();
        self.acting.acts()
            && database.0.as_ref().ok().is_none_or(ours)
            && !lookout.leaves(database.meta().namespace.as_deref().unwrap_or_default())
    }

    async fn reconcile_valid(
        &self,
        database: &LeaseDatabase,
        desired: &DesiredDatabase,
    ) -> Result<Action, Error> {
        let Self { handles, watched, .. } = self;
        let cluster = &handles.cluster;
        for _ in 0..PASSES {
            let turn = cluster.turns.to_label(desired.writer.candidates()).await;
            if !watched.scope.behind.caught_up(&watched.scope.pods).await {
                return Err(Error::WatchBehind);
            }
            // The list of Leases queues the database when it is there.
            let Some(mut look) = self.look(desired).await? else { return Ok(Action::await_change()) };
            let before = self.before(database);
            let seen =
                |look: &Look| observe::observe(database, before.as_ref(), desired, look, watched, handles);
            let mut observed = seen(&look);
            let mut decision = decide(&observed);
            if matches!(decision, Decision::LookAgain) || look.is_behind(before.as_ref()) {
                observe::read(watched, desired, handles).await.map_err(Error::Lease)?;
                let Some(again) = observe::look(watched, desired, handles.database.clock.boot()) else {
                    return Ok(Action::await_change());
                };
                look = again;
                // Judged for these very pods.
                observed = Observed { pods: observed.pods, row_confirmed: true, ..seen(&look) };
                decision = decide(&observed);
            }
            let Decision::Act(mut plan) = decision else { continue };
            let readers = observe::for_readers(desired, &observed, watched);
            let for_readers = readers.as_ref().map(change_services).unwrap_or_default();
            plan.services.extend(for_readers.iter().cloned());
            let outcome = apply::apply(&cluster.client, &watched.scope, database, &plan).await;
            if outcome.conflict {
                continue;
            }
            let readers = readers.and_then(|readers| {
                let plan = Plan { services: for_readers, leader: None, ..(*plan).clone() };
                service_problem(&readers, &plan, &outcome)
            });
            let pass = Pass { database, desired, before, look, observed, plan: *plan, outcome, readers };
            let again = self.report(pass, turn).await?;
            return Ok(again.map_or_else(Action::await_change, |wait| Action::requeue(wait.max(AGAIN))));
        }
        Err(apply::Error::Contended.into())
    }

    async fn look(&self, desired: &DesiredDatabase) -> Result<Option<Look>, Error> {
        let Self { handles, watched, .. } = self;
        let look = || observe::look(watched, desired, handles.database.clock.boot());
        let seen = look();
        if seen.as_ref().is_some_and(Look::has_run_out) {
            observe::read(watched, desired, handles).await.map_err(Error::Lease)?;
            return Ok(look());
        }
        Ok(seen)
    }

    /// Says what was found and done; when to look again if nothing happens before.
    async fn report(&self, pass: Pass<'_>, labelled: Labelling<'_>) -> Result<Option<Duration>, Error> {
        let Self { handles, watched, .. } = self;
        let _turn = handles.cluster.turns.to_say(labelled).await;
        let now = handles.database.clock.boot();
        let (unserved, served) = handles.cluster.serving.say(&pass.observed, &pass.plan, now);
        let routed =
            routing_report(&pass.observed, &pass.plan, &Outcome { unserved, ..pass.outcome.clone() });
        let uid = &pass.desired.writer.uid;
        let (ready, steady) = match observe::ready_members(&pass.observed) {
            Ok(ready) => {
                let (ready, steady) = watched.readiness.say(uid, &pass.desired.members, &ready, now);
                (Ok(ready), steady)
            }
            Err(why) => (Err(why), None),
        };
        let facts = pass.facts(&routed, ready);
        let generation = pass.desired.writer.generation;
        let said = report(&facts, generation, pass.before.as_ref());
        let (status, conditions) = (said.status, &said.conditions);
        let written = self.write(pass.database, pass.before.as_ref(), status, conditions).await;
        written.map_err(Error::Status)?;
        let of_pods = [EventReason::HolderRejected, EventReason::ForeignLabelRemoved];
        let of_pods = pass.plan.events.iter().filter(|event| of_pods.contains(&event.reason)).cloned();
        let events: Vec<Event> = said.events.into_iter().chain(of_pods).collect();
        handles.announcer.record(pass.database, &events).await;
        apply::complete(&pass.outcome)?;
        let next = pass.plan.next.into_iter().chain(served).chain(steady).min();
        Ok(next.map(|at| at.saturating_sub(now)))
    }

    async fn say_invalid(&self, database: &LeaseDatabase, invalid: &InvalidSpec) -> Result<(), Error> {
        let (why, reason) = (invalid.to_string(), invalid.reason());
        let before = self.before(database);
        let status = LeaseDatabaseStatus {
            observed_generation: database.metadata.generation,
            conditions: Vec::new(),
            ..before.clone().unwrap_or_default()
        };
        let c = |kind, status: Truth| Condition::new(kind, status, reason, why.clone());
        let conditions = [
            c(ConditionType::Ready, Truth::False),
            c(ConditionType::PrimaryElected, Truth::Unknown),
            c(ConditionType::Routed, Truth::Unknown),
            c(ConditionType::Replicating, Truth::Unknown),
            c(ConditionType::FailoverReady, Truth::Unknown),
            c(ConditionType::Stalled, Truth::True),
        ];
        let written = self.write(database, before.as_ref(), status, &conditions).await;
        if written.map_err(Error::Status)? {
            let event = Event { reason: invalid.event(), warning: true, note: why };
            self.handles.announcer.record(database, &[event]).await;
        }
        Ok(())
    }
}

/// What one pass has found and done.
struct Pass<'p> {
    database: &'p LeaseDatabase,
    desired: &'p DesiredDatabase,
    before: Option<LeaseDatabaseStatus>,
    look: Look,
    observed: Observed,
    plan: Plan,
    outcome: Outcome,
    /// What is wrong with the Service for readers.
    readers: Option<Condition>,
}

impl Pass<'_> {
    fn facts(&self, routed: &Status, ready: Result<BTreeSet<String>, String>) -> Facts {
        let Look { trouble, known, standing, .. } = &self.look;
        let condition = |kind| routed.condition(kind).cloned();
        let mut stalled = condition(ConditionType::Stalled);
        if let Some(wrong) = self.readers.as_ref().filter(|wrong| wrong.reason == Reason::ServiceNotOurs) {
            stalled = Some(Condition::new(ConditionType::Stalled, true, wrong.reason, wrong.message.clone()));
        }
        Facts {
            lease: self.desired.lease.clone(),
            declared: self.desired.members.clone(),
            trouble: trouble.clone(),
            row: known.as_ref().map(|known| known.row.clone()),
            has_run_out: self.look.has_run_out(),
            standing: standing.clone(),
            ready,
            took: known
                .as_ref()
                .and_then(|known| known.took)
                .map(|(version, took)| (version, (took.as_secs_f64() * 1000.0).round() / 1000.0)),
            pod: routed.holder_pod.as_ref().map(|pod| (pod.name.clone(), pod.uid.clone())),
            routed: self.routed(routed),
            stalled: stalled.unwrap_or_else(|| {
                Condition::new(
                    ConditionType::Stalled,
                    false,
                    Reason::NoEditNeeded,
                    "the spec can be carried out",
                )
            }),
        }
    }

    fn routed(&self, status: &Status) -> Condition {
        let routed = status.condition(ConditionType::Routed);
        let accepted = status.condition(ConditionType::HolderAccepted);
        let unknown = |reason, why: &str| Condition::new(ConditionType::Routed, Truth::Unknown, reason, why);
        let of = |from: &Condition| Condition { kind: ConditionType::Routed, ..from.clone() };
        if self.look.vanished(self.before.as_ref()) {
            let lease = &self.desired.lease;
            let why = format!(
                "the Lease {lease} is gone; the label stays until a member holds a Lease of that name"
            );
            return Condition::new(ConditionType::Routed, Truth::Unknown, Reason::Vacant, why);
        }
        match (routed, &self.look.trouble) {
            (Some(routed), Some(trouble)) if routed.reason == Reason::DatabaseUnreachable => {
                unknown(trouble.reason, &trouble.text)
            }
            (Some(routed), _) if routed.reason == Reason::HolderRejected => of(accepted.unwrap_or(routed)),
            (Some(routed), _) if routed.status == Truth::True => {
                self.readers.clone().unwrap_or_else(|| routed.clone())
            }
            (Some(routed), _) => routed.clone(),
            (None, _) => unknown(Reason::Forbidden, "it is not known who is routed to"),
        }
    }
}
