//! The statements, in the same order and shape as those of the other databases, so that they can be compared
//! line by line.
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

use crate::store::sql::statement::Texts;

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

/// How a kind of server tells who it is.
const MYSQL_IDENTITY: &str = identity!("@@server_uuid", "performance_schema.global_status");
const MARIADB_IDENTITY: &str =
    identity!("@@server_id, '@', @@hostname, ':', @@port", "information_schema.GLOBAL_STATUS");

macro_rules! row {
    () => {
        "l.component_name IS NOT NULL AS present,
         COALESCE(CONVERT(LEFT(l.holder_id, {holder_read}) USING utf8mb4), HEX(LEFT(l.holder_id, {holder_read} DIV 2)), '')
         COLLATE utf8mb4_bin AS holder,
         CAST(COALESCE(l.lease_time, 0) AS SIGNED) AS lease_time, CAST(COALESCE(l.renew_time, 0) AS SIGNED) AS renew_time,
         CAST(COALESCE(l.version, 0) AS SIGNED) AS version, CAST(COALESCE(CEIL(l.ttl), 0) AS SIGNED) AS ttl"
    };
}

/// `{own_identity}` is what the server says of itself now.
macro_rules! record {
    () => {
        "{own_identity} AS identity, s.identity AS recorded, s.epoch AS epoch, CAST(s.settled AS SIGNED) AS settled,
         CAST(s.max_ttl AS SIGNED) AS max_ttl"
    };
}

macro_rules! no_record {
    () => {
        "CAST(NULL AS CHAR) AS identity, CAST(NULL AS CHAR) AS recorded, CAST(NULL AS SIGNED) AS epoch,
         CAST(NULL AS SIGNED) AS settled, CAST(NULL AS SIGNED) AS max_ttl"
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
            " AS now, ",
            row!(),
            ", ",
            $intent,
            " AS standing_ttl, ",
            $record,
            ", ",
            name!(),
            " AS name, ",
            $highest,
            " AS highest
            FROM (SELECT 1) AS always
            LEFT JOIN component_lease AS l ON l.component_name = :component",
            $joins
        )
    };
}

/// Seconds of this server's clock since 2026, up to a latest date.
macro_rules! date {
    () => {
        "LEAST(GREATEST(TIMESTAMPDIFF(SECOND, '1970-01-01', SYSDATE()) - {epoch_zero}, 0), :latest_date)"
    };
}

/// The names that are asked for, from a JSON array. A column's index is used only by a comparison in its own
/// collation, so that of `component_lease.component_name` comes where `{collation}` stands.
macro_rules! names {
    () => {
        "JSON_TABLE(:names, '$[*]' COLUMNS (
             name VARCHAR(253) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$',
             of_lease VARCHAR(253) {collation} PATH '$')) AS n"
    };
}

/// First the clock and the life of the database, without a name; then rows, then intents. Not joined: two tables
/// with different collations would not be, and trailing blanks would not count.
macro_rules! look_at {
    ($record:expr, $store:literal, $intents:expr) => {
        concat!(
            "SELECT ",
            now!(),
            " AS now, 0 AS present, '' COLLATE utf8mb4_bin AS holder, 0 AS lease_time, 0 AS renew_time, 0 AS version, 0 AS ttl,
                    CAST(NULL AS SIGNED) AS standing_ttl, ",
            $record,
            ", CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS name
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
            "
            FROM ",
            names!(),
            " STRAIGHT_JOIN component_lease AS l ON l.component_name = n.of_lease",
            $intents
        )
    };
}

const LOOK: &str = look!(
    "CAST(i.ttl AS SIGNED)",
    record!(),
    "(SELECT CAST(MAX(h.version) AS SIGNED) FROM component_lease_history AS h WHERE h.component_name = :component)",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = :component
    LEFT JOIN component_lease_store AS s ON s.id = 1"
);

const LOOK_BARE: &str = look!("CAST(NULL AS SIGNED)", no_record!(), "CAST(NULL AS SIGNED)", "");

const LOOK_AT: &str = look_at!(
    record!(),
    "
    LEFT JOIN component_lease_store AS s ON s.id = 1",
    concat!(
        "
        UNION ALL
        SELECT NULL, 0, '' COLLATE utf8mb4_bin, 0, 0, 0, 0, CAST(i.ttl AS SIGNED), ",
        no_record!(),
        ", i.component_name COLLATE utf8mb4_bin
        FROM ",
        names!(),
        " STRAIGHT_JOIN component_lease_intent AS i ON i.component_name = n.name"
    )
);

const LOOK_AT_BARE: &str = look_at!(no_record!(), "", "");

/// Whoever may write that table could fill it: so many of a component (its holder first, then who says that it
/// leads, then the newest), so many in all, and of these the first of each.
const INSTANCES: &str = concat!(
    "SELECT c.id, c.component_name AS component, c.instance AS holder, c.start_time, c.heartbeat, c.heartbeat_ttl AS lasts,
            c.namespace, c.pod, c.pod_uid, c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode,
            c.longest_promise, c.promises_outside
     FROM (SELECT c.*, ROW_NUMBER() OVER (
                      PARTITION BY c.component_name
                      ORDER BY COALESCE(CAST(CONVERT(LEFT(l.holder_id, {holder_read}) USING utf8mb4) AS BINARY)
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
     WHERE c.place <= {instances_each}
     ORDER BY c.place, c.id DESC LIMIT {instances_in_all}"
);

/// One transaction in one text, so that it is one round trip and
/// no lock waits for a taker that vanished; the values stand in it. One row: how many terms were begun.
///
/// The life is locked, so that no epoch begins while a take of the one before is under way. The version must be
/// above all in the history when that is written, after the wait for the row's lock, and the row must say what was
/// written, which a trigger may have altered; else NULL is no version, and the take fails
/// (`errors::is_granted_already`) and is rolled back.
macro_rules! take {
    ($change:expr) => {
        concat!(
            "START TRANSACTION;
             SELECT COUNT(*) INTO @component_lease_life FROM component_lease_store AS s
             WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}
             LOCK IN SHARE MODE;",
            $change,
            "
             SET @component_lease_taken = ROW_COUNT();
             INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
             SELECT :component,
                    IF(l.version <> :version OR CAST(CONVERT(l.holder_id USING utf8mb4) AS BINARY) <> CAST(:holder AS BINARY)
                       OR EXISTS (SELECT 1 FROM component_lease_history AS h
                                  WHERE h.component_name = :component AND h.version >= :version), NULL, :version),
                    :holder, CAST(l.lease_time AS SIGNED), :ttl
             FROM component_lease AS l
             WHERE l.component_name = :component AND @component_lease_taken = 1;
             COMMIT;
             SELECT CAST(@component_lease_taken AS SIGNED) AS taken;"
        )
    };
}

const TAKE_MISSING: &str = take!(concat!(
    "
             SET @component_lease_now = ",
    now!(),
    ";
             INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
             SELECT :component, :holder, @component_lease_now, @component_lease_now, :version, :ttl
             FROM (SELECT 1) AS always
             WHERE COALESCE((SELECT MAX(h.version) FROM component_lease_history AS h
                             WHERE h.component_name = :component), 0) = :highest
               AND NOT EXISTS (SELECT 1 FROM component_lease AS l WHERE l.component_name = :component)
               AND @component_lease_life = 1;"
));

const TAKE_ROW: &str = take!(concat!(
    "
             UPDATE component_lease
             SET holder_id = :holder,
                 lease_time = ",
    now!(),
    ",
                 renew_time = GREATEST(",
    now!(),
    ", COALESCE(renew_time, 0) + 1),
                 version = :version,
                 ttl = :ttl
             WHERE component_name = :component AND COALESCE(version, 0) = :seen_version
               AND COALESCE(renew_time, 0) = :seen_renew_time AND @component_lease_life = 1;"
));

const BEGIN_EPOCH: &str = concat!(
    "UPDATE component_lease_store AS s
     SET s.epoch = LEAST(GREATEST(s.epoch + 1, ",
    date!(),
    ", :at_least), {epoch_max}),
         s.settled = false,
         s.identity = {own_identity}
     WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.epoch < {epoch_max}
       AND (:latest_date = 0 OR :at_least <= ",
    date!(),
    ")
       AND (:deliberate OR s.identity <> {own_identity})"
);

const FIRST_RECORD: &str = concat!(
    "INSERT INTO component_lease_store (id, uuid, identity, epoch, settled, max_ttl)
     SELECT 1, s.uuid, {own_identity}, IF(:first, 0, LEAST(GREATEST(1, ",
    date!(),
    ", :at_least), {epoch_max})), :settled, :max_ttl
     FROM (SELECT CAST(:uuid AS CHAR) AS uuid) AS s"
);

const SETTLE: &str = "
UPDATE component_lease_store AS s SET s.settled = true
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}";

/// The record is locked, as by a take.
const RELEASE_LATE: &str = "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = :component AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY)
  AND version = :version
  AND EXISTS (SELECT 1 FROM component_lease_store AS s
              WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}
              LOCK IN SHARE MODE)";

/// Apart from the look, which must not wait for a lock on that table, and without an index: it is
/// only asked where there is neither row nor history.
const CLAIMED: &str = "SELECT MAX(led) AS led FROM component_instance WHERE component_name = :component";

const MOVE_HEARTBEAT: &str = concat!(
    "UPDATE component_instance
     SET heartbeat_ttl = :lasts, healthy = :healthy, leads = :leads, led = COALESCE(GREATEST(led, :leads), :leads, led), heartbeat = ",
    now!(),
    "
     WHERE id = :id AND component_name = :component AND instance = :holder AND heartbeat + heartbeat_ttl * 1000 >= ",
    now!()
);

const BEGIN_INSTANCE: &str = concat!(
    "INSERT INTO component_instance (component_name, instance, heartbeat_ttl, healthy, leads, led, namespace, pod, pod_uid,
                                     container, node, address, program_version, mode, longest_promise,
                                     promises_outside, start_time, heartbeat)
     VALUES (:component, :holder, :lasts, :healthy, :leads, :leads, :namespace, :pod, :pod_uid, :container, :node, :address, :program_version, :mode, :longest_promise, :promises_outside, ",
    now!(),
    ", start_time)"
);

const PRUNE_INSTANCES: &str =
    concat!("DELETE FROM component_instance WHERE heartbeat < ", now!(), " - :older_than");

const TAKE_MISSING_BARE: &str = concat!(
    "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
     VALUES (:component, :holder, ",
    now!(),
    ", lease_time, :version, :ttl)"
);

const TAKE_ROW_BARE: &str = concat!(
    "UPDATE component_lease
     SET holder_id = :holder,
         lease_time = ",
    now!(),
    ",
         renew_time = GREATEST(",
    now!(),
    ", COALESCE(renew_time, 0) + 1),
         version = :version,
         ttl = :ttl
     WHERE component_name = :component AND COALESCE(version, 0) = :seen_version AND COALESCE(renew_time, 0) = :seen_renew_time"
);

const RENEW: &str = concat!(
    "UPDATE component_lease
     SET renew_time = GREATEST(",
    now!(),
    ", COALESCE(renew_time, 0) + 1)
     WHERE component_name = :component AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY) AND version = :version"
);

const RELEASE: &str = "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = :component AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY) AND version = :version";

const SET_INTENT: &str = "
INSERT INTO component_lease_intent (component_name, ttl) VALUES (:component, :ttl)
ON DUPLICATE KEY UPDATE ttl = :ttl";

const CLEAR_INTENT: &str = "
UPDATE component_lease_intent SET ttl = NULL WHERE component_name = :component AND ttl IS NOT NULL";

/// A view in its place may show less. Neither server tells which triggers are there without a right to.
macro_rules! still {
    ($same:literal) => {
        concat!(
            "SELECT ",
            $same,
            " AS same, CAST(NULL AS CHAR) AS triggers,
                    EXISTS (SELECT 1 FROM information_schema.TABLES
                            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease' AND TABLE_TYPE <> 'VIEW') AS is_table"
        )
    };
}

/// Whether a row that a change did not find is there as it was: asked where "no row" may not be the whole truth.
const STILL_LED: &str = still!(
    "EXISTS (SELECT 1 FROM component_lease
             WHERE component_name = :component AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY)
               AND version = :version)"
);

const STILL_SEEN: &str = still!(
    "EXISTS (SELECT 1 FROM component_lease
             WHERE component_name = :component AND COALESCE(version, 0) = :seen_version
               AND COALESCE(renew_time, 0) = :seen_renew_time)"
);

const STILL_MISSING: &str =
    still!("NOT EXISTS (SELECT 1 FROM component_lease WHERE component_name = :component)");

const RECORD_STEP: &str = concat!(
    "INSERT IGNORE INTO component_lease_schema (version, applied_at, foreign_lease_table) VALUES (:version, ",
    now!(),
    ", :is_foreign)"
);

/// For one kind of server. `column` is the character set and the collation of `component_lease.component_name`; `None`
/// for bytes.
pub(super) fn texts(mariadb: bool, column: Option<(&str, &str)>) -> Texts {
    let word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let (set, collation) =
        column.filter(|(set, collation)| word(set) && word(collation)).unwrap_or(("utf8mb4", "utf8mb4_bin"));
    let collation = format!("CHARACTER SET {set} COLLATE {collation}");
    let identity = if mariadb { MARIADB_IDENTITY } else { MYSQL_IDENTITY };
    let of_server =
        |text: &str| text.replace("{own_identity}", identity).replace("{collation}", &collation).into();
    Texts {
        look: of_server(LOOK),
        look_bare: LOOK_BARE.into(),
        claimed: CLAIMED.into(),
        take_missing: of_server(TAKE_MISSING),
        take_missing_bare: TAKE_MISSING_BARE.into(),
        take_row: of_server(TAKE_ROW),
        take_row_bare: TAKE_ROW_BARE.into(),
        renew: RENEW.into(),
        release: RELEASE.into(),
        release_late: of_server(RELEASE_LATE),
        look_at: of_server(LOOK_AT),
        look_at_bare: of_server(LOOK_AT_BARE),
        instances: of_server(INSTANCES),
        move_heartbeat: MOVE_HEARTBEAT.into(),
        begin_instance: BEGIN_INSTANCE.into(),
        prune_instances: PRUNE_INSTANCES.into(),
        set_intent: SET_INTENT.into(),
        clear_intent: CLEAR_INTENT.into(),
        begin_epoch: of_server(BEGIN_EPOCH),
        first_record: of_server(FIRST_RECORD),
        settle: of_server(SETTLE),
        record_step: RECORD_STEP.into(),
        still_led: STILL_LED.into(),
        still_seen: STILL_SEEN.into(),
        still_missing: STILL_MISSING.into(),
    }
}
