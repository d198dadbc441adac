//! What the tests of this target stand on: a namespace with the chart's account, rows that a test
//! writes itself, and controllers within this process that have exactly the chart's rights.

pub mod controller;
pub mod databases;
pub mod harness;
pub mod objects;
pub mod participants;
pub mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use component_lease::api::{self, ComponentLease, LeaseRequest};
use component_lease::clock::{Clock as _, SystemClock};
use component_lease::controller::Config;
use component_lease_testkit::control_plane::{self, ControlPlane, FakePod, Namespace, program};
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{Mutex, OnceCell};

pub use controller::Replica;
pub use rows::Rows;

/// What should happen at once is given this long: the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);
/// Long enough that nothing expires during a test that does not want it to.
pub const LONG: u32 = 600;

/// Held while the API server is flooded, and while something is measured that this would disturb.
pub static FLOOD: Mutex<()> = Mutex::const_new(());

/// A namespace with everything that a controller needs to look after it.
pub struct Site {
    pub plane: &'static ControlPlane,
    /// Until this is dropped.
    namespace: Option<Namespace<'static>>,
    /// The administrator.
    pub admin: Client,
    /// The account of the chart.
    pub account: PathBuf,
    pub rows: Arc<Rows>,
}

/// The default label of the resource `discovery`.
pub const KEY: &str = "componentlease.io/discovery";

/// Three candidates, a resource, a controller, and the first of the candidates leads.
pub async fn led_site(prefix: &str) -> Result<(Site, Replica)> {
    led_site_with(prefix, |config| config).await
}

/// [`led_site`] with a controller that is set up another way.
pub async fn led_site_with(prefix: &str, set_up: impl FnOnce(Config) -> Config) -> Result<(Site, Replica)> {
    let site = Site::new(prefix).await?;
    site.make_pods("discovery", &["d-0", "d-1", "d-2"]).await?;
    let controller = Replica::start_with(&site, set_up(controller::config(&site, "only"))).await?;
    site.make_lease(&objects::lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_until_ready("discovery").await?;
    Ok((site, controller))
}

/// The control plane that knows the resource; one for all tests that leave it as it is.
pub async fn plane() -> Result<&'static ControlPlane> {
    static READY: OnceCell<()> = OnceCell::const_new();
    let plane = control_plane::shared().await?;
    READY.get_or_try_init(async || install_crd(plane).await).await?;
    Ok(plane)
}

/// Applies the resource definitions and waits until they are served.
pub async fn install_crd(plane: &ControlPlane) -> Result<()> {
    plane.apply(&api::crd_yaml()?).await?;
    // `kubectl wait --for=condition=Established` fails where there are no conditions yet.
    wait::until(SOON, "our kinds in discovery", async || {
        plane.kubectl(&["get", "componentleases,leasedatabases,leaserequests", "-A"]).await.map(Some)
    })
    .await?;
    Ok(())
}

impl Site {
    /// A namespace of the shared control plane; its controllers look after it alone.
    pub async fn new(prefix: &str) -> Result<Self> {
        let plane = plane().await?;
        Self::on(plane, prefix, &[]).await
    }

    /// A namespace, and the chart's account in it with the rights of these values.
    pub async fn on(plane: &'static ControlPlane, prefix: &str, values: &[&str]) -> Result<Self> {
        let namespace = plane.namespace(prefix).await?;
        let watch = format!("watch.namespaces={{{}}}", namespace.name());
        let all = [&["--set", watch.as_str()], values].concat();
        Self::with(plane, namespace, &all).await
    }

    /// The chart's account with the rights of these values, which say what is watched.
    pub async fn with(
        plane: &'static ControlPlane,
        namespace: Namespace<'static>,
        values: &[&str],
    ) -> Result<Self> {
        let rights = rights(namespace.name(), values).await?;
        plane.apply(&rights).await?;
        let account = plane.kubeconfig_for(namespace.name(), "component-lease").await?;
        let admin = client(plane.kubeconfig()).await?;
        let rows = Arc::new(Rows::of(namespace.name()));
        Ok(Self { plane, namespace: Some(namespace), admin, account, rows })
    }

    /// Gives the account its rights in other namespaces, too.
    pub async fn also_watch(self, others: &[&str]) -> Result<Self> {
        let watch = format!("watch.namespaces={{{}}}", [&[self.name()], others].concat().join(","));
        self.plane.apply(&rights(self.name(), &["--set", &watch]).await?).await?;
        Ok(self)
    }

    pub fn name(&self) -> &str {
        self.namespace.as_ref().map(Namespace::name).unwrap_or_default()
    }

    pub fn leases(&self) -> Api<ComponentLease> {
        Api::namespaced(self.admin.clone(), self.name())
    }

    pub fn requests(&self) -> Api<LeaseRequest> {
        Api::namespaced(self.admin.clone(), self.name())
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), self.name())
    }

    /// kubectl in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(&[&["-n", self.name()], arguments].concat()).await
    }

    pub async fn make_lease(&self, lease: &serde_json::Value) -> Result<ComponentLease> {
        Ok(self.leases().create(&PostParams::default(), &objects::typed(lease)).await?)
    }

    /// Until a resource that is made now is younger than this one: creation times have whole seconds.
    pub async fn let_a_second_pass(&self, lease: &str) -> Result<()> {
        self.let_a_second_pass_since(&self.leases().get(lease).await?).await
    }

    /// Until what is made now is younger than this object.
    pub async fn let_a_second_pass_since(&self, object: &impl kube::ResourceExt) -> Result<()> {
        let made = object.creation_timestamp().context("no creation time")?;
        let later = || SystemClock.wall_ms() >= (made.0.as_second() + 1) * 1000;
        wait::until_true(SOON, "the next second", async || later()).await
    }

    /// Changes the spec of a resource.
    pub async fn change(&self, name: &str, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(serde_json::json!({ "spec": spec }));
        self.leases().patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Sets or removes a label of a pod by hand.
    pub async fn label(&self, pod: &str, key: &str, value: Option<&str>) -> Result<()> {
        let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": {key: value}}}));
        let params = PatchParams { field_manager: Some("by-hand".to_owned()), ..PatchParams::default() };
        self.pods().patch(pod, &params, &patch).await?;
        Ok(())
    }

    /// Makes fake pods `NAME` that carry `app=APP`; their UIDs.
    pub async fn make_pods(&self, app: &str, names: &[&str]) -> Result<Vec<String>> {
        let pods: Vec<_> = names.iter().map(|name| FakePod::new(name, app)).collect();
        self.plane.fake_pods(self.name(), &pods).await?;
        let mut uids = Vec::new();
        for name in names {
            uids.push(self.pods().get(name).await?.uid().context("a pod without UID")?);
        }
        Ok(uids)
    }

    /// The id of a participant in this pod, as our own programs write it.
    pub async fn holder(&self, pod: &str) -> Result<String> {
        let uid = self.pods().get(pod).await?.uid().context("a pod without UID")?;
        Ok(format!("{pod}_{}_{:08x}", &uid[..8], fastrand::u32(..)))
    }

    /// Waits until exactly these pods carry `key=value`.
    pub async fn wait_for_labelled(&self, key: &str, value: &str, wanted: &[&str]) -> Result<()> {
        wait::until(SOON, format!("{key}={value} on exactly {wanted:?}"), async || {
            let found = self.labelled(key, value).await?;
            anyhow::ensure!(found == wanted, "it is on {found:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until exactly this pod is labelled as the leader of `discovery`. Its lease is renewed until then, as a
    /// participant renews it: a short one would run out before it was seen.
    pub async fn wait_for_renewing(&self, pod: &str) -> Result<()> {
        wait::until(SOON, format!("{KEY}=leader on exactly {pod}, which renews"), async || {
            self.rows.renew("discovery").await?;
            let found = self.labelled(KEY, "leader").await?;
            anyhow::ensure!(found == [pod], "it is on {found:?}");
            Ok(Some(()))
        })
        .await
    }

    /// The pods that carry `key=value`, by name.
    pub async fn labelled(&self, key: &str, value: &str) -> Result<Vec<String>> {
        let list =
            self.pods().list(&kube::api::ListParams::default().labels(&format!("{key}={value}"))).await?;
        let mut names: Vec<_> = list.iter().map(kube::ResourceExt::name_any).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until the resource says what is wanted; the resource.
    pub async fn wait_for_lease(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&ComponentLease) -> bool,
    ) -> Result<ComponentLease> {
        wait::until(SOON, format!("ComponentLease {name}: {what}"), async || {
            let lease = self.leases().get(name).await?;
            anyhow::ensure!(wanted(&lease), "status: {}", serde_json::to_string(&lease.status)?);
            Ok(Some(lease))
        })
        .await
    }

    /// Waits until a condition has this status and reason; its message.
    pub async fn wait_for_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        let matches = |lease: &ComponentLease| {
            objects::condition(lease, kind).is_some_and(|c| c.status == status && c.reason == reason)
        };
        let lease = self.wait_for_lease(name, &format!("{kind}={status} ({reason})"), matches).await?;
        Ok(objects::condition(&lease, kind).map(|c| c.message.clone()).unwrap_or_default())
    }

    pub async fn wait_until_ready(&self, name: &str) -> Result<ComponentLease> {
        let ready =
            |lease: &ComponentLease| objects::condition(lease, "Ready").is_some_and(|c| c.status == "True");
        self.wait_for_lease(name, "Ready", ready).await
    }

    /// [`Site::wait_until_ready`] under this version: a status comes after the label, and the one before may be as good.
    pub async fn wait_for_term(&self, name: &str, version: i64) -> Result<ComponentLease> {
        let is_it = |lease: &ComponentLease| {
            objects::term(lease).version == version
                && objects::condition(lease, "Ready").is_some_and(|c| c.status == "True")
        };
        self.wait_for_lease(name, &format!("Ready under version {version}"), is_it).await
    }

    /// Waits until there are Events with these reasons: a controller publishes them after what they tell of.
    pub async fn wait_for_events(&self, name: &str, reasons: &[&str]) -> Result<()> {
        wait::until(SOON, format!("Events of {name}: {reasons:?}"), async || {
            let events = self.events(name).await?;
            let told = |reason: &&str| events.iter().any(|event| event == reason);
            anyhow::ensure!(reasons.iter().all(told), "{events:?}");
            Ok(Some(()))
        })
        .await
    }

    /// What has been said about the resource: the reasons of its Events.
    pub async fn events(&self, name: &str) -> Result<Vec<String>> {
        let fields = format!("involvedObject.name={name}");
        let events = self.plane.get(&["-n", self.name(), "events", "--field-selector", &fields]).await?;
        let items = events["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(|event| event["reason"].as_str().map(ToOwned::to_owned)).collect())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take() {
            harness::leave(namespace);
        }
    }
}

/// What the chart grants its account: rendered by Helm, as an installation has it.
async fn rights(namespace: &str, values: &[&str]) -> Result<String> {
    rendered(namespace, &["serviceaccount", "rbac", "admission-policy"], values).await
}

/// These templates of the chart.
pub async fn rendered(namespace: &str, templates: &[&str], values: &[&str]) -> Result<String> {
    let chart = component_lease_testkit::repository().join("charts/component-lease");
    let mut helm = tokio::process::Command::new(program("helm")?);
    helm.args(["template", "component-lease"]).arg(&chart).args(["--namespace", namespace]);
    helm.args(["--kube-version", "1.35.0", "--set", "store=postgres,database.existingSecret.name=unused"]);
    for template in templates {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    let output = helm.args(values).output().await.context("cannot run helm")?;
    anyhow::ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A client of its own for a kubeconfig; connections are not shared between runtimes.
pub async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
