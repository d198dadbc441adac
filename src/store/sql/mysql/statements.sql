-- The statements, in the same order and shape as those of the other databases, so that they can be compared
-- line by line.
--
-- Time is `SYSDATE`, evaluated where it stands: after the wait for a row lock. `NOW` is the start of
-- the statement. The session's zone is UTC; integer arithmetic from 1970 on has no end in 2038, as
-- `UNIX_TIMESTAMP` has in MariaDB before 11.5. Only an INSERT computes its values before it waits
-- (for somebody's uncommitted row of the same name): then the time may be old by that wait.
--
-- Affected rows: sqlx asks for `FOUND_ROWS`, so they are the rows that matched. What must change
-- always does, and `ON DUPLICATE KEY UPDATE`, whose count means something else, decides nothing. Nor
-- is there an IGNORE, which would also cut what does not fit: "there is one" comes as an error.
--
-- Text is compared byte by byte whatever the collation of somebody else's table: a holder here, a
-- component's name at the look (`same_name`). A take or renewal then names the row as the table
-- does, and is bound to the version seen with the renewal time, or to the whole holder.
-- Values that a foreign program left NULL count as 0 or empty. Of a holder no more is read than a status can
-- show; bytes that are no text are shown in hexadecimal digits, because nothing at all would mean that nobody leads.

--- word now
TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000

--- word row
l.component_name IS NOT NULL AS present,
COALESCE(CONVERT(LEFT(l.holder_id, {holder_read}) USING utf8mb4), HEX(LEFT(l.holder_id, {holder_read} DIV 2)), '')
COLLATE utf8mb4_bin AS holder,
CAST(COALESCE(l.lease_time, 0) AS SIGNED) AS lease_time, CAST(COALESCE(l.renew_time, 0) AS SIGNED) AS renew_time,
CAST(COALESCE(l.version, 0) AS SIGNED) AS version, CAST(COALESCE(CEIL(l.ttl), 0) AS SIGNED) AS ttl

-- `{own_identity}` is what the server says of itself now.
--- word record
{own_identity} AS identity, s.identity AS recorded, s.epoch AS epoch, CAST(s.settled AS SIGNED) AS settled,
CAST(s.max_ttl AS SIGNED) AS max_ttl

--- word no_record
CAST(NULL AS CHAR) AS identity, CAST(NULL AS CHAR) AS recorded, CAST(NULL AS SIGNED) AS epoch,
CAST(NULL AS SIGNED) AS settled, CAST(NULL AS SIGNED) AS max_ttl

--- word intent
CAST(COALESCE(i.paused, 0) AS SIGNED) AS paused, i.request_id COLLATE utf8mb4_bin AS request_id,
i.request_verb COLLATE utf8mb4_bin AS request_verb, CAST(i.request_version AS SIGNED) AS request_version,
i.request_target COLLATE utf8mb4_bin AS request_target, CAST(i.request_away AS SIGNED) AS request_away,
i.preferred COLLATE utf8mb4_bin AS preferred, CAST(i.cooldown AS SIGNED) AS cooldown

--- word no_intent
CAST(0 AS SIGNED) AS paused, CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS request_id,
CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS request_verb, CAST(NULL AS SIGNED) AS request_version,
CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS request_target, CAST(NULL AS SIGNED) AS request_away,
CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS preferred, CAST(NULL AS SIGNED) AS cooldown

-- For people: who asked, why and when.
--- word said
i.paused_by COLLATE utf8mb4_bin AS paused_by, i.paused_reason COLLATE utf8mb4_bin AS paused_reason,
i.request_by COLLATE utf8mb4_bin AS request_by, i.request_reason COLLATE utf8mb4_bin AS request_reason,
CAST(i.request_time AS SIGNED) AS request_time

--- word no_said
CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS paused_by, CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS paused_reason,
CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS request_by, CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS request_reason,
CAST(NULL AS SIGNED) AS request_time

--- word name
CONVERT(l.component_name USING utf8mb4) COLLATE utf8mb4_bin

-- Of a term that a request ended.
--- word asked
i.component_name = :component AND i.request_version = :version AND i.request_id = :request

-- Seconds of this server's clock since 2026, up to a latest date.
--- word date
LEAST(GREATEST(TIMESTAMPDIFF(SECOND, '1970-01-01', SYSDATE()) - {epoch_zero}, 0), :latest_date)

-- The names that are asked for, from a JSON array. A column's index is used only by a comparison in its own
-- collation, so that of `component_lease.component_name` comes where `{collation}` stands.
--- word names
JSON_TABLE(:names, '$[*]' COLUMNS (
name VARCHAR(253) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$',
of_lease VARCHAR(253) {collation} PATH '$')) AS n

-- How a kind of server tells who it is.
--- word mysql_identity
CONVERT(CONCAT(@@server_uuid, '/', COALESCE(TIMESTAMPDIFF(SECOND, '1970-01-01', NOW()) - CAST(CAST((
   SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'UPTIME') AS UNSIGNED) AS SIGNED), ''), '/', COALESCE(s.uuid, ''), '/', (
   SELECT COALESCE(SUM(TIMESTAMPDIFF(SECOND, '1970-01-01', t.CREATE_TIME)), 0)
   FROM information_schema.TABLES AS t
   WHERE t.TABLE_SCHEMA = DATABASE()
     AND t.TABLE_NAME IN ('component_lease', 'component_lease_history', 'component_lease_store'))
) USING utf8mb4) COLLATE utf8mb4_bin

--- word mariadb_identity
CONVERT(CONCAT(@@server_id, '@', @@hostname, ':', @@port, '/', COALESCE(TIMESTAMPDIFF(SECOND, '1970-01-01',
    NOW()) - CAST(CAST((
   SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME') AS UNSIGNED) AS SIGNED), ''), '/', COALESCE(s.uuid, ''), '/', (
   SELECT COALESCE(SUM(TIMESTAMPDIFF(SECOND, '1970-01-01', t.CREATE_TIME)), 0)
   FROM information_schema.TABLES AS t
   WHERE t.TABLE_SCHEMA = DATABASE()
     AND t.TABLE_NAME IN ('component_lease', 'component_lease_history', 'component_lease_store'))
) USING utf8mb4) COLLATE utf8mb4_bin

--- statement look
SELECT {now} AS now, {row}, CAST(i.ttl AS SIGNED) AS standing_ttl, {intent}, {record}, {name} AS name,
    (SELECT CAST(MAX(h.version) AS SIGNED) FROM component_lease_history AS h WHERE h.component_name = :component) AS highest
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = :component
LEFT JOIN component_lease_intent AS i ON i.component_name = :component
LEFT JOIN component_lease_store AS s ON s.id = 1

--- statement look_bare
SELECT {now} AS now, {row}, CAST(NULL AS SIGNED) AS standing_ttl, {no_intent}, {no_record}, {name} AS name,
    CAST(NULL AS SIGNED) AS highest
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = :component

--- statement look_at
SELECT {now} AS now, 0 AS present, '' COLLATE utf8mb4_bin AS holder, 0 AS lease_time, 0 AS renew_time,
    0 AS version, 0 AS ttl,
                CAST(NULL AS SIGNED) AS standing_ttl, {no_intent}, {no_said}, {record}, CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS name
FROM (SELECT 1) AS always
LEFT JOIN component_lease_store AS s ON s.id = 1
UNION ALL
SELECT NULL, {row}, CAST(NULL AS SIGNED), {no_intent}, {no_said}, {no_record}, {name}
FROM {names} STRAIGHT_JOIN component_lease AS l ON l.component_name = n.of_lease
UNION ALL
SELECT NULL, 0, '' COLLATE utf8mb4_bin, 0, 0, 0, 0, CAST(i.ttl AS SIGNED), {intent}, {said}, {no_record},
    i.component_name COLLATE utf8mb4_bin
FROM {names} STRAIGHT_JOIN component_lease_intent AS i ON i.component_name = n.name

--- statement look_at_bare
SELECT {now} AS now, 0 AS present, '' COLLATE utf8mb4_bin AS holder, 0 AS lease_time, 0 AS renew_time,
    0 AS version, 0 AS ttl,
        CAST(NULL AS SIGNED) AS standing_ttl, {no_intent}, {no_said}, {no_record}, CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS name
FROM (SELECT 1) AS always
UNION ALL
SELECT NULL, {row}, CAST(NULL AS SIGNED), {no_intent}, {no_said}, {no_record}, {name}
FROM {names} STRAIGHT_JOIN component_lease AS l ON l.component_name = n.of_lease

-- Any user who may write that table could fill it: so many of a component (its holder first, then who says that it
-- leads, then the newest), so many in all, and of these the first of each.
--- statement instances
SELECT c.id, c.component_name AS component, c.instance AS holder, c.start_time, c.heartbeat, c.heartbeat_ttl AS lasts,
       c.namespace, c.pod, c.pod_uid, c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode,
       c.longest_promise, c.promises_outside, c.priority
FROM (SELECT c.*, ROW_NUMBER() OVER (
                 PARTITION BY c.component_name
                 ORDER BY COALESCE(CAST(CONVERT(LEFT(l.holder_id, {holder_read}) USING utf8mb4) AS BINARY)
                                   = CAST(c.instance AS BINARY), 0) DESC,
                          c.leads IS NOT NULL DESC, c.id DESC
             ) AS place
      FROM {names} STRAIGHT_JOIN component_instance AS c ON c.component_name = n.name
      LEFT JOIN component_lease AS l ON l.component_name = n.of_lease
      WHERE c.heartbeat >= {now} - c.heartbeat_ttl * 1000
     ) AS c
WHERE c.place <= {instances_each}
ORDER BY c.place, c.id DESC LIMIT {instances_in_all}

--- statement take_missing
START TRANSACTION;
SELECT COUNT(*) INTO @component_lease_life FROM component_lease_store AS s
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}
LOCK IN SHARE MODE;
SELECT COUNT(*) INTO @component_lease_paused FROM component_lease_intent AS i
WHERE i.component_name = :component AND i.paused;
SET @component_lease_now = {now};
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT :component, :holder, @component_lease_now, @component_lease_now, :version, :ttl
FROM (SELECT 1) AS always
WHERE COALESCE((SELECT MAX(h.version) FROM component_lease_history AS h
                WHERE h.component_name = :component), 0) = :highest
  AND NOT EXISTS (SELECT 1 FROM component_lease AS l WHERE l.component_name = :component)
  AND @component_lease_life = 1 AND @component_lease_paused = 0;
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
SELECT CAST(@component_lease_taken AS SIGNED) AS taken;

--- statement take_row
START TRANSACTION;
SELECT COUNT(*) INTO @component_lease_life FROM component_lease_store AS s
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}
LOCK IN SHARE MODE;
SELECT COUNT(*) INTO @component_lease_paused FROM component_lease_intent AS i
WHERE i.component_name = :component AND i.paused;
UPDATE component_lease
SET holder_id = :holder,
    lease_time = {now},
    renew_time = GREATEST({now}, COALESCE(renew_time, 0) + 1),
    version = :version,
    ttl = :ttl
WHERE component_name = :component AND COALESCE(version, 0) = :seen_version
  AND COALESCE(renew_time, 0) = :seen_renew_time AND @component_lease_life = 1 AND @component_lease_paused = 0;
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
SELECT CAST(@component_lease_taken AS SIGNED) AS taken;

--- statement begin_epoch
UPDATE component_lease_store AS s
SET s.epoch = LEAST(GREATEST(s.epoch + 1, {date}, :at_least), {epoch_max}),
    s.settled = false,
    s.identity = {own_identity}
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.epoch < {epoch_max}
  AND (:latest_date = 0 OR :at_least <= {date})
  AND (:deliberate OR s.identity <> {own_identity})

--- statement first_record
INSERT INTO component_lease_store (id, uuid, identity, epoch, settled, max_ttl)
SELECT 1, s.uuid, {own_identity}, IF(:first, 0, LEAST(GREATEST(1, {date}, :at_least), {epoch_max})), :settled,
    :max_ttl
FROM (SELECT CAST(:uuid AS CHAR) AS uuid) AS s

--- statement settle
UPDATE component_lease_store AS s SET s.settled = true
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}

-- The record is locked, as by a take.
--- statement release_late
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = :component AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY)
  AND version = :version
  AND EXISTS (SELECT 1 FROM component_lease_store AS s
              WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {own_identity}
              LOCK IN SHARE MODE)

-- Apart from the look, which must not wait for a lock on that table, and without an index: it is
-- only asked where there is neither row nor history.
--- statement claimed
SELECT MAX(led) AS led FROM component_instance WHERE component_name = :component

--- statement move_heartbeat
UPDATE component_instance
SET heartbeat_ttl = :lasts, healthy = :healthy, leads = :leads, led = COALESCE(GREATEST(led, :leads), :leads, led),
    heartbeat = {now}
WHERE id = :id AND component_name = :component AND instance = :holder AND heartbeat + heartbeat_ttl * 1000 >= {now}

--- statement begin_instance
INSERT INTO component_instance (component_name, instance, heartbeat_ttl, healthy, leads, led, namespace, pod, pod_uid,
                                container, node, address, program_version, mode, longest_promise,
                                promises_outside, priority, start_time, heartbeat)
VALUES (:component, :holder, :lasts, :healthy, :leads, :leads, :namespace, :pod, :pod_uid, :container, :node,
    :address, :program_version, :mode, :longest_promise, :promises_outside, :priority, {now}, start_time)

--- statement prune_instances
DELETE FROM component_instance WHERE heartbeat < {now} - :older_than

--- statement take_missing_bare
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
VALUES (:component, :holder, {now}, lease_time, :version, :ttl)

--- statement take_row_bare
UPDATE component_lease
SET holder_id = :holder,
    lease_time = {now},
    renew_time = GREATEST({now}, COALESCE(renew_time, 0) + 1),
    version = :version,
    ttl = :ttl
WHERE component_name = :component AND COALESCE(version, 0) = :seen_version AND COALESCE(renew_time,
    0) = :seen_renew_time

--- statement renew
UPDATE component_lease
SET renew_time = GREATEST({now}, COALESCE(renew_time, 0) + 1)
WHERE component_name = :component
    AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY) AND version = :version

--- statement release
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = :component
    AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY) AND version = :version

--- statement set_intent
INSERT INTO component_lease_intent (component_name, ttl, preferred, cooldown)
VALUES (:component, :ttl, :preferred, :cooldown)
ON DUPLICATE KEY UPDATE ttl = :ttl, preferred = :preferred, cooldown = :cooldown

--- statement clear_intent
UPDATE component_lease_intent SET ttl = NULL, preferred = NULL, cooldown = NULL
WHERE component_name = :component AND (ttl IS NOT NULL OR preferred IS NOT NULL OR cooldown IS NOT NULL)

-- Only in place of the pause that was seen.
--- statement pause
UPDATE component_lease_intent SET paused = 1, paused_by = :asked_by, paused_reason = :reason
WHERE component_name = :component AND COALESCE(paused, 0) = :was AND (NOT :was OR COALESCE(paused_by, '') = :over)

--- statement resume
UPDATE component_lease_intent SET paused = 0, paused_by = NULL, paused_reason = NULL
WHERE component_name = :component AND paused AND (:any OR COALESCE(paused_by, '') = :over)

-- A line for the request to stand in.
--- statement begin_intent
INSERT INTO component_lease_intent (component_name) VALUES (:component)
ON DUPLICATE KEY UPDATE component_name = component_lease_intent.component_name

-- Only in the term that it is about, and only in place of the one that was seen.
--- statement ask
UPDATE component_lease_intent
SET request_id = :id, request_verb = :verb, request_version = :version, request_target = :target,
    request_away = :away, request_by = :asked_by, request_reason = :reason, request_time = {now}
WHERE component_name = :component AND COALESCE(request_id, '') = :replaces
  AND EXISTS (SELECT 1 FROM component_lease AS l WHERE l.component_name = :component AND l.version = :version)

--- statement withdraw
UPDATE component_lease_intent
SET request_id = NULL, request_verb = NULL, request_version = NULL, request_target = NULL, request_away = NULL,
    request_by = NULL, request_reason = NULL, request_time = NULL
WHERE component_name = :component AND request_id = :id

-- In the order of the column, whose collation compares the name that is given, too.
--- statement components
SELECT {name} AS name FROM component_lease AS l
WHERE l.component_name > :after
ORDER BY l.component_name LIMIT :at_most

--- statement history
SELECT h.version, h.holder_id AS holder, h.lease_time, h.ttl, h.end_time, h.end_reason, h.ended_by, h.ended_why
FROM component_lease_history AS h
WHERE h.component_name = :component AND h.version <= :newest
ORDER BY h.version DESC LIMIT :at_most

-- Once. Who asked is copied from the request that ended the term, if there was one and it still stands there.
--- statement end_term
UPDATE component_lease_history
SET end_time = GREATEST(COALESCE(:ended_at, {now} - :ago), lease_time),
    end_reason = :reason,
    ended_by = (SELECT i.request_by FROM component_lease_intent AS i WHERE {asked}),
    ended_why = (SELECT i.request_reason FROM component_lease_intent AS i WHERE {asked})
WHERE component_name = :component AND version = :version AND end_time IS NULL

-- Never the last line: a version is granted once. So many at once, the oldest first, by the key: MariaDB would scan
-- all lines of the component for a bound that it has to compute first. (Nor does either server read the table that it
-- deletes from, but for what it computes first.)
--- statement prune_history
DELETE FROM component_lease_history
WHERE component_name = :component
  AND version < (SELECT n.version FROM (SELECT MAX(version) AS version FROM component_lease_history
                                        WHERE component_name = :component) AS n)
  AND (version <= (SELECT k.version FROM (SELECT version FROM component_lease_history
                                          WHERE component_name = :component
                                          ORDER BY version DESC LIMIT 1 OFFSET :kept) AS k)
       OR COALESCE(end_time, lease_time) < {now} - :older_than)
ORDER BY version LIMIT {pruned_at_once}

-- Whether a row that a change did not find is there as it was: asked where "no row" may not be the whole truth.
--- statement still_led
SELECT EXISTS (SELECT 1 FROM component_lease
WHERE component_name = :component AND CAST(CONVERT(holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY)
  AND version = :version) AS same, CAST(NULL AS CHAR) AS triggers,
       EXISTS (SELECT 1 FROM information_schema.TABLES
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease'
                   AND TABLE_TYPE <> 'VIEW') AS is_table

--- statement still_seen
SELECT EXISTS (SELECT 1 FROM component_lease
WHERE component_name = :component AND COALESCE(version, 0) = :seen_version
  AND COALESCE(renew_time, 0) = :seen_renew_time) AS same, CAST(NULL AS CHAR) AS triggers,
       EXISTS (SELECT 1 FROM information_schema.TABLES
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease'
                   AND TABLE_TYPE <> 'VIEW') AS is_table

--- statement still_missing
SELECT NOT EXISTS (SELECT 1 FROM component_lease WHERE component_name = :component) AS same,
    CAST(NULL AS CHAR) AS triggers,
EXISTS (SELECT 1 FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'component_lease' AND TABLE_TYPE <> 'VIEW') AS is_table

--- statement record_step
INSERT IGNORE INTO component_lease_schema (version, applied_at, foreign_lease_table) VALUES (:version, {now},
    :is_foreign)

-- The lease is locked, so that nobody takes it before the record is written. Whether there was a record before makes
-- a count of 2 of 1, never one of 0.
--- statement write_record
INSERT INTO component_lease_record (component_name, version, record)
SELECT :component, :version, :record FROM component_lease AS l
WHERE l.component_name = :component
    AND CAST(CONVERT(l.holder_id USING utf8mb4) AS BINARY) = CAST(:holder AS BINARY) AND l.version = :version
LOCK IN SHARE MODE
ON DUPLICATE KEY UPDATE version = :version, record = :record

--- statement write_report
INSERT INTO component_lease_report (component_name, member, report) VALUES (:component, :member, :report)
ON DUPLICATE KEY UPDATE report = :report

--- statement write_wish
INSERT INTO component_lease_report (component_name, member, report, wish) VALUES (:component, :member, '', :wish)
ON DUPLICATE KEY UPDATE wish = :wish

-- Anybody who may write these tables could fill them: no more of a text is read than shows that it is too long.
--- statement read_roster
SELECT {row}, CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS member, LEFT(r.record, {text_read}) AS says,
       CAST(NULL AS CHAR) COLLATE utf8mb4_bin AS wish
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = :component
LEFT JOIN component_lease_record AS r ON r.component_name = :component
UNION ALL
SELECT 0, '' COLLATE utf8mb4_bin, 0, 0, 0, 0, p.member, LEFT(p.report, {text_read}),
       LEFT(p.wish, {text_read})
FROM {names} STRAIGHT_JOIN component_lease_report AS p ON p.component_name = :component AND p.member = n.name
