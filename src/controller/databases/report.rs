//! What a status says of a database: pure, from what the Lease, the record, the members and their pods say.

use std::collections::BTreeSet;

use crate::api::{
    DatabaseInternal, FailoverStatus, LastFailover, LeaseDatabaseStatus, MemberRole, MemberStatus,
    RecordStatus, WouldLose, is_true, rfc3339,
};
use crate::election::LeaseRow;
use crate::member::Standing;
use crate::primary::{Hindrance, Loss, Outlook, Record, outlook};
use crate::routing::conditions::{Condition, ConditionType, EventReason, Reason, Truth};
use crate::routing::decide::Event;

/// So many members are shown.
const SHOWN: usize = 32;
/// So many members are shown of those that could be promoted.
const PROMOTABLE: usize = 16;

/// Why the Leases cannot be gone by.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) text: String,
}

/// What is known of a database at one moment.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The name of the Lease.
    pub(super) lease: String,
    /// The members that the spec declares.
    pub(super) declared: BTreeSet<String>,
    /// Why the Leases cannot be gone by, if they cannot.
    pub(super) trouble: Option<Trouble>,
    /// The Lease's row as it was last seen.
    pub(super) row: Option<LeaseRow>,
    /// Whether its holder has not renewed for a whole ttl.
    pub(super) has_run_out: bool,
    /// What stands beside it, or what is wrong with that.
    pub(super) standing: Result<Standing, String>,
    /// The members whose pods are ready, or why that is not known.
    pub(super) ready: Result<BTreeSet<String>, String>,
    /// How long it took from the term before to the record of this version, in seconds.
    pub(super) took: Option<(i64, f64)>,
    /// The pod that carries the label: name and UID.
    pub(super) pod: Option<(String, String)>,
    /// Whether users are led to it, and whether only an edit helps.
    pub(super) routed: Condition,
    pub(super) stalled: Condition,
}

/// What is to be said.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Without its conditions.
    pub(super) status: LeaseDatabaseStatus,
    pub(super) conditions: Vec<Condition>,
    pub(super) events: Vec<Event>,
}

impl Facts {
    /// The record of the present term.
    fn record(&self) -> Option<&Record<String>> {
        self.standing.as_ref().ok()?.primary()
    }

    /// The primary's record, where it is certain enough to be shown.
    fn primary(&self) -> Option<&Record<String>> {
        self.record().filter(|_| self.trouble.is_none() && !self.has_run_out)
    }
}

/// The whole status, and what has happened since the one before.
pub(super) fn report(facts: &Facts, generation: i64, before: Option<&LeaseDatabaseStatus>) -> Said {
    let outlook =
        facts.primary().zip(facts.ready.as_ref().ok()).map(|(record, ready)| outlook(record, ready));
    let elected = elected(facts);
    let mut conditions = vec![elected.clone(), facts.routed.clone()];
    conditions.insert(0, ready(&conditions));
    conditions.extend([replicating(facts), failover_ready(facts, outlook.as_ref())]);
    conditions.push(facts.stalled.clone());
    let last = before.and_then(|before| before.internal.as_ref()?.last_primary.clone());
    let primary = facts.primary().map(|record| record.primary.clone());
    let failed_over = failed_over(facts, last.as_deref());
    let events = events(facts, &conditions, before, last.as_deref(), failed_over.as_ref());
    let status = LeaseDatabaseStatus {
        observed_generation: Some(generation),
        version: version(facts, before),
        holder: holder(facts, before),
        members_ready: members_ready(facts),
        failover: outlook.as_ref().map(failover),
        record: record(facts, before),
        members: members(facts),
        last_failover: failed_over.or_else(|| before.and_then(|before| before.last_failover.clone())),
        internal: internal(facts, primary.clone().or(last)),
        conditions: Vec::new(),
        primary,
    };
    Said { status, conditions, events }
}

fn version(facts: &Facts, before: Option<&LeaseDatabaseStatus>) -> Option<i64> {
    match &facts.row {
        Some(row) => Some(row.version),
        None if facts.trouble.is_some() => before.and_then(|before| before.version),
        None => None,
    }
}

fn holder(facts: &Facts, before: Option<&LeaseDatabaseStatus>) -> Option<String> {
    match &facts.row {
        Some(row) => Some(row.holder.clone()).filter(|holder| !holder.is_empty()),
        None if facts.trouble.is_some() => before.and_then(|before| before.holder.clone()),
        None => None,
    }
}

fn internal(facts: &Facts, last_primary: Option<String>) -> Option<DatabaseInternal> {
    let (pod_name, pod_uid) = facts.pod.clone().unzip();
    let internal = DatabaseInternal { pod_name, pod_uid, last_primary };
    (internal != DatabaseInternal::default()).then_some(internal)
}

fn elected(facts: &Facts) -> Condition {
    let c = |status: Truth, reason, message: String| {
        Condition::new(ConditionType::PrimaryElected, status, reason, message)
    };
    let lease = &facts.lease;
    if let Some(trouble) = &facts.trouble {
        return c(Truth::Unknown, trouble.reason, trouble.text.clone());
    }
    let Some(row) = &facts.row else {
        return c(
            Truth::False,
            Reason::Vacant,
            format!(
                "there is no Lease {lease} in this namespace: start the members with --cluster {lease} --lease kubernetes"
            ),
        );
    };
    let LeaseRow { holder, version, .. } = row;
    if row.is_free() {
        let why = if *version == 0 {
            format!("no member has ever taken the Lease {lease}")
        } else {
            format!("nobody holds the Lease {lease}: it was released at version {version}")
        };
        return c(Truth::False, Reason::Vacant, why);
    }
    if facts.has_run_out {
        let ttl = row.judged_ttl().as_secs();
        return c(
            Truth::False,
            Reason::Expired,
            format!(
                "{holder} has not renewed version {version} for {ttl} s; its pod keeps the label until another member takes the Lease, because a primary goes on while other members acknowledge its writes"
            ),
        );
    }
    if let Err(why) = &facts.standing {
        return c(Truth::Unknown, Reason::RecordUnreadable, why.clone());
    }
    match facts.record() {
        None => c(
            Truth::False,
            Reason::Promoting,
            format!("{holder} holds the Lease at version {version}, and acknowledges no writes yet"),
        ),
        Some(record) => c(
            Truth::True,
            Reason::Recorded,
            format!(
                "{} is the primary of version {version}; a commit is acknowledged by any {} of {}",
                record.primary,
                record.quorum.acks(),
                listed(record.quorum.voters())
            ),
        ),
    }
}

/// True when there is a primary and users are led to it.
fn ready(parts: &[Condition]) -> Condition {
    let worst = parts.iter().find(|part| part.status == Truth::False);
    match worst.or_else(|| parts.iter().find(|part| part.status != Truth::True)) {
        None => Condition::new(
            ConditionType::Ready,
            true,
            Reason::PrimaryRouted,
            "the primary's pod is routed to",
        ),
        Some(bad) => Condition::new(ConditionType::Ready, bad.status, bad.reason, bad.message.clone()),
    }
}

fn replicating(facts: &Facts) -> Condition {
    let c = |status: Truth, reason, message: String| {
        Condition::new(ConditionType::Replicating, status, reason, message)
    };
    let Some(record) = facts.primary() else {
        return c(
            Truth::Unknown,
            Reason::NoLeader,
            "there is no primary that members could follow".to_owned(),
        );
    };
    if record.members != facts.declared {
        let why = format!(
            "the members of the record are {}, those of spec.members are {}: correct spec.members, or --members of db run",
            listed(&record.members),
            listed(&facts.declared)
        );
        return c(Truth::False, Reason::MembersDiffer, why);
    }
    let missing = lacking(record);
    if missing.is_empty() {
        return c(Truth::True, Reason::AllFollow, "every other member acknowledges commits".to_owned());
    }
    let (verb, these) = if missing.len() == 1 { ("does", "its") } else { ("do", "their") };
    let missing = listed(&missing);
    let why = format!("{missing} {verb} not acknowledge commits: see the log of {these} pod");
    c(Truth::False, Reason::MembersMissing, why)
}

/// Declared members that do not acknowledge.
fn lacking(record: &Record<String>) -> BTreeSet<String> {
    let acknowledges =
        |member: &&String| record.quorum.voters().contains(*member) || record.primary == **member;
    record.members.iter().filter(|member| !acknowledges(member)).cloned().collect()
}

fn failover_ready(facts: &Facts, outlook: Option<&Outlook<String>>) -> Condition {
    let c = |status: Truth, reason, message: String| {
        Condition::new(ConditionType::FailoverReady, status, reason, message)
    };
    let too_few = |message: String| c(Truth::False, Reason::TooFewMembers, message);
    match outlook {
        None => match (&facts.trouble, &facts.ready, facts.primary()) {
            (Some(trouble), ..) => c(Truth::Unknown, trouble.reason, trouble.text.clone()),
            (None, ..) if facts.row.is_some() && facts.standing.is_err() => {
                let why = facts.standing.as_ref().err().cloned().unwrap_or_default();
                c(Truth::Unknown, Reason::RecordUnreadable, why)
            }
            (None, Err(why), Some(_)) => c(Truth::Unknown, Reason::Forbidden, why.clone()),
            _ => c(Truth::False, Reason::NoLeader, "there is no primary that could fail over".to_owned()),
        },
        Some(Outlook::Ready { candidates, loss }) => c(
            (*loss == Loss::Nothing).into(),
            if *loss == Loss::Nothing { Reason::EnoughMembers } else { Reason::WouldLoseCommits },
            match (candidates.len(), loss) {
                (1, Loss::Nothing) => {
                    format!("if the primary died now, {} would be promoted without loss", listed(candidates))
                }
                (_, Loss::Nothing) => format!(
                    "if the primary died now, the one of {} with the most data would be promoted without loss",
                    listed(candidates)
                ),
                (_, Loss::Unreplicated) => format!(
                    "if the primary died now, the one of {} with the most data would be promoted; what no other member has would be lost",
                    listed(candidates)
                ),
            },
        ),
        Some(Outlook::NotReady(Hindrance::NobodyElse)) => {
            too_few("no other member is known to have what is acknowledged".to_owned())
        }
        Some(Outlook::NotReady(Hindrance::TooFew { missing, needed })) => too_few(format!(
            "if the primary died now, nobody could be promoted without loss: {needed} more of {} must be ready",
            listed(missing)
        )),
        Some(Outlook::NotReady(Hindrance::NobodyToAcknowledge { missing, needed })) => {
            too_few(if missing.is_empty() {
                format!(
                    "if the primary died now, another member would be promoted and acknowledge nothing until the old one is back: {needed} more would have to be declared"
                )
            } else {
                format!(
                    "if the primary died now, another member would be promoted and acknowledge nothing: {needed} more of {} must be ready",
                    listed(missing)
                )
            })
        }
    }
}

fn failover(outlook: &Outlook<String>) -> FailoverStatus {
    match outlook {
        Outlook::Ready { candidates, loss } => FailoverStatus {
            ready: true,
            would_promote: candidates.iter().take(PROMOTABLE).cloned().collect(),
            would_lose: Some(match loss {
                Loss::Nothing => WouldLose::Nothing,
                Loss::Unreplicated => WouldLose::Unreplicated,
            }),
        },
        Outlook::NotReady(_) => FailoverStatus::default(),
    }
}

fn members_ready(facts: &Facts) -> Option<String> {
    let ready = facts.ready.as_ref().ok()?;
    let ready = facts.declared.intersection(ready).count();
    Some(format!("{ready}/{}", facts.declared.len()))
}

/// As the record says, of whatever term; what was shown before, where it cannot be known.
fn record(facts: &Facts, before: Option<&LeaseDatabaseStatus>) -> Option<RecordStatus> {
    let standing = facts.standing.as_ref().ok().filter(|_| facts.row.is_some());
    let Some(standing) = standing else {
        return before.and_then(|before| before.record.clone()).filter(|_| facts.trouble.is_some());
    };
    let (record, version) = standing.record.as_ref()?;
    Some(RecordStatus {
        primary: record.primary.clone(),
        version: *version,
        voters: record.quorum.voters().iter().take(SHOWN).cloned().collect(),
        acks: i64::try_from(record.quorum.acks()).unwrap_or(i64::MAX),
    })
}

fn members(facts: &Facts) -> Vec<MemberStatus> {
    let standing = facts.standing.as_ref().ok();
    let recorded = standing.and_then(|standing| standing.record.as_ref()).map(|(record, _)| record);
    let others = recorded.into_iter().flat_map(|record| &record.members);
    let others = others.filter(|member| !facts.declared.contains(*member));
    // Those that are declared first: there may be more of others than are shown.
    let all = facts.declared.iter().chain(others);
    let ready = |member: &String| facts.ready.as_ref().is_ok_and(|ready| ready.contains(member));
    let member = |name: &String| {
        let said = standing.and_then(|standing| standing.said.get(name));
        let promoted = said.and_then(|said| said.leads.as_ref()).map(|leads| leads.version);
        let role = match facts.record() {
            Some(record) if record.primary == *name => MemberRole::Primary,
            Some(record) if record.quorum.voters().contains(name) => MemberRole::Replica,
            None if promoted.is_some() && promoted == facts.row.as_ref().map(|row| row.version) => {
                MemberRole::Promoting
            }
            _ => MemberRole::Standby,
        };
        let sealed = said.and_then(|said| said.sealed.as_ref()).map(|sealed| sealed.version);
        MemberStatus { name: name.clone(), role, ready: ready(name), sealed }
    };
    all.take(SHOWN).map(member).collect()
}

/// How the present primary followed the one before, where it is another one.
fn failed_over(facts: &Facts, last: Option<&str>) -> Option<LastFailover> {
    let (record, row) = facts.primary().zip(facts.row.as_ref())?;
    let from = last.filter(|last| *last != record.primary)?;
    Some(LastFailover {
        from: from.to_owned(),
        to: record.primary.clone(),
        version: row.version,
        time: rfc3339(row.lease_time),
        seconds: facts.took.filter(|(version, _)| *version == row.version).map(|(_, seconds)| seconds),
    })
}

fn events(
    facts: &Facts,
    conditions: &[Condition],
    before: Option<&LeaseDatabaseStatus>,
    last: Option<&str>,
    failed_over: Option<&LastFailover>,
) -> Vec<Event> {
    let now = |kind| conditions.iter().find(|condition| condition.kind == kind);
    let was = |kind| before.is_some_and(|before| is_true(before, kind));
    let mut events = Vec::new();
    if let Some(LastFailover { from, to, version, seconds, .. }) = failed_over {
        let took = seconds.map(|seconds| format!(" after {seconds:.1} s")).unwrap_or_default();
        let note = format!("{to} became the primary with version {version}{took}; before it, {from} was");
        events.push(Event { reason: EventReason::FailedOver, warning: false, note });
    }
    let elected = now(ConditionType::PrimaryElected);
    match elected.map(|elected| (elected.status, elected)) {
        Some((Truth::True, elected)) if failed_over.is_none() && (last.is_none() || !was(elected.kind)) => {
            let note = elected.message.clone();
            events.push(Event { reason: EventReason::PrimaryElected, warning: false, note });
        }
        Some((Truth::False, elected)) if was(elected.kind) => {
            let note = elected.message.clone();
            events.push(Event { reason: EventReason::PrimaryLost, warning: true, note });
        }
        _ => {}
    }
    let lost = now(ConditionType::FailoverReady).filter(|ready| ready.status == Truth::False);
    // Without a primary that is said in its own words.
    if let Some(lost) = lost.filter(|lost| facts.primary().is_some() && was(lost.kind)) {
        let note = lost.message.clone();
        events.push(Event { reason: EventReason::FailoverNotReady, warning: true, note });
    }
    events
}

fn listed(members: &BTreeSet<String>) -> String {
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
