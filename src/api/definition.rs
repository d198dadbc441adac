//! The definitions of the resources as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::v1alpha1::{ComponentLease, LeaseDatabase, LeaseRequest, RequestState};
use crate::routing::conditions::{ConditionType, Reason, RequestReason, Truth};

/// Each definition as it is installed, by its name.
pub(super) fn definitions() -> Result<Vec<(String, Value)>, serde_json::Error> {
    let all = [
        (ComponentLease::crd(), pending()),
        (LeaseDatabase::crd(), pending()),
        (LeaseRequest::crd(), pending_request()),
    ];
    all.into_iter().map(|(definition, status)| installed(definition, status)).collect()
}

fn installed(
    definition: CustomResourceDefinition,
    status: Value,
) -> Result<(String, Value), serde_json::Error> {
    let name = definition.metadata.name.clone().unwrap_or_default();
    let mut definition = serde_json::to_value(definition)?;
    tidy(&mut definition);
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["status"]["default"] = status;
    Ok((name, definition))
}

/// What a request says of itself until a controller has seen it.
fn pending_request() -> Value {
    json!({
        "state": RequestState::Pending.as_str(),
        "reason": RequestReason::Pending.as_str(),
        "message": "no controller has looked at this request yet",
    })
}

/// What a resource says of itself until a controller has seen it. Tools that ask for `Ready` find an answer from the
/// first moment on.
pub(super) fn pending() -> Value {
    json!({ "conditions": [{
        "type": ConditionType::Ready.as_str(),
        "status": Truth::Unknown.as_str(),
        "reason": Reason::Pending.as_str(),
        "message": "no controller of the class in spec.className has looked at this resource yet",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }] })
}

/// No value of ours is ever null: what is not there is left out. And whole numbers are written as such.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property of that name would be an object.
            fields.retain(|key, value| key != "nullable" || !value.is_boolean());
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15);
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                *schema = json!(whole as i64);
            }
        }
        _ => {}
    }
}
