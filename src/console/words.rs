//! Times and texts as people read them.

use std::time::Duration;

/// Nothing that somebody else wrote may move the cursor or break a line.
pub(super) use crate::process::telemetry::one_line as safe;

/// A duration in its two largest units, as `3 h 12 min`; below a minute with what matters of a second.
pub(super) fn span(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let two = |a: u64, unit: &str, b: u64, small: &str| {
        if b == 0 { format!("{a} {unit}") } else { format!("{a} {unit} {b} {small}") }
    };
    match seconds {
        0 => format!("{seconds}.{millis:03} s"),
        1..10 => format!("{}.{} s", seconds, millis / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The time between two readings of a clock in ms, none if it went back.
pub(super) fn between(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// A reading of a clock (ms since 1970 UTC), to the second.
pub(super) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .and_then(|at| at.round(jiff::Unit::Second))
        .map_or_else(|_| format!("{ms} ms"), |at| at.to_string())
}

/// Each with its line end.
pub(super) fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// A text, or a dash.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| "-".to_owned(), safe)
}

/// Who, and why if they said so.
pub(super) fn who(by: &str, reason: &str) -> String {
    if reason.is_empty() { safe(by) } else { format!("{}: {}", safe(by), safe(reason)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_two_units_at_most() {
        let shown = |ms| span(Duration::from_millis(ms));
        assert_eq!(shown(43), "0.043 s");
        assert_eq!(shown(9_870), "9.8 s");
        assert_eq!(shown(59_999), "59 s");
        assert_eq!(shown(60_000), "1 min");
        assert_eq!(shown(11_520_000), "3 h 12 min");
        assert_eq!(shown(90_000_000), "1 d 1 h");
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(who("ada\u{1b}[2J", "a\nb"), r"ada\u{1b}[2J: a\nb");
        assert_eq!(or_dash(Some("")), "-");
    }

    #[test]
    fn a_time_is_read_in_utc_and_nonsense_is_shown_as_it_is() {
        assert_eq!(time(1_700_000_000_400), "2023-11-14T22:13:20Z");
        assert_eq!(time(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!(between(5, 3), Duration::ZERO);
    }
}
