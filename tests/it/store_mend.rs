//! `migrate` on tables of ours of which something is missing: it makes that, and nobody takes a lease before
//! every term that may have been forgotten is over.

use std::time::Duration;

use component_lease::election::machine::Past;
use component_lease::store::{self, EndReason, Ending, Install, Outcome, Source};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::postgres;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor};

use crate::agent_support::program;
use crate::stores::{SqliteFile, component, held, misconfigured, says, term};

/// A database of one kind, with a lease in it.
struct Bench {
    source: Source,
    kind: Of,
}

enum Of {
    Postgres(postgres::Database),
    MySql(mysql::Database),
    Sqlite(SqliteFile),
}

impl Bench {
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for server in [postgres::shared().await.unwrap(), postgres::shared_newest().await.unwrap()] {
            all.push(Of::Postgres(server.fresh_database().await.unwrap()));
        }
        for kind in [Kind::MariaDb10_11, Kind::MariaDb11_8, Kind::MySql9] {
            all.push(Of::MySql(mysql::shared(kind).await.unwrap().fresh_database().await.unwrap()));
        }
        all.push(Of::Sqlite(SqliteFile::none_yet()));
        let mut benches = Vec::new();
        for kind in all {
            let source = match &kind {
                Of::Postgres(database) => Source::url(&database.url),
                Of::MySql(database) => Source::url(&database.url),
                Of::Sqlite(file) => file.source(),
            };
            store::install(&source, Install::default().first(true).max_ttl(Duration::from_secs(30)))
                .await
                .unwrap();
            held(&*store::open(source.clone(), "test").unwrap(), "c", "a").await;
            benches.push(Self { source, kind });
        }
        benches
    }

    async fn sql(&self, sql: &str) {
        match &self.kind {
            Of::Postgres(database) => drop(database.psql(sql).await.unwrap()),
            Of::MySql(database) => drop(database.sql(sql).await.unwrap()),
            Of::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file.path());
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
            }
        }
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Of::Postgres(_) => "PostgreSQL",
            Of::MySql(_) => "MySQL",
            Of::Sqlite(_) => "SQLite",
        }
    }
}

#[tokio::test]
async fn a_table_that_was_dropped_or_renamed_is_made_anew_with_the_wait_that_this_needs() {
    for (broken, made, waits, past) in [
        ("DROP TABLE component_lease", "the table component_lease", true, Past::Lived(1)),
        (
            "ALTER TABLE component_lease RENAME TO leases_of_before",
            "the table component_lease",
            true,
            Past::Lived(1),
        ),
        ("DROP TABLE component_lease_history", "the table component_lease_history", true, Past::Lived(1)),
        ("DROP TABLE component_lease_store", "the table component_lease_store", true, Past::Lived(1)),
        ("DROP TABLE component_lease_intent", "the table component_lease_intent", false, Past::Lived(1)),
        ("DROP TABLE component_instance", "the table component_instance", false, Past::Lived(1)),
        ("DROP TABLE component_lease_record", "the table component_lease_record", false, Past::Lived(1)),
        ("DROP TABLE component_lease_report", "the table component_lease_report", false, Past::Lived(1)),
        ("DROP TABLE component_lease_schema", "", false, Past::Lived(1)),
        (
            "DROP TABLE component_lease_schema; DROP TABLE component_lease",
            "the table component_lease",
            true,
            Past::Lived(1),
        ),
        (
            "DROP TABLE component_lease; DROP TABLE component_lease_history; DROP TABLE component_lease_store",
            "the table component_lease, the table component_lease_history, the table component_lease_store",
            true,
            Past::NeverLived,
        ),
    ] {
        for bench in Bench::all().await {
            let which = format!("{}: {broken}", bench.name());
            let life = async || {
                store::open(bench.source.clone(), "test").unwrap().look(&component("c")).await.unwrap().life
            };
            let before = life().await;
            bench.sql(broken).await;
            // Not even --first-install saves anybody the wait.
            let first = Install::default().first(true).max_ttl(Duration::from_secs(30));
            let report = store::install(&bench.source, first).await.unwrap();
            assert_eq!(report.mended.join(", "), made, "{which}");
            assert!(report.applied.is_empty() && !report.foreign_lease_table, "{which}: {report}");
            assert_eq!(report.waits, waits.then_some(Duration::from_secs(30)), "{which}");
            let store = store::open(bench.source.clone(), "test").unwrap();
            let looked = store.look(&component("c")).await.unwrap();
            assert_eq!((looked.past, looked.life.is_settled()), (past, !waits), "{which}");
            assert!(!looked.life.is_strange(), "{which}");
            let (was, is) = (before.record().unwrap().epoch, looked.life.record().unwrap().epoch);
            assert_eq!(is > was, waits, "{which}: {was}, {is}");
            // Everything works again, and there is nothing more to do.
            store.set_intent(&component("c"), store::StandingIntent::ttl(5)).await.unwrap();
            let again = store::migrate(&bench.source).await.unwrap();
            assert!(again.mended.is_empty() && again.waits.is_none(), "{which}: {again}");
        }
    }
}

/// Of a program that knew no ends.
#[tokio::test]
async fn ends_are_added_to_a_history_without_and_until_then_only_they_are_missed() {
    const COLUMNS: [&str; 4] = ["end_time", "end_reason", "ended_by", "ended_why"];
    for bench in Bench::all().await {
        let which = bench.name();
        for column in COLUMNS {
            bench.sql(&format!("ALTER TABLE component_lease_history DROP COLUMN {column}")).await;
        }
        let store = store::open(bench.source.clone(), "test").unwrap();
        let (c, end) = (component("c"), Ending::now(EndReason::Released));
        let term = term("c", "a", 1);
        assert_eq!(store.renew(&term).await.unwrap(), Outcome::Applied, "{which}");
        says(&misconfigured(store.end_term(&c, 1, &end).await), &["end_time", "component-lease migrate"]);
        assert_eq!(store.renew(&term).await.unwrap(), Outcome::Applied, "{which}");
        says(&misconfigured(store.history(&c, None, 5).await), &["end_time", "component-lease migrate"]);
        let life = async || store.look(&c).await.unwrap().life;
        let before = life().await;
        // MySQL knows its tables by when they were made, which for it is also when they were altered.
        if which != "MySQL" {
            held(&*store, "other", "a").await;
        }
        let report = store::migrate(&bench.source).await.unwrap();
        let made = COLUMNS.map(|column| format!("the column component_lease_history.{column}"));
        assert_eq!(report.mended, made, "{which}");
        let after = life().await;
        assert!(!after.is_strange(), "{which}");
        let (was, is) = (before.record().unwrap().epoch, after.record().unwrap().epoch);
        assert_eq!(report.waits.is_some(), is > was, "{which}: {report}");
        assert!(which == "MySQL" || is == was, "{which}: nobody waits for columns");
        assert_eq!(store.end_term(&c, 1, &end).await.unwrap(), Outcome::Applied, "{which}");
        assert_eq!(store.history(&c, None, 5).await.unwrap()[0].end.as_ref().unwrap().reason, end.reason);
    }
}

#[tokio::test]
async fn columns_and_keys_are_added_where_nothing_is_lost_by_it_and_refused_where_it_would_be() {
    for bench in Bench::all().await {
        let which = bench.name();
        for (broken, made) in [
            ("ALTER TABLE component_instance DROP COLUMN node", "the column component_instance.node"),
            ("ALTER TABLE component_lease DROP COLUMN ttl", "the column component_lease.ttl"),
            ("ALTER TABLE component_lease DROP COLUMN renew_time", "the column component_lease.renew_time"),
        ] {
            bench.sql(broken).await;
            let report = store::migrate(&bench.source).await.unwrap();
            assert_eq!(report.mended.join(", "), made, "{which}");
            let looked =
                store::open(bench.source.clone(), "test").unwrap().look(&component("c")).await.unwrap();
            // What is nobody's now may have been somebody's.
            assert_eq!(looked.life.is_settled(), made.contains("instance"), "{which}: {made}");
        }
        if which != "SQLite" {
            let key =
                if which == "MySQL" { "DROP PRIMARY KEY" } else { "DROP CONSTRAINT component_lease_pkey" };
            bench.sql(&format!("ALTER TABLE component_lease {key}")).await;
            let store = store::open(bench.source.clone(), "test").unwrap();
            says(&misconfigured(store.look(&component("c")).await), &["no primary key"]);
            let report = store::migrate(&bench.source).await.unwrap();
            assert_eq!(report.mended, ["the key of component_lease"], "{which}");
        }
        bench.sql("ALTER TABLE component_lease_history DROP COLUMN holder_id").await;
        let why = misconfigured(store::migrate(&bench.source).await);
        says(&why, &["component_lease_history", "holder_id", "DROP TABLE component_lease_history"]);
        bench.sql("DROP TABLE component_lease_history").await;
        store::migrate(&bench.source).await.unwrap();
        store::open(bench.source.clone(), "test").unwrap().look(&component("c")).await.unwrap();
    }
}

#[tokio::test]
async fn triggers_functions_and_comments_that_are_gone_come_back() {
    for server in [postgres::shared().await.unwrap(), postgres::shared_newest().await.unwrap()] {
        let database = server.fresh_database().await.unwrap();
        let source = Source::url(&database.url);
        store::migrate(&source).await.unwrap();
        for (broken, made) in [
            (
                "DROP TRIGGER component_lease_new_holder ON component_lease",
                "the trigger component_lease_new_holder",
            ),
            (
                "ALTER TABLE component_lease DISABLE TRIGGER component_lease_first_holder",
                "the trigger component_lease_first_holder",
            ),
            (
                "DROP FUNCTION component_lease_history_rises() CASCADE",
                "the function component_lease_history_rises, the trigger component_lease_history_rises",
            ),
            ("COMMENT ON COLUMN component_lease.ttl IS NULL", ""),
        ] {
            database.psql(broken).await.unwrap();
            assert_eq!(store::migrate(&source).await.unwrap().mended.join(", "), made);
        }
        let bare = "SELECT count(*) FROM pg_attribute a WHERE a.attrelid = 'component_lease'::regclass AND a.attnum > 0
                    AND col_description(a.attrelid, a.attnum) IS NULL";
        assert_eq!(database.psql(bare).await.unwrap(), "0");
        let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'";
        assert_eq!(database.psql(triggers).await.unwrap(), "3");
    }
    let file = SqliteFile::migrated().await;
    let options = SqliteConnectOptions::new().filename(file.path());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    other.execute("DROP TRIGGER component_lease_history_rises").await.unwrap();
    let report = store::migrate(&file.source()).await.unwrap();
    assert_eq!(report.mended, ["the trigger component_lease_history_rises"]);
}

#[tokio::test]
async fn somebody_elses_table_that_is_gone_is_not_made_by_us() {
    let theirs = "CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version BIGINT, ttl INT)";
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    let source = Source::url(&database.url);
    database.psql(theirs).await.unwrap();
    assert!(store::migrate(&source).await.unwrap().foreign_lease_table);
    // Without the table that tells, theirs is still theirs.
    database.psql("DROP TABLE component_lease_schema").await.unwrap();
    let report = store::migrate(&source).await.unwrap();
    assert!(report.foreign_lease_table && report.mended.is_empty(), "{report}");
    database.psql("DROP TABLE component_lease").await.unwrap();
    says(
        &misconfigured(store::migrate(&source).await),
        &["another program", "gone", "component_lease_schema"],
    );
    database.psql("DROP TABLE component_lease_schema").await.unwrap();
    let report = store::migrate(&source).await.unwrap();
    let made = "the table component_lease, the function component_lease_notify";
    assert_eq!((report.mended.join(", ").as_str(), report.foreign_lease_table), (made, false));
}

/// A reader that has gone is no failure, and nothing panics.
#[test]
fn printing_into_a_pipe_that_nobody_reads_ends_as_the_work_does() {
    let file = SqliteFile::none_yet();
    let url = format!("sqlite:{}", file.path().display());
    for (arguments, code) in [
        (vec!["migrate", "--database-url", &url], 0),
        (vec!["epoch", "bump", "--database-url", &url], 0),
        (vec!["crd"], 0),
        (vec!["--help"], 0),
        (vec!["run", "--help"], 0),
        (vec!["--version"], 0),
        (vec!["migrate", "--database-url", "nonsense"], 78),
        (vec!["no-such-command"], 2),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status =
            program().args(&arguments).stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {status:?}");
    }
    // A disk that is full is one.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = program().arg("crd").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

/// As an earlier `migrate` has left them.
#[tokio::test]
async fn tables_without_a_roster_work_for_everybody_else_and_migrate_adds_it() {
    let members = ["m".to_owned()].into();
    for bench in Bench::all().await {
        let which = bench.name();
        bench.sql("DROP TABLE component_lease_record; DROP TABLE component_lease_report").await;
        let store = store::open(bench.source.clone(), "test").unwrap();
        let led = term("c", "a", 1);
        let roster = store.roster().unwrap();
        for refused in [
            roster.read_roster(&led.component, &members).await.map(drop),
            roster.record(&led, "r").await.map(drop),
            roster.report(&led.component, "m", "says").await,
        ] {
            says(&misconfigured(refused), &["component_lease_re", "run `component-lease migrate`"]);
        }
        assert_eq!(store.renew(&led).await.unwrap(), Outcome::Applied, "{which}");
        store.look(&led.component).await.unwrap();
        let report = store::migrate(&bench.source).await.unwrap();
        assert_eq!(report.mended, ["the table component_lease_record", "the table component_lease_report"]);
        assert_eq!(report.waits, None, "{which}: nobody waits for what no lease needs");
        assert_eq!(roster.record(&led, "r").await.unwrap(), Outcome::Applied, "{which}");
        roster.report(&led.component, "m", "says").await.unwrap();
        let read = roster.read_roster(&led.component, &members).await.unwrap();
        assert_eq!((read.record.as_deref(), read.reports["m"].as_str()), (Some("r"), "says"), "{which}");
        assert!(read.row.is_some_and(|row| row.is_term(&led)), "{which}");
    }
}

/// Anybody who may write the tables may write anything into them.
#[tokio::test]
async fn what_somebody_else_wrote_in_place_of_a_report_counts_as_none_and_in_place_of_a_record_is_an_error() {
    let members = ["m".to_owned()].into();
    for bench in Bench::all().await.into_iter().filter(|bench| bench.name() != "PostgreSQL") {
        let store = store::open(bench.source.clone(), "test").unwrap();
        let (led, roster) = (term("c", "a", 1), store.roster().unwrap());
        roster.record(&led, "r").await.unwrap();
        roster.report(&led.component, "m", "says").await.unwrap();
        // PostgreSQL's columns hold no more.
        let long = "x".repeat(store::TEXT_MAX + 1);
        bench
            .sql(&format!(
                "UPDATE component_lease_record SET record = '{long}'; UPDATE component_lease_report SET report = '{long}'"
            ))
            .await;
        // Nobody is promoted as if there were no record.
        let refused = misconfigured(roster.read_roster(&led.component, &members).await);
        says(&refused, &["the record beside lease c", "more than 16384 bytes", "restore what it was"]);
        roster.record(&led, "r").await.unwrap();
        let read = roster.read_roster(&led.component, &members).await.unwrap();
        assert_eq!((read.record.as_deref(), read.reports.len()), (Some("r"), 0), "{}", bench.name());
    }
}
