-- The statements, in the same order and shape as those of the other databases, so that they can be compared
-- line by line.
--
-- Time is `clock_timestamp()`, evaluated where it stands: after the wait for a row lock. `now()` is
-- from before it. Values that a foreign program left NULL count as 0 or empty; of a holder no
-- more is read than a status can show.
--
-- A user who may create functions in a schema of the search path could offer an operator or a function
-- that matches our types better than PostgreSQL's own, and it would run with our rights. So everything
-- but our tables is named with its schema. `{=}` stands for `OPERATOR(pg_catalog.=)` here, likewise
-- `{||}` and the others; all of these bind equally tight, from left to right. `{now}` is the server's
-- clock, `{identity}` what the server is (`identity.rs`), for which `s` must be the record.

-- Nothing unless the server is the one that is recorded and the one that the decision saw, in the
-- same epoch. Locked, so that no epoch begins while a take of the one before is under way.
--- word life
life AS MATERIALIZED (
    SELECT s.id FROM component_lease_store AS s
    WHERE s.id {=} 1 AND s.identity {=} :identity AND s.epoch {=} :epoch::bigint
      AND s.identity {=} {identity}
    FOR SHARE
)

-- Always true. Says to the trigger, for this transaction alone, that it need not notify: `NOTIFY` will.
--- word told_later
pg_catalog.set_config('component_lease.notifies', 'later', true) IS NOT NULL

--- word row
l.component_name IS NOT NULL AS present, coalesce(pg_catalog.left(l.holder_id, {holder_read}), '') AS holder,
coalesce(l.lease_time::bigint, 0) AS lease_time, coalesce(l.renew_time::bigint, 0) AS renew_time,
coalesce(l.version::bigint, 0) AS version, coalesce(pg_catalog.ceil(l.ttl::numeric)::bigint, 0) AS ttl

--- word record
{identity} AS identity, s.identity::pg_catalog.text AS recorded, s.epoch AS epoch, s.settled AS settled,
s.max_ttl AS max_ttl

--- word no_record
NULL::pg_catalog.text AS identity, NULL::pg_catalog.text AS recorded, NULL::bigint AS epoch, NULL::boolean AS settled,
NULL::integer AS max_ttl

--- word intent
coalesce(i.paused, false) AS paused, i.request_id::pg_catalog.text AS request_id,
i.request_verb::pg_catalog.text AS request_verb, i.request_version AS request_version,
i.request_target::pg_catalog.text AS request_target, i.request_away AS request_away,
i.preferred::pg_catalog.text AS preferred, i.cooldown AS cooldown

--- word no_intent
false AS paused, NULL::pg_catalog.text AS request_id, NULL::pg_catalog.text AS request_verb,
NULL::bigint AS request_version, NULL::pg_catalog.text AS request_target, NULL::integer AS request_away,
NULL::pg_catalog.text AS preferred, NULL::integer AS cooldown

-- For people: who asked, why and when.
--- word said
i.paused_by::pg_catalog.text AS paused_by, i.paused_reason::pg_catalog.text AS paused_reason,
i.request_by::pg_catalog.text AS request_by, i.request_reason::pg_catalog.text AS request_reason,
i.request_time AS request_time

--- word no_said
NULL::pg_catalog.text AS paused_by, NULL::pg_catalog.text AS paused_reason, NULL::pg_catalog.text AS request_by,
NULL::pg_catalog.text AS request_reason, NULL::bigint AS request_time

--- word not_paused
NOT EXISTS (SELECT FROM component_lease_intent AS i WHERE i.component_name {=} :component::varchar AND i.paused)

-- Whether the row has what the take says, and no trigger wrote something else: then the history gets no
-- version, which it refuses, and nothing is taken.
--- word written
(component_name::varchar {=} :component::varchar AND holder_id::varchar {=} :holder::varchar
AND version::bigint {=} :version::bigint AND ttl::bigint {=} :ttl::bigint)

-- Of a term that a request ended.
--- word asked
i.component_name {=} :component::varchar AND i.request_version {=} :version::bigint AND i.request_id {=} :request::varchar

-- Seconds of this server's clock since 2026.
--- word date
least(greatest(pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()))::bigint {-} {epoch_zero}, 0),
    :latest_date::bigint)

--- statement look
SELECT {now} AS now, {row}, i.ttl AS standing_ttl, {intent}, {record},
    (SELECT pg_catalog.max(h.version) FROM component_lease_history AS h WHERE h.component_name {=} :component) AS highest
FROM (VALUES (1)) AS always (one)
LEFT JOIN component_lease AS l ON l.component_name {=} :component
LEFT JOIN component_lease_intent AS i ON i.component_name {=} :component
LEFT JOIN component_lease_store AS s ON s.id {=} 1

-- Apart from the look, which must not wait for a lock on that table, and without an index: it is
-- only asked where there is neither row nor history.
--- statement claimed
SELECT pg_catalog.max(led) AS led FROM component_instance WHERE component_name {=} :component

--- statement look_bare
SELECT {now} AS now, {row}, NULL::integer AS standing_ttl, {no_intent}, {no_record}, NULL::bigint AS highest
FROM (VALUES (1)) AS always (one)
LEFT JOIN component_lease AS l ON l.component_name {=} :component

--- statement take_missing
WITH {life}, taken AS (
    INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
    SELECT :component::varchar, :holder::varchar, t.ms, t.ms, :version::bigint, :ttl::integer
    FROM life, (SELECT {now} AS ms) AS t
    WHERE coalesce((SELECT pg_catalog.max(h.version) FROM component_lease_history AS h
                    WHERE h.component_name {=} :component::varchar), 0) {=} :highest::bigint
      AND {not_paused} AND {told_later}
    ON CONFLICT DO NOTHING
    RETURNING lease_time::bigint AS lease_time, {written} AS written
)
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
SELECT :component::varchar, CASE WHEN t.written THEN :version::bigint END, :holder::varchar, t.lease_time,
    :ttl::integer FROM taken AS t

--- statement take_missing_bare
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT :component::varchar, :holder::varchar, t.ms, t.ms, :version::bigint, :ttl::integer
FROM (SELECT {now} AS ms) AS t
WHERE {told_later}
ON CONFLICT DO NOTHING
RETURNING 1 {/} (CASE WHEN {written} THEN 1 ELSE 0 END)

--- statement take_row
WITH {life}, taken AS (
    UPDATE component_lease
    SET holder_id = :holder::varchar,
        lease_time = {now},
        renew_time = greatest({now}, coalesce(renew_time, 0) {+} 1),
        version = :version::bigint,
        ttl = :ttl::integer
    WHERE component_name {=} :component::varchar AND coalesce(version, 0) {=} :seen_version::bigint
        AND coalesce(renew_time, 0) {=} :seen_renew_time::bigint
      AND EXISTS (SELECT FROM life) AND {not_paused} AND {told_later}
    RETURNING lease_time::bigint AS lease_time, {written} AS written
)
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
SELECT :component::varchar, CASE WHEN t.written THEN :version::bigint END, :holder::varchar, t.lease_time,
    :ttl::integer FROM taken AS t

--- statement take_row_bare
UPDATE component_lease
SET holder_id = :holder::varchar,
    lease_time = {now},
    renew_time = greatest({now}, coalesce(renew_time, 0) {+} 1),
    version = :version::bigint,
    ttl = :ttl::integer
WHERE component_name {=} :component::varchar AND coalesce(version, 0) {=} :seen_version::bigint
    AND coalesce(renew_time, 0) {=} :seen_renew_time::bigint
  AND {told_later}
RETURNING 1 {/} (CASE WHEN {written} THEN 1 ELSE 0 END)

-- A trigger that leaves the renewal time as it was would let a leader go on whom followers take for dead:
-- then the division fails, and nothing is renewed. (The inner SELECT sees the row as it was before.)
--- statement renew
UPDATE component_lease
SET renew_time = greatest({now}, coalesce(renew_time, 0) {+} 1)
WHERE component_name {=} :component AND holder_id {=} :holder AND version {=} :version::bigint
RETURNING 1 {/} (CASE WHEN renew_time::bigint {>} (SELECT coalesce(o.renew_time, 0)::bigint FROM component_lease AS o
                                                   WHERE o.component_name {=} :component) THEN 1 ELSE 0 END)

--- statement release
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name {=} :component AND holder_id {=} :holder AND version {=} :version::bigint AND {told_later}

--- statement release_late
WITH {life}
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name {=} :component AND holder_id {=} :holder AND version {=} :version::bigint
    AND EXISTS (SELECT FROM life)
  AND {told_later}

-- Apart from what changes the holder: a commit that notifies waits for all others that do, and fails where
-- the server's queue is full. The wait is for a lock.
--- statement notify
SELECT pg_catalog.set_config('lock_timeout', '200ms', true), pg_catalog.pg_notify('component_lease', :component)

--- statement look_at
SELECT {now} AS now, false AS present, NULL::pg_catalog.text AS holder, NULL::bigint AS lease_time,
                NULL::bigint AS renew_time, NULL::bigint AS version, NULL::bigint AS ttl,
                NULL::integer AS standing_ttl, {no_intent}, {no_said}, {record}, NULL::pg_catalog.text AS name
FROM (VALUES (1)) AS always (one)
LEFT JOIN component_lease_store AS s ON s.id {=} 1
UNION ALL
SELECT NULL, {row}, i.ttl, {intent}, {said}, {no_record}, n.name
FROM pg_catalog.unnest(:names::pg_catalog.text[]) AS n (name)
LEFT JOIN component_lease AS l ON l.component_name {=} n.name
LEFT JOIN component_lease_intent AS i ON i.component_name {=} n.name
WHERE l.component_name IS NOT NULL OR i.component_name IS NOT NULL

-- Any user who may write that table could fill it: so many of a component (its holder first, then who says that it
-- leads, then the newest), so many in all, and of these the first of each.
--- statement instances
SELECT c.id, c.component_name AS component, c.instance AS holder, c.start_time, c.heartbeat, c.heartbeat_ttl AS lasts,
       c.namespace, c.pod, c.pod_uid, c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode,
       c.longest_promise, c.promises_outside, c.priority
FROM (SELECT c.*, pg_catalog.row_number() OVER (
                 PARTITION BY c.component_name
                 ORDER BY (c.instance {=} (l.holder_id COLLATE pg_catalog."C")) IS TRUE DESC,
                     c.leads IS NOT NULL DESC, c.id DESC
             ) AS place
      FROM pg_catalog.unnest(:names::pg_catalog.text[]) AS n (name)
      JOIN component_instance AS c ON c.component_name {=} n.name
      LEFT JOIN component_lease AS l ON l.component_name {=} n.name
      WHERE c.heartbeat {>=} ({now} {-} (c.heartbeat_ttl {*} 1000::bigint))
     ) AS c
WHERE c.place {<=} {instances_each}
ORDER BY c.place, c.id DESC LIMIT {instances_in_all}

--- statement begin_instance
WITH moved AS (
    UPDATE component_instance
    SET heartbeat = {now},
        heartbeat_ttl = :lasts::integer, healthy = :healthy::boolean, leads = :leads::bigint,
        led = greatest(led, :leads::bigint)
    WHERE id {=} :id::bigint AND component_name {=} :component::varchar AND instance {=} :holder::varchar
      AND (heartbeat {+} (heartbeat_ttl {*} 1000::bigint)) {>=} {now}
    RETURNING id
), made AS (
    INSERT INTO component_instance (component_name, instance, start_time, heartbeat, heartbeat_ttl, namespace, pod,
                                    pod_uid, container, node, address, program_version, healthy, leads, led, mode,
                                    longest_promise, promises_outside, priority)
    SELECT :component::varchar, :holder::varchar, t.ms, t.ms, :lasts::integer, :namespace::varchar, :pod::varchar,
        :pod_uid::varchar, :container::varchar,
           :node::varchar, :address::varchar, :program_version::varchar, :healthy::boolean, :leads::bigint,
               :leads::bigint, :mode::varchar, :longest_promise::bigint,
           :promises_outside::boolean, :priority::integer
    FROM (SELECT {now} AS ms) AS t
    WHERE NOT EXISTS (SELECT FROM moved)
    RETURNING id
)
SELECT id FROM moved UNION ALL SELECT id FROM made

--- statement prune_instances
DELETE FROM component_instance
WHERE heartbeat {<} ({now} {-} :older_than::bigint)

--- statement look_at_bare
SELECT {now} AS now, false AS present, NULL::pg_catalog.text AS holder, NULL::bigint AS lease_time,
        NULL::bigint AS renew_time, NULL::bigint AS version, NULL::bigint AS ttl,
        NULL::integer AS standing_ttl, {no_intent}, {no_said}, {no_record}, NULL::pg_catalog.text AS name
FROM (VALUES (1)) AS always (one)
UNION ALL
SELECT NULL, {row}, NULL::integer, {no_intent}, {no_said}, {no_record}, n.name
FROM pg_catalog.unnest(:names::pg_catalog.text[]) AS n (name)
LEFT JOIN component_lease AS l ON l.component_name {=} n.name
WHERE l.component_name IS NOT NULL

--- statement set_intent
INSERT INTO component_lease_intent (component_name, ttl, preferred, cooldown)
VALUES (:component, :ttl::integer, :preferred::varchar, :cooldown::integer)
ON CONFLICT (component_name) DO UPDATE
SET ttl = excluded.ttl, preferred = excluded.preferred, cooldown = excluded.cooldown

--- statement clear_intent
UPDATE component_lease_intent SET ttl = NULL, preferred = NULL, cooldown = NULL
WHERE component_name {=} :component AND (ttl IS NOT NULL OR preferred IS NOT NULL OR cooldown IS NOT NULL)

-- Only in place of the pause that was seen.
--- statement pause
UPDATE component_lease_intent
SET paused = true, paused_by = :asked_by::varchar, paused_reason = :reason::varchar
WHERE component_name {=} :component::varchar AND coalesce(paused, false) {=} :was::boolean
  AND (NOT :was::boolean OR coalesce(paused_by, '') {=} :over::varchar)

--- statement resume
UPDATE component_lease_intent SET paused = false, paused_by = NULL, paused_reason = NULL
WHERE component_name {=} :component::varchar AND paused
  AND (:any::boolean OR coalesce(paused_by, '') {=} :over::varchar)

-- A line for the request to stand in.
--- statement begin_intent
INSERT INTO component_lease_intent (component_name) VALUES (:component) ON CONFLICT DO NOTHING

-- Only in the term that it is about, and only in place of the one that was seen.
--- statement ask
UPDATE component_lease_intent AS i
SET request_id = :id::varchar, request_verb = :verb::varchar, request_version = :version::bigint,
    request_target = :target::varchar, request_away = :away::integer, request_by = :asked_by::varchar,
    request_reason = :reason::varchar, request_time = {now}
WHERE i.component_name {=} :component::varchar AND coalesce(i.request_id, '') {=} :replaces::varchar
  AND EXISTS (SELECT FROM component_lease AS l
              WHERE l.component_name {=} :component::varchar AND l.version {=} :version::bigint)

--- statement withdraw
UPDATE component_lease_intent
SET request_id = NULL, request_verb = NULL, request_version = NULL, request_target = NULL, request_away = NULL,
    request_by = NULL, request_reason = NULL, request_time = NULL
WHERE component_name {=} :component AND request_id {=} :id

-- Whatever the collation of somebody else's column, in one order.
--- statement components
SELECT l.component_name::pg_catalog.text AS name
FROM component_lease AS l
WHERE (l.component_name COLLATE pg_catalog."C") {>} :after::varchar
ORDER BY l.component_name COLLATE pg_catalog."C" LIMIT :at_most::bigint

--- statement history
SELECT h.version, h.holder_id AS holder, h.lease_time, h.ttl, h.end_time, h.end_reason, h.ended_by, h.ended_why
FROM component_lease_history AS h
WHERE h.component_name {=} :component::varchar AND h.version {<=} :newest::bigint
ORDER BY h.version DESC LIMIT :at_most::bigint

-- Once. Who asked is copied from the request that ended the term, if there was one and it still stands there.
--- statement end_term
UPDATE component_lease_history AS h
SET end_time = greatest(coalesce(:ended_at::bigint, {now} {-} :ago::bigint), h.lease_time),
    end_reason = :reason::varchar,
    ended_by = (SELECT i.request_by FROM component_lease_intent AS i WHERE {asked}),
    ended_why = (SELECT i.request_reason FROM component_lease_intent AS i WHERE {asked})
WHERE h.component_name {=} :component::varchar AND h.version {=} :version::bigint AND h.end_time IS NULL

-- Never the last line: a version is granted once. So many at once, the oldest first, by the key.
--- statement prune_history
DELETE FROM component_lease_history AS h
WHERE h.component_name {=} :component::varchar
  AND h.version {<=} (SELECT pg_catalog.max(o.version)
                      FROM (SELECT b.version FROM component_lease_history AS b
                            WHERE b.component_name {=} :component::varchar
                              AND b.version {<} (SELECT pg_catalog.max(n.version) FROM component_lease_history AS n
                                                 WHERE n.component_name {=} :component::varchar)
                            ORDER BY b.version LIMIT {pruned_at_once}) AS o)
  AND (h.version {<=} (SELECT k.version FROM component_lease_history AS k
                       WHERE k.component_name {=} :component::varchar
                       ORDER BY k.version DESC LIMIT 1 OFFSET :kept::bigint)
       OR coalesce(h.end_time, h.lease_time) {<} ({now} {-} :older_than::bigint))

--- statement begin_epoch
UPDATE component_lease_store AS s
SET identity = {identity},
    epoch = least(greatest(s.epoch {+} 1, {date}, :at_least::bigint), {epoch_max}),
    settled = false
WHERE s.id {=} 1 AND s.identity {=} :identity AND s.epoch {=} :epoch::bigint AND s.epoch {<} {epoch_max}
  AND (:latest_date::bigint {=} 0 OR :at_least::bigint {<=} {date})
  AND (:deliberate::boolean OR s.identity {<>} {identity})

--- statement first_record
WITH s AS MATERIALIZED (SELECT NULL::pg_catalog.text AS identity, pg_catalog.gen_random_uuid() AS uuid)
INSERT INTO component_lease_store (id, identity, epoch, settled, max_ttl, uuid)
SELECT 1, {identity},
       CASE WHEN :first::boolean THEN 0
            ELSE least(greatest(1, {date}, :at_least::bigint), {epoch_max}) END,
       :settled::boolean, :max_ttl::integer, s.uuid
FROM s
ON CONFLICT DO NOTHING

--- statement settle
UPDATE component_lease_store AS s SET settled = true
WHERE s.id {=} 1 AND s.identity {=} :identity AND s.epoch {=} :epoch::bigint AND s.identity {=} {identity}

-- Whether another connection would find room. Only the server knows of all the others: where it has none
-- left for a program that needs its first, a participant that has two gives one back.
--- statement has_room
SELECT NOT (r.rolconnlimit {>=} 0 AND NOT r.rolsuper
            AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.usesysid {=} r.oid) {>=} r.rolconnlimit)
   AND NOT (d.datconnlimit {>=} 0 AND NOT r.rolsuper
            AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid {=} d.oid) {>=} d.datconnlimit)
   AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid IS NOT NULL)
       {<} (pg_catalog.current_setting('max_connections')::bigint
            {-} pg_catalog.current_setting('superuser_reserved_connections')::bigint
            {-} coalesce(pg_catalog.current_setting('reserved_connections', true)::bigint, 0))
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname {=} session_user AND d.datname {=} pg_catalog.current_database()

-- Whether a row that a change did not find is there as it was, what may hide it, and which triggers come before a
-- change.
--- statement still_led
SELECT EXISTS (SELECT FROM component_lease
WHERE component_name {=} :component AND holder_id {=} :holder AND version {=} :version::bigint) AS same,
    pg_catalog.array_to_string({veils}, pg_catalog.chr(10)) AS veils, pg_catalog.array_to_string({triggers}, ',
        ') AS triggers

--- statement still_seen
SELECT EXISTS (SELECT FROM component_lease
WHERE component_name {=} :component AND coalesce(version, 0) {=} :seen_version::bigint
  AND coalesce(renew_time, 0) {=} :seen_renew_time::bigint) AS same, pg_catalog.array_to_string({veils},
      pg_catalog.chr(10)) AS veils, pg_catalog.array_to_string({triggers}, ', ') AS triggers

--- statement still_missing
SELECT NOT EXISTS (SELECT FROM component_lease WHERE component_name {=} :component) AS same,
    pg_catalog.array_to_string({veils}, pg_catalog.chr(10)) AS veils, pg_catalog.array_to_string({triggers}, ',
        ') AS triggers

--- statement record_step
INSERT INTO component_lease_schema (version, applied_at, foreign_lease_table) VALUES (:version, {now}, :is_foreign)

-- The lease is locked, so that nobody takes it before the record is written.
--- statement write_record
WITH led AS MATERIALIZED (
    SELECT l.component_name FROM component_lease AS l
    WHERE l.component_name {=} :component::varchar AND l.holder_id {=} :holder::varchar AND l.version {=} :version::bigint
    FOR SHARE
)
INSERT INTO component_lease_record (component_name, version, record)
SELECT :component::varchar, :version::bigint, :record::varchar FROM led
ON CONFLICT (component_name) DO UPDATE SET version = excluded.version, record = excluded.record

--- statement write_report
INSERT INTO component_lease_report (component_name, member, report)
VALUES (:component::varchar, :member::varchar, :report::varchar)
ON CONFLICT (component_name, member) DO UPDATE SET report = excluded.report

--- statement write_wish
INSERT INTO component_lease_report (component_name, member, report, wish)
VALUES (:component::varchar, :member::varchar, '', :wish::varchar)
ON CONFLICT (component_name, member) DO UPDATE SET wish = excluded.wish

-- Anybody who may write these tables could fill them: no more of a text is read than shows that it is too long.
--- statement read_roster
SELECT {row}, NULL::pg_catalog.text AS member, pg_catalog.left(r.record, {text_read}) AS says,
       NULL::pg_catalog.text AS wish
FROM (VALUES (1)) AS always (one)
LEFT JOIN component_lease AS l ON l.component_name {=} :component
LEFT JOIN component_lease_record AS r ON r.component_name {=} :component
UNION ALL
SELECT false, NULL, NULL, NULL, NULL, NULL, p.member, pg_catalog.left(p.report, {text_read}),
       pg_catalog.left(p.wish, {text_read})
FROM component_lease_report AS p
WHERE p.component_name {=} :component AND p.member {=} ANY (:names::pg_catalog.text[])
