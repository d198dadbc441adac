//! What operators ask of a cluster of `db run`, as they type it.

use std::ffi::OsString;
use std::sync::Arc;

use component_lease::SystemClock;
use component_lease::clock::Clock as _;
use component_lease_testkit::postgres::member::{Member, Release};
use component_lease_testkit::{machine, wait};
use serde_json::Value;

use crate::cli::{Cluster, kill_server, perform};
use crate::members::Writer;
use crate::site::SOON;

/// A verb, and what came of it.
pub(crate) async fn verb(cluster: &Cluster, words: &[&str]) -> (Option<i32>, String) {
    let [verb, more @ ..] = words else { panic!("a verb") };
    let place = ["--cluster", "orders-db", "--lease", &cluster.lease.url];
    let words: Vec<OsString> = ["db", verb].iter().chain(&place).chain(more).map(OsString::from).collect();
    perform(&words).await
}

/// A verb that ends with this code, and its document.
pub(crate) async fn told(cluster: &Cluster, code: i32, words: &[&str]) -> Value {
    let (found, text) = verb(cluster, &[words, &["-o", "json"]].concat()).await;
    assert_eq!(found, Some(code), "{words:?}: {text}\n{}", cluster.logs());
    // What is said to a person comes after it.
    let mut documents = serde_json::Deserializer::from_str(&text).into_iter();
    documents.next().and_then(Result::ok).unwrap_or_else(|| panic!("{text}"))
}

pub(crate) async fn refused(cluster: &Cluster, reason: &str, words: &[&str]) {
    let told = told(cluster, 3, words).await;
    assert_eq!((&told["state"], &told["reason"]), (&"Refused".into(), &reason.into()), "{told}");
}

/// Waits until this member could take over, as the primary says.
async fn could_lead(cluster: &Cluster, member: &str) {
    wait::until_true(SOON, format!("{member} to be one that could take over"), async || {
        verb(cluster, &["switchover", "--to", member, "--dry-run"]).await.0 == Some(0)
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
}

async fn status(cluster: &Cluster) -> String {
    let (code, text) = verb(cluster, &["status"]).await;
    assert_eq!(code, Some(0), "{text}");
    text
}

async fn status_says(cluster: &Cluster, piece: &str) {
    wait::until_true(SOON, format!("db status to say {piece:?}"), async || {
        status(cluster).await.contains(piece)
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
}

fn writer(cluster: &Cluster) -> Writer {
    Writer::start(cluster.members.iter().map(|member| Arc::clone(&member.files)).collect())
}

async fn more(writer: &Writer, rows: usize, cluster: &Cluster) {
    let before = writer.so_far().len();
    wait::until_true(SOON * 2, format!("{rows} more rows to be acknowledged"), async || {
        writer.so_far().len() >= before + rows
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
}

async fn has_lost_nothing(writer: &Writer, files: &Member, cluster: &Cluster) {
    let acknowledged = writer.so_far();
    let found = files.psql("SELECT n FROM written").await.unwrap();
    let found: Vec<u64> = found.lines().map(|line| line.parse().unwrap()).collect();
    let lost: Vec<u64> = acknowledged.iter().copied().filter(|one| !found.contains(one)).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}\n{}", acknowledged.len(), cluster.logs());
}

pub(crate) fn first_process(files: &Member) -> Option<String> {
    let text = std::fs::read_to_string(files.data().join("postmaster.pid")).ok()?;
    text.lines().next().map(ToOwned::to_owned)
}

fn signal(signal: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([signal, pid]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_hands_over_to_the_member_that_was_named_and_loses_nothing_15() {
    let _machine = machine::shared().await;
    a_switchover_hands_over_to_the_member_that_was_named_and_loses_nothing(Release::Installed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_hands_over_to_the_member_that_was_named_and_loses_nothing_18() {
    let _machine = machine::shared().await;
    a_switchover_hands_over_to_the_member_that_was_named_and_loses_nothing(Release::Eighteen).await;
}

async fn a_switchover_hands_over_to_the_member_that_was_named_and_loses_nothing(release: Release) {
    let cluster = Cluster::new(release).await;
    let (mut at, mut version) = cluster.whole(0).await;
    cluster.members[at].files.psql("CREATE TABLE written (n int)").await.unwrap();
    let writer = writer(&cluster);
    more(&writer, 5, &cluster).await;
    let primary = cluster.members[at].name;
    let to = cluster.members[(at + 1) % 3].name;

    could_lead(&cluster, to).await;
    let planned = told(&cluster, 0, &["switchover", "--to", to, "--dry-run"]).await;
    assert_eq!((&planned["state"], planned["steps"].as_array().unwrap().len()), (&"Planned".into(), 4));
    refused(&cluster, "UnknownMember", &["switchover", "--to", "d"]).await;
    refused(&cluster, "TargetLeads", &["switchover", "--to", primary]).await;
    refused(&cluster, "PrimaryIsAnother", &["switchover", "--expect-primary", to]).await;
    refused(&cluster, "VersionIsAnother", &["switchover", "--expect-version", "999"]).await;
    assert_eq!(cluster.whole(0).await, (at, version), "nothing has changed");

    for to in [Some(to), None] {
        could_lead(&cluster, cluster.members[(at + 1) % 3].name).await;
        let since = SystemClock.boot();
        let (from, expected) = (cluster.members[at].name, version.to_string());
        let mut words =
            vec!["switchover", "--expect-primary", from, "--expect-version", &expected, "--reason", "a test"];
        words.extend(to.iter().flat_map(|to| ["--to", to]));
        let done = told(&cluster, 0, &words).await;
        assert_eq!(done["state"], "CarriedOut", "{done}");
        more(&writer, 5, &cluster).await;
        println!(
            "{release:?}: {done}; longest time without an acknowledgement {:?}",
            writer.longest_pause(since)
        );
        let before = at;
        (at, version) = cluster.whole(version).await;
        assert_ne!(at, before, "{done}");
        assert_eq!(done["primary"], cluster.members[at].name);
        assert_eq!(done["version"], version);
        assert!(to.is_none_or(|to| to == cluster.members[at].name));
        has_lost_nothing(&writer, &cluster.members[at].files, &cluster).await;
    }
    writer.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stops_where_the_target_of_a_switchover_could_not_be_promoted() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = &cluster.members[at];
    let (late, other) = (&cluster.members[(at + 1) % 3], &cluster.members[(at + 2) % 3]);
    let server = first_process(&primary.files).unwrap();
    could_lead(&cluster, late.name).await;
    could_lead(&cluster, other.name).await;
    // It receives nothing more of a log that goes on, and says nothing about it.
    let receiver = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
    let receiver = late.files.psql(receiver).await.unwrap();
    signal("-STOP", &receiver);
    let fill = "CREATE TABLE big AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 24000) n";
    primary.files.psql(fill).await.unwrap();
    let reason = wait::until(SOON, "the target to be known as late", async || {
        let (code, text) =
            verb(&cluster, &["switchover", "--to", late.name, "--dry-run", "-o", "json"]).await;
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok((code == Some(3)).then(|| told["reason"].as_str().unwrap_or_default().to_owned()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    assert!(["LagsBehind", "NotReceiving", "NotAVoter"].contains(&reason.as_str()), "{reason}");
    // The commands for all leases look at no log: the primary does, and goes on.
    let name = format!("{}_", late.name);
    let url = &cluster.lease.url;
    let (_, alive) =
        perform(&["instances", "orders-db", "--database-url", url, "-o", "name"].map(OsString::from)).await;
    let holder = alive.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{alive}"));
    let words = ["switchover", "orders-db", "--to", holder, "--timeout", "3", "--database-url", url];
    let (code, text) = perform(&words.map(OsString::from)).await;
    assert_eq!(code, Some(4), "{text}\n{}", cluster.logs());
    assert!(primary.files.log().contains("does not make way"), "{}", primary.files.log());
    assert_eq!(primary.version_as("/primary").await, Some(version));
    assert_eq!(first_process(&primary.files).as_deref(), Some(server.as_str()));
    // To the one that has everything.
    let done = told(&cluster, 0, &["switchover"]).await;
    assert_eq!(done["primary"], other.name, "{done}");
    signal("-CONT", &receiver);
    cluster.whole(version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_cluster_is_paused_nobody_is_promoted_and_the_primary_goes_on() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = &cluster.members[at];
    let planned = told(&cluster, 0, &["pause", "--dry-run"]).await;
    assert_eq!(planned["state"], "Planned");
    assert_eq!(told(&cluster, 0, &["pause", "--reason", "a test"]).await["state"], "CarriedOut");
    assert_eq!(told(&cluster, 0, &["pause", "--reason", "again"]).await["state"], "Unchanged");
    let text = status(&cluster).await;
    assert!(text.contains("Paused     by ") && text.contains(": a test; nobody is promoted"), "{text}");
    refused(&cluster, "Paused", &["switchover"]).await;
    for member in &cluster.members {
        wait::until_true(SOON, format!("{} to say that it is paused", member.name), async || {
            let body = member.ask("GET", "/primary").await.map(|(_, body)| body).unwrap_or_default();
            serde_json::from_str::<Value>(&body).is_ok_and(|body| body["pause"] == true)
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    }
    // The primary renews, and acknowledges.
    primary.files.psql("CREATE TABLE written (n int)").await.unwrap();
    assert_eq!(primary.version_as("/primary").await, Some(version));

    kill_server(&primary.files);
    status_says(&cluster, "held by nobody").await;
    wait::until_true(SOON, "the killed server to be there again, and to take no writes", async || {
        primary.files.psql("SELECT pg_is_in_recovery()").await.is_ok_and(|answer| answer == "t")
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    assert!(status(&cluster).await.contains(&format!("version {version}, held by nobody")));

    assert_eq!(told(&cluster, 0, &["resume"]).await["state"], "CarriedOut");
    assert_eq!(told(&cluster, 0, &["resume"]).await["state"], "Unchanged");
    let (at, _) = cluster.whole(version).await;
    cluster.members[at].files.psql("INSERT INTO written VALUES (1)").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_copied_anew_and_what_it_had_is_kept() {
    let _machine = machine::shared().await;
    let mut cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let (standby, other) = ((at + 1) % 3, (at + 2) % 3);
    let name = cluster.members[standby].name;
    let files = Arc::clone(&cluster.members[standby].files);
    std::fs::write(files.data().join("of-the-old-one"), "").unwrap();
    refused(&cluster, "IsPrimary", &["reinit", cluster.members[at].name, "--yes"]).await;
    refused(&cluster, "UnknownMember", &["reinit", "d", "--yes"]).await;
    let (code, text) = verb(&cluster, &["reinit", name]).await;
    assert_eq!((code, text.contains("add --yes")), (Some(2), true), "{text}");
    assert_eq!(told(&cluster, 0, &["reinit", name, "--dry-run"]).await["state"], "Planned");
    assert!(files.data().join("of-the-old-one").exists());

    let done = told(&cluster, 0, &["reinit", name, "--yes", "--reason", "a test"]).await;
    assert_eq!(done["state"], "CarriedOut", "{done}");
    assert!(!files.data().join("of-the-old-one").exists(), "{}", cluster.logs());
    let kept = std::fs::read_dir(files.folder()).unwrap().filter_map(Result::ok);
    let kept = kept.filter(|entry| entry.path().join("of-the-old-one").exists()).count();
    assert_eq!(kept, 1, "what was there is beside it");
    // It is done once, also by a process that is started later.
    cluster.members[standby].signal("-TERM");
    cluster.members[standby].ended().await;
    cluster.members[standby] = crate::cli::Process::start(&cluster.lease, name, Arc::clone(&files));
    assert_eq!(cluster.whole(0).await, (at, version));
    std::fs::write(files.data().join("of-the-new-one"), "").unwrap();
    cluster.members[at].files.psql("CREATE TABLE written (n int)").await.unwrap();
    wait::until_true(SOON, "the copy to follow", async || files.psql("SELECT n FROM written").await.is_ok())
        .await
        .unwrap();
    assert!(files.data().join("of-the-new-one").exists());

    // The last one that acknowledges is not taken away.
    cluster.members[other].signal("-TERM");
    cluster.members[other].ended().await;
    wait::until_true(SOON, "it to be the only one that acknowledges", async || {
        status(&cluster).await.contains(&format!("acknowledged by any 1 of {name}\n"))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    refused(&cluster, "LastVoter", &["reinit", name, "--yes"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_primary_stops_its_server_and_nobody_is_promoted_until_it_is_resumed() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = &cluster.members[at];
    primary.files.psql("CREATE TABLE written (n int)").await.unwrap();
    assert_eq!(told(&cluster, 0, &["fence", "--dry-run"]).await["state"], "Planned");
    refused(&cluster, "PrimaryIsAnother", &["fence", "--expect-primary", "d"]).await;
    let done = told(&cluster, 0, &["fence", "--reason", "suspicion"]).await;
    assert_eq!(done["state"], "CarriedOut", "{done}");
    assert_eq!(first_process(&primary.files), None, "its server has stopped");
    assert_eq!(
        told(&cluster, 0, &["fence"]).await["state"],
        "CarriedOut",
        "asked again, it is the same fence"
    );
    let text = status(&cluster).await;
    for piece in [
        format!("version {version}, held by nobody"),
        format!("Asked      {} keeps its server stopped until db resume, by ", primary.name),
        ": suspicion; nobody is promoted".to_owned(),
    ] {
        assert!(text.contains(&piece), "{piece} in {text}");
    }
    refused(&cluster, "Fenced", &["reinit", primary.name, "--yes"]).await;
    assert_eq!(first_process(&primary.files), None);

    assert_eq!(told(&cluster, 0, &["resume"]).await["state"], "CarriedOut");
    let (at, _) = cluster.whole(version).await;
    cluster.members[at].files.psql("INSERT INTO written VALUES (1)").await.unwrap();
    assert!(!status(&cluster).await.contains("Paused"));
}
