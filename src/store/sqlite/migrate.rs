//! Creates and upgrades the tables: one transaction that begins with the write lock, so that any
//! number of runs at once do it once.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Executor, Row};

use super::connection::Place;
use super::errors::{classify, leaves_connection_in_order};
use super::mend::{IS_OURS, mend};
use super::statements::FIRST_RECORD;
use crate::election::life::DATE_MAX;
use crate::store::StoreError;
use crate::store::connect::Install;
use crate::store::migration::{Migration, MigrationReport};
use crate::store::schema::{Failed, Job};
use crate::store::uuid::new_uuid;

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_lease",
        sql: include_str!("../migrations/sqlite/0001_lease.sql"),
        lease_table: true,
    },
    Migration {
        version: INTENT,
        name: "0002_intent",
        sql: include_str!("../migrations/sqlite/0002_intent.sql"),
        lease_table: false,
    },
    Migration {
        version: LIFE,
        name: "0003_life",
        sql: include_str!("../migrations/sqlite/0003_life.sql"),
        lease_table: false,
    },
    Migration {
        version: INSTANCES,
        name: "0004_instance",
        sql: include_str!("../migrations/sqlite/0004_instance.sql"),
        lease_table: false,
    },
];

/// The step after which the first record is written.
pub(super) const LIFE: i64 = 3;
pub(super) const INTENT: i64 = 2;
/// A table of this name may be somebody else's: then it stays as it is, and is not used.
const INSTANCES: i64 = 4;

pub(super) const VERSION: &str = "SELECT coalesce(max(version), 0) FROM component_lease_schema";

const SCHEMA_TABLE: &str = "
-- Which steps of component-lease's schema were applied here.
CREATE TABLE component_lease_schema (
    -- The step; the highest one is the version of the schema.
    version             BIGINT NOT NULL PRIMARY KEY,
    -- When: this machine's clock, ms since 1970 UTC.
    applied_at          BIGINT NOT NULL,
    -- Whether component_lease was there before and belongs to another program: it is never altered then.
    foreign_lease_table BOOLEAN NOT NULL
)";

const RECORD: &str = "INSERT INTO component_lease_schema VALUES (?1, CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), ?2)";

/// Programs of other users in the same group share the file.
const MODE: u32 = 0o660;
const LIMIT: Duration = Duration::from_secs(60);
const WAL_RETRY: Duration = Duration::from_millis(20);

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

pub(in crate::store) async fn migrate(path: &Path, how: Install) -> Result<MigrationReport, StoreError> {
    let place = Place::new(path.to_owned(), true);
    tokio::time::timeout(LIMIT, open_and_run(&place, how)).await.unwrap_or_else(|_| {
        Err(StoreError::Retryable(format!(
            "{place}: the tables were not made within {LIMIT:?}, because other processes hold the file's lock"
        )))
    })
}

async fn open_and_run(place: &Place, how: Install) -> Result<MigrationReport, StoreError> {
    let failed = |error| classify(error, place);
    let wrong = |what: String| StoreError::Misconfigured(format!("{place}: {what}"));
    let folder = place.folder();
    if !folder.is_dir() {
        return Err(wrong(format!("the folder {} does not exist; create it", folder.display())));
    }
    if place.path().is_dir() {
        return Err(wrong("this is a folder; name a file in it".to_owned()));
    }
    place.check_writable(folder, "the folder")?;
    let fresh = !place.path().exists();
    if !fresh {
        place.check_writable(place.path(), "the file")?;
    }
    let mut connection = place.options().create_if_missing(true).connect().await.map_err(failed)?;
    if fresh {
        // Before anything is written: SQLite gives the files beside it the same mode.
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(MODE))
            .map_err(|error| wrong(format!("cannot let the group write the new file: {error}")))?;
    }
    let report = run(&mut connection, place, how).await?;
    // It is done; a goodbye that fails changes nothing.
    let _ = connection.close().await;
    Ok(report)
}

/// Tables of ours without the one that tells which steps were applied: then all were, and what is missing is
/// mended. The version of the schema, and whether `component_lease` is another program's.
async fn adopt(connection: &mut SqliteConnection, lease: bool) -> Result<(i64, bool), sqlx::Error> {
    let row = connection.fetch_one(IS_OURS).await?;
    let (ours, companions): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let foreign = lease && !ours;
    if !(lease && ours || companions) {
        return Ok((0, foreign));
    }
    for step in MIGRATIONS {
        connection.execute(sqlx::query(RECORD).bind(step.version).bind(foreign)).await?;
    }
    Ok((MIGRATIONS.last().map_or(0, |step| step.version), foreign))
}

async fn run(
    connection: &mut SqliteConnection,
    place: &Place,
    how: Install,
) -> Result<MigrationReport, StoreError> {
    let failed = |error| classify(error, place);
    // Persistent, outside any transaction, and not waited for by the busy timeout.
    while let Err(error) = connection.execute("PRAGMA journal_mode = WAL").await {
        if !leaves_connection_in_order(&error) {
            return Err(failed(error));
        }
        tokio::time::sleep(WAL_RETRY).await;
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let there = transaction
        .fetch_one("SELECT EXISTS (SELECT 1 FROM pragma_table_info('component_lease')), EXISTS (SELECT 1 FROM pragma_table_info('component_lease_schema')), EXISTS (SELECT 1 FROM pragma_table_info('component_instance'))")
        .await
        .map_err(failed)?;
    let (lease, schema): (bool, bool) =
        (there.try_get(0).map_err(failed)?, there.try_get(1).map_err(failed)?);
    let instances: bool = there.try_get(2).map_err(failed)?;
    let (before, foreign) = if schema {
        let row = transaction
            .fetch_one("SELECT coalesce(max(version), 0), coalesce(max(foreign_lease_table), false) FROM component_lease_schema")
            .await
            .map_err(failed)?;
        (row.try_get::<i64, _>(0).map_err(failed)?, row.try_get::<bool, _>(1).map_err(failed)?)
    } else {
        transaction.execute(sqlx::raw_sql(SCHEMA_TABLE)).await.map_err(failed)?;
        adopt(&mut transaction, lease).await.map_err(failed)?
    };
    known(before, place)?;
    let file = place
        .file()
        .ok_or_else(|| StoreError::Retryable(format!("{place}: the file was removed just now")))?;
    let job = Job::new(MIGRATIONS, before, LIFE, foreign, how.max_ttl);
    let (mended, mended_waits) =
        mend(&mut transaction, &job, &file.name()).await.map_err(|error| match error {
            Failed::Database(error) => failed(error),
            Failed::Unmendable(why) => StoreError::Misconfigured(format!("{place}: {why}")),
        })?;
    let mut report = MigrationReport {
        database: place.to_string(),
        version: before,
        applied: Vec::new(),
        foreign_lease_table: foreign,
        grants: None,
        mended,
        waits: mended_waits,
    };
    for step in MIGRATIONS.iter().filter(|step| step.version > before) {
        if !(foreign && step.lease_table || step.version == INSTANCES && instances) {
            transaction.execute(sqlx::raw_sql(step.sql)).await.map_err(failed)?;
            report.applied.push(step.name);
        }
        let query = sqlx::query(RECORD).bind(step.version).bind(foreign);
        transaction.execute(query).await.map_err(failed)?;
        if step.version == LIFE {
            // Leases that are there go on with their numbers; nobody knows whether this is still the
            // file in which they were granted, so it is not settled.
            let leases = transaction
                .fetch_one("SELECT EXISTS (SELECT 1 FROM component_lease)")
                .await
                .and_then(|row| row.try_get::<bool, _>(0))
                .map_err(failed)?;
            let query = sqlx::query(FIRST_RECORD)
                .bind(DATE_MAX)
                .bind(0)
                .bind(how.max_ttl)
                .bind(how.first && !leases)
                .bind(how.first || leases)
                .bind(file.name())
                .bind(new_uuid());
            transaction.execute(query).await.map_err(failed)?;
            report.waits = (!how.first || leases).then_some(how.max_ttl);
        }
        report.version = step.version;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(report)
}
