//! Makes the tables, and what is missing of tables that were there: the same work, since a database without any
//! lacks all of them. Any number of runs at once do it once.
//!
//! Whose `component_lease` is gets written down before anything is made, and an epoch begins before what was
//! forgotten is made anew where the database does not roll such changes back: a run that ends half way has not
//! made anybody forget the wait.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::dialect::Dialect;
use super::migration::{Install, MigrationReport};
use super::schema::{Found, Job, Present, repairs};
use super::statement::Statements;
use super::value::{Done, Given, Row};
use crate::election::life::DATE_MAX;
use crate::store::error::StoreError;
use crate::store::uuid::new_uuid;

/// The version of the schema, and what the run that makes it is called. The next one is above all of [`UNRELEASED`].
pub(super) const VERSION: i64 = 1;
/// Versions of schemas from before this one. No release had them, but there are databases that do.
const UNRELEASED: RangeInclusive<i64> = 2..=4;
const NAME: &str = "0001_tables";

/// How long a run may take.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// What a kind of database says of its tables, as SQL.
pub(super) struct Schema {
    /// All but the table that tells which version was made.
    pub(super) tables: &'static str,
    /// That table.
    pub(super) versions: &'static str,
    /// Our tables that are there: `name`, `is_table`, `columns` (by blanks), `has_key`, `lacks_comments`,
    /// `is_ours` (whether `migrate` made it, of `component_lease`) and `is_narrow` (whether its versions are).
    pub(super) present: &'static str,
    /// `name` of each trigger that fires.
    pub(super) triggers: Option<&'static str>,
    /// `name` of each function of ours.
    pub(super) functions: Option<&'static str>,
    /// What to grant to whom, where the database knows roles.
    pub(super) grants: Option<&'static str>,
    /// Whether a trigger that is there may have been switched off, so that it is made anew.
    pub(super) has_disabled_triggers: bool,
    /// Whether a table that is there can be given a primary key.
    pub(super) adds_keys: bool,
    /// Whether a table that was made is gone again when the transaction is rolled back.
    pub(super) rolls_back: bool,
}

/// A dialect that can make its tables.
pub(super) trait Migrate: Dialect {
    const SCHEMA: Schema;

    /// Sets the connection up, keeps other runs out, begins a transaction where that helps. The
    /// statements as this server understands them.
    fn begin(
        &self,
        line: &mut Self::Line,
    ) -> impl Future<Output = Result<&'static Statements, StoreError>> + Send;

    /// Several statements without values.
    fn script(line: &mut Self::Line, sql: &str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Rows of one statement without values.
    fn query(
        line: &mut Self::Line,
        sql: &'static str,
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    /// What is left to do when the tables are there; then all of it is in force.
    fn end(line: &mut Self::Line) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// An error of a run, for an account that may not make tables.
    fn failed(&self, error: sqlx::Error) -> StoreError {
        self.classify(error)
    }
}

/// What went wrong: the database's error, or what cannot be mended.
#[derive(Debug)]
enum Failed {
    Database(sqlx::Error),
    Said(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Refuses a schema of a newer program, or of one from before the first release.
pub(super) fn known(version: i64, place: &impl Display) -> Result<(), StoreError> {
    if UNRELEASED.contains(&version) {
        return Err(StoreError::misconfigured(format!(
            "{place}: the tables have schema version {version} of an unreleased component-lease, which is older than this program and works with other tables; stop all participants and the controller, set these tables aside, and run `component-lease migrate` without --first-install (CHANGELOG.md says how)"
        )));
    }
    if version > VERSION {
        return Err(StoreError::misconfigured(format!(
            "{place}: the tables have schema version {version}, this program knows {VERSION} at most; use a newer component-lease"
        )));
    }
    Ok(())
}

pub(super) async fn run<D: Migrate>(
    place: &D,
    line: &mut D::Line,
    how: Install,
) -> Result<MigrationReport, StoreError> {
    let sql = place.begin(line).await?;
    make(place, line, sql, how).await.map_err(|error| match error {
        Failed::Database(error) => place.failed(error),
        Failed::Said(error) => error,
    })
}

async fn make<D: Migrate>(
    place: &D,
    line: &mut D::Line,
    sql: &'static Statements,
    how: Install,
) -> Result<MigrationReport, Failed> {
    let seen = Seen::by::<D>(place, line).await?;
    if !seen.has_versions {
        D::script(line, D::SCHEMA.versions).await?;
    }
    let (before, foreign) = match recorded::<D>(line).await? {
        Some(recorded) => recorded,
        None => {
            let found = seen.adopt();
            record_step::<D>(line, sql, 0, found.1).await?;
            if found.0 == VERSION {
                record_step::<D>(line, sql, VERSION, found.1).await?;
            }
            found
        }
    };
    known(before, place).map_err(Failed::Said)?;
    let job = Job { schema: &D::SCHEMA, is_new: before < VERSION, foreign };
    let repairs = repairs(&job, &seen.present)
        .map_err(|why| Failed::Said(StoreError::misconfigured(format!("{place}: {why}"))))?;
    let latest_date = if seen.is_narrow { 0 } else { DATE_MAX };
    let forgot = repairs.forgot && !job.is_new && seen.present.tables.contains_key("component_lease_store");
    let mut waits = None;
    if forgot && !D::SCHEMA.rolls_back {
        waits = begin_epoch::<D>(line, sql, latest_date, true).await?;
    }
    let mends = !job.is_new && !repairs.list.is_empty();
    let all: Vec<&str> = repairs.list.iter().map(|repair| repair.sql.as_str()).collect();
    if !all.is_empty() {
        D::script(line, &all.join(";\n")).await?;
    }
    if forgot {
        // Tables that were made since are part of what a server is known by.
        let again = begin_epoch::<D>(line, sql, latest_date, D::SCHEMA.rolls_back).await?;
        waits = waits.or(again);
    } else if mends && seen.present.tables.contains_key("component_lease_store") {
        // MySQL tells its tables by when they were made, which for it includes a new column.
        waits = begin_epoch::<D>(line, sql, latest_date, false).await?;
    }
    let made: Vec<String> = repairs.list.into_iter().filter_map(|repair| repair.what).collect();
    let (mut applied, mut mended) = (Vec::new(), Vec::new());
    if job.is_new {
        applied.push(NAME);
        waits = first_record::<D>(line, sql, latest_date, how).await?;
        record_step::<D>(line, sql, VERSION, foreign).await?;
    } else {
        mended = made;
        if D::query(line, RECORD).await?.is_empty() {
            record::<D>(line, sql, latest_date, how.max_ttl, (false, false)).await?;
            waits = Some(how.max_ttl);
        }
    }
    D::end(line).await?;
    Ok(MigrationReport {
        database: place.to_string(),
        version: VERSION,
        applied,
        mended,
        foreign_lease_table: foreign,
        waits: waits.map(|seconds| Duration::from_secs(seconds.into())),
        grants: D::SCHEMA.grants,
    })
}

/// What a look at the database shows.
struct Seen {
    present: Present,
    has_versions: bool,
    is_ours: bool,
    is_narrow: bool,
}

impl Seen {
    async fn by<D: Migrate>(place: &D, line: &mut D::Line) -> Result<Self, Failed> {
        let mut seen =
            Self { present: Present::default(), has_versions: false, is_ours: false, is_narrow: false };
        for row in D::query(line, D::SCHEMA.present).await? {
            let name = row.text("name")?;
            if !row.yes("is_table")? {
                return Err(Failed::Said(StoreError::misconfigured(format!(
                    "{place}: {name} is a view, a foreign table or the like, where a table is needed: rename it and run `component-lease migrate` again"
                ))));
            }
            if name == "component_lease_schema" {
                seen.has_versions = true;
                continue;
            }
            seen.is_ours |= row.yes("is_ours")?;
            seen.is_narrow |= row.yes("is_narrow")?;
            let columns = row.text("columns")?.split_whitespace().map(str::to_ascii_lowercase).collect();
            let (has_key, lacks_comments) = (row.yes("has_key")?, row.yes("lacks_comments")?);
            seen.present.tables.insert(name, Found { columns, has_key, lacks_comments });
        }
        for (sql, names) in [
            (D::SCHEMA.triggers, &mut seen.present.triggers),
            (D::SCHEMA.functions, &mut seen.present.functions),
        ] {
            let Some(sql) = sql else { continue };
            for row in D::query(line, sql).await? {
                names.insert(row.text("name")?);
            }
        }
        Ok(seen)
    }

    /// Where nothing tells which version was made: tables of ours were made by a whole run, whose record is gone, and
    /// what is missing of them is mended. The version, and whether `component_lease` is another program's.
    fn adopt(&self) -> (i64, bool) {
        let has = |name: &str| self.present.tables.contains_key(name);
        let lease = has("component_lease");
        let companions = ["component_lease_intent", "component_lease_history", "component_lease_store"];
        let ours = lease && self.is_ours || companions.into_iter().any(has);
        (if ours { VERSION } else { 0 }, lease && !self.is_ours)
    }
}

/// The version, and whether `component_lease` is another program's.
async fn recorded<D: Migrate>(line: &mut D::Line) -> Result<Option<(i64, bool)>, sqlx::Error> {
    let mut recorded = None;
    for row in D::query(line, "SELECT version, foreign_lease_table FROM component_lease_schema").await? {
        let (version, foreign) = recorded.unwrap_or((0, false));
        recorded = Some((row.int("version")?.max(version), row.yes("foreign_lease_table")? || foreign));
    }
    Ok(recorded)
}

/// There is one row at the most.
const RECORD: &str = "SELECT identity, epoch, max_ttl FROM component_lease_store";

async fn execute<D: Migrate>(
    line: &mut D::Line,
    statement: &'static super::statement::Statement,
    given: &Given<'_>,
) -> Result<Done, sqlx::Error> {
    D::execute(line, statement, &statement.values(given)?).await
}

async fn record_step<D: Migrate>(
    line: &mut D::Line,
    sql: &'static Statements,
    version: i64,
    foreign: bool,
) -> Result<(), sqlx::Error> {
    let given = [("version", version.into()), ("is_foreign", foreign.into())];
    execute::<D>(line, &sql.record_step, &given).await.map(drop)
}

/// Records an epoch: in any case, or only where the server is not the one that is recorded any more. For how many
/// seconds nobody takes anything then; `None` where none began.
async fn begin_epoch<D: Migrate>(
    line: &mut D::Line,
    sql: &'static Statements,
    latest_date: i64,
    in_any_case: bool,
) -> Result<Option<u32>, sqlx::Error> {
    let Some(row) = D::query(line, RECORD).await?.into_iter().next() else { return Ok(None) };
    let (identity, server) = (row.text("identity")?, D::server(line));
    let given = [
        ("latest_date", latest_date.into()),
        ("at_least", 0_i64.into()),
        ("identity", (&identity).into()),
        ("epoch", row.int("epoch")?.into()),
        ("deliberate", in_any_case.into()),
        ("server", (&server).into()),
    ];
    let begun = execute::<D>(line, &sql.begin_epoch, &given).await?.affected > 0;
    Ok(u32::try_from(row.int("max_ttl")?).ok().filter(|_| begun))
}

/// Leases that are there go on with their numbers; nobody knows whether this is still the server that
/// granted them, so it is not settled. For how many seconds nobody takes anything.
async fn first_record<D: Migrate>(
    line: &mut D::Line,
    sql: &'static Statements,
    latest_date: i64,
    how: Install,
) -> Result<Option<u32>, sqlx::Error> {
    let there = D::query(line, "SELECT EXISTS (SELECT 1 FROM component_lease) AS leases").await?;
    let leases = there.first().ok_or(sqlx::Error::RowNotFound)?.yes("leases")?;
    let (first, settled) = (how.first || leases, how.first && !leases);
    match record::<D>(line, sql, latest_date, how.max_ttl, (first, settled)).await {
        // Of a run that stopped here, or by a participant since.
        Err(error) if !(D::ERRORS.are_granted_already)(&error) => Err(error),
        _ => Ok((!settled).then_some(how.max_ttl)),
    }
}

async fn record<D: Migrate>(
    line: &mut D::Line,
    sql: &'static Statements,
    latest_date: i64,
    max_ttl: u32,
    (first, settled): (bool, bool),
) -> Result<(), sqlx::Error> {
    let (uuid, server) = (new_uuid(), D::server(line));
    let given = [
        ("latest_date", latest_date.into()),
        ("at_least", 0_i64.into()),
        ("max_ttl", max_ttl.into()),
        ("settled", settled.into()),
        ("first", first.into()),
        ("server", (&server).into()),
        ("uuid", (&uuid).into()),
    ];
    execute::<D>(line, &sql.first_record, &given).await.map(drop)
}
