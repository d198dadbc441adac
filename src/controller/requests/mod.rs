//! Requests of operators ([`LeaseRequest`]): carried out once each, whatever is killed meanwhile.
//!
//! ```text
//! Pending               plan it on a fresh look             or refuse it
//! Pending, observed     the plan is in the status, then it is written into the database
//! Accepted              it stands there: follow the row     until it is over, or take it back
//! final                 delete it in time
//! ```
//! The id in the database has the object's UID, and a request is bound to the version of the row that it was planned
//! against. That version is in the status before anything is asked. So a controller that goes on from a status never
//! asks in another term.

mod asked;
mod carry_out;
mod check;
mod follow;
mod forgotten;
mod looks;
mod say;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::api::{DeleteParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, applier, controller, reflector as reflect};
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::acting::Acting;
use super::announcer::name_of;
use super::caches::{self, REQUESTS, Scope};
use super::error::{chain, text};
use super::handles::Handles;
use super::retry::Retry;
use crate::api::{LeaseRequest, LeaseRequestStatus};
use crate::election::{ComponentName, Moment};
use asked::CALL_LIMIT;
use looks::Looks;

/// So many requests of a namespace may be unfinished; more are refused.
pub(super) const UNFINISHED_MAX: usize = 100;
/// Requests that are carried on at the same time.
const CONCURRENCY: u16 = 16;
/// A request that could not be asked for so long is not asked any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the database is asked while it does not answer, and a row is looked at although nothing told of a change.
const AGAIN: Duration = Duration::from_secs(1);
/// A finished request stays for at least so many seconds: its client may not watch it yet.
const READABLE: i64 = 5;
/// So many deleted requests are remembered that could not be taken back.
const FORSAKEN_MAX: usize = 1_000;
/// How long to wait for what a watch is about to show.
const SOON: Duration = Duration::from_millis(100);

/// A request that may be unreadable: one among many must not stop the others.
type Guarded = DeserializeGuard<LeaseRequest>;
type RequestRef = ObjectRef<Guarded>;

/// Why a request is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the status of the request could not be written")]
    Status(#[source] kube::Error),
    #[error("the request could not be read again")]
    Read(#[source] kube::Error),
    #[error("the ComponentLease could not be read")]
    Lease(#[source] kube::Error),
    #[error("the finished request could not be deleted")]
    Delete(#[source] kube::Error),
}

/// What this process knows of one request beyond what the watch shows.
#[derive(Debug, Clone)]
struct Known {
    request: RequestRef,
    first_seen: Moment,
    /// As it was last written or read, until the watch has caught up.
    newest: Option<LeaseRequest>,
    /// It may stand in the database under this id, and is not over.
    asked: Option<(ComponentName, String)>,
    /// When it was written there, by this process.
    accepted: Option<Moment>,
    /// When its component changed last, or the look was begun by which it was judged last: the next one is later.
    seen: Moment,
    /// More time was given because the database has changed.
    extended: bool,
}

/// The requests of one watched namespace, or of all.
struct Watched {
    scope: Arc<Scope>,
    store: Store<Guarded>,
    queue: mpsc::UnboundedSender<RequestRef>,
    /// By UID.
    known: Mutex<HashMap<String, Known>>,
    /// Requests that were deleted before they were over: component and id.
    forsaken: mpsc::UnboundedSender<(ComponentName, String)>,
}

impl Watched {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, request: RequestRef) {
        // Fails only while everything is ending.
        let _ = self.queue.send(request);
    }

    fn queue_all(&self) {
        for request in self.store.state() {
            self.queue(RequestRef::from_obj(request.as_ref()));
        }
    }

    fn with<T>(&self, request: &LeaseRequest, now: Moment, then: impl FnOnce(&mut Known) -> T) -> T {
        let new = || Known {
            request: RequestRef::new(&request.name_any()).within(&request.namespace().unwrap_or_default()),
            first_seen: now,
            newest: None,
            asked: None,
            accepted: None,
            seen: now,
            extended: false,
        };
        then(self.known().entry(request.uid().unwrap_or_default()).or_insert_with(new))
    }

    /// The request as it is known to be: a status of ours may be ahead of what the watch shows.
    fn newest(&self, shown: &LeaseRequest, now: Moment) -> LeaseRequest {
        let number = |request: &LeaseRequest| request.resource_version().and_then(|v| v.parse::<u64>().ok());
        self.with(shown, now, |known| {
            known.newest.take_if(|newest| number(newest) <= number(shown));
            known.newest.clone().unwrap_or_else(|| shown.clone())
        })
    }

    fn is_over(&self, request: &LeaseRequest) {
        if let Some(known) = self.known().get_mut(&request.uid().unwrap_or_default()) {
            (known.asked, known.accepted) = (None, None);
        }
    }

    /// An object was deleted. What it may have asked, and is not over, is taken back.
    fn gone(&self, uid: &str) {
        let known = self.known().remove(uid);
        if let Some(asked) = known.and_then(|known| known.asked) {
            let _ = self.forsaken.send(asked);
        }
    }

    /// All were listed anew. What was deleted meanwhile was not told.
    fn listed(&self) {
        let exist: HashSet<_> = self.store.state().iter().filter_map(|request| request.uid()).collect();
        let gone: Vec<_> = self.known().keys().filter(|uid| !exist.contains(*uid)).cloned().collect();
        for uid in &gone {
            self.gone(uid);
        }
        self.queue_all();
    }
}

/// All requests.
pub(super) struct Requests {
    watched: Arc<[Arc<Watched>]>,
    /// Whether an admission policy checks who asks.
    verified: bool,
}

/// What its tasks need.
pub(super) struct Feeds {
    each: Vec<(reflector::store::Writer<Guarded>, mpsc::UnboundedReceiver<RequestRef>)>,
    forsaken: mpsc::UnboundedReceiver<(ComponentName, String)>,
}

impl Requests {
    pub(super) fn new(scopes: &[Arc<Scope>], verified: bool) -> (Self, Feeds) {
        let (sender, forsaken) = mpsc::unbounded_channel();
        let one = |scope: &Arc<Scope>| {
            let (store, writer) = reflector::store();
            let (queue, inbox) = mpsc::unbounded_channel();
            let (scope, known, forsaken) = (Arc::clone(scope), Mutex::default(), sender.clone());
            (Arc::new(Watched { scope, store, queue, known, forsaken }), (writer, inbox))
        };
        let (watched, each): (Vec<_>, _) = scopes.iter().map(one).unzip();
        (Self { watched: watched.into(), verified }, Feeds { each, forsaken })
    }

    /// Something about these components has changed.
    pub(super) fn concerned(&self, components: &[String], now: Moment) {
        for watched in self.watched.iter() {
            for known in watched.known().values_mut() {
                let asked = known.asked.as_ref();
                if asked.is_some_and(|(asked, _)| components.iter().any(|changed| changed == asked.as_str()))
                {
                    known.seen = now;
                    watched.queue(known.request.clone());
                }
            }
        }
    }

    /// Each is to be looked at.
    pub(super) fn everything(&self) {
        self.watched.iter().for_each(|watched| watched.queue_all());
    }

    /// The tasks that carry requests out; each ends only when everything does.
    pub(super) fn tasks(
        &self,
        acting: &Acting,
        handles: &Arc<Handles>,
        feeds: Feeds,
        shutdown: &CancellationToken,
    ) -> Vec<futures::future::BoxFuture<'static, &'static str>> {
        let mut all = Vec::new();
        let looks = Arc::new(Looks::default());
        for (watched, (writer, inbox)) in self.watched.iter().zip(feeds.each) {
            all.push(watch(Arc::clone(handles), Arc::clone(watched), writer).boxed());
            let worker = Worker {
                acting: acting.clone(),
                handles: Arc::clone(handles),
                watched: Arc::clone(watched),
                all: Arc::clone(&self.watched),
                looks: Arc::clone(&looks),
                verified: self.verified,
            };
            all.push(work(worker, inbox, shutdown.clone()).boxed());
        }
        all.push(take_back(acting.clone(), Arc::clone(handles), feeds.forsaken).boxed());
        all
    }
}

/// What each call has at hand.
struct Worker {
    acting: Acting,
    handles: Arc<Handles>,
    watched: Arc<Watched>,
    /// Also those of other namespaces.
    all: Arc<[Arc<Watched>]>,
    looks: Arc<Looks>,
    verified: bool,
}

async fn watch(
    handles: Arc<Handles>,
    watched: Arc<Watched>,
    writer: reflector::store::Writer<Guarded>,
) -> &'static str {
    let client = &handles.cluster.client;
    let events = caches::events(caches::api::<Guarded>(client, watched.scope.namespace()));
    let slim = |request: &mut Guarded| {
        request.managed_fields_mut().clear();
        request.annotations_mut().clear();
    };
    let on = |event: &Event<Guarded>| match event {
        Event::Apply(request) => watched.queue(RequestRef::from_obj(request)),
        Event::Delete(request) => watched.gone(&request.uid().unwrap_or_default()),
        Event::InitDone => watched.listed(),
        Event::Init | Event::InitApply(_) => {}
    };
    let events = reflect(writer, events.modify(slim));
    watched.scope.watch_kind(REQUESTS, events, on, || {}).await;
    "watch of requests"
}

/// Carries out what is queued, each request at most once at a time.
async fn work(
    worker: Worker,
    inbox: mpsc::UnboundedReceiver<RequestRef>,
    shutdown: CancellationToken,
) -> &'static str {
    let queue = futures::stream::unfold(inbox, |mut inbox| async move {
        inbox.recv().await.map(|request| (Ok::<_, std::convert::Infallible>(request), inbox))
    });
    let store = worker.watched.store.clone();
    let retry = Arc::new(Retry::default());
    let (succeeded, failed) = (Arc::clone(&retry), retry);
    let results = applier(
        move |request, worker: Arc<Worker>| {
            let retry = Arc::clone(&succeeded);
            async move {
                let outcome = worker.reconcile(&request).await;
                if outcome.is_ok() {
                    retry.succeeded(&name_of(request.as_ref()));
                }
                outcome
            }
            .boxed()
        },
        move |request: Arc<Guarded>, error: &Error, _| {
            let object = name_of(request.as_ref());
            let wait = failed.after_failure(&object, fastrand::f64());
            warn!(object, error = chain(error), retry_in = ?wait, "a request could not be carried on");
            Action::requeue(wait)
        },
        Arc::new(worker),
        store,
        queue.take_until(shutdown.cancelled_owned()).boxed(),
        controller::Config::default().concurrency(CONCURRENCY),
    );
    results
        .for_each(async |result| {
            if let Err(error) = result {
                debug!(%error, "the task of a request ended");
            }
        })
        .await;
    "queue of requests"
}

/// Takes back what was asked by requests that are gone.
async fn take_back(
    acting: Acting,
    handles: Arc<Handles>,
    mut forsaken: mpsc::UnboundedReceiver<(ComponentName, String)>,
) -> &'static str {
    let mut again: VecDeque<(ComponentName, String)> = VecDeque::new();
    loop {
        // What could not be taken back is tried again, after what is new.
        let next = match tokio::time::timeout(AGAIN, forsaken.recv()).await {
            Ok(Some(new)) => Some(new),
            Ok(None) => break,
            Err(_) => again.pop_front(),
        };
        let Some((component, id)) = next.filter(|_| acting.acts()) else { continue };
        let withdrawn = tokio::time::timeout(CALL_LIMIT, handles.database.store().withdraw(&component, &id));
        let failure = match withdrawn.await {
            Ok(Ok(_)) => {
                info!(%component, id, "a request was deleted before it was over, and was taken back");
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CALL_LIMIT:?}"),
        };
        warn!(%component, id, error = failure, "a request was deleted, but could not be taken back; trying again");
        again.push_back((component, id));
        if again.len() > FORSAKEN_MAX {
            again.pop_front();
        }
    }
    "end of forsaken requests"
}

fn status(request: &LeaseRequest) -> LeaseRequestStatus {
    request.status.clone().unwrap_or_default()
}

impl Worker {
    async fn reconcile(&self, shown: &Guarded) -> Result<Action, Error> {
        let Self { acting, handles, .. } = self;
        let namespace = shown.namespace().unwrap_or_default();
        if !acting.acts() || handles.cluster.lookout.leaves(&namespace) {
            return Ok(Action::await_change());
        }
        let shown = match &shown.0 {
            Ok(shown) => shown,
            Err(unreadable) => {
                let (object, error) = (name_of(shown), &unreadable.error);
                warn!(object, error, "the request is not one that this version can read; delete it");
                return Ok(Action::await_change());
            }
        };
        if shown.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let request = self.watched.newest(shown, handles.database.clock.boot());
        let (state, observed) = {
            let status = status(&request);
            (status.state, status.observed)
        };
        if state.is_final() {
            self.watched.is_over(&request);
            return self.tidy(&request).await;
        }
        Box::pin(self.carry_out(request, observed)).await
    }

    /// Deletes what has been over for long enough.
    async fn tidy(&self, request: &LeaseRequest) -> Result<Action, Error> {
        let clock = &self.handles.database.clock;
        let finished: Option<jiff::Timestamp> = status(request).finished_at.and_then(|at| at.parse().ok());
        let Some(finished) = finished else { return Ok(Action::await_change()) };
        let kept = i64::from(request.spec.ttl_seconds_after_finished).max(READABLE).saturating_mul(1000);
        let left = finished.as_millisecond().saturating_add(kept).saturating_sub(clock.wall_ms());
        if let Ok(left @ 1..) = u64::try_from(left) {
            return Ok(Action::requeue(Duration::from_millis(left)));
        }
        let same = Preconditions { uid: request.uid(), resource_version: request.resource_version() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match self.api(request).delete(&request.name_any(), &params).await {
            Ok(_) => {
                debug!(object = name_of(request), "deleted a request that was over");
                Ok(Action::await_change())
            }
            // Gone, or changed: then its watch event brings it here again.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Action::requeue(AGAIN)),
            Err(error) => Err(Error::Delete(error)),
        }
    }

    fn api(&self, request: &LeaseRequest) -> Api<LeaseRequest> {
        let client = self.handles.cluster.client.clone();
        Api::namespaced(client, &request.namespace().unwrap_or_default())
    }

    /// After a write that found another state than it went by.
    async fn read_again(&self, request: &LeaseRequest) -> Result<Action, Error> {
        let now = self.handles.database.clock.boot();
        let uid = request.uid().unwrap_or_default();
        match self.api(request).get_opt(&request.name_any()).await {
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(uid.as_str()) => {
                self.watched.with(request, now, |known| known.newest = Some(found));
                Ok(Action::requeue(SOON))
            }
            Ok(_) => {
                self.watched.gone(&uid);
                Ok(Action::await_change())
            }
            Err(error) => {
                debug!(object = name_of(request), error = text(&error), "reading again failed");
                Err(Error::Read(error))
            }
        }
    }
}
