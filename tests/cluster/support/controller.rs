//! A replica of the controller in a runtime of its own, so that it can be killed like a process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use component_lease::clock::SystemClock;
use component_lease::controller::{Config, Controller, ElectionConfig, Ended, Probe};
use component_lease::process::admin::{self, Admin};
use component_lease::process::listen::{Listen, bind};
use component_lease::process::{http, metrics};
use component_lease::store::{Directory, Retention};
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Site, client};

/// One running replica. Dropping it kills it.
pub struct Replica {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    ended: oneshot::Receiver<Result<(), Ended>>,
    pub probe: Probe,
    metrics: Arc<Registry>,
}

/// How a replica of this site is set up: it looks after the site's namespace, alone.
pub fn config(site: &Site, identity: &str) -> Config {
    Config {
        class: "default".to_owned(),
        namespaces: vec![site.name().to_owned()],
        poll_interval: Duration::from_secs(1),
        history: Retention { newest: 1000, age: Duration::from_secs(365 * 24 * 3600) },
        max_ttl: 30,
        allowed_label_prefixes: Vec::new(),
        allowed_components: Vec::new(),
        accept_database: None,
        requesters_verified: false,
        watch_nodes: true,
        clock: Arc::new(SystemClock),
        election: None,
        identity: identity.to_owned(),
        origin: None,
    }
}

/// The Lease that the chart's account may use.
pub fn election(site: &Site) -> ElectionConfig {
    ElectionConfig { namespace: site.name().to_owned(), name: "component-lease".to_owned() }
}

impl Replica {
    /// One that looks after the site's namespace, alone.
    pub async fn start(site: &Site) -> Result<Self> {
        Self::start_with(site, config(site, "only")).await
    }

    pub async fn start_with(site: &Site, config: Config) -> Result<Self> {
        Self::run(&site.account, config, Arc::clone(&site.rows) as Arc<dyn Directory>).await
    }

    pub async fn run(kubeconfig: &Path, config: Config, store: Arc<dyn Directory>) -> Result<Self> {
        static LOG: std::sync::Once = std::sync::Once::new();
        if let Ok(filter) = std::env::var("COMPONENT_LEASE_LOG") {
            LOG.call_once(|| {
                tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("replica-{}", config.identity))
            .enable_all()
            .build()?;
        let shutdown = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let (kubeconfig, stop) = (kubeconfig.to_owned(), shutdown.clone());
        runtime.spawn(async move {
            let mut registry = metrics::registry();
            let controller = match client(&kubeconfig).await {
                Ok(client) => Controller::new(config, client, store, &mut registry),
                Err(error) => panic!("no client: {error:#}"),
            };
            let controller = controller.expect("a controller");
            let _ = begin.send((controller.probe(), Arc::new(registry)));
            let _ = end.send(controller.run(stop).await);
        });
        let (probe, metrics) = begun.await.context("the controller could not be set up")?;
        Ok(Self { runtime: Some(runtime), shutdown, ended, probe, metrics })
    }

    /// What it answers a scrape with.
    pub fn scrape(&self) -> String {
        metrics::encode(&self.metrics)
    }

    /// Serves its probes and metrics as the program does; the address. Ends with the replica.
    pub async fn serve(&self) -> Result<SocketAddr> {
        let listener = bind("127.0.0.1:0".parse::<Listen>().map_err(anyhow::Error::msg)?).await?;
        let address = listener.local_addr()?;
        let (live, ready) = (self.probe.clone(), self.probe.clone());
        let admin = Admin {
            live: Arc::new(move || live.live()),
            ready: Arc::new(move || ready.ready()),
            registry: Arc::clone(&self.metrics),
        };
        tokio::spawn(http::serve(listener, admin::router(admin), self.shutdown.clone()));
        Ok(address)
    }

    /// Asks it to end in order and waits for that.
    pub async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        tokio::time::timeout(super::SOON, &mut self.ended).await.context("it does not end")???;
        Ok(())
    }

    /// Ends it as SIGKILL ends a process: nothing is tidied up.
    pub fn kill(self) {
        drop(self);
    }

    /// Fails if it has ended by itself.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.ended.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => Ok(()),
            Ok(outcome) => anyhow::bail!("the controller ended by itself: {outcome:?}"),
            Err(closed) => anyhow::bail!("the controller panicked: {closed}"),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
