//! What can hide rows from a session or keep a change from them, and which rights a refused call
//! lacks. Asked at each connect, and again where an answer cannot be the whole truth: a look that
//! shows less than there is must not pass for one of a database with less in it.

use sqlx::Row;

use super::connection::Place;
use super::errors::grants;
use super::statement::{Line, Statement};
use super::statements::qualified;
use crate::store::error::StoreError;
use crate::store::sql::dialect::Call;

/// Each table of ours that this session would not see as it is: `KIND TABLE DETAIL`.
///
/// `row_security_active` asks for this very user: it is false for an owner, a superuser, or a role with
/// BYPASSRLS. Of a table with children a key holds for itself alone.
macro_rules! veils {
    () => {
        "ARRAY(
    WITH ours AS (
        SELECT c.oid, c.relname::varchar AS name, c.relkind
        FROM pg_catalog.pg_class AS c
        WHERE c.oid {=} ANY (ARRAY[pg_catalog.to_regclass('component_lease')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_lease_intent')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_lease_history')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_lease_store')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_lease_schema')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_lease_record')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_lease_report')::pg_catalog.oid,
                                   pg_catalog.to_regclass('component_instance')::pg_catalog.oid])
    )
    SELECT 'rls ' {||} o.name {||} ' ' FROM ours AS o WHERE pg_catalog.row_security_active(o.oid)
    UNION ALL
    SELECT 'kind ' {||} o.name {||} ' ' {||} o.relkind::varchar FROM ours AS o
    WHERE o.relkind {<>} 'r' AND o.relkind {<>} 'p'
    UNION ALL
    SELECT 'child ' {||} o.name {||} ' ' {||} i.inhrelid::pg_catalog.regclass::varchar
    FROM ours AS o JOIN pg_catalog.pg_inherits AS i ON i.inhparent {=} o.oid
    WHERE o.relkind {=} 'r'
    UNION ALL
    SELECT 'rule ' {||} o.name {||} ' ' {||} pg_catalog.quote_ident(r.rulename::varchar)
    FROM ours AS o JOIN pg_catalog.pg_rewrite AS r ON r.ev_class {=} o.oid
    WHERE r.ev_type {<>} '1' AND r.ev_enabled {<>} 'D'
    UNION ALL
    SELECT 'triggers component_lease '
    WHERE pg_catalog.current_setting('session_replication_role') {=} 'replica')"
    };
}
pub(super) use veils;

pub(super) const VEILS: &str = veils!();

/// Enabled, before a row is written, and nobody's but the owner's.
pub(super) const TRIGGERS: &str = "ARRAY(SELECT pg_catalog.quote_ident(g.tgname::varchar)
          FROM pg_catalog.pg_trigger AS g
          WHERE g.tgrelid {=} pg_catalog.to_regclass('component_lease') AND NOT g.tgisinternal
            AND g.tgenabled {<>} 'D' AND (g.tgtype {&} 2::smallint) {=} 2::smallint)";

/// What a call needs: tables with their privileges, in pairs.
fn needs(call: Call) -> &'static [(&'static str, &'static str)] {
    const LEASE: &str = "component_lease";
    const INTENT: &str = "component_lease_intent";
    const HISTORY: &str = "component_lease_history";
    const STORE: &str = "component_lease_store";
    const INSTANCE: &str = "component_instance";
    const RECORD: &str = "component_lease_record";
    const REPORT: &str = "component_lease_report";
    match call {
        Call::Look => &[(LEASE, "SELECT"), (INTENT, "SELECT"), (HISTORY, "SELECT"), (STORE, "SELECT")],
        Call::LookAll => &[(LEASE, "SELECT"), (INTENT, "SELECT"), (STORE, "SELECT"), (INSTANCE, "SELECT")],
        // A lock of a row is a right to change it.
        Call::Take => &[
            (LEASE, "SELECT"),
            (LEASE, "INSERT"),
            (LEASE, "UPDATE"),
            (HISTORY, "SELECT"),
            (HISTORY, "INSERT"),
            (STORE, "SELECT"),
            (STORE, "UPDATE"),
        ],
        Call::Term => &[(LEASE, "SELECT"), (LEASE, "UPDATE")],
        Call::Beat => &[(INSTANCE, "SELECT"), (INSTANCE, "INSERT"), (INSTANCE, "UPDATE")],
        Call::Prune => &[(INSTANCE, "SELECT"), (INSTANCE, "DELETE")],
        Call::List => &[(LEASE, "SELECT")],
        Call::ReadHistory => &[(HISTORY, "SELECT")],
        Call::EndTerm => &[(HISTORY, "SELECT"), (HISTORY, "UPDATE"), (INTENT, "SELECT")],
        Call::PruneHistory => &[(HISTORY, "SELECT"), (HISTORY, "DELETE")],
        Call::Intent => &[(INTENT, "SELECT"), (INTENT, "INSERT"), (INTENT, "UPDATE")],
        Call::Record => &[(STORE, "SELECT"), (STORE, "INSERT"), (STORE, "UPDATE")],
        Call::Roster => &[
            (LEASE, "SELECT"),
            (LEASE, "UPDATE"),
            (RECORD, "SELECT"),
            (RECORD, "INSERT"),
            (RECORD, "UPDATE"),
            (REPORT, "SELECT"),
            (REPORT, "INSERT"),
            (REPORT, "UPDATE"),
        ],
    }
}

/// Tables as [`needs`] has them, and the clock; then what may hide something; then the functions by which the
/// server says who it is, for which a connection is as good without (`identity.rs`) unless it began with them.
const LACKS: &str = concat!(
    "SELECT ARRAY(SELECT n.privilege {||} ' ON ' {||} n.name
                  FROM ROWS FROM (pg_catalog.unnest($1::varchar[]), pg_catalog.unnest($2::varchar[])) AS n (name, privilege)
                  WHERE pg_catalog.to_regclass(n.name) IS NOT NULL
                    AND NOT pg_catalog.has_table_privilege(pg_catalog.to_regclass(n.name), n.privilege)
                    AND NOT (n.privilege {=} 'UPDATE'
                             AND pg_catalog.has_any_column_privilege(pg_catalog.to_regclass(n.name), n.privilege))
                  UNION ALL
                  SELECT 'EXECUTE ON FUNCTION ' {||} f.name
                  FROM (VALUES ('pg_catalog.clock_timestamp()')) AS f (name)
                  WHERE pg_catalog.to_regprocedure(f.name) IS NOT NULL
                    AND NOT pg_catalog.has_function_privilege(pg_catalog.to_regprocedure(f.name), 'EXECUTE')), ",
    veils!(),
    ", ARRAY(SELECT 'EXECUTE ON FUNCTION ' {||} f.name
             FROM (VALUES ('pg_catalog.pg_control_system()'), ('pg_catalog.pg_current_wal_lsn()'),
                          ('pg_catalog.pg_walfile_name(pg_catalog.pg_lsn)'), ('pg_catalog.pg_postmaster_start_time()')) AS f (name)
             WHERE pg_catalog.to_regprocedure(f.name) IS NOT NULL
               AND NOT pg_catalog.has_function_privilege(pg_catalog.to_regprocedure(f.name), 'EXECUTE'))"
);

/// Refuses a table that this session would not see as it is.
pub(super) fn refuse_veils(veils: &[String], place: &Place) -> Result<(), StoreError> {
    match veils.iter().find_map(|veil| veiled(veil, &place.user)) {
        Some(why) => Err(StoreError::misconfigured(format!("{place}: {why}"))),
        None => Ok(()),
    }
}

/// What hides something, and what helps.
fn veiled(veil: &str, user: &str) -> Option<String> {
    let mut parts = veil.splitn(3, ' ');
    let (kind, table) = (parts.next()?, parts.next()?);
    let detail = parts.next().unwrap_or_default();
    let role = user.replace('"', "\"\"");
    Some(match kind {
        "rls" => format!(
            "row-level security of the table {table} may hide rows from the user {user}, who would take a lease that is held for one that is free: as the table's owner run ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or as an administrator ALTER ROLE \"{role}\" BYPASSRLS"
        ),
        "kind" => {
            let what = match detail {
                "v" | "m" => "a view",
                "f" => "a foreign table",
                _ => "no table",
            };
            format!(
                "{table} is {what}, which may hide rows and hold no lock: rename it and let search_path lead to the table itself, or run `component-lease migrate`"
            )
        }
        "child" => format!(
            "the table {table} has the child table {detail}, for whose rows no key of {table} holds, so one name could have two rows: ALTER TABLE {detail} NO INHERIT {table}"
        ),
        "rule" => format!(
            "the rule {detail} of the table {table} may put something else in the place of what is written: DROP RULE {detail} ON {table}"
        ),
        "triggers" => "session_replication_role = replica is set for this user, database or server, so the triggers of component_lease and component_lease_history do not fire: set it to origin".to_owned(),
        _ => return None,
    })
}

/// What a refused call lacks, if that can be found out. The connection is in order after a refusal.
pub(super) async fn lacks(line: &mut Line<'_>, call: Call, place: &Place) -> Option<String> {
    let owned = |(table, privilege): &(&str, &str)| ((*table).to_owned(), (*privilege).to_owned());
    let (tables, privileges): (Vec<String>, Vec<String>) = needs(call).iter().map(owned).unzip();
    let query = Statement::new(qualified(LACKS)).bind(&tables[..]).bind(&privileges[..]);
    let row = line.ask(query).await.ok()?;
    let (rights, veils): (Vec<String>, Vec<String>) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
    if let Some(why) = veils.iter().find_map(|veil| veiled(veil, &place.user)) {
        return Some(why);
    }
    let functions: Vec<String> = row.try_get(2).ok()?;
    let role = place.user.replace('"', "\"\"");
    let lacks = |rights: &[String]| {
        let statements: Vec<_> = rights.iter().map(|right| format!("GRANT {right} TO \"{role}\";")).collect();
        format!("the user {} lacks {}: run {}", place.user, rights.join(", "), statements.join(" "))
    };
    match (rights.as_slice(), functions.as_slice()) {
        ([], []) => None,
        ([], rights) | (rights, _) if rights.iter().all(|right| right.starts_with("EXECUTE ")) => {
            Some(format!("{} (as an administrator, in this database)", lacks(rights)))
        }
        (rights, _) => Some(format!("{} {}", lacks(rights), grants(&place.user))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::postgres::statements::tests::unqualified;

    #[test]
    fn everything_but_our_tables_is_named_with_its_schema() {
        assert_eq!(unqualified(&qualified(LACKS)), Vec::<String>::new(), "{LACKS}");
    }

    #[test]
    fn what_hides_rows_is_named_with_what_helps() {
        for (veil, pieces) in [
            (
                "rls component_lease ",
                &["component_lease", "DISABLE ROW LEVEL SECURITY", "ALTER ROLE \"o\"\"x\" BYPASSRLS"][..],
            ),
            ("kind component_lease_store v", &["component_lease_store is a view"]),
            ("kind component_lease f", &["a foreign table"]),
            ("child component_lease app.\"a b\"", &["ALTER TABLE app.\"a b\" NO INHERIT component_lease"]),
            ("rule component_lease quiet", &["DROP RULE quiet ON component_lease"]),
            ("triggers component_lease ", &["session_replication_role"]),
        ] {
            let says = veiled(veil, "o\"x").unwrap();
            for piece in pieces {
                assert!(says.contains(piece), "{piece} in {says}");
            }
        }
    }
}
