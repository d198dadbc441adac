//! Whether a wish can be asked now, and what would happen.

use std::time::Duration;

use super::refusal::Refusal;
use super::situation::{Leader, Situation, is_meant};
use crate::election::{HolderId, LeaseRow, Request, Verb};
use crate::membership::SeenInstance;
use crate::membership::holder_id::OwnFormat;
use crate::store::Said;

/// How long participants may take to learn of a request where they poll for it, and to answer.
pub const LEARN: Duration = Duration::from_secs(5);
/// A leader that steps down stays away for this long, if nothing else was said.
const AWAY: Duration = Duration::from_secs(60);

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Names it: asking again under the same id changes nothing, as long as no other request was made after it.
    pub id: String,
    /// What is wanted.
    pub verb: Verb,
    /// Who is to lead next: an instance's id, the name in it, or its pod.
    pub to: Option<String>,
    /// Nothing is asked unless this one holds the lease.
    pub expect_holder: Option<String>,
    /// Nothing is asked unless the lease has this version.
    pub expect_version: Option<i64>,
    /// How long a leader that steps down stays away.
    pub away: Option<Duration>,
    /// The id of the pending request that it may replace.
    pub replace: Option<String>,
    /// Who asks, and why.
    pub said: Said,
}

/// A wish that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is written down.
    pub request: Request,
    /// Who leads in the term that it is about; empty: nobody, or it is not known any more.
    pub leader: String,
    /// The id of the request in whose place it is written.
    pub replaces: Option<String>,
    /// It is written down already, or even over.
    pub already: bool,
    /// What would happen, for people: one sentence for each step.
    pub steps: Vec<String>,
    /// The longest time that it should take. After this time the asker gives up and takes the request back.
    pub within: Duration,
}

/// Decides on one snapshot.
///
/// # Errors
/// [`Refusal`] when it makes no sense now.
pub fn plan(situation: &Situation<'_>, wish: &Wish) -> Result<Plan, Refusal> {
    let component = || situation.component.to_owned();
    let target_required = matches!(wish.verb, Verb::Promote | Verb::PromoteNow);
    match &wish.to {
        None if target_required => return Err(Refusal::TargetRequired),
        Some(target) if wish.verb == Verb::StepDown => {
            return Err(Refusal::TargetNotAllowed { target: target.clone() });
        }
        _ => {}
    }
    if wish.verb == Verb::PromoteNow && wish.said.reason().trim().is_empty() {
        return Err(Refusal::ReasonRequired);
    }
    let row = situation.row.ok_or_else(|| Refusal::NeverLed { component: component() })?;
    // Asked again: nothing about the present matters any more.
    let posted = situation.asked.and_then(|asked| asked.request.as_ref());
    if let Some(posted) = posted.filter(|posted| posted.request.id == wish.id) {
        let same = posted.request.verb == wish.verb
            && wish.expect_version.is_none_or(|version| version == posted.request.version)
            && match (&posted.request.target, &wish.to) {
                (None, None) => true,
                (Some(target), Some(name)) => is_called(situation, target.as_str(), name),
                _ => false,
            };
        if !same {
            return Err(Refusal::IdUsed { id: wish.id.clone() });
        }
        return Ok(made(situation, row, posted.request.clone(), None, true));
    }
    if let Some(expected) = wish.expect_version.filter(|version| *version != row.version) {
        return Err(Refusal::VersionIsAnother { expected, found: row.version });
    }
    let leader = situation.leader();
    if let Some(expected) = wish.expect_holder.as_ref().filter(|name| !leads(leader, name)) {
        return Err(Refusal::HolderIsAnother { expected: expected.clone(), found: leader.to_string() });
    }
    if let Some(paused) = situation.asked.and_then(|asked| asked.paused.as_ref()) {
        let (by, reason) = (paused.by().to_owned(), paused.reason().to_owned());
        return Err(Refusal::Paused { component: component(), by, reason });
    }
    let pending = posted.filter(|posted| situation.is_pending(&posted.request));
    match (&wish.replace, pending) {
        (Some(id), Some(pending)) if pending.request.id == *id => {}
        (None, Some(pending)) => return Err(Refusal::pending(pending, situation.database_now)),
        (Some(id), _) => return Err(Refusal::NothingToReplace { id: id.clone() }),
        (None, None) => {}
    }
    let target = wish.to.as_deref().map(|name| target(situation, leader, name)).transpose()?;
    if !target_required {
        match leader {
            Leader::Nobody => return Err(Refusal::NobodyLeads { component: component() }),
            Leader::Unheard(holder) => return Err(Refusal::HolderCannotHear { holder: holder.to_owned() }),
            Leader::Participant(_) => {}
        }
    }
    let alone = situation.others().next().is_none();
    if wish.verb == Verb::Switchover && target.is_none() && alone {
        return Err(Refusal::NoCandidate { leader: leader.to_string() });
    }
    let away = match wish.verb {
        Verb::StepDown if !alone => wish.away.unwrap_or(AWAY),
        // It would win the race against all others: it knows first that the lease is free.
        Verb::Switchover if target.is_none() => Duration::from_secs(row.judged_ttl().as_secs().div_ceil(3)),
        _ => Duration::ZERO,
    };
    let request = Request { id: wish.id.clone(), verb: wish.verb, version: row.version, target, away };
    // Also one that is void: it is replaced by compare-and-set.
    let replaces = posted.map(|posted| posted.request.id.clone());
    Ok(made(situation, row, request, replaces, false))
}

fn leads(leader: Leader<'_>, name: &str) -> bool {
    match leader {
        Leader::Nobody => false,
        Leader::Participant(seen) => is_meant(seen, name),
        Leader::Unheard(holder) => holder == name,
    }
}

/// Whether an operator may have meant this participant, which may have ended meanwhile.
fn is_called(situation: &Situation<'_>, holder: &str, name: &str) -> bool {
    let alive = situation.instances.iter().find(|seen| seen.holder == holder);
    holder == name
        || alive.is_some_and(|seen| is_meant(seen, name))
        || OwnFormat::parse(holder).is_some_and(|own| own.name == name)
}

/// Whom a name means, among those that are alive.
fn target(situation: &Situation<'_>, leader: Leader<'_>, name: &str) -> Result<HolderId, Refusal> {
    let unknown = || Refusal::UnknownTarget {
        target: name.to_owned(),
        alive: situation.instances.iter().map(|seen| seen.holder.clone()).collect(),
    };
    let exact = situation.instances.iter().find(|seen| seen.holder == name);
    let found: Vec<&SeenInstance> = match exact {
        Some(seen) => vec![seen],
        None => situation.instances.iter().copied().filter(|seen| is_meant(seen, name)).collect(),
    };
    match *found.as_slice() {
        // With more of them than a snapshot shows, a whole id is believed.
        [] if situation.is_cut() => HolderId::new(name).map_err(|_| unknown()),
        [] => Err(unknown()),
        [seen] if leads(leader, &seen.holder) => Err(Refusal::TargetLeads { target: seen.holder.clone() }),
        [seen] if seen.priority == Some(0) => Err(Refusal::TargetNeverLeads { target: seen.holder.clone() }),
        [seen] if !seen.healthy => Err(Refusal::TargetUnhealthy { target: seen.holder.clone() }),
        [seen] => HolderId::new(seen.holder.clone()).map_err(|_| unknown()),
        _ => {
            let matches = found.iter().map(|seen| seen.holder.clone()).collect();
            Err(Refusal::AmbiguousTarget { target: name.to_owned(), matches })
        }
    }
}

fn made(
    situation: &Situation<'_>,
    row: &LeaseRow,
    request: Request,
    replaces: Option<String>,
    already: bool,
) -> Plan {
    Plan {
        leader: if request.is_about(Some(row)) { row.holder.clone() } else { String::new() },
        steps: steps(situation, row, &request),
        within: within(row, situation.quarantine().unwrap_or_default()),
        request,
        replaces,
        already,
    }
}

/// A leader that hears stops within its ttl; one that does not lapses after it.
fn within(row: &LeaseRow, quarantine: Duration) -> Duration {
    let ttl = row.judged_ttl();
    ttl + ttl / 3 + quarantine + LEARN
}

/// The longest time that it should take from now on, if nobody takes a lease of the database for a while. A command waits
/// for so long, also if the quarantine has begun after the request was planned.
#[must_use]
pub fn within_quarantine(situation: &Situation<'_>) -> Option<Duration> {
    Some(within(situation.row?, situation.quarantine()?))
}

fn steps(situation: &Situation<'_>, row: &LeaseRow, request: &Request) -> Vec<String> {
    let (ttl, head_start) = (row.judged_ttl().as_secs(), row.judged_ttl().as_secs_f64() / 3.0);
    let holder = &row.holder;
    let mut steps = Vec::new();
    if let Some(quarantine) = situation.quarantine() {
        steps.push(format!(
            "The database has changed lately: nobody takes a lease before its quarantine ends, within {} s.",
            quarantine.as_secs()
        ));
    }
    let now = request.verb == Verb::PromoteNow;
    match situation.leader() {
        Leader::Nobody => {}
        Leader::Unheard(_) if now => {}
        Leader::Unheard(_) => steps.push(format!(
            "{holder} does not hear requests: the lease is taken only if it is not renewed for {ttl} s."
        )),
        Leader::Participant(_) => {
            if let Some(silent) = situation.lapsed() {
                steps.push(format!("{holder} has not renewed for {} s and may be dead.", silent.as_secs()));
            } else {
                steps.push(format!(
                    "{holder} (version {}) learns of it at once, or within a second where its database does not notify; it stops its work and releases the lease.",
                    row.version
                ));
            }
        }
    }
    match (&request.target, now) {
        (Some(target), true) => steps.push(format!(
            "{target} takes the lease at once. For up to {ttl} s {holder} may still believe that it leads; only the higher version is right.",
            holder = if holder.is_empty() { "nobody" } else { holder }
        )),
        (Some(target), false) => steps.push(format!(
            "{target} takes the free lease; all others leave it alone for {head_start:.0} s, then anybody may take it."
        )),
        (None, _) if request.away.is_zero() => steps.push("Anybody takes the free lease.".to_owned()),
        (None, _) => steps.push(format!(
            "Anybody but {holder} takes the free lease; {holder} stays away for {} s.",
            request.away.as_secs()
        )),
    }
    steps
}
