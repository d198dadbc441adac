//! Creates and upgrades the tables: one transaction under an advisory lock of its own, so that any number of
//! runs at once do it once. Everything is sent as text, which a pooler of transactions is as good for
//! as the server itself.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::connection::{Place, dial};
use super::errors::classify;
use super::identity;
use super::mend::{IS_OURS, mend};
use super::pooler::How;
use super::statement::{Line, Statement};
use super::statements::{Statements, qualified};
use crate::election::life::DATE_MAX;
use crate::store::StoreError;
use crate::store::address::PostgresUrl;
use crate::store::connect::{Install, Source};
use crate::store::migration::{Migration, MigrationReport};
use crate::store::schema::{Failed, Job};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_lease",
        sql: include_str!("../migrations/postgres/0001_lease.sql"),
        lease_table: true,
    },
    Migration {
        version: INTENT,
        name: "0002_intent",
        sql: include_str!("../migrations/postgres/0002_intent.sql"),
        lease_table: false,
    },
    Migration {
        version: LIFE,
        name: "0003_life",
        sql: include_str!("../migrations/postgres/0003_life.sql"),
        lease_table: false,
    },
    Migration {
        version: INSTANCES,
        name: "0004_instance",
        sql: include_str!("../migrations/postgres/0004_instance.sql"),
        lease_table: false,
    },
];

/// The step after which the first record is written.
pub(super) const LIFE: i64 = 3;
pub(super) const INTENT: i64 = 2;
/// A table of this name may be somebody else's: then it stays as it is, and is not used.
const INSTANCES: i64 = 4;

const GRANTS: &str = "\
-- a participant (agent, run, or a program with the library)
GRANT SELECT, INSERT, UPDATE ON component_lease, component_lease_store, component_instance TO my_participant;
GRANT SELECT, INSERT ON component_lease_history TO my_participant;
GRANT SELECT ON component_lease_intent, component_lease_schema TO my_participant;
-- the controller
GRANT SELECT, UPDATE (holder_id, renew_time) ON component_lease TO my_controller;
GRANT SELECT ON component_lease_history, component_lease_schema TO my_controller;
GRANT SELECT, INSERT, UPDATE ON component_lease_intent, component_lease_store TO my_controller;
GRANT SELECT, DELETE ON component_instance TO my_controller;
";

const SCHEMA_TABLE: &str = "
CREATE TABLE IF NOT EXISTS component_lease_schema (
    version             BIGINT PRIMARY KEY,
    applied_at          BIGINT NOT NULL,
    foreign_lease_table BOOLEAN NOT NULL
);
COMMENT ON TABLE component_lease_schema IS 'Which steps of component-lease''s schema were applied here.';
COMMENT ON COLUMN component_lease_schema.version IS 'The step; the highest one is the version of the schema.';
COMMENT ON COLUMN component_lease_schema.applied_at IS 'When: this database''s clock, ms since 1970 UTC.';
COMMENT ON COLUMN component_lease_schema.foreign_lease_table IS
    'Whether component_lease was there before and belongs to another program: it is never altered then.';";

const IS_NARROW: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid {=} a.atttypid
               WHERE a.attrelid {=} pg_catalog.to_regclass('component_lease') AND a.attname {=} 'version'
                 AND (t.typname {=} 'int2' OR t.typname {=} 'int4'))";

const RECORD: &str = "INSERT INTO component_lease_schema VALUES ($1, {now}, $2)";

/// Whether `component_instance` is our own.
const OURS: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
               WHERE a.attrelid {=} pg_catalog.to_regclass('component_instance') AND a.attname {=} 'promises_outside')";

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

const LIMIT: Duration = Duration::from_secs(60);

/// Refuses a schema of a newer program.
pub(super) fn known(version: i64, place: &Place) -> Result<(), StoreError> {
    let newest = MIGRATIONS.last().map_or(0, |step| step.version);
    if version > newest {
        return Err(StoreError::Misconfigured(format!(
            "{place}: the tables have schema version {version}, this program knows {newest} at most; use a newer component-lease"
        )));
    }
    Ok(())
}

pub(in crate::store) async fn migrate(
    url: &PostgresUrl,
    how: Install,
) -> Result<MigrationReport, StoreError> {
    let place = Place::new(Source::url(""), url, "component-lease migrate");
    let run = async {
        let (mut connection, met) = dial(url, "component-lease migrate", &place).await?;
        let sent = met.how(&mut connection, url, 0, &place).await?;
        let report = run(&mut connection, &sent, &place, how).await?;
        // It is done; a goodbye that fails changes nothing.
        let _ = connection.close().await;
        Ok(report)
    };
    tokio::time::timeout(LIMIT, run).await.unwrap_or_else(|_| {
        Err(StoreError::Retryable(format!(
            "{place}: the tables were not made within {LIMIT:?}; nothing was changed"
        )))
    })
}

/// Tables of ours without the one that tells which steps were applied: then all were, and what is missing is
/// mended. The version of the schema, and whether `component_lease` is another program's.
async fn adopt(line: &mut Line<'_>, lease: bool) -> Result<(i64, bool), sqlx::Error> {
    let row = line.ask(Statement::new(qualified(IS_OURS))).await?;
    let (ours, companions): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let foreign = lease && !ours;
    if !(lease && ours || companions) {
        return Ok((0, foreign));
    }
    for step in MIGRATIONS {
        line.run(Statement::new(qualified(RECORD)).bind(step.version).bind(foreign)).await?;
    }
    Ok((MIGRATIONS.last().map_or(0, |step| step.version), foreign))
}

async fn run(
    connection: &mut PgConnection,
    sent: &How,
    place: &Place,
    how: Install,
) -> Result<MigrationReport, StoreError> {
    let failed = |error: sqlx::Error| match error.as_database_error().and_then(DatabaseError::code).as_deref()
    {
        Some("42501") => StoreError::Misconfigured(format!(
            "{place}: the user {} may not create tables; run this as the database's owner, or GRANT CREATE ON SCHEMA public (or the one that comes first in its search_path) TO \"{}\"",
            place.user, place.user
        )),
        Some("25006") => StoreError::Retryable(format!("{place}: the server is read-only")),
        _ => classify(error, place),
    };
    // Before the transaction: what a server does not say is an error there.
    let form = identity::form(&mut Line { connection, how: sent }, place).await?;
    let mut transaction = connection.begin().await.map_err(failed)?;
    let within = sent.within();
    Line { connection: &mut transaction, how: sent }.ask(Statement::new(SET_UP)).await.map_err(failed)?;
    let mut line = Line { connection: &mut transaction, how: &within };
    line.run(Statement::new(LOCK)).await.map_err(failed)?;
    let there = line
        .ask(Statement::new("SELECT pg_catalog.to_regclass('component_lease') IS NOT NULL, pg_catalog.to_regclass('component_lease_schema') IS NOT NULL, pg_catalog.to_regclass('component_instance') IS NOT NULL"))
        .await
        .map_err(failed)?;
    let (lease, schema): (bool, bool) =
        (there.try_get(0).map_err(failed)?, there.try_get(1).map_err(failed)?);
    let instances: bool = there.try_get(2).map_err(failed)?;
    if !schema {
        line.script(SCHEMA_TABLE).await.map_err(failed)?;
    }
    let row = line
        .ask(Statement::new("SELECT pg_catalog.max(version), pg_catalog.bool_or(foreign_lease_table) FROM component_lease_schema"))
        .await
        .map_err(failed)?;
    let before: Option<i64> = row.try_get(0).map_err(failed)?;
    let (before, foreign) = match (before, row.try_get::<Option<bool>, _>(1).map_err(failed)?) {
        (Some(before), foreign) => (before, foreign.unwrap_or_default()),
        // Also of a dump without data.
        (None, _) => adopt(&mut line, lease).await.map_err(failed)?,
    };
    known(before, place)?;
    let narrow: bool = line
        .ask(Statement::new(qualified(IS_NARROW)))
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let mut job = Job::new(MIGRATIONS, before, LIFE, foreign, how.max_ttl);
    if narrow {
        job.latest_date = 0;
    }
    let (mended, mended_waits) = mend(&mut line, &job, form).await.map_err(|error| match error {
        Failed::Database(error) => failed(error),
        Failed::Unmendable(why) => StoreError::Misconfigured(format!("{place}: {why}")),
    })?;
    let mut report = MigrationReport {
        database: place.to_string(),
        version: before,
        applied: Vec::new(),
        foreign_lease_table: foreign,
        grants: Some(GRANTS),
        mended,
        waits: mended_waits,
    };
    for step in MIGRATIONS.iter().filter(|step| step.version > before) {
        if !(foreign && step.lease_table || step.version == INSTANCES && instances) {
            line.script(step.sql).await.map_err(failed)?;
            report.applied.push(step.name);
        }
        let query = Statement::new(qualified(RECORD)).bind(step.version).bind(foreign);
        line.run(query).await.map_err(failed)?;
        if step.version == LIFE {
            // Leases that are there go on with their numbers; nobody knows whether this is still the
            // server that granted them, so it is not settled.
            let there = Statement::new("SELECT EXISTS (SELECT FROM component_lease)");
            let there = line.ask(there).await.map_err(failed)?;
            let leases: bool = there.try_get(0).map_err(failed)?;
            let query = Statement::new(Statements::of(form).first_record)
                .bind(if narrow { 0 } else { DATE_MAX })
                .bind(0_i64)
                .bind(i32::try_from(how.max_ttl).unwrap_or(i32::MAX))
                .bind(how.first && !leases)
                .bind(how.first || leases);
            line.run(query).await.map_err(failed)?;
            report.waits = (!how.first || leases).then_some(how.max_ttl);
        }
        report.version = step.version;
    }
    let ours = line.ask(Statement::new(qualified(OURS))).await;
    if ours.and_then(|row| row.try_get(0)).map_err(failed)? {
        line.ask_all(Statement::new(qualified(SEQUENCE))).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(report)
}
