//! How fast a database answers, as its connections were seen to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::election::Pace;

/// The last that was measured.
#[derive(Debug, Default)]
pub(super) struct PaceCell(Mutex<(Option<Duration>, Option<Duration>)>);

pub(super) struct Measuring<'a> {
    cell: &'a PaceCell,
    began: Instant,
}

impl PaceCell {
    pub(super) fn get(&self) -> Option<Pace> {
        let (connect, round_trip) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Pace { connect: connect?, round_trip: round_trip? })
    }

    pub(super) fn begin(&self) -> Measuring<'_> {
        Measuring { cell: self, began: Instant::now() }
    }
}

impl Measuring<'_> {
    /// It was the making of a connection, which a file needs none of.
    pub(super) fn connected(self) {
        self.cell.0.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(self.began.elapsed());
    }

    /// It was one statement.
    pub(super) fn round_trip(self) {
        self.cell.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(self.began.elapsed());
    }
}
