//! `status.lastTransition`, and whether the leader changes too often: read from the history when the leader changes, and
//! at no other time.

use std::time::Duration;

use tracing::warn;

use crate::api::{self, ComponentLeaseStatus};
use crate::controller::database::Database;
use crate::controller::handles::Handles;
use crate::election::{ComponentName, LeaseRow, Moment};
use crate::routing::conditions::ConditionType;
use crate::routing::decide::{Lead, Plan};
use crate::routing::flapping::{begins, flaps_until};
use crate::routing::observed::{Desired, Observed, Status, StoreSight, Transition};
use crate::store::{StoreError, Term};

/// A status does not wait for longer.
const LIMIT: Duration = Duration::from_secs(1);
/// How long what was said of flapping stands where it cannot be counted.
const AGAIN: Duration = Duration::from_secs(60);

/// Until when the leader is said to change too often, if it does. What was counted before this process began is read
/// again where the status says that it did.
pub(super) async fn flaps(observed: &Observed, plan: &Plan, handles: &Handles) -> Option<Moment> {
    let (database, changes) = (&handles.database, &handles.cluster.changes);
    let Desired { uid, component, flapping_above, .. } = &observed.desired;
    let most = (*flapping_above)?;
    let known = changes.of(uid);
    let answers = observed.store == StoreSight::Answers;
    let now = database.clock.boot();
    // What was said before stands until it is known better.
    let unknown = (known.is_none() && observed.memory.flapping).then(|| now + AGAIN);
    let begins = if answers && (plan.transition || known.is_none() && observed.memory.flapping) {
        let limit = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1);
        let call = database.store().history(component, None, limit);
        match tokio::time::timeout(LIMIT, call).await {
            Ok(Ok(terms)) => {
                let latest = match &plan.lead {
                    Lead::Held(row, _) => Some(row.renew_time),
                    _ => None,
                };
                let begins = begins(terms.iter().map(|term| term.lease_time), latest, now);
                changes.keep(uid, begins.clone());
                begins
            }
            // A bare table has no history; of another failure the next change of leader shows as much.
            Ok(Err(_)) | Err(_) if unknown.is_some() => return unknown,
            Ok(Err(_)) | Err(_) => known.unwrap_or_default(),
        }
    } else if unknown.is_some() {
        return unknown;
    } else {
        known.unwrap_or_default()
    };
    flaps_until(&observed.desired, &begins, now)
}

/// Completes a status that is about to be written. What is not in the history yet (the end is written after the take)
/// is looked for again when the same change of leader has the status written again.
pub(super) async fn learn(
    status: &mut Status,
    before: Option<&ComponentLeaseStatus>,
    observed: &Observed,
    plan: &Plan,
    database: &Database,
) {
    let Lead::Held(row, _) = &plan.lead else { return };
    if observed.store != StoreSight::Answers {
        return;
    }
    let component = &observed.desired.component;
    // A program with its own SQL may count the version up with each renewal: that is no change of leader.
    let same =
        |known: &&Transition| known.version == row.version || (!plan.transition && known.to == row.holder);
    let known = status.last_transition.as_ref().filter(same);
    if known.is_some_and(|known| known.reason.is_some() || !goes_on(before, component, status)) {
        return;
    }
    let call = database.store().history(component, Some(row.version.saturating_add(1)), 2);
    let terms = match tokio::time::timeout(LIMIT, call).await {
        Ok(Ok(terms)) => terms,
        // A bare table has no history.
        Ok(Err(StoreError::Misconfigured { .. })) if database.known().epoch_step().is_none() => Vec::new(),
        failed => {
            let error = failed.map_or_else(
                |_| format!("no answer within {LIMIT:?}"),
                |failed| failed.err().map(|error| error.to_string()).unwrap_or_default(),
            );
            if database.may_warn(&error) {
                warn!(%component, error, "the history could not be read, so status.lastTransition says less");
            }
            Vec::new()
        }
    };
    status.last_transition = Some(transition(row, &terms, observed.memory.holder.as_deref()));
}

/// Whether the change of leader still has the status written: then it costs nothing more to know more.
fn goes_on(before: Option<&ComponentLeaseStatus>, component: &ComponentName, status: &Status) -> bool {
    let is_ready = before.is_some_and(|before| {
        before.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True")
    });
    !is_ready && api::status(before, Some(component), status, "").is_some()
}

/// How this term followed the one before; `last` led last as far as the status remembers.
fn transition(row: &LeaseRow, terms: &[Term], last: Option<&str>) -> Transition {
    let is_this = |term: &&Term| term.version == row.version;
    let last = last.filter(|last| *last != row.holder);
    // Where versions are left out, somebody without a line in the history may have led in between.
    let follows = |old: &&Term| {
        old.version.checked_add(1) == Some(row.version) || last.is_none_or(|last| last == old.holder)
    };
    let old = terms.iter().find(|term| !is_this(term)).filter(follows);
    let end = old.and_then(|old| old.end.as_ref());
    Transition {
        version: row.version,
        from: old.map(|old| old.holder.clone()).or_else(|| last.map(ToOwned::to_owned)),
        to: row.holder.clone(),
        at: row.lease_time,
        reason: end.map(|end| camel(end.reason.as_str())),
        by: end.and_then(|end| end.said.as_ref()).map(|said| said.by().to_owned()),
        // The clock of a database may step.
        without_leader_ms: end.map(|end| row.lease_time.saturating_sub(end.at).max(0)),
    }
}

/// The words of the table as Kubernetes writes reasons.
fn camel(word: &str) -> String {
    let mut out = String::new();
    for part in word.split('_') {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConditionStatus;
    use crate::routing::conditions::Reason;
    use crate::routing::fixtures::remembers;
    use crate::routing::report::report_invalid;
    use crate::store::{End, EndReason, Said};

    fn row() -> LeaseRow {
        LeaseRow { holder: "b".into(), lease_time: 5_300, renew_time: 6_000, version: 42, ttl: 5 }
    }

    fn term(version: i64, holder: &str, end: Option<End>) -> Term {
        Term { version, holder: holder.to_owned(), lease_time: 1_000, ttl: 5, end }
    }

    #[test]
    fn a_transition_says_who_led_why_that_ended_and_how_long_nobody_led() {
        let said = Some(Said::new("ada", "an upgrade").unwrap());
        let end = End { at: 5_000, reason: EndReason::SwitchedOver, said };
        let terms = [term(42, "b", None), term(41, "a", Some(end.clone()))];
        let told = transition(&row(), &terms, Some("a"));
        let whole = Transition {
            version: 42,
            from: Some("a".to_owned()),
            to: "b".to_owned(),
            at: 5_300,
            reason: Some("SwitchedOver".to_owned()),
            by: Some("ada".to_owned()),
            without_leader_ms: Some(300),
        };
        assert_eq!(told, whole);
        let between = transition(&row(), &[term(42, "b", None), term(40, "a", Some(end.clone()))], Some("x"));
        assert_eq!(
            (between.from.as_deref(), between.reason, between.without_leader_ms),
            (Some("x"), None, None)
        );
        // A holder without a line of its own took it from the last one that has.
        assert_eq!(transition(&row(), &[term(40, "a", Some(end.clone()))], None), whole);
        let stepped = End { at: 9_000, ..end };
        assert_eq!(transition(&row(), &[term(41, "a", Some(stepped))], None).without_leader_ms, Some(0));
    }

    #[test]
    fn what_is_missing_is_looked_for_while_the_change_of_leader_has_the_status_written() {
        let component = ComponentName::new("shop/c").unwrap();
        let mut status = report_invalid(&remembers("d-0", 42), 1, None, Reason::InvalidSpec, "x");
        let written = api::status(None, Some(&component), &status, "t").unwrap();
        assert!(!goes_on(Some(&written), &component, &status), "nothing is written");
        status.candidates += 1;
        assert!(goes_on(Some(&written), &component, &status));
        let mut ready = written;
        ready.conditions.iter_mut().for_each(|condition| condition.status = ConditionStatus::True);
        assert!(!goes_on(Some(&ready), &component, &status), "the change is over");
    }

    #[test]
    fn what_the_history_does_not_say_is_left_out() {
        let unended = transition(&row(), &[term(42, "b", None), term(41, "a", None)], None);
        assert_eq!((unended.from.as_deref(), unended.reason, unended.by), (Some("a"), None, None));
        assert_eq!(unended.without_leader_ms, None);
        assert_eq!(transition(&row(), &[term(42, "b", None)], None).from, None, "the first of all");
        assert_eq!(transition(&row(), &[], Some("a")).from.as_deref(), Some("a"), "as the status remembers");
    }
}
