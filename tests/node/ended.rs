//! A leader that is killed is not waited for once the kubelet has told of its end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::stage::judge;
use component_lease_testkit::stage::rows::told_ttl;
use component_lease_testkit::stage::store::Store;
use component_lease_testkit::stage::{COMPONENT, Stage, condition};
use component_lease_testkit::wait;

const PATIENCE: Duration = Duration::from_secs(60);
/// Much longer than the kubelet takes to tell of an end.
const TTL: i64 = 30;
/// From the SIGKILL to the next holder of the row.
const LIMIT: Duration = Duration::from_secs(10);
/// So old must a term be, in seconds: what ended in its first five is waited for.
const OLD_ENOUGH: i64 = 8;
const KILLS: usize = 3;

/// Now, by this machine's clock, which is the node's and the database's as well.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn the_next_leader_of_a_killed_one_does_not_wait_for_a_ttl_of_half_a_minute() -> Result<()> {
    let node = crate::node().await?;
    let stage = Stage::prepare(&node, "ended", "component-lease", Store::sqlite(&node)?).await?;
    let result = killed(&stage).await;
    if result.is_err() {
        stage.print().await;
    }
    result
}

async fn killed(stage: &Stage<'_>) -> Result<()> {
    stage.install(&[]).await?;
    stage.deploy().await?;
    let (rows, client) = (stage.record_rows().await?, stage.client(Duration::from_millis(20)).await?);

    // The ttl of a term is fixed: a longer one begins with the next.
    let spec = format!("{{\"spec\":{{\"ttlSeconds\":{TTL}}}}}");
    stage.kubectl(&["patch", "componentlease", COMPONENT, "--type=merge", "-p", &spec]).await?;
    let place = stage.place()?;
    wait::until_true(PATIENCE, "the participants to be told the longer ttl", async || {
        matches!(told_ttl(&place, &stage.component()).await, Ok(Some(TTL)))
    })
    .await?;
    stage.end_container(&stage.leader().await?).await?;
    wait::until_true(PATIENCE, "a term of the longer ttl", async || {
        stage
            .get(&["componentlease", COMPONENT])
            .await
            .is_ok_and(|lease| lease["status"]["term"]["ttlSeconds"] == TTL)
    })
    .await?;

    for _ in 0..KILLS {
        stage.settle().await?;
        let lease = wait::until(PATIENCE, "a leader that may be proven to have ended", async || {
            let lease = stage.get(&["componentlease", COMPONENT]).await?;
            let status = &lease["status"];
            let recorded = status["internal"]["containerIds"].as_array().is_some_and(|ids| !ids.is_empty());
            let since: Option<jiff::Timestamp> =
                status["term"]["startTime"].as_str().and_then(|since| since.parse().ok());
            let old = since.is_some_and(|since| now() - since.as_second() >= OLD_ENOUGH);
            Ok((recorded && old && condition(&lease, "Ready")["status"] == "True").then_some(lease))
        })
        .await?;
        let before = rows.now().context("the row has not been seen")?;
        ensure!(lease["status"]["term"]["version"] == before.version, "{} leads {before:?}", lease["status"]);
        let leader = before.pod().context("nobody leads")?;
        let killed = stage.kill_container(leader).await?;
        let taken = wait::until(PATIENCE, "the next holder", async || {
            let changes = rows.changes();
            let next = changes.iter().find(|change| change.row.version > before.version);
            Ok(next.map(|change| change.seen))
        })
        .await?;
        let took = taken.saturating_duration_since(killed);
        println!("SIGKILL to the next holder of the row, ttl {TTL} s: {took:.2?}");
        ensure!(took <= LIMIT, "the next holder took {took:?}, more than {LIMIT:?}");
        ensure!(rows.now().is_some_and(|row| row.holder != before.holder), "a restarted process inherited");
    }
    stage.settle().await?;
    wait::until(PATIENCE, "an Event for it", async || {
        let fields = "--field-selector=reason=HolderEnded";
        let events = stage.get(&["events", fields]).await?;
        Ok(events["items"].as_array().is_some_and(|events| !events.is_empty()).then_some(()))
    })
    .await?;
    let verdict = judge::judge(&client.answers(), &rows.changes(), &[]);
    ensure!(verdict.is_clean() && verdict.answered > 0, "{verdict:#?}");
    Ok(())
}
