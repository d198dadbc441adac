//! What a member can be.

use std::time::Duration;

/// How long a server is given to end by itself once it must acknowledge nothing more.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// What a member is, for people and for probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its server takes no writes, and it follows nobody.
    Alone,
    /// It follows the primary of this version.
    Follows(i64),
    /// It holds the lease at this version, and its server acknowledges nothing yet.
    Closed(i64),
    /// It is the primary of this version.
    Primary(i64),
    /// An operator keeps its server stopped.
    Fenced,
}

impl State {
    /// Whether its server was promoted, so that it must end with the term.
    pub(super) const fn is_promoted(self) -> bool {
        matches!(self, Self::Closed(_) | Self::Primary(_))
    }
}
