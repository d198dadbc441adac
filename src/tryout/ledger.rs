//! What the leader writes to: a ledger that refuses an older fencing token. It stands for a database, a
//! file store or a queue of yours that remembers the highest version that it has seen.

use std::fmt;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// A leader with this later version has written already.
    Refused {
        newest: i64,
    },
}

/// Counts what it accepted and what it refused.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    newest: i64,
    pub(super) accepted: u32,
    pub(super) refused: u32,
}

impl Ledger {
    /// The whole of fencing, as the resource sees it: one comparison.
    pub(super) fn write(&mut self, version: i64) -> Verdict {
        if version < self.newest {
            self.refused += 1;
            return Verdict::Refused { newest: self.newest };
        }
        self.newest = version;
        self.accepted += 1;
        Verdict::Accepted
    }
}

/// A write as the program of a leader prints it: `write <version> <number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) version: i64,
    pub(super) number: u32,
}

impl Write {
    /// Reads a line; `None` for anything else.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (version, number) = line.trim_end().strip_prefix("write ")?.split_once(' ')?;
        Some(Self { version: version.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} of version {}", self.number, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_with_an_older_version_is_refused_once_a_later_leader_has_written() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.write(1), Verdict::Accepted);
        assert_eq!(ledger.write(1), Verdict::Accepted);
        assert_eq!(ledger.write(2), Verdict::Accepted);
        assert_eq!(ledger.write(1), Verdict::Refused { newest: 2 });
        assert_eq!(ledger.write(2), Verdict::Accepted);
        assert_eq!((ledger.accepted, ledger.refused), (4, 1));
    }

    #[test]
    fn only_whole_lines_of_a_program_count_as_writes() {
        assert_eq!(Write::parse("write 3 17\n"), Some(Write { version: 3, number: 17 }));
        for line in ["", "write", "write 3", "write x 1", "write 3 y", "wrote 3 1", "write 3 1 2"] {
            assert_eq!(Write::parse(line), None, "{line:?}");
        }
    }
}
