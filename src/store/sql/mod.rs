//! The store on an SQL database, once for all of them: one connection made in the background (`slot.rs`), what the
//! calls do and what their answers mean. A database differs by its [`Dialect`](dialect::Dialect): statements, identity, error
//! classes and inspection queries, a folder of its own. `docs/design/20261128-one-sql-store.md` says what belongs where.

mod address;
mod decode;
mod dialect;
mod doubt;
mod driver;
mod errors;
mod kinds;
mod migrate;
mod migration;
#[cfg(feature = "mysql")]
mod mysql;
mod pace;
#[cfg(feature = "postgres")]
mod postgres;
mod schema;
mod session;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod several;
mod slot;
mod source;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod store;
mod suspicion;
mod table;
mod tls;
mod value;

#[cfg(feature = "cli")]
pub(crate) use self::kinds::open_rosters;
pub use self::kinds::{install, migrate, open};
pub use self::migration::{Install, MigrationReport};
pub use self::source::Source;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::dialect::Product;
    use super::kinds::products;

    fn each() -> impl Iterator<Item = Product> {
        products().into_iter().flat_map(|(_, products)| products)
    }

    #[test]
    fn no_statement_is_missing_and_none_asks_for_a_value_that_its_call_does_not_give() {
        for Product { name: dialect, statements, absent } in each() {
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

        for Product { name: dialect, statements, .. } in each() {
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
        for (folder, products) in products() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("src/store/sql")
                .join(folder)
                .join("statements.sql");
            let known: Vec<_> = products[0].statements.all().into_iter().map(|(name, ..)| name).collect();
            for line in std::fs::read_to_string(file).unwrap().lines() {
                if let Some(name) = line.strip_prefix("--- statement ") {
                    assert!(known.contains(&name), "{folder}: {name}");
                }
            }
        }
    }
}
