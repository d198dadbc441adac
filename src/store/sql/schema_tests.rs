//! What is missing of the tables, and what is made of that.

use super::*;

const POSTGRES: &str = include_str!("postgres/0001_tables.sql");
const MYSQL: &str = include_str!("mysql/0001_tables.sql");
const SQLITE: &str = include_str!("sqlite/0001_tables.sql");

fn tables(schema: &str) -> Vec<Table> {
    let tables = statements(schema)
        .into_iter()
        .filter_map(|s| if let What::Table(table) = s.what { Some(table) } else { None });
    tables.collect()
}

#[test]
fn the_schemas_of_all_databases_are_read_alike() {
    let names = |schema: &str| -> Vec<(String, Vec<String>, Vec<String>)> {
        let of = |table: Table| {
            let columns = table.columns.into_iter().map(|(name, _)| name).collect();
            (table.name, columns, table.key)
        };
        tables(schema).into_iter().map(of).collect()
    };
    let postgres = names(POSTGRES);
    assert_eq!(postgres, names(MYSQL));
    assert_eq!(postgres, names(SQLITE));
    assert_eq!(postgres.len(), 7);
    assert_eq!(postgres[0].1.len(), 6);
    assert_eq!(postgres[2].2, ["component_name", "version"]);
    assert_eq!(postgres[4].2, ["id"]);
}

#[test]
fn columns_hold_what_the_rules_allow() {
    use crate::election::timing::TTL_MAX_SECONDS;
    use crate::name::{COMPONENT_NAME_MAX, HOLDER_ID_MAX};

    for schema in [POSTGRES, MYSQL, SQLITE] {
        for table in tables(schema) {
            for (column, definition) in &table.columns {
                let max = match column.as_str() {
                    "component_name" => COMPONENT_NAME_MAX,
                    "holder_id" | "instance" => HOLDER_ID_MAX,
                    _ => continue,
                };
                assert!(definition.starts_with(&format!("VARCHAR({max})")), "{}.{column}", table.name);
            }
        }
        let ttl = TTL_MAX_SECONDS.to_string();
        assert!(schema.lines().any(|line| line.contains("CHECK (max_ttl") && line.contains(&ttl)));
    }
}

#[test]
fn no_statement_is_lost_or_cut() {
    for sql in [POSTGRES, MYSQL, SQLITE] {
        let bare = |text: &str| -> String {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
            lines.flat_map(str::chars).filter(|c| !c.is_whitespace() && *c != ';').collect()
        };
        let whole: String = statements(sql).iter().map(|s| bare(&s.sql)).collect();
        assert_eq!(whole, bare(sql));
    }
    let triggers =
        |schema: &str| statements(schema).iter().filter(|s| matches!(s.what, What::Trigger { .. })).count();
    assert_eq!((triggers(POSTGRES), triggers(MYSQL), triggers(SQLITE)), (3, 0, 1));
}

#[cfg(feature = "postgres")]
#[test]
fn nothing_of_somebody_elses_table_is_made_and_all_else_is() {
    let of = |foreign, theirs| {
        let schema = crate::store::sql::postgres::SCHEMA;
        let mut present = Present::default();
        for (is_there, name) in [(foreign, "component_lease"), (theirs, "component_instance")] {
            if is_there {
                present.tables.insert(name.to_owned(), Found { has_key: true, ..Found::default() });
            }
        }
        let job = Job { schema: &schema, is_new: true, foreign };
        repairs(&job, &present).unwrap().list.into_iter().map(|r| r.sql).collect::<Vec<_>>().join(";\n")
    };
    let all = of(false, false);
    let (foreign, theirs) = (of(true, false), of(false, true));
    for word in ["TABLE component_lease ", "component_lease_notify", "component_lease_new_holder"] {
        assert!(all.contains(word) && !foreign.contains(word) && theirs.contains(word), "{word}");
    }
    assert!(all.contains("TABLE component_instance") && !theirs.contains("component_instance"));
    for word in ["TABLE component_lease_history", "component_lease_history_rises", "INSERT INTO"] {
        assert!(foreign.contains(word) && theirs.contains(word), "{word}");
    }
}

fn complete_present(schema: &str) -> Present {
    let mut present = Present::default();
    for statement in statements(schema) {
        match statement.what {
            What::Table(table) => {
                let columns = table.columns.into_iter().map(|(name, _)| name).collect();
                let found = Found { columns, has_key: true, lacks_comments: false };
                present.tables.insert(table.name, found);
            }
            What::Trigger { name, .. } => {
                present.triggers.insert(name);
            }
            What::Function(name) => {
                present.functions.insert(name);
            }
            _ => {}
        }
    }
    present
}

#[cfg(feature = "postgres")]
#[test]
fn exactly_what_is_missing_is_made() {
    let schema = crate::store::sql::postgres::SCHEMA;
    let job = Job { schema: &schema, is_new: false, foreign: false };
    let check = |change: &dyn Fn(&mut Present)| {
        let mut present = complete_present(schema.tables);
        change(&mut present);
        let repairs = repairs(&job, &present)?;
        let words: Vec<String> = repairs.list.iter().filter_map(|r| r.what.clone()).collect();
        Ok::<_, String>((words.join(", "), repairs.forgot, repairs.list.len()))
    };
    let said = |text: &str, forgot: bool, count: usize| Ok((text.to_owned(), forgot, count));
    assert_eq!(check(&|_| ()), said("", false, 0));
    let drop_table = |name: &'static str| move |p: &mut Present| drop(p.tables.remove(name));
    // With its two triggers and seven comments.
    assert_eq!(check(&drop_table("component_lease")), said("the table component_lease", true, 10));
    assert_eq!(
        check(&drop_table("component_lease_intent")),
        said("the table component_lease_intent", false, 17)
    );
    // With its trigger, its lines and its comments.
    assert_eq!(
        check(&drop_table("component_lease_history")),
        said("the table component_lease_history", true, 13)
    );
    let drop_column = |table: &'static str, column: &'static str| {
        move |p: &mut Present| assert!(p.tables.get_mut(table).unwrap().columns.remove(column))
    };
    assert_eq!(
        check(&drop_column("component_lease", "ttl")),
        said("the column component_lease.ttl", true, 8)
    );
    // What may be missing is made without an epoch, which would keep everybody waiting.
    assert_eq!(
        check(&drop_column("component_lease_history", "end_time")),
        said("the column component_lease_history.end_time", false, 11)
    );
    assert_eq!(
        check(&drop_column("component_instance", "node")),
        said("the column component_instance.node", false, 22)
    );
    for (table, column) in [
        ("component_lease", "component_name"),
        ("component_lease_history", "ttl"),
        ("component_lease_store", "uuid"),
    ] {
        let why = check(&drop_column(table, column)).unwrap_err();
        assert!(why.contains(column) && why.contains(&format!("DROP TABLE {table}")), "{why}");
    }
    let no_key = |p: &mut Present| p.tables.get_mut("component_lease").unwrap().has_key = false;
    assert_eq!(check(&no_key), said("the key of component_lease", true, 8));
    let no_trigger = |p: &mut Present| assert!(p.triggers.remove("component_lease_new_holder"));
    assert_eq!(check(&no_trigger), said("the trigger component_lease_new_holder", false, 1));
    let no_comment =
        |p: &mut Present| p.tables.get_mut("component_lease_store").unwrap().lacks_comments = true;
    assert_eq!(check(&no_comment), said("", false, 7));
}
