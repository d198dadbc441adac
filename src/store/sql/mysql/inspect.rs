//! One look at the server and at `component_lease`, which another program may have made. What cannot work is
//! refused, what is weaker is logged.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::connection::Place;
use super::errors::{classify, no_table};
use crate::store::error::StoreError;
use crate::store::sql::migrate::{VERSION, known};
use crate::store::sql::migration::not_to_be_seen;
use crate::store::sql::statement::{Places, Statements};
use crate::store::sql::table::{self, Table};

/// Sent behind what sets the session up, in one round trip. The first column says what a row tells
/// about; everything is text. Needs no privilege but one on the tables, which are not shown without.
///
/// Servers know different variables, and asking for one that is not there is an error: but SHOW.
/// Nor may a table be read that is not there: but by a statement that is made up after a look.
/// A server started with `--sysdate-is-now` is recognised by its behaviour (MySQL has no variable for it).
const INSPECT: &str = "
SELECT 'fact', 'version', VERSION();
SELECT 'fact', 'sysdate_is_now', SLEEP(0.001) + (SYSDATE(6) = NOW(6));
SHOW VARIABLES WHERE Variable_name IN (
    'read_only', 'super_read_only', 'innodb_read_only', 'transaction_read_only', 'tx_read_only',
    'log_bin', 'binlog_format', 'sync_binlog', 'innodb_flush_log_at_trx_commit',
    'wsrep_on', 'group_replication_group_name', 'group_replication_single_primary_mode',
    'group_replication_consistency', 'system_versioning_asof');
SELECT 'fact', CONCAT('privilege ', PRIVILEGE_TYPE), GRANTEE FROM information_schema.USER_PRIVILEGES
WHERE GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')
  AND PRIVILEGE_TYPE IN ('SUPER', 'CONNECTION_ADMIN', 'READ_ONLY ADMIN', 'READ ONLY ADMIN');
SELECT 'table', TABLE_NAME, COALESCE(ENGINE, TABLE_TYPE) FROM information_schema.TABLES
WHERE TABLE_SCHEMA = DATABASE()
  AND TABLE_NAME IN ('component_lease', 'component_lease_intent', 'component_lease_schema',
                     'component_lease_history', 'component_lease_store');
SELECT 'instances', 'priority' FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_instance' AND COLUMN_NAME = 'priority';
SELECT 'column', COLUMN_NAME, DATA_TYPE, CAST(CHARACTER_MAXIMUM_LENGTH AS CHAR), CHARACTER_SET_NAME,
       COLUMN_TYPE, CAST(NUMERIC_SCALE AS CHAR), COLLATION_NAME
FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease';
SELECT 'key', MAX(COLUMN_NAME) FROM information_schema.STATISTICS
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease' AND NON_UNIQUE = 0
GROUP BY INDEX_NAME HAVING COUNT(*) = 1 AND MAX(SUB_PART) IS NULL;
SET @component_lease_schema = IF(EXISTS (SELECT * FROM information_schema.TABLES
                                         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease_schema'),
    'SELECT ''schema'', CAST(COALESCE(MAX(version), 0) AS CHAR) FROM component_lease_schema', 'DO 0');
PREPARE component_lease_schema FROM @component_lease_schema;
EXECUTE component_lease_schema;
DEALLOCATE PREPARE component_lease_schema;";

const PLACES: Places = Places { mark: '?', numbered: false };

const COMPANIONS: [&str; 3] = ["component_lease_intent", "component_lease_history", "component_lease_store"];

/// A column of `component_lease`.
struct Column {
    kind: String,
    length: Option<usize>,
    character_set: Option<String>,
    collation: Option<String>,
    unsigned: bool,
    scale: u32,
}

/// What the answers say.
#[derive(Default)]
struct Found {
    facts: BTreeMap<String, String>,
    /// With their engines.
    tables: BTreeMap<String, String>,
    columns: BTreeMap<String, Column>,
    keys: Vec<String>,
    keeps_instances: bool,
    /// The version of the tables, where the table that holds it may be seen.
    schema: Option<i64>,
}

impl Found {
    fn of(rows: &[MySqlRow]) -> Result<Self, sqlx::Error> {
        // The servers disagree on the types of such columns, not on their bytes.
        let text = |row: &MySqlRow, index: usize| -> Result<Option<String>, sqlx::Error> {
            let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(index)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let must = |row: &MySqlRow, index: usize| text(row, index).map(Option::unwrap_or_default);
        let mut found = Self::default();
        for row in rows {
            let (what, name) = (must(row, 0)?, must(row, 1)?);
            match what.as_str() {
                "fact" => drop(found.facts.insert(name, must(row, 2)?)),
                "table" => drop(found.tables.insert(name, must(row, 2)?)),
                "key" => found.keys.push(name),
                "instances" => found.keeps_instances = true,
                "schema" => found.schema = name.parse().ok(),
                "column" => {
                    let column = Column {
                        kind: must(row, 2)?.to_ascii_lowercase(),
                        length: text(row, 3)?.and_then(|length| length.parse().ok()),
                        character_set: text(row, 4)?,
                        collation: text(row, 7)?,
                        unsigned: must(row, 5)?.contains("unsigned"),
                        scale: must(row, 6)?.parse().unwrap_or(0),
                    };
                    found.columns.insert(name.to_ascii_lowercase(), column);
                }
                variable => drop(found.facts.insert(variable.to_owned(), name)),
            }
        }
        Ok(found)
    }

    fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("", String::as_str)
    }

    fn is_mariadb(&self) -> bool {
        self.fact("version").contains("MariaDB")
    }

    fn companions(&self) -> bool {
        COMPANIONS.iter().all(|name| self.tables.contains_key(*name))
    }

    /// The servers show nobody a table that he has no right on.
    fn sees_all_of(&self, version: i64, place: &Place) -> Result<(), StoreError> {
        let hidden: Vec<_> =
            COMPANIONS.into_iter().filter(|name| version > 0 && !self.tables.contains_key(*name)).collect();
        if hidden.is_empty() {
            return Ok(());
        }
        Err(not_to_be_seen(place, version, &hidden.join(" and "), &format!("the user {}", place.user)))
    }

    fn on(&self, name: &str) -> bool {
        matches!(self.fact(name), "ON" | "1")
    }
}

pub(super) async fn inspect(
    connection: &mut MySqlConnection,
    set_up: &str,
    place: &Place,
) -> Result<Table, StoreError> {
    let failed = |error| classify(error, place);
    let query = sqlx::raw_sql(AssertSqlSafe(format!("{set_up}{INSPECT}")));
    let rows = connection.fetch_all(query).await.map_err(failed)?;
    let found = Found::of(&rows).map_err(failed)?;
    server(&found, place)?;
    if !found.tables.contains_key("component_lease") {
        return Err(StoreError::misconfigured(format!(
            "{place}: there is no table component_lease that the user {} may see; run `component-lease migrate`, or if it has run, GRANT what it printed",
            place.user
        )));
    }
    if let Some(version) = found.schema {
        known(version, place)?;
        found.sees_all_of(version, place)?;
    } else if found.tables.len() > 1 {
        // The step is not visible either; a user who sees one companion has been granted some of them.
        found.sees_all_of(VERSION, place)?;
    }
    hides_nothing(&found, place)?;
    let table = table_of(&found, place)?;
    for says in unsafe_ways(&found) {
        place.settings.refuse_unsafe(place, place.source.allows_unsafe_backend(), &says)?;
    }
    if !place.settings.said_before() {
        for says in weaknesses(&found, &table, place) {
            tracing::warn!("{place}: {says}");
        }
    }
    Ok(table)
}

/// A look that shows less than there is must not pass for one of a database with less in it. Neither server
/// knows policies for rows; what there is are views, and MariaDB's looks at the past.
fn hides_nothing(found: &Found, place: &Place) -> Result<(), StoreError> {
    let views = found.tables.iter().find(|(_, engine)| engine.contains("VIEW"));
    if let Some((table, _)) = views {
        return Err(no_table(place, table));
    }
    let past = found.fact("system_versioning_asof");
    if !matches!(past, "" | "DEFAULT") {
        return Err(StoreError::misconfigured(format!(
            "{place}: the server has system_versioning_asof = {past}, with which a system-versioned table shows rows of the past: SET GLOBAL system_versioning_asof = DEFAULT"
        )));
    }
    Ok(())
}

fn server(found: &Found, place: &Place) -> Result<(), StoreError> {
    let version = found.fact("version");
    let (product, least) = if version.contains("MariaDB") { ("MariaDB", (10, 6)) } else { ("MySQL", (8, 0)) };
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if numbers.next().zip(numbers.next()).is_some_and(|version| version < least) {
        return Err(StoreError::misconfigured(format!(
            "{place}: the server is {product} {version}; {}.{} or newer is needed",
            least.0, least.1
        )));
    }
    for name in ["read_only", "super_read_only", "innodb_read_only"] {
        if !matches!(found.fact(name), "" | "OFF" | "0") {
            return Err(StoreError::retryable(format!(
                "{place}: the server is read-only ({name}), as a replica is; waiting for it to be promoted, or name the primary in the URL"
            )));
        }
    }
    if found.on("transaction_read_only") || found.on("tx_read_only") {
        return Err(StoreError::retryable(format!(
            "{place}: the server lets sessions only read (transaction_read_only); nobody can lead until they may write"
        )));
    }
    if found.on("log_bin") && found.fact("binlog_format") == "STATEMENT" {
        return Err(StoreError::misconfigured(format!(
            "{place}: the server has binlog_format = STATEMENT, with which replicas would hold other times than the primary; set binlog_format = ROW"
        )));
    }
    Ok(())
}

/// Checks that the columns can do what is needed, also in a table that another program made.
fn table_of(found: &Found, place: &Place) -> Result<Table, StoreError> {
    let wrong = |what: String| StoreError::misconfigured(format!("{place}: {what}"));
    let column = |name: &str, fits: &[&str], needs: &str| -> Result<&Column, StoreError> {
        let Some(column) = found.columns.get(name) else {
            return Err(wrong(format!(
                "the table component_lease has no column {name}; it is not the table that component-lease works with (docs/databases.md says what that looks like)"
            )));
        };
        if !fits.contains(&column.kind.as_str()) || column.scale > 0 {
            return Err(wrong(format!(
                "the column component_lease.{name} has the type {}; {needs} is needed",
                column.kind
            )));
        }
        Ok(column)
    };
    let text = &["varchar", "char", "varbinary", "tinytext", "text", "mediumtext", "longtext"];
    let component = column("component_name", text, "VARCHAR")?;
    let holder = column("holder_id", text, "VARCHAR")?;
    column("lease_time", &["bigint", "decimal"], "BIGINT")?;
    column("renew_time", &["bigint", "decimal"], "BIGINT")?;
    let version =
        column("version", &["tinyint", "smallint", "mediumint", "int", "bigint", "decimal"], "BIGINT")?;
    column(
        "ttl",
        &["tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double"],
        "INT",
    )?;
    if !found.keys.iter().any(|key| key.eq_ignore_ascii_case("component_name")) {
        return Err(wrong("the table component_lease has no primary key on component_name (the whole of it), so two participants could both insert a row: ALTER TABLE component_lease ADD PRIMARY KEY (component_name)".to_owned()));
    }
    let unicode = |column: &Column| {
        column.character_set.as_deref().is_none_or(|set| matches!(set, "utf8mb4" | "binary"))
    };
    let companions = found.companions();
    let compared_as = component.character_set.as_deref().zip(component.collation.as_deref());
    Ok(Table {
        component: table::Column { max: component.length, unicode: unicode(component) },
        holder: table::Column { max: holder.length, unicode: unicode(holder) },
        version_max: version_max(version),
        companions,
        instances: companions && found.keeps_instances,
        sql: statements(found.is_mariadb(), compared_as),
    })
}

/// As this kind of server understands them, made once. `column` is the character set and the collation of
/// `component_lease.component_name`; `None` for bytes.
pub(in crate::store::sql) fn statements(mariadb: bool, column: Option<(&str, &str)>) -> &'static Statements {
    static MADE: Mutex<BTreeMap<(bool, String), &'static Statements>> = Mutex::new(BTreeMap::new());
    let word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let (set, collation) =
        column.filter(|(set, collation)| word(set) && word(collation)).unwrap_or(("utf8mb4", "utf8mb4_bin"));
    let collation = format!("CHARACTER SET {set} COLLATE {collation}");
    let identity = if mariadb { "{mariadb_identity}" } else { "{mysql_identity}" };
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((mariadb, collation.clone())).or_insert_with(|| {
        let words = [("own_identity", identity.to_owned()), ("collation", collation)];
        Statements::read(include_str!("statements.sql"), &words, PLACES, |text| text)
    })
}

fn version_max(column: &Column) -> i64 {
    let bits = match column.kind.as_str() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        _ => return i64::MAX,
    };
    (1 << if column.unsigned { bits } else { bits - 1 }) - 1
}

/// What a server may do that makes it forget, or contradict, what it acknowledged.
fn unsafe_ways(found: &Found) -> Vec<String> {
    let mut ways = Vec::new();
    for (table, engine) in &found.tables {
        if !engine.eq_ignore_ascii_case("InnoDB") {
            ways.push(format!("ENGINE = {engine} (of the table {table}): a crash of the server may lose leases that were granted; ALTER TABLE {table} ENGINE = InnoDB"));
        }
    }
    let mut setting = |applies: bool, name: &str, wanted: &str, harm: &str, how: Option<&str>| {
        let value = found.fact(name);
        if applies && !value.eq_ignore_ascii_case(wanted) {
            let set = format!("SET GLOBAL {name} = {wanted}");
            let how = how.unwrap_or(&set);
            ways.push(format!("{name} = {value}: {harm}; {how}, and in the server's configuration"));
        }
    };
    let loses = "a crash of the server's machine loses leases that were granted";
    setting(true, "innodb_flush_log_at_trx_commit", "1", loses, None);
    setting(found.on("log_bin"), "sync_binlog", "1", loses, None);
    let group = !found.fact("group_replication_group_name").is_empty();
    let two = "two members may grant the same lease";
    // The variable cannot be set while the group runs.
    let switch = "SELECT group_replication_switch_to_single_primary_mode()";
    setting(group, "group_replication_single_primary_mode", "ON", two, Some(switch));
    let stale = "a new primary may answer before it has applied what the old one granted";
    if found.fact("group_replication_consistency").eq_ignore_ascii_case("EVENTUAL") {
        setting(group, "group_replication_consistency", "BEFORE_ON_PRIMARY_FAILOVER", stale, None);
    }
    ways
}

fn weaknesses(found: &Found, table: &Table, place: &Place) -> Vec<String> {
    let bypasses: Vec<_> = found.facts.keys().filter_map(|fact| fact.strip_prefix("privilege ")).collect();
    let own = [
        (
            found.on("sysdate_is_now"),
            "the server runs with --sysdate-is-now: times in the table are from before a wait for a lock, and programs that judge by them see leases older than they are".to_owned(),
        ),
        (
            found.on("wsrep_on"),
            "the server is a node of a Galera cluster: all programs must use the same node; each other node that answers begins an epoch, and nobody takes a lease for a while".to_owned(),
        ),
        (
            !bypasses.is_empty(),
            format!(
                "the user {} has {}, so a primary that was made read-only on purpose would still take its writes; use a user without",
                place.user,
                bypasses.join(" and ")
            ),
        ),
    ];
    let own = own.into_iter().filter_map(|(weak, says)| weak.then_some(says));
    table
        .weaknesses::<Place>("a failover, a restored backup or a deleted row")
        .into_iter()
        .chain(own)
        .collect()
}
