//! Real participants in the pods of a test: the library, with the rows of the site as their database.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use component_lease::election::HolderId;
use component_lease::membership::{Instance, Mode, Promise, Whereabouts};
use component_lease::participant::{ElectionFailed, Participant};
use component_lease::store::LeaseStore;
use kube::ResourceExt as _;
use tokio::task::JoinHandle;

use super::{LONG, Site};

/// A participant that leads whenever it can, until this is dropped.
pub struct Competitor(JoinHandle<()>);

impl Drop for Competitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a participant in this pod says that it runs.
pub async fn runs_in(site: &Site, pod: &str) -> Result<Whereabouts> {
    let pod_uid = site.pods().get(pod).await?.uid().context("a pod without UID")?;
    Ok(Whereabouts {
        namespace: Some(site.name().to_owned()),
        pod: Some(pod.to_owned()),
        pod_uid: Some(pod_uid),
        node: Some("fake".to_owned()),
        ..Whereabouts::default()
    })
}

/// What a participant tells of itself that is healthy and lives for long.
pub fn says(site: &Site, holder: &str, whereabouts: Whereabouts) -> Result<Instance> {
    Ok(Instance {
        component: site.rows.key("discovery")?,
        holder: HolderId::new(holder)?,
        lasts: LONG,
        whereabouts,
        program_version: Some("1.2.3".to_owned()),
        mode: Some(Mode::Around),
        promise: Some(Promise::NONE),
        priority: None,
        healthy: true,
        leads: None,
    })
}

/// A participant in each of these pods that competes for `discovery`. Their database stays when the controller's does
/// not answer.
pub async fn compete(site: &Site, pods: &[&str], ttl: Duration) -> Result<Vec<Competitor>> {
    compete_on(site, pods, ttl, || Ok(Arc::new(site.rows.beside()))).await
}

/// [`compete`], each with a store of its own.
pub async fn compete_on(
    site: &Site,
    pods: &[&str],
    ttl: Duration,
    store: impl Fn() -> Result<Arc<dyn LeaseStore>>,
) -> Result<Vec<Competitor>> {
    let mut all = Vec::new();
    for pod in pods {
        let at = runs_in(site, pod).await?;
        let participant = Participant::builder(store()?, site.rows.key("discovery")?)
            .name(*pod)
            .origin(at.pod_uid.clone().unwrap_or_default())
            .whereabouts(at)
            .ttl(ttl)
            // Of a whole process that is one of many here.
            .on_overrun(|overrun| panic!("{overrun:?}"))
            .start()?;
        all.push(Competitor(tokio::spawn(async move {
            let outcome: Result<Option<()>, ElectionFailed> =
                participant.run(async move |_| std::future::pending().await).await;
            drop(outcome);
        })));
    }
    Ok(all)
}
