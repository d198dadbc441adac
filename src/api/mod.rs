//! The Kubernetes resource, and how it becomes what the [`crate::routing`] works on.

mod convert;
mod definition;
mod schema;
#[cfg(test)]
mod states_tests;
pub mod v1alpha1;

pub use convert::{
    FLOOR_ANNOTATION, InvalidSpec, component, desired, in_conflict, may_write, memory, status,
};
pub use v1alpha1::*;

/// The CustomResourceDefinition as YAML, as `crds/` and the chart carry it.
///
/// # Errors
/// Only if the generated definition could not be written as YAML.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    let definition = definition::definition().map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let yaml = serde_yaml::to_string(&definition)?;
    Ok(format!("# Generated from src/api/v1alpha1.rs by `make crd`; a test says when it is stale.\n{yaml}"))
}
