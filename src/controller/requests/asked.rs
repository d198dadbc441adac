//! A request as it stands in the database, and how that is asked.

use std::time::Duration;

use kube::ResourceExt as _;

use crate::api::{LeaseRequest, ObservedTerm};
use crate::election::{ComponentName, HolderId, Request, Verb};
use crate::operator::{Progress, Situation, progress};
use crate::store::{Snapshot, StoreError};

/// No call of the database takes longer.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The database did not do what it was asked to.
#[derive(Debug, Clone)]
pub(super) struct Away {
    pub(super) why: String,
    /// It answered, and only an edit can help.
    pub(super) hopeless: bool,
}

impl From<StoreError> for Away {
    fn from(error: StoreError) -> Self {
        let hopeless = matches!(error, StoreError::Misconfigured { .. } | StoreError::Bug { .. });
        Self { why: error.to_string(), hopeless }
    }
}

impl Away {
    pub(super) fn silent() -> Self {
        Self { why: format!("the database did not answer within {CALL_LIMIT:?}"), hopeless: false }
    }
}

/// A call of the database, within bounds.
pub(super) async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Away> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Away::silent()),
    }
}

/// A request that may stand in the database.
pub(super) struct Asked {
    pub(super) component: ComponentName,
    pub(super) observed: ObservedTerm,
    pub(super) request: Request,
}

impl Asked {
    /// `None` where somebody else has written the status.
    pub(super) fn of(request: &LeaseRequest, observed: ObservedTerm) -> Option<Self> {
        let target = observed.target.clone().map(HolderId::new).transpose().ok()?;
        let asked = Request {
            id: request.status.as_ref()?.id.clone().or_else(|| request.uid())?,
            verb: Verb::from(request.spec.verb),
            version: observed.version,
            target,
            away: Duration::from_secs(u64::try_from(observed.away_seconds.unwrap_or(0)).unwrap_or(0)),
        };
        Some(Self {
            component: ComponentName::new(observed.component.clone()).ok()?,
            observed,
            request: asked,
        })
    }

    /// How far it is, by this look.
    pub(super) fn progress(&self, seen: &Snapshot) -> Progress {
        let from = self.observed.leader.as_deref().unwrap_or_default();
        progress(&Situation::of(seen, &self.component), &self.request, from)
    }
}
