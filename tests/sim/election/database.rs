//! What a database keeps beside the row, what it may forget, and what tells its lives apart.

use component_lease::domain::election::Past;
use component_lease::domain::life::{self, NARROW_STEP, STEP};
use component_lease::domain::{Expected, Generation, LeaseRow, Life, NewEpoch, Record, Take, model};

use super::sim::{Broken, Real};

pub(super) struct Database {
    server: u32,
    servers: u32,
    pub(super) highest: i64,
    record: Record,
}

/// A standby that no longer follows, a volume snapshot, a backup.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    row: Option<LeaseRow>,
    renewed: Real,
    highest: i64,
    record: Record,
}

impl Database {
    /// A first installation.
    pub(super) fn new(max_ttl: u32) -> Self {
        let record = Record { identity: "1".to_owned(), epoch: 0, settled: true, max_ttl };
        Self { server: 1, servers: 1, highest: 0, record }
    }

    pub(super) fn copy(&self, row: Option<LeaseRow>, renewed: Real) -> Copy {
        Copy { row, renewed, highest: self.highest, record: self.record.clone() }
    }

    /// Goes on as a server that nobody has seen before, with what the copy has.
    pub(super) fn become_another(&mut self, copy: Copy) -> (Option<LeaseRow>, Real) {
        self.servers += 1;
        self.server = self.servers;
        (self.highest, self.record) = (copy.highest, copy.record);
        (copy.row, copy.renewed)
    }

    pub(super) fn life(&self, row: Option<&LeaseRow>, broken: Option<Broken>) -> Life {
        let step = if broken == Some(Broken::VersionWithoutEpoch) { 0 } else { STEP };
        let mut record = self.record.clone();
        match broken {
            Some(Broken::NoQuarantine) => record.settled = true,
            Some(Broken::QuarantineForHeldRowsOnly) if row.is_none_or(LeaseRow::is_free) => {
                record.settled = true;
            }
            _ => {}
        }
        Life::Recorded { identity: self.server.to_string(), step, record }
    }

    pub(super) fn past(&self, row: Option<&LeaseRow>, broken: Option<Broken>) -> Past {
        match self.highest {
            0 => Past::NeverLived,
            _ if row.is_none() && broken == Some(Broken::DeletedRowInsertedAtOnce) => Past::NeverLived,
            highest => Past::Lived(highest),
        }
    }

    pub(super) fn take(
        &self,
        row: Option<&LeaseRow>,
        take: &Take,
        now: i64,
        broken: Option<Broken>,
    ) -> Option<LeaseRow> {
        let applies = model::same_life(take, &self.life(row, None));
        let highest = match (&take.expected, broken) {
            (
                Expected::Missing { highest },
                Some(Broken::InsertNotBoundToHistory | Broken::DeletedRowInsertedAtOnce),
            ) => *highest,
            _ => self.highest,
        };
        applies.then(|| model::take(row, highest, take, now)).flatten()
    }

    pub(super) fn begin(&mut self, new: &NewEpoch, now: i64, broken: Option<Broken>) -> bool {
        let step = if broken == Some(Broken::EpochWithoutDate) { NARROW_STEP } else { STEP };
        let begun = life::begin(Some(&self.record), new, &self.server.to_string(), now, step);
        self.write(begun)
    }

    pub(super) fn settle(&mut self, waited_out: &Generation) -> bool {
        let settled = life::settle(Some(&self.record), waited_out, &self.server.to_string());
        self.write(settled)
    }

    fn write(&mut self, record: Option<Record>) -> bool {
        let Some(record) = record else { return false };
        self.record = record;
        true
    }
}
