//! What keeps a participant from taking, by itself.

use crate::election::timing::Moment;

/// Whether this participant could lead, as far as it goes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fitness {
    Fit,
    Unhealthy,
    NeverLeads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StaysAway {
    pub(super) until: Moment,
    /// The participant may return early once somebody else has begun a later term than this.
    pub(super) after_version: i64,
}
