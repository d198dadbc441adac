//! Makes what is missing of tables that were there: see `store/schema.rs`.

use sqlx::Row;

use super::identity::Form;
use super::statement::{Line, Statement};
use super::statements::{Statements, qualified};
use crate::store::schema::{Dialect, Failed, Found, Job, Present, repairs};

/// Whether a `component_lease` is one that `migrate` made: by its comment, or its trigger.
pub(super) const IS_OURS: &str = "
SELECT coalesce(pg_catalog.strpos(pg_catalog.obj_description(pg_catalog.to_regclass('component_lease'), 'pg_class'),
                                  'Made by component-lease.') {>} 0, false)
       OR EXISTS (SELECT FROM pg_catalog.pg_trigger
                  WHERE tgrelid {=} pg_catalog.to_regclass('component_lease') AND tgname {=} 'component_lease_new_holder'),
       pg_catalog.to_regclass('component_lease_intent') IS NOT NULL
       OR pg_catalog.to_regclass('component_lease_history') IS NOT NULL
       OR pg_catalog.to_regclass('component_lease_store') IS NOT NULL";

const TABLES: &str = "
SELECT c.relname::varchar, c.relkind::varchar, pg_catalog.array_agg(a.attname::varchar),
       EXISTS (SELECT FROM pg_catalog.pg_index AS x WHERE x.indrelid {=} c.oid AND x.indisprimary),
       pg_catalog.obj_description(c.oid, 'pg_class') IS NULL
       OR pg_catalog.bool_or(pg_catalog.col_description(c.oid, a.attnum) IS NULL)
FROM (VALUES ('component_lease'), ('component_lease_intent'), ('component_lease_history'), ('component_lease_store'),
             ('component_instance')) AS n (name)
JOIN pg_catalog.pg_class AS c ON c.oid {=} pg_catalog.to_regclass(n.name)
JOIN pg_catalog.pg_attribute AS a ON a.attrelid {=} c.oid AND a.attnum {>} 0 AND NOT a.attisdropped
GROUP BY c.oid, c.relname, c.relkind";

const TRIGGERS: &str = "
SELECT g.tgname::varchar FROM pg_catalog.pg_trigger AS g
WHERE NOT g.tgisinternal AND g.tgenabled {<>} 'D'
  AND (g.tgrelid {=} pg_catalog.to_regclass('component_lease')
       OR g.tgrelid {=} pg_catalog.to_regclass('component_lease_history'))";

const FUNCTIONS: &str = "
SELECT f.name FROM (VALUES ('component_lease_notify'), ('component_lease_history_rises')) AS f (name)
WHERE pg_catalog.to_regprocedure(f.name {||} '()') IS NOT NULL";

/// What was made, and for how many seconds nobody takes anything because of it.
pub(super) async fn mend(
    line: &mut Line<'_>,
    job: &Job<'_>,
    form: Form,
) -> Result<(Vec<String>, Option<u32>), Failed> {
    let mut present = Present::default();
    for row in line.ask_all(Statement::new(qualified(TABLES))).await? {
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
        for row in line.ask_all(Statement::new(qualified(sql))).await? {
            names.insert(row.try_get(0)?);
        }
    }
    let repairs = repairs(job, &present, Dialect::Postgres).map_err(Failed::Unmendable)?;
    for repair in &repairs.list {
        line.script(repair.sql.clone()).await?;
    }
    let made: Vec<String> = repairs.list.into_iter().filter_map(|repair| repair.what).collect();
    if !job.keeps_record() {
        return Ok((made, None));
    }
    let record = Statement::new(
        "SELECT identity, epoch, max_ttl FROM component_lease_store WHERE id OPERATOR(pg_catalog.=) 1",
    );
    let waits = match line.ask_all(record).await?.first() {
        Some(row) if repairs.forgot => {
            let identity: String = row.try_get(0)?;
            let query = Statement::new(Statements::of(form).begin_epoch)
                .bind(job.latest_date)
                .bind(0_i64)
                .bind(&identity)
                .bind(row.try_get::<i64, _>(1)?)
                .bind(true);
            line.run(query).await?;
            Some(u32::try_from(row.try_get::<i32, _>(2)?).unwrap_or(job.max_ttl))
        }
        Some(_) => None,
        None => {
            let query = Statement::new(Statements::of(form).first_record)
                .bind(job.latest_date)
                .bind(0_i64)
                .bind(i32::try_from(job.max_ttl).unwrap_or(i32::MAX))
                .bind(false)
                .bind(false);
            line.run(query).await?;
            Some(job.max_ttl)
        }
    };
    Ok((made, waits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::statements::tests::unqualified;

    #[test]
    fn everything_but_our_tables_is_named_with_its_schema() {
        for sql in [IS_OURS, TABLES, TRIGGERS, FUNCTIONS] {
            assert_eq!(unqualified(&qualified(sql)), Vec::<String>::new(), "{sql}");
        }
    }
}
