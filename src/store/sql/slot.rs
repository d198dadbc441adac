//! The one connection of a store. A call takes it out, works with it and puts it back. A call that
//! is dropped or fails in between drops its connection: a dropped connection is closed, it is never
//! reused, and the server is never sent a cancel (the statement may still be applied: *unknown*).
//!
//! Making a connection is no part of a call. It goes on in the background, with a limit of its own,
//! when the call that wanted it gives up, and the next call uses it: else nobody would ever lead
//! where a connection takes longer to make than a call may last. See
//! `docs/design/20261128-connections.md`.

use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::{Mutex, MutexGuard, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::store::error::StoreError;

/// A connection that stands beside the one of the slot and takes its place when that broke.
#[path = "slot_beside.rs"]
mod beside;

pub(super) use self::beside::Request;

/// After how many looks a connection that found no or not all companion tables asks for them again:
/// `migrate` may have made them since.
pub(super) const LOOKS_WITHOUT_COMPANIONS: u32 = 20;

/// How long a connection may take to make, whatever a call may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection that is kept alive may keep a call waiting.
const PING_LIMIT: Duration = Duration::from_millis(500);

/// An error that nobody has heard of says nothing about the database any more after this.
const ERROR_LASTS: Duration = Duration::from_secs(10);

/// What the call that wants a new connection does first: that is prepared with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Look,
    Renew,
    Other,
}

/// How to get a connection.
pub(super) trait Connect: Clone + fmt::Display + Send + Sync + 'static {
    type Session: Send + 'static;
    /// Where to, and as whom. A connection that was made for another source than the present one is
    /// not used.
    type Source: PartialEq + Clone + Send + Sync + 'static;

    /// What is configured now.
    fn source(&self) -> Result<Self::Source, StoreError>;

    /// Whether the connection answers.
    fn ping(&self, session: &mut Self::Session) -> impl Future<Output = bool> + Send;

    fn connect(
        &self,
        source: Self::Source,
        first: First,
    ) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;
}

/// How the making of a connection ended.
pub(super) enum Answer<S> {
    Made(S),
    /// And when.
    Failed(StoreError, Instant),
    TimedOut,
}

impl<S> Answer<S> {
    pub(super) fn now(made: Result<S, StoreError>) -> Self {
        match made {
            Ok(session) => Self::Made(session),
            Err(error) => Self::Failed(error, Instant::now()),
        }
    }
}

/// Room for one connection. Calls of one store queue up for it.
pub(super) struct Slot<C: Connect>(Arc<Shared<C>>);

struct Shared<C: Connect> {
    room: Mutex<Room<C>>,
    /// Leads to a connection that stands beside the slot's, and whether that may take its place.
    beside: std::sync::Mutex<Option<(mpsc::Sender<Request<C>>, bool)>>,
    /// Whether a connection is in the slot: one that is in order and that no call works with.
    stands: watch::Sender<bool>,
    idleness: std::sync::Mutex<Idleness>,
    keeper: std::sync::Mutex<Option<AbortOnDropHandle<()>>>,
}

struct Room<C: Connect> {
    ready: Option<C::Session>,
    /// When it was put there, or answered last.
    since: Instant,
    coming: Option<Coming<C>>,
}

/// A connection that is being made, or was made and has not been used.
struct Coming<C: Connect> {
    source: C::Source,
    /// Whether it is the one that stood beside the slot's.
    is_spare: bool,
    answer: oneshot::Receiver<Answer<C::Session>>,
    _maker: Option<AbortOnDropHandle<()>>,
}

/// The exclusive right to use the slot, with what was found in it.
pub(super) struct Turn<'a, C: Connect> {
    room: MutexGuard<'a, Room<C>>,
    slot: &'a Slot<C>,
    /// For how long nobody had used the connection that was taken out.
    idle: Duration,
}

impl<C: Connect> Clone for Slot<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Connect> Default for Slot<C> {
    fn default() -> Self {
        Self(Arc::new(Shared {
            room: Mutex::new(Room { ready: None, since: Instant::now(), coming: None }),
            beside: std::sync::Mutex::default(),
            stands: watch::Sender::new(false),
            idleness: std::sync::Mutex::default(),
            keeper: std::sync::Mutex::default(),
        }))
    }
}

impl<C: Connect> Slot<C> {
    pub(super) async fn turn(&self) -> Turn<'_, C> {
        Turn { room: self.0.room.lock().await, slot: self, idle: Duration::ZERO }
    }

    /// A connection was closed by somebody else after it was not used for so long: proxies and servers do
    /// that. From now on connections are kept alive.
    pub(super) fn closed_when_idle(&self, how: &C, idle: Duration) {
        let news = self.0.idleness.lock().unwrap_or_else(PoisonError::into_inner).closed_after(idle);
        let Some(every) = news else { return };
        tracing::info!(
            "{how}: a connection was closed when it was not used for {idle:.1?}; connections are used every {every:.1?} from now on"
        );
        let mut keeper = self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() {
            let keeping = keep_alive(Arc::downgrade(&self.0), how.clone());
            *keeper = Some(AbortOnDropHandle::new(tokio::spawn(keeping)));
        }
    }
}

impl<C: Connect> Shared<C> {
    fn keep_alive(&self) -> Option<Duration> {
        self.idleness.lock().unwrap_or_else(PoisonError::into_inner).keep_alive
    }
}

/// Uses the connection in the slot when nobody else does, and makes another one where it was closed.
async fn keep_alive<C: Connect>(slot: Weak<Shared<C>>, how: C) {
    while let Some(every) = slot.upgrade().and_then(|slot| slot.keep_alive()) {
        tokio::time::sleep(every / 2).await;
        let Some(slot) = slot.upgrade().map(Slot) else { return };
        // Somebody uses it.
        let Ok(mut room) = slot.0.room.try_lock() else { continue };
        let idle = room.since.elapsed();
        if idle < every / 2 {
            continue;
        }
        let Some(mut session) = room.ready.take() else { continue };
        if timeout(PING_LIMIT, how.ping(&mut session)).await == Ok(true) {
            room.ready = Some(session);
            room.since = Instant::now();
            continue;
        }
        drop(session);
        slot.0.stands.send_replace(false);
        // Before a call needs it.
        room.coming = how.source().ok().map(|source| make(&how, source, First::Renew));
        drop(room);
        slot.closed_when_idle(&how, idle);
    }
}

/// How long a connection may go unused, as far as that was seen.
#[derive(Debug, Default, PartialEq)]
struct Idleness {
    keep_alive: Option<Duration>,
}

impl Idleness {
    /// What was closed sooner was not closed for that.
    const LEAST: Duration = Duration::from_secs(1);

    /// How often a connection has to be used, if that is news.
    fn closed_after(&mut self, idle: Duration) -> Option<Duration> {
        let every = idle / 2;
        if idle < Self::LEAST || self.keep_alive.is_some_and(|known| known <= every) {
            return None;
        }
        self.keep_alive = Some(every);
        self.keep_alive
    }
}

fn make<C: Connect>(how: &C, source: C::Source, first: First) -> Coming<C> {
    let (sender, answer) = oneshot::channel();
    let (how, to) = (how.clone(), source.clone());
    let maker = tokio::spawn(async move {
        let made = timeout(CONNECT_LIMIT, how.connect(to, first)).await;
        // Nobody waits any more: the store was dropped, or wants another source.
        let _ = sender.send(made.map_or(Answer::TimedOut, Answer::now));
    });
    Coming { source, is_spare: false, answer, _maker: Some(AbortOnDropHandle::new(maker)) }
}

impl<'a, C: Connect> Turn<'a, C> {
    /// Takes the connection out, if there is one.
    pub(super) fn take(&mut self) -> Option<C::Session> {
        self.slot.0.stands.send_replace(false);
        self.idle = self.room.since.elapsed();
        self.room.ready.take()
    }

    /// A new connection: the one that stands beside the slot's, else the one that is being made, else
    /// one that begins to be made now. Dropping this gives up the wait, not the connection.
    pub(super) async fn connected(&mut self, how: &C, first: First) -> Result<C::Session, StoreError> {
        let source = how.source()?;
        if self.room.coming.as_ref().is_some_and(|coming| coming.source != source) {
            self.room.coming = None;
        }
        loop {
            let coming = match &mut self.room.coming {
                Some(coming) => coming,
                None => {
                    let new = self.slot.spare(&source).unwrap_or_else(|| make(how, source.clone(), first));
                    self.room.coming.insert(new)
                }
            };
            let is_spare = coming.is_spare;
            let (answer, waited) = match coming.answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => ((&mut coming.answer).await.ok(), true),
                answer => (answer.ok(), false),
            };
            self.room.coming = None;
            let error = match answer {
                Some(Answer::Made(session)) => return Ok(session),
                // There is no spare any more.
                _ if is_spare => continue,
                Some(Answer::Failed(_, at)) if at.elapsed() >= ERROR_LASTS => continue,
                // It ended unheard. A wrong password is still wrong; a server that did not answer may do so by now.
                Some(Answer::TimedOut | Answer::Failed(StoreError::Retryable { .. }, _)) if !waited => {
                    continue;
                }
                Some(Answer::Failed(error, _)) => error,
                Some(Answer::TimedOut) => {
                    StoreError::retryable(format!("{how}: no connection within {CONNECT_LIMIT:?}"))
                }
                None => StoreError::retryable(format!("{how}: the connection was given up")),
            };
            return Err(error);
        }
    }

    /// Continues with this connection.
    pub(super) fn with(self, session: C::Session) -> Held<'a, C> {
        Held { turn: self, session }
    }
}

/// A connection in use; closed when dropped.
pub(super) struct Held<'a, C: Connect> {
    turn: Turn<'a, C>,
    pub(super) session: C::Session,
}

impl<C: Connect> Held<'_, C> {
    /// It is in order: the next call may have it.
    pub(super) fn put_back(mut self) {
        self.turn.room.ready = Some(self.session);
        self.turn.room.since = Instant::now();
        self.turn.slot.0.stands.send_replace(true);
    }
}

impl<C: Connect> Held<'_, C> {
    /// Somebody else closed it.
    pub(super) fn was_closed(self, how: &C) {
        self.turn.slot.closed_when_idle(how, self.turn.idle);
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
