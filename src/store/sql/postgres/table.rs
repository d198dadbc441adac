//! The look at server and table that begins each connection, so that what cannot work is said here
//! and not by a statement that fails.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::access::{lacks, refuse_veils, veils};
use super::connection::{Place, lock_timeout};
use super::errors::{classify, is_denied, refused};
use super::identity::{self, Form};
use super::pooler::How;
use super::statement::{Line, Statement};
use super::statements::{self, qualified};
use crate::store::error::StoreError;
use crate::store::sql::dialect::Call;
use crate::store::sql::migrate::known;
use crate::store::sql::migration::not_to_be_seen;
use crate::store::sql::table::{Column, Table};

/// Tells about server, table and columns, one row for each column. Reads catalogues only, so it needs no
/// privilege. `$1` the limit of waits for locks, `$2` the probe: where it has come back, the session is our own, and
/// is set up. Else what precedes this text sets everything for its own transaction.
///
/// A table that may not be there is read by a text (`query_to_xml`): named in the statement, it would be an error.
/// The keepalives let the server find out about a dead participant's connection within two minutes.
/// With `row_security = off` a statement from which a policy would hide a row is an error, also where
/// the policy came after this look. Limits of time that were set for the user are no limits of ours.
///
/// The identity is asked for as a look will, so that what the server does not say is known before.
pub(super) const INSPECT: &str = concat!(
    "
WITH session AS MATERIALIZED (
    SELECT coalesce(pg_catalog.current_setting('component_lease.probe', true) {=} $2, false) AS is_ours
), settings AS MATERIALIZED (
    SELECT CASE WHEN p.is_ours THEN pg_catalog.set_config(n.name, n.value, false) END AS now
    FROM session AS p, (VALUES ('lock_timeout', $1),
                        ('default_transaction_isolation', 'read committed'),
                        ('tcp_keepalives_idle', '60'),
                        ('tcp_keepalives_interval', '15'),
                        ('tcp_keepalives_count', '4'),
                        ('row_security', 'off'),
                        ('statement_timeout', '0'),
                        ('idle_in_transaction_session_timeout', '0'),
                        ('standard_conforming_strings', 'on'),
                        ('exit_on_error', 'off'),
                        ('idle_session_timeout', '0'),
                        ('transaction_timeout', '0')) AS n (name, value)
    WHERE pg_catalog.current_setting(n.name, true) IS NOT NULL
), facts AS MATERIALIZED (
    SELECT (SELECT p.is_ours FROM session AS p) AS is_ours,
           (SELECT pg_catalog.count(c.now) FROM settings AS c) AS were_set,
           pg_catalog.current_setting('server_encoding') {=} 'SQL_ASCII' AS is_bytes,
           pg_catalog.version() AS version,
           pg_catalog.to_regproc('pg_catalog.aurora_version') IS NOT NULL AS aurora,
           pg_catalog.current_setting('server_version_num')::bigint AS server_version,
           pg_catalog.pg_is_in_recovery() AS standby,
           pg_catalog.current_setting('transaction_read_only') {=} 'on' AS read_only,
           pg_catalog.current_setting('fsync') {=} 'off' AS no_fsync,
           pg_catalog.current_setting('synchronous_commit') {=} 'off' AS no_synchronous_commit,
           pg_catalog.current_setting('search_path') AS search_path,
           pg_catalog.to_regclass('component_lease') AS lease,
           pg_catalog.to_regclass('component_lease_intent') IS NOT NULL AS has_intent,
           pg_catalog.to_regclass('component_lease_history') IS NOT NULL
             AND pg_catalog.to_regclass('component_lease_store') IS NOT NULL AS has_life,
           EXISTS (SELECT FROM pg_catalog.pg_attribute AS i
                   WHERE i.attrelid {=} pg_catalog.to_regclass('component_instance') AND i.attname {=} 'priority')
             AND coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('component_instance'), 'SELECT'), false)
             AS has_instances,
           CASE WHEN pg_catalog.to_regclass('component_lease_schema') IS NOT NULL
                THEN substring(pg_catalog.query_to_xml(
                         'SELECT coalesce(pg_catalog.max(version), 0) AS v FROM component_lease_schema', false, true, '')::varchar
                     FROM '<v>([0-9]+)</v>')::bigint
           END AS schema_version,
           (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(n.nspname), ', ')
            FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
            WHERE c.relname {=} 'component_lease' AND (c.relkind {=} 'r' OR c.relkind {=} 'p')) AS schemas
)
SELECT ",
    veils!(),
    " AS veils,
       f.is_ours, f.is_bytes, f.server_version, f.standby, f.read_only, f.no_fsync, f.no_synchronous_commit, f.search_path,
       f.lease IS NOT NULL AS has_lease, f.has_intent, f.has_life, f.has_instances, f.schema_version, f.schemas,
       f.version, f.aurora, CASE WHEN f.standby THEN NULL ELSE {identity} END AS identity,
       (SELECT pg_catalog.string_agg(u.relname, ', ') FROM pg_catalog.pg_class AS u
        WHERE u.relpersistence {<>} 'p'
          AND (EXISTS (SELECT FROM pg_catalog.pg_partition_tree(f.lease) AS p WHERE p.relid {=} u.oid)
               OR u.oid {=} f.lease OR u.oid {=} pg_catalog.to_regclass('component_lease_history')
               OR u.oid {=} pg_catalog.to_regclass('component_lease_store'))) AS unlogged,
       EXISTS (SELECT FROM pg_catalog.pg_trigger AS g
               JOIN pg_catalog.pg_proc AS p ON p.oid {=} g.tgfoid
               WHERE g.tgrelid {=} f.lease AND p.proname {=} 'component_lease_notify') AS notifies,
       EXISTS (SELECT FROM pg_catalog.pg_index AS x
               JOIN pg_catalog.pg_attribute AS k ON k.attrelid {=} x.indrelid AND k.attnum {=} x.indkey[0]
               WHERE x.indrelid {=} f.lease AND x.indisunique AND x.indisvalid AND x.indnkeyatts {=} 1
                 AND x.indpred IS NULL AND k.attname {=} 'component_name') AS has_key,
       a.attname::varchar AS column_name, b.typname::varchar AS type_name,
       CASE WHEN t.typtype {=} 'd' THEN t.typtypmod ELSE a.atttypmod END AS type_modifier,
       coalesce(o.collisdeterministic, true) AS deterministic
FROM facts AS f
JOIN (SELECT NULL::pg_catalog.text AS identity, NULL::pg_catalog.uuid AS uuid) AS s ON true
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid {=} f.lease AND a.attnum {>} 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_type AS t ON t.oid {=} a.atttypid
LEFT JOIN pg_catalog.pg_type AS b ON b.oid {=} CASE WHEN t.typtype {=} 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_catalog.pg_collation AS o ON o.oid {=} a.attcollation"
);

/// Asks again where the server does not say everything of itself.
async fn facts(
    line: &mut Line<'_>,
    lock_limit: u64,
    place: &Place,
) -> Result<(Vec<PgRow>, Form), StoreError> {
    let mut form = place.form.get();
    let limit = lock_timeout(lock_limit);
    let probe = line.how.probe();
    for tried in [false, true] {
        // Not prepared, so that it takes one round trip.
        let inspect =
            Statement::new(qualified(&INSPECT.replace("{identity}", &form.sql()))).bind(&limit).bind(probe);
        match line.ask_all(inspect).await {
            // On Aurora some of it depends on a setting.
            Ok(rows)
                if tried
                    || !form.asks_the_log()
                    || !rows.first().is_some_and(|row| row.try_get("aurora").unwrap_or_default()) =>
            {
                return Ok((rows, form));
            }
            Err(error) if tried || !identity::may_be_for_identity(&error) => {
                let denied = is_denied(&error);
                let why = if denied { lacks(line, Call::Look, place).await } else { None };
                return Err(why.map_or_else(|| classify(error, place), |why| refused(&why, place)));
            }
            _ => form = identity::probe(line, place).await?,
        }
    }
    unreachable!("the second try returns")
}

/// `how` knows afterwards whose the session is.
pub(super) async fn inspect(
    connection: &mut PgConnection,
    how: &mut How,
    lock_limit: u64,
    place: &Place,
) -> Result<(Table, String), StoreError> {
    let failed = |error| classify(error, place);
    let (rows, form) = facts(&mut Line { connection, how }, lock_limit, place).await?;
    let facts = rows
        .first()
        .ok_or_else(|| StoreError::bug(format!("{place}: the server tells nothing about itself")))?;
    let yes = |name: &str| facts.try_get::<bool, _>(name).map_err(failed);

    identity::refuse_product(facts.try_get("version").map_err(failed)?, place)?;
    how.looked(yes("is_ours")?, yes("is_bytes")?);
    let server_version: i64 = facts.try_get("server_version").map_err(failed)?;
    if server_version < 130_000 {
        return Err(StoreError::misconfigured(format!(
            "{place}: the server is PostgreSQL {}; 13 or newer is needed",
            server_version / 10_000
        )));
    }
    if yes("standby")? {
        return Err(identity::standby(place));
    }
    if yes("read_only")? {
        return Err(StoreError::retryable(format!(
            "{place}: the server lets this session only read (default_transaction_read_only, set for the server, the database or this user); nobody can lead until it may write"
        )));
    }
    if !yes("has_lease")? {
        let schemas: Option<String> = facts.try_get("schemas").map_err(failed)?;
        let search_path: String = facts.try_get("search_path").map_err(failed)?;
        return Err(StoreError::misconfigured(match schemas {
            None => format!("{place}: there is no table component_lease; run `component-lease migrate`"),
            Some(schemas) => format!(
                "{place}: the table component_lease is not found with search_path {search_path}, but there is one in schema {schemas}; say which with ALTER ROLE … SET search_path, and GRANT USAGE ON SCHEMA, or run `component-lease migrate` for one of its own"
            ),
        }));
    }
    let veils: Vec<String> = facts.try_get("veils").map_err(failed)?;
    refuse_veils(&veils, place)?;
    if let Some(version) = facts.try_get::<Option<i64>, _>("schema_version").map_err(failed)? {
        known(version, place)?;
        for (sees, tables) in [
            (yes("has_intent")?, "component_lease_intent"),
            (yes("has_life")?, "component_lease_history or component_lease_store"),
        ] {
            if version > 0 && !sees {
                return Err(not_to_be_seen(place, version, tables, &format!("the user {}", place.user)));
            }
        }
    }
    let companions = yes("has_intent")? && yes("has_life")?;
    let mut table = table(&rows, companions, yes("has_key")?, form, place)?;
    let identity = facts.try_get::<Option<String>, _>("identity").map_err(failed)?.unwrap_or_default();
    table.instances = companions && yes("has_instances")?;
    let unlogged: Option<String> = facts.try_get("unlogged").map_err(failed)?;
    let user = place.user.replace('"', "\"\"");
    let unsafe_ways = [
        unlogged.map(|tables| format!("UNLOGGED ({tables}): a crash of the server empties such a table; for each, ALTER TABLE name SET LOGGED")),
        yes("no_fsync")?.then(|| "fsync = off: a crash of the server's machine loses leases that were granted; ALTER SYSTEM SET fsync = on, then SELECT pg_reload_conf()".to_owned()),
        yes("no_synchronous_commit")?.then(|| format!("synchronous_commit = off for this user: a crash of the server loses leases that were granted; ALTER ROLE \"{user}\" SET synchronous_commit = on, or wherever it was set for this database or server (pg_db_role_setting: one for both the user and the database comes before all others)")),
    ];
    for says in unsafe_ways.into_iter().flatten() {
        place.settings.refuse_unsafe(place, place.source.allows_unsafe_backend(), &says)?;
    }

    if !place.settings.said_before() {
        if companions {
            identity::say_what_is_weaker(form, place);
        }
        for says in table.weaknesses::<Place>("a failover, a restored backup or a deleted row") {
            tracing::warn!("{place}: {says}");
        }
        if !yes("notifies")? {
            tracing::warn!(
                "{place}: the table component_lease notifies nobody, so a change of holder is found by polling"
            );
        }
    }
    Ok((table, identity))
}

/// Checks that the columns can do what is needed, also in a table that another program made.
fn table(
    rows: &[PgRow],
    companions: bool,
    has_key: bool,
    form: Form,
    place: &Place,
) -> Result<Table, StoreError> {
    let column = |name: &str, fits: &[&str], needs: &str| -> Result<(String, i32), StoreError> {
        for row in rows {
            let read = || -> Result<_, sqlx::Error> {
                let column: Option<String> = row.try_get("column_name")?;
                let kind: Option<String> = row.try_get("type_name")?;
                let modifier: Option<i32> = row.try_get("type_modifier")?;
                Ok((
                    column,
                    kind.unwrap_or_default(),
                    modifier.unwrap_or(-1),
                    row.try_get::<bool, _>("deterministic")?,
                ))
            };
            let (found, kind, modifier, deterministic) = read().map_err(|error| classify(error, place))?;
            if found.as_deref() != Some(name) {
                continue;
            }
            if !fits.contains(&kind.as_str()) {
                return Err(StoreError::misconfigured(format!(
                    "{place}: the column component_lease.{name} has the type {kind}; {needs} is needed"
                )));
            }
            if !deterministic {
                return Err(StoreError::misconfigured(format!(
                    "{place}: the column component_lease.{name} has a nondeterministic collation, which takes different names for one; use COLLATE \"C\""
                )));
            }
            return Ok((kind, modifier));
        }
        Err(StoreError::misconfigured(format!(
            "{place}: the table component_lease has no column {name}; it is not the table that component-lease works with (docs/databases.md says what that looks like)"
        )))
    };
    // The length that VARCHAR(n) was declared with is n + 4 there.
    let of = |modifier: i32| Column { max: usize::try_from(modifier - 4).ok(), unicode: true };
    let text = &["varchar", "text"];
    let component = of(column("component_name", text, "VARCHAR")?.1);
    let holder = of(column("holder_id", text, "VARCHAR")?.1);
    column("lease_time", &["int8", "numeric"], "BIGINT")?;
    column("renew_time", &["int8", "numeric"], "BIGINT")?;
    let version_max = match column("version", &["int2", "int4", "int8", "numeric"], "BIGINT")?.0.as_str() {
        "int2" => i16::MAX.into(),
        "int4" => i32::MAX.into(),
        _ => i64::MAX,
    };
    column("ttl", &["int2", "int4", "int8", "numeric", "float4", "float8"], "INTEGER")?;
    if !has_key {
        return Err(StoreError::misconfigured(format!(
            "{place}: the table component_lease has no primary key on component_name, so two participants could both insert a row: ALTER TABLE component_lease ADD PRIMARY KEY (component_name)"
        )));
    }
    let sql = statements::of(form);
    Ok(Table { component, holder, version_max, companions, instances: false, sql })
}
