//! Creates and upgrades the tables. Neither server rolls back a CREATE TABLE, so each step can be
//! done again, and whose table `component_lease` is gets written down before anything is made. A
//! lock of the server's keeps runs at once apart.

use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::connection::{Place, dial, set_up};
use super::errors::{classify, is_granted_already};
use super::mend::{IS_OURS, mend};
use super::statements::{MARIADB, MYSQL};
use crate::election::life::DATE_MAX;
use crate::store::StoreError;
use crate::store::address::MySqlUrl;
use crate::store::connect::{Install, Source};
use crate::store::migration::{Migration, MigrationReport};
use crate::store::schema::{Failed, Job};
use crate::store::uuid::new_uuid;

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_lease",
        sql: include_str!("../migrations/mysql/0001_lease.sql"),
        lease_table: true,
    },
    Migration {
        version: INTENT,
        name: "0002_intent",
        sql: include_str!("../migrations/mysql/0002_intent.sql"),
        lease_table: false,
    },
    Migration {
        version: LIFE,
        name: "0003_life",
        sql: include_str!("../migrations/mysql/0003_life.sql"),
        lease_table: false,
    },
    Migration {
        version: INSTANCES,
        name: "0004_instance",
        sql: include_str!("../migrations/mysql/0004_instance.sql"),
        lease_table: false,
    },
];

/// The step with which the first record is written.
pub(super) const LIFE: i64 = 3;
pub(super) const INTENT: i64 = 2;
/// A table of this name may be somebody else's: then it stays as it is, and is not used.
const INSTANCES: i64 = 4;

const GRANTS: &str = "\
-- a participant (agent, run, or a program with the library)
GRANT SELECT, INSERT, UPDATE ON component_lease TO my_participant;
GRANT SELECT, INSERT, UPDATE ON component_lease_store TO my_participant;
GRANT SELECT, INSERT, UPDATE ON component_instance TO my_participant;
GRANT SELECT, INSERT ON component_lease_history TO my_participant;
GRANT SELECT ON component_lease_intent TO my_participant;
GRANT SELECT ON component_lease_schema TO my_participant;
-- the controller
GRANT SELECT, UPDATE (holder_id, renew_time) ON component_lease TO my_controller;
GRANT SELECT ON component_lease_history TO my_controller;
GRANT SELECT ON component_lease_schema TO my_controller;
GRANT SELECT, INSERT, UPDATE ON component_lease_intent TO my_controller;
GRANT SELECT, INSERT, UPDATE ON component_lease_store TO my_controller;
GRANT SELECT, DELETE ON component_instance TO my_controller;
";

const SCHEMA_TABLE: &str = "
CREATE TABLE IF NOT EXISTS component_lease_schema (
    version BIGINT NOT NULL
        COMMENT 'The step; the highest one is the version of the schema. 0: a migration has begun.',
    applied_at BIGINT NOT NULL
        COMMENT 'When: this database''s clock, ms since 1970 UTC.',
    foreign_lease_table BOOLEAN NOT NULL
        COMMENT 'Whether component_lease was there before and belongs to another program: it is never altered then.',
    PRIMARY KEY (version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'Which steps of component-lease''s schema were applied here.'";

const IS_NARROW: &str = "
SELECT EXISTS (SELECT 1 FROM information_schema.COLUMNS
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease' AND COLUMN_NAME = 'version'
                 AND DATA_TYPE IN ('tinyint', 'smallint', 'mediumint', 'int'))";

/// Locks are the whole server's, and a name has 64 characters: a number stands for the database.
/// Two databases with the same number just wait for each other.
const LOCK: &str = "SELECT COALESCE(GET_LOCK(CONCAT('component_lease_', CRC32(DATABASE())), 50), 0)";

const RECORD: &str = "INSERT IGNORE INTO component_lease_schema (version, applied_at, foreign_lease_table)
     VALUES (?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000, ?)";

const LIMIT: Duration = Duration::from_secs(60);
/// For locks of tables, in ms.
const LOCK_LIMIT: u64 = 30_000;

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

pub(in crate::store) async fn migrate(url: &MySqlUrl, how: Install) -> Result<MigrationReport, StoreError> {
    let place = Place::new(Source::url(""), url);
    let run = async {
        let mut connection = dial(url, &place).await?;
        let report = run(&mut connection, &place, how).await?;
        // It is done; a goodbye that fails changes nothing.
        let _ = connection.close().await;
        Ok(report)
    };
    tokio::time::timeout(LIMIT, run).await.unwrap_or_else(|_| {
        Err(StoreError::Retryable(format!(
            "{place}: the tables were not made within {LIMIT:?}; running it again goes on where it stopped"
        )))
    })
}

/// In the very first run, which comes before any table of ours: writes down whose table `component_lease` is.
/// Where there are tables of ours all the same, the table that tells which steps were applied is gone: then all
/// were, and what is missing is mended.
async fn adopt(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let begun: bool =
        connection.fetch_one("SELECT COUNT(*) > 0 FROM component_lease_schema").await?.try_get(0)?;
    if begun {
        return Ok(());
    }
    let lease: bool = connection
        .fetch_one("SELECT COUNT(*) > 0 FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease'")
        .await?
        .try_get(0)?;
    let row = connection.fetch_one(IS_OURS).await?;
    let (ours, companions): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let foreign = lease && !ours;
    connection.execute(sqlx::query(RECORD).bind(0_i64).bind(foreign)).await?;
    if lease && ours || companions {
        for step in MIGRATIONS {
            connection.execute(sqlx::query(RECORD).bind(step.version).bind(foreign)).await?;
        }
    }
    Ok(())
}

async fn run(
    connection: &mut MySqlConnection,
    place: &Place,
    how: Install,
) -> Result<MigrationReport, StoreError> {
    let failed = |error: sqlx::Error| {
        let number = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
            .map(MySqlDatabaseError::number);
        match number {
            Some(1044 | 1142) => StoreError::Misconfigured(format!(
                "{place}: the user {} may not create tables; run this as an administrator, or GRANT CREATE, SELECT, INSERT, UPDATE ON `{}`.* TO '{}'@'%'",
                place.user, place.database, place.user
            )),
            _ => classify(error, place),
        }
    };
    connection.execute(sqlx::raw_sql(AssertSqlSafe(set_up(LOCK_LIMIT)))).await.map_err(failed)?;
    let locked: i64 = connection.fetch_one(LOCK).await.and_then(|row| row.try_get(0)).map_err(failed)?;
    if locked != 1 {
        return Err(StoreError::Retryable(format!("{place}: somebody else is making the tables just now")));
    }
    connection.execute(sqlx::raw_sql(SCHEMA_TABLE)).await.map_err(failed)?;
    adopt(connection).await.map_err(failed)?;
    let row = connection
        .fetch_one(
            "SELECT CAST(MAX(version) AS SIGNED), MAX(foreign_lease_table) > 0 FROM component_lease_schema",
        )
        .await
        .map_err(failed)?;
    let (before, foreign): (i64, bool) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    known(before, place)?;
    let mut job = Job::new(MIGRATIONS, before, LIFE, foreign, how.max_ttl);
    let narrow = connection.fetch_one(IS_NARROW).await.and_then(|row| row.try_get::<bool, _>(0));
    if narrow.map_err(failed)? {
        job.latest_date = 0;
    }
    let (mended, mended_waits) = mend(connection, &job).await.map_err(|error| match error {
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
        let theirs = step.version == INSTANCES && instances_are_theirs(connection).await.map_err(failed)?;
        if !(foreign && step.lease_table || theirs) {
            connection.execute(sqlx::raw_sql(step.sql)).await.map_err(failed)?;
            report.applied.push(step.name);
        }
        if step.version == LIFE {
            let leases = first_record(connection, how).await.map_err(failed)?;
            report.waits = (!how.first || leases).then_some(how.max_ttl);
        }
        let query = sqlx::query(RECORD).bind(step.version).bind(foreign);
        connection.execute(query).await.map_err(failed)?;
        report.version = step.version;
    }
    Ok(report)
}

/// A table of this name that is not ours stays as it is, and is not used.
async fn instances_are_theirs(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let asked =
        "SELECT COUNT(*) > 0 AND SUM(COLUMN_NAME = 'promises_outside') = 0 FROM information_schema.COLUMNS
                 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_instance'";
    let theirs: Option<bool> = connection.fetch_one(asked).await?.try_get(0)?;
    Ok(theirs.unwrap_or_default())
}

/// Leases that are there go on with their numbers; nobody knows whether this is still the server that
/// granted them, so it is not settled. Whether there are any.
async fn first_record(connection: &mut MySqlConnection, how: Install) -> Result<bool, sqlx::Error> {
    let there = connection
        .fetch_one(
            "SELECT EXISTS (SELECT 1 FROM component_lease),
                    EXISTS (SELECT 1 FROM information_schema.COLUMNS
                            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease' AND COLUMN_NAME = 'version'
                              AND DATA_TYPE IN ('tinyint', 'smallint', 'mediumint', 'int')),
                    VERSION() LIKE '%MariaDB%'",
        )
        .await?;
    let (leases, narrow, mariadb): (bool, bool, bool) =
        (there.try_get(0)?, there.try_get(1)?, there.try_get(2)?);
    let statements = if mariadb { MARIADB } else { MYSQL };
    let query = sqlx::query(statements.first_record)
        .bind(how.first || leases)
        .bind(if narrow { 0 } else { DATE_MAX })
        .bind(0_i64)
        .bind(how.first && !leases)
        .bind(i32::try_from(how.max_ttl).unwrap_or(i32::MAX))
        .bind(new_uuid());
    match connection.execute(query).await {
        // Of a run that stopped here, or by a participant since.
        Err(error) if !is_granted_already(&error) => Err(error),
        _ => Ok(leases),
    }
}
