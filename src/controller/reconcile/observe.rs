//! The first step: everything that a decision is made of, of one moment.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use tracing::{debug, warn};

use super::floor;
use crate::api::{self, ComponentLease, ComponentLeaseStatus};
use crate::controller::caches::Scope;
use crate::controller::claims::claim;
use crate::controller::cluster::Cluster;
use crate::controller::database::Database;
use crate::controller::handles::Handles;
use crate::routing::floor::FloorSight;
use crate::routing::observed::{Desired, LabelScheme, Observed, RowSight, StoreSight};
use crate::routing::pause::PauseSight;
use crate::routing::pod::Marks;

/// Why nothing could be observed that a decision may go by.
#[derive(Debug, thiserror::Error)]
pub(in crate::controller) enum Error {
    #[error("the row could not be looked at again")]
    Stale,
    #[error("the watch does not show yet what was written to pods")]
    WatchBehind,
}

impl Error {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::WatchBehind => "watch_behind",
        }
    }
}

pub(super) struct Seen {
    /// The status as it was last written.
    pub(super) before: Option<ComponentLeaseStatus>,
    pub(super) observed: Observed,
}

/// `None` while the row, or where its holder runs, has not been asked for.
pub(super) async fn observe(
    lease: &ComponentLease,
    desired: &Desired,
    scope: &Scope,
    handles: &Handles,
) -> Result<Option<Seen>, Error> {
    let Handles { database, cluster, announcer } = handles;
    let component = desired.component.as_str();
    if !database.known().looked(component) {
        return Ok(None);
    }
    if !scope.behind.caught_up(&scope.pods).await {
        return Err(Error::WatchBehind);
    }
    let before = announcer.status_before(lease);
    let (store, row, now) = database.sight(component);
    let mut memory = api::memory(lease, before.as_ref());
    // A patch that removes a forbidden key is refused as a whole: nothing else would get done.
    let withdrawn = |old: &mut LabelScheme| !cluster.may_write(&old.key);
    if let Some(old) = memory.applied.take_if(withdrawn) {
        warn!(
            object = lease.name_any(),
            label = old.key,
            "the prefix of the label that the resource used before is no longer allowed, so it stays on the pods; remove it by hand, or allow the prefix again"
        );
    }
    let (instances, holder_told, disputed, longest_ttl, epoch_step) = {
        let known = database.known();
        let instances = &known.instances;
        let (mut alive, told) = (instances.of(component), instances.holder(component));
        // What a killed process last said lasts a while; its pod tells that it is gone.
        alive.retain(|seen| !scope.is_gone(&seen.whereabouts));
        (alive, told, instances.disputed(component), known.longest_ttl(), known.epoch_step())
    };
    let holder = match &row {
        RowSight::Seen { row: Some(row), .. } => row.holder.as_str(),
        _ => "",
    };
    // Also a pod that it says it runs in may be no candidate, which is to be said.
    let told = instances.iter().rev().chain(&holder_told).find(|seen| seen.holder == holder);
    let holder = told.and_then(|seen| seen.whereabouts.pod.as_deref()).unwrap_or(holder);
    let mut pods = scope.pods_of(desired, memory.applied.as_ref(), holder);
    let marks = Marks::of(&desired.name);
    for pod in pods.iter_mut().flatten() {
        pod.forget_forbidden_key(&marks, |key| cluster.may_write(key));
        pod.cordoned = pod.node.as_deref().is_some_and(|node| cluster.nodes.are_cordoned(node));
    }
    let mut observed = Observed {
        claim: claim(lease, desired, scope, cluster, pods.as_deref().unwrap_or(&[])),
        store,
        database: None,
        row_confirmed: false,
        longest_ttl,
        pause: database.known().pause(component),
        quarantine: database.quarantined(),
        epoch_step,
        floor: floor::sight(&memory, &row, database),
        instances,
        holder_told,
        disputed,
        service: scope.service_of(desired),
        endpoints: scope.endpoints_of(desired),
        former_services: scope.former_services_of(desired),
        standby_values: BTreeMap::new(),
        leaving: lease.metadata.deletion_timestamp.is_some(),
        pods,
        now,
        row,
        memory,
        desired: desired.clone(),
    };
    hold_if_another(&mut observed, database, cluster);
    Ok(database.known().knows_holder(component).then_some(Seen { before, observed }))
}

/// Looks at the row again, for these very pods: a pod that is seen later may know of a version later still. False
/// while it has not been asked where the holder runs.
pub(super) async fn confirm(observed: &mut Observed, handles: &Handles) -> Result<bool, Error> {
    let Handles { database, cluster, .. } = handles;
    debug!(object = observed.desired.name, "a pod knows of a later version; looking at the row again");
    look_again(database).await?;
    let component = observed.desired.component.clone();
    (observed.store, observed.row, observed.now) = database.sight(component.as_str());
    hold_if_another(observed, database, cluster);
    observed.row_confirmed = true;
    Ok(database.known().knows_holder(component.as_str()))
}

pub(super) async fn look_again(database: &Database) -> Result<(), Error> {
    if database.look_again().await { Ok(()) } else { Err(Error::Stale) }
}

/// Nothing that another database says than the one that the resource has known is believed.
fn hold_if_another(observed: &mut Observed, database: &Database, cluster: &Cluster) {
    // Before the first look there is nothing to tell by.
    let RowSight::Seen { since, .. } = observed.row else { return };
    let now = database.known().database();
    match cluster.check_database(observed.memory.database.as_deref(), now.as_deref()) {
        Ok(()) => observed.database = now,
        Err(another) => {
            observed.store = StoreSight::Another(another.to_string());
            observed.row = RowSight::Never { since };
            (observed.instances, observed.disputed, observed.longest_ttl) = (Vec::new(), Vec::new(), None);
            observed.floor = FloorSight::default();
            (observed.quarantine, observed.epoch_step) = (None, None);
            observed.pause = PauseSight::Unknown;
        }
    }
}
