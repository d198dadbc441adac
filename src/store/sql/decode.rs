//! What the columns of our statements mean.

use std::time::Duration;

use super::value::Row;
use crate::election::{HolderId, LeaseRow, Life, LifeRecord, Request, Verb};
use crate::membership::{Mode, Promise, SeenInstance, Whereabouts};
use crate::store::asked::{Asked, Posted, Said, StandingIntent};
use crate::store::history::{End, EndReason, Term};
use crate::store::names::Names;
use crate::store::traits::Snapshot;

/// Nobody who steps down stays away for longer.
const AWAY_MAX_SECONDS: u64 = 3600;

/// Of a look, and of the first row of a look at many.
pub(super) fn life(row: &Row, step: i64) -> Result<Life, sqlx::Error> {
    let Some(identity) = row.text_or_none("identity")? else { return Ok(Life::Unknown) };
    let Some(recorded) = row.text_or_none("recorded")? else {
        return Ok(Life::Unrecorded { identity, step });
    };
    let record = LifeRecord {
        identity: recorded,
        epoch: row.int("epoch")?,
        settled: row.yes("settled")?,
        max_ttl: u32::try_from(row.int("max_ttl")?).unwrap_or(1),
    };
    Ok(Life::Recorded { identity, step, record })
}

pub(super) fn lease_row(row: &Row) -> Result<Option<LeaseRow>, sqlx::Error> {
    if !row.yes("present")? {
        return Ok(None);
    }
    Ok(Some(LeaseRow {
        holder: row.text("holder")?,
        lease_time: row.int("lease_time")?,
        renew_time: row.int("renew_time")?,
        version: row.int("version")?,
        ttl: row.int("ttl")?,
    }))
}

/// What cannot be a holder id prefers nobody.
pub(super) fn preferred(row: &Row) -> Result<Option<HolderId>, sqlx::Error> {
    Ok(row.text_or_none("preferred")?.and_then(|holder| HolderId::new(holder).ok()))
}

/// Seconds; 0 if the column is empty.
pub(super) fn cooldown(row: &Row) -> Result<u32, sqlx::Error> {
    Ok(row.int_or_none("cooldown")?.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0))
}

pub(super) fn standing_ttl(row: &Row) -> Result<Option<u32>, sqlx::Error> {
    Ok(row.int_or_none("standing_ttl")?.and_then(|ttl| u32::try_from(ttl).ok()))
}

/// The last request. A request that this program does not understand is left out: nobody can obey it.
pub(super) fn request(row: &Row) -> Result<Option<Request>, sqlx::Error> {
    let (Some(id), Some(verb), Some(version)) = (
        row.text_or_none("request_id")?,
        row.text_or_none("request_verb")?,
        row.int_or_none("request_version")?,
    ) else {
        return Ok(None);
    };
    let target = row.text_or_none("request_target")?.map(HolderId::new);
    let away = u64::try_from(row.int_or_none("request_away")?.unwrap_or(0)).unwrap_or(0);
    Ok(match (Verb::parse(&verb), target) {
        (None, _) | (_, Some(Err(_))) => None,
        (Some(verb), target) => {
            let away = Duration::from_secs(away.min(AWAY_MAX_SECONDS));
            Some(Request { id, verb, version, target: target.and_then(Result::ok), away })
        }
    })
}

/// With who asked and why.
fn asked(row: &Row) -> Result<Asked, sqlx::Error> {
    let said = |by: &str, reason: &str| -> Result<_, sqlx::Error> {
        Ok(Said::read(row.text_or_none(by)?, row.text_or_none(reason)?))
    };
    let paused = row.yes("paused")?.then(|| said("paused_by", "paused_reason")).transpose()?;
    let request = match request(row)? {
        None => None,
        Some(request) => Some(Posted {
            request,
            said: said("request_by", "request_reason")?,
            at: row.int_or_none("request_time")?.unwrap_or(0),
        }),
    };
    Ok(Asked { paused, request })
}

pub(super) fn snapshot(rows: &[Row], names: &Names, step: i64) -> Result<Snapshot, sqlx::Error> {
    // There is always one with the clock: an answer without is no look at an empty database.
    if rows.is_empty() {
        return Err(sqlx::Error::RowNotFound);
    }
    let mut out = Snapshot::default();
    for row in rows {
        let Some(name) = row.text_or_none("name")? else {
            out.database_now = row.int("now")?;
            out.life = life(row, step)?;
            continue;
        };
        // The collation of somebody else's column may take another name for this one.
        if !names.contains(&name) {
            continue;
        }
        if let Some(ttl) = standing_ttl(row)? {
            let intent = StandingIntent { ttl, preferred: preferred(row)?, cooldown: cooldown(row)? };
            out.intents.insert(name.clone(), intent);
        }
        let asked = asked(row)?;
        if !asked.is_empty() {
            out.asked.insert(name.clone(), asked);
        }
        if let Some(lease) = lease_row(row)? {
            out.rows.insert(name, lease);
        }
    }
    Ok(out)
}

/// A line of the history.
pub(super) fn term(row: &Row) -> Result<Term, sqlx::Error> {
    let said = |by: Option<String>, why| by.map(|by| Said::read(Some(by), why));
    let end = match row.int_or_none("end_time")? {
        None => None,
        Some(at) => Some(End {
            at,
            reason: EndReason::parse(&row.text_or_none("end_reason")?.unwrap_or_default()),
            said: said(row.text_or_none("ended_by")?, row.text_or_none("ended_why")?),
        }),
    };
    Ok(Term {
        version: row.int("version")?,
        holder: row.text("holder")?,
        lease_time: row.int("lease_time")?,
        ttl: row.int("ttl")?,
        end,
    })
}

pub(super) fn seen_instance(row: &Row) -> Result<SeenInstance, sqlx::Error> {
    Ok(SeenInstance {
        id: row.int("id")?,
        component: row.text("component")?,
        holder: row.text("holder")?,
        start_time: row.int("start_time")?,
        heartbeat: row.int("heartbeat")?,
        lasts: row.int("lasts")?,
        whereabouts: Whereabouts {
            namespace: row.text_or_none("namespace")?,
            pod: row.text_or_none("pod")?,
            pod_uid: row.text_or_none("pod_uid")?,
            container: row.text_or_none("container")?,
            node: row.text_or_none("node")?,
            address: row.text_or_none("address")?,
        },
        program_version: row.text_or_none("program_version")?,
        healthy: row.yes("healthy")?,
        leads: row.int_or_none("leads")?,
        mode: row.text_or_none("mode")?.and_then(|mode| Mode::parse(&mode)),
        promise: Promise::stored(row.int_or_none("longest_promise")?, row.yes_or_none("promises_outside")?),
        priority: row.int_or_none("priority")?.and_then(|priority| u8::try_from(priority).ok()),
    })
}
