//! What an operator asks of a component: that nobody takes it, or that its leader makes way.
//!
//! A request names the version that it was made against, and is void once the row's version is another one:
//! otherwise the next leader would obey it too, and the one after that. So it is obeyed by one leader at most, once.
//! It never makes a leader by itself: the leader stops its work, releases, and the row is taken as ever. A target
//! has a *head start* for that, a third of a ttl at most: a target that died cannot keep everybody out.
//!
//! | verb | the leader | the target | the others |
//! |---|---|---|---|
//! | switchover | stops and releases; stays away for a head start if no target is named | may take as ever | wait out the head start first |
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

/// What a look showed of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Intent {
    pub(super) paused: bool,
    pub(super) preferred: Option<HolderId>,
    pub(super) cooldown: Duration,
    pub(super) request: Option<Request>,
}

/// So much earlier than all others the preferred participant may take a free or lapsed row, and never more than a head
/// start: one that died costs no more.
const PREFERENCE: Duration = Duration::from_secs(2);

impl Intent {
    /// From when `me` may take a row that anybody could take from `open` on; `since` is when that row was first
    /// seen as it is. A request for a target beats what the resource prefers. After any request, nobody waits because the
    /// holder changes too often, nor if the row lapsed; and no wait is longer than a head start.
    pub(super) fn opens(
        &self,
        me: &HolderId,
        row: Option<&LeaseRow>,
        (open, since): (Moment, Moment),
        head_start: Duration,
    ) -> Moment {
        let asked = self.request.as_ref().filter(|asked| asked.is_about(row));
        let target = asked.and_then(|asked| Some((asked.verb, asked.target.as_ref()?)));
        match (target, &self.preferred) {
            (Some((_, target)), _) if target != me => open.max(since) + head_start,
            (Some((Verb::PromoteNow, _)), _) => Moment::ZERO,
            (Some(_), _) => open,
            (None, preferred) => {
                let other = preferred.as_ref().is_some_and(|preferred| preferred != me);
                let given_back = asked.is_none() && row.is_some_and(LeaseRow::is_free);
                // Who is preferred still comes first.
                let cooldown = self.cooldown.min(head_start - PREFERENCE.min(head_start / 2));
                let wait = cooldown * u32::from(given_back) + PREFERENCE * u32::from(other);
                if wait.is_zero() { open } else { open.max(since) + wait.min(head_start) }
            }
        }
    }
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
    /// How long the leader takes nothing afterwards, when it steps down or makes way for nobody in particular; zero
    /// where nobody else could lead.
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
}
