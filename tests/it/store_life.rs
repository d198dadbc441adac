//! Identity, epoch and history, where one engine is unlike the others. What all do is `src/contract/epochs.rs`.

use component_lease::election::machine::Past;
use component_lease::election::{Expected, LifeId, Take};
use component_lease::store::{Directory, Outcome, StoreError, begin_epoch};

use crate::stores::{component, held, row, take, term};

async fn life_id(store: &dyn Directory) -> LifeId {
    store.look(&component("c")).await.unwrap().life.id()
}

/// On what each store says now, but with a sight of no row.
async fn insertion(store: &dyn Directory, holder: &str, version: i64, highest: i64) -> Take {
    let life_id = life_id(store).await;
    Take { life_id, expected: Expected::Missing { highest }, ..take(&term("c", holder, version), None) }
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
        let life_id = life_id(&*store).await;
        let low = Take { life_id, ..take(&term("c", "b", 1), seen.as_ref()) };
        assert_eq!(store.take(&low).await.unwrap(), Outcome::Lost);
        assert_eq!(row(&*store, "c").await, seen);
        let high = Take { term: term("c", "b", 2), ..low };
        assert_eq!(store.take(&high).await.unwrap(), Outcome::Applied);
    }

    #[tokio::test]
    async fn a_copied_sqlite_file_is_another_database() {
        let file = SqliteFile::migrated().await;
        let before = life_id(&*file.store()).await;
        let copy = file.folder.path().join("copy.db");
        std::fs::copy(file.path(), &copy).unwrap();
        std::fs::rename(&copy, file.path()).unwrap();
        let life = file.store().look(&component("c")).await.unwrap().life;
        assert!(life.is_strange() && life.id() != before);
    }

    #[tokio::test]
    async fn a_sqlite_file_that_is_put_back_from_a_backup_is_another_database_even_with_the_same_inode() {
        let file = SqliteFile::migrated().await;
        let backup = file.folder.path().join("backup.db");
        std::fs::copy(file.path(), &backup).unwrap();
        let store = file.store();
        let before = life_id(&*store).await;
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
        let now = looked.life.id();
        assert!(looked.life.is_strange() && now != before, "inode {old}, then {}: {now:?}", inode());
        assert_eq!(looked.past, Past::NeverLived, "the backup knows nothing of it");
    }

    #[tokio::test]
    async fn a_sqlite_file_is_known_by_inode_birth_and_boot_as_long_as_nobody_puts_another_there() {
        let file = SqliteFile::migrated().await;
        let before = life_id(&*file.store()).await;
        let meta = std::fs::metadata(file.path()).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        says(&before.identity, &[&format!("sqlite/{}/", meta.ino()), &format!("/{}/", boot.trim())]);
        if let Ok(birth) = meta.created() {
            let birth = birth.duration_since(std::time::UNIX_EPOCH).unwrap();
            says(&before.identity, &[&format!("/{}.{:09}/", birth.as_secs(), birth.subsec_nanos())]);
        }
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        held(&*file.store(), "c", "a").await;
        assert_eq!(life_id(&*file.store()).await, before);
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
            let wanted = open(source.unsafe_backend(true), "test").unwrap();
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
        let life_id = life_id(&*store).await;
        assert_eq!(store.epochs().unwrap().settle(&life_id).await.unwrap(), Outcome::Applied);
        held(&*store, "c", "a").await;
        drop(store);
        database.psql(&format!("DROP OWNED BY {role} CASCADE")).await.unwrap();
        server.psql(&format!("DROP ROLE {role}")).await.unwrap();
    }
}
