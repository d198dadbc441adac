//! What is shown: 100 columns, colour on a terminal only.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use component_lease_testkit::stage::judge::{Handover, Verdict};

pub struct Screen {
    colour: bool,
}

impl Screen {
    pub fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour }
    }

    fn paint(&self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn bold(&self, text: impl Display) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: impl Display) -> String {
        self.paint("2", text)
    }

    pub fn title(&self, text: &str) {
        println!("\n{}", self.bold(text));
    }

    pub fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Something that takes a while, and how long it took.
    pub async fn doing<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        if self.colour {
            print!("  {} {what} …", self.dim("…"));
            let _ = std::io::stdout().flush();
        }
        let done = work.await;
        let mark = if done.is_ok() { self.paint("32", "✓") } else { self.paint("31", "✗") };
        let back = if self.colour { "\r\x1b[K" } else { "" };
        println!(
            "{back}  {mark} {what:<84}{}",
            self.dim(format_args!("{:>7.1} s", begun.elapsed().as_secs_f64()))
        );
        done
    }

    /// A command as it was typed, and what it printed.
    pub fn command(&self, command: &str, output: &str) {
        println!("\n  {}", self.bold(format_args!("$ {command}")));
        for line in output.lines() {
            println!("  {}", line.trim_end());
        }
    }

    pub fn step(&self, number: usize, what: &str, so: &str) {
        println!("\n{} {}", self.bold(format_args!("{number}. {what}")), self.dim(so));
        let heads = format!(
            "     {:<37}{:>10}{:>9}{:>9}{:>14}{:>12}",
            "", "released", "taken", "label", "first answer", "silence"
        );
        println!("{}", self.dim(heads));
    }

    /// One change of the leader; seconds since `begun`.
    pub fn handover(&self, change: &Handover, begun: Instant) {
        let since = |at: Option<Instant>| match at {
            Some(at) => format!("{:.2}", at.saturating_duration_since(begun).as_secs_f64()),
            None => "-".to_owned(),
        };
        let silence = change.silence.map_or_else(|| "-".to_owned(), seconds);
        let leader = format!("{} v{}", change.to, change.version);
        let answer = self.bold(format_args!("{:>14}", since(change.answer)));
        println!(
            "   {} {leader:<37}{:>10}{:>9}{:>9}{answer}{silence:>12}",
            self.paint("36", "→"),
            since(change.released),
            since(Some(change.row)),
            since(change.label),
        );
    }

    pub fn summary(&self, verdict: &Verdict) {
        let line = |what: &str, count: usize| println!("  {what:<52}{count:>8}");
        self.title("Summary");
        line("requests answered by the leader", verdict.answered);
        line("requests refused", verdict.refused());
        for (reason, count) in &verdict.refused {
            println!("{}", self.dim(format_args!("    {reason:<50}{count:>8}")));
        }
        for (what, list) in [
            ("answered by a pod that did not lead", &verdict.not_leading),
            ("versions that went back", &verdict.backwards),
            ("pods labelled twice by us", &verdict.twice),
        ] {
            let code = if list.is_empty() { "32" } else { "31;1" };
            println!("  {what:<52}{}", self.paint(code, format_args!("{:>8}", list.len())));
            for example in list.iter().take(5) {
                println!("    {example}");
            }
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
