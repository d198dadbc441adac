//! The looks at many components, for one table.

use super::inspect::Companions;
use super::statements::{LOOK_AT_BARE, LOOK_AT_WITHOUT_LIFE, Statements};

/// Texts in which the collation of the table's column stands.
pub(super) struct LookAt {
    pub(super) plain: String,
    pub(super) with_instances: String,
    /// How often the names stand in the plain one; one time more with instances.
    pub(super) names: usize,
}

impl LookAt {
    /// `column` is the character set and the collation of `component_lease.component_name`; `None` for bytes.
    pub(super) fn new(statements: &Statements, companions: Companions, column: Option<(&str, &str)>) -> Self {
        let word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let (set, collation) = column
            .filter(|(set, collation)| word(set) && word(collation))
            .unwrap_or(("utf8mb4", "utf8mb4_bin"));
        let of_table =
            |text: &str| text.replace("{collation}", &format!("CHARACTER SET {set} COLLATE {collation}"));
        let (plain, names) = match companions {
            Companions::All => (statements.look_at, 2),
            Companions::Intent => (LOOK_AT_WITHOUT_LIFE, 2),
            Companions::None => (LOOK_AT_BARE, 1),
        };
        Self { plain: of_table(plain), with_instances: of_table(statements.look_at_with_instances), names }
    }
}
