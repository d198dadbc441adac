//! One reconcile: observe -> decide -> apply -> report. All rules are in [`crate::routing::decide`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Client, ResourceExt as _};
use tracing::{debug, warn};

use super::apply::{apply, copy_floor};
use super::claims::claim;
use super::ended::{self, Endings, Release};
use super::error::Error;
use super::floor;
use super::metrics::Metrics;
use super::observe::{Lease, Scope};
use super::report::{Announcer, record, write_status};
use super::retry::Retry;
use super::rows::Rows;
use crate::api::{self, ComponentLease, ComponentLeaseStatus, InvalidSpec};
use crate::clock::Clock;
use crate::election::ComponentName;
use crate::membership::namespace::Grants;
use crate::participant::Participant;
use crate::rate::repeats::kind_of;
use crate::routing::conditions::{Condition, ConditionType, EventReason, Phase, Truth};
use crate::routing::database::{AnotherDatabase, check};
use crate::routing::decide::{Decision, Event, decide};
use crate::routing::floor::{EpochRate, FloorSight};
use crate::routing::observed::{Desired, LabelScheme, Observed, RowSight, Status, StoreSight};
use crate::routing::pod::Marks;
use crate::routing::report::{report, report_conflict};
use crate::store::{Names, StandingIntent};

/// A pass that meets a changed pod begins again on a fresh view, this often.
const PASSES: usize = 5;
/// How long after a failure the ttl is passed on to the participants again.
const INTENT_RETRY: Duration = Duration::from_secs(5);

/// What a generation of a resource asks for.
type Wanted = (Option<i64>, Arc<Result<Desired, InvalidSpec>>);

/// What every reconcile has at hand.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rows: Arc<Rows>,
    pub(super) scopes: Vec<Arc<Scope>>,
    pub(super) announcer: Announcer,
    pub(super) metrics: Metrics,
    pub(super) retry: Retry,
    pub(super) allowed_prefixes: Vec<String>,
    pub(super) grants: Grants,
    pub(super) accept_database: Option<String>,
    /// How many epochs may begin because resources remember later versions.
    pub(super) epoch_rate: Mutex<EpochRate>,
    /// `None` when there is only this replica.
    pub(super) election: Option<Arc<Participant>>,
    /// Statuses as they were last written, until the watch has caught up.
    pub(super) written: Mutex<HashMap<String, ComponentLease>>,
    pub(super) endings: Endings,
    /// By UID, what a generation of a resource asks for.
    pub(super) wanted: Mutex<HashMap<String, Wanted>>,
}

impl Context {
    /// Whether this replica acts. An overlap of two is harmless: every patch is guarded.
    pub(super) fn acts(&self) -> bool {
        self.election.as_ref().is_none_or(|participant| participant.is_leader())
    }

    /// Every readable resource of every scope.
    pub(super) fn leases(&self) -> Vec<Arc<Lease>> {
        self.scopes.iter().flat_map(|scope| scope.leases.state()).collect()
    }

    /// Whether something may be written that concerns the whole database which answered last: not where it is
    /// another one than all resources know, nor before they are known.
    pub(super) fn may_write_to(&self, database: Option<&str>) -> bool {
        self.scopes.iter().all(|scope| scope.filled()) && self.check_database(None, database).is_ok()
    }

    fn check_database(&self, known: Option<&str>, now: Option<&str>) -> Result<(), AnotherDatabase> {
        let accepted = self.accept_database.as_deref();
        if known.is_some() {
            return check(known, [], now, accepted);
        }
        let leases = self.leases();
        let others = leases
            .iter()
            .filter_map(|lease| lease.0.as_ref().ok()?.status.as_ref()?.database_uuid.as_deref());
        check(None, others, now, accepted)
    }

    /// The components that resources claim, also in vain.
    pub(super) fn claims(&self) -> Names {
        let leases = self.leases();
        let desired =
            leases.iter().filter_map(|lease| lease.0.as_ref().ok()).map(|lease| self.desired(lease));
        let components =
            desired.filter_map(|desired| desired.as_ref().as_ref().ok().map(|d| d.component.clone()));
        components.collect()
    }

    fn status_before(&self, lease: &ComponentLease) -> Option<ComponentLeaseStatus> {
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

    /// What the resource asks for. Remembered by generation: with every change of a pod all
    /// resources of its namespace are asked.
    pub(super) fn desired(&self, lease: &ComponentLease) -> Arc<Result<Desired, InvalidSpec>> {
        let uid = lease.metadata.uid.as_deref().unwrap_or_default();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted.get(uid) {
            Some((generation, desired)) if *generation == lease.metadata.generation => Arc::clone(desired),
            _ => {
                let desired = api::desired(lease, &self.allowed_prefixes).and_then(|desired| {
                    self.grants.allow(&desired.namespace, &desired.component)?;
                    Ok(desired)
                });
                let desired = Arc::new(desired);
                wanted.insert(uid.to_owned(), (lease.metadata.generation, Arc::clone(&desired)));
                desired
            }
        }
    }

    /// The key of the row, where the resource may claim it.
    pub(super) fn component(&self, lease: &ComponentLease) -> Option<ComponentName> {
        let component = api::component(lease).ok()?;
        let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
        self.grants.allow(namespace, &component).ok().map(|()| component)
    }

    pub(super) fn forget(&self, gone: &Lease) {
        let uid = gone.uid().unwrap_or_default();
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.endings.forget(&uid);
    }

    fn remember(&self, lease: ComponentLease) {
        let uid = lease.uid().unwrap_or_default();
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, lease);
    }
}

/// Reconciles one resource.
pub(super) async fn reconcile(
    lease: Arc<Lease>,
    scope: Arc<Scope>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    // Caches that were never filled show nothing, and a database that was never asked says nothing.
    // Whatever is missing queues everything when it comes.
    if !context.acts() || !scope.settled() {
        return Ok(Action::await_change());
    }
    let name = format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any());
    let outcome = match &lease.0 {
        Ok(lease) => match context.desired(lease).as_ref() {
            // The look that shows its row queues it again.
            Ok(desired) if !context.rows.looked(desired.component.as_str()) => {
                return Ok(Action::await_change());
            }
            Ok(desired) => reconcile_valid(lease, desired, &scope, &context).await,
            Err(invalid) => report_invalid(lease, invalid, &context).await,
        },
        Err(unreadable) => {
            if context.announcer.may_warn("unreadable", &format!("{name} {}", unreadable.error)) {
                warn!(
                    object = name,
                    error = unreadable.error,
                    "the resource cannot be read; correct it: nothing else is disturbed"
                );
            }
            return Ok(Action::await_change());
        }
    };
    context.metrics.reconciled(outcome.as_ref().err().map(Error::kind));
    if outcome.is_ok() {
        context.retry.succeeded(&name);
    }
    outcome
}

/// What is done after a failure.
pub(super) fn on_error(lease: &Lease, error: &Error, context: &Context) -> Action {
    let name = format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any());
    let wait = context.retry.after_failure(&name, fastrand::f64());
    let chain = error.chain();
    if context.announcer.may_warn("reconcile", &format!("{name} {}", kind_of(&chain))) {
        warn!(object = name, error = chain, retry_in = ?wait, "not reconciled");
    }
    Action::requeue(wait)
}

async fn reconcile_valid(
    lease: &ComponentLease,
    desired: &Desired,
    scope: &Scope,
    context: &Context,
) -> Result<Action, Error> {
    for _ in 0..PASSES {
        if !scope.caught_up().await {
            return Err(Error::WatchBehind);
        }
        let before = context.status_before(lease);
        let mut observed = observe(lease, before.as_ref(), desired, scope, context);
        if !context.rows.knows_holder(desired.component.as_str()) {
            return Ok(Action::await_change());
        }
        let mut decision = decide(&observed);
        if matches!(decision, Decision::LookAgain) {
            debug!(object = lease.name_any(), "a pod knows of a later version; looking at the row again");
            if !context.rows.look_again().await {
                return Err(Error::Stale);
            }
            // For these very pods: a pod that is seen later may know of a version later still.
            (observed.store, observed.row, observed.now) = context.rows.sight(desired.component.as_str());
            hold_if_another(&mut observed, context);
            if !context.rows.knows_holder(desired.component.as_str()) {
                return Ok(Action::await_change());
            }
            observed.row_confirmed = true;
            decision = decide(&observed);
        }
        match decision {
            Decision::Conflict(by) => {
                let status = report_conflict(&observed, &by);
                let first = observed.memory.phase != Some(Phase::Conflict);
                let event = Event { reason: EventReason::Conflict, warning: true, note: by };
                let events: &[Event] = if first { &[event] } else { &[] };
                write(lease, before.as_ref(), &desired.component, &status, context).await?;
                record(&context.announcer, lease, events).await;
                return Ok(Action::await_change());
            }
            // Never after a look; and if it were, the next pass begins with a newer one.
            Decision::LookAgain => {}
            Decision::Act(plan) => {
                let release = ended::release(lease, &observed, &plan, context).await;
                if release == Release::Over {
                    if !context.rows.look_again().await {
                        return Err(Error::Stale);
                    }
                    continue;
                }
                let outcome = apply(&context.client, scope, lease, &plan).await;
                if outcome.conflict {
                    continue;
                }
                let status = report(&observed, &plan, &outcome);
                write(lease, before.as_ref(), &desired.component, &status, context).await?;
                let events: Vec<Event> =
                    plan.events.iter().cloned().chain(news(before.as_ref(), &status)).collect();
                // At once: until all is done, nothing else is done about this resource.
                let held = matches!(observed.store, StoreSight::Another(_));
                let ((), intended, raised, floor) = futures::join!(
                    record(&context.announcer, lease, &events),
                    set_intent(desired, plan.intend, context),
                    async { held || floor::raise_epoch(desired, observed.memory.floor, context).await },
                    copy_floor(&context.client, lease, status.floor)
                );
                let intended = intended & raised;
                floor.map_err(Error::Floor)?;
                if let Some(failure) = outcome.failed() {
                    return Err(Error::Incomplete(failure));
                }
                // While the database answers, the row's expiry is told by the look that shows it.
                let next = plan.next.filter(|_| observed.store != StoreSight::Answers);
                let next = next.map(|at| at.saturating_sub(context.clock.boot()));
                let retry = (!intended).then_some(INTENT_RETRY);
                let release = match release {
                    Release::After(wait) => Some(wait),
                    Release::NotNow | Release::Over => None,
                };
                let wait = next.into_iter().chain(retry).chain(release).min();
                return Ok(wait.map_or_else(Action::await_change, |wait| {
                    Action::requeue(wait.max(Duration::from_millis(5)))
                }));
            }
        }
    }
    Err(Error::Contended)
}

/// Conditions that are only shown while something is wrong are said once, when they first are.
fn news(before: Option<&ComponentLeaseStatus>, status: &Status) -> Vec<Event> {
    let kinds = [
        (ConditionType::VersionRegressed, EventReason::VersionRegressed),
        (ConditionType::TtlLimited, EventReason::TtlLimited),
        (ConditionType::SplitBrain, EventReason::SplitBrain),
        (ConditionType::DatabaseChanged, EventReason::DatabaseChanged),
    ];
    let said = |kind: ConditionType| {
        before.is_some_and(|before| before.conditions.iter().any(|c| c.type_ == kind.as_str()))
    };
    let new = kinds.into_iter().filter(|(kind, _)| !said(*kind));
    new.filter_map(|(kind, reason)| {
        let condition = status.conditions.iter().find(|condition| condition.kind == kind)?;
        Some(Event { reason, warning: true, note: condition.message.clone() })
    })
    .collect()
}

fn observe(
    lease: &ComponentLease,
    before: Option<&ComponentLeaseStatus>,
    desired: &Desired,
    scope: &Scope,
    context: &Context,
) -> Observed {
    let (store, row, now) = context.rows.sight(desired.component.as_str());
    let mut memory = api::memory(lease, before);
    // A patch that removes a forbidden key is refused as a whole: nothing else would get done.
    let withdrawn = |old: &mut LabelScheme| !api::may_write(&old.key, &context.allowed_prefixes);
    if let Some(old) = memory.applied.take_if(withdrawn)
        && context.announcer.may_warn("prefix", &desired.uid)
    {
        warn!(
            object = lease.name_any(),
            label = old.key,
            "the prefix of the label that the resource used before is no longer allowed, so it stays on the pods; remove it by hand, or allow the prefix again"
        );
    }
    let instances = context.rows.instances(desired.component.as_str());
    let holder = match &row {
        RowSight::Seen { row: Some(row), .. } => row.holder.as_str(),
        _ => "",
    };
    // Also a pod that it says it runs in may be no candidate, which is to be said.
    let holder_told = context.rows.holder_told(desired.component.as_str());
    let told = instances.iter().rev().chain(&holder_told).find(|seen| seen.holder == holder);
    let holder = told.and_then(|seen| seen.whereabouts.pod.as_deref()).unwrap_or(holder);
    let mut pods = scope.pods_of(desired, memory.applied.as_ref(), holder);
    let marks = Marks::of(&desired.name);
    for pod in pods.iter_mut().flatten() {
        pod.forget_forbidden_key(&marks, |key| api::may_write(key, &context.allowed_prefixes));
    }
    let mut observed = Observed {
        claim: claim(lease, desired, scope, context, pods.as_deref().unwrap_or(&[])),
        store,
        database: None,
        row_confirmed: false,
        longest_ttl: context.rows.longest_ttl(),
        floor: floor::sight(&memory, &row, context),
        instances,
        holder_told,
        disputed: context.rows.disputed(desired.component.as_str()),
        service: scope.service_of(desired),
        pods,
        now,
        row,
        memory,
        desired: desired.clone(),
    };
    hold_if_another(&mut observed, context);
    observed
}

/// Nothing that another database says than the one that the resource has known is believed.
fn hold_if_another(observed: &mut Observed, context: &Context) {
    // Before the first look there is nothing to tell by.
    let RowSight::Seen { since, .. } = observed.row else { return };
    let now = context.rows.database();
    match context.check_database(observed.memory.database.as_deref(), now.as_deref()) {
        Ok(()) => observed.database = now,
        Err(another) => {
            observed.store = StoreSight::Another(another.to_string());
            observed.row = RowSight::Never { since };
            (observed.instances, observed.disputed, observed.longest_ttl) = (Vec::new(), Vec::new(), None);
            observed.floor = FloorSight::default();
        }
    }
}

async fn write(
    lease: &ComponentLease,
    before: Option<&ComponentLeaseStatus>,
    component: &ComponentName,
    status: &Status,
    context: &Context,
) -> Result<(), Error> {
    let now = context.clock.wall_ms();
    let written = write_status(&context.client, lease, before, Some(component), status, now).await;
    if let Some(written) = written.map_err(Error::Status)? {
        context.metrics.status_written();
        context.remember(written);
    }
    Ok(())
}

/// What participants find in the database: the ttl that the resource asks for, if they may be told.
/// False when it should be tried again.
async fn set_intent(desired: &Desired, may: bool, context: &Context) -> bool {
    let wanted = StandingIntent { ttl: desired.ttl };
    // Once the database answers, every resource is reconciled anew.
    if !may || !context.rows.lacks_intent(&desired.component, wanted) {
        return true;
    }
    let set = context.rows.store().set_intent(&desired.component, wanted);
    let error = match tokio::time::timeout(Duration::from_secs(5), set).await {
        Ok(Ok(())) => {
            context.rows.knows_intent(&desired.component, wanted);
            return true;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    if context.announcer.may_warn("intent", &kind_of(&error)) {
        warn!(component = %desired.component, error, "the ttl could not be passed on to the participants; trying again");
    }
    false
}

/// An invalid resource waits for an edit; its participants and its pods are left as they are.
async fn report_invalid(
    lease: &ComponentLease,
    invalid: &InvalidSpec,
    context: &Context,
) -> Result<Action, Error> {
    let (why, reason) = (invalid.to_string(), invalid.reason());
    let before = context.status_before(lease);
    let memory = api::memory(lease, before.as_ref());
    let unknown = |kind| Condition::new(kind, Truth::Unknown, reason, why.as_str());
    let status = Status {
        observed_generation: lease.metadata.generation.unwrap_or_default(),
        phase: Phase::Unknown,
        holder: memory.holder.clone(),
        holder_pod: memory.holder_pod.clone(),
        version: memory.version,
        ttl: before.as_ref().and_then(|status| status.ttl_seconds),
        lease_time: None,
        renew_time: None,
        floor: memory.floor,
        transitions: memory.transitions,
        candidates: before.as_ref().and_then(|status| status.candidates).unwrap_or(0),
        instances: Vec::new(),
        applied: memory.applied.clone(),
        database: memory.database.clone(),
        conditions: vec![
            Condition::new(ConditionType::Ready, false, reason, why.as_str()),
            unknown(ConditionType::LeaderElected),
            unknown(ConditionType::HolderAccepted),
            unknown(ConditionType::Routed),
            unknown(ConditionType::StoreReachable),
        ],
    };
    let now = context.clock.wall_ms();
    let written = write_status(&context.client, lease, before.as_ref(), None, &status, now).await;
    if let Some(written) = written.map_err(Error::Status)? {
        context.remember(written);
        let event = Event { reason: invalid.event(), warning: true, note: why };
        record(&context.announcer, lease, &[event]).await;
    }
    Ok(Action::await_change())
}
