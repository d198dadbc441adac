//! What all that reads a URL begins with.

use crate::store::error::StoreError;

pub(in crate::store::sql) fn misconfigured(text: impl Into<String>) -> StoreError {
    StoreError::misconfigured(text)
}

/// Whether the text is a URL of these schemes.
pub(in crate::store::sql) fn begins(text: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| text.starts_with(scheme))
}
