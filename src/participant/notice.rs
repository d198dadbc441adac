//! What the hints of a store are worth: whether they come when something changes, and how soon one is
//! followed.

use std::time::Duration;

use crate::election::Moment;
use crate::rate::budget::Budget;

/// Two looks are at least this far apart, however many hints come.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// So many looks that hints made may find nothing before they are rationed, to one in this time.
const BURST: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No hint was missed since the last that came.
    Quiet,
    /// One has come since the last look that was answered.
    Hinted,
    /// A look found a change that no hint had come for, and none has since: a pooler may swallow them, or
    /// nothing sends any. One that is late ends this.
    Missed,
}

#[derive(Debug)]
pub(super) struct Notice {
    state: State,
    budget: Budget,
    looked: Moment,
    /// Hints come with every commit of anybody, so most of them mean nothing, and nobody can forge them.
    of_every_commit: bool,
}

impl Notice {
    pub(super) fn new(now: Moment, of_every_commit: bool) -> Self {
        let budget = Budget::new(BURST, INTERVAL, now);
        Self { state: State::Quiet, budget, looked: Moment::ZERO, of_every_commit }
    }

    /// A hint has come. When to look for what it hints at.
    pub(super) fn hinted(&mut self, now: Moment) -> Moment {
        self.state = State::Hinted;
        let pause = if self.of_every_commit { Duration::ZERO } else { self.budget.wait(now) };
        (now + pause).max(self.looked + LEAST_PAUSE)
    }

    /// A look ended at `now`, however it ended.
    pub(super) fn looked(&mut self, now: Moment) {
        self.looked = now;
    }

    /// What a look found: whether another holder or term than before. `is_first`: there was nothing before.
    pub(super) fn found(&mut self, now: Moment, changed: bool, is_first: bool) {
        if changed {
            self.budget.restore(now);
        } else if self.state == State::Hinted {
            self.budget.spend(now);
        }
        self.state = match self.state {
            State::Hinted => State::Quiet,
            State::Quiet if changed && !is_first => State::Missed,
            state => state,
        };
    }

    /// Whether a change that happens now may go untold.
    pub(super) fn misses(&self) -> bool {
        self.state == State::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_change_without_a_hint_is_missed_until_a_hint_comes_also_when_it_is_only_late() {
        let mut notice = Notice::new(MS(0), false);
        notice.found(MS(0), true, true);
        assert!(!notice.misses(), "nobody was there to be told");
        notice.found(MS(1), true, false);
        assert!(notice.misses());
        notice.hinted(MS(2));
        assert!(!notice.misses());
        notice.found(MS(3), false, false);
        assert!(!notice.misses());
        notice.hinted(MS(4));
        notice.found(MS(5), true, false);
        assert!(!notice.misses());
    }

    #[test]
    fn hints_that_never_end_and_mean_nothing_are_followed_once_a_second_and_true_ones_at_once() {
        let mut notice = Notice::new(MS(0), false);
        let (mut now, mut looks) = (MS(0), 0);
        while now < MS(60_000) {
            now = notice.hinted(now);
            now += MS(1);
            notice.looked(now);
            notice.found(now, false, false);
            looks += 1;
        }
        assert!((60..=72).contains(&looks), "{looks} looks in a minute");
        assert!(notice.hinted(now) > now + MS(900));
        notice.found(now, true, false);
        assert_eq!(notice.hinted(now + MS(30)), now + MS(30), "hand-overs in quick succession");
        notice.looked(now + MS(35));
        assert_eq!(notice.hinted(now + MS(36)), now + MS(55));
    }
}
