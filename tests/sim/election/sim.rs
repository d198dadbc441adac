//! Participants, a network and a database in virtual time, and what befalls them. Everything is
//! drawn from one seed.

mod operators;
mod process;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use component_lease::election::{ComponentName, Election, HolderId, LeaseRow, Timing};
use component_lease::membership::holder_id;

use super::broken::Broken;
use super::database::{Answer, Call, Copy, Database};
use super::foreign::Foreign;
use operators::Operators;
use process::Process;

/// Real time, µs. Nobody in here can read it.
pub(super) type Real = u64;
pub(super) const SECOND: Real = 1_000_000;
const MS: Real = 1_000;

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
    /// Whether operators pause, resume and ask for leaders.
    pub(super) requests: bool,
    pub(super) broken: Option<Broken>,
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
    Ask,
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
pub(super) struct Sim {
    pub(super) setup: Setup,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Real,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    processes: Vec<Process>,
    pub(super) foreigners: Vec<Foreign>,
    pub(super) row: Option<LeaseRow>,
    /// When the row was last taken or renewed, in real time.
    renewed: Real,
    database: Database,
    /// Each with the time of the last renewal that it has.
    copies: Vec<(Copy, Real)>,
    standing_ttl: Option<u32>,
    /// The database's clock is this far from real time, ms.
    clock_offset: i64,
    clock_stands: Option<i64>,
    /// Until then the database keeps what arrives.
    frozen_until: Real,
    highest_granted: i64,
    pub(super) grants: u64,
    starts: u32,
    operators: Operators,
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
            frozen_until: 0,
            highest_granted: 0,
            grants: 0,
            starts: 0,
            operators: Operators::new(seed),
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
        if setup.requests {
            sim.next_ask();
        }
        sim
    }

    pub(super) fn ttl(&self) -> Real {
        u64::from(self.setup.ttl) * SECOND
    }

    fn start(&mut self) -> Process {
        self.starts += 1;
        let component = ComponentName::new("c").expect("a name");
        let me = holder_id::compose("p", "1", self.starts).expect("a holder id");
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
            Event::Arrive(p, turn, call) if self.now < self.frozen_until => {
                let at = self.frozen_until + self.rng.u64(0..5 * MS);
                self.push(at, Event::Arrive(p, turn, call));
            }
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
            Event::Ask => self.ask(),
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
    pub(super) fn write(&mut self, after: LeaseRow, take: bool) -> Result<(), String> {
        // A broken rule is to be found by what comes of it.
        let strict = take && self.setup.broken.is_none() && !self.operators.promoted(after.version);
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
    pub(super) fn leader(&self) -> Option<usize> {
        self.processes.iter().position(|process| process.alive && process.working.is_some())
    }

    /// Of the process that runs; `None` while no process runs.
    pub(super) fn holder(&self, p: usize) -> Option<HolderId> {
        let process = &self.processes[p];
        process.alive.then(|| process.election.me().clone())
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
    pub(super) fn one_works(&self) -> Result<(), String> {
        let processes = self.processes.iter().filter(|process| process.alive).filter_map(|p| p.working);
        let foreigners = self.foreigners.iter().filter_map(|foreigner| foreigner.working);
        let working: Vec<Working> =
            processes.chain(foreigners).filter(|working| working.until > self.now).collect();
        if working.len() > 1 && !self.operators.explain(&working, self.now, self.ttl()) {
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
            10..=12 => self.copies.push((self.database.copy(self.row.clone()), self.renewed)),
            13 => self.row = None,
            14 | 15 if !self.copies.is_empty() => {
                let (copy, renewed) = self.copies[self.rng.usize(..self.copies.len())].clone();
                (self.row, self.renewed) = (self.database.become_another(copy), renewed);
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

    /// The database answers nothing for so long, and then does what it was asked, whether or not anybody still waits.
    pub(super) fn freeze_database(&mut self, lasts: Real) {
        self.frozen_until = self.now + lasts;
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
}
