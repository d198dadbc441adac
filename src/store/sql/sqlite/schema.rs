//! The tables: one transaction that begins with the write lock keeps runs at once apart.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Executor};

use super::connection::{Line, Place};
use super::errors::{classify, leaves_connection_in_order};
use super::url::SqliteUrl;
use super::{cell, script, statements};
use crate::store::error::StoreError;
use crate::store::sql::driver;
use crate::store::sql::migrate::{self, LIMIT, Migrate, Schema};
use crate::store::sql::migration::{Install, MigrationReport};
use crate::store::sql::statement::Statements;
use crate::store::sql::value::Row;

pub(super) const SCHEMA: Schema = Schema {
    tables: include_str!("0001_tables.sql"),
    versions: "
-- Which steps of component-lease's schema were applied here.
CREATE TABLE component_lease_schema (
    -- The step; the highest one is the version of the schema. 0: a run has begun.
    version             BIGINT NOT NULL PRIMARY KEY,
    -- When: this machine's clock, ms since 1970 UTC.
    applied_at          BIGINT NOT NULL,
    -- Whether component_lease was there before and belongs to another program: it is never altered then.
    foreign_lease_table BOOLEAN NOT NULL
)",
    // SQLite keeps the comments within a table.
    present: "
SELECT s.name AS name, s.type = 'table' AS is_table,
       coalesce((SELECT group_concat(lower(c.name), ' ') FROM pragma_table_info(s.name) AS c), '') AS columns,
       EXISTS (SELECT 1 FROM pragma_table_info(s.name) AS c WHERE c.pk > 0)
       OR EXISTS (SELECT 1 FROM pragma_index_list(s.name) AS i WHERE i.\"unique\" AND NOT i.partial) AS has_key,
       0 AS lacks_comments, 0 AS is_narrow,
       s.name = 'component_lease'
       AND s.sql LIKE '%-- The participant that leads, unique for each start of its process%' AS is_ours
FROM sqlite_schema AS s
WHERE s.type IN ('table', 'view')
  AND s.name IN ('component_lease', 'component_lease_intent', 'component_lease_history', 'component_lease_store',
                 'component_instance', 'component_lease_schema', 'component_lease_record', 'component_lease_report')",
    triggers: Some("SELECT name FROM sqlite_schema WHERE type = 'trigger'"),
    functions: None,
    grants: None,
    has_disabled_triggers: false,
    adds_keys: false,
    rolls_back: true,
};

/// Programs of other users in the same group share the file.
const MODE: u32 = 0o660;
const WAL_RETRY: Duration = Duration::from_millis(20);

pub(super) async fn migrate(url: &SqliteUrl, how: Install) -> Result<MigrationReport, StoreError> {
    let place = Place::new(url.path.clone(), true);
    tokio::time::timeout(LIMIT, open_and_run(&place, how)).await.unwrap_or_else(|_| {
        Err(StoreError::retryable(format!(
            "{place}: the tables were not made within {LIMIT:?}, because other processes hold the file's lock"
        )))
    })
}

async fn open_and_run(place: &Place, how: Install) -> Result<MigrationReport, StoreError> {
    let failed = |error| classify(error, place);
    let wrong = |what: String| StoreError::misconfigured(format!("{place}: {what}"));
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
    let connection = place.options().create_if_missing(true).connect().await.map_err(failed)?;
    if fresh {
        // Before anything is written: SQLite gives the files beside it the same mode.
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(MODE))
            .map_err(|error| wrong(format!("cannot let the group write the new file: {error}")))?;
    }
    let file = place
        .file()
        .ok_or_else(|| StoreError::retryable(format!("{place}: the file was removed just now")))?;
    let mut line = Line { connection, file, name: file.name() };
    let report = migrate::run(place, &mut line, how).await?;
    // It is done; a goodbye that fails changes nothing.
    let _ = line.connection.close().await;
    Ok(report)
}

impl Migrate for Place {
    const SCHEMA: Schema = SCHEMA;

    async fn begin(&self, line: &mut Line) -> Result<&'static Statements, StoreError> {
        // Persistent, outside any transaction, and not waited for by the busy timeout.
        while let Err(error) = line.connection.execute("PRAGMA journal_mode = WAL").await {
            if !leaves_connection_in_order(&error) {
                return Err(classify(error, self));
            }
            tokio::time::sleep(WAL_RETRY).await;
        }
        script(&mut line.connection, "BEGIN IMMEDIATE").await.map_err(|error| classify(error, self))?;
        Ok(statements())
    }

    async fn script(line: &mut Line, sql: &str) -> Result<(), sqlx::Error> {
        script(&mut line.connection, sql).await
    }

    async fn query(line: &mut Line, sql: &'static str) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.connection.fetch_all(sqlx::query(sql).persistent(false)).await?;
        driver::rows(&rows, cell)
    }

    async fn end(line: &mut Line) -> Result<(), sqlx::Error> {
        script(&mut line.connection, "COMMIT").await
    }
}
