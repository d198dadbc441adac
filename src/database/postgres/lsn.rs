//! Places in PostgreSQL's log, and where the histories of two servers part: pure.

use std::fmt::Write as _;

/// `16/B374D848` as a number.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
    Some(u64::from(high) << 32 | u64::from(low))
}

pub(super) fn show(lsn: u64) -> String {
    let mut text = String::new();
    let _ = write!(text, "{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff);
    text
}

/// The timeline that the name of a file of the log begins with.
pub(super) fn line_of(file: &str) -> Option<u32> {
    u32::from_str_radix(file.get(..8)?, 16).ok()
}

/// The highest timeline of which one of these files of the log holds what ends at `end`. A standby has such a file only when
/// it went on to that timeline: nobody hands on the log of one that its own log is no beginning of.
pub(super) fn line_on_disk<'f>(files: impl Iterator<Item = &'f str>, end: u64, size: u64) -> u32 {
    let size = size.max(1);
    let (number, per_name) = (end.saturating_sub(1) / size, 0x1_0000_0000 / size);
    let place = format!("{:08X}{:08X}", number / per_name, number % per_name);
    files.filter(|file| file.get(8..) == Some(&place)).filter_map(line_of).max().unwrap_or(0)
}

/// The name of the file that says where a timeline comes from. The first one has none.
pub(super) fn history_file(line: u32) -> Option<String> {
    (line > 1).then(|| format!("pg_wal/{line:08X}.history"))
}

/// The timelines that a server's own comes from: each with the end at which the next one left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    line: u32,
    earlier: Vec<(u32, u64)>,
}

impl History {
    /// `text` is the content of [`history_file`].
    pub(super) fn parse(line: u32, text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let earlier = lines.map(|entry| {
            let mut words = entry.split_ascii_whitespace();
            Some((words.next()?.parse().ok()?, parse(words.next()?)?))
        });
        Some(Self { line, earlier: earlier.collect::<Option<_>>()? })
    }

    pub(super) const fn line(&self) -> u32 {
        self.line
    }

    /// Where a timeline of this number ends in this history, 0 if it has none of it. `ours` is the end of this history's own log.
    pub(super) fn end_of(&self, ours: u64, line: u32) -> u64 {
        if line == self.line {
            return ours;
        }
        self.earlier.iter().find(|(earlier, _)| *earlier == line).map_or(0, |(_, left)| *left)
    }

    /// The last timeline of which `pg_rewind` believes that two servers have it in common: by its number and by where it began.
    pub(super) fn believed_common(&self, other: &Self) -> u32 {
        let both = self.beginnings().zip(other.beginnings());
        both.take_while(|(one, other)| one == other).last().map_or(0, |((line, _), _)| line)
    }

    fn beginnings(&self) -> impl Iterator<Item = (u32, u64)> {
        let lines = self.earlier.iter().map(|(line, _)| *line).chain([self.line]);
        lines.zip([0].into_iter().chain(self.earlier.iter().map(|(_, left)| *left)))
    }

    /// The files of the log, any of which a server with this history must still have to hand on its log from `end` of
    /// timeline `line`: a later timeline has a copy of what it took over of the file in which it began.
    pub(super) fn files(&self, line: u32, end: u64, size: u64) -> Vec<String> {
        let size = size.max(1);
        let (number, per_name) = (end / size, 0x1_0000_0000 / size);
        let lines = self
            .earlier
            .iter()
            .map(|(earlier, _)| *earlier)
            .chain([self.line])
            .filter(|known| *known >= line);
        lines.map(|line| format!("{line:08X}{:08X}{:08X}", number / per_name, number % per_name)).collect()
    }

    /// Where the last timeline began.
    pub(super) fn began(&self) -> u64 {
        self.earlier.last().map_or(0, |(_, left)| *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_log_are_read_and_written_as_the_server_does() {
        for (text, number) in [("0/0", 0), ("0/30000D8", 0x0300_00D8), ("16/B374D848", 0x16_B374_D848)] {
            assert_eq!(parse(text), Some(number));
            assert_eq!(show(number), text);
        }
        for nonsense in ["", "0", "0/", "x/1", "1/2/3"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_file_of_the_log_names_its_timeline() {
        assert_eq!(line_of("0000001A00000000000000C3"), Some(26));
        assert_eq!(line_of("short"), None);
        assert_eq!((history_file(1), history_file(26).as_deref()), (None, Some("pg_wal/0000001A.history")));
    }

    #[test]
    fn the_file_that_holds_the_end_says_on_which_timeline_it_is() {
        let files = [
            "000000010000000000000005",
            "000000020000000000000005",
            "000000030000000000000006",
            "00000003.history",
        ];
        let on_disk = |end| line_on_disk(files.into_iter(), end, 1 << 20);
        assert_eq!((on_disk(0x50_0001), on_disk(0x60_0000), on_disk(0x60_0001)), (2, 2, 3));
        assert_eq!(on_disk(0x90_0000), 0, "there is no such file");
    }

    #[test]
    fn a_history_says_where_it_left_each_timeline() {
        let text = "1\t0/5000000\tno recovery target specified\n\n2\t0/9000000\tbefore\n# a comment\n";
        let history = History::parse(3, text).unwrap();
        assert_eq!(history.began(), 0x900_0000);
        let end_of = |line| history.end_of(0xA00_0000, line);
        assert_eq!((end_of(1), end_of(2), end_of(3)), (0x500_0000, 0x900_0000, 0xA00_0000));
        assert_eq!(end_of(4), 0, "a timeline that it does not come from");
        assert_eq!(History::parse(3, "1 nonsense"), None);
    }

    #[test]
    fn a_place_of_the_log_is_in_a_file_of_its_timeline_or_of_a_later_one() {
        let history = History::parse(3, "1\t0/5000000\tx\n2\t0/9000000\tx\n").unwrap();
        let mega = 1 << 20;
        assert_eq!(
            history.files(2, 0x8F0_0001, mega),
            ["00000002000000000000008F", "00000003000000000000008F"]
        );
        assert_eq!(history.files(3, 0x16_B374_D848, 16 * mega), ["0000000300000016000000B3"]);
    }

    #[test]
    fn the_first_timeline_comes_from_nowhere() {
        let history = History::parse(1, "").unwrap();
        assert_eq!((history.began(), history.line(), history.end_of(7, 1)), (0, 1, 7));
    }

    #[test]
    fn timelines_of_the_same_number_and_beginning_are_taken_for_the_same() {
        let history = |line, text| History::parse(line, text).unwrap();
        let ours = history(3, "1\t0/50\tx\n2\t0/90\tx\n");
        assert_eq!(ours.believed_common(&history(3, "1\t0/50\tx\n2\t0/90\tanother\n")), 3);
        assert_eq!(ours.believed_common(&history(3, "1\t0/50\tx\n2\t0/80\tx\n")), 2);
        assert_eq!(ours.believed_common(&history(2, "1\t0/40\tx\n")), 1);
        assert_eq!(ours.believed_common(&history(1, "")), 1);
    }
}
