//! A small world in which every next step can be listed: two or three participants, the database
//! that they reach, and what is under way between them.
//!
//! Time is counted in sixths of a ttl. Within one of these moments everything may happen in any
//! order; the next comes when nobody has anything left to do at once.

mod asks;
mod participant;
mod rights;

use std::collections::BTreeMap;
use std::time::Duration;

use component_lease::election::machine::Standing;
use component_lease::election::{LeaseRow, LifeId, Moment, Request};

use super::super::broken::Broken;
use super::super::database::{Answer, Call, Copy, Database};
use asks::Ask;
use participant::{Doing, Participant, State};

/// Of every participant; the longest that the database allows, too.
const TTL: u32 = 30;
pub(super) const TICKS_PER_TTL: u32 = 6;
const TICK: Duration = Duration::from_secs(5);
const DATABASE_BEGAN: i64 = 1_800_000_000_000;

/// How a call fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Promptly,
    /// The request is under way until it arrives, if it ever does: at whichever server is reached then.
    RequestLate,
    AnswerLate,
    /// By a participant that is cut off.
    InVain,
    /// The pool still had a connection to the server that was left; it is read only.
    ServerThatWasLeft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Send(usize, Way),
    /// What was under way arrives.
    Arrive(usize),
    /// A participant gives up a call whose answer may still be coming.
    GiveUp(usize),
    Tick,
    CutOff(usize),
    Reconnect(usize),
    Pause(usize),
    Resume(usize),
    /// To a server that has only what there was at one time.
    Failover(usize),
    /// To the server that was left, restarted.
    FailBack,
    /// An older state is read into the running server, and its operator says so.
    Reload(usize),
    /// An older row is put back unsaid.
    RowInSilence(usize),
    /// An older state is read into the running server with its history, and nobody says so.
    ReloadInSilence(usize),
    DeleteRow,
    /// An operator asks for something.
    Ask(Ask),
}

impl Step {
    /// What goes wrong, if anything does.
    fn fault(self) -> Option<Faults> {
        match self {
            Self::Send(_, Way::Promptly | Way::InVain)
            | Self::Arrive(_)
            | Self::GiveUp(_)
            | Self::Tick
            | Self::Reconnect(_)
            | Self::Resume(_) => None,
            Self::Send(..) | Self::CutOff(_) | Self::Pause(_) => Some(Faults::OfAnyKind),
            Self::Failover(_)
            | Self::FailBack
            | Self::Reload(_)
            | Self::RowInSilence(_)
            | Self::ReloadInSilence(_)
            | Self::DeleteRow => Some(Faults::OfTheDatabase),
            Self::Ask(_) => Some(Faults::Asked),
        }
    }
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Faults {
    OfAnyKind,
    OfTheDatabase,
    /// Of any kind, but that a database that forgot something still says that somebody leads, in a row that
    /// nobody watches. Who knows the table alone waits for one ttl then, so that this is no more than is
    /// promised beside him; and calls that are not bound to a life of the database do not reach another.
    ToHeldRows,
    /// Participants are cut off, and an older row is put back in silence: who lost a right does not use it.
    InSilence,
    /// Participants are cut off, and a database forgets in silence what all have seen in its history.
    Seen,
    /// Operators ask, participants are cut off or paused, and calls are late.
    Asked,
}

/// Who made the tables, and who competes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Company {
    /// Participants of ours on tables of ours.
    Ours,
    /// The last one knows the table alone.
    OneForeign,
    /// There is nothing but the table.
    Bare,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum UnderWay {
    Request {
        from: usize,
        call: Call,
        awaited: bool,
    },
    Answer {
        to: usize,
        answer: Answer,
    },
    /// Of a take whose line in the history is not written with it.
    History(i64),
}

/// How a search begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A first installation.
    Fresh,
    /// Somebody has led and given the row back.
    Released,
    /// The quarantine of a database that nobody knew is over in this moment.
    WaitedOut,
    /// The first participant leads its second term.
    LedTwice,
    /// The first was cut off until its term was over, and the others have watched.
    Overdue,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    now: u32,
    /// Nobody has acted in this moment.
    begins: bool,
    faults: Faults,
    faults_left: u32,
    company: Company,
    broken: Option<Broken>,
    database: Database,
    row: Option<LeaseRow>,
    /// What a standby, a snapshot or a backup may have: every state but for its renewals.
    states: Vec<Copy>,
    left: Option<(Database, Option<LeaseRow>)>,
    participants: Vec<Participant>,
    under_way: Vec<UnderWay>,
    granted: i64,
    /// Versions that began because their participants were promoted at once, and when.
    promoted: BTreeMap<i64, u32>,
    /// Every request that was made.
    asked: Vec<Request>,
    /// By request: the term that it ended.
    obeyed: BTreeMap<String, i64>,
}

impl World {
    pub(super) fn new(start: Start, company: Company, number: usize, broken: Option<Broken>) -> Self {
        let database = match (start, company) {
            (_, Company::Bare) => Database::bare(TTL),
            (Start::WaitedOut, _) => Database::unsettled(TTL),
            (Start::Fresh | Start::Released | Start::LedTwice | Start::Overdue, _) => Database::new(TTL),
        };
        let states = vec![database.copy(None)];
        let first = if start == Start::LedTwice { 1 } else { number };
        let mut participants: Vec<_> = (0..first).map(Participant::new).collect();
        if company == Company::OneForeign {
            participants[number - 1].is_foreign = true;
        }
        let (row, left, under_way) = (None, None, Vec::new());
        let mut world = Self {
            now: 0,
            begins: true,
            faults: Faults::OfAnyKind,
            faults_left: 0,
            company,
            broken,
            database,
            row,
            states,
            left,
            participants,
            under_way,
            granted: 0,
            promoted: BTreeMap::new(),
            asked: Vec::new(),
            obeyed: BTreeMap::new(),
        };
        match start {
            Start::Fresh => {}
            Start::Released => world.was_led(),
            Start::WaitedOut => world.undisturbed_until(TICKS_PER_TTL),
            Start::LedTwice => world.leads_twice(number),
            Start::Overdue => world.outlives_its_term(),
        }
        world
    }

    pub(super) fn with_faults(&self, faults: Faults, faults_left: u32) -> Self {
        Self { faults, faults_left, ..self.clone() }
    }

    pub(super) fn now(&self) -> u32 {
        self.now
    }

    pub(super) fn granted(&self) -> i64 {
        self.granted
    }

    /// One who is gone has led.
    fn was_led(&mut self) {
        let p = self.participants.len();
        self.participants.push(Participant::new(p));
        while !matches!(self.participants[p].election.standing(), Standing::Leading(_)) {
            self.step(Step::Send(p, Way::Promptly)).expect("nobody else leads");
        }
        self.participants[p].election.drain();
        self.turn(p).expect("nobody else leads");
        self.step(Step::Send(p, Way::Promptly)).expect("nobody else leads");
        assert!(self.row.as_ref().is_some_and(LeaseRow::is_free), "{self:?}");
    }

    /// The first, before the others come.
    fn leads_twice(&mut self, number: usize) {
        let until_it_leads = |world: &mut Self| {
            while !matches!(world.participants[0].election.standing(), Standing::Leading(_)) {
                world.undisturbed_until(world.now + 1);
            }
        };
        until_it_leads(self);
        self.participants[0].election.step_down();
        self.turn(0).expect("nobody else leads");
        until_it_leads(self);
        for p in 1..number {
            let mut participant = Participant::new(p);
            participant.doing = Doing::Calls(Call::Look, self.moment());
            self.participants.push(participant);
        }
    }

    fn outlives_its_term(&mut self) {
        let follows = |world: &Self| world.participants[0].election.standing() == Standing::Following;
        let next = |world: &mut Self, way| {
            let sends = (0..world.participants.len())
                .find(|p| matches!(world.participants[*p].doing, Doing::Calls(..)));
            let step = sends.map_or(Step::Tick, |p| Step::Send(p, if p == 0 { way } else { Way::Promptly }));
            world.step(step).expect("nothing goes wrong undisturbed");
        };
        while follows(self) {
            next(self, Way::Promptly);
        }
        self.participants[0].state = State::CutOff;
        while !follows(self) {
            next(self, Way::InVain);
        }
        self.participants[0].state = State::Runs;
        assert!(matches!(self.participants[0].doing, Doing::Calls(Call::Look, _)), "{self:?}");
    }

    /// Whether versions are promised to rise.
    fn rises(&self) -> bool {
        self.company == Company::Ours && self.faults != Faults::InSilence
    }

    fn undisturbed_until(&mut self, end: u32) {
        while self.now < end {
            let sends = (0..self.participants.len()).find(|p| self.is_about_to_call(*p));
            let step = sends.map_or(Step::Tick, |p| Step::Send(p, Way::Promptly));
            self.step(step).expect("nothing goes wrong undisturbed");
        }
    }

    fn is_about_to_call(&self, p: usize) -> bool {
        matches!(self.participants[p].doing, Doing::Calls(..)) && self.participants[p].state == State::Runs
    }

    fn moment(&self) -> Moment {
        TICK * self.now
    }

    fn database_now(&self) -> i64 {
        DATABASE_BEGAN + i64::from(self.now) * 5_000
    }

    /// Everything that may happen next: of orders that come to the same, one is enough.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        // Nobody notices what happens to a database before it is asked for something.
        let mut asked = !self.under_way.is_empty();
        let mut idle = true;
        for (p, participant) in self.participants.iter().enumerate() {
            match (&participant.doing, participant.state) {
                (Doing::Ended, _) => {}
                // Nor does anybody know when within a moment a process went on.
                (_, State::Paused) if self.begins => steps.push(Step::Resume(p)),
                (Doing::Calls(call, _), State::Runs) => {
                    (asked, idle) = (true, false);
                    for way in [Way::Promptly, Way::RequestLate, Way::AnswerLate] {
                        steps.push(Step::Send(p, way));
                    }
                    if *call == Call::Look && self.left.is_some() {
                        steps.push(Step::Send(p, Way::ServerThatWasLeft));
                    }
                    steps.extend([Step::CutOff(p), Step::Pause(p)]);
                }
                (Doing::Calls(..), State::CutOff) => {
                    idle = false;
                    steps.extend([Step::Send(p, Way::InVain), Step::Reconnect(p)]);
                }
                (Doing::Awaits { give_up, .. }, State::Runs) => {
                    if *give_up <= self.moment() {
                        idle = false;
                        steps.push(Step::GiveUp(p));
                    }
                    if self.may_be_answered(p) {
                        steps.push(Step::Pause(p));
                    }
                }
                // A follower that oversleeps is no worse than one that is paused when it looks.
                (Doing::Waits(_), State::Runs) if participant.works.is_some() && self.begins => {
                    steps.push(Step::Pause(p));
                }
                _ => {}
            }
        }
        for (i, under_way) in self.under_way.iter().enumerate() {
            let hears = match under_way {
                UnderWay::Answer { to, .. } => self.participants[*to].state == State::Runs,
                UnderWay::Request { .. } | UnderWay::History(_) => true,
            };
            if hears {
                steps.push(Step::Arrive(i));
            }
        }
        if asked {
            for i in 0..self.states.len() {
                steps.extend([Step::Failover(i), Step::Reload(i)]);
            }
            steps.extend(self.left.as_ref().map(|_| Step::FailBack));
            steps.extend(self.row.as_ref().map(|_| Step::DeleteRow));
        }
        if idle {
            steps.push(Step::Tick);
        }
        if asked && self.faults == Faults::InSilence {
            steps.extend((0..self.states.len()).map(Step::RowInSilence));
        }
        if asked && self.faults == Faults::Seen {
            steps.extend((0..self.states.len()).map(Step::ReloadInSilence));
        }
        if asked && self.faults == Faults::Asked {
            steps.extend(self.asks().into_iter().map(Step::Ask));
        }
        steps.retain(|step| match step.fault() {
            None => true,
            Some(fault) => self.faults_left > 0 && self.may_go_wrong(*step, fault),
        });
        steps
    }

    fn may_go_wrong(&self, step: Step, fault: Faults) -> bool {
        // Who watches a row that was renewed and put back takes it for one that did not change.
        let is_watched = |row: &LeaseRow| {
            let mut followers = self.participants.iter().map(|participant| &participant.election);
            followers.any(|e| {
                e.standing() == Standing::Following && e.sight().is_some_and(|s| s.row.as_ref() == Some(row))
            })
        };
        let is_new = |row: Option<&LeaseRow>| row.is_some_and(|row| !row.is_free() && !is_watched(row));
        match (self.faults, step) {
            (Faults::OfAnyKind, _) => true,
            (Faults::Asked, _) => matches!(fault, Faults::Asked | Faults::OfAnyKind),
            (Faults::OfTheDatabase, _) => fault == self.faults,
            (Faults::ToHeldRows, Step::Failover(i) | Step::Reload(i)) => is_new(self.states[i].row()),
            (Faults::ToHeldRows, Step::FailBack) => {
                is_new(self.left.as_ref().and_then(|(_, row)| row.as_ref()))
            }
            (Faults::ToHeldRows, Step::Send(p, Way::RequestLate | Way::ServerThatWasLeft)) => {
                self.is_bound_to_a_life(p)
            }
            (Faults::ToHeldRows, _) => step != Step::DeleteRow,
            (Faults::InSilence, Step::RowInSilence(i)) => {
                let (row, life) = (self.states[i].row(), self.database.id());
                let by_right = |row| self.participants.iter().any(|p| p.rights.cover(row, &life));
                is_new(row) && !row.is_some_and(by_right)
            }
            (Faults::Seen, Step::ReloadInSilence(i)) => {
                let goes = self.database.highest();
                goes > self.states[i].highest() && self.participants.iter().all(|p| p.saw >= goes)
            }
            (Faults::InSilence | Faults::Seen, _) => matches!(step, Step::CutOff(_)),
        }
    }

    /// What it is about to call.
    fn is_bound_to_a_life(&self, p: usize) -> bool {
        let participant = &self.participants[p];
        let Doing::Calls(call, _) = &participant.doing else { return false };
        match call {
            Call::Look => true,
            Call::Take(take) => take.life_id != LifeId::default(),
            Call::Release(release) => release.within.is_some(),
            _ => !participant.is_foreign && self.company != Company::Bare,
        }
    }

    /// Takes one of [`Self::steps`]; what was promised and does not hold any more.
    pub(super) fn step(&mut self, step: Step) -> Result<(), String> {
        self.faults_left -= u32::from(step.fault().is_some());
        self.begins = step == Step::Tick || self.begins && matches!(step, Step::Resume(_));
        match step {
            Step::Send(p, way) => self.send(p, way)?,
            Step::Arrive(i) => self.arrive(i)?,
            Step::GiveUp(p) => self.give_up(p)?,
            Step::Tick => self.tick()?,
            Step::CutOff(p) => {
                self.participants[p].state = State::CutOff;
                self.sent(p);
            }
            Step::Pause(p) => self.participants[p].state = State::Paused,
            Step::Reconnect(p) => self.participants[p].state = State::Runs,
            Step::Resume(p) => {
                self.participants[p].state = State::Runs;
                self.wake(p)?;
            }
            Step::Failover(i) => self.go_on_elsewhere(self.states[i].clone()),
            Step::FailBack => {
                let (database, row) = self.left.take().expect("one was left");
                self.go_on_elsewhere(database.copy(row));
            }
            Step::Reload(i) => {
                // Nobody reads and says so within the second in which an epoch began.
                let now = self.database_now() + 1_000;
                self.row = self.database.reload_and_bump(self.states[i].clone(), now);
            }
            Step::RowInSilence(i) => self.row = self.states[i].row().cloned(),
            Step::ReloadInSilence(i) => self.row = self.database.reload_in_silence(self.states[i].clone()),
            Step::DeleteRow => self.row = None,
            Step::Ask(ask) => self.ask(ask),
        }
        self.keep_state();
        let working: Vec<_> = self.participants.iter().filter_map(|p| p.works).collect();
        if working.len() > 1 && !self.was_promoted_at_once(&working) {
            Err(format!("all of these work: {working:?}"))
        } else {
            Ok(())
        }
    }

    fn go_on_elsewhere(&mut self, copy: Copy) {
        self.left = Some((self.database.clone(), self.row.clone()));
        self.row = self.database.become_another(copy);
    }

    fn keep_state(&mut self) {
        let state = self.database.copy(self.row.clone());
        if !self.states.iter().any(|kept| kept.is_about(&state)) {
            self.states.push(state);
        }
    }

    /// Time goes on, for everybody who is not paused.
    fn tick(&mut self) -> Result<(), String> {
        self.now += 1;
        let now = self.moment();
        for p in 0..self.participants.len() {
            let participant = &mut self.participants[p];
            if participant.works.is_some_and(|(_, until)| until <= now) {
                // The watchdog ends it, at the latest when it goes on.
                (participant.works, participant.doing) = (None, Doing::Ended);
            }
            if participant.state != State::Paused {
                self.wake(p)?;
            }
        }
        Ok(())
    }

    /// What is due at a participant, unless an answer may still come before it notices.
    fn wake(&mut self, p: usize) -> Result<(), String> {
        let now = self.moment();
        match self.participants[p].doing {
            Doing::Waits(until) if until <= now => self.turn(p),
            Doing::Awaits { give_up, .. } if give_up <= now && !self.may_be_answered(p) => self.give_up(p),
            _ => Ok(()),
        }
    }

    fn may_be_answered(&self, p: usize) -> bool {
        self.under_way.iter().any(|under_way| match under_way {
            UnderWay::Request { from, awaited, .. } => *from == p && *awaited,
            UnderWay::Answer { to, .. } => *to == p,
            UnderWay::History(_) => false,
        })
    }

    /// A step, for people.
    pub(super) fn tell(&self, step: Step) -> String {
        let what = match step {
            Step::Send(p, _) => format!(": {:?}", self.participants[p].doing),
            Step::Arrive(i) => format!(": {:?}", self.under_way[i]),
            Step::Failover(i) | Step::Reload(i) | Step::RowInSilence(i) | Step::ReloadInSilence(i) => {
                format!(": {:?}", self.states[i])
            }
            _ => String::new(),
        };
        format!("{}/{TICKS_PER_TTL} ttl: {step:?}{what}", self.now)
    }
}
