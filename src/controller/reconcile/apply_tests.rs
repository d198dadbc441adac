use serde_json::Value;

use super::*;
use crate::api::ComponentLease;
use crate::routing::decide::{Lead, ServiceChange};
use crate::store::kubernetes::fake_api::FakeApi;

const KEY: &str = "componentlease.io/web";
const STAMP: &str = "componentlease.io/web-version";

struct Rig {
    api: FakeApi,
    client: Client,
    scope: Scope,
    lease: ComponentLease,
}

fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/shop/pods/{pod}")
}

impl Rig {
    /// Pods a, b and c; a carries the leader label.
    fn new() -> Self {
        let api = FakeApi::default();
        for name in ["a", "b", "c"] {
            let labels = if name == "a" { json!({ KEY: "leader" }) } else { json!({ "app": "web" }) };
            let metadata = json!({ "name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "labels": labels });
            api.put(&path(name), json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata }));
        }
        let client = api.client();
        let (scope, _) = Scope::new(&client, Some("shop"));
        let lease = json!({
            "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
            "metadata": { "name": "web", "namespace": "shop", "uid": "lease" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } },
        });
        Self { api, client, scope, lease: serde_json::from_value(lease).unwrap() }
    }

    fn change(&self, name: &str, label: Option<&str>) -> PodChange {
        let pod = self.api.get(&path(name));
        PodChange {
            name: name.to_owned(),
            uid: pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            resource_version: pod["metadata"]["resourceVersion"].as_str().unwrap().to_owned(),
            labels: [(KEY.to_owned(), label.map(ToOwned::to_owned))].into(),
            annotations: [(STAMP.to_owned(), Some("7".to_owned()))].into(),
        }
    }

    /// From a to c; b is a standby.
    fn plan(&self) -> Plan {
        Plan {
            lead: Lead::Unknown,
            leader: None,
            version: 7,
            transition: true,
            intend: true,
            candidates: 3,
            ended: None,
            strip: vec![self.change("a", Some("standby"))],
            stamp: vec![self.change("b", Some("standby"))],
            label: Some(self.change("c", Some("leader"))),
            services: Vec::new(),
            foreign: Vec::new(),
            events: Vec::new(),
            next: None,
        }
    }

    async fn apply(&self, plan: &Plan) -> Outcome {
        apply(&self.client, &self.scope, &self.lease, plan).await
    }

    fn label(&self, pod: &str) -> Value {
        self.api.get(&path(pod))["metadata"]["labels"][KEY].clone()
    }
}

#[tokio::test]
async fn every_patch_is_bound_to_the_pod_that_was_seen_and_they_come_in_order() {
    let rig = Rig::new();
    let plan = rig.plan();
    assert_eq!(rig.apply(&plan).await, Outcome::default());
    let patches = rig.api.patches();
    let order: Vec<_> = patches.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(order, ["a", "b", "c"]);
    let changes = plan.strip.iter().chain(&plan.stamp).chain(&plan.label);
    for ((_, patch), change) in patches.iter().zip(changes) {
        assert_eq!(patch["metadata"]["uid"], change.uid.as_str());
        assert_eq!(patch["metadata"]["resourceVersion"], change.resource_version.as_str());
        assert_eq!(patch["metadata"]["annotations"], json!({ STAMP: "7" }));
    }
    assert_eq!(rig.api.managers(), vec![Some(FIELD_MANAGER.to_owned()); 3]);
    assert_eq!(
        (rig.label("a"), rig.label("b"), rig.label("c")),
        (json!("standby"), json!("standby"), json!("leader"))
    );
}

#[tokio::test]
async fn an_answer_that_leaves_a_strip_or_a_stamp_open_blocks_the_label() {
    for code in [408, 429, 500, 503, 504] {
        for (pod, sent) in [("a", 1), ("b", 2)] {
            let rig = Rig::new();
            rig.api.fail(&path(pod), code);
            let outcome = rig.apply(&rig.plan()).await;
            assert_eq!((rig.label("c"), rig.api.patches().len()), (Value::Null, sent), "{code} for {pod}");
            assert!(
                outcome.failed().unwrap().contains(&code.to_string()) && !outcome.conflict,
                "{outcome:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_refused_stamp_stops_nobody_and_the_label_comes_off_without_it() {
    for code in [400, 403, 413, 422] {
        let rig = Rig::new();
        rig.api.fail(&path("a"), code);
        rig.api.fail(&path("b"), code);
        let outcome = rig.apply(&rig.plan()).await;
        assert_eq!((rig.label("a"), rig.label("c")), (json!("standby"), json!("leader")), "{code}");
        assert_eq!((outcome.stamp_failed.len(), outcome.strip_failed.len()), (2, 0), "{outcome:?}");
        assert!(rig.api.patches()[1].1["metadata"]["annotations"].is_null());
    }
}

#[tokio::test]
async fn a_pod_that_changed_is_decided_on_anew_and_one_that_is_gone_is_not_in_the_way() {
    let rig = Rig::new();
    let plan = rig.plan();
    rig.api.touch(&path("a"));
    let outcome = rig.apply(&plan).await;
    assert_eq!((outcome.conflict, rig.label("a"), rig.label("c")), (true, json!("leader"), Value::Null));

    let rig = Rig::new();
    let plan = rig.plan();
    rig.api.delete(&path("a"));
    assert_eq!((rig.apply(&plan).await, rig.label("c")), (Outcome::default(), json!("leader")));

    // Another pod has taken its name.
    let rig = Rig::new();
    let plan = rig.plan();
    let other =
        json!({ "metadata": { "name": "a", "namespace": "shop", "uid": "another", "labels": { "x": "y" } } });
    rig.api.put(&path("a"), other);
    assert_eq!((rig.apply(&plan).await, rig.label("c")), (Outcome::default(), json!("leader")));
    assert_eq!(rig.label("a"), Value::Null, "it was not touched");
}

#[tokio::test]
async fn the_next_decision_waits_until_the_watch_shows_what_was_answered() {
    let version = |rig: &Rig, pod: &str| {
        Some(rig.api.get(&path(pod))["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
    };
    let rig = Rig::new();
    rig.apply(&rig.plan()).await;
    for pod in ["a", "b", "c"] {
        assert_eq!(rig.scope.behind.awaited()[&format!("uid-of-{pod}")], version(&rig, pod), "{pod}");
    }

    // What a conflict was read to be.
    let rig = Rig::new();
    let plan = rig.plan();
    rig.api.touch(&path("a"));
    rig.apply(&plan).await;
    assert_eq!(rig.scope.behind.awaited(), [("uid-of-a".to_owned(), version(&rig, "a"))].into());

    // Gone, by the patch's answer and by the one that was read after a conflict.
    for replaced in [false, true] {
        let rig = Rig::new();
        let plan = rig.plan();
        rig.api.delete(&path("a"));
        if replaced {
            rig.api.put(
                &path("a"),
                json!({ "metadata": { "name": "a", "namespace": "shop", "uid": "another" } }),
            );
        }
        rig.apply(&plan).await;
        assert_eq!(rig.scope.behind.awaited()["uid-of-a"], None, "{replaced}");
    }
}

#[tokio::test]
async fn a_service_that_could_not_be_written_leaves_the_plan_incomplete() {
    for (code, invalid, failed) in
        [(422, true, false), (500, false, true), (403, false, true), (409, false, false)]
    {
        let rig = Rig::new();
        let service = "/api/v1/namespaces/shop/services/web";
        rig.api.fail(service, code);
        let release = ServiceChange::Release {
            name: "web".to_owned(),
            labels: [].into(),
            annotations: [].into(),
            resource_version: "1".to_owned(),
        };
        let outcome = rig.apply(&Plan { services: vec![release], ..rig.plan() }).await;
        assert_eq!(
            (outcome.service_invalid.is_some(), outcome.service_failed.is_some()),
            (invalid, failed),
            "{code}"
        );
        assert_eq!(rig.label("c"), json!("leader"), "{code}: it is in no pod's way");
        match complete(&outcome) {
            Ok(()) => assert!(!invalid && !failed, "{code}"),
            Err(Error::Incomplete(why)) => {
                assert!((invalid || failed) && why.contains("Service web"), "{why}");
            }
            Err(other) => panic!("{code}: {other}"),
        }
    }
}
