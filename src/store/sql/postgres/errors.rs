//! What PostgreSQL's answers mean for the caller, by SQLSTATE.

use std::io;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::connection::Place;
use crate::store::error::StoreError;
use crate::store::sql::errors;

pub(super) fn leaves_connection_in_order(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code.starts_with("40") || CANNOT_HOLD.contains(&&*code))
}

/// Whether another host may do better: nobody there, or not yet; not a refusal of us.
pub(super) fn is_of_this_host(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"),
        _ => false,
    }
}

/// The history has this version or a later one: the take was rolled back, and is a lost race.
pub(super) fn is_granted_already(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("23505") && error.table() == Some("component_lease_history")
}

/// The user may not do that, or does not see all there is.
pub(super) fn is_denied(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("42501")
}

/// As the server said it, with what was found out about the reason.
pub(super) fn denied(error: &sqlx::Error, why: &str, place: &Place) -> StoreError {
    let message = error.as_database_error().map_or_else(|| error.to_string(), |e| e.message().to_owned());
    StoreError::misconfigured(format!("{place}: {message} (SQLSTATE 42501); {why}"))
}

/// What the user may not, with what helps.
pub(super) fn refused(why: &str, place: &Place) -> StoreError {
    StoreError::misconfigured(format!("{place}: permission denied (SQLSTATE 42501); {why}"))
}

/// What was asked for is not there, is not what we take it for, or not for this user.
pub(super) fn is_not_to_be_read(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("42501" | "42P01" | "42703"))
}

/// Somebody closed the connection: the server when it was idle, or somebody in between.
pub(super) fn says_closed(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(error, sqlx::Error::Io(_)) || code.as_deref() == Some("57P05")
}

/// No connection is left, by the word of the server or of a pooler in between.
pub(super) fn has_run_out(error: &sqlx::Error) -> bool {
    let error = match error {
        sqlx::Error::PoolTimedOut => return true,
        sqlx::Error::Database(error) => error,
        _ => return false,
    };
    // Poolers have no codes for it: PgBouncer, Supavisor, RDS Proxy.
    let words = [
        "query_wait_timeout",
        "max_client_conn",
        "no more connections allowed",
        "max clients",
        "acquire database connection",
        "pool_size",
        "too many",
    ];
    let says = error.message().to_ascii_lowercase();
    error.code().as_deref() == Some("53300") || words.iter().any(|words| says.contains(words))
}

pub(super) fn classify(error: sqlx::Error, place: &Place) -> StoreError {
    errors::classify(error, "sslrootcert", place, |error| by_code(&Said::of(error), place))
}

/// What the server said.
struct Said {
    code: String,
    message: String,
    /// The function of the server's source that raised it: unlike the message, the same in every language.
    routine: Option<String>,
    /// A function of the database in which it was raised, which is a trigger's then.
    raised_in: Option<String>,
    table: Option<String>,
}

impl Said {
    fn of(error: &dyn DatabaseError) -> Self {
        let postgres = error.try_downcast_ref::<PgDatabaseError>();
        Self {
            code: error.code().unwrap_or_default().into_owned(),
            message: error.message().to_owned(),
            routine: postgres.and_then(PgDatabaseError::routine).map(ToOwned::to_owned),
            raised_in: postgres.and_then(PgDatabaseError::r#where).map(ToOwned::to_owned),
            table: error.table().map(ToOwned::to_owned),
        }
    }
}

/// By the classes of PostgreSQL's `errcodes.txt`, each of which is here, and single codes where one of a
/// class means something else. What is not known is never called a bug of ours: other products speak this
/// protocol, and poolers answer with codes of their own.
fn by_code(said: &Said, place: &Place) -> StoreError {
    let Said { code, message, routine, raised_in, table } = said;
    let says = format!("{place}: {message} (SQLSTATE {code})");
    let user = &place.user;
    let misconfigured = |advice: &str| StoreError::misconfigured(format!("{says}{advice}"));
    let retryable = |advice: &str| StoreError::retryable(format!("{says}{advice}"));
    match code.as_str() {
        "28000" | "28P01" => {
            return StoreError::misconfigured(format!(
                "{place}: the server rejects the user {user}: {message}; check the user, the password and pg_hba.conf"
            ));
        }
        "3D000" => {
            return StoreError::misconfigured(format!(
                "{place}: {message}; check the database's name in the URL"
            ));
        }
        "42501" => return misconfigured(&format!("; {}", grants(user))),
        "42P01" | "42703" | "3F000" => return misconfigured("; run `component-lease migrate`"),
        "26000" | "42P05" => {
            return misconfigured(
                ": a connection pooler in between, which was not recognised, mixes up prepared statements; say so by pgbouncer=true in the URL",
            );
        }
        code if CANNOT_HOLD.contains(&code) => {
            return misconfigured(
                ": the database's encoding cannot hold a character of it; choose a name of ASCII characters, or a database WITH ENCODING 'UTF8'",
            );
        }
        "23505" if table.as_deref() == Some("component_instance") => {
            return misconfigured(
                ": the sequence of component_instance is behind its rows, as in a copy by logical replication; run `component-lease migrate`, which moves it",
            );
        }
        "55P03" => {
            return StoreError::retryable(format!(
                "{place}: another transaction holds the row's lock for longer than this call may wait"
            ));
        }
        "25006" => {
            return StoreError::retryable(format!(
                "{place}: the server has become read-only; waiting for a connection that can write"
            ));
        }
        // Of ours: the history takes no term whose row says something else than what was written.
        "23502" if table.as_deref() == Some("component_lease_history") => return altered(place),
        "22012" => return altered(place),
        // "cached plan must not change result type": somebody altered a table under way.
        "0A000" if routine.as_deref() == Some("RevalidateCachedQuery") => return retryable(""),
        _ => {}
    }
    let class = code.get(..2).unwrap_or_default();
    if let Some(context) = raised_in.as_deref().and_then(theirs)
        && !matches!(class, "08" | "40" | "53" | "57" | "58")
    {
        return misconfigured(&format!(
            "; it was raised in a trigger of somebody else's ({context}): correct or drop that trigger"
        ));
    }
    match class {
        "XX" if matches!(code.as_str(), "XX001" | "XX002") => {
            misconfigured("; the server's files are damaged: restore the database, or REINDEX what it names")
        }
        // Connection; transaction rolled back, also for its state or its time limit; locks; operator intervention;
        // system error; snapshot too old; internal error.
        "08" | "0B" | "25" | "2D" | "3B" | "40" | "55" | "57" | "58" | "72" | "XX" => retryable(""),
        "53" if code == "53300" => retryable(
            ": no connection is free; component-lease keeps two for each participant and controller",
        ),
        "53" => retryable("; give the server what it lacks"),
        // Data; integrity; a view's check option.
        "22" | "23" | "44" => misconfigured(
            ": the table component_lease does not accept what component-lease must write; see docs/databases.md",
        ),
        // Triggers and functions, PL/pgSQL; foreign tables.
        "09" | "20" | "21" | "27" | "2F" | "38" | "39" | "P0" => misconfigured(
            "; another program's trigger, rule or function on these tables forbids it: correct or drop that",
        ),
        "HV" => misconfigured("; foreign tables cannot hold leases: use the server itself"),
        "0A" => misconfigured(
            "; this server does not do what component-lease needs: docs/databases.md says which servers do",
        ),
        // Invalid authorization, grantor, role; schema and catalog names; dependent privileges.
        "0L" | "0P" | "28" | "2B" | "3D" | "3F" => misconfigured("; check the user and its rights"),
        "54" => misconfigured("; a limit of the server is too low for component-lease (as max_stack_depth)"),
        "F0" => misconfigured("; correct the server's configuration"),
        // Syntax, names that are ambiguous within a statement: on PostgreSQL itself that is ours.
        "42" if matches!(code.as_str(), "42601" | "42P02" | "42P08" | "42702" | "42712" | "42803") => {
            StoreError::bug(says)
        }
        // No such function, operator or type, a key or column of another kind.
        "42" => misconfigured(
            "; the server lacks something of PostgreSQL, the tables are not as `component-lease migrate` makes them, or another user's object in the search_path hides what is meant: docs/databases.md",
        ),
        "24" | "34" => StoreError::bug(says),
        _ => retryable("; component-lease does not know this kind of error"),
    }
}

/// The innermost function that is not one of ours, as the server's context names it.
fn theirs(context: &str) -> Option<&str> {
    let line = context.lines().find(|line| line.contains('('))?;
    let ours = ["component_lease_notify", "component_lease_history_rises"];
    (!ours.iter().any(|name| line.contains(name))).then_some(line)
}

fn altered(place: &Place) -> StoreError {
    StoreError::misconfigured(format!(
        "{place}: a trigger of the table component_lease changes what is written, so nothing was written: \\d component_lease shows it; correct or drop it"
    ))
}

/// A character that the database's encoding lacks or forbids.
const CANNOT_HOLD: [&str; 2] = ["22P05", "22021"];

/// Says which of the values that were sent the database's encoding cannot hold.
pub(super) fn naming(error: StoreError, sent: &[&str]) -> StoreError {
    match error {
        StoreError::Misconfigured { message, source }
            if CANNOT_HOLD.iter().any(|code| message.contains(&format!("(SQLSTATE {code})"))) =>
        {
            let sent: Vec<String> =
                sent.iter().filter(|value| !value.is_ascii()).map(|value| format!("{value:?}")).collect();
            StoreError::Misconfigured { message: format!("{message} ({})", sent.join(", ")), source }
        }
        other => other,
    }
}

pub(super) fn grants(user: &str) -> String {
    let role = user.replace('"', "\"\"");
    format!(
        "as the tables' owner run, for a participant: GRANT SELECT, INSERT, UPDATE ON component_lease, component_lease_store, component_instance TO \"{role}\"; GRANT SELECT, INSERT, UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history TO \"{role}\"; GRANT SELECT ON component_lease_intent, component_lease_schema TO \"{role}\"; (for the controller: GRANT SELECT, UPDATE (holder_id, renew_time) ON component_lease TO \"{role}\"; GRANT SELECT, DELETE, UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history TO \"{role}\"; GRANT SELECT ON component_lease_schema TO \"{role}\"; GRANT SELECT, INSERT, UPDATE ON component_lease_intent, component_lease_store TO \"{role}\"; GRANT SELECT, DELETE ON component_instance TO \"{role}\";)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Source;
    use crate::store::sql::dialect::Opened;

    fn place() -> Place {
        let source = Source::url("postgres://u@localhost/d");
        let url = source.read().unwrap();
        Place::at(source, &url, "test").unwrap()
    }

    fn said(code: &str) -> Said {
        Said { code: code.into(), message: "text".into(), routine: None, raised_in: None, table: None }
    }

    /// Every class of PostgreSQL 18's errcodes.txt, by its first code, and what an operator reads of it.
    const CLASSES: &[(&str, &str)] = &[
        ("01000", "retryable"),
        ("02000", "retryable"),
        ("03000", "retryable"),
        ("08000", "retryable"),
        ("09000", "misconfigured"),
        ("0A000", "misconfigured"),
        ("0B000", "retryable"),
        ("0F000", "retryable"),
        ("0L000", "misconfigured"),
        ("0P000", "misconfigured"),
        ("0Z000", "retryable"),
        ("10608", "retryable"),
        ("20000", "misconfigured"),
        ("21000", "misconfigured"),
        ("22000", "misconfigured"),
        ("23000", "misconfigured"),
        ("24000", "bug"),
        ("25000", "retryable"),
        ("26000", "misconfigured"),
        ("27000", "misconfigured"),
        ("28000", "misconfigured"),
        ("2B000", "misconfigured"),
        ("2D000", "retryable"),
        ("2F000", "misconfigured"),
        ("34000", "bug"),
        ("38000", "misconfigured"),
        ("39000", "misconfigured"),
        ("3B000", "retryable"),
        ("3D000", "misconfigured"),
        ("3F000", "misconfigured"),
        ("40000", "retryable"),
        ("42000", "misconfigured"),
        ("42601", "bug"),
        ("44000", "misconfigured"),
        ("53000", "retryable"),
        ("54000", "misconfigured"),
        ("55000", "retryable"),
        ("57000", "retryable"),
        ("58000", "retryable"),
        ("F0000", "misconfigured"),
        ("HV000", "misconfigured"),
        ("P0000", "misconfigured"),
        ("XX000", "retryable"),
        ("XX001", "misconfigured"),
        // Of poolers and other products, or of a PostgreSQL to come.
        ("99999", "retryable"),
        ("R0001", "retryable"),
        ("", "retryable"),
    ];

    #[test]
    fn every_class_of_errors_has_a_kind_and_none_that_is_unknown_is_called_a_bug() {
        for (code, kind) in CLASSES {
            assert_eq!(by_code(&said(code), &place()).kind(), *kind, "{code}");
        }
        for code in ["42883", "42704"] {
            assert_eq!(by_code(&said(code), &place()).kind(), "misconfigured", "{code}");
        }
    }

    #[test]
    fn an_error_of_somebody_elses_trigger_names_it_whatever_its_class() {
        for code in ["42601", "42804", "22003", "P0001", "24000", "XX000"] {
            let context = "PL/pgSQL function audit() line 3 at RAISE\nSQL statement".to_owned();
            let error = by_code(&Said { raised_in: Some(context), ..said(code) }, &place());
            assert_eq!(error.kind(), "misconfigured", "{code}");
            assert!(error.to_string().contains("PL/pgSQL function audit() line 3"), "{error}");
        }
        let ours = "PL/pgSQL function component_lease_history_rises() line 3 at RAISE".to_owned();
        let error = by_code(&Said { raised_in: Some(ours), ..said("57014") }, &place());
        assert_eq!(error.kind(), "retryable");
    }
}
