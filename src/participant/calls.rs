//! What the loop asks of the store, one method for each action: make the call within its limit, tell [`Election`](crate::election::Election) the
//! outcome, count it and say it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{Instrument, debug, info, warn};

use super::attempt::{attempt, attempt_if_any, timed_out};
use super::counters::Counters;
use super::endings::{self, TermEnd};
use super::runner::{Runner, Unreleased};
use super::trouble::Call;
use crate::election::machine::{Looked, Release};
use crate::election::{Ineligible, Moment, Standing, Take, TermKey};
use crate::store::{Outcome, StoreError};

/// How long the loop waits for others to be told of a change, or of its end, where the database is near.
const NOTIFY_LIMIT: Duration = Duration::from_millis(500);

impl Runner {
    /// What a call of another kind than the usual ones takes at this database. The first use of a statement takes two
    /// round trips; a half is for a network that is not always the same.
    fn unusual(&self) -> Duration {
        self.store.pace().map_or(Duration::ZERO, |pace| pace.round_trip * 5 / 2)
    }

    /// The limit of a call that nothing depends on. If it were shorter than the database needs, each such call would be
    /// given up, and with it a connection that the next renewal needs.
    fn limit_of_an_unusual_call(&self) -> Duration {
        self.election.timing().attempt_timeout().min(NOTIFY_LIMIT.max(self.unusual()))
    }

    pub(super) async fn look(&mut self) {
        let t0 = self.now();
        let mut limit = self.election.timing().attempt_timeout();
        if let Standing::Leading(term) = self.election.standing() {
            limit = limit.min(term.deadline().saturating_sub(t0));
        }
        // The look answers them.
        if self.hints.take(self.election.component().as_str()) {
            self.notice.hinted(t0);
        }
        let looked = {
            let call =
                attempt(limit, self.store.look(self.election.component())).instrument(self.span("look"));
            tokio::select! {
                looked = call => Some(looked),
                // A look can be dropped without loss, so that a command need not wait for it.
                command = self.commands.recv(), if !self.handle_gone => {
                    self.heard(command);
                    None
                }
            }
        };
        let at = self.now();
        if looked.is_some() {
            self.shared.counters.look_times.took(at.saturating_sub(t0));
        }
        self.notice.looked(at);
        // Also after a look that was given up: a connection that was made since has told.
        self.trouble.pace(&self.shared.component, &self.election.timing(), self.store.pace());
        match looked {
            Some(Ok(looked)) => {
                let leads = matches!(self.election.standing(), Standing::Leading(_));
                let looked = if leads { self.judging.of_a_leader(looked) } else { looked };
                Counters::count(&self.shared.counters.looks);
                self.saw(at, &looked);
                // Also while the process ends: it looks once more if the release was not answered.
                let end = self.endings.found_released(looked.row.as_ref(), at);
                self.endings.due = end.or(self.endings.due.take());
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
                        warn!(%component, %error, "the ttl of the ComponentLease does not fit this participant's stop grace: this participant takes no lease");
                    }
                    (_, Some(Ineligible::Timing(_))) => {
                        info!(%component, "the ttl of the ComponentLease fits again: this participant may take the lease");
                    }
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
        // A leader that looks for requests finds its own take, which is no news.
        let me = self.election.me().as_str();
        let is_mine = looked.row.as_ref().is_some_and(|row| row.holder == me);
        let changed = !is_mine && before.map(term) != looked.row.as_ref().map(term);
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
                info!(%component, holder = row.holder, version = row.version, "another participant leads");
            }
        }
    }

    fn say_quarantine(&self, at: Moment, before: Option<Moment>) {
        let component = &self.shared.component;
        match self.election.quarantine().until(at) {
            until if until == before => {}
            Some(until) => {
                info!(%component, seconds = until.saturating_sub(at).as_secs_f64(), "the database changed, or this participant sees it for the first time: no lease is taken until every term that the database may have forgotten has ended");
            }
            None => info!(%component, "the quarantine has ended: this participant may take the lease"),
        }
    }

    pub(super) async fn take(&mut self, take: &Take) {
        let t0 = self.now();
        let timing = self.election.timing();
        let (sight, life) = (self.election.sight(), self.election.quarantine().life());
        let before = endings::before(take, sight, life, self.election.request(), t0);
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
        self.shared.counters.take_times.took(at.saturating_sub(t0));
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
        if won == Some(true) {
            self.shared.renewed(t0);
            (self.untold, self.endings.due) = (true, before);
        }
        if let Standing::Leading(term) = self.election.standing() {
            info!(component = %self.shared.component, version = term.key.version, ttl_seconds = term.timing.ttl_seconds(), "leading");
        } else if won == Some(false) {
            debug!(component = %self.shared.component, "another participant took the lease first");
        }
    }

    pub(super) async fn renew(&mut self, term: &TermKey) {
        let t0 = self.now();
        let mut limit = self.election.timing().attempt_timeout();
        if let Standing::Leading(term) = self.election.standing() {
            limit = limit.min(term.deadline().saturating_sub(t0));
        }
        let answer = attempt(limit, self.store.renew(term)).instrument(self.span("renew")).await;
        let at = self.now();
        self.shared.counters.renew_times.took(at.saturating_sub(t0));
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
        match renewed {
            Some(true) => self.shared.renewed(t0),
            Some(false) => self.unreleased = None,
            None => {}
        }
        self.election.renewed(t0, at, renewed, fastrand::f64());
    }

    /// Writes down what is known of the database's life.
    pub(super) async fn record(&mut self, call: Option<impl Future<Output = Result<Outcome, StoreError>>>) {
        let answer = attempt_if_any(self.election.timing().attempt_timeout(), call).await;
        let at = self.now();
        match &answer {
            Ok(_) => self.trouble.answered(Call::Write, &self.shared.component),
            Err(error) => self.trouble.failed(Call::Write, &self.shared.component, at, error),
        }
        self.election.recorded(at, answer.is_ok_and(|outcome| outcome == Outcome::Applied), fastrand::f64());
    }

    /// False when there was none to give.
    pub(super) async fn give_sign_of_life(&mut self, until: Moment) -> bool {
        let (now, timing) = (self.now(), self.election.timing());
        let leads = match self.election.standing() {
            Standing::Leading(term) => Some(term.key.version),
            Standing::Stopping(..) | Standing::Following => None,
        };
        let healthy = !matches!(self.election.ineligible(now), Some(Ineligible::Unhealthy));
        // A participant that cannot reach the database sends no heartbeats.
        let due = if self.trouble.is_deaf() {
            None
        } else {
            self.presence.due(now, until, self.unusual(), &timing, (healthy, leads))
        };
        let (Some((says, row, limit)), Some(directory)) = (due, self.store.directory()) else { return false };
        let answer = {
            let call = attempt(limit, directory.beat(&says, row)).instrument(self.span("beat"));
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

    /// This participant ends: a status need not go on calling it alive. Nothing waits long for that.
    pub(super) async fn say_farewell(&mut self) {
        let farewell = self.presence.farewell().filter(|_| !self.trouble.is_deaf());
        let (Some((says, row)), Some(directory)) = (farewell, self.store.directory()) else { return };
        let limit = self.limit_of_an_unusual_call();
        if let Err(error) =
            attempt(limit, directory.beat(&says, Some(row))).instrument(self.span("beat")).await
        {
            debug!(component = %self.shared.component, %error, "the end of this participant could not be written to component_instance; its row expires");
        }
    }

    pub(super) async fn release(&mut self, release: Release) {
        let (Release { term, within }, t0) = (release, self.now());
        let limit = self.election.timing().attempt_timeout();
        let answer = match &within {
            None => attempt(limit, self.store.release(&term)).instrument(self.span("release")).await,
            Some(life_id) => {
                let epochs = self.store.epochs();
                let call = attempt_if_any(limit, epochs.map(|epochs| epochs.release_late(&term, life_id)));
                call.instrument(self.span("release_late")).await
            }
        };
        let (at, component) = (self.now(), &self.shared.component);
        self.shared.counters.release_times.took(at.saturating_sub(t0));
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
                info!(%component, version = term.version, "no late release is needed: the row or the database has changed since the term");
            }
            Some(false) if self.endings.unanswered == Some(term.version) => {
                info!(%component, version = term.version, "released already, by a call whose answer was lost");
            }
            Some(false) => {
                warn!(%component, version = term.version, "not released: another participant had already taken the lease");
            }
            None => self.endings.unanswered = Some(term.version),
        }
        if released == Some(true) || released.is_some() && self.unreleased.is_some_and(|ours| ours.applied) {
            self.unreleased = None;
        }
        self.election.released(at, released, fastrand::f64());
        let earlier = released == Some(false) && self.endings.unanswered == Some(term.version);
        if released == Some(true) || earlier {
            // Now, and not when there is time: this process may end.
            self.notify().await;
            let end = self.endings.released(term.version, at);
            self.write_end(end).await;
        }
    }

    /// Writes the end of a term into the history: a call of its own, for which nothing waits long.
    pub(super) async fn write_end(&mut self, end: TermEnd) {
        let TermEnd { version, ending } = end;
        let Some(directory) = self.store.directory() else { return };
        let limit = self.limit_of_an_unusual_call();
        let call = attempt(limit, directory.end_term(&self.shared.component, version, &ending));
        match call.instrument(self.span("end_term")).await {
            Ok(outcome) => {
                let reason = ending.reason.as_str();
                debug!(component = %self.shared.component, version, reason, ?outcome, "wrote into the history how the term ended");
            }
            Err(error) => self.endings.failed(&self.shared.component, self.now(), &error),
        }
    }

    /// Notifies listeners that the holder has changed. Apart from the call that changed it, which must
    /// not fail or wait for that; who is not told finds out by looking.
    pub(super) async fn notify(&mut self) {
        let limit = self.limit_of_an_unusual_call();
        let call = attempt(limit, self.store.notify(&self.shared.component));
        let told = call.instrument(self.span("notify")).await;
        if let Err(error) = told {
            self.trouble.untold(&self.shared.component, self.now(), &error);
        }
    }
}
