//! What is known of a server between its start and the first look at it.

/// A start of which the end is not known, or a server that only a repair may use.
#[derive(Debug, Clone)]
pub(super) struct Unsettled {
    pub(super) hidden: bool,
    pub(super) follows: bool,
    /// What an earlier server has left must not be taken for what this one says.
    pub(super) before: Option<String>,
}
