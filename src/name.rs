//! Names that were checked once and can be trusted from then on.

use std::fmt;

use serde::Serialize;

/// Characters that `component_lease.component_name` holds in our own tables.
pub const COMPONENT_NAME_MAX: usize = 253;
/// Characters that `component_lease.holder_id` holds in our own tables.
pub const HOLDER_ID_MAX: usize = 255;

/// Why a text is no component name or holder id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum NameError {
    /// It has no characters.
    #[error("a {what} cannot be empty")]
    Empty { what: &'static str },
    /// It does not fit into its column.
    #[error("the {what} {value:?} has {length} characters, at most {max} fit; choose a shorter one")]
    TooLong { what: &'static str, value: String, length: usize, max: usize },
    /// Databases would compare it in different ways.
    #[error("the {what} {value:?} contains white space or a control character; use visible characters only")]
    Unprintable { what: &'static str, value: String },
}

pub(crate) fn check(what: &'static str, value: &str, max: usize) -> Result<(), NameError> {
    let length = value.chars().count();
    if length == 0 {
        return Err(NameError::Empty { what });
    }
    if length > max {
        return Err(NameError::TooLong { what, value: value.to_owned(), length, max });
    }
    // Trailing white space compares differently from one database to the next.
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(NameError::Unprintable { what, value: value.to_owned() });
    }
    Ok(())
}

/// A text that was checked: what a message calls it, and how many characters it may have.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// As it stands in the table.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, longer than the column or not printable.
            pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
                let value = value.into();
                check($what, &value, $max)?;
                Ok(Self(value))
            }

            /// As it stands in the table.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked! {
    /// The primary key of the row: which component is led. 1 to 253 visible characters, compared byte by byte.
    /// In a pod, [`component`](crate::component) puts the namespace before a name.
    ComponentName, "component name", COMPONENT_NAME_MAX
}

checked! {
    /// Who competes: unique for each start of a process, so that a restarted process is another participant.
    /// 1 to 255 visible characters.
    HolderId, "holder id", HOLDER_ID_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_name_is_1_to_253_visible_characters() {
        assert!(ComponentName::new("discovery").is_ok());
        assert!(ComponentName::new("ü".repeat(253)).is_ok());
        assert!(matches!(ComponentName::new(""), Err(NameError::Empty { .. })));
        assert!(matches!(ComponentName::new("x".repeat(254)), Err(NameError::TooLong { length: 254, .. })));
        for bad in ["a b", "a\n", "trailing ", "nul\0"] {
            assert!(matches!(ComponentName::new(bad), Err(NameError::Unprintable { .. })), "{bad:?}");
        }
    }
}
