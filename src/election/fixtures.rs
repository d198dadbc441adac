//! What the tests of the state machine begin with.

use std::time::Duration;

use super::life::{Life, LifeRecord, STEP};
use super::machine::{Action, Election, Looked};
use super::row::{LeaseRow, Take};
use super::timing::{Moment, Timing};
use crate::name::{ComponentName, HolderId};

pub(super) const S: fn(u64) -> Duration = Duration::from_secs;
pub(super) const MS: fn(u64) -> Duration = Duration::from_millis;

pub(super) fn election() -> Election {
    let timing = Timing::new(10, S(1)).unwrap();
    Election::new(ComponentName::new("c").unwrap(), HolderId::new("me").unwrap(), timing, S(10))
}

pub(super) fn row(holder: &str, version: i64, renew_time: i64) -> LeaseRow {
    LeaseRow { holder: holder.into(), lease_time: 0, renew_time, version, ttl: 10 }
}

pub(super) fn look(e: &mut Election, at: Moment, row: Option<LeaseRow>) {
    e.looked(at, Looked { row, ..Looked::default() }, 0.0);
}

pub(super) fn take_of(action: Action) -> Take {
    match action {
        Action::Take(take) => take,
        other => panic!("expected a take, got {other:?}"),
    }
}

/// An election that leads version 1 since t0 = 100 s.
pub(super) fn leader() -> Election {
    let mut e = election();
    look(&mut e, S(100), None);
    let take = take_of(e.next(S(100)));
    e.took(S(100), S(100), &take, Some(true));
    e
}

/// A server whose record is of `recorded`.
pub(super) fn life(server: &str, recorded: &str, epoch: i64, settled: bool) -> Life {
    let record = LifeRecord { identity: recorded.into(), epoch, settled, max_ttl: 30 };
    Life::Recorded { identity: server.into(), step: STEP, record }
}
