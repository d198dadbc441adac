//! The Kubernetes resources, and how they become what the [`crate::routing`] works on.

mod convert;
mod databases;
mod definition;
mod schema;
#[cfg(test)]
mod states_tests;
pub mod v1alpha1;

pub(crate) use convert::rfc3339;
pub use convert::{
    FLOOR_ANNOTATION, InvalidSpec, component, desired, in_conflict, label_key, may_write, memory, selector,
    status,
};
pub(crate) use databases::REPLICA;
pub use databases::{DesiredDatabase, database_memory, database_status, desired_database, is_true};
pub use v1alpha1::*;

/// The CustomResourceDefinitions as YAML, each with its name, as `crds/` and the chart carry them.
///
/// # Errors
/// Only if a generated definition could not be written as YAML.
pub fn crds_yaml() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let definitions = definition::definitions().map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let written = definitions.into_iter().map(|(name, definition)| {
        let yaml = serde_yaml::to_string(&definition)?;
        Ok((
            name,
            format!("# Generated from src/api/v1alpha1 by `make crd`; a test says when it is stale.\n{yaml}"),
        ))
    });
    written.collect()
}

/// All of them in one text, as `kubectl apply -f -` takes it.
///
/// # Errors
/// As [`crds_yaml`].
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    let documents = crds_yaml()?.into_iter().map(|(_, yaml)| yaml);
    Ok(documents.collect::<Vec<_>>().join("---\n"))
}
