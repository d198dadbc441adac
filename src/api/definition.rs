//! The definition of the resource as it is installed.

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::v1alpha1::ComponentLease;
use crate::routing::conditions::{ConditionType, Reason, Truth};

/// The definition as it is installed.
pub(super) fn definition() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(ComponentLease::crd())?;
    tidy(&mut definition);
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["status"]["default"] = pending();
    Ok(definition)
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
