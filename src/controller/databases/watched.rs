//! The databases of a scope, as they are watched, and which of them a change concerns.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource as _;
use tokio::sync::{Notify, mpsc};

use super::leases::Leases;
use super::readiness::Readiness;
use crate::api::{DesiredDatabase, LeaseDatabase, desired_database};
use crate::controller::caches::{Database, DatabaseRef, Scope};

/// The databases of one watched namespace, or of all.
pub(super) struct Watched {
    pub(super) scope: Arc<Scope>,
    queue: mpsc::UnboundedSender<DatabaseRef>,
    pub(super) leases: Leases,
    /// Others have a database than before.
    pub(super) namespaces: Notify,
    /// By UID, as they were last written, until the watch has caught up.
    pub(super) written: Mutex<HashMap<String, LeaseDatabase>>,
    pub(super) readiness: Readiness,
}

impl Watched {
    pub(super) fn new(scope: Arc<Scope>, queue: mpsc::UnboundedSender<DatabaseRef>) -> Self {
        Self {
            scope,
            queue,
            leases: Leases::default(),
            namespaces: Notify::new(),
            written: Mutex::default(),
            readiness: Readiness::default(),
        }
    }

    fn all(&self) -> Vec<Arc<Database>> {
        self.scope.databases.state()
    }

    pub(super) fn send(&self, database: &Database) {
        // Fails only while everything is ending.
        let _ = self.queue.send(DatabaseRef::from_obj(database));
    }

    /// Those of a namespace that are wanted.
    pub(super) fn queue_where(&self, namespace: &str, wanted: impl Fn(&DesiredDatabase) -> bool) {
        for database in self.all() {
            let here = database.meta().namespace.as_deref() == Some(namespace);
            let desired = database.0.as_ref().ok().filter(|_| here).map(desired_database);
            if desired.is_some_and(|desired| desired.is_ok_and(|desired| wanted(&desired))) {
                self.send(&database);
            }
        }
    }

    pub(super) fn everything(&self) {
        self.all().iter().for_each(|database| self.send(database));
    }

    /// A Lease has changed: that of a database, or that of a member.
    pub(super) fn lease(&self, namespace: &str, name: &str) {
        self.queue_where(namespace, |desired| {
            let rest = name.strip_prefix(desired.lease.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
    }

    pub(super) fn gone(&self, database: &Database) {
        let uid = database.meta().uid.clone().unwrap_or_default();
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.readiness.forget(&uid);
    }

    /// The namespaces that have a database.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.all().iter().filter_map(|database| database.meta().namespace.clone()).collect()
    }
}
