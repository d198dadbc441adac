//! What a server says of itself that tells one life of a database from another. Not each server
//! says everything: a managed service forbids, refuses or lacks some of these functions.
//!
//! An identity has three parts before the UUID of the record: the system identifier, the timeline (the
//! name of the instance on Aurora, which has no timelines), and the time at which the server was started.
//! A part that cannot be had is `-`. Accounts with different rights must come to the same identity, so a
//! part that is `-` in the record is `-` for everybody: an identity can only become weaker.
//!
//! Behind the UUID stand the OIDs of the database and of our tables: a database that was restored beside and
//! renamed has another OID, and so have tables that were dropped and made anew.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sqlx::Row;
use sqlx::error::DatabaseError;

use super::connection::Place;
use super::errors::{classify, is_denied};
use super::statement::{Line, Statement};
use super::statements::qualified;
use crate::store::error::StoreError;

/// Which functions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// `pg_control_system`.
    system: bool,
    life: Lives,
    /// `pg_postmaster_start_time`.
    start: bool,
}

/// What tells a server from the one that it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lives {
    /// `pg_walfile_name` and `pg_current_wal_lsn`.
    Timeline,
    /// `aurora_db_instance_identifier`.
    Instance,
    Nothing,
}

/// The control file lags a promotion, so the timeline comes from the log that is being written. The start
/// time is there because a volume that was put back has the same name and timeline.
const SYSTEM: &str = "(SELECT c.system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system() AS c)";
const TIMELINE: &str = r#"pg_catalog."left"(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)"#;
const INSTANCE: &str = "pg_catalog.aurora_db_instance_identifier()::pg_catalog.text";
const START: &str =
    "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) {*} 1000000)::bigint::pg_catalog.text";

/// Catalogues alone, which everybody may read. Asked anew at each execution.
const OBJECTS: &str = "(SELECT d.oid::pg_catalog.text FROM pg_catalog.pg_database AS d
      WHERE d.datname {=} pg_catalog.current_database())
     {||} '.' {||} coalesce(pg_catalog.to_regclass('component_lease')::pg_catalog.oid::pg_catalog.text, '-')
     {||} '.' {||} coalesce(pg_catalog.to_regclass('component_lease_history')::pg_catalog.oid::pg_catalog.text, '-')
     {||} '.' {||} coalesce(pg_catalog.to_regclass('component_lease_store')::pg_catalog.oid::pg_catalog.text, '-')";

impl Form {
    pub(super) const COUNT: usize = 12;
    /// PostgreSQL as it comes.
    const WHOLE: Self = Self { system: true, life: Lives::Timeline, start: true };

    pub(super) fn number(self) -> usize {
        let life = [Lives::Timeline, Lives::Instance, Lives::Nothing];
        let life = life.iter().position(|life| *life == self.life).unwrap_or_default();
        life * 4 + usize::from(self.system) * 2 + usize::from(self.start)
    }

    pub(super) fn from_number(number: usize) -> Self {
        let life = match number / 4 {
            0 => Lives::Timeline,
            1 => Lives::Instance,
            _ => Lives::Nothing,
        };
        Self { system: number & 2 != 0, life, start: number & 1 != 0 }
    }

    /// Whether the log is asked for its timeline.
    pub(super) fn asks_the_log(self) -> bool {
        self.life == Lives::Timeline
    }

    /// In parentheses; `s` must be the record, or NULLs in its place.
    pub(super) fn sql(self) -> String {
        let life = match self.life {
            Lives::Timeline => Some(TIMELINE),
            Lives::Instance => Some(INSTANCE),
            Lives::Nothing => None,
        };
        let part = |number: u8, part: Option<&str>| match part {
            Some(part) => format!(
                "(CASE WHEN pg_catalog.split_part(s.identity, '/', {number}) {{=}} '-' THEN '-' ELSE {part} END) {{||}} '/'"
            ),
            None => "'-/'::pg_catalog.text".to_owned(),
        };
        format!(
            "({} {{||}} {} {{||}} {} {{||}} coalesce(s.uuid::pg_catalog.text, '') {{||}} '/' {{||}} {OBJECTS})",
            part(1, self.system.then_some(SYSTEM)),
            part(2, life),
            part(3, self.start.then_some(START))
        )
    }

    /// Whether what there is shows a failover.
    fn is_enough(self) -> bool {
        self.start || self.life == Lives::Timeline
    }

    /// What is weaker than with everything, for the log; `denied` are functions that this user may not call.
    fn weaker(self, denied: &[&str], user: &str) -> Option<String> {
        let lacks = [
            (!self.system, "the system identifier (pg_control_system)"),
            (self.life == Lives::Nothing, "the timeline (pg_walfile_name, pg_current_wal_lsn)"),
            (!self.start, "the time of its start (pg_postmaster_start_time)"),
        ];
        let lacks: Vec<&str> = lacks.iter().filter(|(lacks, _)| *lacks).map(|(_, what)| *what).collect();
        let means = if self.start {
            "another server is recognised by the time of its start"
        } else {
            "a failover is recognised, but neither a restart nor a volume that was put back: after such a restore run `component-lease epoch bump`"
        };
        let helps = if denied.is_empty() {
            String::new()
        } else {
            let (functions, role) = (denied.join(", "), user.replace('"', "\"\""));
            format!(
                "; the user {user} may not call {functions}: GRANT EXECUTE ON FUNCTION {functions} TO \"{role}\""
            )
        };
        (!lacks.is_empty()).then(|| format!("the server does not say {}; {means}{helps}", lacks.join(", ")))
    }
}

/// The form that was found last, for the next connect, and the functions that were forbidden.
#[derive(Debug)]
pub(super) struct Found(AtomicUsize, Mutex<Vec<&'static str>>);

impl Default for Found {
    fn default() -> Self {
        Self(AtomicUsize::new(Form::WHOLE.number()), Mutex::default())
    }
}

impl Found {
    pub(super) fn get(&self) -> Form {
        Form::from_number(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, form: Form, denied: Vec<&'static str>) {
        self.0.store(form.number(), Ordering::Relaxed);
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = denied;
    }
}

/// What the server said of itself at the last connect, without a record.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<String>);

impl Seen {
    pub(super) fn set(&self, identity: &str) {
        identity.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether this may be the same database, whichever server has it now.
    pub(super) fn is_same_database(&self, identity: &str) -> bool {
        same_database(&self.0.lock().unwrap_or_else(PoisonError::into_inner), identity)
    }
}

/// The system identifier and the OIDs are the same. Another account may not be told the former.
fn same_database(one: &str, other: &str) -> bool {
    let parts = |identity: &'_ str| {
        let mut parts = identity.split('/').map(ToOwned::to_owned);
        Some((parts.next()?, parts.next_back().filter(|oids| oids.contains('.'))?))
    };
    match (parts(one), parts(other)) {
        (Some((system, oids)), Some((other_system, other_oids))) => {
            oids == other_oids && (system == other_system || system == "-" || other_system == "-")
        }
        _ => false,
    }
}

/// Whether a statement may have failed for a function of the identity: it is lacking (42883), forbidden
/// (42501), refused (55000 on Aurora), or the product says it in its own way.
pub(super) fn may_be_for_identity(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| {
        ["0A", "22", "34", "42", "55", "58", "P0", "XX"].iter().any(|class| code.starts_with(class))
            && code != "55P03"
    })
}

/// For `migrate`, which writes the first record: what this server says of itself.
pub(super) async fn form(line: &mut Line<'_>, place: &Place) -> Result<Form, StoreError> {
    let whole = format!(
        "SELECT pg_catalog.version(), pg_catalog.to_regproc('pg_catalog.aurora_version') IS NOT NULL,
                CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE {} END
         FROM (SELECT NULL::pg_catalog.text AS identity, NULL::pg_catalog.uuid AS uuid) AS s",
        Form::WHOLE.sql()
    );
    let failed = |error| classify(error, place);
    match line.ask(Statement::new(qualified(&whole))).await {
        Ok(row) => {
            refuse_product(row.try_get(0).map_err(failed)?, place)?;
            if row.try_get(1).map_err(failed)? { probe(line, place).await } else { Ok(Form::WHOLE) }
        }
        Err(error) if may_be_for_identity(&error) => probe(line, place).await,
        Err(error) => Err(failed(error)),
    }
}

/// Asks for each function alone, and keeps the answer in `place`.
pub(super) async fn probe(line: &mut Line<'_>, place: &Place) -> Result<Form, StoreError> {
    let version = ask(line, "SELECT pg_catalog.version()", place).await?;
    refuse_product(version.as_deref().unwrap_or_default(), place)?;
    let recovery = ask(line, "SELECT pg_catalog.pg_is_in_recovery()::varchar", place).await?;
    if recovery.as_deref() == Some("true") {
        return Err(standby(place));
    }
    let aurora =
        ask(line, "SELECT pg_catalog.to_regproc('pg_catalog.aurora_version')::varchar", place).await?;
    // Aurora has timelines with wal_level = logical alone; who leads must not depend on that.
    let (life, asked) =
        if aurora.is_some() { (Lives::Instance, INSTANCE) } else { (Lives::Timeline, TIMELINE) };
    let mut denied = Vec::new();
    let mut has = async |asked: &str, functions: &[&'static str]| -> Result<bool, StoreError> {
        let found = ask_for(line, &format!("SELECT {asked}"), place).await?;
        if matches!(found, Said::Denied) {
            denied.extend(functions);
        }
        Ok(matches!(found, Said::This(_)))
    };
    let functions: &[_] =
        if aurora.is_some() { &[] } else { &["pg_current_wal_lsn()", "pg_walfile_name(pg_lsn)"] };
    let life = if has(asked, functions).await? { life } else { Lives::Nothing };
    let system = has(SYSTEM, &["pg_control_system()"]).await?;
    let form = Form { system, life, start: has(START, &["pg_postmaster_start_time()"]).await? };
    if !form.is_enough() {
        let version = version.as_deref().unwrap_or("a server that does not tell its version");
        return Err(StoreError::misconfigured(format!(
            "{place}: this server says nothing by which a failover could be told from it (neither pg_postmaster_start_time nor pg_current_wal_lsn can be called), so two could lead; GRANT EXECUTE ON FUNCTION pg_postmaster_start_time() TO \"{}\", or use a PostgreSQL that has it (this is {version})",
            place.user.replace('"', "\"\"")
        )));
    }
    place.form.set(form, denied);
    Ok(form)
}

/// What a function answers.
enum Said {
    This(String),
    Nothing,
    Denied,
}

/// What the answer is; `None` where the server has none.
async fn ask(line: &mut Line<'_>, sql: &str, place: &Place) -> Result<Option<String>, StoreError> {
    Ok(match ask_for(line, sql, place).await? {
        Said::This(answer) => Some(answer),
        Said::Nothing | Said::Denied => None,
    })
}

async fn ask_for(line: &mut Line<'_>, sql: &str, place: &Place) -> Result<Said, StoreError> {
    match line.ask(Statement::new(qualified(sql))).await.and_then(|row| row.try_get(0)) {
        Ok(Some(answer)) => Ok(Said::This(answer)),
        Ok(None) => Ok(Said::Nothing),
        Err(error) if is_denied(&error) => Ok(Said::Denied),
        Err(error) if may_be_for_identity(&error) => Ok(Said::Nothing),
        Err(error) => Err(classify(error, place)),
    }
}

/// Products that speak PostgreSQL's protocol and whose servers each are a life of their own.
pub(super) fn refuse_product(version: &str, place: &Place) -> Result<(), StoreError> {
    const PRODUCTS: [(&str, &str); 6] = [
        ("CockroachDB", "CockroachDB"),
        ("-YB-", "YugabyteDB"),
        ("YugabyteDB", "YugabyteDB"),
        ("Redshift", "Amazon Redshift"),
        ("Greenplum", "Greenplum"),
        ("Materialize", "Materialize"),
    ];
    match PRODUCTS.iter().find(|(mark, _)| version.contains(mark)) {
        None => Ok(()),
        Some((_, product)) => Err(StoreError::misconfigured(format!(
            "{place}: this is {product}, which cannot hold leases: it does not say which server answers and since when, so a failover could make two leaders; use PostgreSQL, MySQL or MariaDB"
        ))),
    }
}

/// What is weaker is said once for each store.
pub(super) fn say_what_is_weaker(form: Form, place: &Place) {
    let denied = place.form.1.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(weaker) = form.weaker(&denied, &place.user) {
        tracing::warn!("{place}: {weaker}");
    }
}

pub(super) fn standby(place: &Place) -> StoreError {
    StoreError::retryable(format!(
        "{place}: the server is a standby and cannot write; waiting for it to be promoted, or name the primary in the URL"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_its_number() {
        for number in 0..Form::COUNT {
            assert_eq!(Form::from_number(number).number(), number);
        }
        assert_eq!(Form::WHOLE.weaker(&[], "app"), None);
    }

    #[test]
    fn a_database_is_the_same_on_whichever_server_it_is() {
        let is = |other| same_database("71/00000001/99//5.16384.16390.16399", other);
        assert!(is("71/00000001/99//5.16384.16390.16399") && is("71/00000002/100//5.16384.16390.16399"));
        assert!(is("-/-/99//5.16384.16390.16399"));
        for other in ["72/00000001/99//5.16384.16390.16399", "71/00000001/99//6.16384.16390.16399", "", "71"]
        {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_a_dash_and_is_said() {
        let aurora = Form { system: true, life: Lives::Instance, start: true };
        assert!(aurora.is_enough() && aurora.weaker(&[], "app").is_none());
        let alone = Form { system: false, life: Lives::Nothing, start: true };
        let weaker = alone.weaker(&["pg_control_system()"], "a\"b").unwrap();
        assert!(weaker.contains("GRANT EXECUTE ON FUNCTION pg_control_system() TO \"a\"\"b\""), "{weaker}");
        assert!(!alone.weaker(&[], "app").unwrap().contains("GRANT"));
        assert!(
            alone.is_enough()
                && weaker.contains("pg_control_system")
                && weaker.contains("pg_current_wal_lsn")
        );
        assert_eq!(alone.sql().matches("'-/'").count(), 2);
        // The system identifier is the same on a standby.
        assert!(!Form { start: false, ..alone }.is_enough() && !Form { start: false, ..aurora }.is_enough());
    }
}
