//! The last step: says what was found and done, and leaves in the database what the participants are to find.

use std::time::Duration;

use tracing::warn;

use super::floor;
use super::hand_over::hand_over;
use super::pause::keep;
use super::transition::{flaps, learn};
use crate::api::{self, ComponentLease, ComponentLeaseStatus, InvalidSpec};
use crate::controller::announcer::{Announcer, name_of};
use crate::controller::database::Database;
use crate::controller::handles::Handles;
use crate::controller::turns::Labelling;
use crate::routing::conditions::{ConditionType, EventReason, Reason};
use crate::routing::decide::{Event, Plan};
use crate::routing::flapping::{cooldown, flapping};
use crate::routing::observed::{Observed, Status, StoreSight};
use crate::routing::outcome::Outcome;
use crate::routing::preference;
use crate::routing::report;
use crate::store::StandingIntent;

/// How long after a failure the ttl is passed on to the participants again.
const INTENT_RETRY: Duration = Duration::from_secs(5);
/// While a new pod's participant is not known in a rollout, those that take part are asked for this often.
const ROLLOUT: Duration = Duration::from_secs(1);
/// The floor's second copy is written once in so many terms: each writing is one more line in
/// `kubectl get -w`, and a copy that lags by this much still tells a database that lost its writes.
const FLOOR_COPY_STEP: i64 = 64;

/// What could not be said.
#[derive(Debug, thiserror::Error)]
pub(in crate::controller) enum Error {
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
    #[error("the floor's copy could not be written")]
    Floor(#[source] kube::Error),
}

impl Error {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Floor(_) => "floor",
        }
    }
}

/// Of a resource that was acted upon. When to reconcile it again, if nothing happens before.
pub(super) async fn report(
    lease: &ComponentLease,
    before: Option<&ComponentLeaseStatus>,
    observed: &mut Observed,
    plan: &Plan,
    outcome: &Outcome,
    handles: &Handles,
    labelled: Labelling<'_>,
) -> Result<Option<Duration>, Error> {
    let Handles { database, cluster, announcer } = handles;
    let _turn = cluster.turns.to_say(labelled).await;
    let held = matches!(observed.store, StoreSight::Another(_));
    let paused = keep(observed, plan.intend && !held, database).await;
    let observed = &*observed;
    let desired = &observed.desired;
    let now = database.clock.boot();
    let (unserved, steady) = cluster.serving.say(observed, plan, now);
    let mut status = report::report(observed, plan, &Outcome { unserved, ..outcome.clone() });
    learn(&mut status, before, observed, plan, database).await;
    let flaps = flaps(observed, plan, handles).await;
    status.conditions.extend(flaps.map(|_| flapping(desired)));
    let written = announcer.write_status(lease, before, Some(&desired.component), &status).await;
    written.map_err(Error::Status)?;
    let events: Vec<Event> = plan.events.iter().cloned().chain(news(before, &status)).collect();
    // At once: until all is done, nothing else is done about this resource.
    let ((), intended, raised, copied, handed) = futures::join!(
        announcer.record(lease, &events),
        set_intent(observed, plan.intend, flaps.is_some(), database),
        async { held || floor::raise_epoch(desired, observed.memory.floor, database).await },
        announcer.copy_floor(lease, status.floor, FLOOR_COPY_STEP),
        hand_over(lease, observed, plan, handles)
    );
    copied.map_err(Error::Floor)?;
    // While the database answers, the look that shows the row's expiry reports it.
    let next = plan.next.filter(|_| observed.store != StoreSight::Answers);
    let over = observed.quarantine.as_ref().map(|quarantined| quarantined.until);
    let next = next
        .into_iter()
        .chain(steady)
        .chain(over)
        .chain(flaps)
        .min()
        .map(|at| at.saturating_sub(database.clock.boot()));
    let retry = (!(paused & intended & raised)).then_some(INTENT_RETRY);
    // Participants of the newest revision are to be known when an old leader goes.
    let rolls_out = preference::awaits_participants(observed).then(|| {
        database.want_instances();
        ROLLOUT
    });
    Ok(next.into_iter().chain(retry).chain(rolls_out).chain(handed).min())
}

/// Of a resource that may not act, because another one was first.
pub(super) async fn conflict(
    lease: &ComponentLease,
    before: Option<&ComponentLeaseStatus>,
    observed: &Observed,
    by: String,
    handles: &Handles,
    seen: Labelling<'_>,
) -> Result<(), Error> {
    let Handles { cluster, announcer, .. } = handles;
    let _turn = cluster.turns.to_say(seen).await;
    let status = report::report_conflict(observed, &by);
    let component = &observed.desired.component;
    announcer.write_status(lease, before, Some(component), &status).await.map_err(Error::Status)?;
    if !observed.memory.in_conflict {
        let event = Event { reason: EventReason::Conflict, warning: true, note: by };
        announcer.record(lease, &[event]).await;
    }
    Ok(())
}

/// Of a resource that cannot be read there is only the log.
pub(super) fn unreadable(lease: &impl kube::ResourceExt, error: &str) {
    let object = name_of(lease);
    warn!(object, error, "the resource is invalid; correct it (no other resource is affected)");
}

/// An invalid resource waits for an edit; its participants and its pods are left as they are.
pub(super) async fn invalid(
    lease: &ComponentLease,
    invalid: &InvalidSpec,
    announcer: &Announcer,
) -> Result<(), Error> {
    let (why, reason) = (invalid.to_string(), invalid.reason());
    let before = announcer.status_before(lease);
    let memory = api::memory(lease, before.as_ref());
    let ttl = before.as_ref().and_then(|status| status.term.as_ref()?.ttl_seconds);
    let generation = lease.metadata.generation.unwrap_or_default();
    let status = report::report_invalid(&memory, generation, ttl, reason, &why);
    let written = announcer.write_status(lease, before.as_ref(), None, &status).await;
    if written.map_err(Error::Status)? {
        let event = Event { reason: invalid.event(), warning: true, note: why };
        announcer.record(lease, &[event]).await;
    }
    Ok(())
}

/// Conditions that are only shown while something is wrong are said once, when they first are.
fn news(before: Option<&ComponentLeaseStatus>, status: &Status) -> Vec<Event> {
    let kinds = [
        (ConditionType::VersionRegressed, EventReason::VersionRegressed),
        (ConditionType::TtlLimited, EventReason::TtlLimited),
        (ConditionType::SplitBrain, EventReason::SplitBrain),
        (ConditionType::DatabaseChanged, EventReason::DatabaseChanged),
        (ConditionType::LeaderOrphaned, EventReason::LeaderOrphaned),
        (ConditionType::Paused, EventReason::Paused),
        (ConditionType::Flapping, EventReason::Flapping),
    ];
    let said = |kind: ConditionType| {
        before.is_some_and(|before| before.conditions.iter().any(|c| c.type_ == kind.as_str()))
    };
    let new = kinds.into_iter().filter(|(kind, _)| !said(*kind));
    let waits = |reason: &str| reason == Reason::Quarantine.as_str();
    let waited = before.is_some_and(|before| before.conditions.iter().any(|c| waits(&c.reason)));
    let quarantine = (ConditionType::LeaderElected, EventReason::Quarantine);
    let wait = status.condition(quarantine.0).filter(|elected| !waited && waits(elected.reason.as_str()));
    let resumed = said(ConditionType::Paused) && status.condition(ConditionType::Paused).is_none();
    let goes_on = Event {
        reason: EventReason::Resumed,
        warning: false,
        note: "the election is not paused any more: every participant may take the lease".to_owned(),
    };
    new.chain(wait.map(|_| quarantine))
        .filter_map(|(kind, reason)| {
            let condition = status.condition(kind)?;
            Some(Event { reason, warning: true, note: condition.message.clone() })
        })
        .chain(resumed.then_some(goes_on))
        .collect()
}

/// What participants find in the database, if they may be told: the ttl that the resource asks for, and who should lead
/// next, and for how long all leave a lease alone that was given back. False when it should be tried again.
async fn set_intent(observed: &Observed, may: bool, flaps: bool, database: &Database) -> bool {
    let desired = &observed.desired;
    let wanted = StandingIntent {
        ttl: desired.ttl,
        preferred: preference::preferred(observed),
        cooldown: if flaps { cooldown(desired) } else { 0 },
    };
    // Once the database answers, every resource is reconciled anew.
    if !may || !database.known().lacks_intent(&desired.component, &wanted) {
        return true;
    }
    let set = database.store().set_intent(&desired.component, wanted.clone());
    let error = match tokio::time::timeout(Duration::from_secs(5), set).await {
        Ok(Ok(())) => {
            database.wrote_intent(&desired.component, wanted);
            return true;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    warn!(component = %desired.component, error, "could not pass the ttl and the preference on to the participants; trying again");
    false
}
