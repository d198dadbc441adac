//! `run`: a program that runs while this participant leads, and at no other time.
//!
//! ```text
//! standing by ──win──▶ start the program in a process group of its own
//!      ▲                   │ lost / sick / asked to end              │ it ended by itself
//!      │                   ▼                                         ▼
//!      │               TERM to the group … KILL to the group     drain, release, exit with its code
//!      └── release ◀── when the whole group is gone (unless asked to end: then exit with its code)
//! ```
//! The group is ended by force before the abort moment by this task; at the abort moment by a
//! plain OS thread, should every async worker be blocked; and by the guardian process, should this
//! whole process be frozen or dead.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::children::{Children, Ended, Started};
use super::group::Group;
use super::guardian::{Announcement, Guardian};
use super::health::{Judge, Probe};
use super::http::Teller;
use super::signals::{Heard, Signals};
use super::{confirm_the_stop, program};
use crate::clock::{Clock, SystemClock};
use crate::domain::{Moment, StopReason};
use crate::participant::{End, Leadership, Participant};
use crate::process::{ExitCode, Failure};

/// How often the abort moment is passed on and the end of the group is looked for.
const TICK: Duration = Duration::from_millis(100);
const LAST_TICK: Duration = Duration::from_millis(5);

/// What is supervised, and by what rules.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) participant: Arc<Participant>,
    pub(super) teller: Arc<Teller>,
    pub(super) command: Vec<OsString>,
    /// Where the child can ask whether it leads.
    pub(super) agent_url: String,
    pub(super) cooldown: Duration,
    pub(super) probe: Option<Probe>,
    pub(super) group: Arc<Group>,
    pub(super) children: Children,
    pub(super) signals: Signals,
    /// Somebody asked this process to end.
    pub(super) ending: bool,
}

/// The program of one term.
struct Running {
    pid: Pid,
    ended: oneshot::Receiver<Ended>,
    status: Option<Ended>,
    /// It was already told to end by a signal that was passed on.
    told: bool,
    /// Its probe failed.
    sick: bool,
}

impl Running {
    async fn wait(&mut self) -> Ended {
        if self.status.is_none() {
            // Only a reaper that died could lose the status, and then this process is lost too.
            self.status = Some((&mut self.ended).await.unwrap_or(Ended::Signalled(Signal::KILL.as_raw())));
        }
        self.status.unwrap_or(Ended::Exited(0))
    }
}

impl Supervisor {
    /// Competes and supervises until it is asked to end or the program ends by itself; answers the exit code.
    pub(super) async fn run(mut self) -> Result<u8, Failure> {
        loop {
            let participant = Arc::clone(&self.participant);
            tokio::select! {
                leadership = participant.lead() => {
                    let Some(leadership) = leadership else { return self.finish(0).await };
                    if let Some(code) = self.term(leadership).await? {
                        return self.finish(code).await;
                    }
                }
                heard = self.signals.next() => match heard {
                    Heard::End(_) => self.end(),
                    Heard::PassOn(signal) => {
                        info!(signal = signal.as_raw(), "standing by: there is no program to pass this signal on to");
                    }
                },
            }
        }
    }

    fn end(&mut self) {
        self.ending = true;
        self.participant.drain();
    }

    async fn finish(&mut self, code: u8) -> Result<u8, Failure> {
        self.participant.drain();
        match self.participant.ended().await {
            End::Drained => Ok(code),
            End::Failed => {
                Err(Failure::new(ExitCode::Ended, "the election loop failed; restart this process"))
            }
        }
    }

    /// One term. Answers an exit code when there will be no other.
    async fn term(&mut self, leadership: Leadership) -> Result<Option<u8>, Failure> {
        let mut guardian = Guardian::start(&self.children).await;
        if !leadership.guard().is_valid() {
            // Whatever took so long (a paused machine): a program that is not started need not be killed.
            guardian.dismiss();
            confirm_the_stop(leadership, &self.teller).await;
            return Ok(self.ending.then_some(0));
        }
        let Started { pid, ended, .. } = match self.start(&leadership, &mut guardian).await {
            Ok(started) => started,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                warn!(
                    version = leadership.version(),
                    "the term was over before the program could be started"
                );
                guardian.dismiss();
                confirm_the_stop(leadership, &self.teller).await;
                return Ok(self.ending.then_some(0));
            }
            Err(error) => {
                guardian.dismiss();
                self.participant.drain();
                confirm_the_stop(leadership, &self.teller).await;
                self.finish(0).await?;
                return Err(program::failure(&self.command[0], &error));
            }
        };
        self.group.set(Some(pid));
        guardian.watch(pid, leadership.abort_at());
        info!(version = leadership.version(), pid = pid.as_raw_nonzero(), "the program is started");
        let mut running = Running { pid, ended, status: None, told: false, sick: false };

        let reason = self.attend(&leadership, &mut running, &mut guardian).await;
        let by_itself = running.status;
        if by_itself.is_some() {
            self.participant.drain();
        }
        self.stop(&leadership, &mut running, reason).await;
        let ended = running.wait().await;
        info!(version = leadership.version(), %ended, "the program has ended");
        self.group.set(None);
        guardian.dismiss();
        // The program has stopped; others may have been told that this process leads.
        confirm_the_stop(leadership, &self.teller).await;

        // Whatever ended the term: the participant was told, and must be told when it is over.
        if running.sick {
            self.recover_after_the_cooldown();
        }
        Ok((by_itself.is_some() || self.ending).then(|| ended.exit_code()))
    }

    /// Until the work must stop (answers why) or the program ended by itself (answers `None`).
    async fn attend(
        &mut self,
        leadership: &Leadership,
        running: &mut Running,
        guardian: &mut Guardian,
    ) -> Option<StopReason> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let participant = Arc::clone(&self.participant);
        let sick = until_sick(self.probe.clone(), self.cooldown);
        tokio::pin!(sick);
        loop {
            tokio::select! {
                biased;
                reason = leadership.lost() => return Some(reason),
                _ = running.wait() => return None,
                heard = self.signals.next() => match heard {
                    Heard::End(signal) => {
                        self.group.signal(signal);
                        self.group.signal(Signal::CONT);
                        running.told = true;
                        self.end();
                    }
                    Heard::PassOn(signal) => {
                        self.group.signal(signal);
                    }
                },
                () = &mut sick, if !running.sick => {
                    running.sick = true;
                    participant.set_healthy(false);
                }
                _ = tick.tick() => guardian.watch(running.pid, leadership.abort_at()),
            }
        }
    }

    /// Returns when no process of the group is left.
    async fn stop(&mut self, leadership: &Leadership, running: &mut Running, reason: Option<StopReason>) {
        let began = SystemClock.boot();
        let stop_grace = leadership.guard().stop_grace();
        let kill_at = kill_at(began, leadership.abort_at(), stop_grace, reason);
        // Some programs hear TERM only (a shell starts background jobs deaf to INT and QUIT), others
        // take a second signal for "at once": it is sent late to those that were told something else.
        let mut ask_at = Some(if running.told { began + stop_grace / 2 } else { began });
        let mut killing = false;
        loop {
            // A process that ended still counts as one of the group until it is reaped.
            if running.status.is_some() && self.group.is_gone() {
                return;
            }
            let now = SystemClock.boot();
            if ask_at.take_if(|at| now >= *at).is_some() {
                self.group.ask_to_stop();
            }
            if now >= kill_at {
                if !killing {
                    warn!(version = leadership.version(), "the program does not stop in time: killing it");
                }
                killing = true;
                self.group.signal(Signal::KILL);
            }
            let pause = if running.status.is_some() { LAST_TICK } else { TICK };
            let pause = if killing { LAST_TICK } else { pause.min(kill_at - now) };
            tokio::select! {
                _ = running.wait(), if running.status.is_none() => {}
                () = sleep(pause) => {}
                heard = self.signals.next() => match heard {
                    Heard::End(signal) => {
                        self.group.signal(signal);
                        self.end();
                    }
                    Heard::PassOn(signal) => {
                        self.group.signal(signal);
                    }
                },
            }
        }
    }

    fn recover_after_the_cooldown(&self) {
        let participant = Arc::clone(&self.participant);
        let until = SystemClock.boot() + self.cooldown;
        info!(cooldown = ?self.cooldown, "staying away: the program was not healthy");
        tokio::spawn(async move {
            while SystemClock.boot() < until {
                sleep((until - SystemClock.boot()).min(Duration::from_secs(1))).await;
            }
            participant.set_healthy(true);
        });
    }

    async fn start(&self, leadership: &Leadership, guardian: &mut Guardian) -> io::Result<Started> {
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .env("COMPONENT_LEASE_COMPONENT", self.participant.component().as_str())
            .env("COMPONENT_LEASE_HOLDER", self.participant.holder().as_str())
            .env("COMPONENT_LEASE_VERSION", leadership.version().to_string())
            .env("COMPONENT_LEASE_AGENT_URL", &self.agent_url)
            // Whoever has it can take any lease, and the program does not need it.
            .env_remove("COMPONENT_LEASE_DATABASE_URL")
            .process_group(0);
        if io::stdin().is_terminal() {
            // In a group of its own, it would be stopped on its first read from the terminal.
            command.stdin(Stdio::null());
        }
        // The clock first: should this process be stopped in between, the deadline must not move.
        let now = SystemClock.boot();
        let birth = Birth {
            parent: rustix::process::getpid(),
            deadline: now + leadership.guard().valid_for(),
            announcement: guardian.announcement(leadership.abort_at()),
        };
        birth.before_exec_of(&mut command);
        self.children.start(command).await
    }
}

/// What the process that becomes the program sees to by itself: this one may be stopped at any moment.
struct Birth {
    parent: Pid,
    /// No program begins after this.
    deadline: Moment,
    announcement: Option<Announcement>,
}

impl Birth {
    #[expect(
        unsafe_code,
        reason = "between fork and exec the child makes a few system calls and allocates nothing"
    )]
    fn before_exec_of(self, command: &mut Command) {
        // SAFETY: the closure is async-signal-safe: raw system calls, no allocation, no lock.
        unsafe {
            command.pre_exec(move || self.prepare().map_err(Into::into));
        }
    }

    fn prepare(&self) -> Result<(), Errno> {
        // The kernel kills the child when the thread that starts it ends, which is when its process does.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the signal was asked for.
        if rustix::process::getppid() != Some(self.parent) {
            return Err(Errno::SRCH);
        }
        if let Some(announcement) = &self.announcement {
            announcement.say(rustix::process::getpid())?;
        }
        if SystemClock.boot() >= self.deadline { Err(Errno::TIMEDOUT) } else { Ok(()) }
    }
}

/// When a program that was told to stop is killed. It gets the stop grace in any case where that
/// leaves time before the abort moment, and longer where the release would still be in time.
fn kill_at(now: Moment, abort: Moment, stop_grace: Duration, reason: Option<StopReason>) -> Moment {
    // A kill takes effect at once, but the processes must be gone, not only told.
    let margin = Duration::from_millis(200);
    let least = now + stop_grace;
    let latest = abort.saturating_sub(margin);
    let release = latest.saturating_sub(stop_grace);
    match reason {
        // Somebody else leads already, or what is left are the remains of a program that ended.
        Some(StopReason::Lost) | None => least.min(latest),
        Some(_) => release.max(least).min(latest),
    }
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
                "the program is not well"
            );
        }
        if !healthy {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Starts a program as a supervisor does; what came of it, and what the guardian was told.
    fn born(deadline: Moment, guarded: bool) -> (io::Result<std::process::Child>, String) {
        let (mut heard, pipe) = io::pipe().unwrap();
        let announcement =
            guarded.then(|| Announcement::on(OwnedFd::from(pipe.try_clone().unwrap()), ms(14_000)));
        drop(pipe);
        let mut command = Command::new("true");
        command.process_group(0);
        Birth { parent: rustix::process::getpid(), deadline, announcement }.before_exec_of(&mut command);
        let started = command.spawn();
        drop(command);
        let mut line = String::new();
        heard.read_to_string(&mut line).unwrap();
        (started, line)
    }

    #[test]
    fn a_program_tells_the_guardian_who_it_is_before_its_first_instruction() {
        let (started, line) = born(SystemClock.boot() + ms(60_000), true);
        let mut program = started.unwrap();
        assert_eq!(line, format!("{} 14000\n", program.id()));
        assert!(program.wait().unwrap().success());
        let (started, line) = born(SystemClock.boot() + ms(60_000), false);
        assert!(
            started.unwrap().wait().unwrap().success() && line.is_empty(),
            "without a guardian it runs too"
        );
    }

    #[test]
    fn no_program_begins_after_its_term() {
        let (started, _) = born(SystemClock.boot(), true);
        assert_eq!(started.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_guardian_that_is_gone_keeps_no_program_from_starting() {
        let (heard, pipe) = io::pipe().unwrap();
        drop(heard);
        let announcement = Some(Announcement::on(OwnedFd::from(pipe), ms(14_000)));
        let mut command = Command::new("true");
        let deadline = SystemClock.boot() + ms(60_000);
        Birth { parent: rustix::process::getpid(), deadline, announcement }.before_exec_of(&mut command);
        assert!(command.status().unwrap().success());
    }

    #[test]
    fn a_drained_program_has_until_the_last_moment_at_which_the_release_is_in_time() {
        assert_eq!(kill_at(ms(10_000), ms(14_000), ms(1_000), Some(StopReason::Draining)), ms(12_800));
    }

    #[test]
    fn a_program_has_its_stop_grace_even_if_the_release_comes_too_late() {
        assert_eq!(kill_at(ms(12_500), ms(14_000), ms(1_000), Some(StopReason::Draining)), ms(13_500));
    }

    #[test]
    fn no_program_outlives_the_abort_moment() {
        assert_eq!(kill_at(ms(13_000), ms(14_000), ms(1_000), Some(StopReason::Deadline)), ms(13_800));
        assert!(kill_at(ms(99_000), ms(14_000), ms(1_000), Some(StopReason::Deadline)) <= ms(14_000));
    }

    #[test]
    fn once_somebody_else_leads_the_program_has_its_stop_grace_and_no_more() {
        assert_eq!(kill_at(ms(10_000), ms(14_000), ms(1_000), Some(StopReason::Lost)), ms(11_000));
    }
}
