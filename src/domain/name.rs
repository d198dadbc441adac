//! Names that were checked once and can be trusted from then on.

use std::fmt;

use serde::Serialize;

/// Characters that `component_lease.component_name` holds in our own tables.
pub const COMPONENT_NAME_MAX: usize = 253;
/// Characters that `component_lease.holder_id` holds in our own tables.
pub const HOLDER_ID_MAX: usize = 255;

/// What our own format of a holder id carries of a pod's UID.
pub const POD_UID_PART: usize = 8;

/// Why a text is no component name or holder id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {what} cannot be empty")]
    Empty { what: &'static str },
    #[error("the {what} {value:?} has {length} characters, at most {max} fit; choose a shorter one")]
    TooLong { what: &'static str, value: String, length: usize, max: usize },
    #[error("the {what} {value:?} contains white space or a control character; use visible characters only")]
    Unprintable { what: &'static str, value: String },
}

fn check(what: &'static str, value: &str, max: usize) -> Result<(), NameError> {
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

/// The primary key of the row: which component is led. 1 to 253 visible characters, compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ComponentName(String);

impl ComponentName {
    /// # Errors
    /// [`NameError`] when the text is empty, longer than 253 characters or not printable.
    pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
        let value = value.into();
        check("component name", &value, COMPONENT_NAME_MAX)?;
        Ok(Self(value))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who competes: unique for each start of a process, so that a restarted process is another participant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HolderId(String);

impl HolderId {
    /// An id as it stands in the table.
    ///
    /// # Errors
    /// [`NameError`] when the text is empty, longer than 255 characters or not printable.
    pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
        let value = value.into();
        check("holder id", &value, HOLDER_ID_MAX)?;
        Ok(Self(value))
    }

    /// Our own format, `<name>_<first 8 of the pod's uid, or pid>_<8 hex random>`. The operator may
    /// choose the name but never leave out the random end: without it a restarted process would
    /// pass for the one that died.
    ///
    /// # Errors
    /// [`NameError`] when `name` or `origin` make an id that is no holder id.
    pub fn compose(name: &str, origin: &str, random: u32) -> Result<Self, NameError> {
        check("participant name", name, HOLDER_ID_MAX)?;
        let origin: String = origin.chars().take(POD_UID_PART).collect();
        check("participant origin", &origin, HOLDER_ID_MAX)?;
        Self::new(format!("{name}_{origin}_{random:08x}"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A holder id in our own format, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnFormat<'a> {
    pub name: &'a str,
    /// First 8 characters of the pod's uid, or a process id.
    pub origin: &'a str,
}

impl<'a> OwnFormat<'a> {
    /// Reads `<name>_<origin>_<8 hex>`; `None` for anything else.
    #[must_use]
    pub fn parse(holder: &'a str) -> Option<Self> {
        let (rest, random) = holder.rsplit_once('_')?;
        let (name, origin) = rest.rsplit_once('_')?;
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let ours = random.len() == 8
            && random.bytes().all(hex)
            && !name.is_empty()
            && (1..=8).contains(&origin.len())
            && origin.bytes().all(|c| c.is_ascii_alphanumeric());
        ours.then_some(Self { name, origin })
    }
}

impl fmt::Display for ComponentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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

    #[test]
    fn a_composed_holder_id_can_be_taken_apart_again() {
        let id = HolderId::compose("discovery-7d4b9c-x2x1z", "8b7e12c0-1111-2222", 0x1f0c_9a3d).unwrap();
        assert_eq!(id.as_str(), "discovery-7d4b9c-x2x1z_8b7e12c0_1f0c9a3d");
        assert_eq!(
            OwnFormat::parse(id.as_str()),
            Some(OwnFormat { name: "discovery-7d4b9c-x2x1z", origin: "8b7e12c0" })
        );
    }

    #[test]
    fn names_of_programs_with_their_own_sql_are_not_mistaken_for_our_format() {
        for foreign in [
            "pod-1",
            "pod_1",
            "pod-1_abc_nothex00",
            "_8b7e12c0_1f0c9a3d",
            "pod__1f0c9a3d",
            "a_toolongorigin_1f0c9a3d",
        ] {
            assert_eq!(OwnFormat::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_holder_name_too_long_for_the_column_is_refused_not_cut() {
        assert!(matches!(
            HolderId::compose(&"n".repeat(250), "8b7e12c0", 1),
            Err(NameError::TooLong { length: 268, max: 255, .. })
        ));
    }
}
