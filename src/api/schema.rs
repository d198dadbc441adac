//! What the derived schema cannot say: parts that refuse what Kubernetes would refuse later.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The class of a resource that names none.
pub(super) const DEFAULT_CLASS: &str = "default";

/// The name of a Service or of a port.
pub(super) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of a resource.
pub(super) const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// What tables and terminals show as it is.
pub(super) const VISIBLE: &str = r"^[^\s\pC\pZ]+$";
/// Nothing that would break a table or a log: no control character, no line's end.
pub(super) const ONE_LINE: &str = r"^[^\p{Cc}\p{Zl}\p{Zp}]*$";
/// A label's value that is not empty.
pub(super) const LABEL_VALUE: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// A label's value, which may be empty.
const LABEL_VALUE_OR_EMPTY: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// A name that may have a prefix: 63 characters behind a slash, 253 before it.
const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const PREFIX_LENGTH: &str = "^(.{1,253}/)?[^/]+$";

/// What may be wrong with a key, in words.
const LABEL_KEY_SAID: &str = "a key is a name of at most 63 letters, digits, '-', '_' and '.', with or without a DNS name and '/' before it";

/// How many labels or annotations a map may have: what the API server can check within its budget.
const MAP_MAX: usize = 16;

fn is_label_key(what: &str) -> String {
    format!("{what}.matches('{LABEL_KEY}') && {what}.matches('{PREFIX_LENGTH}')")
}

pub(super) fn label_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": 317,
        "x-kubernetes-validations": [{ "rule": is_label_key("self"), "message": LABEL_KEY_SAID }],
    })
}

fn map(values: &Value, more: &[(String, &str)]) -> Schema {
    let keys = format!("self.all(k, {})", is_label_key("k"));
    let rules = [(keys, LABEL_KEY_SAID)]
        .iter()
        .chain(more)
        .map(|(rule, message)| json!({ "rule": rule, "message": message }))
        .collect::<Vec<_>>();
    json_schema!({
        "type": "object", "maxProperties": MAP_MAX, "additionalProperties": values,
        "x-kubernetes-validations": rules,
    })
}

fn label_value() -> Value {
    json!({ "type": "string", "maxLength": 63, "pattern": LABEL_VALUE_OR_EMPTY })
}

pub(super) fn label_map(_: &mut SchemaGenerator) -> Schema {
    map(&label_value(), &[])
}

pub(super) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 32, "items": label_value(), "x-kubernetes-list-type": "atomic",
    })
}

/// Ours tell the controller what it has made.
fn not_ours() -> (String, &'static str) {
    let rule = "self.all(k, k != 'app.kubernetes.io/managed-by' && !k.startsWith('componentlease.io/'))";
    (rule.to_owned(), "app.kubernetes.io/managed-by and componentlease.io/ are the controller's own")
}

pub(super) fn template_labels(_: &mut SchemaGenerator) -> Schema {
    map(&label_value(), &[not_ours()])
}

pub(super) fn template_annotations(_: &mut SchemaGenerator) -> Schema {
    map(&json!({ "type": "string", "maxLength": 4096 }), &[not_ours()])
}

/// A number, or a name as container ports have it.
pub(super) fn target_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 15,
        "x-kubernetes-validations": [{
            "rule": "type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[a-z]') && !self.contains('--')",
            "message": "a number from 1 to 65535 without quotes, or a port's name: at most 15 small letters, digits and single '-', among them a letter",
        }],
    })
}

/// The API server tries to use the pattern: one that is no regular expression makes that fail, and it says why.
pub(super) fn holder_pattern(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": 256, "pattern": r"\(\?P?<pod>",
        "x-kubernetes-validations": [{
            "rule": "''.matches(self) ? true : true",
            "message": "the pattern is no regular expression",
        }],
    })
}
