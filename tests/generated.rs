//! What is generated from the types and kept in the repository, so that it can be read and reviewed.
//! `UPDATE=1 cargo test --test generated` writes it anew.

use std::path::Path;

fn must_be(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        std::fs::write(&file, wanted).expect("the file can be written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = kept.lines().zip(wanted.lines()).position(|(kept, wanted)| kept != wanted);
    let line = difference.unwrap_or_else(|| kept.lines().count().min(wanted.lines().count())) + 1;
    assert!(kept == wanted, "{path} is stale from line {line} on: run UPDATE=1 cargo test --test generated");
}

#[test]
fn the_resource_definitions_are_what_the_types_say() {
    let definitions = component_lease::api::crds_yaml().unwrap();
    assert_eq!(definitions.len(), 3);
    for (name, definition) in definitions {
        must_be(&format!("crds/{name}.yaml"), &definition);
        must_be(&format!("charts/component-lease/files/{name}.yaml"), &definition);
    }
}
