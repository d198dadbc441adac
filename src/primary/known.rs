//! Which record counts, where somebody may have put an older state of the lease's store in the place of the newer one.
//!
//! The store says what it says. So each member keeps the newest record that it has seen on its own disk, and says it with its seal: a
//! promotion is judged by the newest of all that are known. It also says of which promotion its data are a beginning: a restored store may
//! grant a version anew that was used before, and **a version is for one promotion**.

/// When a record was written: under which version of the lease, and which one of that version it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Of the lease.
    pub version: i64,
    /// Rises with each record that a primary writes.
    pub serial: u64,
}

/// The newest of these.
pub fn newest<R>(known: impl IntoIterator<Item = (Stamp, R)>) -> Option<(Stamp, R)> {
    known.into_iter().reduce(|one, other| if other.0 > one.0 { other } else { one })
}

/// Whether a term that has no primary yet leads to nothing: a member's data are a beginning of a primary's of this version, or of a later one
/// (`of`, of each member). The lease's store has granted that before.
#[must_use]
pub fn is_used(version: i64, of: impl IntoIterator<Item = i64>) -> bool {
    of.into_iter().any(|of| of >= version)
}
