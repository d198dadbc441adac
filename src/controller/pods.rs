//! A pod as the API server sends it, of which only what is read is kept: anybody may make pods, and a namespace may
//! have thousands that concern no lease. What is not named here is skipped while it is parsed, not stored and dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, ResourceExt as _};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::routing::pod::{Container, End, Incarnation, PREFIX, Pod as SeenPod};

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct KubePod {
    #[serde(default, deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Option<PodSpec>,
    pub(super) status: Option<PodStatus>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) node_name: Option<String>,
    pub(super) host_network: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Option<Vec<PodIp>>,
    pub(super) start_time: Option<Time>,
    #[serde(default)]
    pub(super) conditions: Conditions,
    pub(super) container_statuses: Option<Vec<ContainerStatus>>,
    pub(super) init_container_statuses: Option<Vec<ContainerStatus>>,
    pub(super) ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
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

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PodIp {
    pub(super) ip: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerStatus {
    #[serde(rename = "containerID")]
    pub(super) container_id: Option<String>,
    pub(super) state: Option<ContainerState>,
    pub(super) last_state: Option<ContainerState>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ContainerState {
    pub(super) running: Option<ContainerStateRunning>,
    pub(super) terminated: Option<ContainerStateTerminated>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ContainerStateRunning {}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerStateTerminated {
    #[serde(rename = "containerID")]
    pub(super) container_id: Option<String>,
    pub(super) finished_at: Option<Time>,
    pub(super) reason: Option<String>,
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
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

pub(super) fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let Metadata { name, namespace, uid, resource_version, labels, annotations, owner_references } =
        Metadata::deserialize(from)?;
    let workload = owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
    let workload =
        workload.map(|Owner { kind, name, .. }| OwnerReference { kind, name, ..OwnerReference::default() });
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        labels,
        annotations: Some(annotations.0).filter(|ours| !ours.is_empty()),
        owner_references: workload.map(|workload| vec![workload]),
        ..ObjectMeta::default()
    })
}

/// The annotations that are ours.
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
                    if key.starts_with(PREFIX) {
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
    let ips = status.and_then(|status| status.pod_ips.as_ref());
    // An agent may be a container of any kind.
    let containers = status.into_iter().flat_map(|status| {
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
    });
    SeenPod {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        labels: pod.labels().clone(),
        annotations: pod.annotations().clone(),
        ips: ips.into_iter().flatten().map(|ip| ip.ip.clone()).collect(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        host_network: pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true),
        finished: matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed")),
        workload: pod.owner_references().first().map(|owner| format!("{} {}", owner.kind, owner.name)),
        unready: status.map_or_else(|| Conditions::default().unready(), |status| status.conditions.unready()),
        started: status.and_then(|status| status.start_time.as_ref()).map(|at| at.0.as_millisecond()),
        containers: containers.flatten().flatten().map(container).collect(),
    }
}

/// What a kubelet writes when it had to guess.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

fn container(status: &ContainerStatus) -> Container {
    let ended = |end: &ContainerStateTerminated| Incarnation::Ended {
        id: end.container_id.clone(),
        end: End {
            at: end.finished_at.as_ref().map(|at| at.0.as_millisecond()),
            guessed: end.reason.as_deref() == Some(STATUS_UNKNOWN),
        },
    };
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(ended);
    let now = match &status.state {
        Some(ContainerState { terminated: Some(end), .. }) => ended(end),
        Some(ContainerState { running: Some(_), .. }) => {
            Incarnation::Running { id: status.container_id.clone() }
        }
        _ => Incarnation::Waiting,
    };
    Container { now, before }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::routing::pod::{Container, End, Incarnation};

    /// As clusters have them: what is in the lists of environment, volumes, fields is `filler`.
    pub(crate) fn large(name: &str, filler: &str) -> Value {
        let many = |what: &dyn Fn(usize) -> Value| (0..40).map(what).collect::<Vec<_>>();
        let container = |name: &str| {
            json!({
                "name": name, "image": filler, "args": [filler],
                "env": many(&|n| json!({ "name": format!("VARIABLE_{n}"), "value": filler })),
                "volumeMounts": many(&|n| json!({ "name": format!("v{n}"), "mountPath": filler })),
            })
        };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "generateName": "web-", "namespace": "shop", "uid": "8b7e12c0-1111-4222-8333-444455556666",
                "resourceVersion": "42", "creationTimestamp": "2026-11-22T10:00:00Z",
                "labels": { "app": "web", "pod-template-hash": "7d9c5b6f4", "componentlease.io/web": "leader" },
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": filler,
                    "componentlease.io/web-version": "7",
                    "example.org/null": null,
                },
                "ownerReferences": [
                    { "apiVersion": "v1", "kind": filler, "name": filler, "uid": filler },
                    { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9", "uid": filler, "controller": true },
                ],
                "managedFields": many(&|n| json!({
                    "manager": filler, "operation": "Update", "fieldsType": "FieldsV1",
                    "fieldsV1": { "f:metadata": { "f:labels": { format!("f:{n}"): {}, filler: {} } } },
                })),
            },
            "spec": {
                "nodeName": "node-1", "hostNetwork": true, "containers": [container("main"), container("agent")],
                "volumes": many(&|n| json!({ "name": format!("v{n}"), "configMap": { "name": filler } })),
            },
            "status": {
                "phase": "Running", "startTime": "2026-11-22T10:00:01Z", "podIP": "10.0.0.7",
                "podIPs": [{ "ip": "10.0.0.7" }, { "ip": "fd00::7" }],
                "conditions": many(&|n| match n {
                    7 => json!({ "type": "Initialized", "status": "True", "lastTransitionTime": null }),
                    8 => json!({
                        "type": "Ready", "status": "False", "reason": "ContainersNotReady",
                        "message": "containers with unready status: [main]",
                    }),
                    _ => json!({ "type": format!("C{n}"), "status": "True", "message": filler }),
                }),
                "containerStatuses": [{
                    "name": "main", "image": filler, "imageID": filler, "containerID": "containerd://2", "ready": true,
                    "restartCount": 1, "state": { "running": { "startedAt": "2026-11-22T10:05:00Z" } },
                    "lastState": { "terminated": {
                        "containerID": "containerd://1", "exitCode": 137, "reason": "ContainerStatusUnknown",
                        "finishedAt": "2026-11-22T10:04:00Z", "startedAt": "2026-11-22T10:00:02Z", "message": filler,
                    } },
                }],
                "initContainerStatuses": [{
                    "name": "init", "image": filler, "imageID": filler, "ready": false, "restartCount": 0,
                    "state": { "waiting": { "reason": "PodInitializing", "message": filler } }, "lastState": {},
                }],
                "ephemeralContainerStatuses": null,
            },
        })
    }

    #[test]
    fn all_that_a_decision_reads_is_kept() {
        let seen = pod(&serde_json::from_value(large("web-0", "x")).unwrap());
        assert_eq!((seen.name.as_str(), seen.resource_version.as_str()), ("web-0", "42"));
        assert_eq!(seen.uid, "8b7e12c0-1111-4222-8333-444455556666");
        assert!(seen.has_label("app", "web") && seen.has_label("componentlease.io/web", "leader"));
        assert_eq!(seen.annotations, [("componentlease.io/web-version".to_owned(), "7".to_owned())].into());
        assert_eq!(seen.ips, ["10.0.0.7", "fd00::7"]);
        assert_eq!((seen.node.as_deref(), seen.host_network, seen.finished), (Some("node-1"), true, false));
        assert_eq!(seen.unready.as_deref(), Some("containers with unready status: [main]"));
        assert_eq!(seen.started, Some(1_795_341_601_000));
        assert_eq!(seen.workload.as_deref(), Some("ReplicaSet web-7d9"));
        let end = End { at: Some(1_795_341_840_000), guessed: true };
        let before = Incarnation::Ended { id: Some("containerd://1".to_owned()), end };
        let now = Incarnation::Running { id: Some("containerd://2".to_owned()) };
        let main = Container { now, before: Some(before) };
        assert_eq!(seen.containers, [main, Container::default()]);
    }

    #[test]
    fn why_a_pod_is_not_ready_is_said_as_the_kubelet_says_it_or_as_far_as_it_is_known() {
        let unready = |conditions: Value| {
            let sent = json!({ "metadata": { "name": "web-0" }, "status": { "conditions": conditions } });
            pod(&serde_json::from_str(&sent.to_string()).unwrap()).unready
        };
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status });
        let (initialized, ready) = (condition("Initialized", "True"), condition("Ready", "True"));
        assert_eq!(unready(json!([initialized, ready])), None);
        for conditions in [Value::Null, json!([]), json!([initialized])] {
            assert_eq!(unready(conditions).as_deref(), Some("no kubelet has said that it is"));
        }
        let starting = json!([condition("Initialized", "False"), condition("Ready", "False")]);
        assert_eq!(unready(starting).as_deref(), Some("it is still initialising"));
        // As the controller of a node that is lost leaves it.
        for status in ["False", "Unknown"] {
            let lost = unready(json!([initialized, condition("Ready", status)])).unwrap();
            assert!(lost.contains("its node may be lost"), "{lost}");
        }
        let long = json!({ "type": "Ready", "status": "False", "reason": "R", "message": "ü".repeat(1000) });
        assert_eq!(unready(json!([initialized, long])).unwrap().chars().count(), WHY_MAX);
        let reason =
            json!({ "type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "" });
        assert_eq!(unready(json!([initialized, reason])).as_deref(), Some("ReadinessGatesNotReady"));
    }

    #[test]
    fn nothing_is_kept_of_what_is_not_read_however_large_it_is() {
        let filler = "0123456789".repeat(500);
        let sent = large("web-0", &filler).to_string();
        assert!(sent.len() > 500_000, "{} bytes are sent", sent.len());
        let kept = format!("{:?}", serde_json::from_str::<KubePod>(&sent).unwrap());
        assert!(!kept.contains("0123456789"), "{kept}");
    }

    /// Of this process, in kB.
    fn memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Pages as the API server sends them. What other tests use at the time must not count, so this one runs in a
    /// process of its own.
    #[test]
    fn two_thousand_pods_of_fifty_kilobytes_do_not_fill_the_memory() {
        const ALONE: &str = "COMPONENT_LEASE_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = "controller::pods::tests::two_thousand_pods_of_fifty_kilobytes_do_not_fill_the_memory";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let ran = alone.args(["--exact", name]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(ran.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let sent = large("web-0", &"0123456789".repeat(24));
        let size = sent.to_string().len() / 1000;
        assert!(size > 50, "{size} kB are sent of each pod");
        let page = Value::from(vec![sent; 50]).to_string();
        let before = memory();
        let kept: Vec<Vec<KubePod>> = (0..40).map(|_| serde_json::from_str(&page).unwrap()).collect();
        let each = memory().saturating_sub(before) / kept.iter().map(Vec::len).sum::<usize>() as u64;
        assert!(each < 20, "{each} kB are kept of each pod, and {size} sent");
    }

    #[test]
    fn a_pod_that_nobody_has_scheduled_can_be_read() {
        for sent in [
            json!({ "metadata": { "name": "web-0", "uid": "u", "labels": null, "annotations": null }, "spec": {}, "status": {} }),
            json!({ "metadata": { "name": "web-0", "uid": "u" }, "spec": null }),
            json!({ "metadata": { "name": "web-0", "uid": "u" } }),
        ] {
            let seen = pod(&serde_json::from_value(sent).unwrap());
            assert_eq!(
                (seen.name.as_str(), seen.uid.as_str(), seen.node, seen.finished),
                ("web-0", "u", None, false)
            );
            assert!(seen.labels.is_empty() && seen.annotations.is_empty() && seen.containers.is_empty());
        }
    }

    #[test]
    fn it_is_watched_and_patched_where_pods_are() {
        assert_eq!(KubePod::url_path(&(), Some("shop")), Pod::url_path(&(), Some("shop")));
        assert_eq!((KubePod::kind(&()), KubePod::api_version(&())), (Pod::kind(&()), Pod::api_version(&())));
    }
}
