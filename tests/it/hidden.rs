//! What may show less than there is in MySQL, MariaDB and SQLite, or keep a change from a row: refused by
//! name, and never taken for a row that is gone or a term that is over.

use component_lease::election::Take;
use component_lease::store::{self, Directory, Outcome, Source};
use component_lease_testkit::mysql::{Kind, Server};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor};

use crate::store_mysql::{on_each_kind, open, server};
use crate::stores::{
    SqliteFile, alive_at, component, held, migrated_mysql, misconfigured, named, row, says, take, term,
};

/// The take that somebody who sees this row decides on.
async fn next(store: &dyn Directory, holder: &str) -> Take {
    let seen = store.look(&component("c")).await.unwrap();
    let version = seen.row.as_ref().map_or(0, |row| row.version) + 1;
    Take { life_id: seen.life.id(), ..take(&term("c", holder, version), seen.row.as_ref()) }
}

async fn a_view_in_the_place_of_a_table_is_refused_and_ends_no_term(kind: Kind) {
    let database = migrated_mysql(server(kind).await).await;
    let leader = open(&database);
    let a = held(&*leader, "c", "a").await;
    for table in ["component_lease", "component_lease_history", "component_lease_store"] {
        let hide = format!(
            "RENAME TABLE {table} TO hidden; CREATE VIEW {table} AS SELECT * FROM hidden WHERE 1 = 0"
        );
        database.sql(&hide).await.unwrap();
        says(&misconfigured(open(&database).look(&a.component).await), &[table, "is a view", "hide rows"]);
        says(&misconfigured(open(&database).look_at(&named(&["c"]), false).await), &[table, "is a view"]);
        if table == "component_lease" {
            says(&misconfigured(leader.renew(&a).await), &[table, "is a view"]);
        }
        database.sql(&format!("DROP VIEW {table}; RENAME TABLE hidden TO {table}")).await.unwrap();
    }
    assert_eq!(leader.renew(&a).await.unwrap(), Outcome::Applied);
}

async fn a_view_that_comes_under_way_empties_no_look(kind: Kind) {
    let database = migrated_mysql(server(kind).await).await;
    let (leader, looked) = (open(&database), open(&database));
    held(&*leader, "c", "a").await;
    assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows.len(), 1);
    let hide = "RENAME TABLE component_lease TO hidden;
                CREATE VIEW component_lease AS SELECT * FROM hidden WHERE 1 = 0";
    database.sql(hide).await.unwrap();
    for instances in [false, true, false] {
        let answer = looked.look_at(&named(&["c"]), instances).await;
        says(&misconfigured(answer), &["component_lease", "is a view"]);
    }
    database.sql("DROP VIEW component_lease; RENAME TABLE hidden TO component_lease").await.unwrap();
    assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows["c"].holder, "a");
    database.sql("DELETE FROM component_lease").await.unwrap();
    assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows.len(), 0);
}

async fn a_trigger_that_writes_something_else_begins_no_term_and_passes_for_no_race(kind: Kind) {
    let database = migrated_mysql(server(kind).await).await;
    let store = open(&database);
    held(&*store, "c", "a").await;
    let before = row(&*store, "c").await;
    for rewrites in ["NEW.holder_id = 'somebody'", "NEW.version = OLD.version"] {
        let trigger =
            format!("CREATE TRIGGER theirs BEFORE UPDATE ON component_lease FOR EACH ROW SET {rewrites}");
        database.sql(&trigger).await.unwrap();
        let store = open(&database);
        let take = next(&*store, "b").await;
        assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost, "it may have been a race");
        store.look(&component("c")).await.unwrap();
        says(&misconfigured(store.take(&take).await), &["\"c\"", "component_lease", "trigger", "alters"]);
        assert_eq!(row(&*store, "c").await, before, "{rewrites}");
        database.sql("DROP TRIGGER theirs").await.unwrap();
    }
    let take = next(&*store, "b").await;
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
}

/// What hosters set for everybody: a look that is cut is no look.
async fn limits_of_rows_joins_and_time_that_a_server_sets_are_none_of_ours(kind: Kind) {
    let server = Server::builder(kind).start().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    let time = if kind.is_mariadb() {
        "SET GLOBAL max_statement_time = 1; SET GLOBAL idle_transaction_timeout = 1; SET GLOBAL lc_messages = 'de_DE'"
    } else {
        "SET GLOBAL max_execution_time = 1"
    };
    let set = format!(
        "SET GLOBAL sql_select_limit = 1; SET GLOBAL max_join_size = 1; SET GLOBAL sql_safe_updates = 1;
         SET GLOBAL time_zone = '+03:00'; SET GLOBAL character_set_client = latin1;
         SET GLOBAL character_set_results = latin1; SET GLOBAL sql_mode = 'ANSI,PIPES_AS_CONCAT,ONLY_FULL_GROUP_BY'; {time}"
    );
    server.sql(&set).await.unwrap();
    store::migrate(&Source::url(&database.url)).await.unwrap();
    let store = open(&database);
    for name in ["a", "b", "c"] {
        let a = held(&*store, name, "holder").await;
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    }
    let all = alive_at(&*store, &["a", "b", "c"]).await;
    assert_eq!((all.rows.len(), all.life.record().is_some()), (3, true));
    let one = crate::store_instances::instance("a", "holder");
    let id = store.beat(&one, None).await.unwrap();
    assert_eq!(store.beat(&one, id).await.unwrap(), id);
    // By no key: what safe updates refuse.
    store.prune_instances(std::time::Duration::ZERO).await.unwrap();
}

on_each_kind!(
    a_view_in_the_place_of_a_table_is_refused_and_ends_no_term,
    a_view_that_comes_under_way_empties_no_look,
    a_trigger_that_writes_something_else_begins_no_term_and_passes_for_no_race,
    limits_of_rows_joins_and_time_that_a_server_sets_are_none_of_ours,
);

#[tokio::test]
async fn a_sqlite_trigger_that_ignores_or_alters_a_change_is_named_and_ends_no_term() {
    let file = SqliteFile::migrated().await;
    let options = SqliteConnectOptions::new().filename(file.path());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let store = file.store();
    let a = held(&*store, "c", "a").await;
    other
        .execute("CREATE TRIGGER theirs BEFORE UPDATE ON component_lease BEGIN SELECT RAISE(IGNORE); END")
        .await
        .unwrap();
    let pieces = &["\"c\"", "component_lease", "(theirs)", "suppresses"];
    says(&misconfigured(store.renew(&a).await), pieces);
    says(&misconfigured(store.release(&a).await), pieces);
    let take = next(&*store, "b").await;
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost, "it may have been a race");
    store.look(&component("c")).await.unwrap();
    says(&misconfigured(store.take(&take).await), pieces);
    let before = row(&*store, "c").await;
    other
        .execute(sqlx::raw_sql(
            "DROP TRIGGER theirs;
             CREATE TRIGGER theirs AFTER UPDATE OF holder_id ON component_lease
             BEGIN UPDATE component_lease SET version = OLD.version WHERE component_name = NEW.component_name; END",
        ))
        .await
        .unwrap();
    let store = file.store();
    let take = next(&*store, "b").await;
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost);
    store.look(&component("c")).await.unwrap();
    says(&misconfigured(store.take(&take).await), pieces);
    assert_eq!(row(&*store, "c").await, before);
    other.execute("DROP TRIGGER theirs").await.unwrap();
    assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_sqlite_view_in_the_place_of_a_table_is_refused() {
    let file = SqliteFile::migrated().await;
    let options = SqliteConnectOptions::new().filename(file.path());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    for table in ["component_lease", "component_lease_store"] {
        let hide = format!(
            "ALTER TABLE {table} RENAME TO hidden; CREATE VIEW {table} AS SELECT * FROM hidden WHERE false"
        );
        other.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(hide))).await.unwrap();
        says(&misconfigured(file.store().look_at(&named(&["c"]), false).await), &[table, "is a view"]);
        let show = format!("DROP VIEW {table}; ALTER TABLE hidden RENAME TO {table}");
        other.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(show))).await.unwrap();
    }
    let looked = file.store();
    held(&*looked, "c", "a").await;
    assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows.len(), 1);
    let hide = "ALTER TABLE component_lease RENAME TO hidden;
                CREATE VIEW component_lease AS SELECT * FROM hidden WHERE false";
    other.execute(sqlx::raw_sql(hide)).await.unwrap();
    for _ in 0..2 {
        says(&misconfigured(looked.look_at(&named(&["c"]), false).await), &["component_lease", "is a view"]);
    }
    let show = "DROP VIEW component_lease; ALTER TABLE hidden RENAME TO component_lease";
    other.execute(sqlx::raw_sql(show)).await.unwrap();
    assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows["c"].holder, "a");
    other.execute("DELETE FROM component_lease").await.unwrap();
    assert_eq!(looked.look_at(&named(&["c"]), false).await.unwrap().rows.len(), 0);
}
