//! Identity, epoch and history: every store as the memory store.

use component_lease::election::machine::Past;
use component_lease::election::{Expected, Generation, Life, NewEpoch, Record, Take};
use component_lease::store::{Outcome, Store, StoreError, begin_epoch};
use component_lease_testkit::mysql::Kind;
use tokio::task::JoinSet;

use crate::stores::{Bench, component, held, row, take, term};

async fn record(store: &dyn Store) -> Record {
    store.look(&component("c")).await.unwrap().life.record().unwrap().clone()
}

async fn generation(store: &dyn Store) -> Generation {
    store.look(&component("c")).await.unwrap().life.generation()
}

/// On what each store says now, but with a sight of no row.
async fn insertion(store: &dyn Store, holder: &str, version: i64, highest: i64) -> Take {
    let generation = generation(store).await;
    Take { generation, expected: Expected::Missing { highest }, ..take(&term("c", holder, version), None) }
}

macro_rules! on_every_store {
    ($($behaviour:ident),* $(,)?) => {
        mod memory { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::memory()).await; })* }
        mod sqlite { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::sqlite().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::postgres().await).await; })* }
        mod postgres_18 { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::postgres_18().await).await; })* }
        mod pgbouncer { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::pgbouncer().await).await; })* }
        mod mariadb_10_11 { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::mysql(super::Kind::MariaDb10_11).await).await; })* }
        mod mariadb_11_8 { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::mysql(super::Kind::MariaDb11_8).await).await; })* }
        mod mysql_9 { $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Bench::mysql(super::Kind::MySql9).await).await; })* }
    };
}

on_every_store!(
    a_take_is_applied_in_its_own_epoch_only,
    an_epoch_begins_once_however_many_saw_the_change,
    the_recorded_server_itself_begins_no_epoch_unless_asked_for,
    settled_is_written_for_exactly_this_generation_and_cleared_with_the_next,
    the_history_has_a_line_for_each_term,
    of_many_insertions_one_is_applied_and_its_history_is_written_with_it,
    an_insertion_looks_at_the_history,
    a_late_release_is_applied_in_the_life_of_its_term_only,
);

async fn a_take_is_applied_in_its_own_epoch_only(bench: Bench) {
    let before = insertion(&*bench.store, "a", 1, 0).await;
    let begun = begin_epoch(&*bench.store).await.unwrap();
    assert_eq!(bench.store.take(&before).await.unwrap(), Outcome::Lost);
    assert_eq!(row(&*bench.store, "c").await, None);
    let after = insertion(&*bench.store, "a", 1, 0).await;
    assert_eq!(after.generation.epoch, begun.epoch);
    assert_eq!(bench.store.take(&after).await.unwrap(), Outcome::Applied);
}

async fn an_epoch_begins_once_however_many_saw_the_change(bench: Bench) {
    let seen = record(&*bench.store).await;
    let new = NewEpoch { seen: Some(seen.clone()), at_least: 0, max_ttl: 30, deliberate: true };
    let mut racers = JoinSet::new();
    for _ in 0..8 {
        let (store, new) = (bench.another(), new.clone());
        racers.spawn(async move { store.begin_epoch(&new).await.unwrap() });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Applied).count(), 1);
    let now = record(&*bench.store).await;
    assert!(now.epoch > seen.epoch && !now.settled && now.max_ttl == seen.max_ttl, "{now:?}");
}

async fn the_recorded_server_itself_begins_no_epoch_unless_asked_for(bench: Bench) {
    let seen = record(&*bench.store).await;
    let new = NewEpoch { seen: Some(seen.clone()), at_least: 0, max_ttl: 30, deliberate: false };
    assert_eq!(bench.store.begin_epoch(&new).await.unwrap(), Outcome::Lost);
    let beyond = NewEpoch { at_least: 800_000_000, deliberate: true, ..new.clone() };
    assert_eq!(
        bench.store.begin_epoch(&beyond).await.unwrap(),
        Outcome::Lost,
        "the database's date does not explain it"
    );
    assert_eq!(record(&*bench.store).await, seen);
    let asked = NewEpoch { at_least: 20_000_000, deliberate: true, ..new };
    assert_eq!(bench.store.begin_epoch(&asked).await.unwrap(), Outcome::Applied);
    let epoch = record(&*bench.store).await.epoch;
    assert!((20_000_000..800_000_000).contains(&epoch), "{epoch}");
    assert_eq!(
        bench.store.begin_epoch(&asked).await.unwrap(),
        Outcome::Lost,
        "it is no longer as it was seen"
    );
}

async fn settled_is_written_for_exactly_this_generation_and_cleared_with_the_next(bench: Bench) {
    begin_epoch(&*bench.store).await.unwrap();
    let now = generation(&*bench.store).await;
    for other in [
        Generation { epoch: now.epoch - 1, ..now.clone() },
        Generation { identity: "another".to_owned(), ..now.clone() },
    ] {
        assert_eq!(bench.store.settle(&other).await.unwrap(), Outcome::Lost);
        assert!(!record(&*bench.store).await.settled);
    }
    assert_eq!(bench.store.settle(&now).await.unwrap(), Outcome::Applied);
    assert!(record(&*bench.store).await.settled);
    begin_epoch(&*bench.store).await.unwrap();
    assert!(!record(&*bench.store).await.settled);
    assert_eq!(bench.store.settle(&now).await.unwrap(), Outcome::Lost, "an answer to the epoch before");
}

async fn the_history_has_a_line_for_each_term(bench: Bench) {
    let past = async || bench.store.look(&component("c")).await.unwrap().past;
    assert_eq!(past().await, Past::NeverLived);
    let a = held(&*bench.store, "c", "a").await;
    assert_eq!(past().await, Past::Lived(1));
    bench.store.renew(&a).await.unwrap();
    bench.store.release(&a).await.unwrap();
    let free = row(&*bench.store, "c").await;
    let generation = generation(&*bench.store).await;
    let b = Take { generation, ..take(&term("c", "b", 28_000_000_000_001), free.as_ref()) };
    assert_eq!(bench.store.take(&b).await.unwrap(), Outcome::Applied);
    assert_eq!(past().await, Past::Lived(28_000_000_000_001));
    assert_eq!(bench.store.look(&component("other")).await.unwrap().past, Past::NeverLived);
}

async fn of_many_insertions_one_is_applied_and_its_history_is_written_with_it(bench: Bench) {
    let mut racers = JoinSet::new();
    for racer in 0..8 {
        let store = bench.another();
        // Versions of their own: nothing but the row decides.
        let take = insertion(&*store, &format!("r{racer}"), 1 + racer, 0).await;
        racers.spawn(async move { (store.take(&take).await.unwrap(), take.term) });
    }
    let outcomes = racers.join_all().await;
    let won: Vec<_> = outcomes.iter().filter(|(outcome, _)| *outcome == Outcome::Applied).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let looked = bench.store.look(&component("c")).await.unwrap();
    assert!(looked.row.unwrap().is_term(&won[0].1));
    assert_eq!(looked.past, Past::Lived(won[0].1.version));
}

async fn an_insertion_looks_at_the_history(bench: Bench) {
    let wrong = insertion(&*bench.store, "a", 42, 41).await;
    assert_eq!(bench.store.take(&wrong).await.unwrap(), Outcome::Lost, "there is no version 41");
    assert_eq!(row(&*bench.store, "c").await, None);
    assert!(matches!(bench.store.look(&component("c")).await.unwrap().life, Life::Recorded { .. }));
}

async fn a_late_release_is_applied_in_the_life_of_its_term_only(bench: Bench) {
    let a = held(&*bench.store, "c", "a").await;
    let within = generation(&*bench.store).await;
    let before = row(&*bench.store, "c").await;
    let other = |holder: &str, version| term("c", holder, version);
    for (term, within) in [
        (a.clone(), Generation::default()),
        (a.clone(), Generation { identity: "another".to_owned(), ..within.clone() }),
        (a.clone(), Generation { epoch: within.epoch + 1, ..within.clone() }),
        (other("b", a.version), within.clone()),
        (other("A", a.version), within.clone()),
        (other("a", a.version + 1), within.clone()),
    ] {
        assert_eq!(
            bench.store.release_late(&term, &within).await.unwrap(),
            Outcome::Lost,
            "{term:?} {within:?}"
        );
        assert_eq!(row(&*bench.store, "c").await, before);
    }
    assert_eq!(bench.store.release_late(&a, &within).await.unwrap(), Outcome::Applied);
    let free = row(&*bench.store, "c").await.unwrap();
    assert!(free.is_free() && free.renew_time == 0 && free.version == a.version, "{free:?}");
    assert_eq!(bench.store.release_late(&a, &within).await.unwrap(), Outcome::Lost, "it was released");
    // Of a life that is over.
    let b = Take { generation: within.clone(), ..take(&term("c", "b", 2), Some(&free)) };
    assert_eq!(bench.store.take(&b).await.unwrap(), Outcome::Applied);
    begin_epoch(&*bench.store).await.unwrap();
    assert_eq!(bench.store.release_late(&b.term, &within).await.unwrap(), Outcome::Lost);
    let now = generation(&*bench.store).await;
    assert_eq!(bench.store.release_late(&b.term, &now).await.unwrap(), Outcome::Applied);
}

/// What only an administrator does, on a real server.
mod deleted_rows {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use component_lease::store::{Source, open};
    use component_lease_testkit::{postgres, wait};

    use super::*;
    use crate::stores::{SOON, SqliteFile, migrated_database, misconfigured, says};

    #[tokio::test]
    async fn a_row_that_went_and_came_back_lets_no_lower_version_follow_a_higher_one() {
        let database = migrated_database(postgres::shared().await.unwrap()).await;
        let store = open(Source::url(&database.url), "test").unwrap();
        held(&*store, "c", "a").await;
        database.psql("DELETE FROM component_lease").await.unwrap();
        assert_eq!(store.look(&component("c")).await.unwrap().past, Past::Lived(1));
        let low = insertion(&*store, "b", 1, 1).await;
        assert_eq!(store.take(&low).await.unwrap(), Outcome::Lost);
        assert_eq!(row(&*store, "c").await, None, "a take without its history is no take");
        let ignorant = insertion(&*store, "b", 2, 0).await;
        assert_eq!(store.take(&ignorant).await.unwrap(), Outcome::Lost);
        let high = insertion(&*store, "b", 2, 1).await;
        assert_eq!(store.take(&high).await.unwrap(), Outcome::Applied);
    }

    #[tokio::test]
    async fn a_row_that_a_foreign_program_put_below_the_history_is_taken_above_it_only() {
        let database = migrated_database(postgres::shared().await.unwrap()).await;
        let store = open(Source::url(&database.url), "test").unwrap();
        held(&*store, "c", "a").await;
        database.psql("UPDATE component_lease SET version = 0, holder_id = ''").await.unwrap();
        let seen = row(&*store, "c").await;
        let generation = generation(&*store).await;
        let low = Take { generation, ..take(&term("c", "b", 1), seen.as_ref()) };
        assert_eq!(store.take(&low).await.unwrap(), Outcome::Lost);
        assert_eq!(row(&*store, "c").await, seen);
        let high = Take { term: term("c", "b", 2), ..low };
        assert_eq!(store.take(&high).await.unwrap(), Outcome::Applied);
    }

    #[tokio::test]
    async fn a_copied_sqlite_file_is_another_database() {
        let file = SqliteFile::migrated().await;
        let before = generation(&*file.store()).await;
        let copy = file.folder.path().join("copy.db");
        std::fs::copy(file.path(), &copy).unwrap();
        std::fs::rename(&copy, file.path()).unwrap();
        let life = file.store().look(&component("c")).await.unwrap().life;
        assert!(life.is_strange() && life.generation() != before);
    }

    #[tokio::test]
    async fn a_sqlite_file_that_is_put_back_from_a_backup_is_another_database_even_with_the_same_inode() {
        let file = SqliteFile::migrated().await;
        let backup = file.folder.path().join("backup.db");
        std::fs::copy(file.path(), &backup).unwrap();
        let store = file.store();
        let before = generation(&*store).await;
        held(&*store, "c", "a").await;
        // Everybody stops: the last one out takes the log along.
        drop(store);
        let log = file.folder.path().join("lease.db-wal");
        wait::until(SOON, "the file to be closed", async || Ok((!log.exists()).then_some(()))).await.unwrap();
        let inode = || std::fs::metadata(file.path()).unwrap().ino();
        let old = inode();
        std::fs::remove_file(file.path()).unwrap();
        std::fs::copy(&backup, file.path()).unwrap();
        let looked = file.store().look(&component("c")).await.unwrap();
        let now = looked.life.generation();
        assert!(looked.life.is_strange() && now != before, "inode {old}, then {}: {now:?}", inode());
        assert_eq!(looked.past, Past::NeverLived, "the backup knows nothing of it");
    }

    #[tokio::test]
    async fn a_sqlite_file_is_known_by_inode_birth_and_boot_as_long_as_nobody_puts_another_there() {
        let file = SqliteFile::migrated().await;
        let before = generation(&*file.store()).await;
        let meta = std::fs::metadata(file.path()).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        says(&before.identity, &[&format!("sqlite/{}/", meta.ino()), &format!("/{}/", boot.trim())]);
        if let Ok(birth) = meta.created() {
            let birth = birth.duration_since(std::time::UNIX_EPOCH).unwrap();
            says(&before.identity, &[&format!("/{}.{:09}/", birth.as_secs(), birth.subsec_nanos())]);
        }
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        held(&*file.store(), "c", "a").await;
        assert_eq!(generation(&*file.store()).await, before);
    }

    #[tokio::test]
    async fn a_server_that_may_forget_is_refused_with_the_setting_named_unless_it_is_wanted_so() {
        let server = postgres::shared().await.unwrap();
        for (unsafe_way, names) in [
            ("ALTER TABLE component_lease SET UNLOGGED", &["UNLOGGED", "component_lease", "SET LOGGED"][..]),
            ("ALTER TABLE component_lease_history SET UNLOGGED", &["component_lease_history"]),
            ("ALTER ROLE postgres IN DATABASE $db SET synchronous_commit = off", &["synchronous_commit"]),
        ] {
            let database = migrated_database(server).await;
            database.psql(&unsafe_way.replace("$db", &database.name)).await.unwrap();
            let source = Source::url(&database.url);
            let refused: Result<_, StoreError> =
                open(source.clone(), "test").unwrap().look(&component("c")).await;
            let why = misconfigured(refused);
            says(&why, names);
            says(&why, &["UnsafeBackend", "--allow-unsafe-backend"]);
            let wanted = open(source.allow_unsafe_backend(true), "test").unwrap();
            wanted.look(&component("c")).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_role_with_the_granted_privileges_and_no_others_can_do_it_all() {
        let server = postgres::shared().await.unwrap();
        let database = migrated_database(server).await;
        let role = format!("role_{}", database.name);
        let grants = format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x';
             GRANT SELECT, INSERT, UPDATE ON component_lease, component_lease_store TO {role};
             GRANT SELECT, INSERT ON component_lease_history TO {role};
             GRANT SELECT ON component_lease_intent, component_lease_schema TO {role};"
        );
        database.psql(&grants).await.unwrap();
        let store = open(Source::url(server.url_as(&role, "x", &database.name)), "test").unwrap();
        begin_epoch(&*store).await.unwrap();
        let generation = generation(&*store).await;
        assert_eq!(store.settle(&generation).await.unwrap(), Outcome::Applied);
        held(&*store, "c", "a").await;
        drop(store);
        database.psql(&format!("DROP OWNED BY {role} CASCADE")).await.unwrap();
        server.psql(&format!("DROP ROLE {role}")).await.unwrap();
    }
}
