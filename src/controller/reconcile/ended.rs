//! Releases the term of a holder that has ended, so that nobody waits for its ttl. What proves the
//! end is in [`crate::routing::ended`]; here is the fresh look, and the only write of the controller to
//! `component_lease`.

use std::time::Duration;

use kube::{Api, ResourceExt as _};
use tracing::{debug, warn};

use crate::api::ComponentLease;
use crate::controller::announcer::name_of;
use crate::controller::database::Database;
use crate::controller::error::text;
use crate::controller::handles::Handles;
use crate::controller::pods::{self, KubePod};
use crate::election::TermKey;
use crate::routing::conditions::EventReason;
use crate::routing::decide::{Event, Plan};
use crate::routing::ended::{Suspicion, has_ended, promised};
use crate::routing::observed::Observed;
use crate::store::{EndReason, Ending, Outcome, StoreError};

/// How long after a failure it is tried again.
const NOTIFY_LIMIT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// The holder may live.
    NotNow,
    /// That term is over: look at the row again.
    Over,
    /// Ask again after this.
    After(Duration),
}

impl Release {
    /// When to ask again, if ever.
    pub(super) fn after(self) -> Option<Duration> {
        match self {
            Self::After(wait) => Some(wait),
            Self::NotNow | Self::Over => None,
        }
    }
}

pub(super) async fn release(
    lease: &ComponentLease,
    observed: &Observed,
    plan: &Plan,
    handles: &Handles,
) -> Release {
    let Handles { database, cluster, .. } = handles;
    let (Some(suspicion), Some(row)) = (&plan.ended, plan.lead.row()) else { return Release::NotNow };
    let Suspicion { term, pod, promised: wait } = suspicion;
    let uid = lease.uid().unwrap_or_default();
    let since = cluster.endings.first_seen(&uid, term, database.clock.boot());
    let still = |wait: Duration| (since + wait).saturating_sub(database.clock.boot());
    if !still(*wait).is_zero() {
        debug!(pod, wait = ?still(*wait), "the leader has ended, but another process may still believe that it leads");
        return Release::After(still(*wait));
    }
    let object = name_of(lease);
    let api: Api<KubePod> = Api::namespaced(cluster.client.clone(), &lease.namespace().unwrap_or_default());
    let fresh = match api.get_opt(pod).await {
        // It only disappeared, which proves nothing.
        Ok(None) => return Release::NotNow,
        Ok(Some(fresh)) => pods::pod(&fresh),
        Err(error) => {
            let error = text(&error);
            warn!(object, pod, error, "could not check whether the leader has ended");
            return Release::After(RETRY);
        }
    };
    let proof = has_ended(&observed.memory, row, observed.told(&row.holder), &fresh)
        .and_then(|()| promised(&observed.memory, observed.told_by(&row.holder), &fresh));
    match proof {
        Ok(wait) if still(wait).is_zero() => {}
        Ok(wait) => return Release::After(still(wait)),
        Err(doubt) => {
            debug!(object, pod, %doubt, "the leader may be alive, or another process may believe so");
            return Release::NotNow;
        }
    }
    released(lease, term, pod, handles).await
}

async fn released(lease: &ComponentLease, term: &TermKey, pod: &str, handles: &Handles) -> Release {
    let Handles { database, announcer, .. } = handles;
    let TermKey { component, holder, version } = term;
    let answer = tokio::time::timeout(TIMEOUT, database.store().release(term)).await;
    let why = match answer {
        Ok(Ok(Outcome::Applied)) => {
            announcer.metrics.released("released");
            let notify = database.store().notify(component);
            if !matches!(tokio::time::timeout(NOTIFY_LIMIT, notify).await, Ok(Ok(()))) {
                debug!(%component, "could not notify; standbys find the release by polling");
            }
            write_end(term, database).await;
            let note = format!(
                "every container of pod {pod} has ended that ran when it led: version {version} of {component} was released for {holder}"
            );
            let event = Event { reason: EventReason::HolderEnded, warning: true, note };
            announcer.record(lease, &[event]).await;
            return Release::Over;
        }
        Ok(Ok(Outcome::Lost)) => {
            announcer.metrics.released("lost");
            return Release::Over;
        }
        // A table of somebody else, or rights of an earlier release: the ttl does it then.
        Ok(Err(error @ (StoreError::Misconfigured { .. } | StoreError::Bug { .. }))) => {
            announcer.metrics.released("failed");
            warn!(%component, %holder, %error, "the leader has ended, but its lease could not be released; it will expire");
            return Release::NotNow;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    announcer.metrics.released("failed");
    warn!(%component, %holder, error = why, "the leader has ended, but its lease could not be released; trying again");
    Release::After(RETRY)
}

/// Into the history. A call of its own, as of a participant that releases: it costs that line only.
async fn write_end(term: &TermKey, database: &Database) {
    let ending = Ending::now(EndReason::ContainerEnded);
    let call = database.store().end_term(&term.component, term.version, &ending);
    let error = match tokio::time::timeout(NOTIFY_LIMIT, call).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {NOTIFY_LIMIT:?}"),
    };
    if database.may_warn(&error) {
        warn!(component = %term.component, error, "the end of a term could not be written into component_lease_history; nothing else is affected");
    }
}

#[cfg(test)]
#[path = "ended_tests.rs"]
mod tests;
