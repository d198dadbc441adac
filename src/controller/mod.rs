//! Reconciles `ComponentLease` resources with the rows of one database.
//!
//! ```text
//! caches    ── what Kubernetes shows: watches           [`caches`], [`cluster`]
//! database  ── what the database shows: one poll for all [`database`], [`rows`]
//!    │ a change queues the resources that it concerns    [`queue`]
//!    ▼
//! reconcile: observe -> decide (pure) -> apply -> report [`reconcile`], [`announcer`]
//! databases: LeaseDatabases, whose rows are Leases      [`databases`]
//! sweep: what is left of resources that are gone         [`sweep`], what nobody needs any more [`pruning`]
//! requests: what operators ask of leaders                [`requests`]
//! ```
//! Of several replicas the one that leads by a Kubernetes Lease acts (`acting`), and of several releases of one class
//! that watch the same namespaces the oldest ([`lookout`], [`releases`]).

mod acting;
mod announcer;
mod behind;
mod caches;
mod claims;
mod cluster;
pub mod command;
mod database;
mod databases;
mod endings;
mod endpoints;
mod error;
mod exposition;
mod handles;
mod handover;
mod index;
mod instances;
mod lookout;
mod metrics;
mod nodes;
mod pods;
mod pruning;
mod queue;
mod reconcile;
mod releases;
mod requests;
mod resources;
mod retry;
mod rows;
mod services;
mod serving;
mod sweep;
mod troubles;
mod turns;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::controller::Action;
use kube::runtime::events::Reporter;
use kube::runtime::{applier, controller};
use kube::{Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::election::{ComponentName, Moment};
use crate::membership::namespace::{Grant, Grants};
use crate::participant::BuildError;
use crate::store::{Directory, Retention};
use acting::Acting;
use announcer::{Announcer, name_of};
use caches::{Feeds, Lease, LeaseRef, Scope, Seen};
use cluster::{Cluster, Rules};
use database::Database;
use databases::Databases;
use handles::Handles;
use lookout::{Lookout, OwnLease};
use metrics::Metrics;
use pruning::Pruning;
use queue::Queue;
use reconcile::reconcile;
use requests::Requests;
use retry::Retry;
use rows::Changed;

/// Reconciles that have begun and not ended. Most of them wait for their [turns](turns).
const CONCURRENCY: u16 = 512;
/// Without a heartbeat of the database loop for this long, the process is called dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// A sweep that met a failure or a change is repeated at the latest after this.
const SWEEP_AGAIN: Duration = Duration::from_secs(60);
/// How often requests are looked for whose objects are gone.
const FORGOTTEN_AGAIN: Duration = Duration::from_secs(5);

/// How the controller is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Resources of other classes are left alone.
    pub class: String,
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
    /// How much of each component's history is kept.
    pub history: Retention,
    /// Whether an admission policy checks `spec.requestedBy` of requests.
    pub requesters_verified: bool,
    /// Whether it may watch nodes, and so knows which are cordoned.
    pub watch_nodes: bool,
    /// What it measures time by.
    pub clock: Arc<dyn Clock>,
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
    tasks: Tasks,
    feeds: Vec<Feeds>,
    poll_interval: Duration,
    history: Retention,
    requesters_verified: bool,
    watch_nodes: bool,
}

/// What the tasks of the controller share.
#[derive(Clone)]
struct Tasks {
    acting: Acting,
    handles: Arc<Handles>,
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
        store: Arc<dyn Directory>,
        registry: &mut Registry,
    ) -> Result<Self, Ended> {
        let Config {
            class,
            namespaces,
            poll_interval,
            max_ttl,
            allowed_label_prefixes,
            allowed_components,
            accept_database,
            history,
            requesters_verified,
            watch_nodes,
            clock,
            election,
            identity,
            origin,
        } = config;
        let grants = Grants::new(namespaces.iter().map(String::as_str), allowed_components);
        let own = election.as_ref().map(|ElectionConfig { namespace, name }| OwnLease {
            client: client.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            clock: Arc::clone(&clock),
        });
        let lookout = Arc::new(Lookout::new(class, namespaces.clone(), own));
        let acting = match election {
            None => Acting::alone(Arc::clone(&lookout)),
            Some(ElectionConfig { namespace, name }) => {
                let name = ComponentName::new(name).map_err(Ended::ElectionName)?;
                let lookout = Arc::clone(&lookout);
                Acting::elected(&client, &namespace, name, &identity, origin.as_deref(), &clock, lookout)
                    .map_err(Ended::Election)?
            }
        };
        let (scopes, feeds) = if namespaces.is_empty() {
            let (scope, feed) = Scope::new(&client, None);
            (vec![Arc::new(scope)], vec![feed])
        } else {
            let scopes = namespaces.iter().map(|namespace| Scope::new(&client, Some(namespace)));
            scopes.map(|(scope, feed)| (Arc::new(scope), feed)).unzip()
        };
        let metrics = Metrics::default();
        metrics.register(registry);
        let reporter =
            Reporter { controller: "component-lease-controller".to_owned(), instance: Some(identity) };
        let announcer = Announcer::new(client.clone(), reporter, Arc::clone(&clock), metrics);
        let rules = Rules { allowed_prefixes: allowed_label_prefixes, grants, accept_database };
        let shared = Shared { sweep: Notify::new(), gone: Mutex::default(), beat: Mutex::new(clock.boot()) };
        let handles = Handles {
            database: Arc::new(Database::new(store, clock, max_ttl)),
            cluster: Arc::new(Cluster::new(client, scopes, rules, lookout)),
            announcer: Arc::new(announcer),
        };
        exposition::register(registry, &acting, &handles);
        let tasks = Tasks { acting, handles: Arc::new(handles), shared: Arc::new(shared) };
        Ok(Self { tasks, feeds, poll_interval, history, requesters_verified, watch_nodes })
    }

    /// What probes may ask, also while the controller runs.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe(self.tasks.clone())
    }

    /// Runs until the token is cancelled, then ends in order: no new work, the Lease released.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Ended> {
        let Self { tasks, feeds, poll_interval, history, requesters_verified, watch_nodes } = self;
        let mut running = JoinSet::new();
        let (queues, inboxes): (Vec<_>, Vec<_>) = feeds.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let cluster = Arc::clone(&tasks.handles.cluster);
        let (databases, of_databases) = Databases::new(&cluster.scopes);
        let queue = Arc::new(Queue::new(Arc::clone(&cluster), queues, databases.clone()));

        for ((scope, feeds), inbox) in cluster.scopes.iter().zip(feeds).zip(inboxes) {
            running.spawn(work(tasks.clone(), Arc::clone(scope), inbox, shutdown.clone()));
            running.spawn(watch(tasks.clone(), Arc::clone(scope), feeds, Arc::clone(&queue)));
        }
        if watch_nodes {
            running.spawn(watch_nodes_for(Arc::clone(&cluster), Arc::clone(&queue)));
        }
        let (requests, feeds) = Requests::new(&cluster.scopes, requesters_verified);
        for task in requests.tasks(&tasks.acting, &tasks.handles, feeds, &shutdown) {
            running.spawn(task);
        }
        let requests = Arc::new(requests);
        let (shared, (acting, handles)) = (Arc::clone(&tasks.shared), (&tasks.acting, &tasks.handles));
        let sweep_soon = move || shared.sweep.notify_one();
        for task in databases.tasks(acting, handles, of_databases, &shutdown, sweep_soon) {
            running.spawn(task);
        }
        running.spawn(lead(tasks.clone(), queue, Arc::clone(&requests), poll_interval));
        running.spawn(sweep(tasks.clone(), Pruning::new(history), requests));
        running.spawn(try_database(tasks.clone()));
        let (acting, stop) = (tasks.acting.clone(), shutdown.clone());
        running.spawn(async move {
            acting.ended(&stop).await;
            "election"
        });

        tokio::select! {
            // First: on a shutdown the queues end as well, and that is no accident.
            biased;
            () = shutdown.cancelled() => {}
            ended = running.join_next() => {
                // A background task never ends by itself: without it the process would only look alive.
                let which = ended.and_then(Result::ok).unwrap_or("task");
                return Err(Ended::Task(which));
            }
        }
        info!("ending");
        tasks.acting.release().await;
        running.shutdown().await;
        Ok(())
    }
}

/// Reconciles what is queued, each resource at most once at a time.
async fn work(
    tasks: Tasks,
    scope: Arc<Scope>,
    inbox: mpsc::UnboundedReceiver<LeaseRef>,
    shutdown: CancellationToken,
) -> &'static str {
    let queue = futures::stream::unfold(inbox, |mut inbox| async move {
        inbox.recv().await.map(|lease| (Ok::<_, std::convert::Infallible>(lease), inbox))
    });
    let leases = scope.leases.clone();
    let worker = Arc::new(Worker { tasks, scope, retry: Retry::default() });
    let results = applier(
        |lease, worker: Arc<Worker>| async move { worker.reconcile(&lease).await }.boxed(),
        |lease, error, worker| worker.on_error(&lease, error),
        worker,
        leases,
        queue.take_until(shutdown.cancelled_owned()).boxed(),
        controller::Config::default().concurrency(CONCURRENCY),
    );
    results
        .for_each(async |result| {
            if let Err(error) = result {
                // `on_error` says it where it matters. A resource that is gone is not an error.
                debug!(%error, "a reconcile task ended");
            }
        })
        .await;
    "queue"
}

struct Worker {
    tasks: Tasks,
    scope: Arc<Scope>,
    retry: Retry,
}

impl Worker {
    async fn reconcile(&self, lease: &Lease) -> Result<Action, reconcile::Error> {
        let Tasks { acting, handles, .. } = &self.tasks;
        if !acting.acts() || !handles.cluster.looks_after(lease) {
            return Ok(Action::await_change());
        }
        let begun = handles.database.clock.boot();
        let outcome = reconcile(lease, &self.scope, handles).await;
        let took = handles.database.clock.boot().saturating_sub(begun);
        handles.announcer.metrics.reconciled(outcome.as_ref().err().map(reconcile::Error::kind), took);
        if outcome.is_ok() {
            self.retry.succeeded(&name_of(lease));
        }
        outcome
    }

    fn on_error(&self, lease: &Lease, error: &reconcile::Error) -> Action {
        let name = name_of(lease);
        let wait = self.retry.after_failure(&name, fastrand::f64());
        let chain = error::chain(error);
        warn!(object = name, error = chain, retry_in = ?wait, "reconcile failed");
        Action::requeue(wait)
    }
}

async fn watch(tasks: Tasks, scope: Arc<Scope>, feeds: Feeds, queue: Arc<Queue>) -> &'static str {
    let Tasks { handles, shared, .. } = tasks;
    let Handles { database, cluster, announcer } = handles.as_ref();
    let watched = Arc::clone(&scope);
    // Boxed for its size: four watches in one.
    Box::pin(scope.watch(feeds, |seen| match seen {
        Seen::Lease(lease) => {
            if cluster.looks_after(lease)
                && let Ok(lease) = &lease.0
                && let Ok(desired) = cluster.desired(lease).as_ref()
            {
                database.is_claimed(&desired.component);
            }
            queue.lease(&watched, lease);
        }
        Seen::LeaseGone(lease) => {
            database.claims_changed();
            queue.contested(lease);
            cluster.forget(lease);
            announcer.forget(&lease.uid().unwrap_or_default());
            announcer.metrics.resources.forget(lease);
            // A claim that was refused left nothing behind, and may name somebody else's component.
            // A replica that stands by remembers it, too: the one that acts may end before it is done.
            let ours = lease.0.as_ref().ok().filter(|lease| cluster.is_of_our_class(lease));
            if let Some(component) = ours.and_then(|lease| cluster.component(lease)) {
                lock(&shared.gone).insert(component);
            }
            shared.sweep.notify_one();
        }
        Seen::Anew => {
            database.claims_changed();
            queue.scope(&watched);
            shared.sweep.notify_one();
        }
        Seen::Pod(pod, ref before) | Seen::PodGone(pod, ref before) => {
            let gone = matches!(seen, Seen::PodGone(..));
            if queue.pod(&watched, pod, before.as_deref(), gone) {
                shared.sweep.notify_one();
            }
        }
        Seen::Service(service) => queue.service(&watched, service),
        Seen::Endpoints { namespace, service } => queue.endpoints(&watched, namespace, service),
    }))
    .await;
    "watch"
}

async fn watch_nodes_for(cluster: Arc<Cluster>, queue: Arc<Queue>) -> &'static str {
    let Some(scope) = cluster.scopes.first() else { return std::future::pending().await };
    nodes::watch(&cluster.nodes, cluster.client.clone(), scope, |node| queue.node(node)).await;
    "watch of nodes"
}

/// While this replica leads: looks at the database and acts on what it sees.
async fn lead(
    tasks: Tasks,
    queue: Arc<Queue>,
    requests: Arc<Requests>,
    poll_interval: Duration,
) -> &'static str {
    let Tasks { acting, handles, shared } = tasks;
    let Handles { database, cluster, announcer } = handles.as_ref();
    loop {
        let term = acting.begun().await;
        // The first look concerns everybody: before it there is nothing to go by.
        database.start_afresh();
        announcer.metrics.resources.forget_all();
        cluster.changes.forget_all();
        shared.sweep.notify_one();
        let changed = |changed| match changed {
            Changed::Components(components) => {
                // First: an operator waits for them.
                requests.concerned(&components, database.clock.boot());
                queue.components(&components.iter().map(String::as_str).collect());
            }
            Changed::Everything => {
                requests.everything();
                queue.everything();
                // What the database could not be told may be told now.
                shared.sweep.notify_one();
            }
        };
        let may_write = |now: Option<&str>| acting.acts() && cluster.may_write_to(now);
        let others = || {
            database.claims_changed();
            requests.everything();
            queue.everything();
            shared.sweep.notify_one();
        };
        let led = database.poll(poll_interval, &announcer.metrics, || cluster.claims(), changed, may_write);
        let heartbeat = async {
            loop {
                *lock(&shared.beat) = database.last_look();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = led => return "database loop",
            () = heartbeat => {}
            () = cluster.lookout.watch(others) => {}
            () = acting::lost(term.as_ref()) => warn!("another replica has become the acting one"),
        }
        cluster.lookout.forget();
    }
}

/// Until the database could be used once. While this replica acts, its polls find that out.
async fn try_database(tasks: Tasks) -> &'static str {
    let Tasks { acting, handles, .. } = tasks;
    while handles.database.usable().is_err() {
        if !acting.acts() {
            handles.database.try_out().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    std::future::pending().await
}

async fn sweep(tasks: Tasks, mut pruning: Pruning, requests: Arc<Requests>) -> &'static str {
    let Tasks { acting, handles, shared } = tasks;
    let Handles { database, cluster, announcer } = handles.as_ref();
    // Components that no resource claims any more.
    let mut gone = BTreeSet::new();
    let mut swept = Instant::now();
    loop {
        let asked = tokio::time::timeout(FORGOTTEN_AGAIN, shared.sweep.notified()).await.is_ok();
        let due = asked || swept.elapsed() >= SWEEP_AGAIN;
        let now = database.known().database();
        if !acting.acts() || !cluster.may_write_to(now.as_deref()) {
            continue;
        }
        // Costs a look at what is in memory. A request shows only once the database was asked for its component.
        requests.take_back_forgotten(&handles).await;
        if !due {
            continue;
        }
        swept = Instant::now();
        gone.append(&mut *lock(&shared.gone));
        pruning.turn(database).await;
        for scope in cluster.scopes.iter().filter(|scope| scope.filled()) {
            announcer.metrics.swept();
            // What was deleted while nobody watched is known by the marks that are left. They tell the
            // resource's name, and with it the component unless the resource said otherwise.
            gone.extend(sweep::sweep(scope, cluster).await);
        }
        gone = sweep::intents(database, cluster, gone).await;
    }
}

/// What probes ask.
#[derive(Clone)]
pub struct Probe(Tasks);

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

impl Probe {
    /// Dead is a process whose loops have stopped turning; a database or an API server that is
    /// away does not make it so, and a restart would not bring them back.
    pub fn live(&self) -> Result<(), String> {
        let Tasks { acting, handles, shared } = &self.0;
        let now = handles.database.clock.boot();
        let late = |beat: Moment| now.saturating_sub(beat) > DEAD_AFTER;
        if acting.heartbeat_age().is_some_and(|age| age > DEAD_AFTER) {
            return Err("the election among the replicas has stopped".to_owned());
        }
        if acting.acts() {
            let looked = handles.database.last_look();
            let beat = *lock(&shared.beat);
            // A replica that has just begun to act has not looked yet.
            if looked > Moment::ZERO && late(looked.max(beat)) {
                return Err("the database has not been asked for a minute".to_owned());
            }
        }
        Ok(())
    }

    /// Ready once the caches are filled and the database could be used: so an installation with a database that
    /// cannot be used never becomes ready. A replica that stands by is ready too, and one whose database is away later.
    pub fn ready(&self) -> Result<(), String> {
        let Handles { cluster, database, .. } = self.0.handles.as_ref();
        if cluster.filled() {
            return database.usable();
        }
        let troubles: Vec<String> = cluster.scopes.iter().flat_map(|scope| scope.troubles.texts()).collect();
        if troubles.is_empty() {
            Err("the caches are not filled yet".to_owned())
        } else {
            Err(troubles.join("; "))
        }
    }
}
