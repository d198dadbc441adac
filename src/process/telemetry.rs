//! Logs: to standard error, because standard output belongs to the program that is supervised.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::{LogArgs, LogFormat};
use super::exit::{ExitCode, Failure};
pub use super::limit::Due;
use super::limit::Limit;

/// Begins to log. Problems that repeat are said as often as `due` lets them.
pub fn init(args: &LogArgs, due: Due) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| {
        Failure::new(
            ExitCode::Usage,
            format!(
                "--log {:?} is no log filter ({error}); write for example info or component_lease=debug",
                args.log
            ),
        )
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let begun = match args.log_format {
        LogFormat::Text => {
            builder.fmt_fields(OneLine).with_target(false).finish().with(Limit(due)).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().with(Limit(due)).try_init(),
    };
    begun.map_err(|error| Failure::unexpected(format!("cannot begin to log: {error}")))
}

/// A text in one line, as it may be shown on a terminal. Much of what is logged was written by others: holders, names
/// of pods, error texts of servers. A line break in it would look like another line of the log, and a control
/// character may do anything to a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    // A String takes all.
    let _ = Escaping(&mut line).write_str(text);
    line
}

/// Writes what cannot be shown as Rust would write it in a literal.
struct Escaping<W>(W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(is_unfit) {
            let fit = part.trim_end_matches(is_unfit);
            self.0.write_str(fit)?;
            for unfit in part[fit.len()..].chars() {
                write!(self.0, "{}", unfit.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// Control characters, separators of lines, and what turns the direction of the text around it.
fn is_unfit(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The fields of the text log, as `tracing_subscriber` writes them, but with each value in one line.
#[derive(Debug)]
struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Fields { writer, first: true, outcome: Ok(()) };
        fields.record(&mut visitor);
        visitor.outcome
    }
}

struct Fields<'writer> {
    writer: Writer<'writer>,
    first: bool,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::replace(&mut self.first, false) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let (italic, dim, plain) =
                if self.writer.has_ansi_escapes() { ("\x1b[3m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
            write!(self.writer, "{italic}{name}{plain}{dim}={plain}")?;
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if self.outcome.is_ok() {
            self.outcome = self.write(name.strip_prefix("r#").unwrap_or(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing::{info, warn};

    use super::*;

    const NASTY: &str =
        "d-0\n2026-01-01 WARN all is lost\r\t\u{1b}[2J\u{7}\u{9b}31m\u{0}\u{7f}\u{85}\u{2028}\u{202e}";

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(colours: bool, log: impl Fn()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(OneLine)
            .with_ansi(colours)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn whatever_others_wrote_stays_in_its_line_however_it_is_logged() {
        let error = io::Error::other(NASTY);
        let text = logged(false, || {
            info!(holder = NASTY, "a field");
            info!(holder = %NASTY, "shown");
            info!(holder = ?NASTY, "quoted");
            info!("in the message: {NASTY}");
            warn!(%error, "an error");
            warn!(error = &error as &dyn std::error::Error, "as an error");
            warn!("{}", NASTY);
        });
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(!text.chars().any(|char| char != '\n' && is_unfit(char)), "{text:?}");
        assert_eq!(text.matches("d-0\\n2026-01-01 WARN").count(), 7, "nothing is left out:\n{text}");
    }

    #[test]
    fn a_line_looks_as_it_always_did() {
        let log =
            || warn!(object = "ns/a", version = 7, pod = %"d-0", why = ?Some(1), "the leader {}", "may live");
        assert_eq!(
            logged(false, log),
            " WARN the leader may live object=\"ns/a\" version=7 pod=d-0 why=Some(1)\n"
        );
        let coloured = logged(true, log);
        assert!(coloured.contains("\u{1b}[3mversion\u{1b}[0m\u{1b}[2m=\u{1b}[0m7"), "{coloured:?}");
    }

    #[test]
    fn a_text_that_can_be_shown_is_not_changed() {
        for text in ["", "größe \\ \"x\" 漢字", "a\u{301}"] {
            assert_eq!(one_line(text), text);
        }
        assert_eq!(one_line("a\n\nb\u{1b}"), "a\\n\\nb\\u{1b}");
    }
}
