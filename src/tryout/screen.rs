//! What is shown: at most 100 columns, colour on a terminal only.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::competitor::{Arrival, COMPONENT, Competitor, PROGRAM, TTL_SECONDS};
use super::ledger::{Ledger, Write};
use crate::clock::{Clock, SystemClock};
use crate::election::{LeaseRow, Moment};
use crate::process::output;

/// A line. The reader may have gone.
macro_rules! say {
    () => { say!("") };
    ($($text:tt)+) => {{ let _ = output::print(&format!("{}\n", format_args!($($text)+))); }};
}

pub(super) struct Screen {
    began: Moment,
    colour: bool,
}

impl Screen {
    pub(super) fn new(began: Moment) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { began, colour }
    }

    fn paint(&self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn bold(&self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// A line with the seconds since the beginning.
    fn line(&self, text: impl Display) {
        let seconds = (SystemClock.boot().saturating_sub(self.began)).as_secs_f64();
        say!("{} {text}", self.paint("2", format_args!("{seconds:>6.2} s")));
    }

    pub(super) fn title(&self) {
        say!("{}", self.bold("Three participants compete for one row in a SQLite file."));
        say!("Only the leader's program runs. It writes to a ledger and hands its version along.");
        say!("A participant counts as leading from its first write, which is up to 0.1 s late.\n");
    }

    pub(super) fn started(&self, competitors: &[Competitor]) {
        let list: Vec<_> =
            competitors.iter().map(|one| format!("{} (pid {})", one.name, one.pid())).collect();
        self.line(format_args!("started {}; ttl {TTL_SECONDS} s", list.join(", ")));
    }

    pub(super) fn leads(&self, first: &Arrival, since: Option<(&str, Duration)>) {
        let version = first.write.version;
        let leads = self.paint("1;32", format_args!("{} leads with version {version}", first.from));
        match since {
            None => self.line(leads),
            Some((what, took)) => {
                self.line(format_args!("{leads}, {} after {what}", self.bold(seconds(took))));
            }
        }
    }

    pub(super) fn row(&self, row: &LeaseRow, led_for: Duration) {
        let head =
            format!("{:<10} {:<24} {:>7} {:>5}  {}", "COMPONENT", "HOLDER", "VERSION", "TTL", "LEADS SINCE");
        say!("           {}", self.paint("2", head));
        say!(
            "           {COMPONENT:<10} {:<24} {:>7} {:>3} s  {} ago",
            row.holder,
            row.version,
            row.ttl,
            seconds(led_for)
        );
    }

    pub(super) fn killed(&self, name: &str, pid: u32, writes: u32) {
        self.line(self.paint("1;31", format_args!("kill -9 {pid}: {name} is dead after {writes} writes")));
        self.line("the others wait until the row has not been renewed for one ttl, each by its own clock");
    }

    pub(super) fn refused(&self, from: &str, late: Write, newest: i64) {
        self.line(format_args!(
            "a late {late} by {from} arrives: {}",
            self.paint("1;31", format_args!("refused, version {newest} has written"))
        ));
    }

    pub(super) fn told_to_end(&self, name: &str) {
        self.line(format_args!("SIGTERM to {name}: it stops its program, then releases the lease"));
    }

    pub(super) fn summary(&self, ledger: &Ledger, version: i64) {
        say!();
        self.line(format_args!(
            "the ledger took {} writes of versions 1 to {version} and refused {} with an old version",
            ledger.accepted, ledger.refused
        ));
    }

    pub(super) fn what_next(&self) {
        let me = std::env::args().next().unwrap_or_else(|| "component-lease".to_owned());
        say!("\n{}", self.bold("Next: your own program, in two terminals"));
        say!("  {me} run --component my-job --database-url sqlite:leases.db \\");
        say!("    --migrate --first-install -- your-program");
        say!("The one that starts your program leads. End it: the other starts your program.");
        say!("  {me} run --help     every flag");
        say!("  make demo           the same on a local Kubernetes, behind a Service");
        say!("Each participant ran: sh -c '{PROGRAM}'");
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
