//! Completion of what is being typed: scripts for shells, and answers for `kubectl`, which asks an executable named
//! `kubectl_complete-componentlease` with the words so far.

use std::time::Duration;

use clap::{ArgAction, Parser as _};

use super::args::Place;
use super::leases::{Leases, Open};
use super::words::{lines, or_dash, safe};
use crate::process::{Failure, output};

/// Nobody waits longer for a key.
const PATIENCE: Duration = Duration::from_secs(3);
/// What cobra, and so kubectl, calls "do not offer files".
const NO_FILES: &str = ":4";

/// What can stand where the cursor is.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// These words, each with its meaning.
    Words(Vec<(String, String)>),
    /// The name of a lease.
    Lease,
    /// A participant of this lease.
    Instance(String),
}

/// The script for a shell.
///
/// # Errors
/// When it cannot be printed.
pub fn script(shell: clap_complete::Shell, mut command: clap::Command, name: &str) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// What can follow the words so far, the last of which is being typed: a word a line, as kubectl wants it.
///
/// # Errors
/// When it cannot be printed. A cluster that does not answer is no error: there is nothing to offer.
pub async fn answer(root: &clap::Command, words: &[String], open: Open<'_>) -> Result<u8, Failure> {
    let typed = words.last().map_or("", String::as_str);
    let offered: Vec<(String, String)> = match wanted(root, words) {
        Wanted::Words(offered) => offered,
        live => tokio::time::timeout(PATIENCE, names(&live, words, open)).await.unwrap_or_default(),
    };
    let fitting = offered.into_iter().filter(|(word, _)| word.starts_with(typed));
    let fitting =
        fitting.map(|(word, about)| if about.is_empty() { word } else { format!("{word}\t{about}") });
    output::print(&(lines(fitting) + NO_FILES + "\n"))
}

fn wanted(root: &clap::Command, words: &[String]) -> Wanted {
    let (typed, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let Some((name, before)) = before.split_first() else {
        let commands = root.get_subcommands().filter(|sub| !sub.is_hide_set());
        return Wanted::Words(
            commands.map(|sub| (sub.get_name().to_owned(), about(sub.get_about()))).collect(),
        );
    };
    let Some(command) = root.find_subcommand(name) else { return Wanted::Words(Vec::new()) };
    if typed.starts_with('-') {
        let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let flags = flags.filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help()))));
        return Wanted::Words(flags.collect());
    }
    let (lease, flag) = position(command, before);
    match flag {
        Some(flag) if matches!(flag.get_id().as_str(), "to" | "expect_holder") => {
            Wanted::Instance(lease.unwrap_or_default())
        }
        Some(flag) => {
            let values = flag.get_possible_values();
            Wanted::Words(
                values.iter().map(|value| (value.get_name().to_owned(), about(value.get_help()))).collect(),
            )
        }
        None if lease.is_none() && command.get_positionals().next().is_some() => Wanted::Lease,
        None => Wanted::Words(Vec::new()),
    }
}

/// The lease that is named already, and the flag whose value comes next.
fn position<'c>(command: &'c clap::Command, words: &[String]) -> (Option<String>, Option<&'c clap::Arg>) {
    let (mut lease, mut flag) = (None, None);
    for word in words {
        if flag.take().is_some() {
            continue;
        }
        if !word.starts_with('-') {
            lease = lease.or_else(|| Some(word.clone()));
            continue;
        }
        let named = |arg: &&clap::Arg| {
            arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
                || arg.get_short().is_some_and(|short| word.strip_prefix('-') == Some(&short.to_string()))
        };
        let takes = |arg: &&clap::Arg| {
            matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
        };
        flag = command.get_arguments().filter(takes).find(named);
    }
    (lease, flag)
}

fn about(help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    help.lines().next().unwrap_or_default().to_owned()
}

/// Only what says where: the rest of a line that is being typed makes no sense yet.
#[derive(Debug, clap::Parser)]
#[command(ignore_errors = true, disable_help_flag = true)]
struct Where {
    #[command(flatten)]
    place: Place,
    _rest: Vec<String>,
}

async fn names(wanted: &Wanted, words: &[String], open: Open<'_>) -> Vec<(String, String)> {
    let words = std::iter::once("").chain(words.iter().map(String::as_str));
    let Ok(Where { place, .. }) = Where::try_parse_from(words) else { return Vec::new() };
    let Ok(leases) = Leases::at(place, open).await else { return Vec::new() };
    match wanted {
        Wanted::Words(offered) => offered.clone(),
        Wanted::Lease => {
            let views = leases.views(&[], false).await.unwrap_or_default();
            views.iter().map(|view| (safe(&view.name), or_dash(view.holder.as_deref()))).collect()
        }
        Wanted::Instance(lease) => {
            let instances = leases.one(lease).await.map(|view| view.instances).unwrap_or_default();
            let about = |leads, healthy| match (leads, healthy) {
                (true, _) => "leads",
                (false, true) => "",
                (false, false) => "not healthy",
            };
            let offered = instances.iter();
            offered.map(|one| (safe(&one.instance), about(one.leads, one.healthy).to_owned())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Plugin {
        #[command(subcommand)]
        _command: super::super::args::Command,
    }

    fn at(words: &[&str]) -> Wanted {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        wanted(&Plugin::command(), &words)
    }

    fn offered(words: &[&str]) -> Vec<String> {
        match at(words) {
            Wanted::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn first_comes_a_command_then_a_lease_then_nothing() {
        assert!(
            offered(&["sw"]).contains(&"switchover".to_owned()) && offered(&[]).contains(&"get".to_owned())
        );
        assert_eq!(at(&["switchover", ""]), Wanted::Lease);
        assert!(offered(&["switchover", "web", ""]).is_empty());
        assert!(offered(&["nonsense", ""]).is_empty());
    }

    #[test]
    fn a_flag_is_offered_by_its_long_name_and_then_its_values() {
        assert!(offered(&["get", "--"]).contains(&"--output".to_owned()));
        assert!(offered(&["get", "-o", ""]).contains(&"yaml".to_owned()));
        assert!(offered(&["get", "--output", ""]).contains(&"wide".to_owned()));
        assert!(offered(&["get", "-n", ""]).is_empty());
        assert_eq!(at(&["get", "-n", "web", ""]), Wanted::Lease, "the value of a flag is no lease");
        assert_eq!(at(&["switchover", "--wait", ""]), Wanted::Lease, "its value follows an equals sign");
    }

    #[test]
    fn a_target_is_offered_among_the_instances_of_the_lease() {
        assert_eq!(at(&["switchover", "web", "--to", ""]), Wanted::Instance("web".to_owned()));
        assert_eq!(at(&["promote", "--to", ""]), Wanted::Instance(String::new()));
    }
}
