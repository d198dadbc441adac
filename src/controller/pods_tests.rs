use serde_json::{Value, json};

use kube::runtime::watcher::Event;

use super::*;
use crate::controller::index::Index;
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
fn of_a_pod_of_fifty_kilobytes_less_than_three_are_kept() {
    const ALONE: &str = "COMPONENT_LEASE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "controller::pods::tests::of_a_pod_of_fifty_kilobytes_less_than_three_are_kept";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = alone.args(["--exact", name]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let sent = large("web-0", &"0123456789".repeat(24));
    let size = sent.to_string().len() / 1000;
    assert!(size > 50, "{size} kB are sent of each pod");
    let (index, sent) = (Index::default(), sent.to_string());
    let mut number = 0;
    // As the watch reads a page: text first, and each pod by itself afterwards.
    let mut list = |pages: u32| {
        for _ in 0..pages {
            let pods = (0..10).map(|_| {
                number += 1;
                sent.replace("web-0", &format!("web-{number}"))
                    .replace("444455556666", &format!("{number:012}"))
            });
            let page = format!("[{}]", pods.collect::<Vec<_>>().join(","));
            for pod in serde_json::from_str::<Vec<KubePod>>(&page).unwrap() {
                index.saw(&Event::Apply(pod));
            }
        }
    };
    // What is needed to read a page is needed once.
    list(20);
    let before = memory();
    list(150);
    let each = memory().saturating_sub(before) * 1024 / 1500;
    assert_eq!(index.all().len(), 1700);
    assert!(each < 3000, "{each} bytes are kept of each pod, and {size} kB sent");
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
