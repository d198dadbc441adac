use component_lease::primary::{Branch, Lineage, Position, Promotion};

const LOG: usize = 9;
/// The row that a primary writes first.
pub(super) const BEAT: u8 = 0x80;
/// What the server itself writes before that: the beginning of another line. Which promotion began it, which is in the low bits here, nobody
/// can see: its number is one more than the server knew.
pub(super) const LINE: u8 = 0x40;
const MARKS: u8 = BEAT | LINE;

/// What is on a disk: beginnings of lines, beats (with their term) and writes (each of them once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) entries: [u8; LOG],
    pub(super) len: u8,
}

impl Log {
    pub(super) fn new(term: u8) -> Self {
        let mut entries = [0; LOG];
        entries[0] = BEAT | term;
        Self { entries, len: 1 }
    }

    pub(super) fn entries(&self) -> &[u8] {
        &self.entries[..self.len as usize]
    }

    pub(super) fn push(&mut self, entry: u8) {
        self.entries[self.len as usize] = entry;
        self.len += 1;
    }

    pub(super) fn shorten(&mut self, len: u8) {
        self.entries[len as usize..].fill(0);
        self.len = len;
    }

    /// A set of bits.
    pub(super) fn writes(self) -> u8 {
        self.entries().iter().filter(|entry| **entry & MARKS == 0).fold(0, |all, entry| all | entry)
    }

    pub(super) fn is_write(entry: u8) -> bool {
        entry & MARKS == 0
    }

    /// The number of its last line.
    pub(super) fn line(self) -> u32 {
        1 + self.entries().iter().filter(|entry| **entry & LINE != 0).count() as u32
    }

    /// Where a line of this number ends: the next one begins there.
    pub(super) fn end_of_line(self, line: u32) -> u8 {
        let begins = self.entries().iter().zip(0u8..).filter(|(entry, _)| **entry & LINE != 0);
        begins.map(|(_, at)| at).nth(line as usize - 1).unwrap_or(self.len)
    }

    pub(super) fn lineage(self) -> Lineage {
        let (mut line, mut began, mut all) = (1, None, Vec::new());
        for (at, &entry) in self.entries().iter().enumerate() {
            if entry & LINE != 0 {
                line += 1;
                began = Some(at as u64);
            } else if entry & BEAT != 0 {
                // One that goes on begins no line.
                let began = began.take().unwrap_or(at as u64);
                all.push(Promotion { version: (entry & !BEAT).into(), line, began });
            }
        }
        Lineage::new(all).unwrap()
    }

    pub(super) fn branch(self, of: u8) -> Branch {
        Branch { lineage: self.lineage(), of: of.into(), line: self.line(), end: self.len.into() }
    }

    pub(super) fn shared_with(self, other: Self) -> u8 {
        self.entries().iter().zip(other.entries()).take_while(|(one, two)| one == two).count() as u8
    }

    pub(super) fn position(self) -> Position {
        let term =
            self.entries().iter().rev().find(|entry| **entry & BEAT != 0).map_or(0, |entry| entry & !BEAT);
        Position { term: term.into(), end: self.len.into() }
    }
}
