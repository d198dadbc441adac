//! A term that is not given back before the server has ended, whatever becomes of the task that leads.

use std::ops::Deref;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;

use super::state::{GRACE, State};
use crate::database::{End, Engine};
use crate::participant::{HeldTerm, TermObserver};

/// The lease is not released while this lives. When it is dropped otherwise than by [`Held::over`], the server of a primary is ended first.
pub(super) struct Held<E: Engine + 'static> {
    term: Option<HeldTerm>,
    observer: TermObserver,
    engine: Arc<E>,
    state: watch::Sender<State>,
    runtime: Handle,
}

impl<E: Engine + 'static> Held<E> {
    pub(super) fn new(held: HeldTerm, engine: Arc<E>, state: watch::Sender<State>) -> Self {
        Self { observer: held.observer(), term: Some(held), engine, state, runtime: Handle::current() }
    }

    /// The server has ended, or was never promoted: the lease may be released.
    pub(super) fn over(mut self) -> TermObserver {
        drop(self.term.take());
        self.observer.clone()
    }
}

impl<E: Engine + 'static> Deref for Held<E> {
    type Target = TermObserver;

    fn deref(&self) -> &TermObserver {
        &self.observer
    }
}

impl<E: Engine + 'static> Drop for Held<E> {
    fn drop(&mut self) {
        let Some(held) = self.term.take().filter(|_| self.state.borrow().is_promoted()) else { return };
        let (engine, state) = (Arc::clone(&self.engine), self.state.clone());
        // Without its runtime the participant releases nothing either.
        self.runtime.spawn(async move {
            if let Err(error) = engine.end(End::AtOnce { grace: GRACE }).await {
                warn!("the server does not end: {error}; its guardians end it by force");
            }
            engine.ended().await;
            state.send_replace(State::Alone);
            drop(held);
        });
    }
}
