//! The statements, in the same order and shape as those of `sqlite/statements.rs`, so that the two
//! can be compared line by line.
//!
//! Time is `clock_timestamp()`, evaluated where it stands: after the wait for a row lock. `now()` is
//! from before it. Values that a foreign program left NULL count as 0 or empty.

/// The server's own, whatever is recorded: the timeline from the log that is being written (the
/// control file lags a promotion), the start time because a volume that was put back has the same
/// name, the UUID of the record, to which `s` must refer, and the OIDs of the database and of its tables: a
/// database that was restored beside and renamed has another, and so have tables that were dropped and made anew.
macro_rules! identity {
    () => {
        "(SELECT c.system_identifier FROM pg_control_system() AS c)
         || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
         || '/' || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
         || '/' || coalesce(s.uuid::text, '')
         || '/' || (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
         || '.' || coalesce(to_regclass('component_lease')::oid, 0)
         || '.' || coalesce(to_regclass('component_lease_history')::oid, 0)
         || '.' || coalesce(to_regclass('component_lease_store')::oid, 0)"
    };
}

/// Nothing unless the server is the one that is recorded and the one that the decision saw, in the
/// same epoch. Locked, so that no epoch begins while a take of the one before is under way.
macro_rules! life {
    ($identity:literal, $epoch:literal) => {
        concat!(
            "life AS MATERIALIZED (
                SELECT s.id FROM component_lease_store AS s
                WHERE s.id = 1 AND s.identity = ",
            $identity,
            " AND s.epoch = ",
            $epoch,
            "::bigint
                  AND s.identity = ",
            identity!(),
            "
                FOR SHARE
            )"
        )
    };
}

macro_rules! row {
    () => {
        "l.component_name IS NOT NULL, coalesce(l.holder_id, ''),
         coalesce(l.lease_time::bigint, 0), coalesce(l.renew_time::bigint, 0),
         coalesce(l.version::bigint, 0), coalesce(ceil(l.ttl::numeric)::bigint, 0)"
    };
}

macro_rules! record {
    () => {
        concat!(identity!(), ", s.identity::text, s.epoch, s.settled, s.max_ttl")
    };
}

macro_rules! look {
    ($intent:literal, $record:expr, $highest:literal, $joins:literal) => {
        concat!(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, ",
            row!(),
            ", ",
            $intent,
            ", ",
            $record,
            ", ",
            $highest,
            "
            FROM (VALUES (1)) AS always (present)
            LEFT JOIN component_lease AS l ON l.component_name = $1",
            $joins
        )
    };
}

macro_rules! no_record {
    () => {
        "NULL::text, NULL::text, NULL::bigint, NULL::boolean, NULL::integer"
    };
}

/// Whether the row has what the take says, and no trigger wrote something else: then the history gets no
/// version, which it refuses, and nothing is taken.
macro_rules! written {
    () => {
        "(component_name::text = $1::text AND holder_id::text = $2::text AND version::bigint = $3::bigint
          AND ttl::bigint = $4::bigint)"
    };
}

/// Seconds of this server's clock since 2026, `domain::life::EPOCH_ZERO`.
macro_rules! date {
    ($latest:literal) => {
        concat!(
            "least(greatest(floor(extract(epoch FROM clock_timestamp()))::bigint - 1767225600, 0), ",
            $latest,
            "::bigint)"
        )
    };
}

/// `domain::life::EPOCH_MAX`.
macro_rules! epoch_max {
    () => {
        "9007199253"
    };
}

macro_rules! look_all {
    ($intent:literal, $record:expr, $name:literal, $joins:literal) => {
        concat!(
            "SELECT (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint), ",
            row!(),
            ", ",
            $intent,
            ", ",
            $record,
            ", ",
            $name,
            "
            FROM (VALUES (1)) AS always (present)",
            $joins
        )
    };
}

pub(super) const LOOK: &str = look!(
    "i.ttl",
    record!(),
    "(SELECT max(h.version) FROM component_lease_history AS h WHERE h.component_name = $1)",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = $1
    LEFT JOIN component_lease_store AS s ON s.id = 1"
);

/// Apart from the look, which must not wait for a lock on that table, and without an index: it is
/// only asked where there is neither row nor history.
pub(super) const CLAIMED: &str = "SELECT max(led) FROM component_instance WHERE component_name = $1";

pub(super) const LOOK_WITHOUT_LIFE: &str = look!(
    "i.ttl",
    no_record!(),
    "NULL::bigint",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = $1"
);

pub(super) const LOOK_BARE: &str = look!("NULL::integer", no_record!(), "NULL::bigint", "");

pub(super) const TAKE_MISSING: &str = concat!(
    "WITH ",
    life!("$6", "$7"),
    ", taken AS (
        INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
        SELECT $1::text, $2::text, t.ms, t.ms, $3::bigint, $4::integer
        FROM life, (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS t
        WHERE coalesce((SELECT max(h.version) FROM component_lease_history AS h
                        WHERE h.component_name = $1::text), 0) = $5::bigint
        ON CONFLICT DO NOTHING
        RETURNING lease_time::bigint AS lease_time, ",
    written!(),
    " AS written
    )
    INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
    SELECT $1::text, CASE WHEN t.written THEN $3::bigint END, $2::text, t.lease_time, $4::integer FROM taken AS t"
);

pub(super) const TAKE_MISSING_BARE: &str = concat!(
    "
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT $1::text, $2::text, t.ms, t.ms, $3::bigint, $4::integer
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS t
ON CONFLICT DO NOTHING
RETURNING 1 / (CASE WHEN ",
    written!(),
    " THEN 1 ELSE 0 END)"
);

// The life comes last: whoever is late by the row alone locks nothing.
pub(super) const TAKE_ROW: &str = concat!(
    "WITH ", life!("$7", "$8"), ", taken AS (
        UPDATE component_lease
        SET holder_id = $2::text,
            lease_time = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
            renew_time = greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, coalesce(renew_time, 0) + 1),
            version = $3::bigint,
            ttl = $4::integer
        WHERE component_name = $1::text AND coalesce(version, 0) = $5::bigint AND coalesce(renew_time, 0) = $6::bigint
          AND EXISTS (SELECT FROM life)
        RETURNING lease_time::bigint AS lease_time, ", written!(), " AS written
    )
    INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
    SELECT $1::text, CASE WHEN t.written THEN $3::bigint END, $2::text, t.lease_time, $4::integer FROM taken AS t"
);

pub(super) const TAKE_ROW_BARE: &str = concat!(
    "
UPDATE component_lease
SET holder_id = $2::text,
    lease_time = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    renew_time = greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, coalesce(renew_time, 0) + 1),
    version = $3::bigint,
    ttl = $4::integer
WHERE component_name = $1 AND coalesce(version, 0) = $5::bigint AND coalesce(renew_time, 0) = $6::bigint
RETURNING 1 / (CASE WHEN ", written!(), " THEN 1 ELSE 0 END)"
);

/// A trigger that leaves the renewal time as it was would let a leader go on whom followers take for dead:
/// then the division fails, and nothing is renewed. (The inner SELECT sees the row as it was before.)
pub(super) const RENEW: &str = "
UPDATE component_lease
SET renew_time = greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, coalesce(renew_time, 0) + 1)
WHERE component_name = $1 AND holder_id = $2 AND version = $3::bigint
RETURNING 1 / (CASE WHEN renew_time::bigint > (SELECT coalesce(o.renew_time, 0)::bigint FROM component_lease AS o
                                               WHERE o.component_name = $1) THEN 1 ELSE 0 END)";

pub(super) const RELEASE: &str = "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = $1 AND holder_id = $2 AND version = $3::bigint";

pub(super) const RELEASE_LATE: &str = concat!(
    "WITH ",
    life!("$4", "$5"),
    "
    UPDATE component_lease
    SET holder_id = '', renew_time = 0
    WHERE component_name = $1 AND holder_id = $2 AND version = $3::bigint AND EXISTS (SELECT FROM life)"
);

macro_rules! look_all_with_life {
    () => {
        look_all!(
            "i.ttl",
            record!(),
            "coalesce(l.component_name, i.component_name)",
            r#"
    LEFT JOIN component_lease_store AS s ON s.id = 1
    LEFT JOIN (component_lease AS l
               FULL JOIN component_lease_intent AS i ON i.component_name = l.component_name COLLATE "C") ON true"#
        )
    };
}

pub(super) const LOOK_ALL: &str = look_all_with_life!();

/// Behind the rows the instances that are alive. Whoever may write the table could fill it.
pub(super) const LOOK_ALL_WITH_INSTANCES: &str = concat!(
    "SELECT b.*, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint, NULL::integer, NULL::text, NULL::text, NULL::text,
            NULL::text, NULL::text, NULL::text, NULL::text, NULL::boolean, NULL::bigint, NULL::text, NULL::bigint,
            NULL::boolean
     FROM (",
    look_all_with_life!(),
    ") AS b
     UNION ALL
     SELECT NULL, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.component_name,
            c.id, c.instance, c.start_time, c.heartbeat, c.heartbeat_ttl, c.namespace, c.pod, c.pod_uid,
            c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode, c.longest_promise,
            c.promises_outside
     FROM (SELECT * FROM component_instance
           WHERE heartbeat + heartbeat_ttl * 1000::bigint >= (extract(epoch FROM clock_timestamp()) * 1000)::bigint
           ORDER BY id DESC LIMIT 20000) AS c"
);

/// `$1` the row, if there is one; `$2` to `$4` component, holder, how long a heartbeat lasts; `$5` to `$11` where
/// and what it is; `$12` and `$13` what it says of itself now; `$14` to `$16` how it works and what it promises.
pub(super) const BEAT: &str = "
WITH moved AS (
    UPDATE component_instance
    SET heartbeat = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        heartbeat_ttl = $4::integer, healthy = $12::boolean, leads = $13::bigint,
        led = greatest(led, $13::bigint)
    WHERE id = $1::bigint AND component_name = $2::text AND instance = $3::text
      AND heartbeat + heartbeat_ttl * 1000::bigint >= (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    RETURNING id
), made AS (
    INSERT INTO component_instance (component_name, instance, start_time, heartbeat, heartbeat_ttl, namespace, pod,
                                    pod_uid, container, node, address, program_version, healthy, leads, led, mode,
                                    longest_promise, promises_outside)
    SELECT $2::text, $3::text, t.ms, t.ms, $4::integer, $5::text, $6::text, $7::text, $8::text, $9::text,
           $10::text, $11::text, $12::boolean, $13::bigint, $13::bigint, $14::text, $15::bigint, $16::boolean
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS t
    WHERE NOT EXISTS (SELECT FROM moved)
    RETURNING id
)
SELECT id FROM moved UNION ALL SELECT id FROM made";

pub(super) const PRUNE_INSTANCES: &str = "
DELETE FROM component_instance
WHERE heartbeat < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1::bigint";

pub(super) const LOOK_ALL_WITHOUT_LIFE: &str = look_all!(
    "i.ttl",
    no_record!(),
    "coalesce(l.component_name, i.component_name)",
    r#"
    LEFT JOIN (component_lease AS l
               FULL JOIN component_lease_intent AS i ON i.component_name = l.component_name COLLATE "C") ON true"#
);

pub(super) const LOOK_ALL_BARE: &str =
    look_all!("NULL::integer", no_record!(), "l.component_name", " LEFT JOIN component_lease AS l ON true");

pub(super) const SET_INTENT: &str = "
INSERT INTO component_lease_intent (component_name, ttl) VALUES ($1, $2::integer)
ON CONFLICT (component_name) DO UPDATE SET ttl = excluded.ttl";

pub(super) const CLEAR_INTENT: &str = "
UPDATE component_lease_intent SET ttl = NULL WHERE component_name = $1 AND ttl IS NOT NULL";

/// `$1` the latest date that counts, `$2` the lower bound, `$3` and `$4` what was seen, `$5` whether
/// also of the recorded server. The rule is `domain::life::begin`.
pub(super) const BEGIN_EPOCH: &str = concat!(
    "UPDATE component_lease_store AS s
     SET identity = ",
    identity!(),
    ",
         epoch = least(greatest(s.epoch + 1, ",
    date!("$1"),
    ", $2::bigint), ",
    epoch_max!(),
    "),
         settled = false
     WHERE s.id = 1 AND s.identity = $3 AND s.epoch = $4::bigint AND s.epoch < ",
    epoch_max!(),
    "
       AND ($5::boolean OR s.identity <> ",
    identity!(),
    ")"
);

/// `$1` and `$2` as above, `$3` the longest ttl, `$4` whether settled, `$5` whether epoch 0.
pub(super) const FIRST_RECORD: &str = concat!(
    "WITH s AS MATERIALIZED (SELECT gen_random_uuid() AS uuid)
     INSERT INTO component_lease_store (id, identity, epoch, settled, max_ttl, uuid)
     SELECT 1, ",
    identity!(),
    ",
            CASE WHEN $5::boolean THEN 0
                 ELSE least(greatest(1, ",
    date!("$1"),
    ", $2::bigint), ",
    epoch_max!(),
    ") END,
            $4::boolean, $3::integer, s.uuid
     FROM s
     ON CONFLICT DO NOTHING"
);

pub(super) const SETTLE: &str = concat!(
    "UPDATE component_lease_store AS s SET settled = true
     WHERE s.id = 1 AND s.identity = $1 AND s.epoch = $2::bigint AND s.identity = ",
    identity!()
);
