//! What a store's statements do to a row and to the record of the database's lives, as pure functions. The memory
//! store is made of them, and every database must answer as they do: the contract holds them against each other.

use super::asked::Posted;
use super::history::{End, Ending, Retention, Term};
use crate::election::life::{EPOCH_MAX, Life, LifeId, LifeRecord, NewEpoch, STEP, date};
use crate::election::row::{Expected, LeaseRow, Take, TermKey};

/// Whether a take or late release that was decided on one life of the database may be applied to another
/// answer's: the server must be the one that is recorded *and* the one that the decision saw. (The record
/// alone is replicated: a connection that now leads to a promoted standby would find it as it was.)
#[must_use]
pub fn same_life(decided_on: &LifeId, life: &Life) -> bool {
    !life.is_strange() && life.id() == *decided_on
}

/// The row after a successful take, or `None` when the race was lost. `highest` is the highest version
/// in the component's history, `now` is database time in ms. The history has one line per version, in
/// rising order, and is written in the same transaction: a version that is not above it is a lost race.
#[must_use]
pub fn take(row: Option<&LeaseRow>, highest: i64, take: &Take, now: i64) -> Option<LeaseRow> {
    let expected = match row {
        None => Expected::Missing { highest },
        Some(_) => Expected::of(row),
    };
    (expected == take.expected && take.term.version > highest).then(|| LeaseRow {
        holder: take.term.holder.as_str().to_owned(),
        lease_time: now,
        // Always rising while the row lives, or a follower could take two lives for one.
        renew_time: row.map_or(now, |row| now.max(row.renew_time + 1)),
        version: take.term.version,
        ttl: i64::from(take.ttl),
    })
}

/// The row after a renewal, or `None` when the term is lost. No test for expiry: the same version
/// means that nobody seized, and with a test one step of the database clock would end every term.
#[must_use]
pub fn renew(row: Option<&LeaseRow>, term: &TermKey, now: i64) -> Option<LeaseRow> {
    row.filter(|row| row.is_term(term)).map(|row| LeaseRow {
        // Always a change: followers tell a living holder by it.
        renew_time: now.max(row.renew_time + 1),
        ..row.clone()
    })
}

/// The row after a release, or `None` when the term was no longer this holder's.
#[must_use]
pub fn release(row: Option<&LeaseRow>, term: &TermKey) -> Option<LeaseRow> {
    row.filter(|row| row.is_term(term)).map(|row| LeaseRow {
        holder: String::new(),
        renew_time: 0,
        ..row.clone()
    })
}

/// The same for a term that is over for its holder: only in the life of the database in which it was taken, and
/// nowhere where lives cannot be told apart.
#[must_use]
pub fn release_late(
    row: Option<&LeaseRow>,
    term: &TermKey,
    within: &LifeId,
    life: &Life,
) -> Option<LeaseRow> {
    (*life != Life::Unknown && same_life(within, life)).then(|| release(row, term)).flatten()
}

/// The end of a term that is written down, or `None` where it is written already. `posted` is what was asked last.
#[must_use]
pub fn end(term: &Term, ending: &Ending, posted: Option<&Posted>, now: i64) -> Option<End> {
    let asked = posted.filter(|posted| {
        posted.request.version == term.version && Some(&posted.request.id) == ending.request.as_ref()
    });
    term.end.is_none().then(|| End {
        at: ending.at.by(now).max(term.lease_time),
        reason: ending.reason,
        said: asked.map(|posted| posted.said.clone()),
    })
}

/// Whether a line of a history, to which so many newer ones follow, need not be kept.
#[must_use]
pub fn may_be_forgotten(term: &Term, newer: usize, kept: Retention, now: i64) -> bool {
    let over = term.end.as_ref().map_or(term.lease_time, |end| end.at);
    let age = i64::try_from(kept.age.as_millis()).unwrap_or(i64::MAX);
    newer > 0 && (newer >= kept.newest as usize || over < now.saturating_sub(age))
}

/// Whether all versions of an epoch fit a column that ends at `version_max`.
#[must_use]
pub fn fits(epoch: i64, step: i64, version_max: i64) -> bool {
    epoch.checked_add(1).and_then(|next| next.checked_mul(step)).is_some_and(|end| end - 1 <= version_max)
}

/// The epoch that follows one, at the database's time. The date, because the epoch itself may be
/// among the writes that were lost: of two standbys promoted in turn both would count to the same.
#[must_use]
pub fn next_epoch(epoch: i64, at_least: i64, now_ms: i64, step: i64) -> i64 {
    (epoch + 1).max(date(now_ms, step)).max(at_least).min(EPOCH_MAX)
}

/// The record after an attempt to begin an epoch, or `None` when it is not as it was seen.
#[must_use]
pub fn begin(
    recorded: Option<&LifeRecord>,
    new: &NewEpoch,
    identity: &str,
    now_ms: i64,
    step: i64,
) -> Option<LifeRecord> {
    if step >= STEP && new.at_least > date(now_ms, step) {
        return None;
    }
    let seen = |record: &LifeRecord| (record.identity.clone(), record.epoch);
    if recorded.map(seen) != new.seen.as_ref().map(seen) {
        return None;
    }
    let Some(record) = recorded else {
        let epoch = next_epoch(0, new.at_least, now_ms, step);
        return Some(LifeRecord {
            identity: identity.to_owned(),
            epoch,
            settled: false,
            max_ttl: new.max_ttl,
        });
    };
    let wanted = new.deliberate || record.identity != identity;
    (wanted && record.epoch < EPOCH_MAX).then(|| LifeRecord {
        identity: identity.to_owned(),
        epoch: next_epoch(record.epoch, new.at_least, now_ms, step),
        settled: false,
        max_ttl: record.max_ttl,
    })
}

/// The record after an attempt to say that the quarantine of this life is over, or `None`
/// when another one is recorded, or another server answers.
#[must_use]
pub fn settle(recorded: Option<&LifeRecord>, waited_out: &LifeId, identity: &str) -> Option<LifeRecord> {
    recorded
        .filter(|record| record.identity == waited_out.identity && record.epoch == waited_out.epoch)
        .filter(|record| record.identity == identity)
        .map(|record| LifeRecord { settled: true, ..record.clone() })
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
