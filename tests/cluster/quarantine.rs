//! After the database has changed: why nobody is elected, until when, and why the next version has 14 digits.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use component_lease::election::NewEpoch;
use component_lease::store::{Directory as _, Epochs as _, Names, Outcome};
use component_lease_testkit::wait;

use crate::support::objects::{condition, elected, term};
use crate::support::{KEY, LONG, SOON, led_site};

/// What the rows of these tests say.
const QUARANTINE: Duration = Duration::from_secs(30);

#[tokio::test(crate = "crate::harness")]
async fn a_quarantine_is_said_with_its_end_and_the_version_after_it_is_explained() -> Result<()> {
    let (site, _controller) = led_site("quarantine").await?;
    let (first, second) = (site.holder("d-0").await?, site.holder("d-1").await?);
    let version = site.rows.take("discovery", &first, 5).await?;
    let counted = |lease: &_| (term(lease).version, term(lease).epoch, term(lease).number_in_epoch);
    let says = |lease: &_| counted(lease) == (version, Some(0), Some(version));
    site.wait_for_lease("discovery", "the version counts from nothing", says).await?;

    // As a participant does after a restart of the database.
    let life = site.rows.look_at(&Names::none(), false).await?.life;
    let record = life.record().context("nothing is recorded")?.clone();
    let new = NewEpoch { max_ttl: record.max_ttl, seen: Some(record), at_least: 0, deliberate: true };
    ensure!(site.rows.begin_epoch(&new).await? == Outcome::Applied, "another epoch");
    let began = jiff::Timestamp::now();
    let message = site.wait_for_condition("discovery", "LeaderElected", "False", "Quarantine").await?;
    ensure!(
        message.contains(&format!("{first} stopped renewing version {version}; nobody takes")),
        "{message}"
    );
    let until = message.split("before ").nth(1).and_then(|rest| rest.split(": ").next());
    let until: jiff::Timestamp = until.context(message.clone())?.parse()?;
    let lasts = until.duration_since(began).as_secs();
    ensure!((25..=35).contains(&lasts), "{lasts} s: {message}");
    site.wait_for_condition("discovery", "Ready", "False", "Quarantine").await?;
    wait::until_true(SOON, "an Event for it", async || {
        site.events("discovery").await.is_ok_and(|events| events.iter().any(|reason| reason == "Quarantine"))
    })
    .await?;

    // It is over without anything else that happens.
    wait::until(QUARANTINE + SOON, "the end of the quarantine", async || {
        let lease = site.leases().get("discovery").await?;
        Ok((elected(&lease) == Some("Expired")).then_some(()))
    })
    .await?;
    let over = jiff::Timestamp::now();
    ensure!(
        over >= until - jiff::SignedDuration::from_secs(2),
        "it was said to last until {until}, now {over}"
    );

    let epoch = site.rows.epoch().await?;
    let next = epoch * 1_000_000 + 1;
    site.rows.take_as(site.rows.key("discovery")?, &second, LONG, next).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    let lease = site.wait_for_term("discovery", next).await?;
    assert_eq!(counted(&lease), (next, Some(epoch), Some(1)));
    let message =
        condition(&lease, "LeaderElected").map(|elected| elected.message.clone()).unwrap_or_default();
    ensure!(
        message.contains(&format!("version {next} (number 1 of epoch {epoch} of the database)")),
        "{message}"
    );
    Ok(())
}
