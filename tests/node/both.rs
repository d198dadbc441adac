//! Two releases of one class beside each other, with the same resources and the same database: the older acts,
//! whatever befalls the leader, and the younger writes to no pod.

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::stage::Stage;
use component_lease_testkit::stage::chart::Release;

/// Both of them, and what they had done when the watching began.
pub(crate) struct Both<'a> {
    stage: &'a Stage<'a>,
    releases: [Release; 2],
    reconciles: [u64; 2],
    audit: u64,
}

impl<'a> Both<'a> {
    /// Installs the second beside the stage's own.
    pub(crate) async fn install(stage: &'a Stage<'a>) -> Result<Self> {
        stage.install(&[]).await?;
        let second = Release { name: "second".into(), namespace: stage.namespace.clone() };
        let mut values = Release::values(&stage.store);
        // One release has the definition.
        values.extend(["replicas=1".into(), "crds.install=false".into()]);
        second.install(stage.node, &values).await?;
        let releases = [stage.release.clone(), second];
        Ok(Self { stage, releases, reconciles: [0; 2], audit: 0 })
    }

    /// From now on the older has to act, and the younger to stand back.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.audit = self.stage.node.audit_mark()?;
        for (release, before) in self.releases.iter().zip(&mut self.reconciles) {
            *before = reconciles(self.stage, release).await?;
        }
        Ok(())
    }

    /// Fails unless the older of the two has reconciled at every change and has written to pods, and the younger,
    /// which is of the same class, has written to none.
    pub(crate) async fn did_their_part(&self, changes: usize) -> Result<()> {
        let writes = self.stage.node.writes_since(self.audit)?;
        for (age, (release, before)) in self.releases.iter().zip(self.reconciles).enumerate() {
            let account = format!("system:serviceaccount:{}:{}", release.namespace, release.deployment());
            let patches: Vec<u64> =
                writes.iter().filter(|w| w.user == account && w.resource == "pods").map(|w| w.code).collect();
            let with = |code: u64| patches.iter().filter(|found| **found == code).count();
            let reconciles = reconciles(self.stage, release).await?.saturating_sub(before);
            println!(
                "{}: {reconciles} reconciles, {} patches of pods, {} that came after another's",
                release.name,
                with(200),
                with(409)
            );
            if age > 0 {
                ensure!(patches.is_empty(), "{} does not stand back: {patches:?}", release.name);
                continue;
            }
            ensure!(usize::try_from(reconciles)? >= changes, "{} does not reconcile", release.name);
            ensure!(with(200) > 0, "{} has not written to a pod: {patches:?}", release.name);
        }
        Ok(())
    }
}

/// How often the replicas of a release have reconciled a resource, by their own metrics.
async fn reconciles(stage: &Stage<'_>, release: &Release) -> Result<u64> {
    let selector = format!("app.kubernetes.io/instance={}", release.name);
    let pods = stage.get(&["pods", "-l", &selector]).await?;
    let pods = pods["items"].as_array().context("a list")?;
    let mut sum = 0;
    for pod in pods {
        let pod = pod["metadata"]["name"].as_str().context("a name")?;
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics", release.namespace);
        let metrics = stage.kubectl(&["get", "--raw", &path]).await?;
        let counts = metrics.lines().filter(|l| l.starts_with("componentlease_controller_reconciles_total{"));
        for count in counts {
            sum += count.rsplit(' ').next().context("a number")?.parse::<u64>()?;
        }
    }
    Ok(sum)
}
