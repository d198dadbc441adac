//! A controller that is led to another database than the one that its resources have known: nothing moves.

use std::sync::Arc;

use anyhow::{Result, ensure};
use component_lease::election::ComponentName;
use component_lease::store::{Directory, LeaseStore as _, Names};
use component_lease_testkit::wait;

use crate::support::controller::config;
use crate::support::objects::{self, condition, known_database, term};
use crate::support::{KEY, LONG, Replica, Rows, SOON, Site, led_site};

async fn start_on(site: &Site, rows: &Arc<Rows>, accept: Option<String>) -> Result<Replica> {
    let mut config = config(site, "only");
    config.accept_database = accept;
    Replica::run(&site.account, config, Arc::clone(rows) as Arc<dyn Directory>).await
}

async fn uuid(rows: &Rows) -> Result<String> {
    let life = rows.look_at(&Names::none(), false).await?.life;
    Ok(life.database().unwrap_or_default().to_owned())
}

async fn intended(rows: &Rows, component: &ComponentName) -> Result<Option<u32>> {
    Ok(rows.look(component).await?.standing_ttl)
}

#[tokio::test(crate = "crate::harness")]
async fn a_controller_on_another_database_strips_nothing_and_begins_no_epoch_until_it_is_accepted()
-> Result<()> {
    let (site, controller) = led_site("another-db").await?;
    let component = site.rows.key("discovery")?;
    let known = uuid(&site.rows).await?;
    site.wait_for_lease("discovery", "the database is known", |lease| {
        known_database(lease).as_deref() == Some(known.as_str())
    })
    .await?;
    controller.stop().await?;
    let versions = term(&site.leases().get("discovery").await?).version;

    // Another one, where somebody else leads under a later version; then an empty one.
    let (busy, empty) = (Arc::new(Rows::of(site.name())), Arc::new(Rows::of(site.name())));
    busy.take_as(component.clone(), &site.holder("d-1").await?, LONG, 77).await?;
    for other in [&busy, &empty] {
        let (now, epoch) = (uuid(other).await?, other.epoch().await?);
        let controller = start_on(&site, other, None).await?;
        let lease = site
            .wait_for_lease("discovery", "the condition names this very database", |lease| {
                condition(lease, "DatabaseChanged")
                    .is_some_and(|c| c.status == "True" && c.message.contains(&now))
            })
            .await?;
        let message = condition(&lease, "DatabaseChanged").map(|c| c.message.clone()).unwrap_or_default();
        for piece in [&known, &now, &format!("--accept-database={now}")] {
            ensure!(message.contains(piece.as_str()), "{message}");
        }
        // A resource that is made now must not take the wrong database for its own.
        site.make_lease(&objects::lease("late", "late")).await?;
        site.wait_for_condition("late", "DatabaseChanged", "True", "AnotherDatabase").await?;
        let asked = other.asked();
        wait::until_true(SOON, "some more looks", async || other.asked() > asked + 3).await?;
        site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
        ensure!(other.epoch().await? == epoch, "an epoch began");
        ensure!(intended(other, &component).await?.is_none(), "an intent was written");
        let lease = site.leases().get("discovery").await?;
        ensure!(
            known_database(&lease).as_deref() == Some(known.as_str()) && term(&lease).version == versions,
            "{:?}",
            lease.status
        );
        ensure!(condition(&lease, "VersionRegressed").is_none(), "{:?}", lease.status);
        controller.stop().await?;
        site.leases().delete("late", &kube::api::DeleteParams::default()).await?;
    }
    site.wait_for_events("discovery", &["DatabaseChanged"]).await?;

    // Back on the right one all is as before.
    let controller = start_on(&site, &site.rows, None).await?;
    site.wait_until_ready("discovery").await?;
    ensure!(
        condition(&site.leases().get("discovery").await?, "DatabaseChanged").is_none(),
        "it is still said"
    );
    controller.stop().await?;

    // And where the operator says that the other is right, everything goes over to it.
    let now = uuid(&busy).await?;
    let _controller = start_on(&site, &busy, Some(now.clone())).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    site.wait_for_lease("discovery", "the database is the accepted one", |lease| {
        known_database(lease).as_deref() == Some(now.as_str()) && term(lease).version == 77
    })
    .await?;
    // After the status.
    wait::until_true(SOON, "intents go on", async || {
        intended(&busy, &component).await.is_ok_and(|ttl| ttl.is_some())
    })
    .await
}
