//! What is particular to SQLite: the file.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use component_lease::store::{self, Outcome, Source, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::time::timeout;

use crate::stores::{
    SOON, SqliteFile, component, held, look_at, misconfigured, retryable, row, says, take, taking, term,
};

/// A connection of some other program.
async fn foreign(file: &SqliteFile) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file.path()).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn look(file: &SqliteFile) -> Result<(), StoreError> {
    file.store().look(&component("c")).await.map(drop)
}

#[tokio::test]
async fn a_missing_file_is_not_created_by_a_look() {
    let file = SqliteFile::none_yet();
    says(&misconfigured(look(&file).await), &["lease.db", "does not exist", "component-lease migrate"]);
    assert!(!file.path().exists());
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let source = || Source::url("sqlite:/no-such-folder/x/lease.db");
    let store = store::open(source(), "test").unwrap();
    says(&misconfigured(store.look(&component("c")).await), &["the folder /no-such-folder/x does not exist"]);
    says(&misconfigured(store::migrate(&source()).await), &["the folder /no-such-folder/x does not exist"]);
}

#[tokio::test]
async fn a_folder_is_no_database() {
    let file = SqliteFile::none_yet();
    std::fs::create_dir(file.path()).unwrap();
    says(&misconfigured(look(&file).await), &["this is a folder"]);
    says(&misconfigured(store::migrate(&file.source()).await), &["this is a folder"]);
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_left_alone() {
    let file = SqliteFile::none_yet();
    let text = "this is a letter to a friend\n".repeat(100);
    std::fs::write(file.path(), &text).unwrap();
    says(&misconfigured(look(&file).await), &["no SQLite database"]);
    says(&misconfigured(store::migrate(&file.source()).await), &["no SQLite database"]);
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
}

#[tokio::test]
async fn a_database_without_our_table_says_to_migrate() {
    let file = SqliteFile::none_yet();
    foreign(&file).await.execute("CREATE TABLE other (a INT)").await.unwrap();
    says(&misconfigured(look(&file).await), &["no table component_lease", "component-lease migrate"]);
}

#[tokio::test]
async fn a_new_file_can_be_written_by_its_group() {
    let file = SqliteFile::migrated().await;
    let store = file.store();
    held(&*store, "c", "a").await;
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", file.path().display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660, "{path}");
    }
}

#[tokio::test]
async fn writes_are_durable_and_readers_do_not_block_them() {
    let file = SqliteFile::migrated().await;
    let mode: String =
        foreign(&file).await.fetch_one("PRAGMA journal_mode").await.unwrap().try_get(0).unwrap();
    assert_eq!(mode, "wal");
    let store = file.store();
    let a = held(&*store, "c", "a").await;
    let mut reader = foreign(&file).await;
    let mut reading = reader.begin().await.unwrap();
    reading.fetch_all("SELECT * FROM component_lease").await.unwrap();
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn the_wait_for_the_files_lock_is_bounded_and_the_limit_can_change() {
    let file = SqliteFile::migrated().await;
    let store = file.store();
    let a = held(&*store, "c", "a").await;
    let mut other = foreign(&file).await;
    let writing = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for limit in [300, 50] {
        store.limit_lock_wait(Duration::from_millis(limit));
        let answer = timeout(SOON, store.renew(&a)).await.expect("a bounded wait");
        says(&retryable(answer), &["holds the file's lock"]);
    }
    writing.rollback().await.unwrap();
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_another_database_and_the_old_term_is_lost() {
    let file = SqliteFile::migrated().await;
    let store = file.store();
    let a = held(&*store, "c", "a").await;
    let mut hints = store.hints();
    timeout(SOON, hints.next()).await.expect("a first hint");

    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.path().display()));
    }
    assert!(misconfigured(store.renew(&a).await).contains("does not exist"));
    store::migrate(&file.source()).await.unwrap();
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*store, "c").await, None);

    timeout(SOON, hints.next()).await.expect("a hint that everything may have changed");
    held(&*file.store(), "c", "b").await;
    timeout(SOON, hints.next()).await.expect("a hint from the new file");
}

#[tokio::test]
async fn a_table_of_another_program_works_without_companions() {
    let file = SqliteFile::none_yet();
    let mut other = foreign(&file).await;
    other
        .execute("CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version INT, ttl INT)")
        .await
        .unwrap();
    other
        .execute("INSERT INTO component_lease VALUES ('nulls', NULL, NULL, NULL, NULL, NULL)")
        .await
        .unwrap();
    let store = file.store();
    let a = held(&*store, "c", "a").await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
    assert_eq!(look_at(&*store, &["c", "nulls"]).await.rows.len(), 2);
    let nulls = row(&*store, "nulls").await.unwrap();
    assert!(nulls.is_free());
    let b = term("nulls", "b", 1);
    assert_eq!(taking(&*store, &take(&b, Some(&nulls))).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_table_that_cannot_hold_a_lease_is_refused_with_the_column() {
    for (table, pieces) in [
        (
            "component_name TEXT PRIMARY KEY, holder_id TEXT, lease_time INT, renew_time INT, ttl INT",
            &["no column version"][..],
        ),
        (
            "component_name TEXT, holder_id TEXT, lease_time INT, renew_time INT, version INT, ttl INT",
            &["no primary key on component_name"],
        ),
        (
            "component_name TEXT COLLATE NOCASE PRIMARY KEY, holder_id TEXT, lease_time INT, renew_time INT, version INT, ttl INT",
            &["component_name", "NOCASE"],
        ),
    ] {
        let file = SqliteFile::none_yet();
        let sql = format!("CREATE TABLE component_lease ({table})");
        foreign(&file).await.execute(AssertSqlSafe(sql)).await.unwrap();
        says(&misconfigured(look(&file).await), pieces);
    }
}

/// Tells this test, run again by itself, in which folder.
const FOLDER: &str = "COMPONENT_LEASE_TEST_READ_ONLY_FOLDER";

#[tokio::test]
async fn a_file_on_a_read_only_file_system_is_refused_with_what_to_do() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return within_a_read_only_folder(&std::path::PathBuf::from(folder)).await;
    }
    // A mount for one process needs a process of its own: this test once more.
    let file = SqliteFile::migrated().await;
    let script = r#"mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@""#;
    let done = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .arg(file.folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store_sqlite::a_file_on_a_read_only_file_system_is_refused_with_what_to_do"])
        .env(FOLDER, file.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

async fn within_a_read_only_folder(folder: &std::path::Path) {
    let source = Source::url(format!("sqlite:{}", folder.join("lease.db").display()));
    let pieces = &["lease.db", "read-only file system", "mount it writable"];
    says(&misconfigured(store::migrate(&source).await), pieces);
    let store = store::open(source, "test").unwrap();
    says(&misconfigured(store.look(&component("c")).await), pieces);
}
