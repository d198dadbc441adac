//! Our own format of a holder id, `<name>_<first 8 of the pod's uid, or pid>_<8 hex random>`: it says where a holder
//! runs, and two starts of one process differ in it.

use crate::name::{HOLDER_ID_MAX, HolderId, NameError, check};

/// How many characters of a pod's UID it carries.
pub const POD_UID_PART: usize = 8;

/// The operator may choose the name but never leave out the random end: without it a restarted process would
/// pass for the one that died.
///
/// # Errors
/// [`NameError`] when `name` or `origin` make an id that is no holder id.
pub fn compose(name: &str, origin: &str, random: u32) -> Result<HolderId, NameError> {
    check("participant name", name, HOLDER_ID_MAX)?;
    let origin: String = origin.chars().take(POD_UID_PART).collect();
    check("participant origin", &origin, HOLDER_ID_MAX)?;
    HolderId::new(format!("{name}_{origin}_{random:08x}"))
}

/// A holder id in our own format, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnFormat<'a> {
    /// What the operator called it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_composed_holder_id_can_be_taken_apart_again() {
        let id = compose("discovery-7d4b9c-x2x1z", "8b7e12c0-1111-2222", 0x1f0c_9a3d).unwrap();
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
            compose(&"n".repeat(250), "8b7e12c0", 1),
            Err(NameError::TooLong { length: 268, max: 255, .. })
        ));
    }
}
