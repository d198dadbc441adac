//! A request is carried out once or not at all: whatever is killed, replayed, replaced, taken back or away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease::api::{LeaseRequest, RequestState};
use component_lease::clock::{Clock, SystemClock};
use component_lease::controller::Config;
use component_lease::election::NewEpoch;
use component_lease::store::{Directory as _, Epochs as _, Names, Outcome};
use component_lease_testkit::wait;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::requests::{ask, until};
use crate::support::controller::config;
use crate::support::objects::{lease_with, status};
use crate::support::participants::{runs_in, says};
use crate::support::rows::Mood;
use crate::support::{LONG, Replica, SOON, Site, led_site};

/// A site whose leader and a second pod give signs of life, but do nothing that they are asked; both holders.
async fn deaf_site(prefix: &str) -> Result<(Site, Replica, [String; 2])> {
    let (site, controller) = led_site(prefix).await?;
    let leader = site.rows.holder_of("discovery").await?;
    let second = site.holder("d-1").await?;
    for (holder, pod) in [(&leader, "d-0"), (&second, "d-1")] {
        site.rows.beat(&says(&site, holder, runs_in(&site, pod).await?)?, None).await?;
    }
    Ok((site, controller, [leader, second]))
}

/// The id of the request that stands in the database, if one does.
async fn posted(site: &Site) -> Result<Option<String>> {
    Ok(site.rows.asked_of("discovery").await?.request.map(|posted| posted.request.id))
}

/// The id of the request that an object has made.
async fn id(site: &Site, name: &str) -> Result<Option<String>> {
    Ok(site.requests().get(name).await?.status.and_then(|status| status.id))
}

async fn delete(site: &Site, name: &str) -> Result<()> {
    site.requests().delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Writes a status as a controller leaves it that is killed while it writes the request into the database.
async fn half_asked(site: &Site, name: &str, version: i64) -> Result<LeaseRequest> {
    let made = ask(site, name, &json!({})).await?;
    let known = site.leases().get("discovery").await?;
    let observed = json!({
        "className": "default", "component": format!("{}/discovery", site.name()), "version": version,
        "leader": "somebody", "databaseUuid": status(&known).internal.and_then(|internal| internal.database_uuid),
    });
    let asking = json!({"status": {"state": "Pending", "reason": "Asking", "observed": observed, "withinSeconds": 60}});
    site.requests().patch_status(name, &PatchParams::default(), &Patch::Merge(asking)).await?;
    Ok(made)
}

#[tokio::test(crate = "crate::harness")]
async fn a_request_is_asked_once_however_often_it_is_replayed_and_whatever_is_killed() -> Result<()> {
    let (site, controller, [_, second]) = deaf_site("once").await?;
    let to_second = json!({"target": "d-1"});
    ask(&site, "first", &to_second).await?;
    until(&site, "first", RequestState::Accepted, "Waiting").await?;
    let first = id(&site, "first").await?;
    assert_eq!(posted(&site).await?, first);

    // Two at once: one waits, the other one learns of it, and may take its place by its id.
    ask(&site, "second", &json!({"verb": "StepDown"})).await?;
    let refused = until(&site, "second", RequestState::Refused, "AnotherRequestPending").await?;
    ensure!(refused.message.contains(first.as_deref().context("no id")?), "{}", refused.message);
    ask(&site, "third", &json!({"target": "d-1", "replaces": first})).await?;
    until(&site, "third", RequestState::Accepted, "Waiting").await?;
    let void = until(&site, "first", RequestState::Void, "Replaced").await?;
    ensure!(void.leader.is_some() && void.seconds.is_some(), "{void:?}");
    // The same name is another object: a new request.
    delete(&site, "first").await?;
    ask(&site, "first", &to_second).await?;
    until(&site, "first", RequestState::Refused, "AnotherRequestPending").await?;
    assert_eq!(posted(&site).await?, id(&site, "third").await?);

    // Killed after it was accepted. The leader makes way while nobody looks.
    controller.kill();
    site.rows.release("discovery").await?;
    let version = site.rows.take("discovery", &second, LONG).await?;
    // Killed while it wrote: of one, the term is over; of the other, it is not.
    half_asked(&site, "late", version - 1).await?;
    let early = half_asked(&site, "early", version).await?;
    let controller = Replica::start(&site).await?;
    let over = until(&site, "third", RequestState::CarriedOut, "CarriedOut").await?;
    assert_eq!((over.leader.as_deref(), over.version), (Some(second.as_str()), Some(version)));
    until(&site, "late", RequestState::Void, "LeaseChanged").await?;
    until(&site, "early", RequestState::Accepted, "Waiting").await?;
    assert_eq!(posted(&site).await?, early.uid());

    // A request that is deleted before it is over is taken back.
    delete(&site, "early").await?;
    wait::until(SOON, "the request is taken back", async || Ok(posted(&site).await?.is_none().then_some(())))
        .await?;
    controller.stop().await
}

#[tokio::test(crate = "crate::harness")]
async fn a_request_that_is_deleted_while_no_controller_acts_is_taken_back_and_one_of_others_is_not()
-> Result<()> {
    let (site, controller, _) = deaf_site("forgotten").await?;
    ask(&site, "gone", &json!({"target": "d-1"})).await?;
    until(&site, "gone", RequestState::Accepted, "Waiting").await?;
    let forgotten = posted(&site).await?.context("nothing was asked")?;
    controller.kill();
    delete(&site, "gone").await?;
    let controller = Replica::start(&site).await?;
    wait::until(SOON, "the request is taken back", async || Ok(posted(&site).await?.is_none().then_some(())))
        .await?;

    // One of somebody who has only the database, and one of another cluster.
    let key = site.rows.key("discovery")?;
    let (of_this, _) = forgotten.split_once('.').context("no dot")?;
    let others =
        ["0e8400f2-1c5e-4f0a-9d3b-2b1f6a7c8d9e".to_owned(), format!("{of_this}.b19f7a52-0c1d-4e6f-8a9b")];
    let mut controller = Some(controller);
    for other in others {
        let version = site.rows.look_at(&std::iter::once(key.clone()).collect(), false).await?.rows
            [key.as_str()]
        .version;
        let (verb, away) = (component_lease::election::Verb::StepDown, Duration::ZERO);
        let request =
            component_lease::election::Request { id: other.clone(), verb, version, target: None, away };
        let said = component_lease::store::Said::new("ada", "")?;
        site.rows.ask(&key, &request, &said, None).await?;
        controller.take().context("there is one")?.stop().await?;
        let sweeps = site.rows.asked();
        controller = Some(Replica::start(&site).await?);
        // It has looked at all objects and at the database, and has had time to do something about it.
        ask(&site, &format!("after-{}", &other[..8]), &json!({"dryRun": true, "replaces": other})).await?;
        until(&site, &format!("after-{}", &other[..8]), RequestState::Planned, "DryRun").await?;
        wait::until_true(SOON, "further looks", async || site.rows.asked() > sweeps + 4).await?;
        assert_eq!(posted(&site).await?.as_ref(), Some(&other));
        site.rows.withdraw(&key, &other).await?;
    }
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn a_request_about_a_lease_that_may_not_act_or_that_hears_nothing_is_refused() -> Result<()> {
    let (site, _controller, _) = deaf_site("cannot").await?;
    site.let_a_second_pass("discovery").await?;
    let key = format!("{}/discovery", site.name());
    for (name, key) in [("copy", key.as_str()), ("theirs", "elsewhere/discovery")] {
        site.make_lease(&lease_with(name, name, &json!({"componentName": key}))).await?;
    }
    for (lease, reason) in [("copy", "Conflict"), ("theirs", "ComponentNotAllowed")] {
        ask(&site, lease, &json!({"lease": lease})).await?;
        until(&site, lease, RequestState::Refused, reason).await?;
    }
    site.rows.take("discovery", "d-0:8080", LONG).await?;
    ask(&site, "foreign", &json!({})).await?;
    let no = until(&site, "foreign", RequestState::Refused, "HolderCannotHear").await?;
    ensure!(no.message.contains("d-0:8080"), "{}", no.message);
    // One that runs in another namespace is not to be moved from here.
    let elsewhere = says(
        &site,
        "d-0:9090",
        component_lease::membership::Whereabouts {
            namespace: Some("elsewhere".to_owned()),
            ..runs_in(&site, "d-0").await?
        },
    )?;
    site.rows.beat(&elsewhere, None).await?;
    site.rows.take("discovery", "d-0:9090", LONG).await?;
    ask(&site, "elsewhere", &json!({"verb": "Promote", "target": "d-1"})).await?;
    until(&site, "elsewhere", RequestState::Refused, "HolderElsewhere").await?;
    assert_eq!(posted(&site).await?, None, "none of them was asked");

    // A leader that does not answer: the request is taken back in time.
    let deaf = site.holder("d-0").await?;
    site.rows.beat(&says(&site, &deaf, runs_in(&site, "d-0").await?)?, None).await?;
    site.rows.take("discovery", &deaf, 5).await?;
    ask(&site, "deaf", &json!({})).await?;
    until(&site, "deaf", RequestState::Accepted, "Waiting").await?;
    let void = until(&site, "deaf", RequestState::Void, "TimedOut").await?;
    ensure!(void.message.contains("did not make way within 11 s"), "{}", void.message);
    ensure!(void.seconds.is_some_and(|seconds| seconds >= 11.0), "{void:?}");
    assert_eq!(posted(&site).await?, None, "it cannot be obeyed any more");
    site.wait_for_events("discovery", &["RequestRefused", "RequestVoid"]).await
}

/// This machine's clocks, of which the wall clock can be set forward.
#[derive(Debug, Default)]
struct Ahead(AtomicI64);

impl Ahead {
    fn set(&self, by: Duration) {
        self.0.store(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Ahead {
    fn boot(&self) -> Duration {
        SystemClock.boot()
    }

    fn wall_ms(&self) -> i64 {
        SystemClock.wall_ms() + self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(crate = "crate::harness")]
async fn what_could_not_be_asked_for_a_minute_is_not_asked_any_more() -> Result<()> {
    let (site, controller, _) = deaf_site("too-late").await?;
    controller.stop().await?;
    let clock = Arc::new(Ahead::default());
    let own: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
    let _controller = Replica::start_with(&site, Config { clock: own, ..config(&site, "only") }).await?;
    site.wait_until_ready("discovery").await?;
    let to_second = json!({"target": "d-1"});
    site.rows.unreachable();
    ask(&site, "first", &to_second).await?;
    until(&site, "first", RequestState::Pending, "DatabaseUnreachable").await?;
    // Not quite a minute: whatever this test has taken so far is far less than the rest.
    clock.set(Duration::from_secs(30));
    let looks = site.rows.asked();
    wait::until_true(SOON, "further looks", async || site.rows.asked() > looks + 2).await?;
    until(&site, "first", RequestState::Pending, "DatabaseUnreachable").await?;
    clock.set(Duration::from_secs(61));
    let void = until(&site, "first", RequestState::Void, "DatabaseUnreachable").await?;
    ensure!(
        void.message.contains("for 60 s after the request was made") && void.observed.is_none(),
        "{void:?}"
    );
    // It answers again: what is void is not asked, and one that looks as old is not either.
    site.rows.set_mood(Mood::Answers);
    ask(&site, "second", &to_second).await?;
    let void = until(&site, "second", RequestState::Void, "TooLate").await?;
    ensure!(void.message.contains("no controller could look at it"), "{void:?}");
    assert_eq!(posted(&site).await?, None);
    clock.set(Duration::ZERO);
    ask(&site, "third", &to_second).await?;
    until(&site, "third", RequestState::Accepted, "Waiting").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_quarantine_that_begins_while_a_request_waits_gives_it_more_time_once() -> Result<()> {
    let (site, _controller, [leader, _]) = deaf_site("longer").await?;
    site.rows.take("discovery", &leader, 5).await?;
    ask(&site, "early", &json!({"target": "d-1"})).await?;
    let accepted = until(&site, "early", RequestState::Accepted, "Waiting").await?;
    assert_eq!(accepted.within_seconds, Some(11));
    let life = site.rows.look_at(&Names::none(), false).await?.life;
    let record = life.record().context("nothing is recorded")?.clone();
    let new = NewEpoch { max_ttl: record.max_ttl, seen: Some(record), at_least: 0, deliberate: true };
    ensure!(site.rows.begin_epoch(&new).await? == Outcome::Applied, "another epoch");
    let within = async || {
        Ok::<_, anyhow::Error>(site.requests().get("early").await?.status.and_then(|s| s.within_seconds))
    };
    let longer =
        wait::until(SOON, "more time", async || Ok(within().await?.filter(|within| *within > 11))).await?;
    // As much as one that is asked in a quarantine, after the moment at which it was seen.
    ensure!((41..=52).contains(&longer), "{longer} s");
    let looks = site.rows.asked();
    wait::until_true(SOON, "further looks", async || site.rows.asked() > looks + 3).await?;
    assert_eq!(within().await?, Some(longer));
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn while_the_database_is_away_requests_wait_and_no_more_than_a_hundred_do() -> Result<()> {
    let (site, _controller, [_, second]) = deaf_site("away").await?;
    site.rows.unreachable();
    let to_second = json!({"target": "d-1"});
    ask(&site, "first", &to_second).await?;
    let waiting = until(&site, "first", RequestState::Pending, "DatabaseUnreachable").await?;
    ensure!(waiting.message.contains("connection refused") && waiting.observed.is_none(), "{waiting:?}");
    site.let_a_second_pass_since(&site.requests().get("first").await?).await?;
    for number in 0..99 {
        ask(&site, &format!("more-{number}"), &to_second).await?;
    }
    site.let_a_second_pass_since(&site.requests().get("more-98").await?).await?;
    ask(&site, "one-too-many", &to_second).await?;
    until(&site, "one-too-many", RequestState::Refused, "TooManyRequests").await?;
    site.rows.set_mood(Mood::Answers);

    // One of them is asked, and the others learn of it.
    let all = async || -> Result<Vec<Value>> {
        let found = site.requests().list(&kube::api::ListParams::default()).await?;
        Ok(found.iter().map(|request| json!(request.status)).collect())
    };
    // Each is two writes of the controller, and a list of them costs the API server as much.
    let (pause, long) = (Duration::from_secs(1), SOON * 3);
    wait::until_at(pause, long, "one is accepted, and the others are refused", async || {
        let all = all().await?;
        let count = |state: &str| all.iter().filter(|status| status["state"] == state).count();
        ensure!(
            (count("Accepted"), count("Refused")) == (1, 100),
            "{} and {}",
            count("Accepted"),
            count("Refused")
        );
        Ok(Some(()))
    })
    .await?;
    let id = posted(&site).await?.context("nothing was asked")?;
    let found = site.requests().list(&kube::api::ListParams::default()).await?;
    let of = |request: &LeaseRequest| request.status.as_ref().and_then(|status| status.id.clone());
    let accepted = found.iter().find(|request| of(request) == Some(id.clone()));
    let accepted = accepted.context("no request was accepted")?.name_any();

    // What was accepted stays so until it is known what became of it.
    site.rows.unreachable();
    until(&site, &accepted, RequestState::Accepted, "DatabaseUnreachable").await?;
    site.rows.beside().take("discovery", &second, LONG).await?;
    site.rows.set_mood(Mood::Answers);
    let over = until(&site, &accepted, RequestState::CarriedOut, "CarriedOut").await?;
    assert_eq!(over.leader, Some(second));
    Ok(())
}
