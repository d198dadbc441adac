//! The label follows the row, and the resource says what is going on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease::api::ConditionStatus;
use component_lease::store::{EndReason, Ending, When};
use component_lease_testkit::wait;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;

use crate::support::objects::{condition, elected, status, term};
use crate::support::{KEY, LONG, SOON, led_site};

#[tokio::test(crate = "crate::harness")]
async fn the_pod_that_holds_the_row_is_labelled_and_the_status_says_all_about_it() -> Result<()> {
    let (site, _controller) = led_site("held").await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    site.wait_for_labelled(KEY, "standby", &["d-1", "d-2"]).await?;

    let lease = site.wait_until_ready("discovery").await?;
    let s = status(&lease);
    let term = s.term.context("no term")?;
    assert_eq!((term.version, s.version_floor), (1, Some(1)));
    assert_eq!((s.candidates, s.transitions, term.ttl_seconds), (Some(3), Some(1), Some(LONG.into())));
    assert_eq!(s.observed_generation, lease.metadata.generation);
    assert!(term.holder.as_deref().is_some_and(|holder| holder.starts_with("d-0_")), "{:?}", term.holder);
    assert!(term.start_time.is_some() && term.renew_time.is_some());
    let pod = s.leader.context("no leader")?;
    assert_eq!((pod.pod_name.as_str(), pod.node_name.as_deref()), ("d-0", Some("fake")));
    let internal = s.internal.context("nothing is remembered")?;
    assert_eq!(internal.container_ids.len(), 1);
    assert_eq!(internal.applied.map(|applied| applied.label_key).as_deref(), Some(KEY));
    let conditions: Vec<_> = s.conditions.iter().map(|c| (c.type_.as_str(), c.status)).collect();
    let good = ["Ready", "LeaderElected", "HolderAccepted", "Routed", "DatabaseReachable"];
    let mut all = good.map(|kind| (kind, ConditionStatus::True)).to_vec();
    all.push(("Stalled", ConditionStatus::False));
    assert_eq!(conditions, all);
    assert!(s.conditions.iter().all(|c| c.observed_generation == lease.metadata.generation));
    assert_eq!(site.rows.intended_ttl("discovery").await?, Some(30), "the ttl reaches the participants");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_release_takes_the_label_away_and_the_next_take_brings_it_at_once() -> Result<()> {
    let (site, _controller) = led_site("released").await?;
    site.rows.release("discovery").await?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    let lease = site.wait_for_lease("discovery", "Vacant", |l| elected(l) == Some("Vacant")).await?;
    assert_eq!(
        condition(&lease, "Ready").map(|c| (c.status.as_str(), c.reason.as_str())),
        Some(("False", "Vacant"))
    );
    assert_eq!(term(&lease).holder, None);

    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    let lease = site.wait_for_term("discovery", 2).await?;
    assert_eq!((term(&lease).version, status(&lease).transitions), (2, Some(2)));
    wait::until(SOON, "an Event for each change", async || {
        let events = site.events("discovery").await?;
        ensure!(events.iter().any(|reason| reason == "LeaseReleased"), "{events:?}");
        let notes = site.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]).await?;
        let elected = |version: &str| {
            notes.contains(&format!("leads {}/discovery with version {version}", site.name()))
        };
        ensure!(elected("1") && elected("2"), "{notes}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn the_status_tells_who_led_before_why_that_ended_and_how_long_nobody_led() -> Result<()> {
    let (site, _controller) = led_site("transition").await?;
    let lease = site.wait_until_ready("discovery").await?;
    let first = status(&lease).last_transition.context("nothing of the first leader")?;
    let holder = term(&lease).holder.unwrap_or_default();
    assert_eq!((first.version, first.from, &first.to, first.reason), (1, None, &holder, None));

    let ending = Ending { at: When::Ago(Duration::from_secs(2)), ..Ending::now(EndReason::Deadline) };
    site.rows.release("discovery").await?;
    site.rows.end("discovery", 1, &ending).await?;
    let next = site.holder("d-1").await?;
    site.rows.take("discovery", &next, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    let lease = site.wait_for_term("discovery", 2).await?;
    let second = status(&lease).last_transition.context("nothing of the second leader")?;
    assert_eq!((second.version, second.from, second.to), (2, Some(holder), next));
    assert_eq!((second.reason.as_deref(), second.requested_by), (Some("Deadline"), None));
    let nobody = second.without_leader_milliseconds.context("for how long nobody led")?;
    ensure!((0..60_000).contains(&nobody), "{nobody} ms");
    assert_eq!(second.time, term(&lease).start_time);
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_row_that_is_not_renewed_is_nobodys_after_its_ttl_and_not_before() -> Result<()> {
    let (site, _controller) = led_site("expired").await?;
    site.rows.take("discovery", &site.holder("d-1").await?, 5).await?;
    site.wait_for_renewing("d-1").await?;
    let recorder = site.plane.record_label(site.name(), KEY, "leader")?;
    wait::until(SOON, "the recorder sees the leader", async || {
        site.rows.renew("discovery").await?;
        Ok((recorder.labelled() == ["d-1"]).then_some(()))
    })
    .await?;
    let (begun, mark) = (Instant::now(), recorder.changes().len());
    let mut last = begun;
    wait::until_at(Duration::from_secs(1), SOON, "renewals for longer than the ttl", async || {
        site.rows.renew("discovery").await?;
        last = Instant::now();
        Ok((begun.elapsed() > Duration::from_secs(6)).then_some(()))
    })
    .await?;
    let changes = recorder.changes();
    ensure!(changes.len() == mark, "it was renewed all the time: {:?}", &changes[mark..]);
    recorder.is_whole()?;
    site.wait_for_labelled(KEY, "leader", &[]).await?;
    assert!(last.elapsed() >= Duration::from_secs(4), "after {:?}", last.elapsed());
    let lease = site.wait_for_lease("discovery", "Expired", |l| elected(l) == Some("Expired")).await?;
    assert!(
        term(&lease).holder.is_some_and(|holder| holder.starts_with("d-1_")),
        "who it was stays to be seen"
    );
    // A sign of life from the holder brings it back: nobody has seized the row.
    site.wait_for_renewing("d-1").await
}

#[tokio::test(crate = "crate::harness")]
async fn a_changed_ttl_is_passed_on_at_once_and_the_status_shows_the_one_in_force_until_the_next_term()
-> Result<()> {
    let (site, _controller) = led_site("ttl").await?;
    let change = r#"{"spec": {"ttlSeconds": 20}}"#;
    site.kubectl(&["patch", "clease", "discovery", "--type=merge", "-p", change]).await?;
    wait::until(SOON, "the new ttl to reach the participants", async || {
        Ok((site.rows.intended_ttl("discovery").await? == Some(20)).then_some(()))
    })
    .await?;
    site.rows.renew("discovery").await?;
    let observed = |generation| {
        site.wait_for_lease("discovery", "the change to be observed", move |lease| {
            lease.metadata.generation == Some(generation)
                && status(lease).observed_generation == Some(generation)
        })
    };
    let s = status(&observed(2).await?);
    let term_now = s.term.unwrap_or_default();
    assert_eq!(
        (term_now.version, term_now.ttl_seconds),
        (1, Some(LONG.into())),
        "the term goes on as it began"
    );
    site.rows.take("discovery", &site.holder("d-1").await?, 20).await?;
    let lease = site.wait_for_lease("discovery", "the next term", |lease| term(lease).version == 2).await?;
    assert_eq!(term(&lease).ttl_seconds, Some(20));
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn kubectl_shows_waits_and_explains_as_people_expect() -> Result<()> {
    let (site, _controller) = led_site("kubectl").await?;
    site.kubectl(&["wait", "--for=condition=Ready", "clease/discovery", "--timeout=10s"]).await?;
    let table = site.kubectl(&["get", "componentleases"]).await?;
    let header: Vec<_> = table.lines().next().context("no header")?.split_whitespace().collect();
    assert_eq!(header, ["NAME", "LEADER", "HOLDER", "VERSION", "TTL", "READY", "REASON", "AGE"]);
    let row: Vec<_> = table.lines().nth(1).context("no row")?.split_whitespace().collect();
    assert_eq!((row[0], row[1]), ("discovery", "d-0"));
    assert_eq!(row[3..7], ["1", "600", "True", "LeaderRouted"]);
    assert!(table.lines().all(|line| line.trim_end().len() <= 120), "wider than 120 columns:\n{table}");

    let wide = site.kubectl(&["get", "clease", "-o", "wide"]).await?;
    let header: Vec<_> = wide.lines().next().context("no header")?.split_whitespace().skip(8).collect();
    assert_eq!(header, ["COMPONENT", "CLASS", "NODE", "CANDIDATES", "TRANSITIONS", "SINCE", "FLOOR"]);
    assert!(!wide.contains("<invalid>"), "{wide}");

    for field in [
        "",
        ".className",
        ".selector",
        ".routing",
        ".routing.service",
        ".routing.service.ports",
        ".ttlSeconds",
    ] {
        let told = site.kubectl(&["explain", &format!("componentlease.spec{field}")]).await?;
        assert!(!told.contains("<no description>") && !told.contains("<empty>"), "{told}");
        assert!(told.contains("DESCRIPTION"), "{told}");
    }
    Ok(())
}

/// What a program says next; nothing while it is quiet.
async fn what_comes(output: &mut ChildStdout) -> Result<Option<String>> {
    let mut some = [0; 4096];
    match tokio::time::timeout(Duration::from_millis(200), output.read(&mut some)).await {
        Ok(read) => Ok(Some(String::from_utf8_lossy(&some[..read?]).into_owned())),
        Err(_) => Ok(None),
    }
}

#[tokio::test(crate = "crate::harness")]
async fn a_failover_by_expiry_is_at_most_three_lines_of_kubectl_get_watch() -> Result<()> {
    let (site, _controller) = led_site("watch").await?;
    site.rows.take("discovery", &site.holder("d-1").await?, 2).await?;
    wait::until(SOON, "all is said of version 2", async || {
        site.rows.renew("discovery").await?;
        let lease = site.leases().get("discovery").await?;
        let ready = condition(&lease, "Ready").is_some_and(|ready| ready.status == "True");
        Ok((ready && term(&lease).version == 2).then_some(()))
    })
    .await?;
    let mut kubectl = site.plane.kubectl_command();
    let mut kubectl = kubectl
        .args(["-n", site.name(), "get", "clease", "-w", "--no-headers"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = kubectl.stdout.take().context("a pipe")?;
    let mut lines = String::new();
    wait::until(SOON, "the line of the present leader", async || {
        site.rows.renew("discovery").await?;
        lines.push_str(&what_comes(&mut output).await?.unwrap_or_default());
        Ok(lines.contains("d-1_").then_some(()))
    })
    .await?;
    site.wait_for_lease("discovery", "Expired", |l| elected(l) == Some("Expired")).await?;
    site.rows.take("discovery", &site.holder("d-2").await?, LONG).await?;
    site.wait_for_lease("discovery", "version 3", |lease| term(lease).version == 3).await?;
    wait::until(SOON, "the line of the next leader", async || {
        let more = what_comes(&mut output).await?;
        let quiet = more.is_none();
        lines.push_str(&more.unwrap_or_default());
        // One more look after the last line has come, for one that should not come.
        Ok((quiet && lines.lines().any(|line| line.contains("d-2_"))).then_some(()))
    })
    .await?;
    // The first is the present state.
    let changes: Vec<_> = lines.lines().skip(1).collect();
    assert!(!changes.is_empty() && changes.len() <= 3, "{lines}");
    Ok(())
}
