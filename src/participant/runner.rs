//! The loop around the state machine: ask [`Election`] what to do, do it, tell it the outcome,
//! publish what it says. All decisions are in [`crate::election::machine`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, info, info_span};

use super::calls::Unreleased;
use super::notice::Notice;
use super::presence::Presence;
use super::run::Drained;
use super::term::{TermCell, TermObserver};
use super::trouble::{Trouble, say_new_epoch};
use super::{Counters, View};
use crate::clock::Clock;
use crate::election::machine::Term;
use crate::election::{Action, ComponentName, Election, Moment, Standing, StopReason};
use crate::store::{Hints, LeaseStore};

/// What handle, guards and watchdog share with the loop.
pub(super) struct Shared {
    pub(super) component: ComponentName,
    pub(super) clock: Arc<dyn Clock>,
    /// The term that is led or whose work is being stopped.
    term: ArcSwapOption<TermCell>,
    pub(super) watchdog: Arc<OnceLock<Thread>>,
    beat: AtomicU64,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(component: ComponentName, clock: Arc<dyn Clock>) -> Self {
        let beat = AtomicU64::new(ms(clock.boot()));
        Self {
            component,
            clock,
            term: ArcSwapOption::empty(),
            watchdog: Arc::default(),
            beat,
            counters: Counters::default(),
        }
    }

    pub(super) fn is_leader(&self) -> bool {
        self.term.load().as_ref().is_some_and(|term| !term.valid_for().is_zero())
    }

    pub(super) fn term(&self) -> Option<Arc<TermCell>> {
        self.term.load_full()
    }

    /// Boot clock, ms resolution.
    pub(super) fn last_beat(&self) -> Moment {
        Duration::from_millis(self.beat.load(Ordering::Relaxed))
    }
}

fn ms(moment: Moment) -> u64 {
    u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
}

/// What the handle asks of the loop.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Healthy(bool),
    StepDown,
    Drain,
    /// Drain once the work has stopped, or when it has had this long.
    Shutdown(Duration),
}

/// Longest sleep of the loop: tokio's timers stand still in suspend, and the heartbeat must go on.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

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
    /// A take of ours that nobody was told of yet.
    pub(super) untold: bool,
    /// A take of ours that may be in the row, or may come there.
    pub(super) unreleased: Option<Unreleased>,
    pub(super) handle_gone: bool,
    pub(super) draining: bool,
    /// Until when the term is renewed for work that was asked to stop.
    pub(super) shutdown: Option<Moment>,
}

impl Runner {
    /// Returns when drained.
    pub(super) async fn run(mut self) -> Drained {
        let store = Arc::clone(&self.store);
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.drain_when_the_work_has_stopped();
            let now = self.now();
            self.shared.beat.store(ms(now), Ordering::Relaxed);
            let action = self.election.next(now);
            self.publish();
            match action {
                Action::Look => self.look().await,
                Action::Take(take) => self.take(&take).await,
                Action::Renew(term) => self.renew(&term).await,
                Action::Release(release) => self.release(release).await,
                Action::BeginEpoch(new) => {
                    say_new_epoch(&self.shared.component, &store.describe(), &new);
                    let (call, span) = (store.epochs(), self.span("begin_epoch"));
                    self.record(call.map(|epochs| epochs.begin_epoch(&new))).instrument(span).await;
                }
                Action::Settle(waited_out) => {
                    let (call, span) = (store.epochs(), self.span("settle"));
                    self.record(call.map(|epochs| epochs.settle(&waited_out))).instrument(span).await;
                }
                Action::Wait(until) => self.wait(until).await,
                Action::AwaitWork => self.await_work().await,
                Action::Ended => {
                    return if self.unreleased.is_none() { Drained::Released } else { Drained::LeftToLapse };
                }
            }
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.shared.clock.boot()
    }

    async fn wait(&mut self, until: Moment) {
        if std::mem::take(&mut self.untold) {
            return self.notify().await;
        }
        if self.give_sign_of_life(until).await {
            return;
        }
        let until = self.shutdown.map_or(until, |shutdown| until.min(shutdown));
        let limit = until.saturating_sub(self.now()).min(LONGEST_SLEEP);
        let following = matches!(self.election.standing(), Standing::Following);
        let asked = self.shared.term().filter(|_| self.shutdown.is_some());
        let stopped = async {
            match &asked {
                Some(term) => term.work_stopped().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(limit) => {}
            () = stopped => {}
            () = self.hints.next_for(self.shared.component.as_str()), if following => {
                let at = self.notice.hinted(self.shared.clock.boot());
                self.election.hinted(at);
            }
            command = self.commands.recv(), if !self.handle_gone => self.heard(command),
        }
    }

    async fn await_work(&mut self) {
        // A term that was over before it was made visible has no work to wait for.
        if let Some(term) = self.shared.term() {
            tokio::select! {
                biased;
                () = term.work_stopped() => {}
                () = tokio::time::sleep(LONGEST_SLEEP) => return,
                command = self.commands.recv(), if !self.handle_gone => return self.heard(command),
            }
        }
        if let Some(release) = self.election.work_stopped(self.now()) {
            self.release(release).await;
        }
    }

    pub(super) fn heard(&mut self, command: Option<Command>) {
        self.handle_gone = command.is_none();
        // A handle that was dropped asks for the same as one that drains.
        self.obey(command.unwrap_or(Command::Drain));
    }

    fn obey(&mut self, command: Command) {
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
        // Before anything is awaited: whoever was told to stop must not be believed a leader meanwhile.
        self.publish();
    }

    /// After a shutdown was asked for: at once where no work runs, else when that has stopped or has had its time.
    fn drain_when_the_work_has_stopped(&mut self) {
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
    fn publish(&mut self) {
        let shared = &self.shared;
        match self.election.standing() {
            Standing::Leading(term) => self.publish_term(term),
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

    fn publish_term(&self, term: &Term) {
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
