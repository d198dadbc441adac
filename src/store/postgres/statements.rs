//! The statements, in the same order and shape as those of `sqlite/statements.rs`, so that the two
//! can be compared line by line.
//!
//! Time is `clock_timestamp()`, evaluated where it stands: after the wait for a row lock. `now()` is
//! from before it. Values that a foreign program left NULL count as 0 or empty; of a holder no
//! more is read than a status can show.
//!
//! Whoever may create functions in a schema of the search path could offer an operator or a function
//! that matches our types better than PostgreSQL's own, and it would run with our rights. So everything
//! but our tables is named with its schema. `{=}` stands for `OPERATOR(pg_catalog.=)` here, likewise
//! `{||}` and the others; all of these bind equally tight, from left to right. `{now}` is the server's
//! clock, `{identity}` what the server is (`identity.rs`), for which `s` must be the record.

use std::sync::OnceLock;

use super::identity::Form;
use super::table::INSPECT;

/// Nothing unless the server is the one that is recorded and the one that the decision saw, in the
/// same epoch. Locked, so that no epoch begins while a take of the one before is under way.
macro_rules! life {
    ($identity:literal, $epoch:literal) => {
        concat!(
            "life AS MATERIALIZED (
                SELECT s.id FROM component_lease_store AS s
                WHERE s.id {=} 1 AND s.identity {=} ",
            $identity,
            " AND s.epoch {=} ",
            $epoch,
            "::bigint
                  AND s.identity {=} {identity}
                FOR SHARE
            )"
        )
    };
}

/// Always true. Says to the trigger, for this transaction alone, that it need not notify: `NOTIFY` will.
macro_rules! told_later {
    () => {
        "pg_catalog.set_config('component_lease.notifies', 'later', true) IS NOT NULL"
    };
}

macro_rules! row {
    () => {
        "l.component_name IS NOT NULL, coalesce(pg_catalog.left(l.holder_id, 1024), ''),
         coalesce(l.lease_time::bigint, 0), coalesce(l.renew_time::bigint, 0),
         coalesce(l.version::bigint, 0), coalesce(pg_catalog.ceil(l.ttl::numeric)::bigint, 0)"
    };
}

macro_rules! record {
    () => {
        "{identity}, s.identity::pg_catalog.text, s.epoch, s.settled, s.max_ttl"
    };
}

macro_rules! look {
    ($intent:literal, $record:expr, $highest:literal, $joins:literal) => {
        concat!(
            "SELECT {now}, ",
            row!(),
            ", ",
            $intent,
            ", ",
            $record,
            ", ",
            $highest,
            "
            FROM (VALUES (1)) AS always (present)
            LEFT JOIN component_lease AS l ON l.component_name {=} $1",
            $joins
        )
    };
}

macro_rules! no_record {
    () => {
        "NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::bigint, NULL::boolean, NULL::integer"
    };
}

/// Whether the row has what the take says, and no trigger wrote something else: then the history gets no
/// version, which it refuses, and nothing is taken.
macro_rules! written {
    () => {
        "(component_name::varchar {=} $1::varchar AND holder_id::varchar {=} $2::varchar
          AND version::bigint {=} $3::bigint AND ttl::bigint {=} $4::bigint)"
    };
}

/// Seconds of this server's clock since 2026, `election::life::EPOCH_ZERO`.
macro_rules! date {
    ($latest:literal) => {
        concat!(
            "least(greatest(pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()))::bigint {-} 1767225600, 0), ",
            $latest,
            "::bigint)"
        )
    };
}

/// `election::life::EPOCH_MAX`.
macro_rules! epoch_max {
    () => {
        "9007199253"
    };
}

/// In the place of an instance where something else is.
macro_rules! no_instance {
    () => {
        ", NULL::bigint, NULL::pg_catalog.text, NULL::bigint, NULL::bigint, NULL::integer, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text,
         NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::boolean, NULL::bigint, NULL::pg_catalog.text, NULL::bigint, NULL::boolean"
    };
}

/// `$1` the names. First the clock and the life of the database, without a name; then what there is of each name.
/// The collations of the columns decide: a parameter has none of its own.
macro_rules! look_at {
    ($intent:literal, $record:expr, $store:literal, $joins:literal, $is_there:literal, $more:expr, $behind:expr) => {
        concat!(
            "SELECT {now}, false, NULL::pg_catalog.text, NULL::bigint, NULL::bigint,
                    NULL::bigint, NULL::bigint, NULL::integer, ",
            $record,
            ", NULL::pg_catalog.text",
            $more,
            "
            FROM (VALUES (1)) AS always (present)",
            $store,
            "
            UNION ALL
            SELECT NULL, ",
            row!(),
            ", ",
            $intent,
            ", ",
            no_record!(),
            ", n.name",
            $more,
            "
            FROM pg_catalog.unnest($1::pg_catalog.text[]) AS n (name)
            LEFT JOIN component_lease AS l ON l.component_name {=} n.name",
            $joins,
            "
            WHERE ",
            $is_there,
            $behind
        )
    };
}

macro_rules! look_at_with_life {
    ($more:expr, $behind:expr) => {
        look_at!(
            "i.ttl",
            record!(),
            "
            LEFT JOIN component_lease_store AS s ON s.id {=} 1",
            "
            LEFT JOIN component_lease_intent AS i ON i.component_name {=} n.name",
            "l.component_name IS NOT NULL OR i.component_name IS NOT NULL",
            $more,
            $behind
        )
    };
}

const LOOK: &str = look!(
    "i.ttl",
    record!(),
    "(SELECT pg_catalog.max(h.version) FROM component_lease_history AS h WHERE h.component_name {=} $1)",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name {=} $1
    LEFT JOIN component_lease_store AS s ON s.id {=} 1"
);

/// Apart from the look, which must not wait for a lock on that table, and without an index: it is
/// only asked where there is neither row nor history.
const CLAIMED: &str = "SELECT pg_catalog.max(led) FROM component_instance WHERE component_name {=} $1";

const LOOK_WITHOUT_LIFE: &str = look!(
    "i.ttl",
    no_record!(),
    "NULL::bigint",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name {=} $1"
);

const LOOK_BARE: &str = look!("NULL::integer", no_record!(), "NULL::bigint", "");

const TAKE_MISSING: &str = concat!(
    "WITH ",
    life!("$6", "$7"),
    ", taken AS (
        INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
        SELECT $1::varchar, $2::varchar, t.ms, t.ms, $3::bigint, $4::integer
        FROM life, (SELECT {now} AS ms) AS t
        WHERE coalesce((SELECT pg_catalog.max(h.version) FROM component_lease_history AS h
                        WHERE h.component_name {=} $1::varchar), 0) {=} $5::bigint
          AND ",
    told_later!(),
    "
        ON CONFLICT DO NOTHING
        RETURNING lease_time::bigint AS lease_time, ",
    written!(),
    " AS written
    )
    INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
    SELECT $1::varchar, CASE WHEN t.written THEN $3::bigint END, $2::varchar, t.lease_time, $4::integer FROM taken AS t"
);

const TAKE_MISSING_BARE: &str = concat!(
    "
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT $1::varchar, $2::varchar, t.ms, t.ms, $3::bigint, $4::integer
FROM (SELECT {now} AS ms) AS t
WHERE ",
    told_later!(),
    "
ON CONFLICT DO NOTHING
RETURNING 1 {/} (CASE WHEN ",
    written!(),
    " THEN 1 ELSE 0 END)"
);

// The life comes last: whoever is late by the row alone locks nothing.
const TAKE_ROW: &str = concat!(
    "WITH ",
    life!("$7", "$8"),
    ", taken AS (
        UPDATE component_lease
        SET holder_id = $2::varchar,
            lease_time = {now},
            renew_time = greatest({now}, coalesce(renew_time, 0) {+} 1),
            version = $3::bigint,
            ttl = $4::integer
        WHERE component_name {=} $1::varchar AND coalesce(version, 0) {=} $5::bigint AND coalesce(renew_time, 0) {=} $6::bigint
          AND EXISTS (SELECT FROM life) AND ", told_later!(), "
        RETURNING lease_time::bigint AS lease_time, ", written!(), " AS written
    )
    INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
    SELECT $1::varchar, CASE WHEN t.written THEN $3::bigint END, $2::varchar, t.lease_time, $4::integer FROM taken AS t"
);

const TAKE_ROW_BARE: &str = concat!(
    "
UPDATE component_lease
SET holder_id = $2::varchar,
    lease_time = {now},
    renew_time = greatest({now}, coalesce(renew_time, 0) {+} 1),
    version = $3::bigint,
    ttl = $4::integer
WHERE component_name {=} $1::varchar AND coalesce(version, 0) {=} $5::bigint AND coalesce(renew_time, 0) {=} $6::bigint
  AND ",
    told_later!(),
    "
RETURNING 1 {/} (CASE WHEN ",
    written!(),
    " THEN 1 ELSE 0 END)"
);

/// A trigger that leaves the renewal time as it was would let a leader go on whom followers take for dead:
/// then the division fails, and nothing is renewed. (The inner SELECT sees the row as it was before.)
const RENEW: &str = "
UPDATE component_lease
SET renew_time = greatest({now}, coalesce(renew_time, 0) {+} 1)
WHERE component_name {=} $1 AND holder_id {=} $2 AND version {=} $3::bigint
RETURNING 1 {/} (CASE WHEN renew_time::bigint {>} (SELECT coalesce(o.renew_time, 0)::bigint FROM component_lease AS o
                                                   WHERE o.component_name {=} $1) THEN 1 ELSE 0 END)";

const RELEASE: &str = concat!(
    "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name {=} $1 AND holder_id {=} $2 AND version {=} $3::bigint AND ",
    told_later!()
);

const RELEASE_LATE: &str = concat!(
    "WITH ",
    life!("$4", "$5"),
    "
    UPDATE component_lease
    SET holder_id = '', renew_time = 0
    WHERE component_name {=} $1 AND holder_id {=} $2 AND version {=} $3::bigint AND EXISTS (SELECT FROM life)
      AND ",
    told_later!()
);

/// Apart from what changes the holder: a commit that notifies waits for all others that do, and fails where
/// the server's queue is full. The wait is for a lock.
const NOTIFY: &str = "SELECT pg_catalog.set_config('lock_timeout', '200ms', true), pg_catalog.pg_notify('component_lease', $1)";

const LOOK_AT: &str = look_at_with_life!("", "");

/// Behind the rows the instances that are alive. Whoever may write that table could fill it: so many of a component
/// (its holder first, then who says that it leads, then the newest), so many in all, and of these the first of each.
const LOOK_AT_WITH_INSTANCES: &str = look_at_with_life!(
    no_instance!(),
    r#"
    UNION ALL
    SELECT NULL, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.component_name,
           c.id, c.instance, c.start_time, c.heartbeat, c.heartbeat_ttl, c.namespace, c.pod, c.pod_uid,
           c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode, c.longest_promise,
           c.promises_outside
    FROM (SELECT *
          FROM (SELECT c.*, pg_catalog.row_number() OVER (
                           PARTITION BY c.component_name
                           ORDER BY (c.instance {=} (l.holder_id COLLATE pg_catalog."C")) IS TRUE DESC, c.leads IS NOT NULL DESC, c.id DESC
                       ) AS place
                FROM pg_catalog.unnest($1::pg_catalog.text[]) AS n (name)
                JOIN component_instance AS c ON c.component_name {=} n.name
                LEFT JOIN component_lease AS l ON l.component_name {=} n.name
                WHERE c.heartbeat {>=} ({now} {-} (c.heartbeat_ttl {*} 1000::bigint))
               ) AS c
          WHERE c.place {<=} 256
          ORDER BY c.place, c.id DESC LIMIT 20000) AS c"#
);

/// `$1` the row, if there is one; `$2` to `$4` component, holder, how long a heartbeat lasts; `$5` to `$11` where
/// and what it is; `$12` and `$13` what it says of itself now; `$14` to `$16` how it works and what it promises.
const BEAT: &str = "
WITH moved AS (
    UPDATE component_instance
    SET heartbeat = {now},
        heartbeat_ttl = $4::integer, healthy = $12::boolean, leads = $13::bigint,
        led = greatest(led, $13::bigint)
    WHERE id {=} $1::bigint AND component_name {=} $2::varchar AND instance {=} $3::varchar
      AND (heartbeat {+} (heartbeat_ttl {*} 1000::bigint)) {>=} {now}
    RETURNING id
), made AS (
    INSERT INTO component_instance (component_name, instance, start_time, heartbeat, heartbeat_ttl, namespace, pod,
                                    pod_uid, container, node, address, program_version, healthy, leads, led, mode,
                                    longest_promise, promises_outside)
    SELECT $2::varchar, $3::varchar, t.ms, t.ms, $4::integer, $5::varchar, $6::varchar, $7::varchar, $8::varchar,
           $9::varchar, $10::varchar, $11::varchar, $12::boolean, $13::bigint, $13::bigint, $14::varchar, $15::bigint,
           $16::boolean
    FROM (SELECT {now} AS ms) AS t
    WHERE NOT EXISTS (SELECT FROM moved)
    RETURNING id
)
SELECT id FROM moved UNION ALL SELECT id FROM made";

const PRUNE_INSTANCES: &str = "
DELETE FROM component_instance
WHERE heartbeat {<} ({now} {-} $1::bigint)";

const LOOK_AT_WITHOUT_LIFE: &str = look_at!(
    "i.ttl",
    no_record!(),
    "",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name {=} n.name",
    "l.component_name IS NOT NULL OR i.component_name IS NOT NULL",
    "",
    ""
);

const LOOK_AT_BARE: &str =
    look_at!("NULL::integer", no_record!(), "", "", "l.component_name IS NOT NULL", "", "");

const SET_INTENT: &str = "
INSERT INTO component_lease_intent (component_name, ttl) VALUES ($1, $2::integer)
ON CONFLICT (component_name) DO UPDATE SET ttl = excluded.ttl";

const CLEAR_INTENT: &str = "
UPDATE component_lease_intent SET ttl = NULL WHERE component_name {=} $1 AND ttl IS NOT NULL";

/// `$1` the latest date that counts, `$2` the lower bound, `$3` and `$4` what was seen, `$5` whether
/// also of the recorded server. The rule is `election::life::begin`.
const BEGIN_EPOCH: &str = concat!(
    "UPDATE component_lease_store AS s
     SET identity = {identity},
         epoch = least(greatest(s.epoch {+} 1, ",
    date!("$1"),
    ", $2::bigint), ",
    epoch_max!(),
    "),
         settled = false
     WHERE s.id {=} 1 AND s.identity {=} $3 AND s.epoch {=} $4::bigint AND s.epoch {<} ",
    epoch_max!(),
    "
       AND ($1::bigint {=} 0 OR $2::bigint {<=} ",
    date!("$1"),
    ")
       AND ($5::boolean OR s.identity {<>} {identity})"
);

/// `$1` and `$2` as above, `$3` the longest ttl, `$4` whether settled, `$5` whether epoch 0.
const FIRST_RECORD: &str = concat!(
    "WITH s AS MATERIALIZED (SELECT NULL::pg_catalog.text AS identity, pg_catalog.gen_random_uuid() AS uuid)
     INSERT INTO component_lease_store (id, identity, epoch, settled, max_ttl, uuid)
     SELECT 1, {identity},
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

const SETTLE: &str = "
UPDATE component_lease_store AS s SET settled = true
WHERE s.id {=} 1 AND s.identity {=} $1 AND s.epoch {=} $2::bigint AND s.identity {=} {identity}";

/// Whether another connection would find room. Only the server knows of all the others: where it has none
/// left for a program that needs its first, whoever has two gives one back.
const ROOM: &str = "
SELECT NOT (r.rolconnlimit {>=} 0 AND NOT r.rolsuper
            AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.usesysid {=} r.oid) {>=} r.rolconnlimit)
   AND NOT (d.datconnlimit {>=} 0 AND NOT r.rolsuper
            AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid {=} d.oid) {>=} d.datconnlimit)
   AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid IS NOT NULL)
       {<} (pg_catalog.current_setting('max_connections')::bigint
            {-} pg_catalog.current_setting('superuser_reserved_connections')::bigint
            {-} coalesce(pg_catalog.current_setting('reserved_connections', true)::bigint, 0))
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname {=} session_user AND d.datname {=} pg_catalog.current_database()";

macro_rules! statements {
    ($($name:ident: $template:expr,)*) => {
        /// As they are sent, for one form of the server's identity.
        pub(super) struct Statements {
            $(pub(super) $name: &'static str,)*
        }

        impl Statements {
            fn new(form: Form) -> Self {
                let text = |template: &str| qualified(&template.replace("{identity}", &form.sql()));
                // A few hundred bytes each, once for each form that this process meets.
                Self { $($name: text($template).leak(),)* }
            }

            #[cfg(test)]
            fn all(&self) -> Vec<&'static str> {
                vec![$(self.$name,)*]
            }
        }
    };
}

statements! {
    inspect: INSPECT,
    look: LOOK,
    look_without_life: LOOK_WITHOUT_LIFE,
    look_bare: LOOK_BARE,
    claimed: CLAIMED,
    take_missing: TAKE_MISSING,
    take_missing_bare: TAKE_MISSING_BARE,
    take_row: TAKE_ROW,
    take_row_bare: TAKE_ROW_BARE,
    renew: RENEW,
    release: RELEASE,
    release_late: RELEASE_LATE,
    look_at: LOOK_AT,
    look_at_with_instances: LOOK_AT_WITH_INSTANCES,
    look_at_without_life: LOOK_AT_WITHOUT_LIFE,
    look_at_bare: LOOK_AT_BARE,
    beat: BEAT,
    prune_instances: PRUNE_INSTANCES,
    set_intent: SET_INTENT,
    clear_intent: CLEAR_INTENT,
    begin_epoch: BEGIN_EPOCH,
    first_record: FIRST_RECORD,
    settle: SETTLE,
    notify: NOTIFY,
    room: ROOM,
}

impl Statements {
    pub(super) fn of(form: Form) -> &'static Self {
        static FORMS: [OnceLock<Statements>; Form::COUNT] = [const { OnceLock::new() }; Form::COUNT];
        FORMS[form.number()].get_or_init(|| Self::new(form))
    }
}

/// Writes out what the abbreviations of this file stand for.
pub(super) fn qualified(template: &str) -> String {
    let mut sql =
        template.replace("{now}", "(extract(epoch FROM pg_catalog.clock_timestamp()) {*} 1000)::bigint");
    for operator in ["=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "&"] {
        sql = sql.replace(&format!("{{{operator}}}"), &format!("OPERATOR(pg_catalog.{operator})"));
    }
    sql
}

#[cfg(test)]
#[path = "statements_tests.rs"]
pub(super) mod tests;
