//! Participants, a network and a database in virtual time. Everything is drawn from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use component_lease::domain::election::{Looked, Standing, Term};
use component_lease::domain::{
    Action, ComponentName, Election, Generation, HolderId, LeaseRow, Moment, NewEpoch, StopReason, Take,
    TermKey, Timing, model,
};

use super::database::{Copy, Database};
use super::foreign::Foreign;

/// Real time, µs. Nobody in here can read it.
pub(super) type Real = u64;
pub(super) const SECOND: Real = 1_000_000;
const MS: Real = 1_000;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A row is seizable when the database's clock says so.
    DatabaseClock,
    /// A row is unchanged since the look was sent.
    SightFromRequest,
    /// A term lasts from the answer on.
    DeadlineFromAnswer,
    /// A renewal writes the database's time, whatever the row says.
    RenewalMayWriteTheSame,
    /// Whoever reads his own name in the row leads.
    LeadingByReading,
    /// The row is given back while the work still runs.
    ReleaseBeforeStop,
    /// Versions count on from whatever the row says.
    VersionWithoutEpoch,
    /// Epochs are counted by one.
    EpochWithoutDate,
    /// A change of the database is not waited out.
    NoQuarantine,
    /// It is, but a released or missing row is taken.
    QuarantineForHeldRowsOnly,
    /// A missing row is inserted at once.
    DeletedRowInsertedAtOnce,
    /// An insertion does not look at the history.
    InsertNotBoundToHistory,
}

/// What one run is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) participants: usize,
    pub(super) foreign: usize,
    pub(super) ttl: u32,
    /// Boot clocks run off real time by up to this much.
    pub(super) drift: f64,
    /// Of 1,000 messages in either direction.
    pub(super) lost: u32,
    pub(super) late: u32,
    /// Things that happen to processes and to the database's clock, on average, per ttl.
    pub(super) mishaps: f64,
    /// Whether the database's clock may step and stand still.
    pub(super) database_clock: bool,
    /// Whether the database may become another one that forgot something, and rows be deleted.
    pub(super) database_changes: bool,
    pub(super) broken: Option<Broken>,
}

#[derive(Debug, Clone)]
pub(super) enum Call {
    Look,
    Take(Take),
    Renew(TermKey),
    Release(TermKey),
    BeginEpoch(NewEpoch),
    Settle(Generation),
}

#[derive(Debug, Clone)]
enum Answer {
    Looked(Looked),
    Applied(bool),
}

#[derive(Debug)]
enum Event {
    Wake(usize, u64),
    Arrive(usize, u64, Call),
    Answer(usize, u64, Answer),
    GiveUp(usize, u64),
    WorkStopped(usize, u64),
    Abort(usize, i64),
    Restart(usize),
    Mishap,
    Foreign(usize),
}

struct Queued(Real, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Work that runs for a term, until it stops or is ended at the abort moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Working {
    pub(super) version: i64,
    pub(super) until: Real,
}

pub(super) struct Process {
    pub(super) election: Election,
    offset: f64,
    rate: f64,
    /// Raised whenever what was waited for no longer matters.
    turn: u64,
    call: Option<(Call, Moment)>,
    paused_until: Real,
    pub(super) alive: bool,
    pub(super) working: Option<Working>,
    stopping: bool,
}

impl Process {
    fn boot(&self, real: Real) -> Moment {
        Duration::from_micros((self.offset + real as f64 * self.rate) as u64)
    }

    fn real(&self, boot: Moment) -> Real {
        // Rounded up: a clock that shows the moment has reached it.
        ((boot.as_micros() as f64 - self.offset) / self.rate).max(0.0) as Real + 1
    }
}

pub(super) struct Sim {
    pub(super) setup: Setup,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Real,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    pub(super) processes: Vec<Process>,
    pub(super) foreigners: Vec<Foreign>,
    pub(super) row: Option<LeaseRow>,
    /// When the row was last taken or renewed, in real time.
    renewed: Real,
    database: Database,
    copies: Vec<Copy>,
    standing_ttl: Option<u32>,
    /// The database's clock is this far from real time, ms.
    clock_offset: i64,
    clock_stands: Option<i64>,
    highest_granted: i64,
    pub(super) grants: u64,
    starts: u32,
}

/// Every participant is configured with it, and the database too.
fn max_ttl(ttl: u32) -> u32 {
    ttl.max(20)
}

impl Sim {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let mut sim = Self {
            setup,
            rng: fastrand::Rng::with_seed(seed),
            now: SECOND,
            queue: BinaryHeap::new(),
            sequence: 0,
            processes: Vec::new(),
            foreigners: (0..setup.foreign).map(Foreign::new).collect(),
            row: None,
            renewed: 0,
            database: Database::new(max_ttl(setup.ttl)),
            copies: Vec::new(),
            standing_ttl: None,
            clock_offset: 1_800_000_000_000,
            clock_stands: None,
            highest_granted: 0,
            grants: 0,
            starts: 0,
        };
        for p in 0..setup.participants {
            let process = sim.start();
            sim.processes.push(process);
            let at = sim.now + sim.rng.u64(0..SECOND);
            sim.push(at, Event::Wake(p, 0));
        }
        for f in 0..setup.foreign {
            let at = sim.now + sim.rng.u64(0..SECOND);
            sim.push(at, Event::Foreign(f));
        }
        if setup.mishaps > 0.0 {
            sim.next_mishap();
        }
        sim
    }

    pub(super) fn ttl(&self) -> Real {
        u64::from(self.setup.ttl) * SECOND
    }

    fn start(&mut self) -> Process {
        self.starts += 1;
        let component = ComponentName::new("c").expect("a name");
        let me = HolderId::compose("p", "1", self.starts).expect("a holder id");
        let ttl = Duration::from_secs(u64::from(self.setup.ttl));
        let timing = Timing::new(self.setup.ttl, ttl.mul_f64(0.3 * self.rng.f64())).expect("a timing");
        Process {
            election: Election::new(component, me, timing, ttl).with_max_ttl(max_ttl(self.setup.ttl)),
            offset: self.rng.f64() * 1e12,
            rate: 1.0 + self.setup.drift * (2.0 * self.rng.f64() - 1.0),
            turn: 0,
            call: None,
            paused_until: 0,
            alive: true,
            working: None,
            stopping: false,
        }
    }

    fn push(&mut self, at: Real, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Queued(at, self.sequence, event)));
    }

    pub(super) fn database_now(&self) -> i64 {
        self.clock_stands.unwrap_or(self.clock_offset + i64::try_from(self.now / MS).unwrap_or(i64::MAX))
    }

    /// How long a message is under way; `None` when it never arrives.
    pub(super) fn delay(&mut self) -> Option<Real> {
        let fate = self.rng.u32(..1000);
        if fate < self.setup.lost {
            return None;
        }
        if fate < self.setup.lost + self.setup.late {
            return Some(self.rng.u64(0..self.ttl() * 2));
        }
        Some(self.rng.u64(MS..20 * MS))
    }

    /// One event; what rule of the outside view it broke.
    pub(super) fn step(&mut self) -> Result<(), String> {
        let Some(Reverse(Queued(at, sequence, event))) = self.queue.pop() else {
            return Err("nothing will ever happen again".into());
        };
        self.now = self.now.max(at);
        let whose = match &event {
            Event::Wake(p, _) | Event::Answer(p, ..) | Event::GiveUp(p, _) | Event::WorkStopped(p, _) => {
                Some(*p)
            }
            _ => None,
        };
        if let Some(p) = whose
            && self.processes[p].paused_until > self.now
        {
            let resumed = self.processes[p].paused_until;
            self.queue.push(Reverse(Queued(resumed, sequence, event)));
            return Ok(());
        }
        match event {
            Event::Wake(p, turn) if self.waits(p, turn) => self.turn(p)?,
            Event::Arrive(p, turn, call) => self.arrive(p, turn, &call)?,
            Event::Answer(p, turn, answer) if self.waits(p, turn) => self.answered(p, Some(answer))?,
            Event::GiveUp(p, turn) if self.waits(p, turn) => self.answered(p, None)?,
            Event::WorkStopped(p, turn) if self.waits(p, turn) => self.work_stopped(p)?,
            Event::Abort(p, version) => self.abort(p, version),
            Event::Restart(p) if !self.processes[p].alive => {
                let turn = self.processes[p].turn + 1;
                self.processes[p] = self.start();
                self.processes[p].turn = turn;
                self.turn(p)?;
            }
            Event::Mishap => self.mishap()?,
            Event::Foreign(f) => {
                let mut foreigner = self.foreigners[f].clone();
                let again = foreigner.act(self)?;
                self.foreigners[f] = foreigner;
                self.one_works()?;
                self.push(again, Event::Foreign(f));
            }
            _ => {}
        }
        Ok(())
    }

    fn waits(&self, p: usize, turn: u64) -> bool {
        self.processes[p].alive && self.processes[p].turn == turn
    }

    /// The loop of the participant: ask what to do, and begin it.
    fn turn(&mut self, p: usize) -> Result<(), String> {
        let now = self.processes[p].boot(self.now);
        self.processes[p].turn += 1;
        let action = self.processes[p].election.next(now);
        self.publish(p)?;
        let turn = self.processes[p].turn;
        match action {
            Action::Look => self.send(p, Call::Look),
            Action::Take(take) => self.send(p, Call::Take(take)),
            Action::Renew(term) => self.send(p, Call::Renew(term)),
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
                    && let Standing::Stopping(term, StopReason::Draining | StopReason::SteppedDown) =
                        self.processes[p].election.standing()
                {
                    let key = term.key.clone();
                    self.push(self.now + MS, Event::Arrive(p, u64::MAX, Call::Release(key)));
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
    fn arrive(&mut self, p: usize, turn: u64, call: &Call) -> Result<(), String> {
        let now = self.database_now();
        let before = self.row.as_ref();
        let answer = match call {
            Call::Look => Answer::Looked(Looked {
                row: before.cloned(),
                database_now: now,
                standing_ttl: self.standing_ttl,
                past: self.database.past(before, self.setup.broken),
                life: self.database.life(before, self.setup.broken),
            }),
            Call::Take(take) => {
                let after = self.database.take(before, take, now, self.setup.broken);
                if let Some(row) = &after {
                    self.database.highest = row.version;
                }
                self.apply(after, true)?
            }
            Call::BeginEpoch(new) => Answer::Applied(self.database.begin(new, now, self.setup.broken)),
            Call::Settle(waited_out) => Answer::Applied(self.database.settle(waited_out)),
            Call::Renew(term) => {
                let mut after = model::renew(before, term, now);
                if self.setup.broken == Some(Broken::RenewalMayWriteTheSame) {
                    after = after.map(|row| LeaseRow { renew_time: now, ..row });
                }
                self.apply(after, false)?
            }
            Call::Release(term) => self.apply(model::release(before, term), false)?,
        };
        if let Some(delay) = self.delay() {
            self.push(self.now + delay, Event::Answer(p, turn, answer));
        }
        Ok(())
    }

    fn apply(&mut self, after: Option<LeaseRow>, take: bool) -> Result<Answer, String> {
        let Some(after) = after else { return Ok(Answer::Applied(false)) };
        self.write(after, take)?;
        Ok(Answer::Applied(true))
    }

    pub(super) fn write(&mut self, after: LeaseRow, take: bool) -> Result<(), String> {
        // A broken rule is to be found by what comes of it.
        let strict = take && self.setup.broken.is_none();
        if strict && let Some(row) = self.row.as_ref().filter(|row| !row.is_free()) {
            let unrenewed = Duration::from_micros(self.now - self.renewed);
            if unrenewed < row.judged_ttl().mul_f64(1.0 / 1.051) {
                return Err(format!("{after:?} took what was renewed {unrenewed:?} ago: {row:?}"));
            }
            if after.version <= row.version {
                return Err(format!("{after:?} followed {row:?}"));
            }
        }
        self.row = Some(after);
        self.renewed = self.now;
        Ok(())
    }

    fn answered(&mut self, p: usize, answer: Option<Answer>) -> Result<(), String> {
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
                Some(Answer::Looked(looked)) => self.looked(p, t0, at, looked, jitter)?,
                _ => election.look_failed(at, jitter),
            },
            Call::Take(take) => election.took(counted_from, at, &take, applied),
            Call::Renew(_) => election.renewed(counted_from, at, applied, jitter),
            Call::Release(_) => election.released(at),
            Call::BeginEpoch(_) | Call::Settle(_) => election.recorded(at, applied.is_some(), jitter),
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
        process.election.looked(since, looked.clone(), jitter);
        if since != at {
            process.election.looked(at, looked, jitter);
        }
        Ok(())
    }

    fn work_stopped(&mut self, p: usize) -> Result<(), String> {
        let process = &mut self.processes[p];
        process.working = None;
        process.turn += 1;
        let now = process.boot(self.now);
        match process.election.work_stopped(now) {
            Some(term) => self.send(p, Call::Release(term)),
            None => self.turn(p)?,
        }
        Ok(())
    }

    /// The watchdog: whoever still works at the abort moment is ended.
    fn abort(&mut self, p: usize, version: i64) {
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

    pub(super) fn leader(&self) -> Option<usize> {
        self.processes.iter().position(|process| process.alive && process.working.is_some())
    }

    /// Ends a process for good.
    pub(super) fn kill(&mut self, p: usize) {
        (self.processes[p].alive, self.processes[p].working) = (false, None);
    }

    /// Starts one more process.
    pub(super) fn join(&mut self) {
        let process = self.start();
        self.processes.push(process);
        self.push(self.now, Event::Wake(self.processes.len() - 1, 0));
    }

    fn crash(&mut self, p: usize) {
        self.kill(p);
        let at = self.now + self.rng.u64(0..self.ttl() * 2);
        self.push(at, Event::Restart(p));
    }

    /// What the outside sees of a participant after each of its turns.
    fn publish(&mut self, p: usize) -> Result<(), String> {
        let process = &mut self.processes[p];
        let leads = |term: &Term| Working { version: term.key.version, until: process.real(term.abort()) };
        match process.election.standing() {
            Standing::Leading(term) => {
                let working = leads(term);
                let began = process.working.is_none_or(|w| w.version != working.version);
                process.working = Some(working);
                process.stopping = false;
                if began {
                    if working.version <= self.highest_granted {
                        return Err(format!(
                            "version {} granted after {}",
                            working.version, self.highest_granted
                        ));
                    }
                    self.highest_granted = working.version;
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

    pub(super) fn one_works(&self) -> Result<(), String> {
        let processes = self.processes.iter().filter(|process| process.alive).filter_map(|p| p.working);
        let foreigners = self.foreigners.iter().filter_map(|foreigner| foreigner.working);
        let working: Vec<Working> =
            processes.chain(foreigners).filter(|working| working.until > self.now).collect();
        if working.len() > 1 {
            return Err(format!("{} s: all of these work: {working:?}", self.now as f64 / 1e6));
        }
        Ok(())
    }

    fn next_mishap(&mut self) {
        let mean = self.ttl() as f64 / self.setup.mishaps;
        let at = self.now + (mean * 2.0 * self.rng.f64()) as Real;
        self.push(at, Event::Mishap);
    }

    fn mishap(&mut self) -> Result<(), String> {
        self.next_mishap();
        let p = self.rng.usize(..self.processes.len());
        // Most of what goes wrong matters most when it happens to the leader.
        let p = self.leader().filter(|_| self.rng.bool()).unwrap_or(p);
        let alive = self.processes[p].alive;
        match self.rng.u32(..if self.setup.database_changes { 16 } else { 10 }) {
            10..=12 => self.copies.push(self.database.copy(self.row.clone(), self.renewed)),
            13 => self.row = None,
            14 | 15 if !self.copies.is_empty() => {
                let copy = self.copies[self.rng.usize(..self.copies.len())].clone();
                (self.row, self.renewed) = self.database.become_another(copy);
            }
            0 | 1 if self.setup.database_clock => self.clock_mishap(),
            2 => self.standing_ttl = [None, Some(5), Some(12), Some(20)][self.rng.usize(..4)],
            3 | 4 if alive => self.processes[p].paused_until = self.now + self.rng.u64(0..self.ttl() * 2),
            5 if alive => self.crash(p),
            6 if alive => self.command(p, Election::step_down)?,
            7 if alive => {
                let healthy = self.rng.bool();
                self.command(p, |election| election.set_healthy(healthy))?;
            }
            8 if alive => {
                self.command(p, Election::drain)?;
                let at = self.now + self.rng.u64(0..self.ttl() * 3);
                self.push(at, Event::Restart(p));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn step_database_clock(&mut self, ms: i64) {
        self.clock_offset += ms;
    }

    fn clock_mishap(&mut self) {
        const DAY: i64 = 86_400_000;
        match self.rng.u32(..4) {
            0 => self.clock_stands = Some(self.database_now()),
            1 => self.clock_stands = None,
            _ => {
                self.clock_stands = None;
                self.clock_offset += self.rng.i64(-DAY..DAY) / [1, 1000, 100_000][self.rng.usize(..3)];
            }
        }
    }

    /// A command reaches the loop: a look is dropped for it, anything else is finished first.
    fn command(&mut self, p: usize, command: impl FnOnce(&mut Election)) -> Result<(), String> {
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
