//! Whether the data of a member are a beginning of a primary's.
//!
//! A server numbers the lines of its history by what it knows. Two promotions of which neither knew the other may take the same number,
//! so numbers do not tell them apart. Versions do: there is one promotion under each. So each primary writes into its data, beside its row, under
//! which version it was promoted, on which line, and where that line begins.

/// One promotion, as it stands in the data of all that came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Promotion {
    /// Of the lease, under which the server was promoted.
    pub version: i64,
    /// The line of history that began then (PostgreSQL: the timeline).
    pub line: u32,
    /// Where the log of that line begins.
    pub began: u64,
}

/// The promotions in the data of a server, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lineage(Vec<Promotion>);

/// What is known of a member's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The promotions in them.
    pub lineage: Lineage,
    /// The last primary of whose log they are a beginning, as was proved before anything of it was received; 0 if none is known. It may be a later
    /// one than the last in the data, whose row comes some bytes after the beginning of its line.
    pub of: i64,
    /// The highest line of which they hold something.
    pub line: u32,
    /// Where their log ends.
    pub end: u64,
}

impl Lineage {
    /// `None` unless versions and lines rise from one to the next.
    #[must_use]
    pub fn new(promotions: Vec<Promotion>) -> Option<Self> {
        let rises = |two: &[Promotion]| two[0].version < two[1].version && two[0].line <= two[1].line;
        promotions.windows(2).all(rises).then_some(Self(promotions))
    }

    /// The version of the last one; 0 where there was none.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.0.last().map_or(0, |last| last.version)
    }

    /// How many of the first promotions are the same.
    fn shared(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).take_while(|(one, other)| one == other).count()
    }

    /// The highest line that is the same in both, as both know which promotion began it. That two servers have a higher one of the same
    /// number and beginning means nothing.
    #[must_use]
    pub fn shared_line(&self, other: &Self) -> u32 {
        match self.shared(other) {
            // Before the first promotion all had the same.
            0 => [self, other]
                .into_iter()
                .filter_map(|one| one.0.first())
                .map(|first| first.line - 1)
                .min()
                .unwrap_or(0),
            shared => self.0[shared - 1].line,
        }
    }

    /// Where the log of so many promotions was left: by the next line, or at the end of the whole. A primary that goes on under a later version
    /// begins no line.
    fn left(&self, promotions: usize, ours: u64) -> u64 {
        let line = promotions.checked_sub(1).map_or(0, |last| self.0[last].line);
        let next = self.0[promotions..].iter().find(|next| next.line > line);
        next.map_or(ours, |next| next.began)
    }

    /// Where the data of a member leave this history, which ends at `ours`. `None` says that they are a beginning of it. `line_ends` is the
    /// position at which this history leaves the line that has the member's number; it is 0 if this history has no such line. A promotion
    /// that ended before it wrote its row has left that line too, and earlier than the next promotion that is known here.
    #[must_use]
    pub fn parts(&self, ours: u64, line_ends: u64, member: &Branch) -> Option<u64> {
        let shared = self.shared(&member.lineage);
        let parted = Some(self.left(shared, ours).min(line_ends).min(member.end));
        if shared < member.lineage.0.len() {
            return parted;
        }
        let of = self
            .0
            .iter()
            .position(|known| known.version == member.of && known.version >= member.lineage.last());
        let (promotions, fits) = match of {
            Some(at) => (at + 1, member.line <= self.0[at].line),
            // What follows the last promotion in the data may be the beginning of one that nobody here knows.
            None if shared == 0 => (0, self.0.first().is_none_or(|first| member.line < first.line)),
            None => (shared, member.line == self.0[shared - 1].line),
        };
        let left = self.left(promotions, ours).min(line_ends);
        if !fits {
            return parted;
        }
        (member.end > left).then_some(left)
    }
}
