//! What stands beside a lease: a record that only its leader writes, and what each member says of itself. A store
//! keeps both as texts; what they mean is their writers' business.

use std::collections::BTreeMap;

use super::error::StoreError;
use crate::election::{ComponentName, LeaseRow};

/// Bytes that a record or a report may have.
pub const TEXT_MAX: usize = 16 * 1024;

/// A lease with what stands beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rostered {
    /// The lease, as it was when the record was read.
    pub row: Option<LeaseRow>,
    /// What a leader wrote last.
    pub record: Option<String>,
    /// What members say, by member; those that say something. They are not older than the lease.
    pub reports: BTreeMap<String, String>,
}

/// A record as it was read. Nobody is promoted as if there were none, so one that is longer than any that we write is an error; a report
/// like that counts as none.
pub(super) fn read(component: &ComponentName, record: Option<String>) -> Result<Option<String>, StoreError> {
    if record.as_ref().is_none_or(|record| record.len() <= TEXT_MAX) {
        return Ok(record);
    }
    Err(StoreError::misconfigured(format!(
        "the record beside lease {component} has more than {TEXT_MAX} bytes, so no member wrote it; restore what it was, or remove it, so that members go by the newest that they know"
    )))
}

/// Refuses a text that is longer than what others read.
pub(super) fn check(what: &str, text: &str) -> Result<(), StoreError> {
    if text.len() <= TEXT_MAX {
        return Ok(());
    }
    let why = format!("the {what} has {} bytes, at most {TEXT_MAX} are kept", text.len());
    Err(StoreError::misconfigured(why))
}
