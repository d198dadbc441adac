//! Makes what is missing of tables that were there: see `store/schema.rs`. No DDL is rolled back here, so an
//! epoch begins before anything is made: whoever stops half way has not made anybody forget the wait.

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::statements::{MARIADB, MYSQL};
use crate::store::schema::{Dialect, Failed, Found, Job, Present, repairs};
use crate::store::uuid::new_uuid;

/// Whether a `component_lease` is one that `migrate` made, by its comment; and whether companions are there.
pub(super) const IS_OURS: &str = "
SELECT COALESCE(SUM(TABLE_NAME = 'component_lease' AND TABLE_COMMENT LIKE '%Made by component-lease.%'), 0) > 0,
       COALESCE(SUM(TABLE_NAME <> 'component_lease'), 0) > 0
FROM information_schema.TABLES
WHERE TABLE_SCHEMA = DATABASE()
  AND TABLE_NAME IN ('component_lease', 'component_lease_intent', 'component_lease_history', 'component_lease_store')";

const TABLES: &str = "
SELECT t.TABLE_NAME, t.TABLE_TYPE, c.COLUMN_NAME,
       EXISTS (SELECT 1 FROM information_schema.STATISTICS AS k
               WHERE k.TABLE_SCHEMA = t.TABLE_SCHEMA AND k.TABLE_NAME = t.TABLE_NAME AND k.INDEX_NAME = 'PRIMARY')
FROM information_schema.TABLES AS t
JOIN information_schema.COLUMNS AS c ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
WHERE t.TABLE_SCHEMA = DATABASE()
  AND t.TABLE_NAME IN ('component_lease', 'component_lease_intent', 'component_lease_history', 'component_lease_store',
                       'component_instance')";

/// The servers disagree on the types of such columns, not on their bytes.
fn text(row: &MySqlRow, index: usize) -> Result<String, sqlx::Error> {
    Ok(String::from_utf8_lossy(&row.try_get_unchecked::<Vec<u8>, _>(index)?).into_owned())
}

/// Records an epoch: in any case, or only where the server is not the one that is recorded any more. For how many
/// seconds nobody takes anything then.
async fn begin_epoch(
    connection: &mut MySqlConnection,
    statement: &'static str,
    job: &Job<'_>,
    in_any_case: bool,
) -> Result<Option<u32>, Failed> {
    let record = connection
        .fetch_optional(
            "SELECT identity, epoch, CAST(max_ttl AS SIGNED) FROM component_lease_store WHERE id = 1",
        )
        .await?;
    let Some(row) = record else { return Ok(None) };
    let query = sqlx::query(statement)
        .bind(job.latest_date)
        .bind(0_i64)
        .bind(row.try_get::<String, _>(0)?)
        .bind(row.try_get::<i64, _>(1)?)
        .bind(job.latest_date)
        .bind(0_i64)
        .bind(job.latest_date)
        .bind(in_any_case);
    connection.execute(query).await?;
    Ok(Some(u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(job.max_ttl)))
}

/// What was made, and for how many seconds nobody takes anything because of it.
pub(super) async fn mend(
    connection: &mut MySqlConnection,
    job: &Job<'_>,
) -> Result<(Vec<String>, Option<u32>), Failed> {
    let mut present = Present::default();
    for row in connection.fetch_all(TABLES).await? {
        let (name, kind) = (text(&row, 0)?, text(&row, 1)?);
        if kind.contains("VIEW") {
            return Err(Failed::Unmendable(format!(
                "{name} is a view, where a table is needed: rename it and run `component-lease migrate` again"
            )));
        }
        let found: &mut Found = present.tables.entry(name).or_default();
        found.columns.insert(text(&row, 2)?.to_ascii_lowercase());
        found.has_key = row.try_get(3)?;
    }
    let repairs = repairs(job, &present, Dialect::MySql).map_err(Failed::Unmendable)?;
    let mariadb: bool = connection.fetch_one("SELECT VERSION() LIKE '%MariaDB%'").await?.try_get(0)?;
    let statements = if mariadb { MARIADB } else { MYSQL };
    let mut waits = None;
    if repairs.forgot && present.tables.contains_key("component_lease_store") {
        waits = begin_epoch(connection, statements.begin_epoch, job, true).await?;
    }
    for repair in &repairs.list {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(repair.sql.as_str()))).await?;
    }
    let made = repairs.list.into_iter().filter_map(|repair| repair.what).collect();
    if !job.keeps_record() {
        return Ok((made, None));
    }
    if waits.is_some() {
        // DDL commits by itself, so the epoch came first. Tables that were made since are part of the identity.
        begin_epoch(connection, statements.begin_epoch, job, false).await?;
    }
    let recorded: bool = connection
        .fetch_one("SELECT EXISTS (SELECT 1 FROM component_lease_store WHERE id = 1)")
        .await?
        .try_get(0)?;
    if !recorded {
        let query = sqlx::query(statements.first_record)
            .bind(false)
            .bind(job.latest_date)
            .bind(0_i64)
            .bind(false)
            .bind(i32::try_from(job.max_ttl).unwrap_or(i32::MAX))
            .bind(new_uuid());
        connection.execute(query).await?;
        waits = Some(job.max_ttl);
    }
    Ok((made, waits))
}
