//! How a verb ended, for people and for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::args::Format;
use crate::primary::verbs::Refusal;
use crate::process::telemetry::one_line;
use crate::process::{ExitCode, Failure, output};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum State {
    /// A dry run: this is what would happen.
    Planned,
    /// It is as it was wanted.
    CarriedOut,
    /// It was so already.
    Unchanged,
    /// Nothing was changed.
    Refused,
    /// It was asked, and it is over, but not as it was wanted.
    NotCarriedOut,
    /// It was not done in time, or somebody has interrupted the wait.
    TimedOut,
}

/// The end of a verb.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Ended {
    pub(super) verb: &'static str,
    pub(super) cluster: String,
    pub(super) state: State,
    /// One word, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<String>,
    /// Who is the primary now, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) primary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i64>,
    /// From the moment in which it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
}

impl Ended {
    pub(super) fn new(verb: &'static str, cluster: &str, state: State, message: impl Into<String>) -> Self {
        Self {
            verb,
            cluster: cluster.to_owned(),
            state,
            reason: None,
            message: message.into(),
            steps: Vec::new(),
            primary: None,
            version: None,
            seconds: None,
        }
    }

    pub(super) fn refused(verb: &'static str, cluster: &str, refusal: &Refusal) -> Self {
        Self::new(verb, cluster, State::Refused, refusal.to_string()).because(refusal.reason())
    }

    pub(super) fn because(self, reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..self }
    }

    pub(super) fn with_steps(self, steps: Vec<String>) -> Self {
        Self { steps, ..self }
    }

    pub(super) fn led_by(self, primary: &str, version: i64) -> Self {
        Self { primary: Some(primary.to_owned()), version: Some(version), ..self }
    }

    pub(super) fn after(self, took: Duration) -> Self {
        // To the millisecond.
        #[expect(clippy::cast_precision_loss, reason = "a wait has few milliseconds")]
        let seconds = took.as_millis() as f64 / 1000.0;
        Self { seconds: Some(seconds), ..self }
    }

    /// Says so; the exit code.
    pub(super) fn tell(&self, format: Format) -> Result<u8, Failure> {
        let code = match self.state {
            State::Planned | State::CarriedOut | State::Unchanged => 0,
            State::Refused => ExitCode::Refused.code(),
            State::NotCarriedOut | State::TimedOut => ExitCode::NotCarriedOut.code(),
        };
        let text = match format {
            Format::Json => {
                serde_json::to_string_pretty(self).map_err(|error| Failure::unexpected(error.to_string()))?
                    + "\n"
            }
            Format::Text if code == 0 => self.text(),
            Format::Text => {
                output::complain(&format!("component-lease: {}\n", one_line(self.text().trim_end())));
                return Ok(code);
            }
        };
        output::print(&text)?;
        Ok(code)
    }

    fn text(&self) -> String {
        let Self { verb, cluster, message, .. } = self;
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let took = self.seconds.map(|seconds| format!(" after {seconds:.3} s")).unwrap_or_default();
        match self.state {
            State::Planned => {
                let mut steps = String::new();
                for (n, step) in self.steps.iter().enumerate() {
                    // Writing to a string never fails.
                    let _ = writeln!(steps, "  {}. {}", n + 1, one_line(step));
                }
                format!("{verb} of {cluster} would do this (dry run, nothing was changed):\n{steps}")
            }
            State::CarriedOut => format!("{}{took}\n", one_line(message)),
            State::Unchanged => format!("{}; nothing was changed\n", one_line(message)),
            State::Refused => {
                format!("{verb} of {cluster} was refused{reason}, nothing was changed: {message}\n")
            }
            State::NotCarriedOut | State::TimedOut => {
                format!("{verb} of {cluster} was not carried out{took}{reason}: {message}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_a_sentence_and_as_a_document() {
        let done = Ended::new("switchover", "orders", State::CarriedOut, "b is the primary under version 5")
            .led_by("b", 5)
            .after(Duration::from_millis(1042));
        assert_eq!(done.text(), "b is the primary under version 5 after 1.042 s\n");
        assert_eq!(
            serde_json::to_value(&done).unwrap(),
            serde_json::json!({
                "verb": "switchover", "cluster": "orders", "state": "CarriedOut",
                "message": "b is the primary under version 5", "primary": "b", "version": 5, "seconds": 1.042
            })
        );
        let refused = Ended::refused("fence", "orders", &Refusal::NoRecord);
        assert!(
            refused.text().starts_with(
                "fence of orders was refused (NoRecord), nothing was changed: there is no record"
            )
        );
        let planned = Ended::new("pause", "orders", State::Planned, "").with_steps(vec!["One.".to_owned()]);
        assert_eq!(
            planned.text(),
            "pause of orders would do this (dry run, nothing was changed):\n  1. One.\n"
        );
    }
}
