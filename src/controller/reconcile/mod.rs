//! One reconcile, which reads downwards as it runs:
//!
//! ```text
//! observe   the row, the pods, the Service, what the status said       [`observe`]
//! decide    what to do about it: pure, no client                       [`crate::routing::decide`]
//! end       the term of a holder that is proven to have ended          [`ended`]
//! apply     strip, stamp, label, Service                               [`apply`]
//! report    the status, Events, what the participants are to find      [`report`]
//! ```
//! A pass that meets something newer than what it has observed begins again. Each step is handed what it uses of the
//! three [`Handles`].

pub(super) mod apply;
mod ended;
mod floor;
mod hand_over;
mod observe;
mod pause;
mod report;
mod services;
mod transition;

use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use super::caches::{Lease, Scope};
use super::handles::Handles;
use crate::api::ComponentLease;
use crate::routing::decide::{Decision, decide};
use crate::routing::observed::Desired;
use ended::Release;
use observe::Seen;

/// A pass that meets a changed pod begins again on a fresh view, this often.
const PASSES: usize = 5;

/// Why a reconcile is tried again. Each step has an error of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
    #[error(transparent)]
    Report(#[from] report::Error),
}

impl Error {
    /// For metrics: a bounded set of words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Observe(error) => error.kind(),
            Self::Apply(error) => error.kind(),
            Self::Report(error) => error.kind(),
        }
    }
}

/// Reconciles one resource.
#[tracing::instrument(level = "debug", skip_all, fields(namespace = lease.namespace(), name = lease.name_any()))]
pub(super) async fn reconcile(lease: &Lease, scope: &Scope, handles: &Handles) -> Result<Action, Error> {
    // Caches that were never filled show nothing, and a database that was never asked says nothing. Whatever is
    // missing queues everything when it comes.
    if !scope.settled() {
        return Ok(Action::await_change());
    }
    match &lease.0 {
        Err(unreadable) => report::unreadable(lease, &unreadable.error),
        Ok(lease) => match handles.cluster.desired(lease).as_ref() {
            Err(invalid) => report::invalid(lease, invalid, &handles.announcer).await?,
            Ok(desired) => return reconcile_valid(lease, desired, scope, handles).await,
        },
    }
    Ok(Action::await_change())
}

async fn reconcile_valid(
    lease: &ComponentLease,
    desired: &Desired,
    scope: &Scope,
    handles: &Handles,
) -> Result<Action, Error> {
    let Handles { database, cluster, announcer } = handles;
    for _ in 0..PASSES {
        let turn = cluster.turns.to_label(desired.candidates()).await;
        // The look that shows the row, or where its holder runs, queues the resource again.
        let Some(Seen { before, mut observed }) = observe::observe(lease, desired, scope, handles).await?
        else {
            return Ok(Action::await_change());
        };
        let mut decision = decide(&observed);
        if matches!(decision, Decision::LookAgain) {
            if !observe::confirm(&mut observed, handles).await? {
                return Ok(Action::await_change());
            }
            decision = decide(&observed);
        }
        let plan = match decision {
            Decision::Act(plan) => plan,
            Decision::Conflict(by) => {
                report::conflict(lease, before.as_ref(), &observed, by, handles, turn).await?;
                return Ok(Action::await_change());
            }
            // Never after a look; and if it were, the next pass begins with a newer one.
            Decision::LookAgain => continue,
        };
        let release = ended::release(lease, &observed, &plan, handles).await;
        if release == Release::Over {
            observe::look_again(database).await?;
            continue;
        }
        let outcome = apply::apply(&cluster.client, scope, lease, &plan).await;
        if outcome.conflict {
            continue;
        }
        if plan.leads_to_a_pod() && outcome.failed().is_none() {
            let handover = database.known().handover(desired.component.as_str());
            announcer.metrics.labelled(lease, handover, database.clock.boot());
        }
        let again =
            report::report(lease, before.as_ref(), &mut observed, &plan, &outcome, handles, turn).await?;
        apply::complete(&outcome)?;
        let again = again.into_iter().chain(release.after()).min();
        return Ok(again
            .map_or_else(Action::await_change, |wait| Action::requeue(wait.max(Duration::from_millis(5)))));
    }
    Err(apply::Error::Contended.into())
}
