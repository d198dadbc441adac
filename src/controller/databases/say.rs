//! Writes the status of a database, where something other than a time has changed.

use std::sync::PoisonError;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::pass::Worker;
use crate::api::{LeaseDatabase, LeaseDatabaseStatus, database_status};
use crate::controller::cluster::FIELD_MANAGER;
use crate::routing::conditions::Condition;

fn number(database: &LeaseDatabase) -> Option<u64> {
    database.resource_version()?.parse().ok()
}

impl Worker {
    /// The status as it was last written: the watch may not show that yet.
    pub(super) fn before(&self, database: &LeaseDatabase) -> Option<LeaseDatabaseStatus> {
        let uid = database.uid().unwrap_or_default();
        let mut written = self.watched.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&uid) {
            Some(known) if number(known) > number(database) => known.status.clone(),
            _ => {
                written.remove(&uid);
                database.status.clone()
            }
        }
    }

    /// Whether it was written.
    pub(super) async fn write(
        &self,
        database: &LeaseDatabase,
        before: Option<&LeaseDatabaseStatus>,
        wanted: LeaseDatabaseStatus,
        conditions: &[Condition],
    ) -> Result<bool, kube::Error> {
        let handles = &self.handles;
        let now = handles.database.clock.wall_ms() / 1000 * 1000;
        let now = jiff::Timestamp::from_millisecond(now).unwrap_or_default().to_string();
        let Some(status) = database_status(before, wanted, conditions, &now) else { return Ok(false) };
        let (name, namespace) = (database.name_any(), database.namespace().unwrap_or_default());
        let databases: Api<LeaseDatabase> = Api::namespaced(handles.cluster.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": LeaseDatabase::api_version(&()),
            "kind": LeaseDatabase::kind(&()),
            // A resource of the same name made in the meantime is another one.
            "metadata": { "name": name, "uid": database.uid() },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match databases.patch_status(&name, &params, &Patch::Apply(patch)).await {
            Ok(written) => {
                handles.announcer.metrics.status_written();
                let uid = written.uid().unwrap_or_default();
                self.watched.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, written);
                Ok(true)
            }
            // Deleted meanwhile: there is nobody left to tell.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}
