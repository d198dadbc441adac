-- The statements, in the same order and shape as those of the other databases, so that they can be compared
-- line by line. `:server` is the file.
--
-- Time is `julianday('now')`: constant within a statement, and first read after the wait for the
-- write lock. (`unixepoch('subsec')` is NULL before SQLite 3.42.) Values that a foreign program left
-- NULL count as 0 or empty; of a holder no more is read than a status can show.

--- word now
CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)

-- The file's own, whatever is recorded: a connection knows the inode that it opened, and adds the
-- UUID of the record, to which `s` must refer.
--- word identity
(:server || coalesce(s.uuid, ''))

-- Nothing unless the file is the one that is recorded and the one that the decision saw, in the
-- same epoch.
--- word life
EXISTS (SELECT 1 FROM component_lease_store AS s
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {identity})

--- word row
l.component_name IS NOT NULL AS present, coalesce(substr(l.holder_id, 1, {holder_read}), '') AS holder,
CAST(coalesce(l.lease_time, 0) AS INTEGER) AS lease_time, CAST(coalesce(l.renew_time, 0) AS INTEGER) AS renew_time,
CAST(coalesce(l.version, 0) AS INTEGER) AS version,
CAST(min(coalesce(l.ttl, 0), 1000000) AS INTEGER)
+ (min(coalesce(l.ttl, 0), 1000000) > CAST(min(coalesce(l.ttl, 0), 1000000) AS INTEGER)) AS ttl

--- word record
{identity} AS identity, s.identity AS recorded, s.epoch AS epoch, s.settled AS settled, s.max_ttl AS max_ttl

--- word no_record
NULL AS identity, NULL AS recorded, NULL AS epoch, NULL AS settled, NULL AS max_ttl

--- word intent
coalesce(i.paused, 0) AS paused, i.request_id AS request_id, i.request_verb AS request_verb,
i.request_version AS request_version, i.request_target AS request_target, i.request_away AS request_away,
i.preferred AS preferred, i.cooldown AS cooldown

--- word no_intent
0 AS paused, NULL AS request_id, NULL AS request_verb, NULL AS request_version, NULL AS request_target,
NULL AS request_away, NULL AS preferred, NULL AS cooldown

-- For people: who asked, why and when.
--- word said
i.paused_by AS paused_by, i.paused_reason AS paused_reason, i.request_by AS request_by,
i.request_reason AS request_reason, i.request_time AS request_time

--- word no_said
NULL AS paused_by, NULL AS paused_reason, NULL AS request_by, NULL AS request_reason, NULL AS request_time

--- word not_paused
NOT EXISTS (SELECT 1 FROM component_lease_intent AS i WHERE i.component_name = :component AND i.paused)

-- Of a term that a request ended.
--- word asked
i.component_name = :component AND i.request_version = :version AND i.request_id = :request

-- Seconds of this machine's clock since 2026.
--- word date
min(max({now} / 1000 - {epoch_zero}, 0), :latest_date)

--- word triggers
(SELECT group_concat(name, ', ') FROM sqlite_schema WHERE type = 'trigger'
    AND lower(tbl_name) = 'component_lease') AS triggers

--- statement look
SELECT {now} AS now, {row}, i.ttl AS standing_ttl, {intent}, {record},
    (SELECT max(h.version) FROM component_lease_history AS h WHERE h.component_name = :component) AS highest
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = :component
LEFT JOIN component_lease_intent AS i ON i.component_name = :component
LEFT JOIN component_lease_store AS s ON s.id = 1

--- statement look_bare
SELECT {now} AS now, {row}, NULL AS standing_ttl, {no_intent}, {no_record}, NULL AS highest
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = :component

--- statement look_at
SELECT {now} AS now, 0 AS present, NULL AS holder, NULL AS lease_time, NULL AS renew_time, NULL AS version,
    NULL AS ttl,
                NULL AS standing_ttl, {no_intent}, {no_said}, {record}, NULL AS name
FROM (SELECT 1) AS always
LEFT JOIN component_lease_store AS s ON s.id = 1
UNION ALL
SELECT NULL, {row}, i.ttl, {intent}, {said}, {no_record}, coalesce(l.component_name, i.component_name)
FROM json_each(:names) AS n
LEFT JOIN component_lease AS l ON l.component_name = n.value
LEFT JOIN component_lease_intent AS i ON i.component_name = n.value
WHERE coalesce(l.component_name, i.component_name) IS NOT NULL

--- statement look_at_bare
SELECT {now} AS now, 0 AS present, NULL AS holder, NULL AS lease_time, NULL AS renew_time, NULL AS version,
    NULL AS ttl,
        NULL AS standing_ttl, {no_intent}, {no_said}, {no_record}, NULL AS name
FROM (SELECT 1) AS always
UNION ALL
SELECT NULL, {row}, NULL, {no_intent}, {no_said}, {no_record}, l.component_name
FROM json_each(:names) AS n
LEFT JOIN component_lease AS l ON l.component_name = n.value
WHERE l.component_name IS NOT NULL

-- Any user who may write that table could fill it: so many of a component (its holder first, then who says that it
-- leads, then the newest), so many in all, and of these the first of each.
--- statement instances
SELECT c.id, c.component_name AS component, c.instance AS holder, c.start_time, c.heartbeat, c.heartbeat_ttl AS lasts,
       c.namespace, c.pod, c.pod_uid, c.container, c.node, c.address, c.program_version, c.healthy, c.leads, c.mode,
       c.longest_promise, c.promises_outside, c.priority
FROM (SELECT c.*, row_number() OVER (
                 PARTITION BY c.component_name
                 ORDER BY (c.instance = l.holder_id) IS TRUE DESC, c.leads IS NOT NULL DESC, c.id DESC
             ) AS place
      FROM json_each(:names) AS n
      CROSS JOIN component_instance AS c ON c.component_name = n.value
      LEFT JOIN component_lease AS l ON l.component_name = n.value
      WHERE c.heartbeat >= {now} - c.heartbeat_ttl * 1000
     ) AS c
WHERE c.place <= {instances_each}
ORDER BY c.place, c.id DESC LIMIT {instances_in_all}

-- Without an index: it is only asked where there is neither row nor history.
--- statement claimed
SELECT max(led) AS led FROM component_instance WHERE component_name = :component

--- statement take_missing
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT :component, :holder, t.ms, t.ms, :version, :ttl
FROM (SELECT {now} AS ms) AS t
WHERE coalesce((SELECT max(h.version) FROM component_lease_history AS h
                WHERE h.component_name = :component), 0) = :highest
  AND {life} AND {not_paused}
ON CONFLICT DO NOTHING

--- statement take_missing_bare
INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
SELECT :component, :holder, t.ms, t.ms, :version, :ttl
FROM (SELECT {now} AS ms) AS t
WHERE true
ON CONFLICT DO NOTHING

--- statement take_row
UPDATE component_lease
SET holder_id = :holder,
    lease_time = {now},
    renew_time = max({now}, coalesce(renew_time, 0) + 1),
    version = :version,
    ttl = :ttl
WHERE component_name = :component AND coalesce(version, 0) = :seen_version AND coalesce(renew_time,
    0) = :seen_renew_time
  AND {life} AND {not_paused}

--- statement take_row_bare
UPDATE component_lease
SET holder_id = :holder,
    lease_time = {now},
    renew_time = max({now}, coalesce(renew_time, 0) + 1),
    version = :version,
    ttl = :ttl
WHERE component_name = :component AND coalesce(version, 0) = :seen_version AND coalesce(renew_time,
    0) = :seen_renew_time

-- The second half of a take: SQLite's `WITH` cannot change tables.
--- statement write_history
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
SELECT component_name, version, holder_id, lease_time, ttl FROM component_lease
WHERE component_name = :component AND holder_id = :holder AND version = :version

-- Whether a row that a change did not find is there as it was, and the triggers that may do that.
--- statement still_led
SELECT EXISTS (SELECT 1 FROM component_lease WHERE component_name = :component AND holder_id = :holder
    AND version = :version) AS same, {triggers}

--- statement still_seen
SELECT EXISTS (SELECT 1 FROM component_lease
WHERE component_name = :component AND coalesce(version, 0) = :seen_version AND coalesce(renew_time,
    0) = :seen_renew_time) AS same, {triggers}

--- statement still_missing
SELECT NOT EXISTS (SELECT 1 FROM component_lease WHERE component_name = :component) AS same, {triggers}

--- statement renew
UPDATE component_lease
SET renew_time = max({now}, coalesce(renew_time, 0) + 1)
WHERE component_name = :component AND holder_id = :holder AND version = :version

--- statement release
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = :component AND holder_id = :holder AND version = :version

--- statement release_late
UPDATE component_lease
SET holder_id = '', renew_time = 0
WHERE component_name = :component AND holder_id = :holder AND version = :version
  AND {life}

--- statement move_heartbeat
UPDATE component_instance
SET heartbeat = {now}, heartbeat_ttl = :lasts, healthy = :healthy, leads = :leads, led = max(coalesce(led, :leads),
    coalesce(:leads, led))
WHERE id = :id AND component_name = :component AND instance = :holder
  AND heartbeat + heartbeat_ttl * 1000 >= {now}

--- statement begin_instance
INSERT INTO component_instance (component_name, instance, start_time, heartbeat, heartbeat_ttl, healthy, leads,
                                namespace, pod, pod_uid, container, node, address, program_version, led,
                                mode, longest_promise, promises_outside, priority)
SELECT :component, :holder, t.ms, t.ms, :lasts, :healthy, :leads, :namespace, :pod, :pod_uid, :container, :node,
    :address, :program_version, :leads, :mode, :longest_promise, :promises_outside, :priority
FROM (SELECT {now} AS ms) AS t

--- statement prune_instances
DELETE FROM component_instance WHERE heartbeat < {now} - :older_than

--- statement set_intent
INSERT INTO component_lease_intent (component_name, ttl, preferred, cooldown)
VALUES (:component, :ttl, :preferred, :cooldown)
ON CONFLICT (component_name) DO UPDATE
SET ttl = excluded.ttl, preferred = excluded.preferred, cooldown = excluded.cooldown

--- statement clear_intent
UPDATE component_lease_intent SET ttl = NULL, preferred = NULL, cooldown = NULL
WHERE component_name = :component AND (ttl IS NOT NULL OR preferred IS NOT NULL OR cooldown IS NOT NULL)

-- Only in place of the pause that was seen.
--- statement pause
UPDATE component_lease_intent SET paused = 1, paused_by = :asked_by, paused_reason = :reason
WHERE component_name = :component AND coalesce(paused, 0) = :was AND (NOT :was OR coalesce(paused_by, '') = :over)

--- statement resume
UPDATE component_lease_intent SET paused = 0, paused_by = NULL, paused_reason = NULL
WHERE component_name = :component AND paused AND (:any OR coalesce(paused_by, '') = :over)

-- A line for the request to stand in.
--- statement begin_intent
INSERT INTO component_lease_intent (component_name) VALUES (:component) ON CONFLICT DO NOTHING

-- Only in the term that it is about, and only in place of the one that was seen.
--- statement ask
UPDATE component_lease_intent
SET request_id = :id, request_verb = :verb, request_version = :version, request_target = :target,
    request_away = :away, request_by = :asked_by, request_reason = :reason, request_time = {now}
WHERE component_name = :component AND coalesce(request_id, '') = :replaces
  AND EXISTS (SELECT 1 FROM component_lease AS l WHERE l.component_name = :component AND l.version = :version)

--- statement withdraw
UPDATE component_lease_intent
SET request_id = NULL, request_verb = NULL, request_version = NULL, request_target = NULL, request_away = NULL,
    request_by = NULL, request_reason = NULL, request_time = NULL
WHERE component_name = :component AND request_id = :id

-- Whatever the collation of somebody else's column, in one order.
--- statement components
SELECT l.component_name AS name FROM component_lease AS l
WHERE l.component_name COLLATE BINARY > :after
ORDER BY l.component_name COLLATE BINARY LIMIT :at_most

--- statement history
SELECT h.version, h.holder_id AS holder, h.lease_time, h.ttl, h.end_time, h.end_reason, h.ended_by, h.ended_why
FROM component_lease_history AS h
WHERE h.component_name = :component AND h.version <= :newest
ORDER BY h.version DESC LIMIT :at_most

-- Once. Who asked is copied from the request that ended the term, if there was one and it still stands there.
--- statement end_term
UPDATE component_lease_history
SET end_time = max(coalesce(:ended_at, {now} - :ago), lease_time),
    end_reason = :reason,
    ended_by = (SELECT i.request_by FROM component_lease_intent AS i WHERE {asked}),
    ended_why = (SELECT i.request_reason FROM component_lease_intent AS i WHERE {asked})
WHERE component_name = :component AND version = :version AND end_time IS NULL

-- Never the last line: a version is granted once. So many at once, the oldest first, by the key.
--- statement prune_history
DELETE FROM component_lease_history
WHERE component_name = :component
  AND version <= (SELECT max(o.version)
                  FROM (SELECT b.version FROM component_lease_history AS b
                        WHERE b.component_name = :component
                          AND b.version < (SELECT max(n.version) FROM component_lease_history AS n
                                           WHERE n.component_name = :component)
                        ORDER BY b.version LIMIT {pruned_at_once}) AS o)
  AND (version <= (SELECT k.version FROM component_lease_history AS k
                   WHERE k.component_name = :component
                   ORDER BY k.version DESC LIMIT 1 OFFSET :kept)
       OR coalesce(end_time, lease_time) < {now} - :older_than)

--- statement begin_epoch
UPDATE component_lease_store AS s
SET identity = {identity},
    epoch = min(max(s.epoch + 1, {date}, :at_least), {epoch_max}),
    settled = false
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.epoch < {epoch_max}
  AND :at_least <= {date}
  AND (:deliberate OR s.identity <> {identity})

--- statement first_record
INSERT INTO component_lease_store (id, identity, epoch, settled, max_ttl, uuid)
SELECT 1, :server || :uuid,
       CASE WHEN :first THEN 0 ELSE min(max(1, {date}, :at_least), {epoch_max}) END,
       :settled, :max_ttl, :uuid
WHERE true
ON CONFLICT DO NOTHING

--- statement settle
UPDATE component_lease_store AS s SET settled = true
WHERE s.id = 1 AND s.identity = :identity AND s.epoch = :epoch AND s.identity = {identity}

--- statement record_step
INSERT INTO component_lease_schema (version, applied_at, foreign_lease_table) VALUES (:version, {now}, :is_foreign)

--- statement write_record
INSERT INTO component_lease_record (component_name, version, record)
SELECT l.component_name, l.version, :record FROM component_lease AS l
WHERE l.component_name = :component AND l.holder_id = :holder AND l.version = :version
ON CONFLICT (component_name) DO UPDATE SET version = excluded.version, record = excluded.record

--- statement write_report
INSERT INTO component_lease_report (component_name, member, report) VALUES (:component, :member, :report)
ON CONFLICT (component_name, member) DO UPDATE SET report = excluded.report

--- statement write_wish
INSERT INTO component_lease_report (component_name, member, report, wish) VALUES (:component, :member, '', :wish)
ON CONFLICT (component_name, member) DO UPDATE SET wish = excluded.wish

-- Anybody who may write these tables could fill them: no more of a text is read than shows that it is too long.
--- statement read_roster
SELECT {row}, NULL AS member, substr(r.record, 1, {text_read}) AS says, NULL AS wish
FROM (SELECT 1) AS always
LEFT JOIN component_lease AS l ON l.component_name = :component
LEFT JOIN component_lease_record AS r ON r.component_name = :component
UNION ALL
SELECT 0, NULL, NULL, NULL, NULL, NULL, p.member, substr(p.report, 1, {text_read}), substr(p.wish, 1, {text_read})
FROM json_each(:names) AS n
JOIN component_lease_report AS p ON p.component_name = :component AND p.member = n.value
