//! What a participant does with its state machine: the loop around it, its calls and their answers,
//! and what the outside sees of it.

use std::time::Duration;

use component_lease::election::machine::{Looked, Release, Standing, Term};
use component_lease::election::{Action, Election, Moment, StopReason};

use super::super::broken::Broken;
use super::super::database::{Answer, Call};
use super::{Event, MS, Real, Sim, Working};

pub(super) struct Process {
    pub(super) election: Election,
    pub(super) offset: f64,
    pub(super) rate: f64,
    /// Raised whenever what was waited for no longer matters.
    pub(super) turn: u64,
    pub(super) call: Option<(Call, Moment)>,
    pub(super) paused_until: Real,
    pub(super) alive: bool,
    pub(super) working: Option<Working>,
    pub(super) stopping: bool,
}

impl Process {
    pub(super) fn boot(&self, real: Real) -> Moment {
        Duration::from_micros((self.offset + real as f64 * self.rate) as u64)
    }

    pub(super) fn real(&self, boot: Moment) -> Real {
        // Rounded up: a clock that shows the moment has reached it.
        ((boot.as_micros() as f64 - self.offset) / self.rate).max(0.0) as Real + 1
    }
}

impl Sim {
    /// The loop of the participant: ask what to do, and begin it.
    pub(super) fn turn(&mut self, p: usize) -> Result<(), String> {
        let now = self.processes[p].boot(self.now);
        self.processes[p].turn += 1;
        let action = self.processes[p].election.next(now);
        self.publish(p)?;
        let turn = self.processes[p].turn;
        match action {
            Action::Look => self.send(p, Call::Look),
            Action::Take(mut take) => {
                if self.setup.broken == Some(Broken::TtlAboveTheLongest) {
                    take.ttl *= 3;
                }
                self.send(p, Call::Take(take));
            }
            Action::Renew(term) => self.send(p, Call::Renew(term)),
            Action::Release(release) => self.send(p, Call::Release(release)),
            Action::BeginEpoch(new) => self.send(p, Call::BeginEpoch(new)),
            Action::Settle(waited_out) => self.send(p, Call::Settle(waited_out)),
            Action::Wait(until) => {
                // Timers are never early, and seldom much too late.
                let late = if self.rng.u32(..1000) < self.setup.late { 500 * MS } else { 2 * MS };
                let at = self.processes[p].real(until) + self.rng.u64(0..late);
                self.push(at, Event::Wake(p, turn));
            }
            Action::AwaitWork => {
                let grace = self.processes[p].election.timing().stop_grace();
                // Some work stops too late and is ended by force.
                let takes = grace.mul_f64(1.2 * self.rng.f64());
                let at = self.now + u64::try_from(takes.as_micros()).unwrap_or(0);
                if self.setup.broken == Some(Broken::ReleaseBeforeStop)
                    && let Standing::Stopping(term, reason) = self.processes[p].election.standing()
                    && reason != StopReason::Lost
                {
                    let release = Release { term: term.key.clone(), within: None };
                    self.push(self.now + MS, Event::Arrive(p, u64::MAX, Call::Release(release)));
                }
                self.push(at, Event::WorkStopped(p, turn));
            }
            Action::Ended => self.processes[p].alive = false,
        }
        Ok(())
    }

    fn send(&mut self, p: usize, call: Call) {
        let process = &self.processes[p];
        let t0 = process.boot(self.now);
        let timing = process.election.timing();
        let mut limit = timing.attempt_timeout();
        if let Call::Take(_) = call {
            limit = timing.attempt_counts_for();
        }
        if let Standing::Leading(term) = process.election.standing() {
            limit = limit.min(term.deadline().saturating_sub(t0));
        }
        let (give_up, turn) = (process.real(t0 + limit), process.turn);
        self.processes[p].call = Some((call.clone(), t0));
        self.push(give_up, Event::GiveUp(p, turn));
        if let Some(delay) = self.delay() {
            self.push(self.now + delay, Event::Arrive(p, turn, call));
        }
    }
    /// A statement reaches the database, whether or not anybody still waits for it.
    pub(super) fn arrive(&mut self, p: usize, turn: u64, call: &Call) -> Result<(), String> {
        let now = self.database_now();
        let (answer, after) =
            self.database.answer(self.row.as_ref(), call, now, self.standing_ttl, self.setup.broken);
        if let Some(row) = after {
            let take = matches!(call, Call::Take(_));
            if let Call::Take(take) = call {
                self.database.remember(row.version);
                self.takes_as_asked(take)?;
            }
            self.write(row, take)?;
        }
        if let Some(delay) = self.delay() {
            self.push(self.now + delay, Event::Answer(p, turn, answer));
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, p: usize, answer: Option<Answer>) -> Result<(), String> {
        let process = &mut self.processes[p];
        let Some((call, t0)) = process.call.take() else { return Ok(()) };
        let at = process.boot(self.now);
        let jitter = self.rng.f64();
        let broken = self.setup.broken;
        let applied = match &answer {
            Some(Answer::Applied(applied)) => Some(*applied),
            _ => None,
        };
        let counted_from = if broken == Some(Broken::DeadlineFromAnswer) { at } else { t0 };
        let election = &mut process.election;
        match call {
            Call::Look => match answer {
                Some(Answer::Looked(looked)) => self.looked(p, t0, at, *looked, jitter)?,
                _ => election.look_failed(t0, at, jitter),
            },
            Call::Take(take) => election.took(counted_from, at, &take, applied),
            Call::Renew(_) => election.renewed(counted_from, at, applied, jitter),
            Call::Release(_) => election.released(at, applied, jitter),
            Call::BeginEpoch(_) | Call::Settle(_) => election.recorded(at, applied == Some(true), jitter),
        }
        self.turn(p)
    }

    fn looked(
        &mut self,
        p: usize,
        t0: Moment,
        at: Moment,
        looked: Looked,
        jitter: f64,
    ) -> Result<(), String> {
        let broken = self.setup.broken;
        let process = &mut self.processes[p];
        let held = looked.row.as_ref().filter(|row| !row.is_free());
        if broken == Some(Broken::LeadingByReading)
            && let Some(row) = held.filter(|row| row.holder == process.election.me().as_str())
        {
            let until = process.real(at + row.judged_ttl() * 9 / 10);
            process.working = Some(Working { version: row.version, until });
            self.one_works()?;
        }
        let process = &mut self.processes[p];
        let since = match held {
            _ if broken == Some(Broken::SightFromRequest) => t0,
            Some(row)
                if broken == Some(Broken::DatabaseClock)
                    && looked.database_now - row.renew_time > row.ttl * 1000 =>
            {
                // As if it had been watched for a ttl.
                process.election.looked(Moment::ZERO, Looked::default(), jitter);
                at.saturating_sub(row.judged_ttl())
            }
            _ => at,
        };
        let led = matches!(process.election.standing(), Standing::Leading(_));
        let request = looked.request.clone();
        process.election.looked(since, looked.clone(), jitter);
        if let Standing::Stopping(term, reason) = process.election.standing()
            && let Some(request) = request.filter(|_| led)
        {
            let version = term.key.version;
            self.obeyed(&request, version, reason)?;
        }
        let process = &mut self.processes[p];
        if since != at {
            process.election.looked(at, looked, jitter);
        }
        Ok(())
    }

    pub(super) fn work_stopped(&mut self, p: usize) -> Result<(), String> {
        let process = &mut self.processes[p];
        process.working = None;
        process.turn += 1;
        let now = process.boot(self.now);
        match process.election.work_stopped(now) {
            Some(release) => self.send(p, Call::Release(release)),
            None => self.turn(p)?,
        }
        Ok(())
    }

    /// The watchdog: work that still runs at the abort moment is ended.
    pub(super) fn abort(&mut self, p: usize, version: i64) {
        let process = &mut self.processes[p];
        let Some(working) = process.working.filter(|w| process.alive && w.version == version) else { return };
        if process.paused_until > self.now {
            // The watchdog stands still too, and is late when all goes on.
            let at = process.paused_until + self.rng.u64(0..50 * MS);
            self.push(at, Event::Abort(p, version));
        } else if working.until <= self.now {
            self.crash(p);
        } else {
            self.push(working.until, Event::Abort(p, version));
        }
    }
    /// What the outside sees of a participant after each of its turns.
    pub(super) fn publish(&mut self, p: usize) -> Result<(), String> {
        let process = &mut self.processes[p];
        let leads = |term: &Term| Working { version: term.key.version, until: process.real(term.abort()) };
        match process.election.standing() {
            Standing::Leading(term) => {
                let working = leads(term);
                let began = process.working.is_none_or(|w| w.version != working.version);
                process.working = Some(working);
                process.stopping = false;
                if began {
                    let (highest, ttl) = (self.highest_granted, u64::from(self.setup.ttl) * super::SECOND);
                    if working.version <= highest
                        && !self.operators.overtook(working.version, highest, self.now, ttl)
                    {
                        return Err(format!(
                            "version {} granted after {}",
                            working.version, self.highest_granted
                        ));
                    }
                    self.highest_granted = working.version.max(highest);
                    self.grants += 1;
                    self.push(working.until, Event::Abort(p, working.version));
                }
            }
            Standing::Stopping(..) => process.stopping = true,
            Standing::Following if process.stopping => {
                process.working = None;
                process.stopping = false;
            }
            Standing::Following => {}
        }
        self.one_works()
    }

    /// A command reaches the loop: a look is dropped for it, anything else is finished first.
    pub(super) fn command(&mut self, p: usize, command: impl FnOnce(&mut Election)) -> Result<(), String> {
        if self.processes[p].paused_until > self.now {
            return Ok(());
        }
        command(&mut self.processes[p].election);
        self.publish(p)?;
        match self.processes[p].call {
            None if !self.processes[p].stopping => self.turn(p),
            Some((Call::Look, _)) => {
                self.processes[p].call = None;
                self.turn(p)
            }
            _ => Ok(()),
        }
    }
}
