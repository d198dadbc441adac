use std::collections::{BTreeMap, BTreeSet};

use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::*;
use crate::api;
use crate::controller::caches::Lease;

fn pod(namespace: &str, name: &str, labels: &BTreeMap<String, String>) -> KubePod {
    stamped_pod(namespace, name, labels, Some("web"))
}

/// `stamped` with a version of this resource.
fn stamped_pod(
    namespace: &str,
    name: &str,
    labels: &BTreeMap<String, String>,
    stamped: Option<&str>,
) -> KubePod {
    let mut annotations = json!({ "example.org/filler": "x" });
    if let Some(stamped) = stamped {
        annotations[format!("componentlease.io/{stamped}-version")] = json!("7");
    }
    let metadata = json!({
        "name": name, "namespace": namespace, "uid": name, "labels": labels, "annotations": annotations,
    });
    let status = json!({ "podIPs": [{ "ip": "10.0.0.7" }] });
    serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
}

fn lease(namespace: &str, name: &str, spec: &Value) -> Lease {
    let lease = json!({
        "apiVersion": "componentlease.io/v1alpha1", "kind": "ComponentLease",
        "metadata": { "name": name, "namespace": namespace, "uid": name }, "spec": spec,
    });
    DeserializeGuard(Ok(serde_json::from_value(lease).unwrap()))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn names<K: Found>(found: &[Arc<K>]) -> Vec<String> {
    let mut names: Vec<_> = found.iter().map(|object| object.name().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn pods_are_looked_for_by_as_many_beginnings_of_a_holder_as_a_name_may_have_characters() {
    let all = |holder: &str| beginnings(holder).map(str::len).collect::<Vec<_>>();
    assert_eq!(all("a-1"), [1, 2, 3]);
    assert_eq!(all("aé"), [1, 3], "characters stay whole");
    assert_eq!(all(&"x".repeat(1_000_000)), (1..=253).collect::<Vec<_>>());
}

#[test]
fn a_pod_is_found_by_what_it_says_now_in_its_own_namespace() {
    let index = Index::default();
    assert!(index.saw(&Event::Apply(pod("shop", "a", &labels(&[("app", "web"), ("tier", "1")])))).is_none());
    index.saw(&Event::Apply(pod("shop", "b", &labels(&[("app", "web")]))));
    index.saw(&Event::Apply(pod("other", "a", &labels(&[("app", "web")]))));
    let of = |by: &[By<'_>]| names(&index.of("shop", by.iter().copied()));
    assert_eq!(of(&[By::Label("app", "web"), By::LabelKey("app"), By::Name("a")]), ["a", "b"], "each once");
    assert_eq!(of(&[By::Address("10.0.0.7")]), ["a", "b"]);
    assert_eq!(of(&[By::Annotation("componentlease.io/web-version")]), ["a", "b"]);
    assert!(of(&[By::Annotation("example.org/filler"), By::Label("app", "x"), By::Name("app")]).is_empty());
    let before = index.saw(&Event::Apply(pod("shop", "a", &labels(&[("app", "db")])))).unwrap();
    assert_eq!(before.labels()["app"], "web");
    assert_eq!((of(&[By::Label("app", "web")]), of(&[By::LabelKey("tier")])), (vec!["b".to_owned()], vec![]));
    assert_eq!(index.saw(&Event::Delete(pod("shop", "a", &labels(&[])))).unwrap().labels()["app"], "db");
    assert_eq!(of(&[By::Namespace]), ["b"]);
    assert!(index.get("shop", "a").is_none() && index.get("other", "a").is_some());
    assert_eq!(index.all().len(), 2);
}

#[test]
fn a_list_counts_when_it_is_complete_and_forgets_what_it_does_not_show() {
    let index = Index::default();
    index.saw(&Event::Init);
    index.saw(&Event::InitApply(pod("shop", "a", &labels(&[]))));
    assert!(!index.listed() && index.all().is_empty());
    index.saw(&Event::InitDone);
    assert!(index.listed());
    index.saw(&Event::Apply(pod("shop", "b", &labels(&[]))));
    index.saw(&Event::Init);
    index.saw(&Event::InitApply(pod("shop", "c", &labels(&[]))));
    assert_eq!(names(&index.all()), ["a", "b"]);
    index.saw(&Event::InitDone);
    assert_eq!(names(&index.all()), ["c"]);
}

#[test]
fn of_a_selector_the_requirement_that_fewest_pods_have_is_looked_up() {
    let index = Index::default();
    for number in 0..10 {
        let app = format!("app-{}", number % 5);
        let carried = labels(&[("managed-by", "Helm"), ("app", &app)]);
        index.saw(&Event::Apply(pod("shop", &format!("pod-{number}"), &carried)));
    }
    let is_in = |key: &str, value: &str| Requirement::In(key.to_owned(), vec![value.to_owned()]);
    let by = |requirements: Vec<Requirement>| {
        let selector = Selector::new(requirements).unwrap();
        names(&index.of("shop", index.candidates("shop", &selector))).len()
    };
    assert_eq!(by(vec![is_in("managed-by", "Helm"), is_in("app", "app-1")]), 2);
    assert_eq!(by(vec![Requirement::Exists("app".into()), is_in("app", "app-1")]), 2);
    assert_eq!(by(vec![Requirement::In("app".into(), vec!["app-1".into(), "app-2".into()])]), 4);
    assert_eq!(by(vec![Requirement::NotIn("app".into(), vec!["app-1".into()])]), 10, "any may match");
}

/// Against a search through all: whatever comes and goes.
#[test]
fn all_that_a_pod_concerns_is_found_whatever_came_and_went_before() {
    let mut random = fastrand::Rng::with_seed(7);
    let (pods, leases) = (Index::default(), Index::default());
    let (mut all_pods, mut all_leases) = (BTreeMap::new(), BTreeMap::new());
    let mut others = 0;
    for turn in 0..2000 {
        let namespace = random.choice(["shop", "other"]).unwrap();
        let name = format!("n{}", random.u8(..30));
        let key = (namespace.to_owned(), name.clone());
        let value = |random: &mut fastrand::Rng| random.choice(["x", "y", "z"]).unwrap();
        if random.bool() {
            let mut carried = BTreeMap::new();
            for label in ["a", "b", "c"].iter().filter(|_| random.bool()).collect::<Vec<_>>() {
                carried.insert((*label).to_owned(), value(&mut random).to_owned());
            }
            // As one that was labelled for some resource, or stamped, and is no candidate any more.
            if random.u8(..4) == 0 {
                carried.insert(format!("componentlease.io/{}", value(&mut random)), "leader".to_owned());
            }
            let stamped = (random.u8(..4) == 0).then(|| format!("n{}", random.u8(..30)));
            let pod = stamped_pod(namespace, &name, &carried, stamped.as_deref());
            let gone = random.u8(..5) == 0;
            pods.saw(&if gone { Event::Delete(pod.clone()) } else { Event::Apply(pod.clone()) });
            if gone {
                all_pods.remove(&key)
            } else {
                all_pods.insert(key, pod)
            };
        } else {
            let one = |random: &mut fastrand::Rng| {
                let key = random.choice(["a", "b", "c"]).unwrap();
                match random.u8(..4) {
                    0 => {
                        json!({ "key": key, "operator": "In", "values": [value(random), value(random)] })
                    }
                    1 => json!({ "key": key, "operator": "NotIn", "values": [value(random)] }),
                    2 => json!({ "key": key, "operator": "Exists" }),
                    _ => json!({ "key": key, "operator": "DoesNotExist" }),
                }
            };
            let count = 1 + random.usize(..3);
            let wanted: Vec<_> = (0..count).map(|_| one(&mut random)).collect();
            let routing = json!({ "labelKey": format!("componentlease.io/{}", value(&mut random)) });
            let spec = json!({ "selector": { "matchExpressions": wanted }, "routing": routing });
            let lease = lease(namespace, &name, &spec);
            let gone = random.u8(..5) == 0;
            leases.saw(&if gone { Event::Delete(lease.clone()) } else { Event::Apply(lease.clone()) });
            if gone {
                all_leases.remove(&key)
            } else {
                all_leases.insert(key, lease)
            };
        }
        if turn % 40 != 0 {
            continue;
        }
        for (namespace, name) in all_leases.keys() {
            let lease = all_leases[&(namespace.clone(), name.clone())].0.as_ref().unwrap();
            let selector = api::selector(&lease.spec.selector).unwrap();
            let found = pods.of(namespace, pods.candidates(namespace, &selector));
            let found: BTreeSet<_> = names(&found).into_iter().collect();
            for ((_, pod), what) in all_pods.iter().filter(|((other, _), _)| other == namespace) {
                let matches = selector.matches(what.labels());
                assert!(!matches || found.contains(pod), "{name} lacks {pod}");
                let key = lease.spec.routing.label_key.as_deref().unwrap();
                let stamp = format!("componentlease.io/{name}-version");
                let carries = what.labels().contains_key(key) || what.annotated().any(|mark| mark == stamp);
                others += usize::from(carries && !matches);
                if matches || carries {
                    let concerned = names(&leases.of(namespace, concerned_by(what)));
                    assert!(concerned.contains(name), "{pod} does not concern {name}");
                }
            }
        }
    }
    assert!(all_pods.len() > 20 && all_leases.len() > 20 && others > 100, "{others}");
}

#[test]
fn a_resource_is_found_by_its_label_key_component_and_service_and_while_it_is_in_conflict() {
    let index = Index::default();
    let spec = json!({
        "selector": { "matchLabels": { "app": "web" } }, "componentName": "payments",
        "routing": { "service": { "name": "front", "ports": [{ "port": 80 }] } },
    });
    let mut web = lease("shop", "web", &spec);
    index.saw(&Event::Apply(web.clone()));
    let of = |namespace: &str, by: By<'_>| index.of(namespace, [by]).len();
    assert_eq!(of("shop", By::LabelKey("componentlease.io/web")), 1, "the default");
    assert_eq!((of("shop", By::Service("front")), of("other", By::Service("front"))), (1, 0));
    assert_eq!((of("other", By::Component("payments")), of("shop", By::Component("shop/web"))), (1, 0));
    assert_eq!(of("shop", By::Conflict), 0);
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "Conflict", "message": "", "lastTransitionTime": "2026-11-22T10:00:00Z",
    });
    let status = json!({ "conditions": [condition] });
    web.0.as_mut().unwrap().status = Some(serde_json::from_value(status).unwrap());
    index.saw(&Event::Apply(web));
    assert_eq!(of("other", By::Conflict), 1, "of any namespace: rows are everybody's");
    index.saw(&Event::Apply(DeserializeGuard(Err(kube::core::error_boundary::InvalidObject {
        error: "unreadable".to_owned(),
        metadata: kube::core::ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("shop".to_owned()),
            ..Default::default()
        },
    }))));
    assert_eq!((of("other", By::Conflict), of("shop", By::Name("web"))), (0, 1));
}
