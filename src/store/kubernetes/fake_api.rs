//! An API server in memory, as far as the controller relies on it: names, UIDs, resource versions, and merge patches
//! with preconditions. For tests of what is sent and of what is made of the answers.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    changes: u64,
    /// Patches, with the path of what is patched, in the order in which they came.
    patches: Vec<(String, Value)>,
    /// In whose name each of them came.
    managers: Vec<Option<String>>,
    /// What the next patches of a path are answered with instead of being carried out.
    failures: BTreeMap<String, VecDeque<u16>>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<Objects>>);

impl FakeApi {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                if head.method == Method::PATCH {
                    let query = head.uri.query().unwrap_or_default();
                    let manager = query.split('&').find_map(|part| part.strip_prefix("fieldManager="));
                    api.objects().managers.push(manager.map(ToOwned::to_owned));
                }
                let (code, answer) = api.objects().answer(&head.method, head.uri.path(), body);
                let answer =
                    Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        Client::new(service, "shop")
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap()
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.objects().write(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.objects().by_path.get(path).cloned().unwrap_or_default()
    }

    pub(crate) fn delete(&self, path: &str) {
        self.objects().by_path.remove(path);
    }

    /// Somebody else changes the object in between.
    pub(crate) fn touch(&self, path: &str) {
        let mut objects = self.objects();
        let object = objects.by_path[path].clone();
        objects.write(path, object);
    }

    /// The next patch of this path is not carried out.
    pub(crate) fn fail(&self, path: &str, code: u16) {
        self.objects().failures.entry(path.to_owned()).or_default().push_back(code);
    }

    pub(crate) fn managers(&self) -> Vec<Option<String>> {
        self.objects().managers.clone()
    }

    pub(crate) fn patches(&self) -> Vec<(String, Value)> {
        self.objects().patches.clone()
    }
}

impl Objects {
    fn write(&mut self, path: &str, mut object: Value) -> Value {
        self.changes += 1;
        object["metadata"]["resourceVersion"] = json!(self.changes.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.changes));
        }
        self.by_path.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        match *method {
            Method::GET => match self.by_path.get(path) {
                Some(object) => (200, object.clone()),
                None => failure(404),
            },
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.by_path.contains_key(&path) { failure(409) } else { (201, self.write(&path, body)) }
            }
            Method::PATCH => {
                self.patches.push((path.to_owned(), body.clone()));
                if let Some(code) = self.failures.get_mut(path).and_then(VecDeque::pop_front) {
                    return failure(code);
                }
                let Some(before) = self.by_path.get(path) else { return failure(404) };
                let differs = |key: &str| {
                    !body["metadata"][key].is_null() && body["metadata"][key] != before["metadata"][key]
                };
                if differs("uid") || differs("resourceVersion") {
                    return failure(409);
                }
                let mut after = before.clone();
                merge(&mut after, &body);
                (200, self.write(path, after))
            }
            _ => failure(405),
        }
    }
}

fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Test",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("answered {code}"), "reason": reason, "code": code,
    });
    (code, status)
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
