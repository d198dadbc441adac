//! Makes what is missing of tables that were there: see `store/schema.rs`.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::statements::{BEGIN_EPOCH, FIRST_RECORD};
use crate::store::schema::{Dialect, Failed, Found, Job, Present, repairs};

/// Whether a `component_lease` is one that `migrate` made: by its comment, or its trigger.
pub(super) const IS_OURS: &str = "
SELECT coalesce(obj_description(to_regclass('component_lease'), 'pg_class') LIKE '%Made by component-lease.%', false)
       OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('component_lease') AND tgname = 'component_lease_new_holder'),
       to_regclass('component_lease_intent') IS NOT NULL OR to_regclass('component_lease_history') IS NOT NULL
       OR to_regclass('component_lease_store') IS NOT NULL";

const TABLES: &str = "
SELECT c.relname::text, c.relkind::text, array_agg(a.attname::text),
       EXISTS (SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisprimary),
       obj_description(c.oid, 'pg_class') IS NULL OR bool_or(col_description(c.oid, a.attnum) IS NULL)
FROM unnest(ARRAY['component_lease', 'component_lease_intent', 'component_lease_history', 'component_lease_store',
                  'component_instance']) AS n (name)
JOIN pg_class AS c ON c.oid = to_regclass(n.name)
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY c.oid, c.relname, c.relkind";

const TRIGGERS: &str = "
SELECT g.tgname::text FROM pg_trigger AS g
WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
  AND g.tgrelid IN (to_regclass('component_lease'), to_regclass('component_lease_history'))";

const FUNCTIONS: &str = "
SELECT f.name FROM unnest(ARRAY['component_lease_notify', 'component_lease_history_rises']) AS f (name)
WHERE to_regprocedure(f.name || '()') IS NOT NULL";

/// What was made, and for how many seconds nobody takes anything because of it.
pub(super) async fn mend(
    connection: &mut PgConnection,
    job: &Job<'_>,
) -> Result<(Vec<String>, Option<u32>), Failed> {
    let mut present = Present::default();
    for row in connection.fetch_all(TABLES).await? {
        let (name, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if !matches!(kind.as_str(), "r" | "p") {
            return Err(Failed::Unmendable(format!(
                "{name} is a view, a foreign table or the like, where a table is needed: rename it and run `component-lease migrate` again"
            )));
        }
        let columns: Vec<String> = row.try_get(2)?;
        let (has_key, lacks_comments) = (row.try_get(3)?, row.try_get(4)?);
        present
            .tables
            .insert(name, Found { columns: columns.into_iter().collect(), has_key, lacks_comments });
    }
    for (sql, names) in [(TRIGGERS, &mut present.triggers), (FUNCTIONS, &mut present.functions)] {
        for row in connection.fetch_all(sql).await? {
            names.insert(row.try_get(0)?);
        }
    }
    let repairs = repairs(job, &present, Dialect::Postgres).map_err(Failed::Unmendable)?;
    for repair in &repairs.list {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(repair.sql.as_str()))).await?;
    }
    let made: Vec<String> = repairs.list.into_iter().filter_map(|repair| repair.what).collect();
    if !job.keeps_record() {
        return Ok((made, None));
    }
    let record = connection
        .fetch_optional("SELECT identity, epoch, max_ttl FROM component_lease_store WHERE id = 1")
        .await?;
    let waits = match record {
        Some(row) if repairs.forgot => {
            let query = sqlx::query(BEGIN_EPOCH)
                .bind(job.latest_date)
                .bind(0_i64)
                .bind(row.try_get::<String, _>(0)?)
                .bind(row.try_get::<i64, _>(1)?)
                .bind(true);
            connection.execute(query).await?;
            Some(u32::try_from(row.try_get::<i32, _>(2)?).unwrap_or(job.max_ttl))
        }
        Some(_) => None,
        None => {
            let query = sqlx::query(FIRST_RECORD)
                .bind(job.latest_date)
                .bind(0_i64)
                .bind(i32::try_from(job.max_ttl).unwrap_or(i32::MAX))
                .bind(false)
                .bind(false);
            connection.execute(query).await?;
            Some(job.max_ttl)
        }
    };
    Ok((made, waits))
}
