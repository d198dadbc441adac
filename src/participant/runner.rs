//! What the election loop knows and how it follows commands: it passes them to [`Election`] and publishes what that says.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{Span, debug_span, info, info_span};

use super::counters::Counters;
use super::endings::Endings;
use super::notice::Notice;
use super::presence::Presence;
use super::shared::{Command, Shared};
use super::term::TermObserver;
use super::term_cell::TermCell;
use super::trouble::Trouble;
use super::view::View;
use crate::election::machine::Term;
use crate::election::{Election, Moment, Standing, StopReason};
use crate::store::{Hints, LeaseStore};
use std::time::Duration;

/// A term of ours that was not seen to be released or replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreleased {
    pub(super) version: i64,
    /// Its take was answered. One that was not may be applied at any time: that there is nothing to release
    /// proves nothing then.
    pub(super) applied: bool,
}

pub(super) struct Runner {
    pub(super) store: Arc<dyn LeaseStore>,
    pub(super) shared: Arc<Shared>,
    pub(super) election: Election,
    pub(super) presence: Presence,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) view: watch::Sender<View>,
    pub(super) hints: Hints,
    pub(super) notice: Notice,
    pub(super) trouble: Trouble,
    pub(super) lock_wait: Duration,
    /// What the history has to be told.
    pub(super) endings: Endings,
    /// A take of ours that nobody was told of yet.
    pub(super) untold: bool,
    /// A take of ours that may be in the row, or may come there.
    pub(super) unreleased: Option<Unreleased>,
    /// The last term whose work goes on by another right than the term: it is left to lapse.
    pub(super) left: Option<i64>,
    pub(super) handle_gone: bool,
    pub(super) draining: bool,
    /// Until when the term is renewed for work that was asked to stop.
    pub(super) shutdown: Option<Moment>,
}

impl Runner {
    /// Of one call of the store; within the term's while there is one.
    pub(super) fn span(&self, call: &'static str) -> Span {
        let term = self.shared.term().and_then(|term| term.span().id());
        debug_span!(parent: term, "store", call, component = %self.shared.component)
    }

    pub(super) fn now(&self) -> Moment {
        self.shared.clock.boot()
    }

    pub(super) fn heard(&mut self, command: Option<Command>) {
        self.handle_gone = command.is_none();
        // A handle that was dropped asks for the same as one that drains.
        self.obey(command.unwrap_or(Command::Drain));
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Healthy(healthy) => {
                self.election.set_healthy(healthy);
                self.election.hinted(self.now());
            }
            Command::StepDown => self.election.step_down(),
            Command::Drain => {
                self.draining = true;
                self.election.drain();
            }
            Command::Shutdown(limit) => {
                let until = self.now().saturating_add(limit);
                self.shutdown = Some(self.shutdown.map_or(until, |before| before.min(until)));
                self.drain_when_the_work_has_stopped();
            }
        }
        // Before anything is awaited: work that was told to stop must not count as leading meanwhile.
        self.publish();
    }

    /// After a shutdown was asked for: at once where no work runs, else when that has stopped or has had its time.
    pub(super) fn drain_when_the_work_has_stopped(&mut self) {
        let Some(until) = self.shutdown.filter(|_| !self.draining) else { return };
        let term = self.shared.term().filter(|_| matches!(self.election.standing(), Standing::Leading(_)));
        let works = term.is_some_and(|term| {
            term.ask_to_stop();
            term.work_runs()
        });
        if !works || self.now() >= until {
            self.obey(Command::Drain);
        }
    }

    /// Makes visible what the state machine says.
    pub(super) fn publish(&mut self) {
        if let Standing::Leading(term) = self.election.standing()
            && !self.publish_term(term)
        {
            // Its work has stopped by now: the renewal counts as one that was answered at the deadline, too late.
            let over = term.deadline();
            self.election.renewed(over, over, Some(true), 0.0);
        }
        let shared = &self.shared;
        match self.election.standing() {
            Standing::Leading(_) => {}
            Standing::Stopping(_, reason) => {
                if let Some(cell) = shared.term.load().as_ref()
                    && cell.end(reason)
                {
                    Counters::count(shared.counters.ended(reason));
                    info!(component = %shared.component, version = cell.version(), reason = reason.as_str(), "no longer leading");
                }
            }
            Standing::Following => shared.term.store(None),
        }
        let lock_wait = self.election.timing().attempt_timeout();
        if self.lock_wait != lock_wait {
            self.lock_wait = lock_wait;
            self.store.limit_lock_wait(lock_wait);
        }
        let view = View {
            term: shared.term().filter(|_| shared.is_leader()).map(|cell| TermObserver { cell }),
            row: self.election.sight().and_then(|sight| sight.row.clone()),
            ineligible: self.election.ineligible(self.now()),
            problem: self.trouble.text().map(ToOwned::to_owned),
        };
        self.view.send_if_modified(|current| {
            let changed = current.differs_from(&view);
            *current = view;
            changed
        });
    }

    /// False when the work of this term was told before that it is over.
    fn publish_term(&self, term: &Term) -> bool {
        let shared = &self.shared;
        if let Some(cell) = shared.term.load().as_ref()
            && cell.version() == term.key.version
        {
            return cell.extend(term.deadline(), term.abort());
        }
        let (version, clock) = (term.key.version, Arc::clone(&shared.clock));
        let span = info_span!(parent: None, "term", component = %shared.component, version);
        let cell =
            TermCell::new(version, clock, shared.watchdog.clone(), term.deadline(), term.abort(), span);
        shared.term.store(Some(Arc::new(cell)));
        true
    }
}

/// However the loop ends (drained, dropped with its runtime, panicked): nobody leads by it any more.
impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(cell) = self.shared.term.load().as_ref() {
            cell.end(StopReason::Draining);
        }
    }
}
