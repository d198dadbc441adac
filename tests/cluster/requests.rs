//! Requests of operators, carried out by real participants: each verb, and what is refused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{LeaseRequest, LeaseRequestStatus, RequestState};
use component_lease::controller::Config;
use component_lease::store::{Directory as _, Said};
use component_lease_testkit::wait;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::limits::{account, refusal};
use crate::support::controller::config;
use crate::support::objects::{lease, lease_with, request, term};
use crate::support::participants::compete;
use crate::support::{KEY, Replica, SOON, Site, rendered};

/// From the acceptance to the outcome, where the database tells of changes. Much more than it takes, as other tests run
/// beside this one.
const AT_ONCE: f64 = 3.0;

/// Makes a request of `ada` about `discovery`: a switchover, unless its spec says otherwise.
pub async fn ask(site: &Site, name: &str, spec: &Value) -> Result<LeaseRequest> {
    let made = serde_json::from_value(request(name, spec))?;
    Ok(site.requests().create(&PostParams::default(), &made).await?)
}

/// Waits until a request is in this state for this reason; its status.
pub async fn until(site: &Site, name: &str, state: RequestState, reason: &str) -> Result<LeaseRequestStatus> {
    wait::until(SOON, format!("request {name}: {} ({reason})", state.as_str()), async || {
        let status = site.requests().get(name).await?.status.context("no status")?;
        ensure!(status.state == state && status.reason == reason, "{}", serde_json::to_string(&status)?);
        Ok(Some(status))
    })
    .await
}

/// Asks, and waits until that is refused for this reason; the message.
async fn refused(site: &Site, name: &str, spec: &Value, reason: &str) -> Result<String> {
    ask(site, name, spec).await?;
    Ok(until(site, name, RequestState::Refused, reason).await?.message)
}

/// The pod of the leader, once it is labelled.
pub async fn leader(site: &Site) -> Result<String> {
    wait::until(SOON, "the leader's pod to be labelled", async || {
        let (holder, labelled) =
            (site.rows.holder_of("discovery").await?, site.labelled(KEY, "leader").await?);
        ensure!(
            labelled.len() == 1 && holder.starts_with(&format!("{}_", labelled[0])),
            "{holder} {labelled:?}"
        );
        Ok(labelled.into_iter().next())
    })
    .await
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn each_verb_moves_the_leader_once_and_what_makes_no_sense_is_refused() -> Result<()> {
    let site = Site::new("requests").await?;
    let all = ["d-0", "d-1", "d-2"];
    site.make_pods("discovery", &all).await?;
    site.make_pods("other", &["x-0"]).await?;
    let verified = Config { requesters_verified: true, ..config(&site, "only") };
    let _controller = Replica::start_with(&site, verified).await?;
    site.make_lease(&lease_with("discovery", "discovery", &json!({"ttlSeconds": 5}))).await?;
    let _competitors = compete(&site, &all, Duration::from_secs(5)).await?;
    let other_than = |pod: &str| all.into_iter().find(|other| *other != pod).expect("there are three");

    for (name, targeted, mut spec) in [
        ("to", true, json!({"reason": "the node goes"})),
        ("away", false, json!({})),
        ("back", true, json!({"verb": "Promote"})),
        ("down", false, json!({"verb": "StepDown", "awaySeconds": 600})),
        ("now", true, json!({"verb": "PromoteNow", "reason": "drill"})),
    ] {
        let before = term(&site.leases().get("discovery").await?);
        let was = leader(&site).await?;
        if targeted {
            spec["target"] = json!(other_than(&was));
        }
        let made = ask(&site, name, &spec).await?;
        let over = until(&site, name, RequestState::CarriedOut, "CarriedOut").await?;
        let holder = over.leader.clone().context("no leader")?;
        let pod = all.into_iter().find(|pod| holder.starts_with(&format!("{pod}_"))).context("no pod")?;
        ensure!(pod != was && (!targeted || pod == other_than(&was)), "{name}: {was} led; {over:?}");
        ensure!(over.version > Some(before.version), "{name}: {over:?}");
        ensure!(over.seconds.is_some_and(|seconds| seconds < AT_ONCE), "{name}: {over:?}");
        ensure!(
            over.id.as_ref().is_some_and(|id| id.starts_with(&made.uid().unwrap_or_default()))
                && over.requester_verified == Some(true),
            "{name}: {over:?}"
        );
        ensure!(over.accepted_at.is_some() && over.finished_at.is_some(), "{name}: {over:?}");
        site.wait_for_labelled(KEY, "leader", &[pod]).await?;
        println!("{name}: {} s from its acceptance to the next leader", over.seconds.unwrap_or_default());
    }
    site.kubectl(&["wait", "--for=condition=Finished", "lreq/now", "--timeout=5s"]).await?;
    site.wait_for_events("discovery", &["RequestAccepted", "RequestCarriedOut"]).await?;
    let asked = site.rows.asked_of("discovery").await?.request.context("nothing was asked")?;
    assert_eq!((asked.said.by(), asked.said.reason()), ("ada", "drill"));

    // Dry runs say what would happen, and nothing happens.
    let now = leader(&site).await?;
    let version = term(&site.leases().get("discovery").await?).version;
    let target = other_than(&now);
    ask(&site, "dry", &json!({"target": target, "dryRun": true})).await?;
    let planned = until(&site, "dry", RequestState::Planned, "DryRun").await?;
    ensure!(planned.steps.len() == 2 && planned.within_seconds == Some(11), "{planned:?}");
    ensure!(planned.observed.as_ref().is_some_and(|term| term.version == version), "{planned:?}");
    assert_eq!(site.rows.asked_of("discovery").await?.request, Some(asked));

    // An outsider competes for the same row.
    let _outsider = compete(&site, &["x-0"], Duration::from_secs(5)).await?;
    wait::until_true(SOON, "the outsider to be alive", async || {
        let key = site.rows.key("discovery").expect("a key");
        let seen = site.rows.look_at(&std::iter::once(key).collect(), true).await;
        seen.is_ok_and(|seen| seen.instances.iter().flatten().any(|seen| seen.holder.starts_with("x-0_")))
    })
    .await?;
    for (name, spec, reason) in [
        ("nobody", json!({"target": "d-9"}), "UnknownTarget"),
        ("itself", json!({"target": now}), "TargetLeads"),
        ("outside", json!({"target": "x-0"}), "TargetOutsideSelector"),
        ("outside-dry", json!({"target": "x-0", "dryRun": true}), "TargetOutsideSelector"),
        ("old-version", json!({"expectVersion": version - 1}), "VersionIsAnother"),
        ("old-holder", json!({"expectHolder": target}), "HolderIsAnother"),
        ("no-lease", json!({"lease": "nothing"}), "NoSuchLease"),
        ("instead", json!({"replaces": "nothing"}), "NothingToReplace"),
    ] {
        let message = refused(&site, name, &spec, reason).await?;
        ensure!(message.len() > 10, "{name}: {message}");
    }
    let key = site.rows.key("discovery")?;
    site.rows.pause(&key, &Said::new("bo", "backup")?, None).await?;
    for (name, spec) in [
        ("paused", json!({})),
        ("paused-now", json!({"verb": "PromoteNow", "target": target, "reason": "x"})),
    ] {
        let message = refused(&site, name, &spec, "Paused").await?;
        ensure!(message.contains("by bo (backup)"), "{message}");
    }
    site.rows.resume(&key, None).await?;
    assert_eq!(term(&site.leases().get("discovery").await?).version, version, "nothing of it was asked");

    // What is over goes when it says so.
    ask(&site, "short", &json!({"dryRun": true, "ttlSecondsAfterFinished": 0})).await?;
    wait::until_true(SOON, "the request to be deleted", async || {
        site.requests().get_opt("short").await.is_ok_and(|found| found.is_none())
    })
    .await?;
    ensure!(site.requests().get_opt("dry").await?.is_some(), "another one is gone, too");
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn only_operators_ask_and_only_in_their_own_name() -> Result<()> {
    let site = Site::new("operators").await?;
    // Only here: the other tests share the control plane.
    let watch = format!("watch.namespaces={{{}}}", site.name());
    let people = rendered(site.name(), &["user-roles", "verify-requesters"], &["--set", &watch]).await?;
    site.plane.apply(&people).await?;
    let role = format!("--clusterrole={}.component-lease.operator", site.name());
    site.kubectl(&["create", "rolebinding", "ada", &role, "--user=ada"]).await?;
    site.kubectl(&["create", "rolebinding", "eve", "--clusterrole=edit", "--user=eve"]).await?;
    let may = async |verb: &str, what: &str, user: &str| {
        let said = site.kubectl(&["auth", "can-i", verb, what, &format!("--as={user}")]).await;
        said.unwrap_or_else(|error| format!("{error:#}")).lines().any(|line| line == "yes")
    };
    wait::until_true(SOON, "ada may ask", async || may("create", "leaserequests", "ada").await).await?;
    for verb in ["get", "list", "watch", "delete"] {
        ensure!(may(verb, "leaserequests", "ada").await, "ada may not {verb}");
    }
    for (verb, what) in [
        ("update", "leaserequests"),
        ("patch", "leaserequests/status"),
        ("patch", "componentleases"),
        ("create", "componentleases"),
    ] {
        ensure!(!may(verb, what, "ada").await, "ada may {verb} {what}");
    }
    ensure!(!may("create", "leaserequests", "eve").await, "eve may ask");

    let create = async |name: &str, by: &str, user: &str| {
        let mut whole = request(name, &json!({"requestedBy": by}));
        whole["metadata"]["namespace"] = json!(site.name());
        let user = format!("--as={user}");
        site.plane.kubectl_with_input(&["create", "-f", "-", &user], &whole.to_string()).await
    };
    wait::until(SOON, "a forged name is refused", async || {
        let said = create(&format!("forged-{:08x}", fastrand::u32(..)), "bo", "ada").await;
        let Err(said) = said.map_err(|error| format!("{error:#}")) else { return Ok(None) };
        ensure!(said.contains("must be the name of the user who makes the request, ada"), "{said}");
        Ok(Some(()))
    })
    .await?;
    create("honest", "ada", "ada").await?;
    let said = create("strange", "eve", "eve").await.map_err(|error| format!("{error:#}"));
    ensure!(said.as_ref().is_err_and(|said| said.contains("cannot create resource")), "{said:?}");

    // The controller's account deletes what is over, and nothing else; it makes none, and changes no spec.
    let ours: kube::Api<LeaseRequest> = kube::Api::namespaced(account(&site).await?, site.name());
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    wait::until(SOON, "the account may not delete it", async || {
        let said = refusal(ours.delete("honest", &dry).await)?;
        ensure!(said.contains("may delete no LeaseRequest that is not over"), "{said}");
        Ok(Some(()))
    })
    .await?;
    let more = serde_json::from_value(request("more", &json!({})))?;
    let said = refusal(ours.create(&PostParams::default(), &more).await)?;
    ensure!(said.contains("cannot create resource"), "{said}");

    let _controller = Replica::start(&site).await?;
    let over = until(&site, "honest", RequestState::Refused, "NoSuchLease").await?;
    assert_eq!(over.requester_verified, Some(false), "this controller knows of no policy");
    ours.delete("honest", &dry).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    let said = site.kubectl(&["get", "lreq", "--as=ada"]).await?;
    ensure!(said.contains("Refused") && said.contains("NoSuchLease"), "{said}");
    Ok(())
}
