//! The chart, installed and removed by Helm as a person would.

use anyhow::Result;
use tokio::process::Command;

use super::store::Store;
use crate::control_plane::{ControlPlane, program, run};
use crate::repository;

/// `helm ARGUMENTS` for a cluster.
///
/// # Errors
/// Helm's own words.
pub async fn helm(plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let mut helm = Command::new(program("helm")?);
    // Whatever this user's own Helm knows of repositories and plugins is none of our business.
    let home = plane.directory().join("helm");
    helm.args(arguments)
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"));
    run(helm, "").await
}

/// A release of the chart.
#[derive(Debug, Clone)]
pub struct Release {
    pub name: String,
    pub namespace: String,
}

impl Release {
    /// The values of `helm install` for a store that [`Store::manifests`] has prepared.
    #[must_use]
    pub fn values(store: &Store) -> Vec<String> {
        match store {
            Store::Sqlite { .. } => vec![
                "store=sqlite".into(),
                "sqlite.existingClaim=leases".into(),
                "sqlite.nodeName=node".into(),
                "sqlite.acknowledgeSingleNode=true".into(),
                "migrate=true".into(),
            ],
            Store::Postgres { .. } => vec![
                "store=postgres".into(),
                "database.existingSecret.name=database-leases-controller".into(),
                "database.tls.configMap=database-ca".into(),
            ],
        }
    }

    /// `helm install`, waiting until the controller is ready.
    ///
    /// # Errors
    /// Helm's own words.
    pub async fn install(&self, plane: &ControlPlane, values: &[String]) -> Result<String> {
        let chart = repository().join("charts/component-lease");
        let chart = chart.to_string_lossy();
        let mut arguments = vec!["install", &self.name, &chart, "-n", &self.namespace];
        arguments.extend(["--wait", "--timeout", "60s"]);
        for value in values {
            arguments.extend(["--set", value]);
        }
        helm(plane, &arguments).await
    }

    /// `helm uninstall`, waiting until its objects are gone.
    ///
    /// # Errors
    /// Helm's own words.
    pub async fn uninstall(&self, plane: &ControlPlane) -> Result<String> {
        helm(plane, &["uninstall", &self.name, "-n", &self.namespace, "--wait", "--timeout", "60s"]).await
    }

    /// The name of the controller's Deployment.
    #[must_use]
    pub fn deployment(&self) -> String {
        match self.name.contains("component-lease") {
            true => self.name.clone(),
            false => format!("{}-component-lease", self.name),
        }
    }
}
