//! The store on an SQL database, once for all of them: one connection made in the background (`slot.rs`), what the
//! calls do and what their answers mean. A database differs by its [`Dialect`](dialect::Dialect): statements, identity, error
//! classes and inspection queries, a folder of its own. `docs/design/20261128-one-sql-store.md` says what belongs where.

mod address;
mod connect;
mod decode;
mod dialect;
mod doubt;
mod driver;
mod errors;
mod migrate;
mod migration;
#[cfg(feature = "mysql")]
mod mysql;
mod pace;
#[cfg(feature = "postgres")]
mod postgres;
mod schema;
mod session;
mod slot;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod store;
mod suspicion;
mod table;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod tls;
mod value;

pub use self::connect::{Install, Source, install, migrate, open};
pub use self::migration::MigrationReport;
use self::session::{Session, of_term};
use self::store::SqlStore;
use super::StoreError;

#[cfg(test)]
mod tests {
    use super::statement::Statements;

    /// What each has no need of, and why.
    const ABSENT: [(&str, &[&str]); 4] = [
        // A beat is one statement; a take, too.
        ("PostgreSQL", &["move_heartbeat", "write_history"]),
        // They notify nobody; a take is one text.
        ("MySQL", &["write_history", "notify", "has_room"]),
        ("MariaDB", &["write_history", "notify", "has_room"]),
        // A file has room, and tells of every commit.
        ("SQLite", &["notify", "has_room"]),
    ];

    fn dialects() -> Vec<(&'static str, &'static Statements)> {
        vec![
            #[cfg(feature = "postgres")]
            ("PostgreSQL", super::postgres::statements()),
            #[cfg(feature = "mysql")]
            ("MySQL", super::mysql::statements(false, None)),
            #[cfg(feature = "mysql")]
            ("MariaDB", super::mysql::statements(true, None)),
            #[cfg(feature = "sqlite")]
            ("SQLite", super::sqlite::statements()),
        ]
    }

    #[test]
    fn no_statement_is_missing_and_none_asks_for_a_value_that_its_call_does_not_give() {
        for (dialect, statements) in dialects() {
            let absent = ABSENT.iter().find(|(name, _)| *name == dialect).unwrap().1;
            for (name, statement, given) in statements.all() {
                assert_eq!(statement.is_empty(), absent.contains(&name), "{dialect}: {name}");
                for place in statement.places() {
                    assert!(given.contains(&place.as_str()), "{dialect}: {name} asks for :{place}");
                }
            }
        }
    }

    #[test]
    fn every_word_is_written_out_and_constants_are_those_of_the_rules() {
        use crate::election::life::{EPOCH_MAX, EPOCH_ZERO};

        for (dialect, statements) in dialects() {
            for (name, statement, _) in statements.all() {
                assert!(!statement.text().contains('{'), "{dialect}: {name}: {}", statement.text());
            }
            for constant in [EPOCH_ZERO, EPOCH_MAX] {
                let epoch = statements.begin_epoch.text();
                assert!(epoch.contains(&constant.to_string()), "{dialect}: {epoch}");
            }
            assert!(statements.instances.text().contains("20000"), "{dialect}");
            assert!(statements.look.text().contains("1024"), "{dialect}");
        }
    }

    #[test]
    fn no_file_of_statements_has_one_that_nobody_knows() {
        for (dialect, file) in [
            ("postgres", include_str!("postgres/statements.sql")),
            ("mysql", include_str!("mysql/statements.sql")),
            ("sqlite", include_str!("sqlite/statements.sql")),
        ] {
            let known: Vec<_> = dialects()[0].1.all().into_iter().map(|(name, ..)| name).collect();
            for line in file.lines() {
                if let Some(name) = line.strip_prefix("--- statement ") {
                    assert!(known.contains(&name), "{dialect}: {name}");
                }
            }
        }
    }
}
