//! How a program ends: a code that scripts can tell apart, a message for people.

use std::error::Error;
use std::fmt;

/// The exit codes of `docs/reference.md`; those above 64 are from `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Something nobody foresaw.
    Unexpected,
    /// Unknown, unreadable or contradictory flags.
    Usage,
    /// An operator's request was refused. Nothing was changed.
    Refused,
    /// An operator's request was made, and did not come about.
    NotCarriedOut,
    /// There is no such lease.
    NoSuchLease,
    /// The database cannot be reached now.
    Unavailable,
    /// The election loop ended: restarting the program is right.
    Ended,
    /// The configuration cannot work until somebody changes it.
    Config,
    /// The command cannot be executed.
    CannotExecute,
    /// There is no such command.
    NotFound,
}

impl ExitCode {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotCarriedOut => 4,
            Self::NoSuchLease => 5,
            Self::Unavailable => 69,
            Self::Ended => 75,
            Self::Config => 78,
            Self::CannotExecute => 126,
            Self::NotFound => 127,
        }
    }
}

/// Why a program ends without having done its work.
#[derive(Debug)]
pub struct Failure {
    pub exit: ExitCode,
    message: String,
}

impl Failure {
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The configuration cannot work until somebody changes it.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Config, message)
    }

    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Unexpected, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// An error and its causes in one line. Joined here, at the edge, and nowhere else.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn a_chain_names_each_cause_once() {
        let cause = "x".parse::<u8>().unwrap_err();
        assert_eq!(chain(&Outer(cause)), "the outer: invalid digit found in string");
    }
}
