//! What the cache shows is old: before a term is released its pod is asked for anew, and what may still be believed
//! is waited for. The API server is a small one of our own, so that its answer can differ from what the cache showed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kube::runtime::events::Reporter;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::clock::Clock;
use crate::controller::announcer::Announcer;
use crate::controller::cluster::{Cluster, Rules};
use crate::controller::database::Database;
use crate::controller::endings::Endings;
use crate::controller::lookout::Lookout;
use crate::controller::metrics::Metrics;
use crate::election::{ComponentName, Expected, HolderId, LeaseRow, Moment, Take};
use crate::membership::instance::{Mode, Promise};
use crate::membership::namespace::Grants;
use crate::membership::{Instance, SeenInstance, Whereabouts};
use crate::routing::decide::{Decision, decide};
use crate::routing::floor::FloorSight;
use crate::routing::observed::{
    Claim, Desired, HolderPod, LabelScheme, Memory, OnDatabaseUnreachable, RowSight, ServiceSight,
    StoreSight, Strategy,
};
use crate::routing::pod::{Requirement, Selector};
use crate::store::{LeaseStore, MemoryStore};

const HOLDER: &str = "d-0_8b7e12c0_1f0c9a3d";
const UID: &str = "8b7e12c0-1111-4222-8333-444455556666";

/// Boot and wall clock alike, in ms.
#[derive(Debug, Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }
}

/// The pod as the API server has it.
fn pod(uid: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "d-0", "namespace": "shop", "uid": uid, "labels": {"app": "d"}},
        "status": {"phase": "Running", "containerStatuses": containers},
    })
}

fn container(name: &str, id: &str, state: &Value, before: &Value) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "i", "restartCount": 1, "ready": false,
        "containerID": id, "state": state, "lastState": before,
    })
}

fn runs() -> Value {
    json!({"running": {}})
}

fn ended(id: &str) -> Value {
    json!({"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "1970-01-01T01:00:00Z", "containerID": id}})
}

/// The program was restarted before its agent was killed.
fn half_gone() -> Value {
    pod(UID, &[container("program", "again", &runs(), &ended("program")), agent_over()])
}

fn agent_over() -> Value {
    container("agent", "agent", &ended("agent"), &json!({}))
}

/// A lease that `d-0` held when its containers `program` and `agent` ran; the cache shows that both have ended.
struct Scene {
    handles: Handles,
    clock: Arc<HandClock>,
    store: Arc<MemoryStore>,
    lease: ComponentLease,
    observed: Observed,
}

impl Scene {
    /// The API server answers each question for the pod like this.
    async fn new(answer: impl Fn() -> Response + Clone + Send + Sync + 'static, promise: Promise) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let path = "/api/v1/namespaces/shop/pods/d-0";
        let router = axum::Router::new().route(path, axum::routing::get(async move || answer()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();

        let clock = Arc::new(HandClock::default());
        clock.pass(Duration::from_secs(1000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let component = ComponentName::new("shop/d").unwrap();
        let holder = HolderId::new(HOLDER).unwrap();
        let looked = store.look(&component).await.unwrap();
        let term = TermKey { component: component.clone(), holder: holder.clone(), version: 1 };
        let (expected, life_id) = (Expected::of(None), looked.life.id());
        let take = Take { term, ttl: 600, expected, life_id };
        assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
        let row = store.look(&component).await.unwrap().row.unwrap();

        let reporter = Reporter { controller: "c".to_owned(), instance: None };
        let announcer = Announcer::new(client.clone(), reporter, clock.clone(), Metrics::default());
        let rules =
            Rules { allowed_prefixes: Vec::new(), grants: Grants::new(["shop"], []), accept_database: None };
        let lookout = Arc::new(Lookout::new("default".to_owned(), Vec::new(), None));
        let handles = Handles {
            database: Arc::new(Database::new(store.clone(), clock.clone(), 600)),
            cluster: Arc::new(Cluster::new(client, Vec::new(), rules, lookout)),
            announcer: Arc::new(announcer),
        };
        let lease = json!({
            "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
            "metadata": {"name": "d", "namespace": "shop", "uid": "lease"},
            "spec": {"selector": {"matchLabels": {"app": "d"}}},
        });
        let says = Instance {
            component,
            holder,
            lasts: 90,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: Some(Mode::Beside),
            promise: Some(promise),
            priority: None,
            healthy: true,
            leads: Some(1),
        };
        let observed = observed(row, SeenInstance::begin(1, &says, clock.wall_ms()), clock.boot());
        Self { handles, clock, store, lease: serde_json::from_value(lease).unwrap(), observed }
    }

    async fn release(&self) -> Release {
        let Decision::Act(plan) = decide(&self.observed) else { panic!("no plan") };
        assert!(plan.ended.is_some(), "the cache shows that the holder has ended");
        release(&self.lease, &self.observed, &plan, &self.handles).await
    }

    async fn holder(&self) -> String {
        self.store.look(&self.observed.desired.component).await.unwrap().row.unwrap().holder
    }
}

fn observed(row: LeaseRow, told: SeenInstance, now: Moment) -> Observed {
    let scheme = LabelScheme { key: "k".into(), leader: "leader".into(), standby: "standby".into() };
    let known = HolderPod {
        name: "d-0".into(),
        uid: UID.into(),
        node: None,
        container_ids: vec!["program".into(), "agent".into()],
    };
    Observed {
        desired: Desired {
            namespace: "shop".into(),
            name: "d".into(),
            uid: "lease".into(),
            generation: 1,
            component: ComponentName::new("shop/d").unwrap(),
            ttl: 600,
            selector: Selector::new(vec![Requirement::In("app".into(), vec!["d".into()])]).unwrap(),
            holder_pattern: None,
            labels: scheme,
            on_database_unreachable: OnDatabaseUnreachable::Keep,
            strategy: Strategy::Any,
            service: None,
            service_field: "spec.routing.service",
            pause: crate::routing::pause::PauseWish::Unsaid,
            hand_over_after: None,
            hand_over_when_cordoned: true,
            flapping_above: None,
            deletion_cost: None,
        },
        memory: Memory {
            holder: Some(row.holder.clone()),
            holder_pod: Some(known),
            version: row.version,
            ..Memory::default()
        },
        claim: Claim::First,
        store: StoreSight::Answers,
        database: None,
        row: RowSight::Seen { row: Some(row), since: now },
        row_confirmed: false,
        pause: crate::routing::pause::PauseSight::Running,
        quarantine: None,
        epoch_step: None,
        floor: FloorSight::default(),
        longest_ttl: None,
        pods: Ok(vec![pods::pod(&serde_json::from_value(half_gone()).unwrap())]),
        instances: Vec::new(),
        // Its heartbeat is out of date by now.
        holder_told: Some(told),
        disputed: Vec::new(),
        service: ServiceSight::NotAsked,
        endpoints: Ok(Vec::new()),
        former_services: Vec::new(),
        standby_values: std::collections::BTreeMap::new(),
        leaving: false,
        now,
    }
}

#[tokio::test]
async fn nothing_is_released_unless_the_pod_as_it_is_now_proves_it() {
    let stranger = container("debugger", "debugger", &runs(), &json!({}));
    let lives = container("program", "program", &runs(), &json!({}));
    let gone =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
    for (why, status, answer) in [
        ("it is gone, which proves nothing", 404, gone),
        ("it is another pod by now", 200, pod("another", &[agent_over()])),
        ("somebody has begun to look into it", 200, {
            let mut pod = half_gone();
            pod["status"]["containerStatuses"].as_array_mut().unwrap().push(stranger);
            pod
        }),
        ("a recorded container runs", 200, pod(UID, &[lives, agent_over()])),
    ] {
        let answer = move || (StatusCode::from_u16(status).unwrap(), Json(answer.clone())).into_response();
        let scene = Scene::new(answer, Promise::NONE).await;
        assert_eq!(scene.release().await, Release::NotNow, "{why}");
        assert_eq!(scene.holder().await, HOLDER, "{why}");
    }
    let scene = Scene::new(|| StatusCode::FORBIDDEN.into_response(), Promise::NONE).await;
    assert_eq!(scene.release().await, Release::After(RETRY));
    assert_eq!(scene.holder().await, HOLDER, "the API server does not answer");
    let scene = Scene::new(|| Json(half_gone()).into_response(), Promise::NONE).await;
    assert_eq!(scene.release().await, Release::Over);
    assert_eq!(scene.holder().await, "", "all of that was one step away from a proof");
}

#[tokio::test]
async fn the_last_promise_is_waited_for_from_the_first_sight_of_the_end() {
    let promise = Promise { longest: Duration::from_secs(9), outside: false };
    let scene = Scene::new(|| Json(half_gone()).into_response(), promise).await;
    assert_eq!(scene.release().await, Release::After(Duration::from_secs(10)));
    scene.clock.pass(Duration::from_secs(7));
    assert_eq!(scene.release().await, Release::After(Duration::from_secs(3)));
    scene.clock.pass(Duration::from_millis(2999));
    assert_eq!(scene.release().await, Release::After(Duration::from_millis(1)));
    assert_eq!(scene.holder().await, HOLDER);
    scene.clock.pass(Duration::from_millis(1));
    assert_eq!(scene.release().await, Release::Over);
    assert_eq!(scene.holder().await, "");
}

#[tokio::test]
async fn what_begins_in_the_pod_before_the_fresh_look_is_waited_for_too() {
    let promise = Promise { longest: Duration::from_secs(9), outside: false };
    let mut scene = Scene::new(|| Json(half_gone()).into_response(), promise).await;
    // The cache still shows a pod of which nothing runs.
    let over = container("program", "program", &ended("program"), &json!({}));
    let over: KubePod = serde_json::from_value(pod(UID, &[over, agent_over()])).unwrap();
    scene.observed.pods = Ok(vec![pods::pod(&over)]);
    assert_eq!(scene.release().await, Release::After(Duration::from_secs(10)));
    assert_eq!(scene.holder().await, HOLDER);
}

#[test]
fn each_term_has_a_first_sight_of_its_own() {
    let endings = Endings::default();
    let term = |version| TermKey {
        component: ComponentName::new("c").unwrap(),
        holder: HolderId::new(HOLDER).unwrap(),
        version,
    };
    let s = Duration::from_secs;
    assert_eq!(endings.first_seen("a", &term(1), s(10)), s(10));
    assert_eq!(endings.first_seen("a", &term(1), s(20)), s(10));
    assert_eq!(endings.first_seen("b", &term(1), s(30)), s(30));
    assert_eq!(endings.first_seen("a", &term(2), s(40)), s(40));
    endings.forget("a");
    assert_eq!(endings.first_seen("a", &term(2), s(50)), s(50));
}
