//! What `statements.sql` needs beside itself.

use std::sync::OnceLock;

use super::access::{TRIGGERS, VEILS};
use super::identity::Form;
use crate::store::sql::statement::{Places, Statements};

const PLACES: Places = Places { mark: '$', numbered: true };

/// As they are sent, for one form of the server's identity.
pub(super) fn of(form: Form) -> &'static Statements {
    static FORMS: [OnceLock<&'static Statements>; Form::COUNT] = [const { OnceLock::new() }; Form::COUNT];
    FORMS[form.number()].get_or_init(|| {
        let words =
            [("identity", form.sql()), ("veils", VEILS.to_owned()), ("triggers", TRIGGERS.to_owned())];
        Statements::read(include_str!("statements.sql"), &words, PLACES, |text| qualified(&text))
    })
}

/// Writes out what the abbreviations of our statements stand for.
pub(super) fn qualified(template: &str) -> String {
    let mut sql =
        template.replace("{now}", "(extract(epoch FROM pg_catalog.clock_timestamp()) {*} 1000)::bigint");
    for operator in ["=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "&"] {
        sql = sql.replace(&format!("{{{operator}}}"), &format!("OPERATOR(pg_catalog.{operator})"));
    }
    sql
}

#[cfg(test)]
#[path = "statements_tests.rs"]
pub(super) mod tests;
