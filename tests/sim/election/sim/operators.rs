//! What operators ask, in virtual time, and what may come of it: a request ends one term at most, nothing is taken
//! while the election is paused, and two work at a time only where one was promoted at once, for one ttl at most.

use std::collections::BTreeMap;
use std::time::Duration;

use component_lease::election::{HolderId, Request, StopReason, Take, Verb};
use component_lease::membership::holder_id;

use super::super::database::promotes_now;
use super::{Event, Real, Sim, Working};

pub(super) struct Operators {
    /// Its own, so that the same seed without operators is the same world.
    rng: fastrand::Rng,
    asked: Vec<Request>,
    /// By request: the term that it ended.
    obeyed: BTreeMap<String, i64>,
    /// Terms that began by a promotion at once, and when.
    at_once: BTreeMap<i64, Real>,
}

impl Operators {
    pub(super) fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ 0x0a5c);
        Self { rng, asked: Vec::new(), obeyed: BTreeMap::new(), at_once: BTreeMap::new() }
    }

    pub(super) fn promoted(&self, version: i64) -> bool {
        self.at_once.contains_key(&version)
    }

    /// Whether those who work at the same time do because the later of them was promoted at once, within a ttl.
    pub(super) fn explain(&self, working: &[Working], now: Real, ttl: Real) -> bool {
        let mut versions: Vec<i64> = working.iter().map(|working| working.version).collect();
        versions.sort_unstable();
        versions.windows(2).all(|pair| self.overtook(pair[0], pair[1], now, ttl))
    }

    /// Whether a promotion at once comes between two terms that was made within the ttl: the answer to the earlier
    /// take may come after it.
    pub(super) fn overtook(&self, earlier: i64, later: i64, now: Real, ttl: Real) -> bool {
        let mut between = self.at_once.range(earlier + 1..=later.max(earlier + 1));
        between.any(|(_, at)| now <= at + ttl.max(20 * super::SECOND))
    }
}

impl Sim {
    pub(super) fn next_ask(&mut self) {
        let at = self.now + self.operators.rng.u64(0..self.ttl() * 2);
        self.push(at, Event::Ask);
    }

    /// Something is asked, by whom and for what is drawn.
    pub(super) fn ask(&mut self) {
        self.next_ask();
        let operators = &mut self.operators;
        match operators.rng.u32(..9) {
            // Also one that is not there, and nobody.
            8 => {
                let gone = holder_id::compose("gone", "1", 1).expect("a holder id");
                let p = operators.rng.usize(..=self.processes.len() + 1);
                let preferred = match p.checked_sub(self.processes.len()) {
                    None => Some(self.processes[p].election.me().clone()),
                    Some(0) => Some(gone),
                    Some(_) => None,
                };
                self.database.asked.preferred = preferred;
                // However long it is said to be, it delays nobody by more than a third of a ttl.
                self.database.asked.cooldown = Duration::from_secs([0, 1, 3600][operators.rng.usize(..3)]);
            }
            0 => self.database.asked.paused = true,
            // Nobody pauses for long.
            1 | 2 => self.database.asked.paused = false,
            // An old one once more, by somebody who does not know what became of it.
            3 if !operators.asked.is_empty() => {
                let again = operators.rng.usize(..operators.asked.len());
                self.database.asked.request = Some(operators.asked[again].clone());
            }
            _ => {
                let Some(row) = &self.row else { return };
                let verb = Verb::ALL[operators.rng.usize(..Verb::ALL.len())];
                let target = (verb != Verb::StepDown).then(|| {
                    let nobody = holder_id::compose("gone", "1", 1).expect("a holder id");
                    let p = operators.rng.usize(..=self.processes.len());
                    self.processes.get(p).map_or(nobody, |process| process.election.me().clone())
                });
                let request = Request {
                    id: operators.asked.len().to_string(),
                    verb,
                    version: row.version,
                    target: target.filter(|_: &HolderId| operators.rng.u32(..4) > 0),
                    away: Duration::from_secs(operators.rng.u64(..30)),
                };
                operators.asked.push(request.clone());
                self.database.asked.request = Some(request);
            }
        }
    }

    /// A take is applied.
    pub(super) fn takes_as_asked(&mut self, take: &Take) -> Result<(), String> {
        if self.database.asked.paused {
            return Err(format!("{take:?} was applied while the election is paused"));
        }
        if promotes_now(&self.operators.asked, self.row.as_ref(), take) {
            self.operators.at_once.insert(take.term.version, self.now);
        }
        Ok(())
    }

    /// A leader saw this request and stopped.
    pub(super) fn obeyed(
        &mut self,
        request: &Request,
        version: i64,
        reason: StopReason,
    ) -> Result<(), String> {
        if reason != StopReason::from(request.verb) {
            return Ok(());
        }
        let before = *self.operators.obeyed.entry(request.id.clone()).or_insert(version);
        if before == version {
            return Ok(());
        }
        Err(format!("{request:?} was obeyed twice: it ended version {before}, and then {version}"))
    }

    /// How many requests ended a term.
    pub(in super::super) fn obeyed_in_all(&self) -> usize {
        self.operators.obeyed.len()
    }
}
