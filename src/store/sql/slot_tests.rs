use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A server that takes its time, and counts.
#[derive(Clone, Default)]
struct Server(Arc<Told>);

#[derive(Default)]
struct Told {
    source: Mutex<&'static str>,
    takes: Mutex<Duration>,
    fails: Mutex<Option<&'static str>>,
    closes_after: Mutex<Duration>,
    begun: AtomicUsize,
    open: Arc<AtomicUsize>,
}

/// A connection.
struct Session {
    source: &'static str,
    number: usize,
    used: Instant,
    open: Arc<AtomicUsize>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("server")
    }
}

impl Connect for Server {
    type Session = Session;
    type Source = &'static str;

    fn source(&self) -> Result<&'static str, StoreError> {
        Ok(*self.0.source.lock().unwrap())
    }

    async fn ping(&self, session: &mut Session) -> bool {
        session.used.elapsed() < *self.0.closes_after.lock().unwrap() && {
            session.used = Instant::now();
            true
        }
    }

    async fn connect(&self, source: &'static str, _: First) -> Result<Session, StoreError> {
        let number = self.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let session = self.session(source, number);
        let takes = *self.0.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        match *self.0.fails.lock().unwrap() {
            Some(why) => Err(StoreError::misconfigured(why.to_owned())),
            None => Ok(session),
        }
    }
}

impl Server {
    fn that_takes(takes: Duration) -> Self {
        let server = Self::default();
        *server.0.takes.lock().unwrap() = takes;
        server
    }

    fn session(&self, source: &'static str, number: usize) -> Session {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Session { source, number, used: Instant::now(), open: Arc::clone(&self.0.open) }
    }

    fn begun(&self) -> usize {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Those that are being made, too.
    fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    /// A call that needs nothing but the connection; its number.
    async fn call(&self, slot: &Slot<Self>) -> Result<usize, StoreError> {
        let mut turn = slot.turn().await;
        let session = match turn.take() {
            Some(session) => session,
            None => turn.connected(self, First::Other).await?,
        };
        let held = turn.with(session);
        let number = held.session.number;
        held.put_back();
        Ok(number)
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_goes_on_when_the_call_that_wanted_it_gives_up_and_the_next_call_uses_it() {
    let (server, slot) = (Server::that_takes(MS(2_500)), Slot::default());
    for _ in 0..2 {
        assert!(timeout(MS(833), server.call(&slot)).await.is_err());
    }
    // The third attempt has 866 ms left of it, the fourth finds it standing.
    assert!(timeout(MS(833), server.call(&slot)).await.is_err());
    assert_eq!(timeout(MS(833), server.call(&slot)).await.unwrap().unwrap(), 1);
    assert_eq!(timeout(MS(1), server.call(&slot)).await.unwrap().unwrap(), 1);
    assert_eq!((server.begun(), server.open()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_never_made_has_a_limit_of_its_own_and_the_next_call_begins_another() {
    let (server, slot) = (Server::that_takes(MS(3_600_000)), Slot::default());
    let began = Instant::now();
    for _ in 0..3 {
        assert!(timeout(MS(833), server.call(&slot)).await.is_err());
    }
    let error = server.call(&slot).await.unwrap_err().to_string();
    assert_eq!((error.as_str(), began.elapsed()), ("server: no connection within 10s", CONNECT_LIMIT));
    assert_eq!((server.begun(), server.open()), (1, 0));
    // Nobody hears of the second.
    assert!(timeout(MS(833), server.call(&slot)).await.is_err());
    tokio::time::sleep(CONNECT_LIMIT).await;
    *server.0.takes.lock().unwrap() = MS(1);
    assert_eq!(server.call(&slot).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn why_a_connection_failed_is_told_to_the_next_call_unless_it_was_long_ago() {
    let (server, slot) = (Server::that_takes(MS(1_000)), Slot::default());
    *server.0.fails.lock().unwrap() = Some("wrong password");
    assert!(timeout(MS(833), server.call(&slot)).await.is_err());
    tokio::time::sleep(MS(5_000)).await;
    let error = timeout(MS(1), server.call(&slot)).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "wrong password");

    assert!(timeout(MS(833), server.call(&slot)).await.is_err());
    tokio::time::sleep(MS(15_000)).await;
    *server.0.fails.lock().unwrap() = None;
    assert_eq!(server.call(&slot).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_a_source_that_was_superseded_is_not_used_whether_it_stands_or_is_being_made() {
    for pause in [MS(100), MS(5_000)] {
        let (server, slot) = (Server::that_takes(MS(1_000)), Slot::default());
        *server.0.source.lock().unwrap() = "old password";
        assert!(timeout(MS(833), server.call(&slot)).await.is_err());
        tokio::time::sleep(pause).await;
        *server.0.source.lock().unwrap() = "new password";
        let mut turn = slot.turn().await;
        assert!(turn.take().is_none());
        let session = turn.connected(&server, First::Other).await.unwrap();
        assert_eq!((session.source, session.number), ("new password", 2));
        assert_eq!(server.open(), 1, "the other one is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_closes_its_connection_and_a_store_that_is_dropped_what_is_being_made() {
    let (server, slot) = (Server::that_takes(MS(10)), Slot::default());
    server.call(&slot).await.unwrap();
    let mut turn = slot.turn().await;
    let session = turn.take().unwrap();
    assert!(!*slot.stands().borrow());
    drop(turn.with(session));
    assert_eq!(server.open(), 0);
    assert!(timeout(MS(5), server.call(&slot)).await.is_err());
    assert_eq!(server.open(), 1);
    drop(slot);
    tokio::task::yield_now().await;
    assert_eq!(server.open(), 0);
}

/// Stands beside the slot's connection as number 77.
fn stand_beside(server: &Server, slot: &Slot<Server>, takes: Duration) -> tokio::task::JoinHandle<()> {
    let (mut requests, spare, server) = (slot.beside(true), server.session("", 77), server.clone());
    tokio::spawn(async move {
        let Some(Request::Replace(source, taker)) = requests.recv().await else { return };
        tokio::time::sleep(takes).await;
        let spare = if source == spare.source && !server.0.fails.lock().unwrap().is_some() {
            Ok(spare)
        } else {
            Err(StoreError::retryable("not this one"))
        };
        let _ = taker.send(Answer::now(spare));
    })
}

#[tokio::test(start_paused = true)]
async fn the_connection_beside_takes_the_place_of_one_that_broke_and_no_third_is_opened() {
    let (server, slot) = (Server::that_takes(MS(1_000)), Slot::default());
    assert_eq!(server.call(&slot).await.unwrap(), 1);
    let beside = stand_beside(&server, &slot, MS(200));
    assert_eq!(server.open(), 2);
    drop(slot.turn().await.take());
    // Also when the call gives up meanwhile.
    assert!(timeout(MS(100), server.call(&slot)).await.is_err());
    assert_eq!(timeout(MS(110), server.call(&slot)).await.unwrap().unwrap(), 77);
    assert_eq!((server.begun(), server.open()), (1, 1));
    beside.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_beside_that_is_none_or_leads_elsewhere_is_forgotten_and_another_one_made() {
    for (fails, source) in [(Some("gone"), ""), (None, "new password")] {
        let (server, slot) = (Server::that_takes(MS(1_000)), Slot::default());
        assert_eq!(server.call(&slot).await.unwrap(), 1);
        let beside = stand_beside(&server, &slot, MS(0));
        *server.0.fails.lock().unwrap() = fails;
        *server.0.source.lock().unwrap() = source;
        drop(slot.turn().await.take());
        let call = server.call(&slot);
        tokio::pin!(call);
        assert!(timeout(MS(500), &mut call).await.is_err());
        *server.0.fails.lock().unwrap() = None;
        assert_eq!(call.await.unwrap(), 2);
        beside.await.unwrap();
        assert_eq!(server.open(), 1);
    }
}

#[test]
fn a_connection_is_used_twice_as_often_as_the_longest_that_one_was_seen_to_live_without() {
    let s = Duration::from_secs;
    let mut idleness = Idleness::default();
    assert_eq!(idleness.closed_after(MS(900)), None);
    assert_eq!(idleness.closed_after(s(20)), Some(s(10)));
    assert_eq!(idleness.closed_after(s(20)), None, "no news");
    assert_eq!(idleness.closed_after(s(10)), Some(s(5)), "nor for ten");
}

#[tokio::test(start_paused = true)]
async fn where_idle_connections_are_closed_one_call_fails_and_then_none_any_more() {
    let (server, slot) = (Server::that_takes(MS(1)), Slot::default());
    *server.0.closes_after.lock().unwrap() = MS(6_000);
    let mut failed = 0;
    for _ in 0..20 {
        let mut turn = slot.turn().await;
        let session = match turn.take() {
            Some(session) => session,
            None => turn.connected(&server, First::Renew).await.unwrap(),
        };
        let mut held = turn.with(session);
        if server.ping(&mut held.session).await {
            held.put_back();
        } else {
            failed += 1;
            held.was_closed(&server);
        }
        tokio::time::sleep(MS(10_000)).await;
    }
    assert_eq!((failed, server.open()), (1, 1));
    assert!(server.begun() <= 4, "{} connections", server.begun());
}
