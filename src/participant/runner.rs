//! The loop around the state machine: ask [`Election`] what to do, do it, tell it the outcome,
//! publish what it says. All decisions are in [`crate::election::machine`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{Instrument, Span, debug, debug_span, info, info_span, warn};

use super::notice::Notice;
use super::presence::Presence;
use super::run::Drained;
use super::term::{TermCell, TermObserver};
use super::trouble::{Call, Trouble, say_new_epoch};
use super::{Counters, View};
use crate::clock::Clock;
use crate::election::machine::{Looked, Release, Term};
use crate::election::{
    Action, ComponentName, Election, Ineligible, Moment, Standing, StopReason, Take, TermKey,
};
use crate::store::{Hints, Outcome, Store, StoreError};

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

/// How long the loop waits for others to be told of a change, at most.
const NOTIFY_LIMIT: Duration = Duration::from_millis(500);
/// Longest sleep of the loop: tokio's timers stand still in suspend, and the heartbeat must go on.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A term of ours that was not seen to be released or replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreleased {
    version: i64,
    /// Its take was answered. One that was not may be applied at any time: that there is nothing to release
    /// proves nothing then.
    applied: bool,
}

pub(super) struct Runner {
    pub(super) store: Arc<dyn Store>,
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
                    let store = Arc::clone(&self.store);
                    say_new_epoch(&self.shared.component, &store.describe(), &new);
                    self.record(store.begin_epoch(&new).instrument(self.span("begin_epoch"))).await;
                }
                Action::Settle(waited_out) => {
                    let store = Arc::clone(&self.store);
                    self.record(store.settle(&waited_out).instrument(self.span("settle"))).await;
                }
                Action::Wait(until) => self.wait(until).await,
                Action::AwaitWork => self.await_work().await,
                Action::Ended => {
                    return if self.unreleased.is_none() { Drained::Released } else { Drained::LeftToLapse };
                }
            }
        }
    }

    fn now(&self) -> Moment {
        self.shared.clock.boot()
    }

    /// Of one call of the store; within the term's while there is one.
    fn span(&self, call: &'static str) -> Span {
        let term = self.shared.term().and_then(|term| term.span().id());
        debug_span!(parent: term, "store", call, component = %self.shared.component)
    }

    async fn look(&mut self) {
        let t0 = self.now();
        let limit = self.election.timing().attempt_timeout();
        // The look answers them.
        if self.hints.take(self.election.component().as_str()) {
            self.notice.hinted(t0);
        }
        let looked = {
            let call =
                attempt(limit, self.store.look(self.election.component())).instrument(self.span("look"));
            tokio::select! {
                looked = call => Some(looked),
                // Nothing is lost with a look: whoever must act now need not wait for it.
                command = self.commands.recv(), if !self.handle_gone => {
                    self.heard(command);
                    None
                }
            }
        };
        let at = self.now();
        self.notice.looked(at);
        // Also after a look that was given up: a connection that was made since has told.
        self.trouble.pace(&self.shared.component, &self.election.timing(), self.store.pace());
        match looked {
            Some(Ok(looked)) => {
                Counters::count(&self.shared.counters.looks);
                self.saw(at, &looked);
                self.trouble.answered(Call::Ask, &self.shared.component);
                let (before, waited) = (self.election.ineligible(at), self.election.quarantine().until(at));
                self.election.set_told(self.hints.flow() && !self.notice.misses());
                self.election.looked(at, looked, fastrand::f64());
                self.say_quarantine(at, waited);
                self.trouble.max_ttl(&self.shared.component, self.election.quarantine().disagreement());
                let component = &self.shared.component;
                match (self.election.ineligible(at), before) {
                    (Some(Ineligible::Timing(_)), Some(Ineligible::Timing(_))) => {}
                    (Some(Ineligible::Timing(error)), _) => {
                        warn!(%component, %error, "the ttl of the ComponentLease does not fit this participant: it takes nothing");
                    }
                    (_, Some(Ineligible::Timing(_))) => info!(%component, "the ttl fits again"),
                    _ => {}
                }
            }
            Some(Err(error)) => {
                Counters::count(&self.shared.counters.looks_failed);
                self.trouble.failed(Call::Ask, &self.shared.component, at, &error);
                self.election.look_failed(t0, at, fastrand::f64());
            }
            None => {}
        }
    }

    fn saw(&mut self, at: Moment, looked: &Looked) {
        let before = self.election.sight().and_then(|sight| sight.row.as_ref());
        let term = |row: &crate::election::LeaseRow| (row.holder.clone(), row.version);
        let changed = before.map(term) != looked.row.as_ref().map(term);
        self.notice.found(at, changed, self.election.sight().is_none());
        if before != looked.row.as_ref() || self.election.quarantine().life() != Some(&looked.life) {
            self.trouble.moved_on();
        }
        if let (Some(ours), Some(row)) = (&mut self.unreleased, &looked.row)
            && row.version >= ours.version
        {
            ours.applied = true;
            if row.version > ours.version || row.holder != self.election.me().as_str() {
                self.unreleased = None;
            }
        }
        if changed && let Some(row) = &looked.row {
            let component = &self.shared.component;
            if row.is_free() {
                info!(%component, version = row.version, "nobody leads");
            } else {
                info!(%component, holder = row.holder, version = row.version, "somebody else leads");
            }
        }
    }

    fn say_quarantine(&self, at: Moment, before: Option<Moment>) {
        let component = &self.shared.component;
        match self.election.quarantine().until(at) {
            until if until == before => {}
            Some(until) => {
                info!(%component, seconds = until.saturating_sub(at).as_secs_f64(), "the database changed or is new to this participant: nothing is taken until every term that it may have forgotten is over");
            }
            None => info!(%component, "the quarantine is over"),
        }
    }

    async fn take(&mut self, take: &Take) {
        let t0 = self.now();
        let timing = self.election.timing();
        let store = Arc::clone(&self.store);
        let answer = {
            let call = attempt(timing.attempt_counts_for(), store.take(take)).instrument(self.span("take"));
            tokio::pin!(call);
            loop {
                tokio::select! {
                    answer = &mut call => break answer,
                    command = self.commands.recv(), if !self.handle_gone => {
                        // Given up too early, a take that is applied would block everybody for a ttl.
                        self.heard(command);
                        if self.draining {
                            let limit = timing.attempt_timeout();
                            break timeout(limit, &mut call).await.unwrap_or_else(|_| Err(timed_out(limit)));
                        }
                    }
                }
            }
        };
        let at = self.now();
        let won = match answer {
            Ok(outcome) => {
                self.trouble.answered(Call::Write, &self.shared.component);
                Some(outcome == Outcome::Applied)
            }
            Err(error) => {
                self.trouble.failed(Call::Write, &self.shared.component, at, &error);
                None
            }
        };
        let counters = &self.shared.counters;
        Counters::count(match won {
            Some(true) => &counters.takes_won,
            Some(false) => &counters.takes_lost,
            None => &counters.takes_unknown,
        });
        if won != Some(false) {
            self.unreleased = Some(Unreleased { version: take.term.version, applied: won.is_some() });
        }
        self.election.took(t0, at, take, won);
        self.untold |= won == Some(true);
        if let Standing::Leading(term) = self.election.standing() {
            info!(component = %self.shared.component, version = term.key.version, ttl_seconds = term.timing.ttl_seconds(), "leading");
        } else if won == Some(false) {
            debug!(component = %self.shared.component, "another participant was faster");
        }
    }

    async fn renew(&mut self, term: &TermKey) {
        let t0 = self.now();
        let mut limit = self.election.timing().attempt_timeout();
        if let Standing::Leading(term) = self.election.standing() {
            limit = limit.min(term.deadline().saturating_sub(t0));
        }
        let answer = attempt(limit, self.store.renew(term)).instrument(self.span("renew")).await;
        let at = self.now();
        let renewed = match answer {
            Ok(outcome) => {
                self.trouble.answered(Call::Write, &self.shared.component);
                Some(outcome == Outcome::Applied)
            }
            Err(error) => {
                self.trouble.failed(Call::Ask, &self.shared.component, at, &error);
                None
            }
        };
        let counters = &self.shared.counters;
        Counters::count(match renewed {
            Some(true) => &counters.renewals,
            Some(false) => &counters.renewals_lost,
            None => &counters.renewals_unknown,
        });
        if renewed == Some(false) {
            self.unreleased = None;
        }
        self.election.renewed(t0, at, renewed, fastrand::f64());
    }

    /// Writes down what is known of the database's life.
    async fn record(&mut self, call: impl Future<Output = Result<Outcome, StoreError>>) {
        let answer = attempt(self.election.timing().attempt_timeout(), call).await;
        let at = self.now();
        match &answer {
            Ok(_) => self.trouble.answered(Call::Write, &self.shared.component),
            Err(error) => self.trouble.failed(Call::Write, &self.shared.component, at, error),
        }
        self.election.recorded(at, answer.is_ok_and(|outcome| outcome == Outcome::Applied), fastrand::f64());
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

    /// False when there was none to give.
    async fn give_sign_of_life(&mut self, until: Moment) -> bool {
        let (now, timing) = (self.now(), self.election.timing());
        let leads = match self.election.standing() {
            Standing::Leading(term) => Some(term.key.version),
            Standing::Stopping(..) | Standing::Following => None,
        };
        let healthy = !matches!(self.election.ineligible(now), Some(Ineligible::Unhealthy));
        // Whoever has not heard from the database has better things to do.
        let due = if self.trouble.is_deaf() {
            None
        } else {
            self.presence.due(now, until, &timing, (healthy, leads))
        };
        let Some((says, row, limit)) = due else { return false };
        let answer = {
            let call = attempt(limit, self.store.beat(&says, row)).instrument(self.span("beat"));
            tokio::select! {
                answer = call => Some(answer),
                command = self.commands.recv(), if !self.handle_gone => {
                    self.heard(command);
                    None
                }
            }
        };
        self.presence.said(self.now(), &timing, answer);
        true
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

    async fn release(&mut self, release: Release) {
        let Release { term, within } = release;
        let limit = self.election.timing().attempt_timeout();
        let answer = match &within {
            None => attempt(limit, self.store.release(&term)).instrument(self.span("release")).await,
            Some(generation) => {
                let call = attempt(limit, self.store.release_late(&term, generation));
                call.instrument(self.span("release_late")).await
            }
        };
        let (at, component) = (self.now(), &self.shared.component);
        let released = match answer {
            Ok(outcome) => {
                self.trouble.answered(Call::Write, component);
                Some(outcome == Outcome::Applied)
            }
            Err(error) => {
                self.trouble.failed(Call::Ask, component, at, &error);
                None
            }
        };
        match released {
            Some(true) => {
                Counters::count(&self.shared.counters.releases);
                info!(%component, version = term.version, late = within.is_some(), "released");
            }
            // The row was seen to be ours, or was not asked for because the process ends.
            Some(false) if within.is_some() => {
                info!(%component, version = term.version, "nothing to release any more: the row or the database has changed");
            }
            Some(false) => {
                warn!(%component, version = term.version, "nothing to release: the term was already somebody else's");
            }
            None => {}
        }
        if released == Some(true) || released.is_some() && self.unreleased.is_some_and(|ours| ours.applied) {
            self.unreleased = None;
        }
        self.election.released(at, released, fastrand::f64());
        if released == Some(true) {
            // Now, and not when there is time: this process may end.
            self.notify().await;
        }
    }

    /// Tells whoever listens that the holder has changed. Apart from the call that changed it, which must
    /// not fail or wait for that; who is not told finds out by looking.
    async fn notify(&mut self) {
        let limit = self.election.timing().attempt_timeout().min(NOTIFY_LIMIT);
        let call = attempt(limit, self.store.notify(&self.shared.component));
        let told = call.instrument(self.span("notify")).await;
        if let Err(error) = told {
            self.trouble.untold(&self.shared.component, self.now(), &error);
        }
    }

    fn heard(&mut self, command: Option<Command>) {
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

/// A call that is given up after `limit`. Its future is dropped then, and with it the connection.
async fn attempt<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out(limit)))
}

fn timed_out(limit: Duration) -> StoreError {
    StoreError::Retryable(format!("no answer within {limit:?}"))
}
