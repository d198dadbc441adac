//! The endpoints of the Services that resources name. Anybody's Service may have thousands, so of an EndpointSlice
//! only what is read is kept, and what is not named here is skipped while it is parsed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use serde::Deserialize;
use serde::de::Deserializer;

use super::pods;
use crate::routing::observed::Endpoint;

/// The label that names the Service of a slice.
const SERVICE: &str = "kubernetes.io/service-name";

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct KubeSlice {
    #[serde(default, deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<Kept>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Port {
    name: Option<Box<str>>,
}

/// What is kept of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Sent")]
struct Kept {
    /// The pod's UID, or its name; empty for what is no pod.
    pod: Box<str>,
    ready: bool,
    draining: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    target_ref: Option<Target>,
    conditions: Option<Conditions>,
}

#[derive(Deserialize)]
struct Target {
    kind: Option<String>,
    name: Option<Box<str>>,
    uid: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl From<Sent> for Kept {
    fn from(sent: Sent) -> Self {
        let target = sent.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
        let pod = target.and_then(|target| target.uid.or(target.name)).unwrap_or_default();
        let Conditions { ready, serving, terminating } = sent.conditions.unwrap_or_default();
        // What is not said counts as ready.
        let ready = ready.unwrap_or(true);
        Self { pod, ready, draining: terminating == Some(true) && serving.unwrap_or(ready) }
    }
}

fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let mut metadata = pods::metadata(from)?;
    metadata.labels.get_or_insert_default().retain(|key, _| key == SERVICE);
    Ok(metadata)
}

impl Resource for KubeSlice {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(how: &()) -> Cow<'_, str> {
        EndpointSlice::kind(how)
    }

    fn group(how: &()) -> Cow<'_, str> {
        EndpointSlice::group(how)
    }

    fn version(how: &()) -> Cow<'_, str> {
        EndpointSlice::version(how)
    }

    fn plural(how: &()) -> Cow<'_, str> {
        EndpointSlice::plural(how)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A Service: its namespace and name.
type Named = (String, String);

/// What one slice says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slice {
    endpoints: Vec<Kept>,
    ports: Vec<Box<str>>,
}

/// By Service, its slices by their names.
type Slices = HashMap<Named, HashMap<String, Slice>>;

/// The slices of a scope, kept by the Services to which they belong.
#[derive(Debug, Default)]
pub(super) struct Endpoints(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    slices: Slices,
    /// What a list has shown so far that is not complete yet.
    listing: Slices,
    listed: bool,
}

/// Whose endpoints an event has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Nothing,
    Of { namespace: String, service: String },
    Everything,
}

impl Endpoints {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all have been listed once.
    pub(super) fn listed(&self) -> bool {
        self.lock().listed
    }

    /// The watch has shown this.
    pub(super) fn saw(&self, event: &Event<KubeSlice>) -> Changed {
        let mut known = self.lock();
        match event {
            Event::Init => {
                known.listing.clear();
                Changed::Nothing
            }
            Event::InitApply(slice) => {
                put(&mut known.listing, slice);
                Changed::Nothing
            }
            Event::InitDone => {
                known.slices = std::mem::take(&mut known.listing);
                known.listed = true;
                Changed::Everything
            }
            Event::Apply(slice) => put(&mut known.slices, slice),
            Event::Delete(slice) => remove(&mut known.slices, slice),
        }
    }

    /// What the slices of a Service say.
    pub(super) fn of(&self, namespace: &str, service: &str) -> Vec<Endpoint> {
        let known = self.lock();
        let slices = known.slices.get(&(namespace.to_owned(), service.to_owned()));
        let slices = slices.into_iter().flat_map(HashMap::values);
        let endpoint = |slice: &Slice, kept: &Kept| Endpoint {
            pod: kept.pod.to_string(),
            ready: kept.ready,
            draining: kept.draining,
            ports: slice.ports.iter().map(ToString::to_string).collect(),
        };
        slices.flat_map(|slice| slice.endpoints.iter().map(|kept| endpoint(slice, kept))).collect()
    }
}

/// The Service of a slice; its label is written once and for all.
fn service_of(slice: &KubeSlice) -> Option<Named> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE)?.clone();
    Some((slice.namespace().unwrap_or_default(), service))
}

fn put(slices: &mut Slices, slice: &KubeSlice) -> Changed {
    let Some(named) = service_of(slice) else { return Changed::Nothing };
    let endpoints = slice.endpoints.iter().flatten().filter(|kept| !kept.pod.is_empty()).cloned();
    let ports = slice.ports.iter().flatten().map(|port| port.name.clone().unwrap_or_default());
    let new = Slice { endpoints: endpoints.collect(), ports: ports.collect() };
    let (namespace, service) = named.clone();
    let before = slices.entry(named).or_default().insert(slice.name_any(), new.clone());
    if before == Some(new) { Changed::Nothing } else { Changed::Of { namespace, service } }
}

fn remove(slices: &mut Slices, slice: &KubeSlice) -> Changed {
    let Some(named) = service_of(slice) else { return Changed::Nothing };
    if let Some(of_service) = slices.get_mut(&named) {
        of_service.remove(&slice.name_any());
        if of_service.is_empty() {
            slices.remove(&named);
        }
    }
    let (namespace, service) = named;
    Changed::Of { namespace, service }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, service: &str, endpoints: &Value) -> KubeSlice {
        let sent = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": "shop", "generateName": "filler",
                "labels": { SERVICE: service, "endpointslice.kubernetes.io/managed-by": "filler" },
                "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": "filler" },
                "managedFields": [{ "manager": "filler" }],
            },
            "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": null, "port": 1 }],
        });
        serde_json::from_value(sent).unwrap()
    }

    fn endpoint(uid: &str, conditions: &Value) -> Value {
        json!({
            "addresses": ["10.0.0.7"], "nodeName": "filler", "zone": "filler", "conditions": conditions,
            "targetRef": { "kind": "Pod", "name": "web-0", "namespace": "shop", "uid": uid },
        })
    }

    #[test]
    fn what_is_read_of_a_slice_is_kept_and_nothing_else() {
        let by_name = json!({ "addresses": ["10.0.0.8"], "targetRef": { "kind": "Pod", "name": "web-1" } });
        let no_pod = json!([{ "addresses": ["192.0.2.1"] }, { "targetRef": { "kind": "Node", "uid": "n" } }]);
        let mut endpoints = vec![
            endpoint("a", &json!({ "ready": false, "serving": true, "terminating": true })),
            endpoint("b", &json!({ "ready": false, "serving": false, "terminating": false })),
            endpoint("c", &json!({})),
            by_name,
        ];
        endpoints.extend(no_pod.as_array().unwrap().clone());
        let slice = slice("web-1", "web", &json!(endpoints));
        assert!(!format!("{slice:?}").contains("filler"), "{slice:?}");
        let all = Endpoints::default();
        all.saw(&Event::Apply(slice));
        let ports = vec!["http".to_owned(), String::new()];
        let seen = |pod: &str, ready, draining| Endpoint {
            pod: pod.to_owned(),
            ready,
            draining,
            ports: ports.clone(),
        };
        let expected = [
            seen("a", false, true),
            seen("b", false, false),
            seen("c", true, false),
            seen("web-1", true, false),
        ];
        assert_eq!(all.of("shop", "web"), expected);
        assert!(all.of("shop", "other").is_empty() && all.of("elsewhere", "web").is_empty());
    }

    #[test]
    fn only_a_change_of_what_is_kept_concerns_anybody() {
        let all = Endpoints::default();
        let of = |service: &str| Changed::Of { namespace: "shop".to_owned(), service: service.to_owned() };
        let one = slice("web-1", "web", &json!([endpoint("a", &json!({ "ready": true }))]));
        assert_eq!(all.saw(&Event::Apply(one.clone())), of("web"));
        assert_eq!(all.saw(&Event::Apply(one.clone())), Changed::Nothing);
        let gone = slice("web-1", "web", &Value::Null);
        assert_eq!(all.saw(&Event::Apply(gone)), of("web"));
        assert_eq!(all.saw(&Event::Apply(one.clone())), of("web"));
        let second = slice("web-2", "web", &json!([endpoint("b", &json!({ "ready": true }))]));
        all.saw(&Event::Apply(second));
        assert_eq!(all.of("shop", "web").len(), 2);
        assert_eq!(all.saw(&Event::Delete(one)), of("web"));
        assert_eq!(all.of("shop", "web").len(), 1);
    }

    #[test]
    fn a_list_counts_when_it_is_complete_and_forgets_what_it_does_not_show() {
        let all = Endpoints::default();
        let some = |name| slice(name, name, &json!([endpoint("a", &json!({}))]));
        for event in [Event::Init, Event::InitApply(some("old"))] {
            assert_eq!(all.saw(&event), Changed::Nothing);
        }
        assert!(!all.listed() && all.of("shop", "old").is_empty());
        assert_eq!(all.saw(&Event::InitDone), Changed::Everything);
        assert!(all.listed() && all.of("shop", "old").len() == 1);
        all.saw(&Event::Init);
        all.saw(&Event::InitApply(some("new")));
        assert_eq!(all.of("shop", "old").len(), 1, "what was seen before is good until then");
        all.saw(&Event::InitDone);
        assert!(all.of("shop", "old").is_empty() && all.of("shop", "new").len() == 1);
    }

    #[test]
    fn they_are_watched_where_endpoint_slices_are() {
        assert_eq!(KubeSlice::url_path(&(), Some("shop")), EndpointSlice::url_path(&(), Some("shop")));
    }
}
