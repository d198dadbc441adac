//! The store of the lease is away, for all members or for one, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component_lease::clock::Clock as _;
use component_lease::member::State;
use component_lease::store::{LeaseStore as _, MemoryStore};
use component_lease::{ComponentName, SystemClock};
use component_lease_testkit::wait;
use tokio::task::JoinHandle;

use crate::cut::Cut;
use crate::members::{Running, TTL, first_process, written};
use crate::site::{SOON, processes_in};

/// Whether the lease is seen to be held by nobody.
struct Free {
    seen: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Free {
    fn watched(store: &Arc<MemoryStore>) -> Self {
        let (store, seen) = (Arc::clone(store), Arc::new(AtomicBool::new(false)));
        let sees = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let component = ComponentName::new("orders-db").unwrap();
            while !sees.load(Ordering::SeqCst) {
                let row = store.look(&component).await.unwrap().row.unwrap();
                sees.store(row.is_free(), Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        Self { seen, task }
    }

    fn was_seen(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_the_primary_goes_on_and_has_the_lease_again_afterwards() {
    the_primary_goes_on_and_has_the_lease_again_afterwards(Cut::set_away).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_answers_nothing_the_primary_goes_on_and_has_the_lease_again_afterwards() {
    the_primary_goes_on_and_has_the_lease_again_afterwards(Cut::set_hanging).await;
}

async fn the_primary_goes_on_and_has_the_lease_again_afterwards(set: fn(&Cut, bool)) {
    let (cluster, writer, at, version) = written().await;
    let process = first_process(&cluster.members[at].files);
    let began = SystemClock.boot();
    let away = |away| cluster.members.iter().for_each(|member| set(&member.store, away));
    away(true);
    // Three times as long as a term lasts.
    let over = Duration::from_secs(3 * TTL);
    wait::until_true(over * 2, "three terms to pass", async || SystemClock.boot() >= began + over)
        .await
        .unwrap();
    writer.more(5, &cluster).await;
    assert_eq!(cluster.members[at].state(), State::Primary(version), "{}", cluster.logs());
    let without = writer.longest_pause(began);
    let back = SystemClock.boot();
    let free = Free::watched(&cluster.store);
    away(false);
    let (again, _) = cluster.whole(version).await;
    writer.more(5, &cluster).await;
    assert!(!free.was_seen(), "the lease was free for a moment: anybody could have taken it");
    assert_eq!((again, first_process(&cluster.members[at].files)), (at, process), "{}", cluster.logs());
    println!(
        "longest pause without the store: {without:?}; when it is back: {:?}",
        writer.longest_pause(back)
    );
    writer.has_lost_nothing(&cluster, at).await;
    writer.task.abort();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_alone_is_cut_from_the_store_ends_by_itself_and_is_replaced_without_loss() {
    let (cluster, writer, old, version) = written().await;
    let cut = &cluster.members[old];
    cut.store.set_away(true);
    wait::until_true(SOON, "the one that was cut off to end", async || cut.state() == State::Alone)
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    // One of the two others follows the other: only so is anything acknowledged.
    writer.more(5, &cluster).await;
    cut.store.set_away(false);
    let (at, _) = cluster.whole(version).await;
    assert_ne!(at, old);
    writer.more(5, &cluster).await;
    writer.has_lost_nothing(&cluster, at).await;
    writer.task.abort();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_is_dropped_while_it_goes_on_without_its_lease_ends_its_server() {
    let (mut cluster, writer, at, _) = written().await;
    cluster.members.iter().for_each(|member| member.store.set_away(true));
    let is_over = || cluster.members[at].supervisor.participant().term().is_none();
    wait::until_true(SOON, "the term to be over", async || is_over()).await.unwrap();
    writer.more(5, &cluster).await;
    let Running { files, supervisor, stop, task, .. } = cluster.members.remove(at);
    let state = supervisor.state();
    task.abort();
    drop((supervisor, stop));
    wait::until_true(SOON, "the server to be ended by it, and not by its guardians", async || {
        *state.borrow() == State::Alone
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", files.log()));
    assert_eq!(processes_in(&files.data()), 0);
    writer.task.abort();
    cluster.members.iter().for_each(|member| member.store.set_away(false));
    cluster.stop().await;
}
