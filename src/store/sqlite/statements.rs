//! The statements, in the same order and shape as those of `postgres/statements.rs`, so that the two
//! can be compared line by line.
//!
//! Time is `julianday('now')`: constant within a statement, and first read after the wait for the
//! write lock. (`unixepoch('subsec')` is NULL before SQLite 3.42.) Values that a foreign program left
//! NULL count as 0 or empty; of a holder no more is read than a status can show.

macro_rules! now {
    () => {
        "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"
    };
}

/// The file's own, whatever is recorded: a connection knows the inode that it opened, and adds the
/// UUID of the record, to which `s` must refer.
macro_rules! identity {
    ($file:literal) => {
        concat!("(", $file, " || coalesce(s.uuid, ''))")
    };
}

/// Nothing unless the file is the one that is recorded and the one that the decision saw, in the
/// same epoch.
macro_rules! life {
    ($file:literal, $identity:literal, $epoch:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM component_lease_store AS s
                     WHERE s.id = 1 AND s.identity = ",
            $identity,
            " AND s.epoch = ",
            $epoch,
            "
                       AND s.identity = ",
            identity!($file),
            ")"
        )
    };
}

macro_rules! row {
    () => {
        "l.component_name IS NOT NULL, coalesce(substr(l.holder_id, 1, 1024), ''),
         CAST(coalesce(l.lease_time, 0) AS INTEGER), CAST(coalesce(l.renew_time, 0) AS INTEGER),
         CAST(coalesce(l.version, 0) AS INTEGER), CAST(min(coalesce(l.ttl, 0), 1000000) AS INTEGER) + (min(coalesce(l.ttl, 0), 1000000) > CAST(min(coalesce(l.ttl, 0), 1000000) AS INTEGER))"
    };
}

macro_rules! record {
    ($file:literal) => {
        concat!(identity!($file), ", s.identity, s.epoch, s.settled, s.max_ttl")
    };
}

macro_rules! no_record {
    () => {
        "NULL, NULL, NULL, NULL, NULL"
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
            $highest,
            "
            FROM (SELECT 1) AS always
            LEFT JOIN component_lease AS l ON l.component_name = ?1",
            $joins
        )
    };
}

/// In the place of an instance where something else is.
macro_rules! no_instance {
    () => {
        ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"
    };
}

/// `?1` the names. First the clock and the life of the database, without a name; then what there is of each name.
macro_rules! look_at {
    ($intent:literal, $record:expr, $store:literal, $joins:literal, $name:literal, $more:expr, $behind:expr) => {
        concat!(
            "SELECT ",
            now!(),
            ", 0, NULL, NULL, NULL, NULL, NULL, NULL, ",
            $record,
            ", NULL",
            $more,
            "
            FROM (SELECT 1) AS always",
            $store,
            "
            UNION ALL
            SELECT NULL, ",
            row!(),
            ", ",
            $intent,
            ", ",
            no_record!(),
            ", ",
            $name,
            $more,
            "
            FROM json_each(?1) AS n
            LEFT JOIN component_lease AS l ON l.component_name = n.value",
            $joins,
            "
            WHERE ",
            $name,
            " IS NOT NULL",
            $behind
        )
    };
}

macro_rules! look_at_with_life {
    ($more:expr, $behind:expr) => {
        look_at!(
            "i.ttl",
            record!("?2"),
            "
            LEFT JOIN component_lease_store AS s ON s.id = 1",
            "
            LEFT JOIN component_lease_intent AS i ON i.component_name = n.value",
            "coalesce(l.component_name, i.component_name)",
            $more,
            $behind
        )
    };
}

/// Seconds of this machine's clock since 2026, `election::life::EPOCH_ZERO`.
macro_rules! date {
    ($latest:literal) => {
        concat!("min(max(", now!(), " / 1000 - 1767225600, 0), ", $latest, ")")
    };
}

/// `election::life::EPOCH_MAX`.
macro_rules! epoch_max {
    () => {
        "9007199253"
    };
}

pub(super) const LOOK: &str = look!(
    "i.ttl",
    record!("?2"),
    "(SELECT max(h.version) FROM component_lease_history AS h WHERE h.component_name = ?1)",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = ?1
    LEFT JOIN component_lease_store AS s ON s.id = 1"
);

/// Without an index: it is only asked where there is neither row nor history.
pub(super) const CLAIMED: &str = "SELECT max(led) FROM component_instance WHERE component_name = ?1";

pub(super) const LOOK_WITHOUT_LIFE: &str = look!(
    "i.ttl",
    no_record!(),
    "NULL",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = ?1"
);

pub(super) const LOOK_BARE: &str = look!("NULL", no_record!(), "NULL", "");

pub(super) const TAKE_MISSING: &str = concat!(
    "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
     SELECT ?1, ?2, t.ms, t.ms, ?3, ?4
     FROM (SELECT ",
    now!(),
    " AS ms) AS t
     WHERE coalesce((SELECT max(h.version) FROM component_lease_history AS h
                     WHERE h.component_name = ?1), 0) = ?5
       AND ",
    life!("?8", "?6", "?7"),
    "
     ON CONFLICT DO NOTHING"
);

pub(super) const TAKE_MISSING_BARE: &str = concat!(
    "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
     SELECT ?1, ?2, t.ms, t.ms, ?3, ?4
     FROM (SELECT ",
    now!(),
    " AS ms) AS t
     WHERE true
     ON CONFLICT DO NOTHING"
);

pub(super) const TAKE_ROW: &str = concat!(
    "UPDATE component_lease
     SET holder_id = ?2,
         lease_time = ",
    now!(),
    ",
         renew_time = max(",
    now!(),
    ", coalesce(renew_time, 0) + 1),
         version = ?3,
         ttl = ?4
     WHERE component_name = ?1 AND coalesce(version, 0) = ?5 AND coalesce(renew_time, 0) = ?6
       AND ",
    life!("?9", "?7", "?8")
);

pub(super) const TAKE_ROW_BARE: &str = concat!(
    "UPDATE component_lease
     SET holder_id = ?2,
         lease_time = ",
    now!(),
    ",
         renew_time = max(",
    now!(),
    ", coalesce(renew_time, 0) + 1),
         version = ?3,
         ttl = ?4
     WHERE component_name = ?1 AND coalesce(version, 0) = ?5 AND coalesce(renew_time, 0) = ?6"
);

/// The second half of a take: SQLite's `WITH` cannot change tables.
pub(super) const WRITE_HISTORY: &str = "
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
SELECT component_name, version, holder_id, lease_time, ttl FROM component_lease
WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3";

macro_rules! triggers {
    () => {
        "(SELECT group_concat(name, ', ') FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = 'component_lease')"
    };
}

/// Whether a row that a change did not find is there as it was, and the triggers that may do that.
pub(super) const STILL_LED: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM component_lease WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3), ",
    triggers!()
);

pub(super) const STILL_SEEN: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM component_lease
                    WHERE component_name = ?1 AND coalesce(version, 0) = ?2 AND coalesce(renew_time, 0) = ?3), ",
    triggers!()
);

pub(super) const STILL_MISSING: &str =
    concat!("SELECT NOT EXISTS (SELECT 1 FROM component_lease WHERE component_name = ?1), ", triggers!());

pub(super) const RENEW: &str = concat!(
    "UPDATE component_lease
     SET renew_time = max(",
    now!(),
    ", coalesce(renew_time, 0) + 1)
     WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3"
);

pub(super) const RELEASE: &str = "
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3";

pub(super) const RELEASE_LATE: &str = concat!(
    "UPDATE component_lease
     SET holder_id = '', renew_time = 0
     WHERE component_name = ?1 AND holder_id = ?2 AND version = ?3
       AND ",
    life!("?6", "?4", "?5")
);

pub(super) const LOOK_AT: &str = look_at_with_life!("", "");

/// Behind the rows the instances that are alive. Whoever may write that table could fill it: so many of a component
/// (its holder first, then who says that it leads, then the newest), so many in all, and of these the first of each.
pub(super) const LOOK_AT_WITH_INSTANCES: &str = look_at_with_life!(
    no_instance!(),
    concat!(
        "
    UNION ALL
    SELECT NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.component_name,
           c.id, c.instance, c.start_time, c.heartbeat, c.heartbeat_ttl, c.namespace, c.pod, c.pod_uid,
           c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode, c.longest_promise,
           c.promises_outside
    FROM (SELECT *
          FROM (SELECT c.*, row_number() OVER (
                           PARTITION BY c.component_name
                           ORDER BY (c.instance = l.holder_id) IS TRUE DESC, c.leads IS NOT NULL DESC, c.id DESC
                       ) AS place
                FROM json_each(?1) AS n
                CROSS JOIN component_instance AS c ON c.component_name = n.value
                LEFT JOIN component_lease AS l ON l.component_name = n.value
                WHERE c.heartbeat >= ",
        now!(),
        " - c.heartbeat_ttl * 1000
               ) AS c
          WHERE c.place <= 256
          ORDER BY c.place, c.id DESC LIMIT 20000) AS c"
    )
);

/// `?1` the row, `?2` to `?4` component, holder, how long a heartbeat lasts; `?5` and `?6` what it says of itself.
pub(super) const MOVE_HEARTBEAT: &str = concat!(
    "UPDATE component_instance
     SET heartbeat = ",
    now!(),
    ", heartbeat_ttl = ?4, healthy = ?5, leads = ?6, led = max(coalesce(led, ?6), coalesce(?6, led))
     WHERE id = ?1 AND component_name = ?2 AND instance = ?3
       AND heartbeat + heartbeat_ttl * 1000 >= ",
    now!()
);

/// `?1` to `?5` as above from the component on, `?6` to `?12` where and what it is, `?13` to `?15` how it
/// works and what it promises.
pub(super) const BEGIN_INSTANCE: &str = concat!(
    "INSERT INTO component_instance (component_name, instance, start_time, heartbeat, heartbeat_ttl, healthy, leads,
                                     namespace, pod, pod_uid, container, node, address, program_version, led,
                                     mode, longest_promise, promises_outside)
     SELECT ?1, ?2, t.ms, t.ms, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?5, ?13, ?14, ?15
     FROM (SELECT ",
    now!(),
    " AS ms) AS t"
);

/// `?1` is in ms.
pub(super) const PRUNE_INSTANCES: &str =
    concat!("DELETE FROM component_instance WHERE heartbeat < ", now!(), " - ?1");

pub(super) const LOOK_AT_WITHOUT_LIFE: &str = look_at!(
    "i.ttl",
    no_record!(),
    "",
    "
    LEFT JOIN component_lease_intent AS i ON i.component_name = n.value",
    "coalesce(l.component_name, i.component_name)",
    "",
    ""
);

pub(super) const LOOK_AT_BARE: &str = look_at!("NULL", no_record!(), "", "", "l.component_name", "", "");

pub(super) const SET_INTENT: &str = "
INSERT INTO component_lease_intent (component_name, ttl) VALUES (?1, ?2)
ON CONFLICT (component_name) DO UPDATE SET ttl = excluded.ttl";

pub(super) const CLEAR_INTENT: &str = "
UPDATE component_lease_intent SET ttl = NULL WHERE component_name = ?1 AND ttl IS NOT NULL";

/// `?1` the latest date that counts, `?2` the lower bound, `?3` and `?4` what was seen, `?5` whether
/// also of the recorded file, `?6` the file. The rule is `election::life::begin`.
pub(super) const BEGIN_EPOCH: &str = concat!(
    "UPDATE component_lease_store AS s
     SET identity = ",
    identity!("?6"),
    ",
         epoch = min(max(s.epoch + 1, ",
    date!("?1"),
    ", ?2), ",
    epoch_max!(),
    "),
         settled = false
     WHERE s.id = 1 AND s.identity = ?3 AND s.epoch = ?4 AND s.epoch < ",
    epoch_max!(),
    "
       AND ?2 <= ",
    date!("?1"),
    "
       AND (?5 OR s.identity <> ",
    identity!("?6"),
    ")"
);

/// `?1` and `?2` as above, `?3` the longest ttl, `?4` whether settled, `?5` whether epoch 0, `?6` the
/// file, `?7` a new UUID.
pub(super) const FIRST_RECORD: &str = concat!(
    "INSERT INTO component_lease_store (id, identity, epoch, settled, max_ttl, uuid)
     SELECT 1, ?6 || ?7,
            CASE WHEN ?5 THEN 0 ELSE min(max(1, ",
    date!("?1"),
    ", ?2), ",
    epoch_max!(),
    ") END,
            ?4, ?3, ?7
     WHERE true
     ON CONFLICT DO NOTHING"
);

/// `?3` is the file.
pub(super) const SETTLE: &str = concat!(
    "UPDATE component_lease_store AS s SET settled = true
     WHERE s.id = 1 AND s.identity = ?1 AND s.epoch = ?2 AND s.identity = ",
    identity!("?3")
);
