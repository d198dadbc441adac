//! A namespace of its own for a test.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::ControlPlane;
use crate::wait;

/// A namespace that is deleted with this value (kept with `KEEP=1`). When the test panics,
/// what is in it is printed first.
#[derive(Debug)]
pub struct Namespace<'a> {
    plane: &'a ControlPlane,
    name: String,
}

impl ControlPlane {
    /// A new namespace whose name begins with `prefix`, ready for pods.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace<'_>> {
        self.namespace_with_labels(prefix, &[]).await
    }

    /// [`ControlPlane::namespace`] with labels (`pod-security.kubernetes.io/enforce=restricted`).
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace_with_labels(&self, prefix: &str, labels: &[&str]) -> Result<Namespace<'_>> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{number}-{:04x}", fastrand::u16(..));
        self.kubectl(&["create", "namespace", &name]).await?;
        let namespace = Namespace { plane: self, name };
        let name = namespace.name();
        if !labels.is_empty() {
            self.kubectl(&[&["label", "namespace", name], labels].concat()).await?;
        }
        if self.has_controllers() {
            // Pods are refused until the controllers have made this.
            wait::until(Duration::from_secs(30), "the default service account", async || {
                self.kubectl(&["-n", name, "get", "serviceaccount", "default"]).await.map(Some)
            })
            .await?;
        } else {
            self.kubectl(&["-n", name, "create", "serviceaccount", "default"]).await?;
        }
        Ok(namespace)
    }

    /// Runs a test in a namespace of its own; when it fails, what is in the namespace is
    /// printed before it goes.
    ///
    /// # Errors
    /// The test's own.
    pub async fn in_namespace<T>(
        &self,
        prefix: &str,
        test: impl AsyncFnOnce(&str) -> Result<T>,
    ) -> Result<T> {
        let namespace = self.namespace(prefix).await?;
        let result = test(namespace.name()).await;
        if result.is_err() {
            namespace.print();
        }
        result
    }
}

impl Namespace<'_> {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Prints what is in the namespace, for somebody who looks at a failed test.
    pub fn print(&self) {
        eprintln!("--- what is in namespace {} ---", self.name);
        for arguments in [
            &["get", "all,endpointslices", "-o", "wide", "--show-labels"][..],
            &["get", "componentleases", "-o", "yaml", "--ignore-not-found"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            self.kubectl(arguments);
        }
    }

    /// Synchronous, as `Drop` is. A namespace may have a thousand objects: their beginning tells enough.
    fn kubectl(&self, arguments: &[&str]) {
        let output = self
            .plane
            .kubectl_command()
            .into_std()
            .args(["-n", &self.name, "--request-timeout=5s"])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let Ok(output) = output else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().take(LINES_SHOWN).for_each(|line| eprintln!("{line}"));
        let left = text.lines().count().saturating_sub(LINES_SHOWN);
        if left > 0 {
            eprintln!("… and {left} lines more");
        }
    }
}

/// Of each kind of object in a namespace whose test has failed.
const LINES_SHOWN: usize = 400;

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print();
        }
        if crate::keep() {
            eprintln!("KEEP=1: namespace {} stays", self.name);
            return;
        }
        let _ = self
            .plane
            .kubectl_command()
            .into_std()
            .args(["delete", "namespace", &self.name, "--wait=false", "--request-timeout=5s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
