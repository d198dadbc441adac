//! Which message is said again: one of a kind once a minute, however often its cause repeats and
//! whatever number it carries each time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::election::timing::Moment;

/// How often a problem that lasts is said again.
pub const SAID_AGAIN: Duration = Duration::from_secs(60);
/// So many kinds may be said within that time; a flood of them says nothing more.
const KINDS: usize = 64;

/// What was said when.
#[derive(Debug, Default)]
pub struct Repeats {
    said: BTreeMap<String, Moment>,
}

impl Repeats {
    /// Whether a message is said now; then it is taken for said. `kind` should come from [`kind_of`] where it
    /// has text of others in it.
    pub fn is_due(&mut self, kind: &str, now: Moment) -> bool {
        if self.said.get(kind).is_some_and(|said| now < *said + SAID_AGAIN) {
            return false;
        }
        if self.said.len() >= KINDS {
            self.said.retain(|_, said| now < *said + SAID_AGAIN);
        }
        if self.said.len() >= KINDS {
            return false;
        }
        self.said.insert(kind.to_owned(), now);
        true
    }
}

/// A text without what differs from one time to the next: each word with a digit in it stands for all
/// such words (a port, the number of a connection, the random end of a holder).
#[must_use]
pub fn kind_of(text: &str) -> String {
    let mut kind = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        if word.contains(|c: char| c.is_ascii_digit()) {
            kind.push('#');
        } else {
            kind.push_str(word);
        }
        kind.push_str(&piece[word.len()..]);
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_kind_is_said_once_a_minute_and_others_beside_it() {
        let mut repeats = Repeats::default();
        let said = [S(0), S(1), S(59), S(60), S(61), S(120)].map(|now| repeats.is_due("a", now));
        assert_eq!(said, [true, false, false, true, false, true]);
        assert!(repeats.is_due("b", S(61)));
    }

    #[test]
    fn a_flood_of_kinds_is_bounded_and_ends_with_the_minute() {
        let mut repeats = Repeats::default();
        let said = (0..1000).filter(|kind| repeats.is_due(&format!("{kind}"), S(0))).count();
        assert_eq!(said, KINDS);
        assert!(!repeats.is_due("another", S(59)));
        assert!(repeats.is_due("another", S(60)));
    }

    #[test]
    fn numbers_make_no_other_kind_and_words_do() {
        let kind = |text: &str| kind_of(text);
        assert_eq!(
            kind("lost connection 17 to 10.0.0.1:5432 (holder d-0_8b7e12c0_00000001)"),
            kind("lost connection 4711 to 10.0.0.9:61234 (holder d-1_1f0c9a3d_0badcaf3)")
        );
        assert_ne!(kind("connection 17 refused"), kind("connection 17 reset"));
        assert_eq!(kind("größe 5µ"), "größe #");
    }
}
