//! What the repository does to itself. It knows nothing of the library.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

pub mod image;

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_owned(), Path::to_owned)
}
