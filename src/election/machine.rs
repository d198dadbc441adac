//! One participant's life as a state machine: **the rule that decides who leads**.
//!
//! [`Election::next`] says what to do now; the caller reports the outcome by the method of the same name
//! ([`Election::looked`], [`Election::took`], [`Election::renewed`], [`Election::released`]).
//! Everything is a function of what was told: no clock, no I/O, no randomness of its own.
//!
//! ```text
//!              look                     take acknowledged before its own deadline
//!  Following ────────▶ free? missing? ───────────────────────────────▶ Leading ──┐ renew every ttl/3
//!      ▲               unchanged for one ttl on my own clock?             │  ▲───┘
//!      │                                                                  │ lost, deadline, sick, drained,
//!      │                                                                  │ asked (a look finds a request)
//!      │   work stopped; release, at once or when the database answers    ▼
//!      └────────────────────────────────────────────────────────────── Stopping
//! ```

mod fitness;
mod leftover;
mod taking;
mod term;
mod took;
mod words;

use std::time::Duration;

use self::fitness::{Fitness, StaysAway};
use self::leftover::Leftover;
use self::taking::{FailedTakes, Taking};
pub use self::term::Term;
pub use self::words::{Action, Ineligible, Looked, Release, Standing, StopReason};
use super::intent::{Intent, Request};
use super::life::{Life, MAX_TTL_DEFAULT_SECONDS, Quarantine};
use super::row::{LeaseRow, Take, TermKey};
pub use super::sight::{Past, Sight};
use super::timing::{Moment, Timing, TimingError};
use crate::name::{ComponentName, HolderId};

/// How soon a participant that may have something to release looks again at most.
const OWED_LOOK: Duration = Duration::from_millis(500);
/// A follower without notifications looks at least this often.
const UNTOLD_LOOK: Duration = Duration::from_secs(1);
/// A follower with notifications looks at least this often: a notification may be lost.
const TOLD_LOOK: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Following { next_look: Moment, fresh: bool },
    Leading(Term),
    Stopping { term: Term, reason: StopReason },
}

/// The state machine. Two that are equal will do the same, which is what an exhaustive search asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Election {
    component: ComponentName,
    me: HolderId,
    /// What this participant was configured with.
    own: Timing,
    /// What its next term will have.
    timing: Result<Timing, TimingError>,
    cooldown: Duration,
    phase: Phase,
    sight: Option<Sight>,
    quarantine: Quarantine,
    highest_version: i64,
    /// A term of this component was seen, whatever the database says of it now.
    has_lived: bool,
    /// A follower looks at least so often, however far what it waits for is.
    longest_wait: Duration,
    failed_looks: u32,
    draining: bool,
    fitness: Fitness,
    intent: Intent,
    stays_away: Option<StaysAway>,
    taking: Taking,
    failed_takes: Option<FailedTakes>,
    leftover: Option<Leftover>,
}

impl Election {
    /// `cooldown` is how long this participant stays away after it was unhealthy or stepped down.
    #[must_use]
    pub fn new(component: ComponentName, me: HolderId, own: Timing, cooldown: Duration) -> Self {
        let max_ttl = MAX_TTL_DEFAULT_SECONDS.max(own.ttl_seconds());
        Self {
            component,
            me,
            own,
            timing: Ok(own),
            cooldown,
            phase: Phase::Following { next_look: Moment::ZERO, fresh: false },
            sight: None,
            quarantine: Quarantine::new(max_ttl),
            highest_version: 0,
            has_lived: false,
            longest_wait: TOLD_LOOK,
            failed_looks: 0,
            draining: false,
            fitness: Fitness::Fit,
            intent: Intent::default(),
            stays_away: None,
            taking: Taking::No,
            failed_takes: None,
            leftover: None,
        }
    }

    /// The longest ttl that any lease of this database may have, in seconds; the same for all
    /// participants. Default 30, or the own ttl if that is longer.
    #[must_use]
    pub fn with_max_ttl(mut self, seconds: u32) -> Self {
        self.quarantine = Quarantine::new(seconds);
        self
    }

    /// What is competed for.
    #[must_use]
    pub fn component(&self) -> &ComponentName {
        &self.component
    }

    /// Who competes.
    #[must_use]
    pub fn me(&self) -> &HolderId {
        &self.me
    }

    /// The durations in force: those of the term that is led, else those of the next.
    #[must_use]
    pub fn timing(&self) -> Timing {
        match &self.phase {
            Phase::Leading(term) | Phase::Stopping { term, .. } => term.timing,
            Phase::Following { .. } => *self.timing.as_ref().unwrap_or(&self.own),
        }
    }

    /// Whether it follows, leads or stops. Does not look at a clock: see [`Standing::Leading`].
    #[must_use]
    pub fn standing(&self) -> Standing<'_> {
        match &self.phase {
            Phase::Following { .. } => Standing::Following,
            Phase::Leading(term) => Standing::Leading(term),
            Phase::Stopping { term, reason } => Standing::Stopping(term, *reason),
        }
    }

    /// Takes nothing, whatever it sees: it is there to be counted.
    #[must_use]
    pub fn that_never_leads(self) -> Self {
        Self { fitness: Fitness::NeverLeads, ..self }
    }

    /// What was seen last, if anything was in this life of the database.
    #[must_use]
    pub fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// The changes of the database, and how they are waited out.
    #[must_use]
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// What an operator asked last, as far as a look showed it.
    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        self.intent.request.as_ref()
    }

    /// Why this participant would not take even a free row.
    #[must_use]
    pub fn ineligible(&self, now: Moment) -> Option<Ineligible> {
        if self.draining {
            return Some(Ineligible::Draining);
        }
        match self.fitness {
            Fitness::Fit => {}
            Fitness::Unhealthy => return Some(Ineligible::Unhealthy),
            Fitness::NeverLeads => return Some(Ineligible::NeverLeads),
        }
        if self.intent.paused {
            return Some(Ineligible::Paused);
        }
        if let Some(away) = self.stays_away
            && now < away.until
            && self.highest_version <= away.after_version
        {
            return Some(Ineligible::StaysAway { until: away.until });
        }
        self.timing.as_ref().err().map(|e| Ineligible::Timing(e.clone()))
    }

    /// What to do at `now`.
    pub fn next(&mut self, now: Moment) -> Action {
        if let Phase::Leading(term) = &self.phase
            && now >= term.deadline()
        {
            self.stop(StopReason::Deadline);
        }
        match &self.phase {
            Phase::Leading(term) if now >= term.next_attempt => Action::Renew(term.key.clone()),
            Phase::Leading(term) if now >= term.next_look => Action::Look,
            Phase::Leading(term) => Action::Wait(term.next_attempt.min(term.next_look).min(term.deadline())),
            Phase::Stopping { .. } => Action::AwaitWork,
            // One try for each: a process that ends does not wait for a database that is away.
            Phase::Following { .. } if self.draining => match self.leftover.take() {
                Some(leftover) => Action::Release(leftover.release()),
                None => Action::Ended,
            },
            Phase::Following { next_look, fresh } => {
                let (next_look, fresh) = (*next_look, *fresh);
                // A look decides once, and only at once: after a wait another look is needed.
                self.phase = Phase::Following { next_look, fresh: false };
                // Asked only if it is done: deciding to settle remembers when.
                match fresh.then(|| self.decide(now)).flatten() {
                    Some(action) => {
                        if let Action::Take(_) = action {
                            self.taking = Taking::Yes;
                        }
                        action
                    }
                    None if now >= next_look => Action::Look,
                    None => Action::Wait(next_look),
                }
            }
        }
    }

    /// What a fresh look calls for.
    fn decide(&mut self, now: Moment) -> Option<Action> {
        let shown = self.sight.as_ref().and_then(|sight| sight.row.as_ref());
        if let Some(leftover) = self.leftover.as_ref().filter(|leftover| leftover.is_due(shown)) {
            return Some(Action::Release(leftover.release()));
        }
        if let Some(new) = self.quarantine.new_epoch() {
            return Some(Action::BeginEpoch(new));
        }
        if let Some(waited_out) = self.quarantine.to_settle(now, self.own.ttl()) {
            return Some(Action::Settle(waited_out));
        }
        self.may_take(now).map(Action::Take)
    }

    /// The row as a fresh look shows it, if the rules allow this participant to take it now.
    fn may_take(&self, now: Moment) -> Option<Take> {
        // Nothing at all, not even a free or missing row: a term may run that this database forgot.
        if self.ineligible(now).is_some() || !self.quarantine.is_over(now) {
            return None;
        }
        let timing = self.timing.as_ref().ok()?;
        let sight = self.sight.as_ref()?;
        if now < self.opens(sight) {
            return None;
        }
        let life = self.quarantine.life()?;
        // A version that cannot be counted up any more was written by somebody who may write anything.
        let version = self.highest_version.max(life.base()).checked_add(1)?;
        Some(Take {
            term: TermKey { component: self.component.clone(), holder: self.me.clone(), version },
            ttl: timing.ttl_seconds(),
            expected: sight.past.expects(sight.row.as_ref()),
            life_id: life.id(),
        })
    }

    /// Whether a component that the database says never lived is known to have.
    fn is_forgotten(&self) -> bool {
        // Where nothing is ever recorded, the store knows that there is nothing to wait for.
        self.has_lived && self.quarantine.life() != Some(&Life::Unknown)
    }

    /// From when this participant may take what was seen if it stays as it is.
    fn opens(&self, sight: &Sight) -> Moment {
        // Nobody could use a head start before the end of a quarantine.
        let since = sight.since.max(self.quarantine.end().unwrap_or_default());
        let open = self.takeable_from(sight);
        self.intent.opens(&self.me, sight.row.as_ref(), (open, since), self.timing().renew_interval())
    }

    /// From when anybody may take it.
    fn takeable_from(&self, sight: &Sight) -> Moment {
        match &sight.row {
            None if sight.past == Past::NeverLived && !self.is_forgotten() => Moment::ZERO,
            // It was deleted, and its holder may go on until its next renewal. Where the history went with
            // it, I or somebody who led still know.
            None => sight.since + self.quarantine.length(),
            Some(row) if row.is_free() => Moment::ZERO,
            // Unchanged for one ttl on my own clock, and nothing else: the database's clock in this
            // decision makes two leaders when it steps. A row with my own holder id proves nothing
            // either, so it is judged like any other.
            Some(row) => sight.since + row.judged_ttl(),
        }
    }

    /// A look was answered at `at`, read *after* the answer arrived: counted from the request,
    /// two participants could lead.
    pub fn looked(&mut self, at: Moment, looked: Looked, jitter: f64) {
        let Looked { row, database_now, standing_ttl, preferred, cooldown, paused, request, past, life } =
            looked;
        self.failed_looks = 0;
        self.intent = Intent { paused, preferred, cooldown, request };
        self.leftover = self.leftover.take().filter(|leftover| leftover.outlives(row.as_ref(), past, &life));
        let changed = self.quarantine.answered(at, life);
        let forgot = self.quarantine.reaches(at, past.recorded());
        if forgot {
            self.leftover = None;
        }
        if changed || forgot {
            // What was seen in another life of the database says nothing about this one.
            self.sight = None;
        }
        // A lease that outlived the quarantine, being lost, would be led beside another.
        let longest = self.quarantine.longest_ttl();
        self.timing = match standing_ttl {
            Some(ttl) => self.own.for_ttl(ttl.min(longest)),
            None if self.own.ttl_seconds() > longest => self.own.for_ttl(longest),
            None => Ok(self.own),
        };
        self.saw(at, row, past, database_now);
        match &mut self.phase {
            Phase::Following { .. } => {
                let next_look = self.next_look_after(at, database_now, jitter);
                self.phase = Phase::Following { next_look, fresh: true };
            }
            Phase::Leading(term) => {
                term.next_look = at + self.longest_wait;
                let shown = self.sight.as_ref().and_then(|sight| sight.row.as_ref());
                if shown.is_some_and(|row| !row.is_term(&term.key)) {
                    // A read proves nothing. The renewal tells.
                    term.next_attempt = at;
                }
                if let Some(request) = self.intent.request.as_ref().filter(|asked| asked.ends(&term.key)) {
                    let reason = request.verb.into();
                    self.stop(reason);
                }
            }
            Phase::Stopping { .. } => {}
        }
    }

    fn saw(&mut self, at: Moment, row: Option<LeaseRow>, past: Past, database_now: i64) {
        let version = row.as_ref().map_or(0, |row| row.version);
        self.highest_version = self.highest_version.max(version).max(past.highest());
        self.has_lived |= row.is_some() || past != Past::NeverLived;
        let sight = Sight::after(self.sight.take(), at, row, past, database_now);
        self.sight = Some(sight);
    }

    /// Whether a change of the row will be hinted at ([`Election::hinted`]). Where it will not, a row that is
    /// given back would be found a third of a ttl later.
    pub fn set_told(&mut self, told: bool) {
        self.longest_wait = if told { TOLD_LOOK } else { UNTOLD_LOOK };
    }

    /// When the holder's next renewal can be seen, and when the row can be taken, whichever is first.
    fn next_look_after(&self, at: Moment, database_now: i64, jitter: f64) -> Moment {
        let third = self.timing().renew_interval();
        let Some(sight) = &self.sight else { return at + third };
        let wait = sight.look_again_in(at, database_now, third);
        let wait =
            if wait < self.longest_wait { wait } else { self.longest_wait.mul_f64(1.0 - jitter / 4.0) };
        let opens = self.opens(sight).max(self.quarantine.until(at).unwrap_or_default());
        let spread = self.timing().seize_spread(jitter);
        if opens > at { (at + wait).min(opens + spread) } else { at + wait }
    }

    /// A look that began at `t0` failed or timed out: nothing is known, and what was seen before still counts.
    pub fn look_failed(&mut self, t0: Moment, now: Moment, jitter: f64) {
        if let Phase::Leading(term) = &mut self.phase {
            term.listen_after_renewal();
        }
        if let Phase::Following { .. } = self.phase {
            // Everybody waits for the release, and only one looks for it.
            let most = if self.leftover.is_some() { OWED_LOOK } else { self.timing().renew_interval() };
            let soon = self.timing().retry_after(jitter);
            let backoff = soon * 2u32.saturating_pow(self.failed_looks.min(8));
            self.failed_looks += 1;
            // Counted from the beginning: a database that lets every look time out is not asked too often,
            // and once it answers again everybody waits for the next look.
            let next_look = (t0 + backoff.min(most)).max(now + soon.min(most));
            self.phase = Phase::Following { next_look, fresh: false };
        }
    }

    /// Beginning an epoch or ending a quarantine was done, or was not, whatever the reason: the next
    /// look tells.
    pub fn recorded(&mut self, at: Moment, done: bool, jitter: f64) {
        if done { self.hinted(at) } else { self.look_failed(at, at, jitter) }
    }

    /// Something may have changed: look now. A hint; polling stays the truth.
    pub fn hinted(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Following { next_look, .. } => *next_look = now.min(*next_look),
            Phase::Leading(term) if term.listens() => term.next_look = now.min(term.next_look),
            Phase::Leading(_) | Phase::Stopping { .. } => {}
        }
    }

    /// A renewal that began at `t0` was answered at `at`: `Some(false)` means that the term is
    /// definitely lost, `None` that nothing is known.
    pub fn renewed(&mut self, t0: Moment, at: Moment, renewed: Option<bool>, jitter: f64) {
        let Phase::Leading(term) = &mut self.phase else { return };
        if at >= term.deadline() {
            // An acknowledgement after the deadline changes nothing: the term is over for this process.
            return self.stop(if renewed == Some(false) { StopReason::Lost } else { StopReason::Deadline });
        }
        match renewed {
            Some(true) => {
                term.t0 = t0;
                term.next_attempt = t0 + term.timing.renew_interval();
                if !term.listens() {
                    term.listen_from(at);
                }
            }
            Some(false) => self.stop(StopReason::Lost),
            None => {
                term.next_attempt = at + term.timing.retry_after(jitter);
                term.listen_after_renewal();
            }
        }
    }

    /// The work of the term that is over has stopped. Answers the release to send, if the term still runs.
    /// One that is over is released later, when a look shows that it may be.
    pub fn work_stopped(&mut self, now: Moment) -> Option<Release> {
        let Phase::Stopping { term, reason } = &self.phase else { return None };
        let (term, reason) = (term.clone(), *reason);
        self.phase = Phase::Following { next_look: now, fresh: false };
        if let Some(sight) = &mut self.sight {
            // It is from before the term: nobody has watched since.
            sight.watched_from(now);
        }
        let asked = self.intent.request.as_ref().filter(|asked| asked.ends(&term.key));
        let away = match (reason, asked) {
            (StopReason::SteppedDown, Some(request)) => request.away,
            // For a target there is the head start.
            (StopReason::SwitchedOver, Some(request)) if request.target.is_none() => request.away,
            (StopReason::SteppedDown | StopReason::Unhealthy, _) => self.cooldown,
            _ => Duration::ZERO,
        };
        if !away.is_zero() {
            self.stays_away = Some(StaysAway { until: now + away, after_version: term.key.version });
        }
        if reason == StopReason::Lost {
            return None;
        }
        self.leftover = Leftover::led(&term);
        let in_time = reason != StopReason::Deadline && now < term.deadline();
        in_time.then_some(Release { term: term.key, within: None })
    }

    /// A release was answered at `at`, or was not (`None`: the next look tells whether it is still needed).
    pub fn released(&mut self, at: Moment, released: Option<bool>, jitter: f64) {
        self.leftover = match released {
            Some(_) => None,
            None => self.leftover.take().and_then(Leftover::after_a_failure),
        };
        let pause = if released.is_some() { Duration::ZERO } else { self.timing().retry_after(jitter) };
        if let Phase::Following { next_look, .. } = &mut self.phase {
            *next_look = at + pause;
        }
    }

    /// The program's health check changed its mind.
    pub fn set_healthy(&mut self, healthy: bool) {
        let (Fitness::Fit | Fitness::Unhealthy) = self.fitness else { return };
        self.fitness = if healthy { Fitness::Fit } else { Fitness::Unhealthy };
        if !healthy {
            self.stop(StopReason::Unhealthy);
        }
    }

    /// Stop leading and stay away for the cooldown, or until somebody else has led. A term that is
    /// being taken counts as led.
    pub fn step_down(&mut self) {
        if self.taking == Taking::Yes {
            self.taking = Taking::Declined;
        }
        self.stop(StopReason::SteppedDown);
    }

    /// Stop leading for good.
    pub fn drain(&mut self) {
        self.draining = true;
        self.stop(StopReason::Draining);
    }

    fn stop(&mut self, reason: StopReason) {
        if let Phase::Leading(term) = &self.phase {
            self.phase = Phase::Stopping { term: term.clone(), reason };
        }
    }
}

#[cfg(test)]
#[path = "machine_after_tests.rs"]
mod after_tests;

#[cfg(test)]
#[path = "machine_asked_tests.rs"]
mod asked_tests;

#[cfg(test)]
#[path = "machine_follower_tests.rs"]
mod follower_tests;

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "machine_life_tests.rs"]
mod life_tests;
