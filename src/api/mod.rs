//! The Kubernetes resource, and how it becomes what the [`crate::routing`] works on.

mod convert;
pub mod v1alpha1;

pub use convert::{FLOOR_ANNOTATION, InvalidSpec, component, desired, may_write, memory, status};
pub use v1alpha1::*;

/// The CustomResourceDefinition as YAML, as `crds/` and the chart carry it.
///
/// # Errors
/// Only if the generated definition could not be written as YAML.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    use kube::CustomResourceExt as _;
    let yaml = serde_yaml::to_string(&ComponentLease::crd())?;
    Ok(format!("# Generated from src/api/v1alpha1.rs by `make crd`; a test says when it is stale.\n{yaml}"))
}
