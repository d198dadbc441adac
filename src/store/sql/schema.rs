//! What should be there, read from the schema itself, and what is missing of it. `migrate` compares
//! and makes what is missing: all of it in an empty database; a table that was dropped or renamed, a column, a key, a trigger, a comment.

use std::collections::{BTreeMap, BTreeSet};

use super::migrate::Schema;

/// One statement of a migration.
#[derive(Debug)]
struct Statement {
    sql: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Table(Table),
    Function(String),
    Trigger {
        name: String,
        table: String,
    },
    /// On a table, or on a column of it.
    Comment {
        table: String,
    },
    CommentOnFunction(String),
    /// Lines for a table that is made when others have some already.
    Fill {
        table: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
struct Table {
    name: String,
    /// With what follows the name.
    columns: Vec<(String, String)>,
    key: Vec<String>,
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub tables: BTreeMap<String, Found>,
    /// Those that fire.
    pub triggers: BTreeSet<String>,
    pub functions: BTreeSet<String>,
}

/// A table that is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub columns: BTreeSet<String>,
    pub has_key: bool,
    /// Where the database keeps comments apart from the tables.
    pub lacks_comments: bool,
}

/// Something to make.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repair {
    /// For people, if it is worth a word of its own.
    pub what: Option<String>,
    pub sql: String,
}

/// What is to be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Repairs {
    pub list: Vec<Repair>,
    /// What was granted may have been forgotten: an epoch must begin.
    pub forgot: bool,
}

/// What a database is compared with, and how it is completed.
pub(super) struct Job<'a> {
    pub(super) schema: &'a Schema,
    /// Whether none of it was made before: then nothing was forgotten.
    pub(super) is_new: bool,
    /// Whether `component_lease` is another program's, and never made or altered.
    pub(super) foreign: bool,
}

/// Tables without which nobody knows what was granted.
const RECORDS: [&str; 3] = ["component_lease", "component_lease_history", "component_lease_store"];

/// What is missing. Err: what cannot be made without losing something, with what to do.
pub(super) fn repairs(job: &Job<'_>, present: &Present) -> Result<Repairs, String> {
    if job.foreign && !job.is_new && !present.tables.contains_key("component_lease") {
        return Err("the table component_lease was made by another program and is gone: let that program make it again; or for one of component-lease's own, DROP TABLE component_lease_schema and run `component-lease migrate` again".to_owned());
    }
    // A table of this name may be somebody else's.
    let theirs = present
        .tables
        .get("component_instance")
        .is_some_and(|found| !found.columns.contains("heartbeat_ttl"));
    let all = statements(job.schema.tables);
    let others = others(&all, job.foreign, theirs);
    let mut out = Repairs::default();
    let mut made = BTreeSet::new();
    for statement in all.into_iter().filter(|statement| !others.contains(statement.what.of())) {
        let Statement { sql, what } = statement;
        match what {
            What::Table(table) => match present.tables.get(&table.name) {
                None => {
                    out.forgot |= RECORDS.contains(&table.name.as_str());
                    let what = Some(format!("the table {}", table.name));
                    made.insert(table.name);
                    out.list.push(Repair { what, sql });
                }
                Some(found) => complete(&table, found, job.schema, &mut out)?,
            },
            What::Function(name) if !present.functions.contains(&name) => {
                out.list.push(Repair { what: Some(format!("the function {name}")), sql });
            }
            What::CommentOnFunction(name) if !present.functions.contains(&name) => {
                out.list.push(Repair { what: None, sql });
            }
            What::Trigger { name, table } if made.contains(&table) || !present.triggers.contains(&name) => {
                let drop = if job.schema.has_disabled_triggers {
                    format!("DROP TRIGGER IF EXISTS {name} ON {table}; ")
                } else {
                    String::new()
                };
                let what = (!made.contains(&table)).then(|| format!("the trigger {name}"));
                out.list.push(Repair { what, sql: drop + &sql });
            }
            What::Comment { table }
                if made.contains(&table)
                    || present.tables.get(&table).is_some_and(|found| found.lacks_comments) =>
            {
                out.list.push(Repair { what: None, sql });
            }
            What::Fill { table } if made.contains(&table) => out.list.push(Repair { what: None, sql }),
            _ => {}
        }
    }
    Ok(out)
}

/// What belongs to a table of somebody else's: the table, and functions that nothing but its triggers calls.
fn others(all: &[Statement], foreign: bool, theirs: bool) -> BTreeSet<String> {
    let mut others: BTreeSet<String> = BTreeSet::new();
    others.extend(foreign.then(|| "component_lease".to_owned()));
    others.extend(theirs.then(|| "component_instance".to_owned()));
    let calls = |name: &str, is_others: bool| {
        let call = format!("{name}()");
        all.iter().any(|statement| match &statement.what {
            What::Trigger { table, .. } => {
                others.contains(table) == is_others && statement.sql.contains(&call)
            }
            _ => false,
        })
    };
    let functions: Vec<String> = all
        .iter()
        .filter_map(|statement| match &statement.what {
            What::Function(name) if calls(name, true) && !calls(name, false) => Some(name.clone()),
            _ => None,
        })
        .collect();
    others.extend(functions);
    others
}

impl What {
    /// The table or the function that it is about.
    fn of(&self) -> &str {
        match self {
            Self::Table(Table { name, .. }) | Self::Function(name) | Self::CommentOnFunction(name) => name,
            Self::Trigger { table, .. } | Self::Comment { table } | Self::Fill { table } => table,
        }
    }
}

/// Columns and the key of a table that is there.
fn complete(table: &Table, found: &Found, schema: &Schema, out: &mut Repairs) -> Result<(), String> {
    let name = &table.name;
    let records = RECORDS.contains(&name.as_str());
    for (column, definition) in &table.columns {
        if found.columns.contains(column) {
            continue;
        }
        // A line without its key, or without what it recorded, says nothing.
        if table.key.contains(column) || records && name != "component_lease" {
            return Err(format!(
                "the table {name} has no column {column}, which cannot be made up: DROP TABLE {name}, or rename it, and run `component-lease migrate` again"
            ));
        }
        let default = match definition.split_whitespace().next().unwrap_or_default() {
            _ if !definition.contains("NOT NULL") => "",
            kind if kind.starts_with("VARCHAR") || kind.starts_with("TEXT") => " DEFAULT ''",
            "BOOLEAN" => " DEFAULT false",
            _ => " DEFAULT 0",
        };
        out.forgot |= records;
        out.list.push(Repair {
            what: Some(format!("the column {name}.{column}")),
            sql: format!("ALTER TABLE {name} ADD COLUMN {column} {definition}{default}"),
        });
    }
    if !found.has_key {
        let columns = table.key.join(", ");
        out.forgot |= records;
        out.list.push(Repair {
            what: Some(format!("the key of {name}")),
            sql: if schema.adds_keys {
                format!("ALTER TABLE {name} ADD PRIMARY KEY ({columns})")
            } else {
                format!("CREATE UNIQUE INDEX {name}_key ON {name} ({columns})")
            },
        });
    }
    Ok(())
}

/// The statements of a migration, each without the `;` at its end.
fn statements(sql: &str) -> Vec<Statement> {
    pieces(sql, ';')
        .into_iter()
        .fold(Vec::<String>::new(), |mut whole, piece| {
            // A trigger of SQLite has statements of its own between BEGIN and END.
            match whole.last_mut() {
                Some(last)
                    if last.contains("\nBEGIN")
                        && !last.trim_end().ends_with("END")
                        && !last.contains("$$") =>
                {
                    last.push(';');
                    last.push_str(&piece);
                }
                _ => whole.push(piece),
            }
            whole
        })
        .into_iter()
        .filter_map(|sql| {
            let bare = without_comments(&sql);
            what(&bare).map(|what| Statement { sql: bare.trim().to_owned(), what })
        })
        .collect()
}

fn what(sql: &str) -> Option<What> {
    let words: Vec<&str> = sql.split_whitespace().take(8).collect();
    let name = |word: &str| word.split(['(', '.']).next().unwrap_or_default().to_owned();
    Some(match words.as_slice() {
        ["CREATE", "TABLE", "IF", "NOT", "EXISTS", table, ..] | ["CREATE", "TABLE", table, ..] => {
            What::Table(self::table(name(table), sql))
        }
        ["CREATE", "OR", "REPLACE", "FUNCTION", function, ..] => What::Function(name(function)),
        ["CREATE", "TRIGGER", trigger, ..] => {
            let table = sql.split_once(" ON ").and_then(|(_, rest)| rest.split_whitespace().next());
            What::Trigger { name: name(trigger), table: name(table.unwrap_or_default()) }
        }
        ["COMMENT", "ON", "FUNCTION", function, ..] => What::CommentOnFunction(name(function)),
        ["COMMENT", "ON", "TABLE" | "COLUMN", table, ..] => What::Comment { table: name(table) },
        ["INSERT", "INTO", table, ..] => What::Fill { table: name(table) },
        _ => return None,
    })
}

/// What stands between the outermost brackets.
fn table(name: String, sql: &str) -> Table {
    let start = sql.find('(').map_or(0, |at| at + 1);
    let (mut depth, mut end) = (1, sql.len());
    let mut quoted = false;
    for (at, c) in sql[start..].char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            end = start + at;
            break;
        }
    }
    let mut out = Table { name, columns: Vec::new(), key: Vec::new() };
    for item in pieces(&sql[start..end], ',') {
        let lines = item.lines().filter(|line| !line.trim_start().starts_with("--"));
        let item = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        let (first, rest) = item.split_once(' ').unwrap_or((item.as_str(), ""));
        if let Some(columns) = item.strip_prefix("PRIMARY KEY (") {
            let columns = columns.split(')').next().unwrap_or_default();
            out.key = columns.split(", ").map(ToOwned::to_owned).collect();
        } else if first.starts_with(|c: char| c.is_ascii_lowercase()) {
            if rest.contains("PRIMARY KEY") {
                out.key = vec![first.to_owned()];
            }
            out.columns.push((first.to_owned(), rest.to_owned()));
        }
    }
    out
}

/// Splits where the character stands outside of quotes, brackets, comments and `$$` bodies.
fn pieces(sql: &str, at: char) -> Vec<String> {
    let (mut out, mut piece) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut comment, mut body) = (0, false, false, false);
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        match c {
            '\n' => comment = false,
            _ if comment => {}
            '$' if next == Some('$') => {
                rest.next();
                body = !body;
                piece.push_str("$$");
                continue;
            }
            _ if body => {}
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '-' if next == Some('-') => comment = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if c == at && depth == 0 => {
                out.push(std::mem::take(&mut piece));
                continue;
            }
            _ => {}
        }
        piece.push(c);
    }
    out.push(piece);
    out
}

/// Without comments that have a line of their own. Those within a table stay: SQLite keeps them with it.
fn without_comments(sql: &str) -> String {
    let mut lines = sql.trim_start().lines().skip_while(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with("--")
    });
    let mut out = String::new();
    for line in &mut lines {
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
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
        assert_eq!(postgres.len(), 5);
        assert_eq!(postgres[0].1.len(), 6);
        assert_eq!(postgres[2].2, ["component_name", "version"]);
        assert_eq!(postgres[4].2, ["id"]);
    }

    #[test]
    fn columns_hold_what_the_rules_allow() {
        use crate::election::name::{COMPONENT_NAME_MAX, HOLDER_ID_MAX};
        use crate::election::timing::TTL_MAX_SECONDS;

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
        let triggers = |schema: &str| {
            statements(schema).iter().filter(|s| matches!(s.what, What::Trigger { .. })).count()
        };
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
            said("the table component_lease_intent", false, 4)
        );
        // With its trigger, its lines and its comments.
        assert_eq!(
            check(&drop_table("component_lease_history")),
            said("the table component_lease_history", true, 9)
        );
        let drop_column = |table: &'static str, column: &'static str| {
            move |p: &mut Present| assert!(p.tables.get_mut(table).unwrap().columns.remove(column))
        };
        assert_eq!(
            check(&drop_column("component_lease", "ttl")),
            said("the column component_lease.ttl", true, 1)
        );
        assert_eq!(
            check(&drop_column("component_instance", "node")),
            said("the column component_instance.node", false, 1)
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
        assert_eq!(check(&no_key), said("the key of component_lease", true, 1));
        let no_trigger = |p: &mut Present| assert!(p.triggers.remove("component_lease_new_holder"));
        assert_eq!(check(&no_trigger), said("the trigger component_lease_new_holder", false, 1));
        let no_comment =
            |p: &mut Present| p.tables.get_mut("component_lease_store").unwrap().lacks_comments = true;
        assert_eq!(check(&no_comment), said("", false, 7));
    }
}
