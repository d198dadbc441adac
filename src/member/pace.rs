//! How often a member looks at what stands beside the lease.

use std::time::Duration;

use super::state::State;
use crate::election::Moment;
use crate::participant::{TermObserver, View};

/// How often a member looks while something is going on.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// How often a member looks while nothing is going on. A change of the lease is noticed by its participant, which looks at the lease alone.
const CALM: Duration = Duration::from_secs(2);
/// For how long after a change something is going on.
const BUSY: Duration = Duration::from_secs(10);
/// How often it looks when a change has not come to its end within that.
const SLOW: Duration = Duration::from_secs(1);

/// The lease, as the participant has seen it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) version: i64,
    is_held: bool,
    /// The version of its own term.
    pub(super) leads: Option<i64>,
}

impl Lease {
    pub(super) fn of(seen: &View) -> Self {
        let row = seen.row.as_ref();
        Self {
            version: row.map_or(0, |row| row.version),
            is_held: row.is_some_and(|row| !row.is_free()),
            leads: seen.term().map(TermObserver::version),
        }
    }
}

/// Since when the lease and the member are as they are.
#[derive(Debug, Default)]
pub(super) struct Pace {
    as_it_is: Option<(Lease, State)>,
    since: Moment,
}

impl Pace {
    /// How long until the next look.
    pub(super) fn after(&mut self, lease: Lease, state: State, now: Moment) -> Duration {
        if self.as_it_is != Some((lease, state)) {
            (self.as_it_is, self.since) = (Some((lease, state)), now);
        }
        let is_calm = lease.is_held && state == State::Follows(lease.version);
        match now < self.since + BUSY {
            _ if is_calm => CALM,
            true => LOOK,
            false => SLOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_member_looks_often_while_something_is_going_on_and_seldom_else() {
        let mut pace = Pace::default();
        let lease = |version, is_held| Lease { version, is_held, leads: None };
        assert_eq!(pace.after(lease(7, true), State::Follows(7), S(100)), CALM);
        assert_eq!(pace.after(lease(7, false), State::Follows(7), S(101)), LOOK, "nobody holds it");
        assert_eq!(pace.after(lease(8, true), State::Follows(7), S(102)), LOOK);
        assert_eq!(pace.after(lease(8, true), State::Alone, S(103)), LOOK);
        assert_eq!(pace.after(lease(8, true), State::Alone, S(112)), LOOK);
        assert_eq!(
            pace.after(lease(8, true), State::Alone, S(113)),
            SLOW,
            "nobody is promoted: that may last"
        );
        assert_eq!(pace.after(lease(8, true), State::Follows(8), S(114)), CALM);
        assert_eq!(pace.after(lease(9, true), State::Alone, S(115)), LOOK);
    }
}
