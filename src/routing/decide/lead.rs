//! Who leads: the row, judged by our own boot clock, and by what pods are stamped with.

use std::time::Duration;

use super::super::observed::{Observed, OnDatabaseUnreachable, RowSight, StoreSight};
use crate::election::row::LeaseRow;
use crate::election::timing::Moment;

/// Who leads, as far as the row tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// Not looked at for long enough to tell.
    Unknown,
    /// No row, or a row without a holder.
    Vacant(Option<LeaseRow>),
    /// The holder has not renewed for a ttl of our own boot clock.
    Expired(LeaseRow),
    /// Held until this moment, if it is not renewed before.
    Held(LeaseRow, Moment),
    /// Held when the database last answered, which is too long ago to tell more.
    LastKnown(LeaseRow),
}

impl Lead {
    #[must_use]
    pub fn row(&self) -> Option<&LeaseRow> {
        match self {
            Self::Unknown => None,
            Self::Vacant(row) => row.as_ref(),
            Self::Expired(row) | Self::Held(row, _) | Self::LastKnown(row) => Some(row),
        }
    }
}

/// Who leads. `None` where a pod carries a later version than the row that was seen: somebody knows more than we do.
pub(super) fn judge(o: &Observed, newest_stamp: Option<i64>) -> Option<Lead> {
    let lead = who_leads(o);
    let behind = !o.row_confirmed && newest_stamp.is_some_and(|stamp| stamp > row_version(o));
    if !behind || matches!(lead, Lead::Unknown) {
        return Some(lead);
    }
    if o.store == StoreSight::Answers {
        return None;
    }
    // It cannot be asked. A controller that acted on this row all the same would undo what one did that knows more;
    // only what has run out may be taken back.
    Some(if ran_out(o) { lead } else { Lead::Unknown })
}

/// The version of the row, or the last one that is remembered.
pub(super) fn row_version(o: &Observed) -> i64 {
    match &o.row {
        RowSight::Seen { row, .. } => row.as_ref().map_or(0, |row| row.version),
        RowSight::Never { .. } => o.memory.version,
    }
}

/// The row, judged by our own boot clock. A controller that has just begun gives a row one ttl.
fn who_leads(o: &Observed) -> Lead {
    if let StoreSight::Another(_) = o.store {
        return Lead::Unknown;
    }
    let remove = o.desired.on_database_unreachable == OnDatabaseUnreachable::Remove;
    match (&o.row, &o.store) {
        (RowSight::Seen { row: Some(row), since }, store) if !row.is_free() => {
            let until = *since + row.judged_ttl();
            match store {
                _ if o.now < until => Lead::Held(row.clone(), until),
                StoreSight::Answers => Lead::Expired(row.clone()),
                _ if remove => Lead::Expired(row.clone()),
                _ => Lead::LastKnown(row.clone()),
            }
        }
        (RowSight::Seen { row, .. }, _) => Lead::Vacant(row.clone()),
        (RowSight::Never { .. }, StoreSight::Unreachable(_) | StoreSight::Misconfigured(_)) if ran_out(o) => {
            Lead::Vacant(None)
        }
        (RowSight::Never { .. }, _) => Lead::Unknown,
    }
}

/// When labels are to go because the database has not answered for a whole lease, if ever.
pub(super) fn runs_out(o: &Observed) -> Option<Moment> {
    let (since, ttl) = match &o.row {
        RowSight::Seen { row: Some(row), since } if !row.is_free() => (*since, row.judged_ttl()),
        RowSight::Seen { since, .. } | RowSight::Never { since } => {
            (*since, Duration::from_secs(u64::from(o.desired.ttl)))
        }
    };
    let remove = o.desired.on_database_unreachable == OnDatabaseUnreachable::Remove;
    (remove && !matches!(o.store, StoreSight::Another(_))).then(|| since + ttl)
}

fn ran_out(o: &Observed) -> bool {
    runs_out(o).is_some_and(|at| o.now >= at)
}
