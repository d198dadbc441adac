//! The statements, in the same order and shape as those of `postgres/statements.rs`, so that the two
//! can be compared line by line.
//!
//! Time is `SYSDATE`, evaluated where it stands: after the wait for a row lock. `NOW` is the start of
//! the statement. The session's zone is UTC; integer arithmetic from 1970 on has no end in 2038, as
//! `UNIX_TIMESTAMP` has in MariaDB before 11.5. Only an INSERT computes its values before it waits
//! (for somebody's uncommitted row of the same name): then the time may be old by that wait.
//!
//! Affected rows: sqlx asks for `FOUND_ROWS`, so they are the rows that matched. What must change
//! always does, and `ON DUPLICATE KEY UPDATE`, whose count means something else, decides nothing. Nor
//! is there an IGNORE, which would also cut what does not fit: "there is one" comes as an error.
//!
//! Text is compared byte by byte whatever the collation of somebody else's table: a holder here, a
//! component's name at the look (`same_name`). A take or renewal then names the row as the table
//! does, and is bound to the version seen with the renewal time, or to the whole holder.
//! Values that a foreign program left NULL count as 0 or empty. Of a holder no more is read than a status can
//! show; bytes that are no text are shown in hexadecimal digits, because nothing at all would mean that nobody leads.

use std::fmt::Write as _;

use sqlx::MySql;
use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;

use crate::election::{Expected, Generation, Take, TermKey};

macro_rules! now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000"
    };
}

/// The server's own, whatever is recorded, with the UUID of the record, to which `s` must refer.
///
/// When it was started, because a volume that was put back has the same name: the clock at the start
/// of the statement less the uptime, which the server computes from the very same reading. So it is
/// exact, and stays as it is when the clock steps (an uptime below 0 is shown as one of 2^64 less).
///
/// When the tables were made, together, because a dump that is loaded over them makes them anew.
macro_rules! identity {
    ($name:literal, $uptime:literal) => {
        concat!(
            "CONVERT(CONCAT(",
            $name,
            ", '/', COALESCE(TIMESTAMPDIFF(SECOND, '1970-01-01', NOW()) - CAST(CAST((
                SELECT VARIABLE_VALUE FROM ",
            $uptime,
            " WHERE VARIABLE_NAME = 'UPTIME') AS UNSIGNED) AS SIGNED), ''), '/', COALESCE(s.uuid, ''), '/', (
                SELECT COALESCE(SUM(TIMESTAMPDIFF(SECOND, '1970-01-01', t.CREATE_TIME)), 0)
                FROM information_schema.TABLES AS t
                WHERE t.TABLE_SCHEMA = DATABASE()
                  AND t.TABLE_NAME IN ('component_lease', 'component_lease_history', 'component_lease_store'))
             ) USING utf8mb4) COLLATE utf8mb4_bin"
        )
    };
}

macro_rules! mysql_identity {
    () => {
        identity!("@@server_uuid", "performance_schema.global_status")
    };
}

macro_rules! mariadb_identity {
    () => {
        identity!("@@server_id, '@', @@hostname, ':', @@port", "information_schema.GLOBAL_STATUS")
    };
}

macro_rules! row {
    () => {
        "l.component_name IS NOT NULL, COALESCE(CONVERT(LEFT(l.holder_id, 1024) USING utf8mb4), HEX(LEFT(l.holder_id, 512)), '') COLLATE utf8mb4_bin,
         CAST(COALESCE(l.lease_time, 0) AS SIGNED), CAST(COALESCE(l.renew_time, 0) AS SIGNED),
         CAST(COALESCE(l.version, 0) AS SIGNED), CAST(COALESCE(CEIL(l.ttl), 0) AS SIGNED)"
    };
}

macro_rules! record {
    ($identity:ident) => {
        concat!($identity!(), ", s.identity, s.epoch, CAST(s.settled AS SIGNED), CAST(s.max_ttl AS SIGNED)")
    };
}

macro_rules! no_record {
    () => {
        "CAST(NULL AS CHAR), CAST(NULL AS CHAR), CAST(NULL AS SIGNED), CAST(NULL AS SIGNED), CAST(NULL AS SIGNED)"
    };
}

macro_rules! name {
    () => {
        "CONVERT(l.component_name USING utf8mb4) COLLATE utf8mb4_bin"
    };
}

macro_rules! look {
    ($intent:literal, $record:expr, $highest:literal, $joins:literal) => {
        concat!(
            "SELECT ",
            now!(),
            ", ",
            row!(),
            ", ",
            $intent,
            ", ",
            $record,
            ", ",
            name!(),
            ", ",
            $highest,
            "
            FROM (SELECT 1) AS always
            LEFT JOIN component_lease AS l ON l.component_name = ?",
            $joins
        )
    };
}

/// Seconds of this server's clock since 2026, `election::life::EPOCH_ZERO`, up to a latest date.
macro_rules! date {
    () => {
        "LEAST(GREATEST(TIMESTAMPDIFF(SECOND, '1970-01-01', SYSDATE()) - 1767225600, 0), ?)"
    };
}

/// `election::life::EPOCH_MAX`.
macro_rules! epoch_max {
    () => {
        "9007199253"
    };
}

/// The names that are asked for, from a JSON array. A column's index is used only by a comparison in its own
/// collation, so `look_at.rs` puts that of `component_lease.component_name` where `{collation}` stands.
macro_rules! names {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (
             name VARCHAR(253) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$',
             of_lease VARCHAR(253) {collation} PATH '$')) AS n"
    };
}

/// `?` the names, twice, and a third time for instances. First the clock and the life of the database, without a
/// name; then rows, then intents. Not joined: two tables with different collations would not be, and trailing
/// blanks would not count.
macro_rules! look_at {
    ($record:expr, $store:literal) => {
        look_at!($record, $store, "", "")
    };
    ($record:expr, $store:literal, $more:expr, $behind:expr) => {
        concat!(
            look_at!(bare: $record, $store, $more),
            "
            UNION ALL
            SELECT NULL, 0, '' COLLATE utf8mb4_bin, 0, 0, 0, 0, CAST(i.ttl AS SIGNED), ",
            no_record!(),
            ", i.component_name COLLATE utf8mb4_bin",
            $more,
            "
            FROM ",
            names!(),
            " STRAIGHT_JOIN component_lease_intent AS i ON i.component_name = n.name",
            $behind
        )
    };
    (bare: $record:expr, $store:literal, $more:expr) => {
        concat!(
            "SELECT ",
            now!(),
            ", 0, '' COLLATE utf8mb4_bin, 0, 0, 0, 0, CAST(NULL AS SIGNED), ",
            $record,
            ", CAST(NULL AS CHAR) COLLATE utf8mb4_bin",
            $more,
            "
            FROM (SELECT 1) AS always",
            $store,
            "
            UNION ALL
            SELECT NULL, ",
            row!(),
            ", CAST(NULL AS SIGNED), ",
            no_record!(),
            ", ",
            name!(),
            $more,
            "
            FROM ",
            names!(),
            " STRAIGHT_JOIN component_lease AS l ON l.component_name = n.of_lease"
        )
    };
}

/// In the place of an instance where a row or an intent is.
macro_rules! no_instance {
    () => {
        ", CAST(NULL AS SIGNED), CAST(NULL AS CHAR) COLLATE utf8mb4_bin,
         CAST(NULL AS SIGNED), CAST(NULL AS SIGNED), CAST(NULL AS SIGNED), CAST(NULL AS CHAR) COLLATE utf8mb4_bin,
         CAST(NULL AS CHAR) COLLATE utf8mb4_bin, CAST(NULL AS CHAR) COLLATE utf8mb4_bin,
         CAST(NULL AS CHAR) COLLATE utf8mb4_bin, CAST(NULL AS CHAR) COLLATE utf8mb4_bin,
         CAST(NULL AS CHAR) COLLATE utf8mb4_bin, CAST(NULL AS CHAR) COLLATE utf8mb4_bin,
         CAST(NULL AS SIGNED), CAST(NULL AS SIGNED), CAST(NULL AS CHAR) COLLATE utf8mb4_bin,
         CAST(NULL AS SIGNED), CAST(NULL AS SIGNED)"
    };
}

/// Those that are alive. Whoever may write that table could fill it: so many of a component (its holder first, then
/// who says that it leads, then the newest), so many in all, and of these the first of each.
macro_rules! instances {
    () => {
        concat!(
            "
            UNION ALL
            SELECT NULL, 0, '' COLLATE utf8mb4_bin, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL,
                   c.component_name COLLATE utf8mb4_bin, c.id, c.instance COLLATE utf8mb4_bin, c.start_time,
                   c.heartbeat, CAST(c.heartbeat_ttl AS SIGNED), c.namespace COLLATE utf8mb4_bin,
                   c.pod COLLATE utf8mb4_bin, c.pod_uid COLLATE utf8mb4_bin, c.container COLLATE utf8mb4_bin,
                   c.node COLLATE utf8mb4_bin, c.address COLLATE utf8mb4_bin,
                   c.program_version COLLATE utf8mb4_bin, CAST(c.healthy AS SIGNED), c.leads,
                   c.mode COLLATE utf8mb4_bin, c.longest_promise, CAST(c.promises_outside AS SIGNED)
            FROM (SELECT *
                  FROM (SELECT c.*, ROW_NUMBER() OVER (
                                   PARTITION BY c.component_name
                                   ORDER BY COALESCE(CAST(CONVERT(LEFT(l.holder_id, 1024) USING utf8mb4) AS BINARY)
                                                     = CAST(c.instance AS BINARY), 0) DESC,
                                            c.leads IS NOT NULL DESC, c.id DESC
                               ) AS place
                        FROM ",
            names!(),
            " STRAIGHT_JOIN component_instance AS c ON c.component_name = n.name
                        LEFT JOIN component_lease AS l ON l.component_name = n.of_lease
                        WHERE c.heartbeat >= ",
            now!(),
            " - c.heartbeat_ttl * 1000
                       ) AS c
                  WHERE c.place <= 256
                  ORDER BY c.place, c.id DESC LIMIT 20000) AS c"
        )
    };
}

/// What differs from one kind of server to the other: how it tells who it is.
pub(super) struct Statements {
    identity: &'static str,
    /// `?` three times the component: history, lease, intent.
    pub look: &'static str,
    pub look_at: &'static str,
    pub look_at_with_instances: &'static str,
    /// `?`: the latest date that counts, the lower bound, what was seen (two), whether also of the
    /// recorded server. The rule is `election::life::begin`.
    pub begin_epoch: &'static str,
    /// `?`: whether epoch 0, the latest date and the lower bound, whether settled, the longest ttl, a
    /// new UUID.
    pub first_record: &'static str,
    /// `?`: the generation.
    pub settle: &'static str,
    /// `?`: component, holder, version, the generation. The record is locked, as by a take.
    release_late: &'static str,
}

macro_rules! statements {
    ($identity:ident) => {
        Statements {
            identity: $identity!(),
            look: look!(
                "CAST(i.ttl AS SIGNED)",
                record!($identity),
                "(SELECT CAST(MAX(h.version) AS SIGNED) FROM component_lease_history AS h WHERE h.component_name = ?)",
                "
                LEFT JOIN component_lease_intent AS i ON i.component_name = ?
                LEFT JOIN component_lease_store AS s ON s.id = 1"
            ),
            look_at: look_at!(
                record!($identity),
                "
                LEFT JOIN component_lease_store AS s ON s.id = 1"
            ),
            look_at_with_instances: look_at!(
                record!($identity),
                "
                LEFT JOIN component_lease_store AS s ON s.id = 1",
                no_instance!(),
                instances!()
            ),
            begin_epoch: concat!(
                "UPDATE component_lease_store AS s
                 SET s.epoch = LEAST(GREATEST(s.epoch + 1, ",
                date!(),
                ", ?), ",
                epoch_max!(),
                "),
                     s.settled = false,
                     s.identity = ",
                $identity!(),
                "
                 WHERE s.id = 1 AND s.identity = ? AND s.epoch = ? AND s.epoch < ",
                epoch_max!(),
                "
                   AND (? = 0 OR ? <= ",
                date!(),
                ")
                   AND (? OR s.identity <> ",
                $identity!(),
                ")"
            ),
            first_record: concat!(
                "INSERT INTO component_lease_store (id, uuid, identity, epoch, settled, max_ttl)
                 SELECT 1, s.uuid, ",
                $identity!(),
                ", IF(?, 0, LEAST(GREATEST(1, ",
                date!(),
                ", ?), ",
                epoch_max!(),
                ")), ?, ?
                 FROM (SELECT CAST(? AS CHAR) AS uuid) AS s"
            ),
            settle: concat!(
                "UPDATE component_lease_store AS s SET s.settled = true
                 WHERE s.id = 1 AND s.identity = ? AND s.epoch = ? AND s.identity = ",
                $identity!()
            ),
            release_late: concat!(
                "UPDATE component_lease
                 SET holder_id = '', renew_time = 0
                 WHERE component_name = ? AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(? AS BINARY)
                   AND version = ?
                   AND EXISTS (SELECT 1 FROM component_lease_store AS s
                               WHERE s.id = 1 AND s.identity = ? AND s.epoch = ? AND s.identity = ",
                $identity!(),
                " LOCK IN SHARE MODE)"
            ),
        }
    };
}

pub(super) const MYSQL: &Statements = &statements!(mysql_identity);
pub(super) const MARIADB: &Statements = &statements!(mariadb_identity);

pub(super) const LOOK_WITHOUT_LIFE: &str = look!(
    "CAST(i.ttl AS SIGNED)",
    no_record!(),
    "CAST(NULL AS SIGNED)",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = ?"
);

/// Apart from the look, which must not wait for a lock on that table, and without an index: it is
/// only asked where there is neither row nor history.
pub(super) const CLAIMED: &str = "SELECT MAX(led) FROM component_instance WHERE component_name = ?";

/// `?`: how long a heartbeat lasts, what the participant says of itself (two), what it leads (two more times), the row, component, holder.
pub(super) const MOVE_HEARTBEAT: &str = concat!(
    "UPDATE component_instance
     SET heartbeat_ttl = ?, healthy = ?, leads = ?, led = COALESCE(GREATEST(led, ?), ?, led), heartbeat = ",
    now!(),
    "
     WHERE id = ? AND component_name = ? AND instance = ? AND heartbeat + heartbeat_ttl * 1000 >= ",
    now!()
);

/// `?`: component, holder, how long a heartbeat lasts, what it says of itself (two), what it leads once more, where and what it is (seven),
/// how it works and what it promises (three).
pub(super) const BEGIN_INSTANCE: &str = concat!(
    "INSERT INTO component_instance (component_name, instance, heartbeat_ttl, healthy, leads, led, namespace, pod, pod_uid,
                                     container, node, address, program_version, mode, longest_promise,
                                     promises_outside, start_time, heartbeat)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ",
    now!(),
    ", start_time)"
);

/// `?` is in ms.
pub(super) const PRUNE_INSTANCES: &str =
    concat!("DELETE FROM component_instance WHERE heartbeat < ", now!(), " - ?");

pub(super) const LOOK_BARE: &str = look!("CAST(NULL AS SIGNED)", no_record!(), "CAST(NULL AS SIGNED)", "");

impl Statements {
    /// One transaction in one text, so that it is one round trip and no lock waits for a taker that
    /// vanished. Prepared statements cannot do that; so what is said stands in it, as numbers and in
    /// hexadecimal digits. One row, one column: how many terms were begun.
    ///
    /// The life is locked, so that no epoch begins while a take of the one before is under way. The
    /// version must be above all in the history when that is written, after the wait for the row's lock, and the
    /// row must say what was written, which a trigger may have altered; else NULL is no version, and the take
    /// fails (`errors::is_granted_already`) and is rolled back.
    pub(super) fn take(&self, take: &Take) -> String {
        let Take { term, ttl, expected, generation } = take;
        let (name, holder) = (text(term.component.as_str()), text(term.holder.as_str()));
        let (version, identity, epoch) = (term.version, text(&generation.identity), generation.epoch);
        let (now, own_identity) = (now!(), self.identity);
        let mut sql = format!(
            "START TRANSACTION;
             SELECT COUNT(*) INTO @component_lease_life FROM component_lease_store AS s
             WHERE s.id = 1 AND s.identity = {identity} AND s.epoch = {epoch} AND s.identity = {own_identity}
             LOCK IN SHARE MODE;"
        );
        let written = match expected {
            Expected::Missing { highest } => write!(
                sql,
                "SET @component_lease_now = {now};
                 INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
                 SELECT {name}, {holder}, @component_lease_now, @component_lease_now, {version}, {ttl}
                 FROM (SELECT 1) AS always
                 WHERE COALESCE((SELECT MAX(h.version) FROM component_lease_history AS h
                                 WHERE h.component_name = {name}), 0) = {highest}
                   AND NOT EXISTS (SELECT 1 FROM component_lease AS l WHERE l.component_name = {name})
                   AND @component_lease_life = 1;"
            ),
            Expected::Row { version: seen, renew_time } => write!(
                sql,
                "UPDATE component_lease
                 SET holder_id = {holder},
                     lease_time = {now},
                     renew_time = GREATEST({now}, COALESCE(renew_time, 0) + 1),
                     version = {version},
                     ttl = {ttl}
                 WHERE component_name = {name} AND COALESCE(version, 0) = {seen} AND COALESCE(renew_time, 0) = {renew_time}
                   AND @component_lease_life = 1;"
            ),
        };
        written.expect("a String takes all");
        sql + &format!(
            "SET @component_lease_taken = ROW_COUNT();
             INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
             SELECT {name},
                    IF(l.version <> {version} OR CAST(CONVERT(l.holder_id USING utf8mb4) AS BINARY) <> CAST({holder} AS BINARY)
                       OR EXISTS (SELECT 1 FROM component_lease_history AS h
                                  WHERE h.component_name = {name} AND h.version >= {version}), NULL, {version}),
                    {holder}, CAST(l.lease_time AS SIGNED), {ttl}
             FROM component_lease AS l
             WHERE l.component_name = {name} AND @component_lease_taken = 1;
             COMMIT;
             SELECT CAST(@component_lease_taken AS SIGNED);"
        )
    }
}

impl Statements {
    pub(super) fn release_late(
        &self,
        term: &TermKey,
        within: &Generation,
    ) -> Query<'static, MySql, MySqlArguments> {
        sqlx::query(self.release_late)
            .bind(term.component.as_str().to_owned())
            .bind(term.holder.as_str().to_owned())
            .bind(term.version)
            .bind(within.identity.clone())
            .bind(within.epoch)
    }
}

/// A literal that needs no escaping.
fn text(value: &str) -> String {
    let mut literal = String::from("_utf8mb4 X'");
    for byte in value.bytes() {
        write!(literal, "{byte:02X}").expect("a String takes all");
    }
    literal + "'"
}

pub(super) const TAKE_MISSING_BARE: &str = concat!(
    "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
     VALUES (?, ?, ",
    now!(),
    ", lease_time, ?, ?)"
);

pub(super) const TAKE_ROW_BARE: &str = concat!(
    "UPDATE component_lease
     SET holder_id = ?,
         lease_time = ",
    now!(),
    ",
         renew_time = GREATEST(",
    now!(),
    ", COALESCE(renew_time, 0) + 1),
         version = ?,
         ttl = ?
     WHERE component_name = ? AND COALESCE(version, 0) = ? AND COALESCE(renew_time, 0) = ?"
);

pub(super) const RENEW: &str = concat!(
    "UPDATE component_lease
     SET renew_time = GREATEST(",
    now!(),
    ", COALESCE(renew_time, 0) + 1)
     WHERE component_name = ? AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(? AS BINARY) AND version = ?"
);

pub(super) const RELEASE: &str = "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = ? AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(? AS BINARY) AND version = ?";

pub(super) const LOOK_AT_WITHOUT_LIFE: &str = look_at!(no_record!(), "");

pub(super) const LOOK_AT_BARE: &str = look_at!(bare: no_record!(), "", "");

pub(super) const SET_INTENT: &str = "
INSERT INTO component_lease_intent (component_name, ttl) VALUES (?, ?)
ON DUPLICATE KEY UPDATE ttl = ?";

pub(super) const CLEAR_INTENT: &str = "
UPDATE component_lease_intent SET ttl = NULL WHERE component_name = ? AND ttl IS NOT NULL";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{ComponentName, HolderId};

    #[test]
    fn what_stands_in_the_text_of_a_take_cannot_be_taken_for_sql() {
        let term = TermKey {
            component: ComponentName::new("';--\\").unwrap(),
            holder: HolderId::new("ü\"`").unwrap(),
            version: -7,
        };
        for expected in [Expected::Missing { highest: 3 }, Expected::Row { version: 1, renew_time: 2 }] {
            let generation = Generation { identity: "a'b".to_owned(), epoch: 4 };
            let sql = MYSQL.take(&Take { term: term.clone(), ttl: 9, expected, generation });
            for piece in ["';", "\\", "ü", "\"", "`", "a'b"] {
                let ours = sql.replace("X'", "").matches(piece).count();
                assert_eq!(ours, 0, "{piece} in {sql}");
            }
            assert!(sql.contains("_utf8mb4 X'273B2D2D5C'") && sql.contains("_utf8mb4 X'C3BC2260'"), "{sql}");
        }
    }
}
