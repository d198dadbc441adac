//! What the loop asks of the store, one method for each action: make the call within its limit, tell [`Election`](crate::election::Election) the
//! outcome, count it and say it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{Instrument, debug, info, warn};

use super::attempt::{attempt, attempt_if_any, timed_out};
use super::counters::Counters;
use super::runner::{Runner, Unreleased};
use super::trouble::Call;
use crate::election::machine::{Looked, Release};
use crate::election::{Ineligible, Moment, Standing, Take, TermKey};
use crate::store::{Outcome, StoreError};

/// How long the loop waits for others to be told of a change, or of its end, at most.
const NOTIFY_LIMIT: Duration = Duration::from_millis(500);

impl Runner {
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

    pub(super) async fn take(&mut self, take: &Take) {
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

    pub(super) async fn renew(&mut self, term: &TermKey) {
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
            self.presence.due(now, until, &timing, (healthy, leads))
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
        let limit = self.election.timing().attempt_timeout().min(NOTIFY_LIMIT);
        if let Err(error) =
            attempt(limit, directory.beat(&says, Some(row))).instrument(self.span("beat")).await
        {
            debug!(component = %self.shared.component, %error, "the end could not be said");
        }
    }

    pub(super) async fn release(&mut self, release: Release) {
        let Release { term, within } = release;
        let limit = self.election.timing().attempt_timeout();
        let answer = match &within {
            None => attempt(limit, self.store.release(&term)).instrument(self.span("release")).await,
            Some(generation) => {
                let epochs = self.store.epochs();
                let call = attempt_if_any(limit, epochs.map(|epochs| epochs.release_late(&term, generation)));
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

    /// Notifies listeners that the holder has changed. Apart from the call that changed it, which must
    /// not fail or wait for that; who is not told finds out by looking.
    pub(super) async fn notify(&mut self) {
        let limit = self.election.timing().attempt_timeout().min(NOTIFY_LIMIT);
        let call = attempt(limit, self.store.notify(&self.shared.component));
        let told = call.instrument(self.span("notify")).await;
        if let Err(error) = told {
            self.trouble.untold(&self.shared.component, self.now(), &error);
        }
    }
}
