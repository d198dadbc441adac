//! Leaders that end in every way there is, under the eyes of a client and of recorders of the row
//! and of the label.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::control_plane::Recorder;
use component_lease_testkit::node::Node;
use component_lease_testkit::stage::client::Client;
use component_lease_testkit::stage::judge::{self, Handover, OURS};
use component_lease_testkit::stage::rows::Rows;
use component_lease_testkit::stage::store::{PORT, Store};
use component_lease_testkit::stage::{Stage, TTL};
use component_lease_testkit::wait;

const PATIENCE: Duration = Duration::from_secs(30);
/// From the end of a killed leader to the first answer of the next. How long it takes on a quiet
/// machine is for `make bench` to say; here it must not take another ttl.
const EXPIRY: Duration = Duration::from_secs(TTL.unsigned_abs() + 4);
/// From the release to the first answer of the next: shorter than any expiry.
const RELEASE: Duration = Duration::from_secs(TTL.unsigned_abs() - 2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// SIGKILL to the first process of the container.
    Container,
    /// SIGKILL to the program; its supervisor releases.
    Program,
    /// SIGTERM to the supervisor.
    Terminate,
    /// `kubectl delete pod`.
    Delete,
    /// `kubectl delete pod --force --grace-period=0`.
    ForceDelete,
    /// `kubectl rollout restart`.
    Restart,
}

struct Scene<'a> {
    stage: &'a Stage<'a>,
    rows: Rows,
    label: Recorder,
    client: Client,
}

impl<'a> Scene<'a> {
    async fn open(stage: &'a Stage<'a>) -> Result<Self> {
        let (rows, label) = (stage.record_rows().await?, stage.record_label()?);
        let client = stage.client(Duration::from_millis(20)).await?;
        let scene = Self { stage, rows, label, client };
        wait::until_true(PATIENCE, "an answer through the Service", async || {
            scene.client.first_of(0).is_some()
        })
        .await?;
        Ok(scene)
    }

    async fn strike(&self, blow: Blow) -> Result<()> {
        let before = self.rows.now().context("the row has not been seen")?;
        let leader = before.pod().context("nobody leads")?;
        if blow == Blow::Container {
            // Nobody waits for the controller to undo it: there is time enough until the lease ends.
            self.stage.label_by_hand(leader).await?;
        }
        let begun = match blow {
            Blow::Container => self.stage.kill_container(leader).await,
            Blow::Program => self.stage.kill_program(leader).await,
            Blow::Terminate => self.stage.end_container(leader).await,
            Blow::Delete => self.stage.delete(leader).await,
            Blow::ForceDelete => self.stage.force_delete(leader).await,
            Blow::Restart => self.stage.restart().await,
        }?;
        wait::until_true(PATIENCE, format!("another leader after {blow:?}"), async || {
            self.rows.now().is_some_and(|row| row.version > before.version)
        })
        .await?;
        self.stage.settle().await?;
        let last = self.rows.now().context("the row has been seen")?.version;
        wait::until_true(PATIENCE, format!("an answer of version {last} after {blow:?}"), async || {
            self.client.first_of(last).is_some()
        })
        .await?;
        let handovers = self.handovers(begun);
        ensure!(!handovers.is_empty(), "no change of the leader was recorded after {blow:?}");
        for handover in &handovers {
            // In a restart a leader may be replaced before it has answered anybody.
            if handover.answer.is_some() || handover.version == last {
                check(blow, begun, handover)?;
            }
        }
        Ok(())
    }

    fn handovers(&self, since: Instant) -> Vec<Handover> {
        judge::handovers(since, &self.client.answers(), &self.rows.changes(), &self.label.changes())
    }

    /// What must hold over the whole of it.
    fn judge(&self) -> Result<()> {
        self.label.judge(OURS, Duration::from_secs(4))?;
        let foreign = self.label.duplicates().iter().filter(|duplicate| duplicate.made_by != OURS).count();
        ensure!(foreign >= 3, "{foreign} labels by hand were seen beside the leader's");
        let verdict = judge::judge(&self.client.answers(), &self.rows.changes(), &self.label.duplicates());
        ensure!(verdict.is_clean() && verdict.answered > 0, "{verdict:#?}");
        Ok(())
    }
}

fn check(blow: Blow, begun: Instant, handover: &Handover) -> Result<()> {
    let answer = handover.answer.with_context(|| format!("nobody answered after {blow:?}: {handover:?}"))?;
    let (since, limit) = match (blow, handover.released) {
        // It cannot release. The controller may, once the kubelet has told it of the end.
        (Blow::Container, _) => (begun, EXPIRY),
        // The kubelet may or may not give the processes of a pod that is gone time to release.
        (Blow::ForceDelete, None) => (begun, EXPIRY),
        (_, Some(released)) => (released, RELEASE),
        (_, None) => anyhow::bail!("{blow:?} must end in a release: {handover:?}"),
    };
    let took = answer.saturating_duration_since(since);
    println!("{blow:?}: version {} answered after {took:.2?}", handover.version);
    ensure!(took <= limit, "{blow:?} took {took:?}, more than {limit:?}: {handover:?}");
    Ok(())
}

/// Three leaders that cannot say goodbye, and five that can.
const BLOWS: [Blow; 8] = [
    Blow::Container,
    Blow::Program,
    Blow::Container,
    Blow::Terminate,
    Blow::Delete,
    Blow::Container,
    Blow::ForceDelete,
    Blow::Restart,
];

async fn survive(node: &Node, store: Store) -> Result<()> {
    let stage = Stage::prepare(node, "failover", "component-lease", store).await?;
    let played = async {
        stage.make_tables().await?;
        stage.install(&[]).await?;
        stage.deploy().await?;
        let scene = Scene::open(&stage).await?;
        for blow in BLOWS {
            scene.strike(blow).await?;
        }
        scene.judge()
    };
    let result = played.await;
    if result.is_err() {
        stage.print().await;
    }
    result
}

#[tokio::test]
async fn every_leader_is_replaced_in_time_and_none_answers_out_of_turn_on_sqlite() -> Result<()> {
    let node = crate::node().await?;
    survive(&node, Store::sqlite(&node)?).await
}

#[tokio::test]
async fn every_leader_is_replaced_in_time_and_none_answers_out_of_turn_on_postgresql() -> Result<()> {
    let node = crate::node().await?;
    let store = Store::postgres().await?;
    let Store::Postgres { server, .. } = &store else { unreachable!("it was just made") };
    node.expose(([127, 0, 0, 1], server.port()).into(), PORT)?;
    survive(&node, store).await
}
