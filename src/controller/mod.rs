//! Reconciles `ComponentLease` resources with the rows of one database.
//!
//! ```text
//! observe ── what Kubernetes tells (cached watches)      [`observe`]
//! rows    ── what the database tells (one poll for all)  [`rows`]
//!    │ a change queues the resources that it concerns    [`trigger`]
//!    ▼
//! reconcile: observe -> decide (pure) -> apply -> report [`reconcile`]
//! sweep: pods whose resource is gone                     [`sweep`]
//! ```
//! Of several replicas the one that leads by a Kubernetes Lease acts (`election`).

mod apply;
mod claims;
pub mod command;
mod election;
mod ended;
mod error;
#[cfg(test)]
mod fake_api;
mod floor;
mod instances;
mod metrics;
mod observe;
mod pods;
mod reconcile;
mod report;
mod retry;
mod rows;
mod sweep;
mod trigger;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use kube::runtime::events::Reporter;
use kube::runtime::{applier, controller};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::{Clock, SystemClock};
use crate::election::{ComponentName, Moment};
use crate::membership::namespace::{Grant, Grants};
use crate::participant::{BuildError, End, Participant};
use crate::store::Store;
use election::LeaseStore;
use ended::Endings;
use metrics::Metrics;
use observe::{Feeds, LeaseRef, Scope, Seen};
use reconcile::{Context, on_error, reconcile};
use report::Announcer;
use retry::Retry;
use rows::{Changed, Rows};
use trigger::Trigger;

/// Our name in managed fields.
const FIELD_MANAGER: &str = "component-lease";
/// Reconciles that run at the same time.
const CONCURRENCY: u16 = 16;
/// Without a heartbeat of the database loop for this long, the process is called dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// Seconds; of the Lease by which replicas elect.
const ELECTION_TTL: u32 = 15;
/// A sweep that met a failure or a change is repeated at the latest after this.
const SWEEP_AGAIN: Duration = Duration::from_secs(60);

/// How the controller is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespaces to watch; empty is all.
    pub namespaces: Vec<String>,
    pub poll_interval: Duration,
    /// Seconds; the longest ttl that any lease of the database may have.
    pub max_ttl: u32,
    /// Prefixes, beside our own, that `labelKey` may begin with.
    pub allowed_label_prefixes: Vec<String>,
    /// Components that resources may claim beside those of their own namespace.
    pub allowed_components: Vec<Grant>,
    /// The UUID of the database to which resources may go over that have known another one.
    pub accept_database: Option<String>,
    /// `None` when there is only this replica.
    pub election: Option<ElectionConfig>,
    /// The name of this replica: the pod's.
    pub identity: String,
    /// The pod's UID.
    pub origin: Option<String>,
}

/// The Lease by which replicas elect.
#[derive(Debug, Clone)]
pub struct ElectionConfig {
    pub namespace: String,
    pub name: String,
}

/// Why the controller ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("the election among the controller's replicas cannot begin")]
    Election(#[source] BuildError),
    #[error("the name of the election Lease cannot be used")]
    ElectionName(#[source] crate::election::NameError),
    #[error("the controller's {0} ended unexpectedly")]
    Task(&'static str),
}

/// A controller that was set up and does nothing yet.
pub struct Controller {
    context: Arc<Context>,
    feeds: Vec<Feeds>,
    poll_interval: Duration,
    shared: Arc<Shared>,
}

struct Shared {
    sweep: Notify,
    /// Components whose resource was deleted.
    gone: Mutex<BTreeSet<ComponentName>>,
    /// When the loop around the database last turned.
    beat: Mutex<Moment>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("scopes", &self.feeds.len()).finish_non_exhaustive()
    }
}

impl Controller {
    /// Sets a controller up; its metrics go into the registry. Needs neither the API server nor the
    /// database to be there yet.
    pub fn new(
        config: Config,
        client: Client,
        store: Arc<dyn Store>,
        registry: &mut Registry,
    ) -> Result<Self, Ended> {
        let Config {
            namespaces,
            poll_interval,
            max_ttl,
            allowed_label_prefixes,
            allowed_components,
            accept_database,
            election,
            identity,
            origin,
        } = config;
        let grants = Grants::new(namespaces.iter().map(String::as_str), allowed_components);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let election = match election {
            None => None,
            Some(ElectionConfig { namespace, name }) => {
                let component = ComponentName::new(name.clone()).map_err(Ended::ElectionName)?;
                let store = LeaseStore::new(client.clone(), &namespace, &name, Arc::clone(&clock));
                let builder =
                    Participant::builder(Arc::new(store), component).name(&identity).ttl(ELECTION_TTL);
                let builder = match &origin {
                    Some(origin) => builder.origin(origin),
                    None => builder,
                };
                // What the controller does is guarded call by call: there is no work to stop.
                let builder = builder.stop_grace(Duration::ZERO);
                Some(Arc::new(builder.start().map_err(Ended::Election)?))
            }
        };
        let (scopes, feeds) = if namespaces.is_empty() {
            let (scope, feed) = Scope::new(&client, None, Arc::clone(&clock));
            (vec![Arc::new(scope)], vec![feed])
        } else {
            let scopes =
                namespaces.iter().map(|namespace| Scope::new(&client, Some(namespace), Arc::clone(&clock)));
            scopes.map(|(scope, feed)| (Arc::new(scope), feed)).unzip()
        };
        let metrics = Metrics::default();
        metrics.register(registry);
        let reporter =
            Reporter { controller: "component-lease-controller".to_owned(), instance: Some(identity) };
        let context = Context {
            announcer: Announcer::new(client.clone(), reporter, Arc::clone(&clock)),
            client,
            rows: Arc::new(Rows::new(store, Arc::clone(&clock), max_ttl)),
            scopes,
            metrics,
            retry: Retry::default(),
            allowed_prefixes: allowed_label_prefixes,
            grants,
            accept_database,
            epoch_rate: Mutex::default(),
            election,
            written: Mutex::default(),
            endings: Endings::default(),
            wanted: Mutex::default(),
            clock: Arc::clone(&clock),
        };
        let shared = Shared { sweep: Notify::new(), gone: Mutex::default(), beat: Mutex::new(clock.boot()) };
        Ok(Self { context: Arc::new(context), feeds, poll_interval, shared: Arc::new(shared) })
    }

    /// What probes may ask, also while the controller runs.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe { context: Arc::clone(&self.context), shared: Arc::clone(&self.shared) }
    }

    /// Runs until the token is cancelled, then ends in order: no new work, the Lease released.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Ended> {
        let Self { context, feeds, poll_interval, shared } = self;
        let mut tasks = JoinSet::new();
        let (queues, inboxes): (Vec<_>, Vec<_>) = feeds.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let trigger = Arc::new(Trigger::new(Arc::clone(&context), queues));

        for ((scope, feeds), inbox) in context.scopes.clone().into_iter().zip(feeds).zip(inboxes) {
            tasks.spawn(work(Arc::clone(&context), Arc::clone(&scope), inbox, shutdown.clone()));
            tasks.spawn(watch(Arc::clone(&context), scope, feeds, Arc::clone(&trigger), Arc::clone(&shared)));
        }
        tasks.spawn(lead(Arc::clone(&context), Arc::clone(&trigger), Arc::clone(&shared), poll_interval));
        tasks.spawn(sweep(Arc::clone(&context), Arc::clone(&shared)));
        if let Some(election) = context.election.clone() {
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                let end = election.ended().await;
                if end == End::Drained && shutdown.is_cancelled() {
                    // In order; the rest is ended by the shutdown.
                    std::future::pending::<()>().await;
                }
                "election"
            });
        }

        tokio::select! {
            // First: on a shutdown the queues end as well, and that is no accident.
            biased;
            () = shutdown.cancelled() => {}
            ended = tasks.join_next() => {
                // A background task never ends by itself: without it the process would only look alive.
                let which = ended.and_then(Result::ok).unwrap_or("task");
                return Err(Ended::Task(which));
            }
        }
        info!("ending");
        if let Some(election) = &context.election {
            election.drain();
            let _ = tokio::time::timeout(Duration::from_secs(5), election.ended()).await;
        }
        tasks.shutdown().await;
        Ok(())
    }
}

/// Reconciles what is queued, each resource at most once at a time.
async fn work(
    context: Arc<Context>,
    scope: Arc<Scope>,
    inbox: mpsc::UnboundedReceiver<LeaseRef>,
    shutdown: CancellationToken,
) -> &'static str {
    let queue = futures::stream::unfold(inbox, |mut inbox| async move {
        inbox.recv().await.map(|lease| (Ok::<_, std::convert::Infallible>(lease), inbox))
    });
    let leases = scope.leases.clone();
    let results = applier(
        move |lease, context| reconcile(lease, Arc::clone(&scope), context).boxed(),
        |lease, error, context| on_error(&lease, error, &context),
        context,
        leases,
        queue.take_until(shutdown.cancelled_owned()).boxed(),
        controller::Config::default().concurrency(CONCURRENCY),
    );
    results
        .for_each(async |result| {
            if let Err(error) = result {
                // Said by `on_error` where it matters; a resource that is gone is none.
                debug!(%error, "a reconcile ended");
            }
        })
        .await;
    "queue"
}

async fn watch(
    context: Arc<Context>,
    scope: Arc<Scope>,
    feeds: Feeds,
    trigger: Arc<Trigger>,
    shared: Arc<Shared>,
) -> &'static str {
    let namespaces = Arc::clone(&scope);
    // Boxed for its size: three watches in one.
    Box::pin(scope.watch(feeds, |seen| match seen {
        Seen::Lease(lease) => {
            if let Ok(lease) = &lease.0
                && let Ok(desired) = context.desired(lease).as_ref()
            {
                context.rows.is_claimed(&desired.component);
            }
            trigger.lease(&namespaces, lease);
        }
        Seen::LeaseGone(lease) => {
            context.rows.claims_changed();
            trigger.contested(lease);
            context.forget(lease);
            // A claim that was refused left nothing behind, and may name somebody else's component.
            if let Some(component) = lease.0.as_ref().ok().and_then(|lease| context.component(lease)) {
                lock(&shared.gone).insert(component);
            }
            shared.sweep.notify_one();
        }
        Seen::Anew => {
            context.rows.claims_changed();
            trigger.forget_pods();
            trigger.scope(&namespaces);
            shared.sweep.notify_one();
        }
        Seen::Pod(pod) | Seen::PodGone(pod) => {
            let gone = matches!(seen, Seen::PodGone(_));
            if trigger.pod(&namespaces, pod, gone) {
                shared.sweep.notify_one();
            }
        }
        Seen::Service(service) => trigger.service(&namespaces, service),
    }))
    .await;
    "watch"
}

/// While this replica leads: looks at the database and acts on what it sees.
async fn lead(
    context: Arc<Context>,
    trigger: Arc<Trigger>,
    shared: Arc<Shared>,
    poll_interval: Duration,
) -> &'static str {
    let rows = Arc::clone(&context.rows);
    loop {
        let leadership = match &context.election {
            None => None,
            Some(election) => match election.lead().await {
                // Dropped at once: nothing has to be stopped before the Lease is released.
                Some(leadership) => Some(leadership.guard().clone()),
                None => std::future::pending().await,
            },
        };
        if leadership.is_some() {
            info!("this replica acts");
        }
        // The first look concerns everybody: before it there is nothing to go by.
        rows.start_afresh();
        shared.sweep.notify_one();
        let claims = || context.claims();
        let changed = |changed| match changed {
            Changed::Components(components) => {
                trigger.components(&components.iter().map(String::as_str).collect());
            }
            Changed::Everything => {
                trigger.everything();
                // What the database could not be told may be told now.
                shared.sweep.notify_one();
            }
        };
        let may_write = |database: Option<&str>| context.may_write_to(database);
        let led = rows.poll(poll_interval, &context.metrics, claims, changed, may_write);
        let lost = async {
            match &leadership {
                None => std::future::pending().await,
                Some(guard) => {
                    while guard.is_valid() {
                        tokio::time::sleep(guard.valid_for().min(Duration::from_secs(1))).await;
                    }
                }
            }
        };
        let heartbeat = async {
            loop {
                *lock(&shared.beat) = rows.last_look();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = led => return "database loop",
            () = heartbeat => {}
            () = lost => warn!("another replica acts"),
        }
    }
}

async fn sweep(context: Arc<Context>, shared: Arc<Shared>) -> &'static str {
    // Components that no resource claims any more.
    let mut gone = BTreeSet::new();
    let mut pruned = None;
    loop {
        let _ = tokio::time::timeout(SWEEP_AGAIN, shared.sweep.notified()).await;
        let database = context.rows.database();
        if !context.acts() || !context.may_write_to(database.as_deref()) {
            continue;
        }
        gone.append(&mut *lock(&shared.gone));
        pruned = instances::prune(&context, pruned).await;
        for scope in context.scopes.iter().filter(|scope| scope.filled()) {
            context.metrics.swept();
            // Who was deleted while nobody watched is known by the marks that are left. They tell the
            // resource's name, and with it the component unless the resource said otherwise.
            gone.extend(
                sweep::sweep(&context.client, scope, &context.announcer, &context.allowed_prefixes).await,
            );
        }
        gone = sweep::intents(&context, gone).await;
    }
}

/// What probes ask.
#[derive(Clone)]
pub struct Probe {
    context: Arc<Context>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

impl Probe {
    /// Dead is a process whose loops have stopped turning; a database or an API server that is
    /// away does not make it so, and a restart would not bring them back.
    pub fn live(&self) -> Result<(), String> {
        let now = self.context.clock.boot();
        let late = |beat: Moment| now.saturating_sub(beat) > DEAD_AFTER;
        if let Some(election) = &self.context.election
            && late(election.last_beat())
        {
            return Err("the election among the replicas has stopped".to_owned());
        }
        if self.context.acts() {
            let looked = self.context.rows.last_look();
            let beat = *lock(&self.shared.beat);
            // Whoever has just begun to act has not looked yet.
            if looked > Moment::ZERO && late(looked.max(beat)) {
                return Err("the database has not been asked for a minute".to_owned());
            }
        }
        Ok(())
    }

    /// Ready once the caches are filled; a replica that does not act is ready too.
    pub fn ready(&self) -> Result<(), String> {
        if self.context.scopes.iter().all(|scope| scope.filled()) {
            return Ok(());
        }
        let troubles: Vec<String> = self.context.scopes.iter().flat_map(|scope| scope.troubles()).collect();
        if troubles.is_empty() {
            Err("the caches are not filled yet".to_owned())
        } else {
            Err(troubles.join("; "))
        }
    }
}
