//! A term that is not given back before the server has ended, whatever becomes of the task that leads. Also a server that goes on without its
//! term ends with that task.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;

use super::state::{GRACE, State};
use crate::database::{End, Engine};
use crate::participant::{HeldTerm, TermObserver};

/// The lease is not released while this lives. When it is dropped otherwise than by [`Held::over`], the server of a primary is ended first.
pub(super) struct Held<E: Engine + 'static> {
    /// `None` while the server goes on without one.
    term: Option<HeldTerm>,
    is_over: bool,
    engine: Arc<E>,
    state: watch::Sender<State>,
    runtime: Handle,
}

impl<E: Engine + 'static> Held<E> {
    pub(super) fn new(held: HeldTerm, engine: Arc<E>, state: watch::Sender<State>) -> Self {
        Self { term: Some(held), is_over: false, engine, state, runtime: Handle::current() }
    }

    /// The term, if there is one.
    pub(super) fn term(&self) -> Option<TermObserver> {
        self.term.as_ref().map(HeldTerm::observer)
    }

    /// The term is over, and the server goes on: nobody is invited to take the lease.
    pub(super) fn leave_the_term(&mut self) {
        if let Some(held) = self.term.take() {
            held.leave();
        }
    }

    /// The server goes on under this one.
    pub(super) fn goes_on_under(&mut self, held: HeldTerm) {
        self.term = Some(held);
    }

    /// The server has ended, or was never promoted: the lease may be released.
    pub(super) fn over(mut self) -> Option<TermObserver> {
        self.is_over = true;
        self.term.take().map(|held| held.observer())
    }
}

impl<E: Engine + 'static> Drop for Held<E> {
    fn drop(&mut self) {
        let held = self.term.take();
        if self.is_over || !self.state.borrow().is_promoted() {
            return;
        }
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
