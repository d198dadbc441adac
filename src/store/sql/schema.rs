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
    let (mut made, mut grown) = (BTreeSet::new(), BTreeSet::new());
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
                Some(found) => {
                    let before = out.list.len();
                    complete(&table, found, job.schema, &mut out)?;
                    if out.list.len() > before {
                        grown.insert(table.name);
                    }
                }
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
                    || grown.contains(&table)
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
        let may_lack = !definition.contains("NOT NULL");
        // A line without its key, or without what it recorded, says nothing.
        if table.key.contains(column) || records && name != "component_lease" && !may_lack {
            return Err(format!(
                "the table {name} has no column {column}, which cannot be made up: DROP TABLE {name}, or rename it, and run `component-lease migrate` again"
            ));
        }
        let default = match definition.split_whitespace().next().unwrap_or_default() {
            _ if may_lack => "",
            kind if kind.starts_with("VARCHAR") || kind.starts_with("TEXT") => " DEFAULT ''",
            "BOOLEAN" => " DEFAULT false",
            _ => " DEFAULT 0",
        };
        out.forgot |= records && !may_lack;
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
#[path = "schema_tests.rs"]
mod tests;
