//! From the plan and what became of it to the status: pure, so that every sentence that the
//! controller says can be tested.

use super::conditions::{Condition, ConditionType, Reason, Truth};
use super::decide::holder::Rejection;
use super::decide::{Lead, Plan};
use super::floor::Remedy;
use super::observed::{
    HolderPod, Memory, Observed, OnDatabaseUnreachable, Place, Quarantined, RowSight, Status, StoreSight,
};
use super::orphan::orphaned;
use super::outcome::Outcome;
use super::pause::why;
use super::paused::paused;
use super::routed::{not_known, routed};
use crate::election::life::FLOOR_MAX;
use crate::election::row::LeaseRow;

/// A status is read by people and stored whole with every change.
pub const INSTANCES_SHOWN: usize = 20;

/// The status of a resource that was acted upon.
#[must_use]
pub fn report(o: &Observed, plan: &Plan, outcome: &Outcome) -> Status {
    let row = plan.lead.row();
    // Labels may have been removed without the row ever having been seen.
    let unknown = matches!(plan.lead, Lead::Unknown) || matches!(o.row, RowSight::Never { .. });
    let four = vec![elected(o, plan), accepted(o, plan), routed(o, plan, outcome), reachable(o)];
    let stalled = stalled(&four);
    let mut conditions: Vec<Condition> = ready(o, &four).into_iter().chain(four).collect();
    conditions.push(stalled);
    conditions.extend(regressed(o, plan).filter(|_| !unknown));
    if let Some(longest) = o.longest_ttl.filter(|longest| o.desired.ttl > *longest) {
        conditions.push(Condition::new(
            ConditionType::TtlLimited,
            true,
            Reason::AboveMaxTtl,
            format!(
                "spec.ttlSeconds is {}, but no lease of this database may last longer than {longest} s (its max_ttl), so terms last {longest} s: lower it, or have max_ttl raised",
                o.desired.ttl
            ),
        ));
    }
    if let StoreSight::Another(why) = &o.store {
        conditions.push(Condition::new(
            ConditionType::DatabaseChanged,
            true,
            Reason::AnotherDatabase,
            why.clone(),
        ));
    }
    conditions.extend(disputed(o, row));
    conditions.extend(orphaned(o, plan));
    conditions.extend(paused(o));
    Status {
        observed_generation: o.desired.generation,
        holder: match row {
            Some(row) if !row.is_free() => Some(row.holder.clone()),
            None if unknown => o.memory.holder.clone(),
            _ => None,
        },
        holder_pod: holder_pod(o, plan),
        version: if unknown { o.memory.version } else { plan.version },
        place: if unknown { o.memory.place } else { place(o, plan) },
        ttl: row.map(|row| row.ttl),
        lease_time: row.map(|row| row.lease_time),
        renew_time: row.map(|row| row.renew_time).filter(|at| *at > 0),
        floor: o.memory.floor.max(plan.version.min(FLOOR_MAX)),
        transitions: o.memory.transitions + i64::from(plan.transition),
        candidates: i64::try_from(plan.candidates).unwrap_or(i64::MAX),
        instances: o.instances.iter().take(INSTANCES_SHOWN).cloned().collect(),
        applied: Some(o.desired.labels.clone()),
        database: if unknown { o.memory.database.clone() } else { o.database.clone() },
        last_transition: o.memory.last_transition.clone(),
        conditions,
    }
}

/// The leader's pod for the status. Its containers are those of the moment at which it was
/// labelled: what they become later is compared with them.
pub(super) fn holder_pod(o: &Observed, plan: &Plan) -> Option<HolderPod> {
    match (&plan.lead, &plan.leader) {
        (Lead::Unknown, _) => o.memory.holder_pod.clone(),
        (_, Some(Ok(pod))) => {
            // Not all of them may have been known then; what is recorded is complete.
            let known =
                o.memory.holder_pod.as_ref().filter(|known| {
                    known.uid == pod.uid && !plan.transition && !known.container_ids.is_empty()
                });
            Some(known.cloned().unwrap_or_else(|| HolderPod {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                node: pod.node.clone(),
                container_ids: pod.container_ids(),
            }))
        }
        // The pods cannot be listed just now, or the pod has finished: what was recorded when it was
        // labelled stays.
        (Lead::Held(..) | Lead::LastKnown(_), None | Some(Err(Rejection::Finished { .. })))
            if !plan.transition =>
        {
            o.memory.holder_pod.clone()
        }
        _ => None,
    }
}

/// A database that has granted later versions than it knows of. What the status remembers begins an epoch; what
/// the annotation says is only told, with the remedy.
fn regressed(o: &Observed, plan: &Plan) -> Option<Condition> {
    let condition =
        |reason, message| Some(Condition::new(ConditionType::VersionRegressed, true, reason, message));
    let (version, floor, copy) = (plan.version, o.memory.floor, o.memory.floor_copy);
    if version < floor {
        let then = match o.floor.status {
            Remedy::Nothing => "versions of later terms are above that",
            Remedy::Epoch(_) if o.floor.exhausted => {
                "several epochs have begun for that within an hour, so the controller begins no further one: find out why the database forgets, then run `component-lease epoch bump` (nobody takes a lease for its max_ttl)"
            }
            Remedy::Epoch(_) => "an epoch begins, and versions of later terms are above that",
            Remedy::Unexplained => {
                "the date explains no version that high, so no epoch begins for it: find out who wrote it into the table, and make this resource again, because status.versionFloor never decreases"
            }
            Remedy::NoEpochs => "the database keeps no epochs: run `component-lease migrate`",
        };
        return condition(
            Reason::VersionBelowFloor,
            format!(
                "the row carries version {version}, but {floor} has been seen: the database has lost writes or was reset, and fencing tokens may repeat; {then}"
            ),
        );
    }
    let remedy = match o.floor.annotation {
        Remedy::Nothing => return None,
        Remedy::Epoch(_) => {
            "if this resource was restored from a backup, or the database was, fencing tokens may repeat until you run `component-lease epoch bump` (nobody takes a lease for its max_ttl); if the number is wrong, remove the annotation"
        }
        Remedy::Unexplained => "the date explains no version that high: remove the annotation",
        Remedy::NoEpochs => {
            "the database keeps no epochs: run `component-lease migrate`; if the number is wrong, remove the annotation"
        }
    };
    condition(
        Reason::VersionBelowAnnotation,
        format!(
            "the annotation componentlease.io/version-floor says that version {copy} was granted, but the row carries version {version}: {remedy}"
        ),
    )
}

/// The status of a resource that may not act: what it had applied before is remembered.
#[must_use]
pub fn report_conflict(o: &Observed, by: &str) -> Status {
    let condition = |kind, status: Truth| Condition::new(kind, status, Reason::Conflict, by);
    Status {
        observed_generation: o.desired.generation,
        holder: None,
        holder_pod: None,
        version: 0,
        place: None,
        ttl: None,
        lease_time: None,
        renew_time: None,
        floor: o.memory.floor,
        transitions: o.memory.transitions,
        candidates: 0,
        instances: Vec::new(),
        applied: o.memory.applied.clone(),
        database: o.memory.database.clone(),
        last_transition: o.memory.last_transition.clone(),
        conditions: vec![
            condition(ConditionType::Ready, Truth::False),
            condition(ConditionType::LeaderElected, Truth::Unknown),
            condition(ConditionType::HolderAccepted, Truth::Unknown),
            condition(ConditionType::Routed, Truth::Unknown),
            reachable(o),
            condition(ConditionType::Stalled, Truth::True),
        ],
    }
}

/// The status of a resource whose spec cannot work: what was known before is remembered.
#[must_use]
pub fn report_invalid(
    memory: &Memory,
    generation: i64,
    ttl: Option<i64>,
    reason: Reason,
    why: &str,
) -> Status {
    let condition = |kind, status: Truth| Condition::new(kind, status, reason, why);
    Status {
        observed_generation: generation,
        holder: memory.holder.clone(),
        holder_pod: memory.holder_pod.clone(),
        version: memory.version,
        place: memory.place,
        ttl,
        lease_time: None,
        renew_time: None,
        floor: memory.floor,
        transitions: memory.transitions,
        candidates: 0,
        instances: Vec::new(),
        applied: memory.applied.clone(),
        database: memory.database.clone(),
        last_transition: memory.last_transition.clone(),
        conditions: vec![
            condition(ConditionType::Ready, Truth::False),
            condition(ConditionType::LeaderElected, Truth::Unknown),
            condition(ConditionType::HolderAccepted, Truth::Unknown),
            condition(ConditionType::Routed, Truth::Unknown),
            condition(ConditionType::DatabaseReachable, Truth::Unknown),
            condition(ConditionType::Stalled, Truth::True),
        ],
    }
}

fn disputed(o: &Observed, row: Option<&LeaseRow>) -> Option<Condition> {
    let row = row.filter(|row| !o.disputed.is_empty() && !row.is_free())?;
    let claims = o.disputed.iter().take(INSTANCES_SHOWN);
    let claims = claims
        .map(|claim| format!("{} goes on saying that it leads version {}", claim.holder, claim.version));
    Some(Condition::new(
        ConditionType::SplitBrain,
        true,
        Reason::TermDisputed,
        format!(
            "{}, but the row says {} with version {}: stop the participant that should not run, and make what it writes to refuse other versions",
            claims.collect::<Vec<_>>().join(", "),
            row.holder,
            row.version
        ),
    ))
}

fn place(o: &Observed, plan: &Plan) -> Option<Place> {
    Place::of(plan.version, o.epoch_step?)
}

/// A version as people read it: one of 14 digits needs an explanation.
fn told(o: &Observed, plan: &Plan) -> String {
    match place(o, plan).filter(|place| place.epoch > 0) {
        Some(Place { epoch, number }) => {
            format!("version {} (number {number} of epoch {epoch} of the database)", plan.version)
        }
        None => format!("version {}", plan.version),
    }
}

/// Nobody leads: why, and until when nobody does.
fn nobody(o: &Observed, reason: Reason, so: String) -> Condition {
    let (reason, why) = match (o.pause.pause(), &o.quarantine) {
        (Some(pause), _) => (
            Reason::Paused,
            format!(
                "{so}; nobody takes the lease while {} keeps the election paused{}",
                pause.by,
                why(pause)
            ),
        ),
        (None, None) => (reason, so),
        (None, Some(Quarantined { told: until, .. })) => (
            Reason::Quarantine,
            format!(
                "{so}; nobody takes the lease before {until}: the database was restarted, failed over, restored or made anew, so a term that it has forgotten may last until then"
            ),
        ),
    };
    Condition::new(ConditionType::LeaderElected, false, reason, why)
}

fn elected(o: &Observed, plan: &Plan) -> Condition {
    let c = |status: Truth, reason, message: String| {
        Condition::new(ConditionType::LeaderElected, status, reason, message)
    };
    if matches!(o.row, RowSight::Never { .. }) || matches!(o.store, StoreSight::Another(_)) {
        return not_known(o, ConditionType::LeaderElected);
    }
    match &plan.lead {
        Lead::Held(row, _) => c(Truth::True, Reason::Held, format!("{} holds {}", row.holder, told(o, plan))),
        Lead::Vacant(None) if o.memory.floor > 0 => nobody(
            o,
            Reason::Vacant,
            "the row is gone; a participant inserts it again when every term it may have had is over".into(),
        ),
        Lead::Vacant(None) => {
            nobody(o, Reason::Vacant, "no participant has ever taken this component".into())
        }
        Lead::Vacant(Some(_)) => nobody(o, Reason::Vacant, "the last holder released the lease".into()),
        Lead::Expired(row) => {
            nobody(o, Reason::Expired, format!("{} stopped renewing {}", row.holder, told(o, plan)))
        }
        Lead::LastKnown(row) => c(
            Truth::Unknown,
            Reason::DatabaseUnreachable,
            format!("{} held {} when the database last answered", row.holder, told(o, plan)),
        ),
        Lead::Unknown => not_known(o, ConditionType::LeaderElected),
    }
}

fn accepted(o: &Observed, plan: &Plan) -> Condition {
    let c = |status: Truth, reason, message: String| {
        Condition::new(ConditionType::HolderAccepted, status, reason, message)
    };
    match (&plan.lead, &plan.leader) {
        (Lead::Unknown, _) => not_known(o, ConditionType::HolderAccepted),
        (_, Some(Ok(pod))) => {
            c(Truth::True, Reason::HolderIsCandidate, format!("the holder is pod {}", pod.name))
        }
        (_, Some(Err(rejection))) => c(Truth::False, Reason::HolderRejected, rejection.to_string()),
        (Lead::Held(..) | Lead::LastKnown(_), None) => {
            c(Truth::Unknown, Reason::Forbidden, "the pods cannot be listed".into())
        }
        (_, None) => c(Truth::False, Reason::NoLeader, "nobody leads".into()),
    }
}

fn reachable(o: &Observed) -> Condition {
    let c = |status: Truth, reason, message: &str| {
        Condition::new(ConditionType::DatabaseReachable, status, reason, message)
    };
    match &o.store {
        StoreSight::Answers if matches!(o.row, RowSight::Never { .. }) => {
            c(Truth::Unknown, Reason::NotYetKnown, "the database has not been asked yet")
        }
        StoreSight::Answers => c(Truth::True, Reason::DatabaseAnswered, "the database answers"),
        StoreSight::Unreachable(error) => c(Truth::False, Reason::DatabaseUnreachable, error),
        StoreSight::Misconfigured(error) => c(Truth::False, Reason::DatabaseMisconfigured, error),
        StoreSight::Another(why) => c(Truth::False, Reason::AnotherDatabase, why),
    }
}

/// True when all the others are True; Unknown while the database is down and labels are kept, unless they lead to
/// nobody who answers. A workload that is scaled to nothing has no such condition: True would promise answers, and False would promise a change.
fn ready(o: &Observed, others: &[Condition]) -> Option<Condition> {
    if others.iter().any(|c| c.reason == Reason::ScaledToZero) {
        return None;
    }
    let another = matches!(o.store, StoreSight::Another(_));
    let keep = o.desired.on_database_unreachable == OnDatabaseUnreachable::Keep;
    let kept = another || o.store != StoreSight::Answers && keep;
    let worst = (others
        .iter()
        .find(|c| c.status == Truth::False && !(kept && c.kind == ConditionType::DatabaseReachable)))
    .or_else(|| others.iter().find(|c| c.status != Truth::True));
    Some(match worst {
        None => {
            Condition::new(ConditionType::Ready, true, Reason::LeaderRouted, "the leader's pod is routed to")
        }
        Some(bad) => {
            // Whom the label leads to now can be told without the database; whether that is the leader cannot.
            let in_doubt = kept && bad.kind != ConditionType::Routed;
            let status = if in_doubt { Truth::Unknown } else { bad.status };
            Condition::new(ConditionType::Ready, status, bad.reason, bad.message.clone())
        }
    })
}

/// Whether one of the others can only become true by an edit.
fn stalled(others: &[Condition]) -> Condition {
    let needs_an_edit = |c: &&Condition| {
        c.status == Truth::False && matches!(c.reason, Reason::ServiceNotOurs | Reason::ServiceInvalid)
    };
    match others.iter().find(needs_an_edit) {
        Some(bad) => Condition::new(ConditionType::Stalled, true, bad.reason, bad.message.clone()),
        None => {
            Condition::new(ConditionType::Stalled, false, Reason::NoEditNeeded, "the spec can be carried out")
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
