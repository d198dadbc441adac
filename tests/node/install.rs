//! Installing, removing, and installing again elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use component_lease_testkit::stage::chart;
use component_lease_testkit::stage::store::Store;
use component_lease_testkit::stage::{CONTAINER, Stage, condition};
use component_lease_testkit::wait;

const PATIENCE: Duration = Duration::from_secs(30);

/// Everything but the definition that Helm keeps, by what our releases call it.
const OF_THE_CLUSTER: &str =
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";

#[tokio::test]
async fn a_removed_release_leaves_nothing_that_hangs_and_another_one_takes_over_elsewhere() -> Result<()> {
    let node = crate::node().await?;
    let first = Stage::prepare(&node, "first", "component-lease", Store::sqlite(&node)?).await?;
    first.install(&[]).await?;
    first.deploy().await?;
    let tested =
        chart::helm(&node, &["test", &first.release.name, "-n", "first", "--timeout", "60s"]).await?;
    ensure!(tested.contains("Succeeded"), "{tested}");

    // The controller is the chart's own account in the chart's own security context, and the
    // program got its agent from the init container.
    let pod = first.leader().await?;
    let pod = first.get(&["pod", &pod]).await?;
    let installed = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
    ensure!(installed["exitCode"] == 0, "{installed}");
    let command = &pod["spec"]["containers"][0]["command"][0];
    ensure!(command == "/agent/component-lease" && pod["spec"]["containers"][0]["name"] == CONTAINER);
    let controller = first.get(&["deployment", &first.release.deployment()]).await?;
    let account = controller["spec"]["template"]["spec"]["serviceAccountName"].as_str();
    let account = account.context("the controller has an account")?;
    let may = |verb: &str, what: &str| {
        let account = format!("--as=system:serviceaccount:first:{account}");
        let (verb, what) = (verb.to_owned(), what.to_owned());
        let first = &first;
        async move {
            let asked = first.kubectl(&["auth", "can-i", &verb, &what, &account]).await;
            asked.is_ok_and(|answer| answer.trim() == "yes")
        }
    };
    ensure!(may("patch", "pods").await && !may("delete", "pods").await && !may("get", "secrets").await);

    let begun = Instant::now();
    first.release.uninstall(&node).await?;
    ensure!(begun.elapsed() < PATIENCE, "helm uninstall took {:?}", begun.elapsed());
    let left = node.kubectl(&["get", OF_THE_CLUSTER, "-l", "helm.sh/chart", "-o", "name"]).await?;
    ensure!(left.is_empty(), "left behind: {left}");
    // The definition and the resources outlive the release.
    first.kubectl(&["get", "componentlease", "discovery"]).await?;

    // Without a controller: nothing waits for one.
    let begun = Instant::now();
    node.kubectl(&["delete", "namespace", "first", "--timeout=30s"]).await?;
    println!("the namespace was gone after {:.1?}", begun.elapsed());

    let second = Stage::prepare(&node, "second", "leases", Store::sqlite(&node)?).await?;
    // The definitions still belong to the release that is gone; the refusal says how to hand them over.
    let Err(refused) = second.install(&["watch.namespaces={second}"]).await else {
        bail!("the definition of another release was taken");
    };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("belong to the release component-lease in the namespace first"), "{refused}");
    let commands: Vec<_> = refused.lines().filter_map(|line| line.trim().strip_prefix("kubectl ")).collect();
    ensure!(commands.len() == 2, "{refused}");
    for command in commands {
        node.kubectl(&command.split(' ').collect::<Vec<_>>()).await?;
    }
    second.install(&["watch.namespaces={second}"]).await?;
    second.deploy().await?;
    let lease = second.get(&["componentlease", "discovery"]).await?;
    ensure!(condition(&lease, "Ready")["status"] == "True");
    let client = second.client(Duration::from_millis(50)).await?;
    wait::until_true(PATIENCE, "an answer through the Service of the second release", async || {
        client.first_of(1).is_some()
    })
    .await
}
