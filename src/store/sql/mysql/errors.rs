//! What the answers of MySQL and MariaDB mean for the caller, by error number (SQLSTATE says too
//! little there).

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

use super::connection::Place;
use crate::store::error::StoreError;
use crate::store::sql::errors;

const NOT_NULL: u16 = 1048;
const DUPLICATE: u16 = 1062;
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;

fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// There is a row of this key already, or the history has a later version (see
/// `statements.rs`, a take): a lost race.
pub(super) fn is_granted_already(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(DUPLICATE | NOT_NULL))
}

/// Somebody closed the connection: the server when it was idle (4031), or somebody in between.
pub(super) fn says_closed(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_)) || number(error) == Some(4031)
}

/// What was asked for is not there, is not what we take it for, or not for this user.
pub(super) fn is_not_to_be_read(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1044 | 1054 | 1142 | 1143 | 1146))
}

pub(super) fn leaves_connection_in_order(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(DUPLICATE | NOT_NULL | LOCK_WAIT_TIMEOUT | DEADLOCK))
}

/// A view, for example.
pub(super) fn no_table(place: &Place, table: &str) -> StoreError {
    StoreError::misconfigured(format!(
        "{place}: {table} is a view, which may hide rows: rename it, and rename the table to {table} again or run `component-lease migrate`"
    ))
}

pub(super) fn classify(error: sqlx::Error, place: &Place) -> StoreError {
    let says = match &error {
        sqlx::Error::Protocol(text) if text.contains("unknown authentication plugin") => {
            StoreError::misconfigured(format!(
                "{place}: {text}; component-lease knows caching_sha2_password, mysql_native_password and sha256_password: give the user {} one of these",
                place.user
            ))
        }
        sqlx::Error::Configuration(why) if why.to_string().contains("RSA") => {
            StoreError::misconfigured(format!(
                "{place}: the server asks for the clear password of {}, which is sent over TLS only: remove ssl-mode=DISABLED, and give the server a certificate",
                place.user
            ))
        }
        _ => return errors::classify(error, "ssl-ca", place, |error| by_server(error, place)),
    };
    says.caused_by(error)
}

fn by_server(error: &dyn DatabaseError, place: &Place) -> StoreError {
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => by_number(error, place),
        None => StoreError::retryable(format!("{place}: {error}")),
    }
}

fn by_number(error: &MySqlDatabaseError, place: &Place) -> StoreError {
    by(error.number(), error.code().unwrap_or_default(), error.message(), place)
}

/// By number where its meaning is one that says what to do; else by the class of the SQLSTATE, which the
/// servers set for most errors and leave at HY000 for the rest. What is not known is never called a bug of
/// ours: proxies and other products speak this protocol too, with numbers of their own.
fn by(number: u16, state: &str, message: &str, place: &Place) -> StoreError {
    let user = &place.user;
    let says = format!("{place}: {message} (error {number})");
    let misconfigured = |advice: &str| StoreError::misconfigured(format!("{says}{advice}"));
    match number {
        // The user, the password, the plugin, the host.
        1045 | 1698 | 1130 | 1129 | 1862 | 1820 | 3118 | 4151 | 1251 | 1524 | 3955 => {
            StoreError::misconfigured(format!(
                "{place}: the server rejects the user {user}: {message}; check the user, the password, from which host the user may come, and whether the server wants TLS (ssl-mode in the URL)"
            ))
        }
        3159 | 1835 | 1839 => misconfigured("; use ssl-mode=VERIFY_IDENTITY in the URL"),
        1049 => misconfigured("; check the database's name in the URL"),
        1044 => misconfigured(&format!(
            "; there is no database {0}, or the user may not use it: CREATE DATABASE {0}, then as an administrator what `component-lease migrate` prints; for `migrate` itself GRANT CREATE, SELECT, INSERT, UPDATE ON {0}.* TO '{user}'@'%'",
            place.database
        )),
        1142 | 1143 | 1227 | 1370 => misconfigured(&format!(
            "; {}{}",
            denied(message, user).unwrap_or_default(),
            grants(&place.database, user)
        )),
        1146 | 1054 | 1051 => misconfigured("; run `component-lease migrate`"),
        1243 => {
            misconfigured(": a proxy in between mixes up prepared statements; connect to the server itself")
        }
        1665 => misconfigured("; set binlog_format = ROW on the server"),
        LOCK_WAIT_TIMEOUT => StoreError::retryable(format!(
            "{place}: another transaction holds the row's or the table's lock for longer than this call may wait"
        )),
        1040 | 1203 | 1226 | 4031 => StoreError::retryable(format!(
            "{says}: no connection is free; component-lease keeps one for each participant and controller"
        )),
        // 1290 has other causes too; none of them concerns our statements.
        1290 | 1792 | 1836 | 1874 => StoreError::retryable(format!(
            "{place}: the server has become read-only; waiting for a connection that can write ({message})"
        )),
        // Limits that an operator sets for a server or a user.
        1461 => misconfigured(
            ": raise max_prepared_stmt_count, or find out which program leaves its prepared statements open",
        ),
        1104 => misconfigured(
            ": max_join_size is set so that a session may not raise it; raise it for the server",
        ),
        1153 | 1162 | 1301 => misconfigured(": raise max_allowed_packet, to 64 KiB at least"),
        1175 => misconfigured(
            ": sql_safe_updates is set so that a session may not unset it; unset it for the server",
        ),
        1193 | 1231 | 1238 | 1273 | 1115 => misconfigured(
            "; the server lacks a setting that MySQL and MariaDB have, or does not let a session set it: docs/databases.md says which servers can be used",
        ),
        // Damage.
        1033..=1035 | 1194 | 1195 | 1459 | 1712 | 1877 | 1932 => {
            misconfigured("; a table is damaged: CHECK TABLE and REPAIR TABLE it, or restore the database")
        }
        // Views, their definers, foreign and read-only tables, engines that cannot.
        1036 | 1286 | 1288 | 1347 | 1348 | 1356 | 1394 | 1395 | 1429..=1431 | 1449 | 1471 => misconfigured(
            "; something other than a table of InnoDB takes a table's place, or its definer is gone: see docs/databases.md",
        ),
        // Triggers and functions: raised by one, one without a body, one that may not.
        1303..=1316 | 1318..=1339 | 1419 | 1422 | 1424 | 1442 | 1456 | 1644 | 1645 | 1646 => misconfigured(
            "; another program's trigger on these tables forbids it: correct or drop that trigger",
        ),
        // Columns without a default, values and collations that do not fit, checks, foreign keys, keys too long.
        1048
        | 1062
        | 1071
        | 1074
        | 1118
        | 1138
        | 1166
        | 1216
        | 1217
        | 1263..=1267
        | 1270
        | 1271
        | 1292
        | 1364..=1369
        | 1390
        | 1406
        | 1411
        | 1451
        | 1452
        | 1526
        | 1557
        | 1690
        | 1748
        | 1761
        | 3819
        | 3820
        | 3988
        | 4025 => not_accepted(&says),
        // Syntax, and too many or too few of something in a statement: on these servers that is ours.
        1064 | 1065 | 1149 | 1136 | 1210 | 1222 | 1582 => StoreError::bug(says),
        _ => by_state(state, says),
    }
}

fn not_accepted(says: &str) -> StoreError {
    StoreError::misconfigured(format!(
        "{says}: the table component_lease does not accept what component-lease must write; see docs/databases.md"
    ))
}

/// By the classes of the standard that the servers use.
fn by_state(state: &str, says: String) -> StoreError {
    match state.get(..2).unwrap_or_default() {
        // A constraint, trigger or type of somebody else's table.
        "21" | "22" | "23" | "44" | "45" => not_accepted(&says),
        "28" => StoreError::misconfigured(says),
        // Whatever the server refuses by a rule of its own: rights, limits, names, features.
        "0A" | "42" | "3D" | "3F" => StoreError::misconfigured(format!(
            "{says}; the server refuses what component-lease needs: its rights, limits and versions are in docs/databases.md"
        )),
        // Connection, transaction, resources, interrupts; HY000 is everything else: full disks, shutdowns,
        // replication, kills.
        _ => StoreError::retryable(says),
    }
}

/// The GRANT that helps, from the server's words (which are English in our sessions): `UPDATE command denied to
/// user 'u'@'h' for table 'component_lease_store'`, with or without a database, in either kind of quotes.
fn denied(message: &str, user: &str) -> Option<String> {
    let (rights, rest) = message.split_once(" command denied to user ")?;
    let (_, object) = rest.split_once(" for table ").or_else(|| rest.split_once(" for column "))?;
    let table = object.rsplit(['.', ' ']).next()?.trim_matches(['\'', '`', '"']);
    let named = rights.chars().all(|c| c.is_ascii_uppercase() || matches!(c, ',' | ' '))
        && table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (named && rest.contains(" for table ")).then(|| format!("GRANT {rights} ON {table} TO '{user}'@'%'; or "))
}

fn grants(database: &str, user: &str) -> String {
    format!(
        "as an administrator run, in the database {database}, what `component-lease migrate` prints: for a participant GRANT SELECT, INSERT, UPDATE ON component_lease TO '{user}'@'%'; the same on component_lease_store and component_instance; SELECT, INSERT, UPDATE (end_time, end_reason, ended_by, ended_why) on component_lease_history; SELECT on component_lease_intent and component_lease_schema. (For the controller: SELECT, UPDATE (holder_id, renew_time) on component_lease; SELECT, DELETE, UPDATE (end_time, end_reason, ended_by, ended_why) on component_lease_history; SELECT on component_lease_schema; SELECT, INSERT, UPDATE on component_lease_intent and component_lease_store; SELECT, DELETE on component_instance)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Source;
    use crate::store::sql::dialect::Opened;

    fn kind(number: u16, state: &str) -> &'static str {
        let source = Source::url("mysql://u@localhost/d");
        let url = source.read().unwrap();
        by(number, state, "text", &Place::at(source, &url, "test").unwrap()).kind()
    }

    #[test]
    fn every_class_of_errors_has_a_kind_and_none_that_is_unknown_is_called_a_bug() {
        for (number, state, wanted) in [
            (1461, "42000", "misconfigured"),
            (1104, "42000", "misconfigured"),
            (1153, "08S01", "misconfigured"),
            (1175, "HY000", "misconfigured"),
            (1193, "HY000", "misconfigured"),
            (1305, "42000", "misconfigured"),
            (1364, "HY000", "misconfigured"),
            (1449, "HY000", "misconfigured"),
            (1644, "45000", "misconfigured"),
            (1235, "42000", "misconfigured"),
            (3819, "HY000", "misconfigured"),
            (1021, "HY000", "retryable"),
            (1030, "HY000", "retryable"),
            (1053, "08S01", "retryable"),
            (1114, "HY000", "retryable"),
            (1205, "HY000", "retryable"),
            (1213, "40001", "retryable"),
            (1317, "70100", "retryable"),
            (1615, "HY000", "retryable"),
            (1927, "70100", "retryable"),
            (1969, "70100", "retryable"),
            (3024, "HY000", "retryable"),
            (3100, "HY000", "retryable"),
            (1064, "42000", "bug"),
            // Of a proxy, of another product, of a server to come.
            (9001, "HY000", "retryable"),
            (65535, "42000", "misconfigured"),
            (7777, "", "retryable"),
            (7777, "XA100", "retryable"),
        ] {
            assert_eq!(kind(number, state), wanted, "{number} {state}");
        }
    }

    #[test]
    fn a_denied_right_is_named_with_its_grant_in_the_words_of_each_server() {
        for table in ["'component_lease_store'", "`d`.`component_lease_store`", "`component_lease_store`"] {
            let message = format!("UPDATE command denied to user 'u'@'localhost' for table {table}");
            let grant = denied(&message, "u").unwrap();
            assert_eq!(grant, "GRANT UPDATE ON component_lease_store TO 'u'@'%'; or ");
        }
        assert_eq!(denied("Access denied; you need SUPER", "u"), None);
    }
}
