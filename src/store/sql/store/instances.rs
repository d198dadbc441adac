//! Who takes part, in `component_instance`. Nothing where that table is somebody else's.

use std::time::Duration;

use super::{Dialect, First, SqlStore};
use crate::election::ComponentName;
use crate::membership::{Instance, Mode, Whereabouts};
use crate::store::error::StoreError;
use crate::store::sql::dialect::Call;
use crate::store::sql::session::Session;

impl<D: Dialect> SqlStore<D> {
    /// The highest version that a participant says it leads or has led. What cannot be read says nothing.
    pub(super) async fn claimed(
        session: &mut Session<D>,
        component: &ComponentName,
    ) -> Result<Option<i64>, sqlx::Error> {
        if !session.table.instances {
            return Ok(None);
        }
        let given = [("component", component.as_str().into())];
        let answer = session.fetch_one(&session.table.sql.claimed, &given).await;
        match answer.and_then(|row| row.int_or_none("led")) {
            Err(error) if (D::ERRORS.are_not_to_be_read)(&error) => Ok(None),
            answer => answer,
        }
    }

    pub(super) async fn say_alive(
        &self,
        says: &Instance,
        id: Option<i64>,
    ) -> Result<Option<i64>, StoreError> {
        let mut held = self.session(First::Other).await?;
        if !held.session.table.instances {
            held.put_back();
            return Ok(None);
        }
        let Whereabouts { namespace, pod, pod_uid, container, node, address } = &says.whereabouts;
        let given = [
            ("id", id.into()),
            ("component", says.component.as_str().into()),
            ("holder", says.holder.as_str().into()),
            ("lasts", says.lasts.into()),
            ("healthy", says.healthy.into()),
            ("leads", says.leads.into()),
            ("namespace", namespace.into()),
            ("pod", pod.into()),
            ("pod_uid", pod_uid.into()),
            ("container", container.into()),
            ("node", node.into()),
            ("address", address.into()),
            ("program_version", (&says.program_version).into()),
            ("mode", says.mode.map(Mode::as_str).into()),
            ("longest_promise", says.promise.map(|promise| promise.longest_ms()).into()),
            ("promises_outside", says.promise.map(|promise| promise.outside).into()),
            ("priority", says.priority.map(i64::from).into()),
        ];
        let answer = D::beat(&mut held.session, &given, id).await;
        let sent = [says.component.as_str(), says.holder.as_str()];
        let told = [namespace, pod, pod_uid, container, node, address, &says.program_version];
        let sent: Vec<&str> =
            sent.into_iter().chain(told.into_iter().flatten().map(String::as_str)).collect();
        let answer = self.finish(held, Call::Beat, answer).await.map(Some);
        answer.map_err(|error| D::naming(error, &sent))
    }

    pub(super) async fn forget_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut held = self.session(First::Other).await?;
        if !held.session.table.instances {
            held.put_back();
            return Ok(0);
        }
        let older_than = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        let statement = &held.session.table.sql.prune_instances;
        let answer = held.session.execute(statement, &[("older_than", older_than.into())]).await;
        self.finish(held, Call::Prune, answer).await.map(|done| done.affected)
    }
}
