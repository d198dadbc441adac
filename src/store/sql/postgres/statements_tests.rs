use super::*;

/// What is written like a call and is SQL's own syntax.
const SYNTAX: &[&str] = &[
    "always",
    "array",
    "by",
    "f",
    "n",
    "not",
    "and",
    "any",
    "as",
    "coalesce",
    "component_instance",
    "component_lease",
    "component_lease_history",
    "component_lease_intent",
    "component_lease_record",
    "component_lease_report",
    "component_lease_schema",
    "component_lease_store",
    "conflict",
    "else",
    "exists",
    "extract",
    "from",
    "greatest",
    "in",
    "join",
    "least",
    "materialized",
    "on",
    "operator",
    "or",
    "over",
    "select",
    "substring",
    "then",
    "values",
    "when",
    "where",
];

/// The names that are called without a schema, and the operators that are used without one.
pub(in crate::store::sql::postgres) fn unqualified(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = sql.to_owned();
    while let Some((before, after)) = rest.split_once("OPERATOR(pg_catalog.") {
        let (_, behind) = after.split_once(')').expect("an operator ends");
        rest = format!("{before}~{behind}");
    }
    // Comments and literals are no SQL; `SET a = b` is an assignment, and `= $` stands in no comparison of ours.
    while let Some((before, after)) = rest.split_once('\'') {
        let (_, behind) = after.split_once('\'').expect("a literal ends");
        rest = format!("{before}LITERAL{behind}");
    }
    for (at, _) in rest.match_indices('(') {
        let before = rest[..at].trim_end();
        let name: String = before
            .chars()
            .rev()
            .take_while(|c| c.is_ascii_alphanumeric() || "_.".contains(*c))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let syntax = name.is_empty() || SYNTAX.contains(&name.to_lowercase().as_str());
        if !syntax && !name.starts_with("pg_catalog.") {
            found.push(name);
        }
    }
    for operator in [
        "||",
        "<",
        ">",
        " + ",
        " - ",
        " * ",
        " IN (",
        "BETWEEN",
        "LIKE",
        "DISTINCT FROM",
        "::text",
        "::uuid",
        "::reg",
    ] {
        if rest.contains(operator) {
            found.push(operator.to_owned());
        }
    }
    found
}

#[test]
fn everything_but_our_tables_is_named_with_its_schema() {
    for number in 0..Form::COUNT {
        let form = Form::from_number(number);
        let inspection = qualified(&super::super::table::INSPECT.replace("{identity}", &form.sql()));
        let all = of(form).all().into_iter().map(|(_, statement, _)| statement.text());
        for sql in all.chain([inspection.as_str()]) {
            assert_eq!(unqualified(sql), Vec::<String>::new(), "{sql}");
            assert!(sql.is_ascii() && !sql.contains('{'), "{sql}");
        }
    }
    let bad = "SELECT max(a) FROM t WHERE left(b, 3) || c > d AND e BETWEEN 1 AND 2";
    assert_eq!(unqualified(bad), ["max", "left", "||", ">", "BETWEEN"]);
}
