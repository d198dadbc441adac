//! Makes what is missing of tables that were there: see `store/schema.rs`.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::statements::{BEGIN_EPOCH, FIRST_RECORD};
use crate::store::schema::{Dialect, Failed, Found, Job, Present, repairs};
use crate::store::uuid::new_uuid;

/// Whether a `component_lease` is one that `migrate` made: SQLite keeps the comments within it.
pub(super) const IS_OURS: &str = "
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'component_lease'
               AND sql LIKE '%-- The participant that leads, unique for each start of its process%'),
       EXISTS (SELECT 1 FROM sqlite_schema
               WHERE name IN ('component_lease_intent', 'component_lease_history', 'component_lease_store'))";

const TABLES: &str = "
SELECT s.name, s.type, (SELECT group_concat(lower(c.name), ' ') FROM pragma_table_info(s.name) AS c),
       EXISTS (SELECT 1 FROM pragma_table_info(s.name) AS c WHERE c.pk > 0)
       OR EXISTS (SELECT 1 FROM pragma_index_list(s.name) AS i WHERE i.\"unique\" AND NOT i.partial)
FROM sqlite_schema AS s
WHERE s.type IN ('table', 'view')
  AND s.name IN ('component_lease', 'component_lease_intent', 'component_lease_history', 'component_lease_store',
                 'component_instance')";

/// What was made, and for how many seconds nobody takes anything because of it. `file` as the identity has it.
pub(super) async fn mend(
    connection: &mut SqliteConnection,
    job: &Job<'_>,
    file: &str,
) -> Result<(Vec<String>, Option<u32>), Failed> {
    let mut present = Present::default();
    for row in connection.fetch_all(TABLES).await? {
        let (name, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if kind == "view" {
            return Err(Failed::Unmendable(format!(
                "{name} is a view, where a table is needed: DROP VIEW it and run `component-lease migrate` again"
            )));
        }
        let columns: String = row.try_get::<Option<String>, _>(2)?.unwrap_or_default();
        let columns = columns.split(' ').map(ToOwned::to_owned).collect();
        present.tables.insert(name, Found { columns, has_key: row.try_get(3)?, lacks_comments: false });
    }
    for row in connection.fetch_all("SELECT name FROM sqlite_schema WHERE type = 'trigger'").await? {
        present.triggers.insert(row.try_get(0)?);
    }
    let repairs = repairs(job, &present, Dialect::Sqlite).map_err(Failed::Unmendable)?;
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
                .bind(0)
                .bind(row.try_get::<String, _>(0)?)
                .bind(row.try_get::<i64, _>(1)?)
                .bind(true)
                .bind(file);
            connection.execute(query).await?;
            Some(u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(job.max_ttl))
        }
        Some(_) => None,
        None => {
            let query = sqlx::query(FIRST_RECORD)
                .bind(job.latest_date)
                .bind(0)
                .bind(job.max_ttl)
                .bind(false)
                .bind(false)
                .bind(file)
                .bind(new_uuid());
            connection.execute(query).await?;
            Some(job.max_ttl)
        }
    };
    Ok((made, waits))
}
