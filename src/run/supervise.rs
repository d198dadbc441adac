//! `run`: a program that runs while this participant leads, and at no other time.
//!
//! ```text
//! standing by ──win──▶ start guardians, and through them the program in a process group of its own
//!      ▲                   │ lost / sick / asked to end              │ it ended by itself
//!      │                   ▼                                         ▼
//!      │               TERM to the group … KILL to everything    release, exit with its code
//!      └── release ◀── when nothing is left of the program (unless asked to end: then exit with its code)
//! ```
//! Asked to end, it passes the signal on and goes on renewing while the program stops, for as long as the
//! drain timeout at most. Everything that the program has started is ended by force before the abort moment by
//! this task; at the abort moment by a plain OS thread, should every async worker be blocked; and by the
//! guardian processes, should this whole process be frozen or dead.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::program;
use super::signals::{Heard, Signals};
use crate::agent::health::{Judge, Probe};
use crate::agent::{Control, Teller, confirm_the_stop, election_failed};
use crate::clock::{Clock, SystemClock};
use crate::election::{Moment, StopReason};
use crate::participant::{HeldTerm, Participant, TermObserver};
use crate::process::Failure;
use crate::supervise::children::Children;
use crate::supervise::guardians::{Guardians, Happening, Program};
use crate::supervise::tree::{self, ROUND, Remains, Tree};

/// How often the abort moment is passed on.
const TICK: Duration = Duration::from_millis(100);
/// How often guardians that somebody stopped get SIGCONT.
const WAKE: Duration = Duration::from_secs(1);
/// How long a program that has ended is waited for before what is left of it is looked for.
const SETTLE: Duration = Duration::from_millis(10);
/// A program that did not stop within the drain timeout has this long after a last SIGTERM: the first one was
/// long ago, and a pod's usual grace period is 5 s longer than the default of that timeout.
const LAST_GRACE: Duration = Duration::from_secs(3);
/// How long killed processes may take to end before they are complained of, and how often that is repeated.
const OVERDUE: Duration = Duration::from_secs(1);
const REPEAT: Duration = Duration::from_secs(60);

/// What is supervised, and by what rules.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// Removed when the process ends in order.
    pub(super) _control: Option<Control>,
    pub(super) participant: Arc<Participant>,
    pub(super) teller: Arc<Teller>,
    pub(super) command: Vec<OsString>,
    /// Where the child can ask whether it leads.
    pub(super) agent_url: String,
    /// Variables that are not passed on to the child.
    pub(super) withheld: Vec<&'static str>,
    /// What is started as a guardian, if not this very program.
    pub(super) guardian: Option<PathBuf>,
    pub(super) cooldown: Duration,
    /// How long the lease is renewed for a program that was told to stop.
    pub(super) drain_timeout: Duration,
    pub(super) probe: Option<Probe>,
    pub(super) tree: Arc<Tree>,
    pub(super) children: Children,
    pub(super) signals: Signals,
    /// Somebody asked this process to end.
    pub(super) ending: bool,
}

/// The program of one term.
struct Running {
    guardians: Guardians,
    /// Its probe failed.
    sick: bool,
    /// It was told to end by a signal that was passed on, while the lease was renewed.
    told: bool,
}

/// How far the stopping of a program has come.
struct Stopping {
    /// When it gets SIGTERM; `None` once it did.
    ask_at: Option<Moment>,
    kill_at: Moment,
    killing: bool,
    look_at: Moment,
    complain_at: Moment,
    wake_at: Moment,
    remains: Remains,
}

impl Supervisor {
    /// Competes and supervises until it is asked to end or the program ends by itself; answers the exit code.
    pub(super) async fn run(mut self) -> Result<u8, Failure> {
        loop {
            let participant = Arc::clone(&self.participant);
            tokio::select! {
                held = participant.lead() => {
                    let Some(held) = held.map_err(election_failed)? else { return self.finish(0).await };
                    if let Some(code) = self.term(held).await? {
                        return self.finish(code).await;
                    }
                }
                heard = self.signals.next() => match heard {
                    Heard::End(_) => self.end(),
                    Heard::PassOn(signal) => {
                        info!(signal = signal.as_raw(), "standing by: no program runs that could get this signal");
                    }
                },
            }
        }
    }

    fn end(&mut self) {
        self.ending = true;
        self.participant.begin_shutdown(self.drain_timeout);
    }

    /// Waits for the end of the participant, which was drained or shut down before.
    async fn finish(&self, code: u8) -> Result<u8, Failure> {
        self.participant.ended().await.map_err(election_failed)?;
        Ok(code)
    }

    /// One term. Answers an exit code when there will be no other.
    async fn term(&mut self, held: HeldTerm) -> Result<Option<u8>, Failure> {
        // The clock first: should this process be stopped in between, the deadline must not move.
        let now = SystemClock.boot();
        let deadline = now + held.valid_for();
        let moments = (deadline, held.abort_at());
        let program = self.program(&held);
        let mut guardians = match Guardians::start(&self.children, &self.tree, program, moments).await {
            Ok(guardians) => guardians,
            Err(error) => {
                self.participant.drain();
                held.work_ended(false);
                confirm_the_stop(held, &self.teller).await;
                self.finish(0).await?;
                return Err(Failure::unexpected(format!(
                    "cannot start the guardian process, without which `run` starts no program: {error}"
                )));
            }
        };
        let started = guardians.started(deadline).await;
        let mut running = Running { guardians, sick: false, told: false };
        match started {
            Ok(pid) => {
                info!(version = held.version(), pid = pid.as_raw_nonzero(), "the program is started");
            }
            Err(error) => {
                running.guardians.dismiss();
                self.stop(&held, &mut running, None).await;
                if error.kind() == io::ErrorKind::TimedOut {
                    warn!(version = held.version(), "the term was over before the program could be started");
                    // It may have been renewed meanwhile, or a renewal may be answered yet. A participant that cannot
                    // start its program for so long lets another one lead.
                    self.participant.step_down();
                    confirm_the_stop(held, &self.teller).await;
                    return Ok(self.ending.then_some(0));
                }
                self.participant.drain();
                held.work_ended(false);
                confirm_the_stop(held, &self.teller).await;
                self.finish(0).await?;
                return Err(program::failure(&self.command[0], &error));
            }
        }

        let reason = self.attend(&held, &mut running).await;
        let by_itself = reason.is_none();
        if by_itself {
            self.participant.drain();
        }
        self.stop(&held, &mut running, reason).await;
        let ended = running.guardians.last_word().await;
        info!(version = held.version(), %ended, "the program has ended");
        if by_itself {
            held.work_ended(ended.exit_code() == 0);
        }
        // The program has stopped; others may have been told that this process leads.
        confirm_the_stop(held, &self.teller).await;

        // Whatever ended the term: the participant was told, and must be told when it is over.
        if running.sick {
            self.recover_after_the_cooldown();
        }
        Ok((by_itself || self.ending).then(|| ended.exit_code()))
    }

    /// Until the work must stop (answers why) or the program ended by itself (answers `None`).
    async fn attend(&mut self, term: &TermObserver, running: &mut Running) -> Option<StopReason> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wake = interval(WAKE);
        wake.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let participant = Arc::clone(&self.participant);
        let sick = until_sick(self.probe.clone(), self.cooldown);
        tokio::pin!(sick);
        running.guardians.watch(term.abort_at());
        loop {
            tokio::select! {
                biased;
                reason = term.lost() => return Some(reason),
                happening = running.guardians.next() => match happening {
                    Happening::ProgramEnded(_) | Happening::NothingLeft => return None,
                    Happening::BothLost => {
                        warn!("both guardian processes were killed, so nothing would end the program if this process died: ending the term");
                        participant.step_down();
                    }
                    Happening::OneLost | Happening::ProgramStarted(_) | Happening::NotStarted(_) => {}
                },
                heard = self.signals.next() => match heard {
                    Heard::End(signal) => {
                        self.tree.signal(signal);
                        self.tree.signal(Signal::CONT);
                        if !self.ending {
                            info!(signal = signal.as_raw(), seconds = self.drain_timeout.as_secs_f64(), "shutting down: the lease is renewed while the program stops, for at most the drain timeout");
                        }
                        running.told = true;
                        self.end();
                    }
                    Heard::PassOn(signal) => self.tree.signal(signal),
                },
                // A program that is stopping need not be well.
                () = &mut sick, if !running.sick && !self.ending => {
                    running.sick = true;
                    participant.set_healthy(false);
                }
                _ = tick.tick() => running.guardians.watch(term.abort_at()),
                _ = wake.tick() => running.guardians.wake(),
            }
        }
    }

    /// Returns when nothing is left of the program, and nothing is to be killed any more.
    async fn stop(&mut self, term: &TermObserver, running: &mut Running, reason: Option<StopReason>) {
        let began = SystemClock.boot();
        let stop_grace = term.stop_grace();
        let drained = running.told && !self.drain_timeout.is_zero();
        let kill_at = kill_at(began, term.abort_at(), stop_grace, (reason, drained));
        // Others take a second signal for "at once": it is sent late to those that were told just now.
        let told_just_now = running.told && !drained;
        let mut stopping = Stopping {
            // Some programs hear TERM only: a shell starts background jobs deaf to INT and QUIT.
            ask_at: Some(if told_just_now { began + stop_grace / 2 } else { began }),
            kill_at,
            killing: false,
            look_at: began + SETTLE,
            complain_at: kill_at + OVERDUE,
            wake_at: began + WAKE,
            remains: Remains::default(),
        };
        while !running.guardians.nothing_is_left() {
            self.press(term, running, &mut stopping);
            let now = SystemClock.boot();
            let next = if stopping.killing { now + ROUND } else { stopping.look_at.min(kill_at) };
            tokio::select! {
                _ = running.guardians.next() => {}
                () = sleep(next.saturating_sub(now).min(TICK)) => {}
                heard = self.signals.next() => match heard {
                    Heard::End(signal) => {
                        self.tree.signal(signal);
                        self.end();
                    }
                    Heard::PassOn(signal) => self.tree.signal(signal),
                },
            }
        }
        // The term may last until others were told: what runs below this process then is no part of the program.
        self.tree.set(None);
    }

    /// One round of getting a program to end.
    fn press(&self, term: &TermObserver, running: &Running, stopping: &mut Stopping) {
        let now = SystemClock.boot();
        if stopping.ask_at.take_if(|at| now >= *at).is_some() {
            self.tree.ask_to_stop();
        }
        if now >= stopping.wake_at {
            stopping.wake_at = now + WAKE;
            running.guardians.wake();
        }
        let Some(scope) = self.tree.scope() else { return };
        if now >= stopping.kill_at {
            let round = scope.kill();
            let nobody = round.as_ref().is_ok_and(|round| round.living.is_empty());
            if !stopping.killing && !nobody {
                let names = tree::name(&round.as_ref().map(|round| round.living.clone()).map_err(copy));
                warn!(version = term.version(), %names, "the program does not stop in time: killing it");
            }
            stopping.killing = true;
            if now >= stopping.complain_at {
                if nobody {
                    // What has ended is not fetched by a guardian that hangs.
                    running.guardians.kill();
                } else {
                    stopping.complain_at = now + REPEAT;
                    let names = tree::name(&round.map(|round| round.living));
                    warn!(version = term.version(), %names, "a process that the program started cannot be ended: the lease is not released while it runs, so it expires and another participant may lead beside it; end it by hand");
                }
            }
        } else if now >= stopping.look_at && running.guardians.status().is_some() {
            stopping.look_at = now + TICK / 2;
            if let Ok(living) = scope.living() {
                stopping.remains.ask_to_stop(&living, running.guardians.program());
            }
        } else if now >= stopping.look_at {
            stopping.look_at = now + TICK;
        }
    }

    fn recover_after_the_cooldown(&self) {
        let participant = Arc::clone(&self.participant);
        let until = SystemClock.boot() + self.cooldown;
        info!(cooldown = ?self.cooldown, "not competing during the cooldown: the program was unhealthy");
        tokio::spawn(async move {
            while SystemClock.boot() < until {
                sleep((until - SystemClock.boot()).min(Duration::from_secs(1))).await;
            }
            participant.set_healthy(true);
        });
    }

    /// What the program is started with.
    fn program(&self, term: &TermObserver) -> Program {
        let participant = &self.participant;
        Program {
            command: self.command.clone(),
            set: vec![
                ("COMPONENT_LEASE_COMPONENT", participant.component().as_str().into()),
                ("COMPONENT_LEASE_HOLDER", participant.holder().as_str().into()),
                ("COMPONENT_LEASE_VERSION", term.version().to_string().into()),
                ("COMPONENT_LEASE_AGENT_URL", self.agent_url.clone().into()),
            ],
            unset: self.withheld.clone(),
            guardian: self.guardian.clone(),
            output: None,
        }
    }
}

/// When a program that was told to stop is killed. It gets the stop grace in any case where that
/// leaves time before the abort moment, and longer where the release would still be in time.
fn kill_at(
    now: Moment,
    abort: Moment,
    stop_grace: Duration,
    (reason, drained): (Option<StopReason>, bool),
) -> Moment {
    // A kill takes effect at once, but the processes must be gone, not only told.
    let margin = Duration::from_millis(200);
    let least = now + stop_grace;
    let latest = abort.saturating_sub(margin);
    let release = latest.saturating_sub(stop_grace);
    match reason {
        // Somebody else leads already, or what is left are the remains of a program that ended.
        Some(StopReason::Lost) | None => least.min(latest),
        Some(StopReason::Draining) if drained => (now + stop_grace.min(LAST_GRACE)).min(latest),
        Some(_) => release.max(least).min(latest),
    }
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// Resolves when the program of this term is sick; never without a probe.
async fn until_sick(probe: Option<Probe>, cooldown: Duration) {
    let Some(probe) = probe else { return std::future::pending().await };
    let mut judge = Judge::new(&probe, cooldown, true);
    judge.forgive_until(SystemClock.boot() + probe.start_grace);
    loop {
        sleep(probe.interval).await;
        let answer = probe.ask().await;
        let healthy = judge.heard(SystemClock.boot(), answer.is_ok(), true);
        if let Err(problem) = answer {
            warn!(
                problem,
                failures = judge.failures(),
                threshold = probe.threshold,
                "the program is unhealthy"
            );
        }
        if !healthy {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_program_that_must_stop_has_until_the_last_moment_at_which_the_release_is_in_time() {
        assert_eq!(
            kill_at(ms(10_000), ms(14_000), ms(1_000), (Some(StopReason::Draining), false)),
            ms(12_800)
        );
    }

    #[test]
    fn a_program_that_did_not_stop_within_the_drain_timeout_gets_little_more() {
        let draining = |grace| kill_at(ms(10_000), ms(34_000), ms(grace), (Some(StopReason::Draining), true));
        assert_eq!([draining(6_000), draining(1_000)], [ms(13_000), ms(11_000)]);
        assert_eq!(
            kill_at(ms(10_000), ms(11_000), ms(1_000), (Some(StopReason::Draining), true)),
            ms(10_800)
        );
    }

    #[test]
    fn a_program_has_its_stop_grace_even_if_the_release_comes_too_late() {
        assert_eq!(
            kill_at(ms(12_500), ms(14_000), ms(1_000), (Some(StopReason::Draining), false)),
            ms(13_500)
        );
    }

    #[test]
    fn no_program_outlives_the_abort_moment() {
        assert_eq!(
            kill_at(ms(13_000), ms(14_000), ms(1_000), (Some(StopReason::Deadline), false)),
            ms(13_800)
        );
        assert!(
            kill_at(ms(99_000), ms(14_000), ms(1_000), (Some(StopReason::Deadline), false)) <= ms(14_000)
        );
    }

    #[test]
    fn once_somebody_else_leads_the_program_has_its_stop_grace_and_no_more() {
        assert_eq!(kill_at(ms(10_000), ms(14_000), ms(1_000), (Some(StopReason::Lost), false)), ms(11_000));
    }
}
