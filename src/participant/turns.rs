//! The loop around the state machine: ask [`Election`](crate::election::Election) what to do, do it, pass it the outcome,
//! publish what it says. All decisions are in [`crate::election::machine`].

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::outcome::Drained;
use super::runner::Runner;
use super::trouble::say_new_epoch;
use crate::election::{Action, Moment, Standing};

/// Longest sleep of the loop: tokio's timers stand still in suspend, and the heartbeat must go on.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

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
            self.shared.beat(now);
            let action = self.election.next(now);
            self.publish();
            match action {
                Action::Look => self.look().await,
                Action::Take(take) => self.take(&take).await,
                Action::Renew(term) => self.renew(&term).await,
                // What it did goes on by another right: nobody is to be invited.
                Action::Release(release) if self.left == Some(release.term.version) => {
                    self.election.released(now, Some(false), 0.0);
                }
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
                    if let Some(end) = self.endings.due.take() {
                        self.write_end(end).await;
                    }
                    self.say_farewell().await;
                    return if self.unreleased.is_none() { Drained::Released } else { Drained::LeftToLapse };
                }
            }
        }
    }

    async fn wait(&mut self, until: Moment) {
        if std::mem::take(&mut self.untold) {
            return self.notify().await;
        }
        if let Some(end) = self.endings.due.take() {
            return self.write_end(end).await;
        }
        if self.give_sign_of_life(until).await {
            return;
        }
        let until = self.shutdown.map_or(until, |shutdown| until.min(shutdown));
        let limit = until.saturating_sub(self.now()).min(LONGEST_SLEEP);
        // A leader may be asked to make way.
        let listens = !matches!(self.election.standing(), Standing::Stopping(..));
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
            () = self.hints.next_for(self.shared.component.as_str()), if listens => {
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
        let now = self.now();
        let mut left = false;
        if let Standing::Stopping(term, reason) = self.election.standing() {
            let over = now.min(term.deadline());
            let cell = self.shared.term().filter(|cell| cell.version() == term.key.version);
            left = cell.as_ref().is_some_and(|cell| cell.is_left());
            if left {
                self.left = Some(term.key.version);
            }
            let succeeded = cell.and_then(|cell| cell.succeeded());
            let (version, request) = (term.key.version, self.election.request());
            self.endings.stopped(version, (reason, succeeded), request, over);
        }
        let release = self.election.work_stopped(now);
        if let Some(release) = release.filter(|_| !left) {
            self.release(release).await;
        }
    }
}
