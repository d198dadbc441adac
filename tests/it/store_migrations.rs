//! `migrate`: repeated, at once, beside somebody else's table, and against the schema of a newer or an older program.

use std::time::Duration;

use component_lease::election::Life;
use component_lease::election::machine::Past;
use component_lease::store::{self, EndReason, Ending, Install, Outcome, Retention, Source};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::postgres;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor, Row};
use tokio::task::JoinSet;

use crate::agent_support::{output, program};
use crate::store_instances::instance;
use crate::stores::{
    SqliteFile, alive_at, component, held, look_at, migrated_database, migrated_mysql, misconfigured, says,
};

const FOREIGN: &str = "CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version INT, ttl INT)";

/// Runs it six times at once; how many did the work.
async fn at_once(source: &Source) -> usize {
    let mut runs = JoinSet::new();
    for _ in 0..6 {
        let source = source.clone();
        runs.spawn(async move { store::migrate(&source).await.unwrap() });
    }
    let reports = runs.join_all().await;
    for report in &reports {
        assert_eq!((report.version, report.foreign_lease_table), (1, false));
        assert!(report.applied.is_empty() || report.applied == ["0001_tables"], "{report}");
    }
    reports.iter().filter(|report| !report.applied.is_empty()).count()
}

#[tokio::test]
async fn migrations_at_once_are_applied_once() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    assert_eq!(at_once(&Source::url(&database.url)).await, 1);
    assert_eq!(at_once(&Source::url(&database.url)).await, 0);
    for kind in [Kind::MariaDb10_11, Kind::MySql9] {
        let database = mysql::shared(kind).await.unwrap().fresh_database().await.unwrap();
        assert_eq!(at_once(&Source::url(&database.url)).await, 1, "{kind}");
        assert_eq!(at_once(&Source::url(&database.url)).await, 0, "{kind}");
    }
    let file = SqliteFile::none_yet();
    assert_eq!(at_once(&file.source()).await, 1);
    assert_eq!(at_once(&file.source()).await, 0);
}

#[tokio::test]
async fn a_migration_keeps_the_rows_that_are_there() {
    let database = migrated_database(postgres::shared().await.unwrap()).await;
    let source = Source::url(&database.url);
    let store = store::open(source.clone(), "test").unwrap();
    held(&*store, "c", "a").await;
    says(
        &store::migrate(&source).await.unwrap().to_string(),
        &["up to date", "GRANT SELECT, INSERT, UPDATE"],
    );
    assert_eq!(store.look(&component("c")).await.unwrap().row.unwrap().holder, "a");
}

#[tokio::test]
async fn every_column_of_ours_in_postgres_has_a_comment() {
    let database = migrated_database(postgres::shared().await.unwrap()).await;
    let bare = database
        .psql(
            "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relname LIKE 'component\\_%' AND c.relkind = 'r' AND a.attnum > 0
               AND col_description(c.oid, a.attnum) IS NULL",
        )
        .await
        .unwrap();
    assert_eq!(bare, "");
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name LIKE 'component\\_%'";
    assert_eq!(database.psql(columns).await.unwrap(), "66");
}

#[tokio::test]
async fn every_column_of_ours_in_mysql_has_a_comment() {
    for kind in [Kind::MariaDb10_11, Kind::MySql9] {
        let database = migrated_mysql(mysql::shared(kind).await.unwrap()).await;
        let columns = "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()";
        let bare = format!("SELECT CONCAT(TABLE_NAME, '.', COLUMN_NAME) {columns} AND COLUMN_COMMENT = ''");
        assert_eq!(database.sql(&bare).await.unwrap(), "", "{kind}");
        assert_eq!(database.sql(&format!("SELECT COUNT(*) {columns}")).await.unwrap(), "66", "{kind}");
    }
}

/// DDL is not rolled back there: what a run that died has made must not be taken for somebody else's.
#[tokio::test]
async fn a_migration_that_stopped_half_way_goes_on_in_mysql() {
    for kind in [Kind::MariaDb10_11, Kind::MySql9] {
        let database = migrated_mysql(mysql::shared(kind).await.unwrap()).await;
        let source = Source::url(&database.url);
        let undone = [
            "DELETE FROM component_lease_schema WHERE version > 0",
            "DELETE FROM component_lease_schema WHERE version > 0; DROP TABLE component_lease_intent",
            "DELETE FROM component_lease_schema WHERE version > 0; DROP TABLE component_lease_store, component_instance",
        ];
        for undone in undone {
            database.sql(undone).await.unwrap();
            let report = store::migrate(&source).await.unwrap();
            assert_eq!(report.applied, ["0001_tables"], "{kind}: {undone}");
            assert!(!report.foreign_lease_table && report.mended.is_empty(), "{kind}: {report}");
        }
        held(&*store::open(source, "test").unwrap(), "c", "a").await;
    }
}

#[tokio::test]
async fn somebody_elses_table_in_postgres_is_not_altered() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    database.psql(FOREIGN).await.unwrap();
    let describe =
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum),
                           (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'component_lease'::regclass)
                    FROM pg_attribute WHERE attrelid = 'component_lease'::regclass AND attnum > 0";
    let before = database.psql(describe).await.unwrap();
    let source = Source::url(&database.url);
    for applied in [&["0001_tables"][..], &[]] {
        let report = store::migrate(&source).await.unwrap();
        assert_eq!((report.applied.as_slice(), report.foreign_lease_table), (applied, true));
        says(&report.to_string(), &["made by somebody else and stays as it is", "polling"]);
    }
    assert_eq!(database.psql(describe).await.unwrap(), before);
    held(&*store::open(source, "test").unwrap(), "c", "a").await;
}

#[tokio::test]
async fn somebody_elses_table_in_sqlite_is_not_altered() {
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    other.execute(FOREIGN).await.unwrap();
    let report = store::migrate(&file.source()).await.unwrap();
    assert_eq!((report.applied.as_slice(), report.foreign_lease_table), (&["0001_tables"][..], true));
    let sql: String = other
        .fetch_one("SELECT sql FROM sqlite_schema WHERE name = 'component_lease'")
        .await
        .unwrap()
        .try_get(0)
        .unwrap();
    assert_eq!(sql, FOREIGN);
    held(&*file.store(), "c", "a").await;
}

#[tokio::test]
async fn a_schema_from_another_program_is_refused_by_stores_and_by_migrate() {
    let database = migrated_database(postgres::shared().await.unwrap()).await;
    let mariadb = migrated_mysql(mysql::shared(Kind::MariaDb10_11).await.unwrap()).await;
    let file = SqliteFile::migrated().await;
    let options = SqliteConnectOptions::new().filename(file.path());
    for (version, what_to_do) in [
        (2, "older than this program"),
        (4, "`component-lease migrate` without --first-install"),
        (5, "use a newer component-lease"),
        (99, "use a newer component-lease"),
    ] {
        let sql = format!("INSERT INTO component_lease_schema VALUES ({version}, 0, false)");
        database.psql(&sql).await.unwrap();
        mariadb.sql(&sql).await.unwrap();
        SqliteConnection::connect_with(&options)
            .await
            .unwrap()
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
            .await
            .unwrap();
        for source in [Source::url(&database.url), Source::url(&mariadb.url), file.source()] {
            let store = store::open(source.clone(), "test").unwrap();
            let found = format!("schema version {version}");
            let pieces = &[found.as_str(), what_to_do];
            says(&misconfigured(store.look(&component("c")).await), pieces);
            says(&misconfigured(store::migrate(&source).await), pieces);
        }
    }
}

#[tokio::test]
async fn a_user_who_may_not_create_tables_reads_so() {
    let server = postgres::shared().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    let role = format!("poor_{}", database.name);
    database.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await.unwrap();
    let source = Source::url(server.url_as(&role, "secret", &database.name));
    let answer = store::migrate(&source).await;
    database.psql(&format!("DROP ROLE {role}")).await.unwrap();
    // PostgreSQL 15 took CREATE on the schema public away from everybody.
    says(&misconfigured(answer), &["may not create tables", &role, "GRANT CREATE ON SCHEMA"]);
}

#[tokio::test]
async fn a_connection_from_before_the_migration_finds_the_tables_within_some_looks() {
    let postgres = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    postgres.psql(FOREIGN).await.unwrap();
    let mariadb = mysql::shared(Kind::MariaDb10_11).await.unwrap().fresh_database().await.unwrap();
    mariadb.sql(FOREIGN).await.unwrap();
    let mysql = mysql::shared(Kind::MySql9).await.unwrap().fresh_database().await.unwrap();
    mysql.sql(FOREIGN).await.unwrap();
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap().execute(FOREIGN).await.unwrap();
    for url in [&postgres.url, &mariadb.url, &mysql.url, &format!("sqlite:{}", file.path().display())] {
        let source = Source::url(url);
        let (store, of_all) =
            (store::open(source.clone(), "test").unwrap(), store::open(source.clone(), "test").unwrap());
        assert_eq!(store.look(&component("c")).await.unwrap().life, Life::Unknown);
        assert_eq!(look_at(&*of_all, &[]).await.life, Life::Unknown);
        store::migrate(&source).await.unwrap();
        let (mut life, mut life_of_all) = (Life::Unknown, Life::Unknown);
        for _ in 0..25 {
            life = store.look(&component("c")).await.unwrap().life;
            life_of_all = alive_at(&*of_all, &[]).await.life;
        }
        assert!(life.record().is_some() && life == life_of_all, "{store:?}: {life:?}, {life_of_all:?}");
        held(&*store, "c", "a").await;
        assert_eq!(store.look(&component("c")).await.unwrap().past, Past::Lived(1));
    }
}

#[tokio::test]
async fn a_ttl_with_a_fraction_is_never_judged_shorter_than_it_is() {
    let postgres = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    let mut databases = Vec::new();
    for kind in [Kind::MariaDb10_11, Kind::MySql9] {
        databases.push(mysql::shared(kind).await.unwrap().fresh_database().await.unwrap());
    }
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    let mut sqlite = SqliteConnection::connect_with(&options).await.unwrap();
    for kind in ["DOUBLE PRECISION", "NUMERIC(10, 3)"] {
        let table = FOREIGN.replace("ttl INT", &format!("ttl {kind}"));
        let sql = format!(
            "DROP TABLE IF EXISTS component_lease; {table}; INSERT INTO component_lease VALUES ('c', 'a', 1, 1, 1, 5.2), ('d', 'a', 1, 1, 1, 5)"
        );
        postgres.psql(&sql).await.unwrap();
        sqlite.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))).await.unwrap();
        let mut sources = vec![Source::url(&postgres.url), file.source()];
        // MySQL and MariaDB: a DECIMAL with a fraction is refused.
        for database in databases.iter().filter(|_| kind == "DOUBLE PRECISION") {
            database.sql(&sql).await.unwrap();
            sources.push(Source::url(&database.url));
        }
        for source in sources {
            let store = store::open(source, "test").unwrap();
            let rows = look_at(&*store, &["c", "d"]).await.rows;
            assert_eq!((rows["c"].ttl, rows["d"].ttl), (6, 5), "{kind}: {store:?}");
            assert_eq!(store.look(&component("c")).await.unwrap().row.unwrap().ttl, 6, "{kind}: {store:?}");
        }
    }
}

#[tokio::test]
async fn migrate_ends_with_78_and_says_why_where_what_it_made_cannot_be_used() {
    let database = migrated_database(postgres::shared().await.unwrap()).await;
    let migrate =
        |more: &[&str]| output(program().args(["migrate", "--database-url", &database.url]).args(more));
    let (code, said, _) = migrate(&[]);
    assert_eq!(code, 0);
    // All that is said can be run.
    database
        .psql("CREATE ROLE my_participant; CREATE ROLE my_controller; CREATE ROLE my_member")
        .await
        .unwrap();
    database.psql(&said).await.unwrap();
    database
        .psql("DROP OWNED BY my_participant, my_controller, my_member; DROP ROLE my_participant, my_controller, my_member")
        .await
        .unwrap();
    says(
        &migrate(&["--max-ttl", "60"]).1,
        &["-- The longest ttl of this database is 30 s", "--max-ttl is 60"],
    );
    database.psql("ALTER TABLE component_lease SET UNLOGGED").await.unwrap();
    let (code, _, errors) = migrate(&[]);
    assert_eq!(code, 78);
    says(&errors, &["UnsafeBackend", "UNLOGGED (component_lease)", "ALTER TABLE name SET LOGGED"]);
    assert_eq!(migrate(&["--allow-unsafe-backend"]).0, 0);
    database
        .psql("ALTER TABLE component_lease SET LOGGED; DROP TABLE component_lease_history")
        .await
        .unwrap();
    let (code, said, _) = migrate(&[]);
    assert_eq!(code, 0);
    says(
        &said,
        &["-- ", "made what was missing: the table component_lease_history", "for the first 30 s", "GRANT"],
    );
}

#[tokio::test]
async fn somebody_elses_component_instance_is_left_alone_and_missed_by_nobody() {
    let theirs = "CREATE TABLE component_instance (id INTEGER PRIMARY KEY, host VARCHAR(20))";
    let postgres = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    postgres.psql(theirs).await.unwrap();
    let mut sources = vec![Source::url(&postgres.url)];
    let mut databases = Vec::new();
    for kind in [Kind::MariaDb10_11, Kind::MySql9] {
        let database = mysql::shared(kind).await.unwrap().fresh_database().await.unwrap();
        database.sql(theirs).await.unwrap();
        sources.push(Source::url(&database.url));
        databases.push(database);
    }
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap().execute(theirs).await.unwrap();
    sources.push(file.source());
    for source in &sources {
        let report = store::migrate(source).await.unwrap();
        assert_eq!(report.applied, ["0001_tables"], "{report}");
        let store = store::open(source.clone(), "test").unwrap();
        assert_eq!(store.look(&component("c")).await.unwrap().past, Past::NeverLived, "{store:?}");
        held(&*store, "c", "a").await;
        let said = store.beat(&instance("c", "a"), None).await.unwrap();
        assert_eq!((said, store.prune_instances(Duration::ZERO).await.unwrap()), (None, 0), "{store:?}");
        let all = alive_at(&*store, &["c"]).await;
        assert_eq!((all.rows.len(), all.instances), (1, None), "{store:?}");
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM component_instance").await.unwrap(), "0");
}

/// Leases of somebody else's table go on with their numbers, even with --first-install.
#[tokio::test]
async fn leases_that_are_there_are_known_as_history_and_nothing_is_settled() {
    let leased = format!("{FOREIGN}; INSERT INTO component_lease VALUES ('c', 'somebody', 1, 1, 41, 5)");
    let postgres = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    postgres.psql(&leased).await.unwrap();
    let mariadb = mysql::shared(Kind::MariaDb10_11).await.unwrap().fresh_database().await.unwrap();
    mariadb.sql(&leased).await.unwrap();
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    let mut sqlite = SqliteConnection::connect_with(&options).await.unwrap();
    sqlite.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(leased))).await.unwrap();
    for source in [Source::url(&postgres.url), Source::url(&mariadb.url), file.source()] {
        // Without companions, everything but history, epoch and quarantine works.
        let before = store::open(source.clone(), "test").unwrap().look(&component("c")).await.unwrap();
        assert_eq!((before.life, before.past), (Life::Unknown, Past::Unknown));
        let first = Install::default().first(true);
        assert_eq!(store::install(&source, first).await.unwrap().waits, Some(Duration::from_secs(30)));
        let after = store::open(source, "test").unwrap().look(&component("c")).await.unwrap();
        assert_eq!((after.past, after.life.base(), after.life.is_settled()), (Past::Lived(41), 0, false));
        assert_eq!(after.row.unwrap().version, 41);
    }
}

#[tokio::test]
async fn new_tables_are_settled_and_begin_at_0_only_with_first_install() {
    let server = postgres::shared().await.unwrap();
    for first in [true, false] {
        let database = server.fresh_database().await.unwrap();
        let file = SqliteFile::none_yet();
        for source in [Source::url(&database.url), file.source()] {
            let report =
                store::install(&source, Install::default().first(first).max_ttl(Duration::from_secs(45)))
                    .await
                    .unwrap();
            assert_eq!(report.waits, (!first).then_some(Duration::from_secs(45)), "{report}");
            // Said again, it changes nothing.
            store::install(&source, Install::default().first(!first).max_ttl(Duration::from_secs(7)))
                .await
                .unwrap();
            let life = store::open(source, "test").unwrap().look(&component("c")).await.unwrap().life;
            let record = life.record().unwrap();
            assert_eq!((record.settled, record.epoch == 0, record.max_ttl), (first, first, 45));
            assert!(!life.is_strange());
        }
    }
}

#[tokio::test]
async fn a_narrow_version_column_has_epochs_without_dates() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    database.psql(FOREIGN).await.unwrap();
    let source = Source::url(&database.url);
    store::migrate(&source).await.unwrap();
    let store = store::open(source, "test").unwrap();
    assert_eq!(store.look(&component("c")).await.unwrap().life.base(), 1000);
    assert_eq!(store::begin_epoch(&*store).await.unwrap().epoch, 2);
    assert_eq!(store.look(&component("c")).await.unwrap().life.base(), 2000);
}

/// Somebody else's table alone lists its components, has no history, and nothing to forget.
#[tokio::test]
async fn a_bare_table_lists_its_components_and_has_no_history() {
    let leased = format!(
        "{FOREIGN}; INSERT INTO component_lease VALUES ('b', 'x', 1, 1, 41, 5), ('B', 'x', 1, 1, 41, 5), ('a', 'x', 1, 1, 41, 5)"
    );
    let postgres = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    postgres.psql(&leased).await.unwrap();
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    let mut sqlite = SqliteConnection::connect_with(&options).await.unwrap();
    sqlite.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(leased.clone()))).await.unwrap();
    let mut sources = vec![Source::url(&postgres.url), file.source()];
    let mut databases = Vec::new();
    for kind in [Kind::MariaDb10_11, Kind::MySql9] {
        let database = mysql::shared(kind).await.unwrap().fresh_database().await.unwrap();
        // Its collation may take the two for one.
        database.sql(&leased.replace("'B'", "'Bb'")).await.unwrap();
        sources.push(Source::url(&database.url));
        databases.push(database);
    }
    for source in sources {
        let store = store::open(source, "test").unwrap();
        let all = store.components(None, 10).await.unwrap();
        assert_eq!(all.len(), 3, "{all:?}");
        let mut paged = Vec::new();
        while let Some(name) = store.components(paged.last().map(String::as_str), 1).await.unwrap().pop() {
            paged.push(name);
        }
        assert_eq!(paged, all, "{store:?}");
        let c = component("b");
        says(
            &misconfigured(store.history(&c, None, 5).await),
            &["component_lease_history is missing", "component-lease migrate"],
        );
        assert_eq!(store.end_term(&c, 41, &Ending::now(EndReason::Released)).await.unwrap(), Outcome::Lost);
        let kept = Retention { newest: 0, age: Duration::ZERO };
        assert_eq!(store.prune_history(&c, kept).await.unwrap(), 0);
    }
}
