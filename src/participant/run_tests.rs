//! The whole life of a participant in one call: whatever becomes of the work, the row is free afterwards.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{self, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::fixtures::Rig;
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::store::MemoryStore;

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the work failed")]
    Work,
    #[error(transparent)]
    Election(#[from] ElectionFailed),
}

/// What catches a panic as a task of tokio does, but in this one.
async fn caught<T>(future: impl Future<Output = T>) -> std::thread::Result<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or_else(|panic| std::task::Poll::Ready(Err(panic)), |poll| poll.map(Ok))
    })
    .await
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in the middle of being dropped");
    }
}

/// Counts what is dropped.
struct Stops<'a>(&'a Cell<u32>);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Rig {
    /// The row is free at once, and nobody takes it though nothing is dropped.
    async fn is_free_for_good(&self, participant: &Participant) {
        assert!(self.row().await.is_free() && !participant.is_leader());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(self.row().await.is_free());
        assert_eq!(participant.ended().await.unwrap(), Drained::Released);
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_fails_or_panics_leaves_the_row_free_and_its_outcome_to_the_caller() {
    let rig = Rig::new();
    let some_work = Duration::from_secs(25);

    let first = rig.start("first");
    let ended = first.run(async |term| {
        tokio::time::sleep(some_work).await;
        Ok::<_, Problem>(term.version())
    });
    assert_eq!(ended.await.unwrap(), Some(1));
    rig.is_free_for_good(&first).await;

    let second = rig.start("second");
    let failed = second.run(async |term| {
        tokio::time::sleep(some_work).await;
        if term.is_valid() { Err(Problem::Work) } else { Ok(()) }
    });
    assert!(matches!(failed.await, Err(Problem::Work)));
    rig.is_free_for_good(&second).await;

    let third = rig.start("third");
    let panicked = caught(third.run(async |term| {
        tokio::time::sleep(some_work).await;
        assert_eq!(term.version(), 0, "what the caller reads");
        Ok::<_, Problem>(())
    }));
    let panic = panicked.await.unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("what the caller reads"));
    rig.is_free_for_good(&third).await;
    assert_eq!(rig.row().await.version, 3, "each of them led");
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_before_it_awaits_or_when_it_is_dropped_leaves_the_row_free() {
    let rig = Rig::new();
    let first = rig.start("first");
    let before = |_: TermObserver| -> std::future::Ready<Result<(), Problem>> { panic!("before") };
    let panic = caught(first.run(before)).await.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"before"));
    rig.is_free_for_good(&first).await;

    let second = rig.start("second");
    let running = caught(second.run(async |_| {
        let _bomb = Bomb;
        std::future::pending::<Result<(), Problem>>().await
    }));
    let stopping = async {
        while !second.is_leader() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        second.step_down();
    };
    let (panicked, ()) = tokio::join!(running, stopping);
    assert!(panicked.unwrap_err().downcast_ref::<&str>().unwrap().contains("being dropped"));
    rig.is_free_for_good(&second).await;
}

#[tokio::test(start_paused = true)]
async fn work_is_stopped_where_its_term_ends_and_begun_anew_in_the_next() {
    let rig = Rig::new();
    let first = rig.start("first");
    let (begun, stopped) = (Cell::new(0), Cell::new(0));
    let running = first.run(async |term| {
        begun.set(begun.get() + 1);
        let _stops = Stops(&stopped);
        if term.version() == 1 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Problem>(term.version())
    });
    let stopping = async {
        while begun.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        first.set_healthy(false);
        while !rig.row().await.is_free() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((begun.get(), stopped.get()), (1, 1), "stopped before the row was free");
        first.set_healthy(true);
    };
    let (ended, ()) = tokio::join!(running, stopping);
    assert_eq!(ended.unwrap(), Some(2));
    assert_eq!((begun.get(), stopped.get()), (2, 2));
    rig.is_free_for_good(&first).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_the_work_end_in_its_own_way_and_stops_it_after_the_limit() {
    let rig = Rig::new();
    for (limit, wanted) in [(30, Some("in order")), (5, None)] {
        let one = rig.start("one");
        let running = one.run(async |term| {
            term.asked_to_stop().await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok::<_, Problem>("in order")
        });
        let stopping = async {
            while !one.is_leader() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            one.shutdown(Duration::from_secs(limit)).await.unwrap()
        };
        let (ended, drained) = tokio::join!(running, stopping);
        assert_eq!((ended.unwrap(), drained), (wanted, Drained::Released));
        rig.is_free_for_good(&one).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_stops_the_work_and_gives_the_lease_back() {
    let rig = Rig::new();
    let first = rig.start("first");
    let dropped = tokio::time::timeout(
        Duration::from_secs(25),
        first.run(async |_| std::future::pending::<Result<(), Problem>>().await),
    );
    assert!(dropped.await.is_err());
    assert_eq!(first.ended().await.unwrap(), Drained::Released);
    rig.is_free_for_good(&first).await;
    // One that waits in vain is no different.
    let second = rig.start("second");
    assert!(tokio::time::timeout(Duration::ZERO, second.run(async |_| Ok::<_, Problem>(()))).await.is_err());
    assert_eq!(second.ended().await.unwrap(), Drained::Released);
}

/// What runs it may be a task of its own, in which everything must be `Send`.
#[tokio::test(start_paused = true)]
async fn a_run_can_be_spawned_and_shared() {
    let rig = Rig::new();
    let first = Arc::new(rig.start("first"));
    let runs = Arc::clone(&first);
    let task = tokio::spawn(async move {
        let mut terms = Vec::new();
        let work = async move |term: TermObserver| {
            terms.push(term.version());
            term.asked_to_stop().await;
            Ok::<_, ElectionFailed>(terms.clone())
        };
        runs.run(work).await
    });
    while !first.is_leader() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(task.await.unwrap().unwrap(), Some(vec![1]));
}

/// On a runtime of its own, which then is gone.
#[test]
fn an_election_loop_that_is_gone_is_told_from_one_that_was_drained() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = |runtime: &tokio::runtime::Runtime| {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(MemoryStore::new(clock));
        let _within = runtime.enter();
        Participant::builder(store, Rig::component()).start().unwrap()
    };
    let (own, other) = (runtime(), runtime());
    let failed = start(&own);
    drop(own);
    assert!(other.block_on(failed.lead()).is_err());
    assert!(other.block_on(failed.ended()).is_err());
    let run = failed.run(async |_| Ok::<_, Problem>(()));
    assert!(matches!(other.block_on(run), Err(Problem::Election(_))));

    let drained = start(&other);
    drained.drain();
    assert!(other.block_on(drained.lead()).unwrap().is_none());
    assert_eq!(other.block_on(drained.run(async |_| Ok::<_, Problem>(()))).unwrap(), None);
}

/// Which spans began within which.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<(String, Option<String>)>>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent().map(|parent| parent.name().to_owned());
        self.0.lock().unwrap().push((span.name().to_owned(), parent));
    }
}

#[tokio::test(start_paused = true)]
async fn the_work_of_a_term_and_each_call_of_the_store_have_a_span() {
    let spans = Spans::default();
    // While there is one subscriber only, `tracing` asks each thread's own about a span that it meets first, and
    // remembers the answer for all: another test's thread, which has none, would switch `store` off for this one.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _here = tracing_subscriber::registry().with(spans.clone()).set_default();
    let rig = Rig::new();
    let first = rig.start("first");
    let worked = first.run(async |_| {
        tracing::info_span!("work").in_scope(|| ());
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok::<_, Problem>(())
    });
    worked.await.unwrap();
    let seen = spans.0.lock().unwrap().clone();
    for wanted in [("store", None), ("term", None), ("store", Some("term")), ("work", Some("term"))] {
        let found = seen.iter().any(|(name, parent)| (name.as_str(), parent.as_deref()) == wanted);
        assert!(found, "{wanted:?} is not in {seen:?}");
    }
}
