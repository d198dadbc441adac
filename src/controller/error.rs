//! Errors in one line. The chain of causes is joined once, at the edge.

pub(super) use crate::store::kubernetes::{chain, text};
