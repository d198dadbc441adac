//! What operators ask in any order, and what may come of it.

use component_lease::election::{Moment, Request, Take, Verb};

use super::super::super::database::{Call, promotes_now};
use super::participant::{Doing, State};
use super::{TICK, TICKS_PER_TTL, World};

/// What an operator may ask of the term that the row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Ask {
    Pause,
    Resume,
    For(Verb, Option<usize>),
}

impl World {
    pub(super) fn asks(&self) -> Vec<Ask> {
        let mut asks = vec![if self.database.asked.paused { Ask::Resume } else { Ask::Pause }];
        if self.row.is_some() {
            asks.extend([Ask::For(Verb::StepDown, None), Ask::For(Verb::Switchover, None)]);
            for p in 0..self.participants.len() {
                asks.extend([Verb::Promote, Verb::PromoteNow].map(|verb| Ask::For(verb, Some(p))));
            }
        }
        asks
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Pause => self.database.asked.paused = true,
            Ask::Resume => self.database.asked.paused = false,
            Ask::For(verb, target) => {
                let target = target.map(|p| self.participants[p].election.me().clone());
                let version = self.row.as_ref().map_or(0, |row| row.version);
                let id = format!("{verb:?} {version}");
                let request = Request { id, verb, version, target, away: TICK * 2 };
                self.asked.push(request.clone());
                self.database.asked.request = Some(request);
            }
        }
        for p in 0..self.participants.len() {
            let participant = &mut self.participants[p];
            if participant.state == State::Runs && matches!(participant.doing, Doing::Waits(_)) {
                participant.election.hinted(TICK * self.now);
                participant.doing = Doing::Calls(Call::Look, TICK * self.now);
            }
        }
    }

    /// A take is applied.
    pub(super) fn takes_as_asked(&mut self, take: &Take) -> Result<(), String> {
        if self.database.asked.paused {
            return Err(format!("{take:?} was applied while the election is paused"));
        }
        if promotes_now(&self.asked, self.row.as_ref(), take) {
            self.promoted.insert(take.term.version, self.now);
        }
        Ok(())
    }

    /// A leader saw this request and stopped.
    pub(super) fn obeyed(&mut self, request: &Request, version: i64) -> Result<(), String> {
        let before = *self.obeyed.entry(request.id.clone()).or_insert(version);
        if before == version {
            Ok(())
        } else {
            Err(format!("{request:?} was obeyed twice: it ended version {before}, and then {version}"))
        }
    }

    /// Two may work for one ttl after the later of them was promoted at once.
    pub(super) fn was_promoted_at_once(&self, working: &[(i64, Moment)]) -> bool {
        let mut versions: Vec<i64> = working.iter().map(|(version, _)| *version).collect();
        versions.sort_unstable();
        versions.windows(2).all(|pair| self.was_overtaken(pair[0], pair[1]))
    }

    /// Whether a promotion at once comes between two terms that was made within the ttl: the answer to the earlier
    /// take may come after it.
    pub(super) fn was_overtaken(&self, earlier: i64, later: i64) -> bool {
        let mut between = self.promoted.range(earlier + 1..=later.max(earlier + 1));
        between.any(|(_, at)| self.now <= at + TICKS_PER_TTL)
    }
}
