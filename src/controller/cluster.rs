//! The cluster as the controller uses it: what is watched of it, what its resources ask for, and what they may.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Client, Resource as _, ResourceExt as _};

use super::caches::{Lease, Scope};
use super::endings::{Changes, Endings, HandOvers};
use super::lookout::Lookout;
use super::nodes::Nodes;
use super::serving::Serving;
use super::turns::Turns;
use crate::api::{self, ComponentLease, InvalidSpec};
use crate::election::ComponentName;
use crate::membership::namespace::Grants;
use crate::routing::database::{AnotherDatabase, check};
use crate::routing::observed::Desired;
use crate::store::Names;

/// Our name in managed fields.
pub(super) use crate::store::kubernetes::FIELD_MANAGER;

/// What the installer allows.
pub(super) struct Rules {
    /// Prefixes, beside our own, of labels that we may write.
    pub(super) allowed_prefixes: Vec<String>,
    pub(super) grants: Grants,
    /// The UUID of the database to which resources may go over that have known another one.
    pub(super) accept_database: Option<String>,
}

/// What a generation of a resource asks for.
type Wanted = (Option<i64>, Arc<Result<Desired, InvalidSpec>>);

pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) scopes: Vec<Arc<Scope>>,
    pub(super) rules: Rules,
    pub(super) lookout: Arc<Lookout>,
    pub(super) endings: Endings,
    pub(super) nodes: Nodes,
    /// Terms whose leader's pod is not ready.
    pub(super) unready: Endings,
    pub(super) hand_overs: HandOvers,
    pub(super) changes: Changes,
    pub(super) serving: Serving,
    pub(super) turns: Turns,
    /// By UID, what a generation of a resource asks for.
    wanted: Mutex<HashMap<String, Wanted>>,
}

impl Cluster {
    pub(super) fn new(client: Client, scopes: Vec<Arc<Scope>>, rules: Rules, lookout: Arc<Lookout>) -> Self {
        Self {
            client,
            scopes,
            rules,
            lookout,
            endings: Endings::default(),
            nodes: Nodes::default(),
            unready: Endings::default(),
            hand_overs: HandOvers::default(),
            changes: Changes::default(),
            serving: Serving::default(),
            turns: Turns::default(),
            wanted: Mutex::default(),
        }
    }

    /// Whether the resource is one for this controller: of its class, where no other release is in front of it.
    /// What is unreadable may be.
    pub(super) fn looks_after(&self, lease: &Lease) -> bool {
        let elsewhere = |namespace: &str| self.lookout.leaves(namespace);
        lease.0.as_ref().ok().is_none_or(|lease| self.is_of_our_class(lease))
            && !elsewhere(lease.meta().namespace.as_deref().unwrap_or_default())
    }

    pub(super) fn is_of_our_class(&self, lease: &ComponentLease) -> bool {
        lease.spec.class_name == self.lookout.class()
    }

    /// Every resource of every scope, of whatever class.
    pub(super) fn leases(&self) -> Vec<Arc<Lease>> {
        self.scopes.iter().flat_map(|scope| scope.leases.state()).collect()
    }

    /// Those of them that this controller looks after.
    fn ours(&self) -> Vec<Arc<Lease>> {
        let mut leases = self.leases();
        leases.retain(|lease| self.looks_after(lease));
        leases
    }

    /// Whether the caches have been filled once.
    pub(super) fn filled(&self) -> bool {
        self.scopes.iter().all(|scope| scope.filled())
    }

    /// Whether something may be written that concerns the whole database which answered last: not where it is
    /// another one than all resources know, nor before they are known.
    pub(super) fn may_write_to(&self, database: Option<&str>) -> bool {
        self.filled() && self.check_database(None, database).is_ok()
    }

    /// Whether the database that answers now is the one that a resource has known; one that has known none goes by
    /// what the others know.
    pub(super) fn check_database(
        &self,
        known: Option<&str>,
        now: Option<&str>,
    ) -> Result<(), AnotherDatabase> {
        let accepted = self.rules.accept_database.as_deref();
        if known.is_some() {
            return check(known, [], now, accepted);
        }
        let leases = self.ours();
        let others = leases.iter().filter_map(|lease| {
            lease.0.as_ref().ok()?.status.as_ref()?.internal.as_ref()?.database_uuid.as_deref()
        });
        check(None, others, now, accepted)
    }

    /// The components that resources claim, also in vain.
    pub(super) fn claims(&self) -> Names {
        let leases = self.ours();
        let desired =
            leases.iter().filter_map(|lease| lease.0.as_ref().ok()).map(|lease| self.desired(lease));
        let components =
            desired.filter_map(|desired| desired.as_ref().as_ref().ok().map(|d| d.component.clone()));
        components.collect()
    }

    /// What the resource asks for. Remembered by generation: with every change of a pod all
    /// resources of its namespace are asked.
    pub(super) fn desired(&self, lease: &ComponentLease) -> Arc<Result<Desired, InvalidSpec>> {
        let uid = lease.metadata.uid.as_deref().unwrap_or_default();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted.get(uid) {
            Some((generation, desired)) if *generation == lease.metadata.generation => Arc::clone(desired),
            _ => {
                let desired = api::desired(lease, &self.rules.allowed_prefixes).and_then(|desired| {
                    // Another class has other rules, which are not known here.
                    if self.is_of_our_class(lease) {
                        self.rules.grants.allow(&desired.namespace, &desired.component)?;
                    }
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
        self.rules.grants.allow(namespace, &component).ok().map(|()| component)
    }

    /// Whether a label with this key may be written.
    pub(super) fn may_write(&self, key: &str) -> bool {
        api::may_write(key, &self.rules.allowed_prefixes)
    }

    pub(super) fn forget(&self, gone: &Lease) {
        let uid = gone.uid().unwrap_or_default();
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.endings.forget(&uid);
        self.unready.forget(&uid);
        self.hand_overs.forget(&uid);
        self.changes.forget(&uid);
        self.serving.forget(&uid);
    }
}
