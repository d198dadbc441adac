//! What is common to the verbs, wherever the lease is: what is asked, what the terminal says meanwhile, how it ended.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::args::{AskArgs, PromoteArgs, StepDownArgs, SwitchoverArgs};
use super::screen::Screen;
use super::words::{lines, safe, span};
use crate::election::Verb;
use crate::process::asker::confirmed;
use crate::process::{ExitCode, Failure, output};
use crate::store::new_uuid;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) lease: String,
    pub(super) verb: Verb,
    pub(super) to: Option<String>,
    pub(super) away: Option<Duration>,
    pub(super) id: String,
    /// The id, if it was chosen by hand.
    pub(super) chosen: Option<String>,
    pub(super) reason: String,
    pub(super) expect_holder: Option<String>,
    pub(super) expect_version: Option<i64>,
    pub(super) replace: Option<String>,
    pub(super) dry_run: bool,
    pub(super) wait: bool,
    pub(super) timeout: Option<Duration>,
    /// Whether nobody has to confirm it.
    pub(super) yes: bool,
}

impl Asking {
    fn new(lease: &str, verb: Verb, to: Option<String>, ask: AskArgs) -> Self {
        let AskArgs { reason, expect_holder, expect_version, replace, id, dry_run, wait, timeout } = ask;
        Self {
            lease: lease.to_owned(),
            verb,
            to,
            away: None,
            chosen: id.clone(),
            id: id.unwrap_or_else(new_uuid),
            reason,
            expect_holder,
            expect_version,
            replace,
            dry_run,
            wait,
            timeout,
            yes: true,
        }
    }

    pub(super) fn switchover(args: SwitchoverArgs) -> Self {
        Self::new(&args.one.name, Verb::Switchover, args.to, args.ask)
    }

    /// A leader leaves its node.
    pub(super) fn to_leave(lease: &str, (from, to): (&str, &str), reason: &str, dry_run: bool) -> Self {
        let ask = AskArgs {
            reason: reason.to_owned(),
            expect_holder: Some(from.to_owned()),
            expect_version: None,
            replace: None,
            id: None,
            dry_run,
            wait: true,
            timeout: None,
        };
        Self::new(lease, Verb::Switchover, Some(to.to_owned()), ask)
    }

    pub(super) fn step_down(args: StepDownArgs) -> Self {
        let name = args.name.unwrap_or_default();
        Self { away: args.away, ..Self::new(&name, Verb::StepDown, None, args.ask) }
    }

    pub(super) fn promote(args: PromoteArgs) -> Self {
        let verb = if args.now { Verb::PromoteNow } else { Verb::Promote };
        Self { yes: args.yes || !args.now, ..Self::new(&args.one.name, verb, Some(args.to), args.ask) }
    }

    /// Whether somebody said in which term it is to be asked.
    pub(super) fn expects(&self) -> bool {
        self.expect_holder.is_some() || self.expect_version.is_some()
    }

    fn words(&self) -> String {
        let verb = match self.verb {
            Verb::Switchover => "switchover",
            Verb::StepDown => "step-down",
            Verb::Promote => "promotion",
            Verb::PromoteNow => "promotion at once",
        };
        let to = self.to.as_ref().map(|to| format!(" to {}", safe(to))).unwrap_or_default();
        format!("{verb} of {}{to}", safe(&self.lease))
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// A dry run: this is what would happen.
    Planned { steps: Vec<String>, within: Duration },
    /// It is asked, and nobody waits for it.
    Asked { id: String },
    /// It is as it was wanted.
    Done { leader: String, version: i64, took: Option<Duration> },
    /// It was asked, and it is over, but not as it was wanted.
    NotDone { reason: String, message: String },
    /// It did not come about in time, or somebody interrupted the wait, and it was taken back.
    GivenUp { took: Duration, interrupted: bool, how: &'static str },
    /// Nothing was asked.
    Refused { reason: String, message: String },
}

impl Ended {
    /// Says so; the exit code.
    pub(super) fn tell(&self, asking: &Asking, screen: Screen) -> Result<u8, Failure> {
        let words = asking.words();
        match self {
            Self::Planned { steps, within } => {
                let steps =
                    lines(steps.iter().enumerate().map(|(n, step)| format!("  {}. {}", n + 1, safe(step))));
                output::print(&format!(
                    "{words} would do this (dry run, nothing was changed):\n{steps}It would be over within {}.\n",
                    span(*within)
                ))
            }
            Self::Asked { id } => output::print(&format!("asked for {words}; id {}\n", safe(id))),
            Self::Done { leader, version, took } => {
                let took = took.map(|took| format!(" after {}", span(took))).unwrap_or_default();
                let line =
                    format!("{} leads {} with version {version}{took}", safe(leader), safe(&asking.lease));
                output::print(&format!("{}\n", screen.good(&line)))
            }
            Self::NotDone { reason, message } => Err(Failure::new(
                ExitCode::NotCarriedOut,
                format!("{words} was not carried out ({reason}): {}", safe(message)),
            )),
            Self::GivenUp { took, interrupted, how } => {
                let (why, took) = (if *interrupted { "Interrupted" } else { "TimedOut" }, span(*took));
                Err(Failure::new(
                    ExitCode::NotCarriedOut,
                    format!(
                        "{words} was not carried out within {took} ({why}): the request {how}, but a leader that has read it may still make way; describe shows what stands in the way"
                    ),
                ))
            }
            Self::Refused { reason, message } => Err(Failure::new(
                ExitCode::Refused,
                format!("{words} was refused ({reason}), nothing was changed: {}", safe(message)),
            )),
        }
    }
}

/// Asks back where two may lead.
pub(super) fn confirm(asking: &Asking, leader: &str) -> Result<(), Failure> {
    if asking.yes {
        return Ok(());
    }
    let who = if leader.is_empty() { "nobody".to_owned() } else { safe(leader) };
    let question = format!(
        "{} does not wait for {who} to stop. For up to one TTL both may work; only writes that check the version are safe.\nType the name of the lease to go on: ",
        asking.words()
    );
    match confirmed(&question, &asking.lease) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(ExitCode::Refused, "not confirmed, nothing was changed".to_owned())),
        None => Err(Failure::new(
            ExitCode::Usage,
            "promote --now has to be confirmed, and there is no terminal to ask at; add --yes".to_owned(),
        )),
    }
}

/// What the terminal says meanwhile.
pub(super) struct Told<'a> {
    pub(super) asking: &'a Asking,
    pub(super) screen: Screen,
    /// Cancelled when somebody ends the command.
    pub(super) end: &'a CancellationToken,
}

impl Told<'_> {
    /// It is asked, and is waited for.
    pub(super) fn asked(&self, id: &str, leader: &str, already: bool) {
        if !self.asking.wait {
            return;
        }
        let from = if leader.is_empty() { String::new() } else { format!(" from {}", safe(leader)) };
        let how = if already { "was asked before" } else { "asked" };
        let line = format!("{how}: {}{from} (id {})", self.asking.words(), safe(id));
        output::complain(&format!("{}\n", self.screen.faint(&line)));
    }
}
