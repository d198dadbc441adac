//! What has been: the terms of a component, when each ended and why.

use std::time::Duration;

use super::asked::Said;
use crate::election::LeaseRow;

/// Why a term ended. The words of the column `component_lease_history.end_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EndReason {
    /// Its holder gave it back, because it was told to end.
    Released,
    /// Its holder gave it back, because its work was done.
    WorkEnded,
    /// Its holder gave it back, because its work failed.
    WorkFailed,
    /// Its holder stopped renewing, and another took the lease when the ttl was over.
    Expired,
    /// Its holder could not renew in time, stopped by itself, and gave the lease back when the database answered again.
    Deadline,
    /// Its holder stepped down.
    SteppedDown,
    /// An operator asked its holder to make way.
    SwitchedOver,
    /// An operator asked for another holder.
    Promoted,
    /// The health check of its holder failed.
    Unhealthy,
    /// The controller gave it back, because the containers of its holder had ended.
    ContainerEnded,
    /// It was not renewed any more after the database had been restarted, failed over or restored, or had lost it.
    DatabaseChanged,
    /// A program without a history took the lease, or somebody deleted its row.
    Foreign,
    /// The column has a word that this version does not know.
    Unknown,
}

impl EndReason {
    /// All that are ever written.
    pub const ALL: [Self; 12] = [
        Self::Released,
        Self::WorkEnded,
        Self::WorkFailed,
        Self::Expired,
        Self::Deadline,
        Self::SteppedDown,
        Self::SwitchedOver,
        Self::Promoted,
        Self::Unhealthy,
        Self::ContainerEnded,
        Self::DatabaseChanged,
        Self::Foreign,
    ];

    /// As it stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::WorkEnded => "work_ended",
            Self::WorkFailed => "work_failed",
            Self::Expired => "expired",
            Self::Deadline => "deadline",
            Self::SteppedDown => "stepped_down",
            Self::SwitchedOver => "switched_over",
            Self::Promoted => "promoted",
            Self::Unhealthy => "unhealthy",
            Self::ContainerEnded => "container_ended",
            Self::DatabaseChanged => "database_changed",
            Self::Foreign => "foreign",
            Self::Unknown => "unknown",
        }
    }

    /// From the word in the table, which anybody may have written.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word).unwrap_or(Self::Unknown)
    }
}

/// One term, as the history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Its fencing token.
    pub version: i64,
    /// Who led.
    pub holder: String,
    /// When it began: the database's clock, ms since 1970 UTC.
    pub lease_time: i64,
    /// Seconds that it lasted without renewal.
    pub ttl: i64,
    /// `None`: it has not ended, or nobody wrote down that it has.
    pub end: Option<End>,
}

impl Term {
    /// As a take writes it down.
    pub(super) fn begun_by(row: &LeaseRow) -> Self {
        Self {
            version: row.version,
            holder: row.holder.clone(),
            lease_time: row.lease_time,
            ttl: row.ttl,
            end: None,
        }
    }
}

/// How a term ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When: the database's clock, ms since 1970 UTC. Of a term that lapsed, its last renewal.
    pub at: i64,
    /// Why.
    pub reason: EndReason,
    /// Who asked for it, and why, if somebody did.
    pub said: Option<Said>,
}

/// What is to be written down of the end of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// When. What is written is never before the term began.
    pub at: When,
    /// The id of the request that ended it. Who asked, and why, is copied from the request if it still stands there and
    /// is about this term.
    pub request: Option<String>,
}

impl Ending {
    /// Now, and on nobody's request.
    #[must_use]
    pub fn now(reason: EndReason) -> Self {
        Self { reason, at: When::NOW, request: None }
    }
}

/// A time that only the database can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// By the database's clock, ms since 1970 UTC.
    At(i64),
    /// So long before the database writes it down.
    Ago(Duration),
}

impl When {
    /// When it is written down.
    pub const NOW: Self = Self::Ago(Duration::ZERO);

    /// `now` is the database's clock.
    pub(super) fn by(self, now: i64) -> i64 {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// How much of a history is kept. A component's last line always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest lines of each component; of 0, too, the last one stays.
    pub newest: u32,
    /// Since a term ended (or began, where its end is not known).
    pub age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_as_it_was_written_and_fits_its_column() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::parse(reason.as_str()), reason);
            assert!(reason.as_str().len() <= 32);
        }
        assert_eq!(EndReason::parse("bored"), EndReason::Unknown);
    }
}
