//! Several namespaces on one controller and one database: a component belongs to a namespace, and a resource
//! or a program of another one does not get between.

use anyhow::{Context as _, Result, ensure};
use component_lease::api::ComponentLease;
use component_lease::election::HolderId;
use component_lease::membership::{Instance, Whereabouts};
use component_lease::store::Directory as _;
use component_lease_testkit::control_plane::{FakePod, Namespace};
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::controller::config;
use crate::support::objects::{condition, lease, lease_with, status, typed};
use crate::support::{LONG, Replica, SOON, Site};

const KEY: &str = "componentlease.io/payments";

/// One namespace of several.
struct Tenant<'s> {
    site: &'s Site,
    namespace: &'s str,
}

impl<'s> Tenant<'s> {
    fn new(site: &'s Site, namespace: &'s Namespace<'static>) -> Self {
        Self { site, namespace: namespace.name() }
    }

    fn leases(&self) -> Api<ComponentLease> {
        Api::namespaced(self.site.admin.clone(), self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.site.admin.clone(), self.namespace)
    }

    fn key(&self, component: &str) -> String {
        format!("{}/{component}", self.namespace)
    }

    /// The manifests of everybody: two pods and a resource, all of the same names.
    async fn deploy(&self) -> Result<()> {
        let pods = ["p-0", "p-1"].map(|name| FakePod::new(name, "payments"));
        self.site.plane.fake_pods(self.namespace, &pods).await?;
        self.claim(&lease("payments", "payments")).await
    }

    async fn claim(&self, lease: &serde_json::Value) -> Result<()> {
        self.leases().create(&PostParams::default(), &typed(lease)).await?;
        Ok(())
    }

    async fn uid(&self, pod: &str) -> Result<String> {
        self.pods().get(pod).await?.uid().context("a pod without UID")
    }

    /// A participant in this pod says that it competes for a component, and takes it.
    async fn leads(&self, pod: &str, component: &str, holder: Option<&str>) -> Result<()> {
        let uid = self.uid(pod).await?;
        let own = format!("{pod}_{}_{:08x}", &uid[..8], fastrand::u32(..));
        let holder = holder.unwrap_or(&own);
        let says = Instance {
            component: self.site.rows.key(component)?,
            holder: HolderId::new(holder)?,
            lasts: LONG,
            whereabouts: Whereabouts {
                namespace: Some(self.namespace.to_owned()),
                pod: Some(pod.to_owned()),
                ..Whereabouts::default()
            },
            program_version: None,
            mode: None,
            promise: None,
            priority: None,
            healthy: true,
            leads: None,
        };
        self.site.rows.beat(&says, None).await?;
        self.site.rows.take(component, holder, LONG).await?;
        Ok(())
    }

    async fn wait_for(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&ComponentLease) -> bool,
    ) -> Result<ComponentLease> {
        wait::until(SOON, format!("{}/{name}: {what}", self.namespace), async || {
            let lease = self.leases().get(name).await?;
            ensure!(wanted(&lease), "status: {}", serde_json::to_string(&lease.status)?);
            Ok(Some(lease))
        })
        .await
    }

    /// Waits until a condition is as wanted; its message.
    async fn says(&self, name: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        let matches = |lease: &ComponentLease| {
            condition(lease, kind).is_some_and(|c| c.status == status && c.reason == reason)
        };
        let lease = self.wait_for(name, &format!("{kind}={status} ({reason})"), matches).await?;
        Ok(condition(&lease, kind).map(|c| c.message.clone()).unwrap_or_default())
    }

    async fn wait_for_labelled(&self, wanted: &[&str]) -> Result<()> {
        wait::until(SOON, format!("{KEY}=leader in {} on {wanted:?}", self.namespace), async || {
            let list = self.pods().list(&ListParams::default().labels(&format!("{KEY}=leader"))).await?;
            let found: Vec<_> = list.iter().map(kube::ResourceExt::name_any).collect();
            ensure!(found == wanted, "it is on {found:?}");
            Ok(Some(()))
        })
        .await
    }

    async fn change_ttl(&self, name: &str, ttl: u32) -> Result<i64> {
        let patch = Patch::Merge(json!({"spec": {"ttlSeconds": ttl}}));
        let changed = self.leases().patch(name, &PatchParams::default(), &patch).await?;
        changed.metadata.generation.context("no generation")
    }

    /// Waits until a change of the spec was acted upon, and all that follows from it is done: the change of
    /// a label that another change asks for begins after that.
    async fn acted_upon(&self, name: &str, generation: i64) -> Result<()> {
        let seen = |lease: &ComponentLease| status(lease).observed_generation == Some(generation);
        self.wait_for(name, &format!("generation {generation}"), seen).await.map(drop)
    }
}

#[tokio::test(crate = "crate::harness")]
async fn two_namespaces_with_the_same_manifests_do_not_disturb_each_other_and_a_squatter_disturbs_neither()
-> Result<()> {
    let site = Site::new("innocent").await?;
    let [second, squatter, thief] = [
        site.plane.namespace("innocent").await?,
        site.plane.namespace("hostile").await?,
        site.plane.namespace("hostile").await?,
    ];
    let site = site.also_watch(&[second.name(), squatter.name(), thief.name()]).await?;
    let (a, b) = (Tenant { site: &site, namespace: site.name() }, Tenant::new(&site, &second));
    let (squatter, thief) = (Tenant::new(&site, &squatter), Tenant::new(&site, &thief));
    let mut config = config(&site, "only");
    config.namespaces = [&a, &b, &squatter, &thief].map(|tenant| tenant.namespace.to_owned()).to_vec();
    let controller = Replica::start_with(&site, config).await?;

    // The squatter is there first, names the component of another, and asks for another ttl.
    for (name, component) in [("squat", a.key("payments")), ("bare", "payments".to_owned())] {
        let claim = json!({"componentName": component, "ttlSeconds": 5});
        squatter.claim(&lease_with(name, "payments", &claim)).await?;
        let message = squatter.says(name, "Ready", "False", "ComponentNotAllowed").await?;
        ensure!(message.contains(&component) && message.contains("allowedComponents"), "{message}");
    }
    let first = squatter.leases().get("squat").await?;
    let made = first.creation_timestamp().context("no creation time")?;
    wait::until_true(SOON, "the next second", async || {
        component_lease::clock::Clock::wall_ms(&component_lease::clock::SystemClock)
            >= (made.0.as_second() + 1) * 1000
    })
    .await?;

    for tenant in [&a, &b] {
        tenant.deploy().await?;
    }
    a.leads("p-0", &a.key("payments"), None).await?;
    b.leads("p-1", &b.key("payments"), None).await?;
    for (tenant, leader) in [(&a, "p-0"), (&b, "p-1")] {
        tenant.says("payments", "Ready", "True", "LeaderRouted").await?;
        tenant.wait_for_labelled(&[leader]).await?;
        let told = site.rows.intended_ttl(&tenant.key("payments")).await?;
        ensure!(told == Some(30), "{}: the participants read {told:?}", tenant.namespace);
        let now = tenant.leases().get("payments").await?;
        ensure!(status(&now).component.as_deref() == Some(tenant.key("payments").as_str()));
    }
    ensure!(site.rows.intended_ttl("other/payments").await?.is_none());
    // A leader of one changes nothing for the other.
    b.leads("p-0", &b.key("payments"), None).await?;
    b.wait_for_labelled(&["p-0"]).await?;
    a.wait_for_labelled(&["p-0"]).await?;

    // The squatter goes: it never had anything to withdraw.
    squatter.leases().delete("squat", &DeleteParams::default()).await?;
    let generation = squatter.change_ttl("bare", 6).await?;
    squatter.acted_upon("bare", generation).await?;
    // A pod that claims the mark of a resource that does not exist brings about a sweep, intents included.
    squatter.deploy().await?;
    squatter.leads("p-0", &squatter.key("payments"), None).await?;
    squatter.wait_for_labelled(&["p-0"]).await?;
    squatter.leases().delete("payments", &DeleteParams::default()).await?;
    wait::until_true(SOON, "the sweep after a deletion", async || {
        matches!(site.rows.intended_ttl(&squatter.key("payments")).await, Ok(None))
    })
    .await?;
    ensure!(site.rows.intended_ttl(&a.key("payments")).await? == Some(30), "the squatter took it along");

    // A program of the thief takes the row of a, under the name of a pod of a.
    let pods = ["p-0"].map(|name| FakePod::new(name, "payments"));
    site.plane.fake_pods(thief.namespace, &pods).await?;
    thief.leads("p-0", &a.key("payments"), Some("p-0:17")).await?;
    let message = a.says("payments", "HolderAccepted", "False", "HolderRejected").await?;
    ensure!(message.contains(&format!("runs in namespace {}", thief.namespace)), "{message}");
    a.wait_for_labelled(&[]).await?;
    let generation = a.change_ttl("payments", 29).await?;
    a.acted_upon("payments", generation).await?;
    b.wait_for_labelled(&["p-0"]).await?;
    ensure!(site.rows.intended_ttl(&a.key("payments")).await? == Some(30), "told while the thief leads");
    // A program of a has it back.
    a.leads("p-1", &a.key("payments"), None).await?;
    a.wait_for_labelled(&["p-1"]).await?;
    wait::until_true(SOON, "the ttl that was asked for meanwhile", async || {
        matches!(site.rows.intended_ttl(&a.key("payments")).await, Ok(Some(29)))
    })
    .await?;
    drop(controller);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_name_that_the_installer_allows_is_for_one_namespace_and_not_for_a_row_of_another() -> Result<()> {
    let site = Site::new("granted").await?;
    let other = site.plane.namespace("hostile").await?;
    let site = site.also_watch(&[other.name()]).await?;
    let (granted, hostile) = (Tenant { site: &site, namespace: site.name() }, Tenant::new(&site, &other));
    let mut config = config(&site, "only");
    config.namespaces = [&granted, &hostile].map(|tenant| tenant.namespace.to_owned()).to_vec();
    let legacy = format!("legacy/{}", site.name());
    config.allowed_components = vec![
        format!("{}={legacy}", granted.namespace).parse()?,
        format!("{}={legacy}-2", hostile.namespace).parse()?,
    ];
    let _controller = Replica::start_with(&site, config).await?;
    for tenant in [&hostile, &granted] {
        let pods = ["p-0"].map(|name| FakePod::new(name, "payments"));
        site.plane.fake_pods(tenant.namespace, &pods).await?;
        tenant.claim(&lease_with("payments", "payments", &json!({"componentName": legacy}))).await?;
    }
    hostile.says("payments", "Ready", "False", "ComponentNotAllowed").await?;
    granted.leads("p-0", &legacy, None).await?;
    granted.says("payments", "Ready", "True", "LeaderRouted").await?;
    granted.wait_for_labelled(&["p-0"]).await?;
    ensure!(site.rows.intended_ttl(&legacy).await? == Some(30));

    // A name that was granted, of a row that a program in another namespace holds: that one's ttl is not set,
    // and a pod of the same name is not labelled.
    let second = format!("{legacy}-2");
    granted.leads("p-0", &second, Some("p-0:1")).await?;
    hostile.claim(&lease_with("second", "payments", &json!({"componentName": second}))).await?;
    let message = hostile.says("second", "HolderAccepted", "False", "HolderRejected").await?;
    ensure!(message.contains(&format!("runs in namespace {}", granted.namespace)), "{message}");
    let generation = hostile.change_ttl("second", 20).await?;
    hostile.acted_upon("second", generation).await?;
    let pod = hostile.pods().get("p-0").await?;
    ensure!(
        pod.labels().get("componentlease.io/second").map(String::as_str) != Some("leader"),
        "{:?}",
        pod.labels()
    );
    ensure!(site.rows.intended_ttl(&second).await?.is_none(), "the other namespace's participants were told");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn of_two_namespaces_that_may_both_claim_a_component_the_first_has_it() -> Result<()> {
    let site = Site::new("shared").await?;
    let other = site.plane.namespace("shared").await?;
    let site = site.also_watch(&[other.name()]).await?;
    let (first, second) = (Tenant { site: &site, namespace: site.name() }, Tenant::new(&site, &other));
    let mut config = config(&site, "only");
    config.namespaces = [&first, &second].map(|tenant| tenant.namespace.to_owned()).to_vec();
    let legacy = format!("legacy/{}", site.name());
    config.allowed_components = [&first, &second]
        .iter()
        .map(|tenant| Ok(format!("{}={legacy}", tenant.namespace).parse()?))
        .collect::<Result<_>>()?;
    let _controller = Replica::start_with(&site, config).await?;
    let claim =
        |ttl: u32| lease_with("payments", "payments", &json!({"componentName": legacy, "ttlSeconds": ttl}));
    first.claim(&claim(25)).await?;
    site.let_a_second_pass("payments").await?;
    second.claim(&claim(5)).await?;
    let message = second.says("payments", "Ready", "False", "Conflict").await?;
    ensure!(message.contains(&format!("{}/payments was first", first.namespace)), "{message}");
    wait::until_true(SOON, "the ttl of the first", async || {
        matches!(site.rows.intended_ttl(&legacy).await, Ok(Some(25)))
    })
    .await?;
    first.leases().delete("payments", &DeleteParams::default()).await?;
    wait::until_true(SOON, "the ttl of the second", async || {
        matches!(site.rows.intended_ttl(&legacy).await, Ok(Some(5)))
    })
    .await
}
