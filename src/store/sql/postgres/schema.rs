//! The tables: one transaction, and an advisory lock that keeps runs at once apart.

use sqlx::error::DatabaseError;
use sqlx::{Connection, Row as _};

use super::connection::{Connected, Place, dial};
use super::errors::classify;
use super::statement::Statement;
use super::statements::{self, qualified};
use super::url::PostgresUrl;
use super::{cell, identity};
use crate::store::error::StoreError;
use crate::store::sql::driver;
use crate::store::sql::migrate::{self, LIMIT, Migrate, Schema};
use crate::store::sql::migration::{Install, MigrationReport};
use crate::store::sql::source::Source;
use crate::store::sql::statement::Statements;
use crate::store::sql::value::Row;

pub(in crate::store::sql) const SCHEMA: Schema = Schema {
    tables: include_str!("0001_tables.sql"),
    versions: "
CREATE TABLE IF NOT EXISTS component_lease_schema (
    version             BIGINT PRIMARY KEY,
    applied_at          BIGINT NOT NULL,
    foreign_lease_table BOOLEAN NOT NULL
);
COMMENT ON TABLE component_lease_schema IS 'Which steps of component-lease''s schema were applied here.';
COMMENT ON COLUMN component_lease_schema.version IS 'The step; the highest one is the version of the schema. 0: a run has begun.';
COMMENT ON COLUMN component_lease_schema.applied_at IS 'When: this database''s clock, ms since 1970 UTC.';
COMMENT ON COLUMN component_lease_schema.foreign_lease_table IS
    'Whether component_lease was there before and belongs to another program: it is never altered then.';",
    present: "
SELECT c.relname::varchar AS name, c.relkind {=} 'r' OR c.relkind {=} 'p' AS is_table,
       pg_catalog.array_to_string(pg_catalog.array_agg(a.attname::varchar), ' ') AS columns,
       EXISTS (SELECT FROM pg_catalog.pg_index AS x WHERE x.indrelid {=} c.oid AND x.indisprimary) AS has_key,
       pg_catalog.obj_description(c.oid, 'pg_class') IS NULL
       OR pg_catalog.bool_or(pg_catalog.col_description(c.oid, a.attnum) IS NULL) AS lacks_comments,
       n.name {=} 'component_lease'
       AND (coalesce(pg_catalog.strpos(pg_catalog.obj_description(c.oid, 'pg_class'), 'Made by component-lease.') {>} 0, false)
            OR EXISTS (SELECT FROM pg_catalog.pg_trigger
                       WHERE tgrelid {=} c.oid AND tgname {=} 'component_lease_new_holder')) AS is_ours,
       n.name {=} 'component_lease'
       AND pg_catalog.bool_or(a.attname {=} 'version' AND (t.typname {=} 'int2' OR t.typname {=} 'int4')) AS is_narrow
FROM (VALUES ('component_lease'), ('component_lease_intent'), ('component_lease_history'), ('component_lease_store'),
             ('component_instance'), ('component_lease_schema'), ('component_lease_record'),
             ('component_lease_report')) AS n (name)
JOIN pg_catalog.pg_class AS c ON c.oid {=} pg_catalog.to_regclass(n.name)
JOIN pg_catalog.pg_attribute AS a ON a.attrelid {=} c.oid AND a.attnum {>} 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type AS t ON t.oid {=} a.atttypid
GROUP BY n.name, c.oid, c.relname, c.relkind",
    triggers: Some("
SELECT g.tgname::varchar AS name FROM pg_catalog.pg_trigger AS g
WHERE NOT g.tgisinternal AND g.tgenabled {<>} 'D'
  AND (g.tgrelid {=} pg_catalog.to_regclass('component_lease')
       OR g.tgrelid {=} pg_catalog.to_regclass('component_lease_history'))"),
    functions: Some("
SELECT f.name AS name FROM (VALUES ('component_lease_notify'), ('component_lease_history_rises')) AS f (name)
WHERE pg_catalog.to_regprocedure(f.name {||} '()') IS NOT NULL"),
    grants: Some(GRANTS),
    has_disabled_triggers: true,
    adds_keys: true,
    rolls_back: true,
};

const GRANTS: &str = "\
-- a participant (agent, run, or a program with the library)
GRANT SELECT, INSERT, UPDATE ON component_lease, component_lease_store, component_instance TO my_participant;
GRANT SELECT, INSERT, UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history TO my_participant;
GRANT SELECT ON component_lease_intent, component_lease_schema TO my_participant;
-- the controller
GRANT SELECT, UPDATE (holder_id, renew_time) ON component_lease TO my_controller;
GRANT SELECT, DELETE, UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history TO my_controller;
GRANT SELECT ON component_lease_schema TO my_controller;
GRANT SELECT, INSERT, UPDATE ON component_lease_intent, component_lease_store TO my_controller;
GRANT SELECT, DELETE ON component_instance TO my_controller;
-- a member of a database (db run), beside what a participant has
GRANT SELECT, INSERT, UPDATE ON component_lease_record, component_lease_report TO my_member;
";

/// Whether `component_instance` is our own.
const OURS: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
               WHERE a.attrelid {=} pg_catalog.to_regclass('component_instance') AND a.attname {=} 'priority')";

/// Logical replication copies rows and leaves sequences as they are.
const SEQUENCE: &str = "
SELECT pg_catalog.setval(s.name, m.id)
FROM (SELECT pg_catalog.max(id) AS id FROM component_instance) AS m,
     (SELECT pg_catalog.pg_get_serial_sequence('component_instance', 'id')::pg_catalog.regclass AS name) AS s
WHERE m.id {>} coalesce(pg_catalog.pg_sequence_last_value(s.name), 0)";

/// What was set for the server, the database or the role does not end or bend a migration. Within the
/// transaction, so that a pooler hands nothing of it on; behind what each transaction sets (`pooler.rs`).
const SET_UP: &str = "
SELECT pg_catalog.set_config('statement_timeout', '0', true), pg_catalog.set_config('lock_timeout', '0', true), pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true),
       pg_catalog.set_config('row_security', 'off', true), pg_catalog.set_config('standard_conforming_strings', 'on', true),
       pg_catalog.set_config('check_function_bodies', 'on', true),
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
            THEN pg_catalog.set_config('transaction_timeout', '0', true) END";

/// Advisory locks are numbers; this one spells "complock".
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7165065861792752491)";

pub(super) async fn migrate(url: &PostgresUrl, how: Install) -> Result<MigrationReport, StoreError> {
    let place = Place::new(Source::url(""), url, "component-lease migrate");
    let run = async {
        let (mut connection, met) = dial(url, "component-lease migrate", &place).await?;
        let sent = met.how(&mut connection, url, 0, &place).await?;
        let mut line = Connected { connection, how: sent };
        let report = migrate::run(&place, &mut line, how).await?;
        // It is done; a goodbye that fails changes nothing.
        let _ = line.connection.close().await;
        Ok(report)
    };
    tokio::time::timeout(LIMIT, run).await.unwrap_or_else(|_| {
        Err(StoreError::retryable(format!(
            "{place}: the tables were not made within {LIMIT:?}; nothing was changed"
        )))
    })
}

impl Migrate for Place {
    const SCHEMA: Schema = SCHEMA;

    async fn begin(&self, line: &mut Connected) -> Result<&'static Statements, StoreError> {
        let failed = |error| classify(error, self);
        // Before the transaction: what a server does not say is an error there.
        let form = identity::form(&mut line.line(), self).await?;
        Self::script(line, "BEGIN").await.map_err(failed)?;
        line.line().ask(Statement::new(SET_UP)).await.map_err(failed)?;
        // What each transaction sets is set by now.
        line.how = line.how.within();
        line.line().run(Statement::new(LOCK)).await.map_err(failed)?;
        Ok(statements::of(form))
    }

    async fn script(line: &mut Connected, sql: &str) -> Result<(), sqlx::Error> {
        line.line().script(sql.to_owned()).await
    }

    async fn query(line: &mut Connected, sql: &'static str) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.line().ask_all(Statement::new(qualified(sql))).await?;
        driver::rows(&rows, cell)
    }

    async fn end(line: &mut Connected) -> Result<(), sqlx::Error> {
        let ours = line.line().ask(Statement::new(qualified(OURS))).await?;
        if ours.try_get(0)? {
            line.line().ask_all(Statement::new(qualified(SEQUENCE))).await?;
        }
        Self::script(line, "COMMIT").await
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        match error.as_database_error().and_then(DatabaseError::code).as_deref() {
            Some("42501") => StoreError::misconfigured(format!(
                "{self}: the user {} may not create tables; run this as the database's owner, or GRANT CREATE ON SCHEMA public (or the one that comes first in its search_path) TO \"{}\"",
                self.user, self.user
            ))
            .caused_by(error),
            Some("25006") => {
                StoreError::retryable(format!("{self}: the server is read-only")).caused_by(error)
            }
            _ => classify(error, self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::postgres::statements::tests::unqualified;

    #[test]
    fn everything_but_our_tables_is_named_with_its_schema() {
        for sql in [SCHEMA.present, SCHEMA.triggers.unwrap(), SCHEMA.functions.unwrap(), OURS, SEQUENCE] {
            assert_eq!(unqualified(&qualified(sql)), Vec::<String>::new(), "{sql}");
        }
    }
}
