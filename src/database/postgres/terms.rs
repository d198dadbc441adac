//! The row of the term, and what the data tell of all terms before it.

use super::lsn::{self, History, parse};
use super::session::{Session, quoted};
use crate::database::engine::EngineError;
use crate::primary::{Lineage, Promotion};

/// The row of the term.
pub(super) const ROW: &str = "public.component_lease_primary";
/// A row for each promotion: what [`Lineage`] is made of.
const TERMS: &str = "public.component_lease_terms";

/// The version of the term, which each new session of each database of the server can read: a client that is let into two primaries tells by
/// it which one is later. (`src/store/sql/postgres/connection.rs` does.)
const SETTING: &str = "component_lease.primary_version";

/// Whether these tables, which are there, were made by this very account. One that is not ours is not read: it may be a trap for whom it is
/// read by.
const OURS: &str = "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relname IN ('component_lease_primary', 'component_lease_terms') AND c.relkind = 'r'
      AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)";

/// The last term in the data of this server, 0 where there was none, and all promotions.
pub(super) async fn own(session: &mut Session) -> Result<(i64, Lineage), EngineError> {
    if session.value(OURS).await? != "2" {
        return Ok((0, Lineage::default()));
    }
    of_another(session).await
}

pub(super) async fn of_another(session: &mut Session) -> Result<(i64, Lineage), EngineError> {
    let sql = format!(
        "SELECT (SELECT max(version) FROM {ROW})::text, version::text, line::text, began::text
         FROM (SELECT 1) one LEFT JOIN {TERMS} t ON true ORDER BY t.version"
    );
    let rows = session.rows(&sql).await?;
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    let term = rows.first().and_then(|row| number(row.first()?.as_ref())).unwrap_or(0);
    let promotion = |row: &super::session::Values| {
        let line = u32::try_from(number(row.get(2)?.as_ref())?).ok()?;
        Some(Promotion { version: number(row.get(1)?.as_ref())?, line, began: parse(row.get(3)?.as_ref()?)? })
    };
    let known = rows.iter().filter(|row| row.get(1).is_some_and(Option::is_some));
    let lineage = known.map(promotion).collect::<Option<Vec<_>>>().and_then(Lineage::new);
    match lineage {
        Some(lineage) if lineage.last() == term => Ok((term, lineage)),
        _ => Err(EngineError::refused(format!(
            "{TERMS} does not fit {ROW}: somebody has changed one of them, so it is unknown which terms are in the data"
        ))),
    }
}

/// On which timeline a primary is, and where that comes from.
pub(super) async fn history(session: &mut Session) -> Result<Option<History>, EngineError> {
    let file = session
        .value(
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_flush_lsn()) END",
        )
        .await?;
    if file.is_empty() {
        return Ok(None);
    }
    let strange = || EngineError::failed("the server does not say where its timeline comes from");
    let line = lsn::line_of(&file).ok_or_else(strange)?;
    let text = match lsn::history_file(line) {
        None => String::new(),
        Some(file) => {
            let read =
                format!("SELECT convert_from(pg_read_binary_file('{file}', 0, 1000000, true), 'UTF8')");
            session.value(&read).await?
        }
    };
    let history = History::parse(line, &text).ok_or_else(strange)?;
    if line > 1 && history.began() == 0 {
        return Err(strange());
    }
    Ok(Some(history))
}

/// Writes the row of the term, and answers where it ends in the log. It does not wait for other members: it is
/// no promise to anybody before they have it.
pub(super) async fn mark(
    session: &mut Session,
    version: i64,
    holder: &str,
    now: i64,
) -> Result<u64, EngineError> {
    let history = history(session).await?;
    let history = history.ok_or_else(|| EngineError::failed("the server is no primary any more"))?;
    session.run("SET synchronous_commit = local").await?;
    session
        .run(&format!(
            "CREATE TABLE IF NOT EXISTS {ROW} (one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL,
                holder text NOT NULL, beat bigint NOT NULL, beat_seq bigint NOT NULL) WITH (fillfactor = 50);
             CREATE TABLE IF NOT EXISTS {TERMS} (version bigint PRIMARY KEY, line bigint NOT NULL, began pg_lsn NOT NULL);
             GRANT SELECT ON {ROW}, {TERMS} TO PUBLIC"
        ))
        .await?;
    if session.value(OURS).await? != "2" {
        return Err(EngineError::refused(format!(
            "{ROW} or {TERMS} exists and does not belong to the account that manages this server; rename or drop it"
        )));
    }
    let rows = session
        .rows(&format!(
            "WITH row AS (
                INSERT INTO {ROW} AS r (version, holder, beat, beat_seq) VALUES ({version}, {}, {now}, 1)
                ON CONFLICT (one) DO UPDATE SET version = EXCLUDED.version, holder = EXCLUDED.holder, beat = EXCLUDED.beat,
                    beat_seq = r.beat_seq + 1 WHERE r.version < EXCLUDED.version RETURNING version),
             term AS (INSERT INTO {TERMS} SELECT version, {}, '{}' FROM row)
             SELECT version::text FROM row",
            quoted(holder),
            history.line(),
            lsn::show(history.began())
        ))
        .await?;
    if rows.is_empty() {
        return Err(EngineError::refused(format!(
            "the data have the term of version {version} or a later one already; they are newer than the lease"
        )));
    }
    session.run(&format!("ALTER ROLE ALL SET {SETTING} = {version}")).await?;
    let end = session.value("SELECT pg_current_wal_flush_lsn()::text").await?;
    session.run("SET synchronous_commit = on").await?;
    parse(&end).ok_or_else(|| EngineError::failed("the server does not say where its log ends"))
}
