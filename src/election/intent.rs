//! What an operator asks of a component: that nobody takes it, or that its leader makes way.
//!
//! A request names the version that it was made against, and is void once the row's version is another one:
//! otherwise the next leader would obey it too, and the one after that. So it is obeyed by one leader at most, once.
//! It never makes a leader by itself: the leader stops its work, releases, and the row is taken as ever. A target
//! has a *head start* for that, a third of a ttl at most: a target that died cannot keep everybody out.
//!
//! | verb | the leader | the target | the others |
//! |---|---|---|---|
//! | switchover | stops and releases | may take as ever | wait out the head start first |
//! | step down | stops, releases, stays away for a while | (none) | may take as ever |
//! | promote | as for a switchover | as for a switchover, also of a lease that lapsed | wait out the head start first |
//! | promote now | stops and releases | takes at once, though the term of another may still run | as for promote |

use std::time::Duration;

use super::row::{LeaseRow, TermKey};
use super::timing::Moment;
use crate::name::HolderId;

/// What is asked of a leader. The words of the table `component_lease_intent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// Make way for the target, or for anybody else.
    Switchover,
    /// Make way, and stay away for a while.
    StepDown,
    /// Make way for the target, which also is the first to take the lease if it lapses.
    Promote,
    /// The target takes at once. For one ttl at most two may lead, told apart by their versions.
    PromoteNow,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Switchover, Self::StepDown, Self::Promote, Self::PromoteNow];

    /// As it stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::StepDown => "step_down",
            Self::Promote => "promote",
            Self::PromoteNow => "promote_now",
        }
    }

    /// From the word in the table.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// What a look showed of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Intent {
    pub(super) paused: bool,
    pub(super) request: Option<Request>,
}

/// One request of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Names it for ever: asking again under the same id changes nothing.
    pub id: String,
    /// What is asked for.
    pub verb: Verb,
    /// The term that it is about. In any other term it is void.
    pub version: i64,
    /// Who is to lead next, if anybody in particular.
    pub target: Option<HolderId>,
    /// How long a leader that steps down takes nothing afterwards; zero where nobody else could lead.
    pub away: Duration,
}

impl Request {
    /// Whether it is about this row. A missing row has no term that could end.
    #[must_use]
    pub fn is_about(&self, row: Option<&LeaseRow>) -> bool {
        row.is_some_and(|row| row.version == self.version)
    }

    /// Whether the leader of this term stops. Nobody makes way for itself.
    pub(super) fn ends(&self, term: &TermKey) -> bool {
        self.version == term.version && self.target.as_ref() != Some(&term.holder)
    }

    /// From when `me` may take a row that anybody could take from `open` on; `since` is when that row was first
    /// seen as it is.
    pub(super) fn opens(&self, me: &HolderId, open: Moment, since: Moment, head_start: Duration) -> Moment {
        match &self.target {
            Some(target) if target != me => open.max(since) + head_start,
            Some(_) if self.verb == Verb::PromoteNow => Moment::ZERO,
            _ => open,
        }
    }
}
