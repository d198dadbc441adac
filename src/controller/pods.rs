//! A pod as the API server sends it, of which only what is read is kept: anybody may make pods, and a namespace may
//! have thousands that concern no lease. What is not named here is skipped while it is parsed, not stored and dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt as _};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::routing::pod::{Container, DELETION_COST, End, Incarnation, PREFIX, Pod as SeenPod};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "SentPod")]
pub(super) struct KubePod {
    /// Without annotations and owners.
    pub(super) metadata: ObjectMeta,
    /// The annotations that are ours. Few pods have any, and a map takes half a kilobyte.
    annotations: Box<[(Box<str>, Box<str>)]>,
    /// Kind and name of what makes such pods and owns it.
    workload: Option<Box<str>>,
    pub(super) spec: Option<PodSpec>,
    pub(super) status: Option<PodStatus>,
}

#[derive(Deserialize)]
struct SentPod {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

impl From<SentPod> for KubePod {
    fn from(sent: SentPod) -> Self {
        let SentPod { mut metadata, spec, status } = sent;
        let annotations = std::mem::take(&mut metadata.annotations).0.into_iter();
        let owners = metadata.owner_references.take().into_iter().flatten();
        let workload = owners.filter(|owner| owner.controller == Some(true)).map(|owner| {
            let Owner { kind, name, .. } = owner;
            format!("{kind} {name}").into_boxed_str()
        });
        Self {
            annotations: annotations.map(|(key, value)| (key.into(), value.into())).collect(),
            workload: workload.take(1).next(),
            metadata: metadata.into(),
            spec,
            status,
        }
    }
}

impl KubePod {
    /// The keys of the annotations that are ours.
    pub(super) fn annotated(&self) -> impl Iterator<Item = &str> {
        self.annotations.iter().map(|(key, _)| key.as_ref())
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) node_name: Option<String>,
    pub(super) host_network: Option<bool>,
}

/// What is kept of a status.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "SentStatus")]
pub(super) struct PodStatus {
    /// Phase Succeeded or Failed.
    finished: bool,
    pub(super) ips: Box<[Box<str>]>,
    start_time: Option<Time>,
    conditions: Conditions,
    /// Of all kinds: an agent may be a container of any.
    containers: Box<[Container]>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentStatus {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    start_time: Option<Time>,
    #[serde(default)]
    conditions: Conditions,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

impl From<SentStatus> for PodStatus {
    fn from(sent: SentStatus) -> Self {
        let containers =
            [sent.container_statuses, sent.init_container_statuses, sent.ephemeral_container_statuses];
        Self {
            finished: matches!(sent.phase.as_deref(), Some("Succeeded" | "Failed")),
            ips: sent.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect(),
            start_time: sent.start_time,
            conditions: sent.conditions,
            containers: containers.into_iter().flatten().flatten().map(container).collect(),
        }
    }
}

/// What the kubelet, or the controller of its node, says of the pod as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Option<Vec<SentCondition>>")]
pub(super) struct Conditions {
    initialized: bool,
    /// `None` before anybody has said it.
    ready: Option<bool>,
    /// Why it is not ready.
    why: Option<Box<str>>,
}

#[derive(Deserialize)]
struct SentCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
}

/// Characters of the kubelet's own words that are kept.
const WHY_MAX: usize = 200;

impl From<Option<Vec<SentCondition>>> for Conditions {
    fn from(sent: Option<Vec<SentCondition>>) -> Self {
        let mut conditions = Self::default();
        for SentCondition { kind, status, reason, message } in sent.into_iter().flatten() {
            match kind.as_str() {
                "Initialized" => conditions.initialized = status == "True",
                "Ready" => {
                    conditions.ready = Some(status == "True");
                    let why = message.filter(|message| !message.is_empty()).or(reason);
                    let why = why.filter(|_| status != "True");
                    conditions.why = why.map(|why| why.chars().take(WHY_MAX).collect());
                }
                _ => {}
            }
        }
        conditions
    }
}

impl Conditions {
    /// Why the pod is not ready; `None` if it is.
    fn unready(&self) -> Option<String> {
        let why = match self.ready {
            Some(true) => return None,
            None => "no kubelet has said that it is",
            Some(false) if !self.initialized => "it is still initialising",
            Some(false) => {
                self.why.as_deref().unwrap_or("its node may be lost: its condition Ready is not True")
            }
        };
        Some(why.to_owned())
    }
}

#[derive(Deserialize)]
struct PodIp {
    ip: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    state: Option<ContainerState>,
    last_state: Option<ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    running: Option<ContainerStateRunning>,
    terminated: Option<ContainerStateTerminated>,
}

#[derive(Deserialize)]
struct ContainerStateRunning {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStateTerminated {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    finished_at: Option<Time>,
    reason: Option<String>,
}

impl Resource for KubePod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(how: &()) -> Cow<'_, str> {
        Pod::kind(how)
    }

    fn group(how: &()) -> Cow<'_, str> {
        Pod::group(how)
    }

    fn version(how: &()) -> Cow<'_, str> {
        Pod::version(how)
    }

    fn plural(how: &()) -> Cow<'_, str> {
        Pod::plural(how)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    /// All: a selector may ask for any, also for one that must not be there.
    labels: Option<BTreeMap<String, String>>,
    annotations: Ours,
    owner_references: Option<Vec<Owner>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

impl From<Metadata> for ObjectMeta {
    fn from(sent: Metadata) -> Self {
        Self {
            name: sent.name,
            namespace: sent.namespace,
            uid: sent.uid,
            resource_version: sent.resource_version,
            labels: sent.labels,
            creation_timestamp: sent.creation_timestamp,
            deletion_timestamp: sent.deletion_timestamp,
            ..Self::default()
        }
    }
}

/// Without annotations and owners.
pub(super) fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    Metadata::deserialize(from).map(Into::into)
}

/// The annotations that are ours, and the one of Kubernetes' own that we write.
#[derive(Default)]
struct Ours(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Ours;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_unit<E>(self) -> Result<Ours, E> {
                Ok(Ours::default())
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Ours, M::Error> {
                let mut ours = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key.starts_with(PREFIX) || key == DELETION_COST {
                        ours.insert(key, map.next_value::<Option<String>>()?.unwrap_or_default());
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Ours(ours))
            }
        }
        from.deserialize_any(Each)
    }
}

/// A pod as the decision sees it.
pub(super) fn pod(pod: &KubePod) -> SeenPod {
    let status = pod.status.as_ref();
    SeenPod {
        // What a pod says itself does not tell.
        cordoned: false,
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        labels: pod.labels().clone(),
        annotations: pod
            .annotations
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        ips: status.into_iter().flat_map(|status| &status.ips).map(ToString::to_string).collect(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        host_network: pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true),
        created: pod.metadata.creation_timestamp.as_ref().map(|at| at.0.as_millisecond()),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        finished: status.is_some_and(|status| status.finished),
        workload: pod.workload.as_ref().map(ToString::to_string),
        unready: status.map_or_else(|| Conditions::default().unready(), |status| status.conditions.unready()),
        started: status.and_then(|status| status.start_time.as_ref()).map(|at| at.0.as_millisecond()),
        containers: status.map(|status| status.containers.to_vec()).unwrap_or_default(),
    }
}

/// What a kubelet writes when it had to guess.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

fn container(status: ContainerStatus) -> Container {
    let ended = |end: ContainerStateTerminated| Incarnation::Ended {
        id: end.container_id,
        end: End {
            at: end.finished_at.map(|at| at.0.as_millisecond()),
            guessed: end.reason.as_deref() == Some(STATUS_UNKNOWN),
        },
    };
    let before = status.last_state.and_then(|state| state.terminated).map(ended);
    let now = match status.state {
        Some(ContainerState { terminated: Some(end), .. }) => ended(end),
        Some(ContainerState { running: Some(_), .. }) => Incarnation::Running { id: status.container_id },
        _ => Incarnation::Waiting,
    };
    Container { now, before }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
