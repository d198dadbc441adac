//! Reconciles `LeaseDatabase` resources with the Leases by which members of databases elect their primary.
//!
//! ```text
//! leases    the Lease, its record and what members report      [`leases`]
//! observe   these, the pods and the Services                   [`observe`]
//! decide    as for a ComponentLease: the row is the Lease      [`crate::routing::decide`]
//! apply     strip, stamp, label, Services                      [`super::reconcile::apply`]
//! report    the status and Events                              [`report`], [`say`]
//! ```
//! Nothing here writes a Lease. Who is promoted is the members' business ([`crate::primary`]), also while no controller runs.

pub(super) mod gauges;
mod leases;
mod namespaces;
mod observe;
mod pass;
mod readiness;
mod report;
mod say;
mod watched;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::controller::Action;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, applier, controller, reflector as reflect};
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::acting::Acting;
use super::announcer::name_of;
use super::caches::{self, DATABASES, Database, DatabaseRef, MEMBERS, Scope};
use super::error::chain;
use super::handles::Handles;
use super::retry::Retry;
use crate::routing::pod::{Marks, Pod};
use leases::Shown;
use namespaces::{Ended, Tasks};
use pass::Worker;
use watched::Watched;

/// Databases that are looked after at the same time. Most of them wait for their [turns](super::turns).
const CONCURRENCY: u16 = 64;

/// All databases.
#[derive(Clone)]
pub(super) struct Databases(Arc<[Arc<Watched>]>);

/// What its tasks need.
pub(super) struct Inboxes(Vec<mpsc::UnboundedReceiver<DatabaseRef>>);

impl Databases {
    pub(super) fn new(scopes: &[Arc<Scope>]) -> (Self, Inboxes) {
        let one = |scope: &Arc<Scope>| {
            let (queue, inbox) = mpsc::unbounded_channel();
            (Arc::new(Watched::new(Arc::clone(scope), queue)), inbox)
        };
        let (watched, inboxes): (Vec<_>, Vec<_>) = scopes.iter().map(one).unzip();
        (Self(watched.into()), Inboxes(inboxes))
    }

    fn of(&self, scope: &Arc<Scope>) -> Option<&Arc<Watched>> {
        self.0.iter().find(|watched| Arc::ptr_eq(&watched.scope, scope))
    }

    pub(super) fn everything(&self) {
        self.0.iter().for_each(|watched| watched.everything());
    }

    /// A kind was listed anew.
    pub(super) fn scope(&self, scope: &Arc<Scope>) {
        self.of(scope).iter().for_each(|watched| watched.everything());
    }

    /// A pod has changed, is new or is gone.
    pub(super) fn pod(&self, scope: &Arc<Scope>, namespace: &str, before: Option<&Pod>, after: &Pod) {
        let Some(watched) = self.of(scope) else { return };
        let same = |pod: &Pod| Pod { resource_version: String::new(), ..pod.clone() };
        if before.is_some_and(|before| same(before) == same(after)) {
            return;
        }
        watched.queue_where(namespace, |desired| {
            let stamp = Marks::of(&desired.writer.name).version;
            let concerns = |pod: &Pod| {
                desired.writer.selector.matches(&pod.labels)
                    || pod.annotations.contains_key(&stamp)
                    || pod.labels.contains_key(&desired.writer.labels.key)
            };
            concerns(after) || before.is_some_and(concerns)
        });
    }

    /// A Service, or its endpoints, have changed.
    pub(super) fn service(&self, scope: &Arc<Scope>, namespace: &str, name: &str) {
        if let Some(watched) = self.of(scope) {
            watched.queue_where(namespace, |desired| desired.names(name));
        }
    }

    /// The tasks that look after databases; each ends only when everything does. `sweep` has marks swept of what is gone.
    pub(super) fn tasks(
        &self,
        acting: &Acting,
        handles: &Arc<Handles>,
        inboxes: Inboxes,
        shutdown: &CancellationToken,
        sweep: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Vec<BoxFuture<'static, &'static str>> {
        let mut all = Vec::new();
        for (watched, inbox) in self.0.iter().zip(inboxes.0) {
            all.push(watch(Arc::clone(handles), Arc::clone(watched), sweep.clone()).boxed());
            all.push(watch_leases(Arc::clone(handles), Arc::clone(watched)).boxed());
            let (acting, handles, watched) = (acting.clone(), Arc::clone(handles), Arc::clone(watched));
            let worker = Worker { acting, handles, watched };
            all.push(work(worker, inbox, shutdown.clone()).boxed());
        }
        all
    }
}

/// Keeps the resources.
async fn watch(handles: Arc<Handles>, watched: Arc<Watched>, sweep: impl Fn()) -> &'static str {
    let Some(writer) = watched.scope.take_databases() else { return std::future::pending().await };
    let events = caches::events(caches::api::<Database>(&handles.cluster.client, watched.scope.namespace()));
    let slim = |database: &mut Database| {
        database.managed_fields_mut().clear();
        database.annotations_mut().clear();
    };
    let on = |event: &Event<Database>| match event {
        Event::Apply(database) => {
            watched.send(database);
            watched.namespaces.notify_one();
        }
        Event::Delete(database) => {
            watched.gone(database);
            handles.cluster.serving.forget(&database.meta().uid.clone().unwrap_or_default());
            watched.namespaces.notify_one();
            sweep();
        }
        Event::InitDone => {
            watched.everything();
            watched.namespaces.notify_one();
            sweep();
        }
        Event::Init | Event::InitApply(_) => {}
    };
    let events = reflect(writer, events.modify(slim));
    watched.scope.watch_kind(DATABASES, events, on, || {}).await;
    "watch of databases"
}

/// Watches the Leases of the namespaces that have a database. Ends when one of the watches does, which none should.
async fn watch_leases(handles: Arc<Handles>, watched: Arc<Watched>) -> &'static str {
    let mut tasks = Tasks::default();
    loop {
        tokio::select! {
            () = watched.namespaces.notified() => {}
            ended = tasks.ended() => match ended {
                Ended::Stopped(namespace) => {
                    watched.leases.forget(&namespace);
                    watched.scope.troubles.forget(MEMBERS, &namespace);
                }
                Ended::ByItself => return "watch of the Leases of a namespace",
            },
        }
        tasks.keep(watched.namespaces(), |namespace| {
            watch_leases_of(Arc::clone(&handles), Arc::clone(&watched), namespace)
        });
    }
}

async fn watch_leases_of(handles: Arc<Handles>, watched: Arc<Watched>, namespace: String) {
    let client = &handles.cluster.client;
    let events = caches::events(caches::api::<Lease>(client, Some(&namespace)));
    let clock = &handles.database.clock;
    let on = |event: &Event<Lease>| match watched.leases.saw(&namespace, event, clock.boot()) {
        Shown::Nothing => {}
        Shown::Lease(name) => watched.lease(&namespace, &name),
        Shown::Everything => watched.queue_where(&namespace, |_| true),
    };
    let troubled = || watched.queue_where(&namespace, |_| true);
    watched.scope.watch_kind_within(MEMBERS, &namespace, events, on, troubled).await;
}

/// Reconciles what is queued, each database at most once at a time.
async fn work(
    worker: Worker,
    inbox: mpsc::UnboundedReceiver<DatabaseRef>,
    shutdown: CancellationToken,
) -> &'static str {
    let queue = futures::stream::unfold(inbox, |mut inbox| async move {
        inbox.recv().await.map(|database| (Ok::<_, std::convert::Infallible>(database), inbox))
    });
    let store = worker.watched.scope.databases.clone();
    let retry = Arc::new(Retry::default());
    let (succeeded, failed) = (Arc::clone(&retry), retry);
    let results = applier(
        move |database: Arc<Database>, worker: Arc<Worker>| {
            let retry = Arc::clone(&succeeded);
            async move {
                let outcome = worker.reconcile(&database).await;
                if outcome.is_ok() {
                    retry.succeeded(&name_of(database.as_ref()));
                }
                outcome
            }
            .boxed()
        },
        move |database: Arc<Database>, error: &pass::Error, _| {
            let object = name_of(database.as_ref());
            let wait = failed.after_failure(&object, fastrand::f64());
            warn!(object, error = chain(error), retry_in = ?wait, "reconcile of a database failed");
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
                debug!(%error, "the task of a database ended");
            }
        })
        .await;
    "queue of databases"
}
