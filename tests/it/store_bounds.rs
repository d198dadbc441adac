//! What others put into the table costs a look nothing: their rows are not read, and long texts are cut by the server.

use std::sync::Arc;

use component_lease::store::{self, Directory, Source};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::postgres;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};

use crate::store_instances::instance;
use crate::store_mysql::on_each_kind;
use crate::stores::{SqliteFile, alive_at, held, look_at, migrated_database, named, row};

/// Characters of a holder that are read.
const HOLDER_READ: usize = 1024;

fn table(text: &str, number: &str) -> String {
    format!(
        "CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id {text}, lease_time BIGINT, renew_time BIGINT, version {number}, ttl INT)"
    )
}

async fn shows_the_beginning_of_a_long_holder(store: Arc<dyn Directory>) {
    let seen = look_at(&*store, &["c"]).await.rows.remove("c").unwrap();
    assert_eq!(seen.holder.chars().count(), HOLDER_READ, "{store:?}");
    assert_eq!(Some(seen), row(&*store, "c").await, "{store:?}");
}

#[tokio::test]
async fn postgres_reads_neither_rows_of_others_nor_more_of_a_holder_than_can_be_shown() {
    let bare = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    bare.psql(&table("TEXT", "NUMERIC")).await.unwrap();
    let migrated = migrated_database(postgres::shared().await.unwrap()).await;
    migrated.psql("ALTER TABLE component_lease ALTER version TYPE NUMERIC").await.unwrap();
    for (database, length) in [(bare, 20_000_000), (migrated, 255)] {
        // Reading the second row fails, because its version is no version.
        let rows = format!(
            "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
             VALUES ('c', repeat('ü', {length}), 1, 1, 1, 5), ('d', 'x', 1, 1, 1e30, 5)"
        );
        database.psql(&rows).await.unwrap();
        let store = store::open(Source::url(&database.url), "test").unwrap();
        assert!(store.look_at(&named(&["c", "d"]), false).await.is_err());
        assert_eq!(alive_at(&*store, &["c"]).await.rows["c"].holder.chars().count(), length.min(HOLDER_READ));
        if length > HOLDER_READ {
            shows_the_beginning_of_a_long_holder(store).await;
        }
    }
}

#[tokio::test]
async fn an_instance_whose_heartbeat_is_no_time_keeps_nobody_from_looking() {
    let database = migrated_database(postgres::shared().await.unwrap()).await;
    let store = store::open(Source::url(&database.url), "test").unwrap();
    held(&*store, "c", "a").await;
    store.beat(&instance("c", "a"), None).await.unwrap();
    for time in [i64::MAX, i64::MIN] {
        let sql = format!("UPDATE component_instance SET heartbeat = {time}, heartbeat_ttl = 2147483647");
        database.psql(&sql).await.unwrap();
        assert_eq!(alive_at(&*store, &["c"]).await.rows.len(), 1);
    }
}

#[tokio::test]
async fn sqlite_reads_no_more_of_a_holder_than_can_be_shown() {
    let file = SqliteFile::none_yet();
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    let mut by_hand = SqliteConnection::connect_with(&options).await.unwrap();
    by_hand.execute(sqlx::AssertSqlSafe(table("TEXT", "INT"))).await.unwrap();
    let insert = format!("INSERT INTO component_lease VALUES ('c', '{}', 1, 1, 1, 5)", "ü".repeat(1_000_000));
    by_hand.execute(sqlx::AssertSqlSafe(insert)).await.unwrap();
    shows_the_beginning_of_a_long_holder(file.store()).await;
}

async fn a_long_holder_is_cut_and_bytes_that_are_no_text_are_not_taken_for_nobody(kind: Kind) {
    let server = mysql::shared(kind).await.unwrap();
    for (text, value, holder) in [
        ("LONGTEXT", "REPEAT('ü', 4000000)", "ü".repeat(HOLDER_READ)),
        ("LONGTEXT CHARACTER SET latin1", "REPEAT('ü', 4000000)", "ü".repeat(HOLDER_READ)),
        ("VARBINARY(8000)", "REPEAT('a', 8000)", "a".repeat(HOLDER_READ)),
        ("VARBINARY(8000)", "X'FFFE'", "FFFE".to_owned()),
        // Cut in the middle of a character.
        ("VARBINARY(8000)", "CONCAT('x', REPEAT('ü', 2000))", String::new()),
    ] {
        let database = server.fresh_database().await.unwrap();
        database.sql(&table(text, "INT")).await.unwrap();
        database
            .sql(&format!("INSERT INTO component_lease VALUES ('c', {value}, 1, 1, 1, 5)"))
            .await
            .unwrap();
        let store = store::open(Source::url(&database.url), "test").unwrap();
        let seen = look_at(&*store, &["c"]).await.rows.remove("c").unwrap();
        assert!(!seen.is_free() && seen.holder.chars().count() <= HOLDER_READ, "{text} {value}: {seen:?}");
        // MariaDB replaces what it cannot read.
        let shown = if kind.is_mariadb() && value.starts_with("X'") { "??".to_owned() } else { holder };
        assert!(shown.is_empty() || seen.holder == shown, "{text} {value}: {seen:?}");
        assert_eq!(Some(seen), row(&*store, "c").await);
    }
}

/// Rows that the whole server has read so far, with an index or without.
async fn rows_read(database: &mysql::Database) -> i64 {
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Handler_read_next', 'Handler_read_rnd_next')";
    let told = database.sql(sql).await.unwrap();
    told.split_whitespace().filter_map(|word| word.parse::<i64>().ok()).sum()
}

/// In a column of any collation: the index is used only by a comparison in that collation.
async fn rows_of_others_are_not_read_whatever_the_collation_of_the_name(kind: Kind) {
    let server = mysql::shared(kind).await.unwrap();
    let wide = [
        "utf8mb4_bin",
        "utf8mb4_general_ci",
        "latin1_swedish_ci",
        "utf8mb3_unicode_ci",
        "ascii_bin",
        "binary",
    ];
    for collation in wide {
        let database = server.fresh_database().await.unwrap();
        let of = if collation == "binary" {
            "VARBINARY(64)".to_owned()
        } else {
            format!("VARCHAR(64) CHARACTER SET {} COLLATE {collation}", collation.split('_').next().unwrap())
        };
        let made = table("VARCHAR(255)", "INT").replace("VARCHAR(64)", &of);
        database.sql(&made).await.unwrap();
        let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
        database.sql(&format!("INSERT INTO component_lease SELECT CONCAT('other-', a.d, b.d, c.d, e.d), 'x', 1, 1, 1, 5 FROM {digits} AS a, {digits} AS b, {digits} AS c, {digits} AS e")).await.unwrap();
        for migrated in [false, true] {
            if migrated {
                store::migrate(&Source::url(&database.url)).await.unwrap();
            }
            let store = store::open(Source::url(&database.url), "test").unwrap();
            let names = ["other-0042", "other-4200", "Other-0001", "ключ"];
            let mut least = i64::MAX;
            // Other tests use this server too.
            for _ in 0..20 {
                let before = rows_read(&database).await;
                let seen = alive_at(&*store, &names).await;
                least = least.min(rows_read(&database).await - before);
                assert_eq!(
                    seen.rows.into_keys().collect::<Vec<_>>(),
                    ["other-0042", "other-4200"],
                    "{collation}"
                );
            }
            // What the status itself costs is some hundred rows.
            assert!(least < 5_000, "{collation}: {least} rows were read");
        }
    }
}

on_each_kind!(
    a_long_holder_is_cut_and_bytes_that_are_no_text_are_not_taken_for_nobody,
    rows_of_others_are_not_read_whatever_the_collation_of_the_name,
);
