//! A failover that loses what was acknowledged, as machines are gone for good.

use std::sync::Arc;

use component_lease_testkit::postgres::member::Release;
use component_lease_testkit::{machine, wait};

use crate::cli::{Cluster, Process};
use crate::site::SOON;
use crate::verbs::{first_process, refused, told, verb};

/// The supervisor and its server, at once.
async fn gone(cluster: &mut Cluster, at: usize) {
    let server = first_process(&cluster.members[at].files).unwrap();
    cluster.members[at].signal("-KILL");
    // Its guardians may be faster.
    let _ = std::process::Command::new("kill").args(["-KILL", &server]).output().unwrap();
    cluster.members[at].ended().await;
    let files = Arc::clone(&cluster.members[at].files);
    wait::until_true(SOON, "nothing of the server to be left", async || {
        crate::site::processes_in(&files.data()) == 0
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
}

async fn rows(cluster: &Cluster, at: usize) -> String {
    let sql = "SELECT string_agg(n::text, ',' ORDER BY n) FROM written";
    cluster.members[at].files.psql(sql).await.unwrap_or_default()
}

async fn has(cluster: &Cluster, at: usize, wanted: &str) {
    wait::until_true(SOON * 2, format!("{} to have {wanted}", cluster.members[at].name), async || {
        rows(cluster, at).await == wanted
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_lost_machines_have_is_given_up_by_name_and_they_come_back_without_it() {
    let _machine = machine::shared().await;
    let mut cluster = Cluster::new(Release::Installed).await;
    let (primary, version) = cluster.whole(0).await;
    let (left, other) = ((primary + 1) % 3, (primary + 2) % 3);
    let names = [primary, left, other].map(|at| cluster.members[at].name);
    cluster.members[primary].files.psql("CREATE TABLE written AS SELECT 1 AS n").await.unwrap();
    has(&cluster, left, "1").await;
    refused(&cluster, "PrimaryLeads", &["failover", "--allow-data-loss", "--reason", "a test"]).await;

    // One is away while another row is acknowledged; then the two that have it are gone.
    cluster.members[left].signal("-TERM");
    cluster.members[left].ended().await;
    let (_, text) = verb(&cluster, &["status"]).await;
    assert!(text.contains(&format!("primary {}", names[0])), "{text}");
    cluster.members[primary].files.psql("INSERT INTO written VALUES (2)").await.unwrap();
    has(&cluster, other, "1,2").await;
    wait::until_true(SOON, "the other alone to be recorded", async || {
        verb(&cluster, &["status"]).await.1.contains(&format!("acknowledged by any 1 of {}\n", names[2]))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    gone(&mut cluster, primary).await;
    gone(&mut cluster, other).await;
    let files = Arc::clone(&cluster.members[left].files);
    cluster.members[left] = Process::start(&cluster.lease, names[1], files);
    wait::until_true(SOON * 2, "the one that is left to wait for the others", async || {
        cluster.members[left].files.log().contains("PromotionBlocked")
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));

    // Only by name and with a reason, and what is known of the loss is said first.
    let (code, text) = verb(&cluster, &["failover"]).await;
    assert_eq!((code, text.contains("--allow-data-loss")), (Some(2), true), "{text}");
    let failover = ["failover", "--allow-data-loss"];
    let (code, text) = verb(&cluster, &failover).await;
    assert_eq!((code, text.contains("--reason")), (Some(2), true), "{text}");
    let because = [&failover[..], &["--reason", "a fire"]].concat();
    let (code, text) = verb(&cluster, &because).await;
    assert_eq!((code, text.contains("--confirm orders-db")), (Some(2), true), "{text}");
    let (code, text) = verb(&cluster, &[&because[..], &["--confirm", "other-db"]].concat()).await;
    assert_eq!(code, Some(3), "{text}");
    for piece in ["MAKE SURE that ", names[0], names[2], "what came after that is not known"] {
        assert!(text.contains(piece), "{piece} in {text}");
    }
    refused(&cluster, "NotSealed", &[&because[..], &["--to", names[2], "--confirm", "orders-db"]].concat())
        .await;

    // It acknowledges nothing before another one follows.
    let asked =
        told(&cluster, 4, &[&because[..], &["--confirm", "orders-db", "--timeout", "3"]].concat()).await;
    assert_eq!(asked["reason"], "TimedOut", "{asked}");
    let log = cluster.members[left].files.log();
    assert!(log.contains("promoted by force"), "{log}");
    let files = Arc::clone(&cluster.members[other].files);
    cluster.members[other] = Process::start(&cluster.lease, names[2], files);
    wait::until_true(SOON * 3, "the one that is left to be the primary", async || {
        cluster.members[left].version_as("/primary").await.is_some_and(|now| now > version)
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    let (_, text) = verb(&cluster, &["status"]).await;
    let loss = format!("Loss       the record of version {version} was given up, by ");
    assert!(text.contains(&loss) && text.contains(": a fire"), "{text}");
    cluster.members[left].files.psql("INSERT INTO written VALUES (3)").await.unwrap();
    has(&cluster, other, "1,3").await;

    // The old primary comes back last, with what was acknowledged by nobody who is there.
    let files = Arc::clone(&cluster.members[primary].files);
    cluster.members[primary] = Process::start(&cluster.lease, names[0], files);
    let (at, _) = cluster.whole(version).await;
    assert_eq!(at, left);
    has(&cluster, primary, "1,3").await;
}
