//! Everything that a decision about a database is made of, of one moment.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::leases::Known;
use super::report::Trouble;
use super::watched::Watched;
use crate::api::{DesiredDatabase, LeaseDatabase, LeaseDatabaseStatus, REPLICA, database_memory};
use crate::controller::caches::MEMBERS;
use crate::controller::handles::Handles;
use crate::election::{LeaseRow, Moment};
use crate::member::Standing;
use crate::routing::conditions::Reason;
use crate::routing::floor::FloorSight;
use crate::routing::observed::{Claim, Observed, RowSight, StoreSight};
use crate::routing::pause::PauseSight;
use crate::routing::pod::{Marks, Pod};
use crate::store::Rostered;
use crate::store::kubernetes::roster::report_name;

/// So long is the name of a member at most.
const MEMBER_MAX: usize = 253;

/// What the Lease and the members say.
pub(super) struct Look {
    /// Why the Leases cannot be gone by, if they cannot.
    pub(super) trouble: Option<Trouble>,
    pub(super) known: Option<Known>,
    /// What stands beside the Lease, or what is wrong with that.
    pub(super) standing: Result<Standing, String>,
    pub(super) now: Moment,
}

/// `None` while the Leases of the namespace have not been listed, which queues the database when it is done.
pub(super) fn look(watched: &Watched, desired: &DesiredDatabase, now: Moment) -> Option<Look> {
    let namespace = desired.writer.namespace.as_str();
    let listed = watched.leases.listed(namespace);
    if !listed && !watched.scope.troubles.has(MEMBERS, namespace) {
        return None;
    }
    let known = watched.leases.get(namespace, &desired.lease);
    let wrong = known.as_ref().and_then(|known| known.wrong.clone());
    let forbidden =
        watched.scope.troubles.unknown(MEMBERS, namespace, listed).map(|text| (Reason::Forbidden, text));
    let trouble = forbidden.or_else(|| wrong.map(|text| (Reason::LeaseUnreadable, text)));
    let trouble = trouble.map(|(reason, text)| Trouble { reason, text });
    let known = known.filter(|known| known.wrong.is_none());
    let mut asked = desired.members.clone();
    let standing = loop {
        let found = rostered(watched, desired, known.as_ref(), &asked);
        let standing = Standing::of(&found, &desired.writer.component).map_err(|error| error.to_string());
        let standing = standing.and_then(showable);
        let recorded = standing.iter().flat_map(|standing| &standing.record);
        let members: BTreeSet<String> = recorded.flat_map(|(record, _)| record.members.clone()).collect();
        if members.is_subset(&asked) {
            break standing;
        }
        asked.extend(members);
    };
    Some(Look { trouble, known, standing, now })
}

/// A record names members, and anybody may write one who may write the Lease. A status has room for names of this length.
fn showable(standing: Standing) -> Result<Standing, String> {
    let record = standing.record.as_ref().map(|(record, _)| record);
    let names = record
        .iter()
        .flat_map(|record| record.members.iter().chain(record.quorum.voters()).chain([&record.primary]));
    match names.map(|name| name.chars().count()).max().filter(|longest| *longest > MEMBER_MAX) {
        Some(longest) => Err(format!(
            "the record beside the Lease cannot be read: it names a member of {longest} characters, and {MEMBER_MAX} are the most"
        )),
        None => Ok(standing),
    }
}

/// The Lease with what stands beside it, as the store would read it.
fn rostered(
    watched: &Watched,
    desired: &DesiredDatabase,
    known: Option<&Known>,
    members: &BTreeSet<String>,
) -> Rostered {
    let says = |member: &String| {
        let report = report_name(&desired.lease, member);
        Some((member.clone(), watched.leases.get(&desired.writer.namespace, &report)?.report?))
    };
    Rostered {
        row: known.map(|known| known.row.clone()),
        record: known.and_then(|known| known.record.clone()),
        reports: members.iter().filter_map(says).collect(),
        ..Rostered::default()
    }
}

impl Look {
    pub(super) fn row(&self) -> Option<&LeaseRow> {
        self.known.as_ref().map(|known| &known.row)
    }

    /// Only a watch that is well shows that nothing happens.
    pub(super) fn has_run_out(&self) -> bool {
        self.trouble.is_none() && self.known.as_ref().is_some_and(|known| known.has_run_out(self.now))
    }

    /// A primary goes on without its lease while other members acknowledge its writes. Its label stays until another member
    /// holds the lease.
    fn store(&self, vanished: bool) -> StoreSight {
        match &self.trouble {
            None if vanished => StoreSight::Unreachable("the Lease is gone".to_owned()),
            Some(trouble) => StoreSight::Unreachable(trouble.text.clone()),
            None if self.has_run_out() => {
                StoreSight::Unreachable("the holder of the Lease does not renew it".to_owned())
            }
            None => StoreSight::Answers,
        }
    }

    /// Whether the Lease was deleted while a pod carries the label. Its members go on without it.
    pub(super) fn vanished(&self, before: Option<&LeaseDatabaseStatus>) -> bool {
        let labelled = before.and_then(|before| before.internal.as_ref()?.pod_name.as_ref()).is_some();
        self.trouble.is_none() && self.known.is_none() && labelled
    }

    /// Whether the status knows of a later version than what is shown: the watch may be behind.
    pub(super) fn is_behind(&self, before: Option<&LeaseDatabaseStatus>) -> bool {
        let before = before.and_then(|before| before.version);
        self.trouble.is_none()
            && before.is_some_and(|before| self.row().is_none_or(|row| row.version < before))
    }

    fn sight(&self, vanished: bool) -> RowSight {
        match &self.known {
            Some(known) => RowSight::Seen { row: Some(known.row.clone()), since: known.since },
            None if self.trouble.is_some() || vanished => RowSight::Never { since: self.now },
            None => RowSight::Seen { row: None, since: self.now },
        }
    }
}

/// How the primary is reached.
pub(super) fn observe(
    database: &LeaseDatabase,
    before: Option<&LeaseDatabaseStatus>,
    desired: &DesiredDatabase,
    look: &Look,
    watched: &Watched,
    handles: &Handles,
) -> Observed {
    let (scope, writer) = (&watched.scope, &desired.writer);
    let holder = look.row().map_or("", |row| row.holder.as_str());
    let mut pods = scope.pods_of(writer, None, holder);
    let marks = Marks::of(&writer.name);
    for pod in pods.iter_mut().flatten() {
        pod.forget_forbidden_key(&marks, |key| handles.cluster.may_write(key));
    }
    let mut former = scope.former_services_of(writer);
    former.retain(|former| !desired.names(&former.name));
    let vanished = look.vanished(before);
    let shown = look.known.is_some() || (look.trouble.is_none() && !vanished);
    let standing = look.standing.as_ref().ok().filter(|_| shown);
    Observed {
        memory: database_memory(before),
        claim: Claim::First,
        store: look.store(vanished),
        database: None,
        row: look.sight(vanished),
        row_confirmed: false,
        longest_ttl: None,
        pause: PauseSight::Unknown,
        quarantine: None,
        epoch_step: None,
        floor: FloorSight::default(),
        instances: Vec::new(),
        holder_told: None,
        disputed: Vec::new(),
        service: scope.service_of(writer),
        endpoints: scope.endpoints_of(writer),
        former_services: former,
        standby_values: standby_values(standing, pods.as_deref().unwrap_or_default(), &writer.labels.key),
        leaving: database.metadata.deletion_timestamp.is_some(),
        now: look.now,
        pods,
        desired: writer.clone(),
    }
}

/// Members that acknowledge commits are replicas. While that is not known, they are what they were.
fn standby_values(standing: Option<&Standing>, pods: &[Pod], key: &str) -> BTreeMap<String, String> {
    let is_replica = |pod: &&Pod| match standing {
        Some(standing) => {
            standing.record.as_ref().is_some_and(|(record, _)| record.quorum.voters().contains(&pod.name))
        }
        None => pod.has_label(key, REPLICA),
    };
    pods.iter().filter(is_replica).map(|pod| (pod.name.clone(), REPLICA.to_owned())).collect()
}

/// How the replicas are reached.
pub(super) fn for_readers(
    desired: &DesiredDatabase,
    observed: &Observed,
    watched: &Watched,
) -> Option<Observed> {
    let readers = desired.for_readers()?;
    let service = watched.scope.service_of(&readers);
    Some(Observed { desired: readers, service, former_services: Vec::new(), ..observed.clone() })
}

/// A watch may be behind, or cut off without knowing it. So the Lease is read before a term is said to have run out, and where a pod
/// or the status has a later version than what is shown.
pub(super) async fn read(
    watched: &Watched,
    desired: &DesiredDatabase,
    handles: &Handles,
) -> Result<(), kube::Error> {
    let namespace = desired.writer.namespace.as_str();
    let api: Api<Lease> = Api::namespaced(handles.cluster.client.clone(), namespace);
    let found = api.get_opt(&desired.lease).await?;
    watched.leases.read(namespace, &desired.lease, found, handles.database.clock.boot());
    Ok(())
}

/// The members whose pods are ready.
pub(super) fn ready_members(observed: &Observed) -> Result<BTreeSet<String>, String> {
    let pods = observed.pods.as_ref().map_err(Clone::clone)?;
    let is_ready = |pod: &&Pod| {
        observed.desired.selector.matches(&pod.labels)
            && !pod.finished
            && !pod.terminating
            && pod.unready.is_none()
    };
    Ok(pods.iter().filter(is_ready).map(|pod| pod.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DatabaseInternal;
    use crate::election::ComponentName;
    use crate::routing::fixtures::pod;

    const KEY: &str = "componentlease.io/orders_role";

    fn replicas(standing: Option<&Standing>, pods: &[Pod]) -> Vec<String> {
        let values = standby_values(standing, pods, KEY);
        assert!(values.values().all(|value| value == REPLICA), "{values:?}");
        values.into_keys().collect()
    }

    fn look_at(version: Option<i64>) -> Look {
        let leases = super::super::leases::Leases::default();
        let lease = |version: i64| -> Lease {
            let spec = serde_json::json!({ "holderIdentity": "a", "leaseTransitions": version });
            serde_json::from_value(serde_json::json!({ "metadata": { "name": "orders" }, "spec": spec }))
                .unwrap()
        };
        leases.read("shop", "orders", version.map(lease), Moment::default());
        let known = leases.get("shop", "orders");
        Look { trouble: None, known, standing: Ok(Standing::default()), now: Moment::default() }
    }

    fn status(version: i64, pod: Option<&str>) -> LeaseDatabaseStatus {
        let internal = DatabaseInternal { pod_name: pod.map(str::to_owned), ..DatabaseInternal::default() };
        LeaseDatabaseStatus {
            version: Some(version),
            internal: Some(internal),
            ..LeaseDatabaseStatus::default()
        }
    }

    #[test]
    fn a_record_that_names_a_member_with_more_characters_than_any_has_cannot_be_read() {
        let of = |length: usize| {
            let long = "m".repeat(length);
            let record = serde_json::json!({
                "primary": "a", "version": 4, "voters": [long], "acks": 1, "asynchronous": false, "system": "7",
                "members": ["a", long],
            });
            let found = Rostered { record: Some(record.to_string()), ..Rostered::default() };
            showable(Standing::of(&found, &ComponentName::new("orders").unwrap()).unwrap())
        };
        assert!(of(253).is_ok());
        assert!(of(254).unwrap_err().contains("a member of 254 characters"));
    }

    #[test]
    fn a_lease_that_is_gone_counts_as_unreachable_while_a_pod_carries_the_label() {
        let gone = look_at(None);
        assert!(gone.vanished(Some(&status(4, Some("a")))), "its members go on");
        assert!(matches!(gone.store(true), StoreSight::Unreachable(_)));
        assert!(matches!(gone.sight(true), RowSight::Never { .. }), "it is no row without a holder");
        assert!(!gone.vanished(Some(&status(4, None))) && !gone.vanished(None), "there never was a primary");
        assert!(!look_at(Some(4)).vanished(Some(&status(4, Some("a")))));
    }

    #[test]
    fn a_watch_that_shows_an_earlier_version_than_the_status_is_behind() {
        let behind = |version| look_at(version).is_behind(Some(&status(5, None)));
        assert_eq!([Some(4), Some(5), Some(6), None].map(behind), [true, false, false, true]);
        assert!(!look_at(Some(4)).is_behind(None));
    }

    #[test]
    fn members_that_acknowledge_commits_are_replicas_and_while_that_is_unknown_those_that_were() {
        let pods = [pod("a").label(KEY, "primary"), pod("b").label(KEY, REPLICA), pod("c")];
        let record = r#"{"primary":"a","version":4,"voters":["c"],"acks":1,"asynchronous":false,"system":"7","members":["a","b","c"]}"#;
        let found = Rostered { record: Some(record.to_owned()), ..Rostered::default() };
        assert_eq!(
            replicas(Some(&Standing::of(&found, &ComponentName::new("orders").unwrap()).unwrap()), &pods),
            ["c"]
        );
        assert_eq!(
            replicas(Some(&Standing::default()), &pods),
            Vec::<String>::new(),
            "nobody has recorded any"
        );
        assert_eq!(replicas(None, &pods), ["b"]);
    }
}
