//! The tables. Neither server rolls back a CREATE TABLE; a lock of the server's keeps runs at once apart.

use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Connection, Executor, Row as _};

use super::cell;
use super::connection::{Place, dial, set_up};
use super::errors::classify;
use super::inspect::statements;
use super::url::MySqlUrl;
use crate::store::error::StoreError;
use crate::store::sql::driver;
use crate::store::sql::migrate::{self, LIMIT, Migrate, Schema};
use crate::store::sql::migration::{Install, MigrationReport};
use crate::store::sql::source::Source;
use crate::store::sql::statement::Statements;
use crate::store::sql::value::Row;

pub(super) const SCHEMA: Schema = Schema {
    tables: include_str!("0001_tables.sql"),
    versions: "
CREATE TABLE IF NOT EXISTS component_lease_schema (
    version BIGINT NOT NULL
        COMMENT 'The step; the highest one is the version of the schema. 0: a migration has begun.',
    applied_at BIGINT NOT NULL
        COMMENT 'When: this database''s clock, ms since 1970 UTC.',
    foreign_lease_table BOOLEAN NOT NULL
        COMMENT 'Whether component_lease was there before and belongs to another program: it is never altered then.',
    PRIMARY KEY (version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'Which steps of component-lease''s schema were applied here.'",
    present: "
SELECT t.TABLE_NAME AS name, t.TABLE_TYPE NOT LIKE '%VIEW%' AS is_table,
       (SELECT GROUP_CONCAT(c.COLUMN_NAME SEPARATOR ' ') FROM information_schema.COLUMNS AS c
        WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME) AS columns,
       EXISTS (SELECT 1 FROM information_schema.STATISTICS AS k
               WHERE k.TABLE_SCHEMA = t.TABLE_SCHEMA AND k.TABLE_NAME = t.TABLE_NAME AND k.INDEX_NAME = 'PRIMARY') AS has_key,
       0 AS lacks_comments,
       t.TABLE_NAME = 'component_lease' AND t.TABLE_COMMENT LIKE '%Made by component-lease.%' AS is_ours,
       EXISTS (SELECT 1 FROM information_schema.COLUMNS AS v
               WHERE v.TABLE_SCHEMA = t.TABLE_SCHEMA AND v.TABLE_NAME = t.TABLE_NAME AND v.COLUMN_NAME = 'version'
                 AND v.TABLE_NAME = 'component_lease'
                 AND v.DATA_TYPE IN ('tinyint', 'smallint', 'mediumint', 'int')) AS is_narrow
FROM information_schema.TABLES AS t
WHERE t.TABLE_SCHEMA = DATABASE()
  AND t.TABLE_NAME IN ('component_lease', 'component_lease_intent', 'component_lease_history', 'component_lease_store',
                       'component_instance', 'component_lease_schema', 'component_lease_record',
                       'component_lease_report')",
    triggers: None,
    functions: None,
    grants: Some(GRANTS),
    has_disabled_triggers: false,
    adds_keys: true,
    rolls_back: false,
};

const GRANTS: &str = "\
-- a participant (agent, run, or a program with the library)
GRANT SELECT, INSERT, UPDATE ON component_lease TO my_participant;
GRANT SELECT, INSERT, UPDATE ON component_lease_store TO my_participant;
GRANT SELECT, INSERT, UPDATE ON component_instance TO my_participant;
GRANT SELECT, INSERT, UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history TO my_participant;
GRANT SELECT ON component_lease_intent TO my_participant;
GRANT SELECT ON component_lease_schema TO my_participant;
-- the controller
GRANT SELECT, UPDATE (holder_id, renew_time) ON component_lease TO my_controller;
GRANT SELECT, DELETE, UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history TO my_controller;
GRANT SELECT ON component_lease_schema TO my_controller;
GRANT SELECT, INSERT, UPDATE ON component_lease_intent TO my_controller;
GRANT SELECT, INSERT, UPDATE ON component_lease_store TO my_controller;
GRANT SELECT, DELETE ON component_instance TO my_controller;
-- a member of a database (db run), beside what a participant has
GRANT SELECT, INSERT, UPDATE ON component_lease_record TO my_member;
GRANT SELECT, INSERT, UPDATE ON component_lease_report TO my_member;
";

/// Locks are the whole server's, and a name has 64 characters: a number stands for the database.
/// Two databases with the same number just wait for each other.
const LOCK: &str = "SELECT COALESCE(GET_LOCK(CONCAT('component_lease_', CRC32(DATABASE())), 50), 0)";
/// For locks of tables, in ms.
const LOCK_LIMIT: u64 = 30_000;

pub(super) async fn migrate(url: &MySqlUrl, how: Install) -> Result<MigrationReport, StoreError> {
    let place = Place::new(Source::url(""), url);
    let run = async {
        let mut connection = dial(url, &place).await?;
        let report = migrate::run(&place, &mut connection, how).await?;
        // It is done; a goodbye that fails changes nothing.
        let _ = connection.close().await;
        Ok(report)
    };
    tokio::time::timeout(LIMIT, run).await.unwrap_or_else(|_| {
        Err(StoreError::retryable(format!(
            "{place}: the tables were not made within {LIMIT:?}; running it again goes on where it stopped"
        )))
    })
}

impl Migrate for Place {
    const SCHEMA: Schema = SCHEMA;

    async fn begin(&self, line: &mut MySqlConnection) -> Result<&'static Statements, StoreError> {
        let failed = |error| classify(error, self);
        Self::script(line, &set_up(LOCK_LIMIT)).await.map_err(failed)?;
        let locked: i64 = line.fetch_one(LOCK).await.and_then(|row| row.try_get(0)).map_err(failed)?;
        if locked != 1 {
            return Err(StoreError::retryable(format!(
                "{self}: somebody else is making the tables just now"
            )));
        }
        let mariadb = line.fetch_one("SELECT VERSION() LIKE '%MariaDB%'").await;
        Ok(statements(mariadb.and_then(|row| row.try_get(0)).map_err(failed)?, None))
    }

    async fn script(line: &mut MySqlConnection, sql: &str) -> Result<(), sqlx::Error> {
        line.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
    }

    async fn query(line: &mut MySqlConnection, sql: &'static str) -> Result<Vec<Row>, sqlx::Error> {
        let rows = line.fetch_all(sqlx::raw_sql(sql)).await?;
        driver::rows(&rows, cell)
    }

    async fn end(_: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        Ok(())
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        let number = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
            .map(MySqlDatabaseError::number);
        match number {
            Some(1044 | 1142) => StoreError::misconfigured(format!(
                "{self}: the user {} may not create tables; run this as an administrator, or GRANT CREATE, ALTER, SELECT, INSERT, UPDATE ON `{}`.* TO '{}'@'%'",
                self.user, self.database, self.user
            ))
            .caused_by(error),
            _ => classify(error, self),
        }
    }
}
