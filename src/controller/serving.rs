//! What was last said of each resource: whether its leader is served.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::election::Moment;
use crate::routing::decide::Plan;
use crate::routing::observed::Observed;
use crate::routing::serving::{Steady, Unserved, unserved};

/// By the UID of a resource.
#[derive(Debug, Default)]
pub(super) struct Serving(Mutex<HashMap<String, Steady>>);

impl Serving {
    /// Why users get no answers from the leader's pod, as it may be said now, and when to look again if nothing
    /// happens before.
    pub(super) fn say(
        &self,
        observed: &Observed,
        plan: &Plan,
        now: Moment,
    ) -> (Option<Unserved>, Option<Moment>) {
        let Some(Ok(leader)) = &plan.leader else { return (None, None) };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = all.entry(observed.desired.uid.clone()).or_default();
        steady.say((&leader.uid, plan.version), unserved(observed, plan), now)
    }

    pub(super) fn forget(&self, lease: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }
}
