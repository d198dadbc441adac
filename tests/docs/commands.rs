//! The commands that pages show, held against what the program says of itself.

use std::collections::BTreeMap;
use std::process::Command;

use super::markdown::Page;

/// The help of one command, or `None` where there is no such command.
pub(crate) struct Program {
    helps: BTreeMap<Vec<String>, Option<String>>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { helps: BTreeMap::new() }
    }

    pub(crate) fn help(&mut self, command: &[String]) -> Option<&str> {
        let ask = || {
            let mut asked = Command::new(env!("CARGO_BIN_EXE_component-lease"));
            let answer = asked.args(command).arg("--help").output().unwrap();
            answer.status.success().then(|| String::from_utf8(answer.stdout).unwrap())
        };
        self.helps.entry(command.to_vec()).or_insert_with(ask).as_deref()
    }

    /// All commands that are not hidden, each as its words.
    pub(crate) fn commands(&mut self) -> Vec<Vec<String>> {
        let mut found = vec![Vec::new()];
        let mut at = 0;
        while let Some(command) = found.get(at).cloned() {
            for name in self.subcommands(&command) {
                found.push([command.clone(), vec![name]].concat());
            }
            at += 1;
        }
        found
    }

    fn subcommands(&mut self, command: &[String]) -> Vec<String> {
        let help = self.help(command).unwrap_or_default();
        let listed =
            help.split("Commands:\n").nth(1).unwrap_or_default().lines().take_while(|line| !line.is_empty());
        let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect()
    }

    /// What is wrong with a command line, given without the name of the program.
    pub(crate) fn refuses(&mut self, words: &[String]) -> Option<String> {
        let mut command: Vec<String> = Vec::new();
        let mut rest = words.iter();
        for word in rest.by_ref() {
            let is_placeholder = word.chars().all(|c| c.is_uppercase() || c == '…');
            if word.starts_with('-') || is_placeholder {
                break;
            }
            let has_subcommands = !self.subcommands(&command).is_empty();
            if !has_subcommands {
                break;
            }
            command.push(word.clone());
            if self.help(&command).is_none() {
                return Some(format!("there is no command {command:?}"));
            }
        }
        let placeholder = command.is_empty() && words.first().is_some_and(|word| !word.starts_with('-'));
        let help = self.help(&command).unwrap_or_default().to_owned();
        let flags = words.iter().take_while(|word| *word != "--").filter(|word| word.starts_with("--"));
        let names = flags.map(|flag| flag.split_once('=').map_or(flag.as_str(), |(name, _)| name));
        let mut unknown = names.filter(|name| !placeholder && !mentions(&help, name));
        unknown.next().map(|name| format!("{command:?} has no flag {name}"))
    }
}

/// Whether a text has this flag as a whole word.
pub(crate) fn mentions(text: &str, flag: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(flag).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + flag.len()..].chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// A line in its words: without comments, quotes, and what YAML puts around a list.
fn words(line: &str) -> Vec<String> {
    let code = line.split(" #").next().unwrap_or_default();
    let is_list = code.contains(": [");
    let plain: String = code
        .chars()
        .map(|c| if is_list && ['[', ']', ',', '"', '\''].contains(&c) { ' ' } else { c })
        .collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// Every call of the program in a page, without the program's name.
pub(crate) fn calls(page: &Page) -> Vec<Vec<String>> {
    let shell = |language: &str| ["", "sh", "console", "yaml"].contains(&language);
    let blocks = page.blocks.iter().filter(|block| shell(&block.language));
    let blocks = blocks.map(|block| block.text.replace("\\\n", " "));
    let lines: Vec<String> =
        blocks.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let spans = page.spans().map(str::to_owned);
    lines.into_iter().chain(spans).flat_map(|line| calls_in(&line)).collect()
}

fn calls_in(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let begins = |at: usize| {
        at == 0 || ["&&", "||", ";", "|", "exec", "$", "command:"].contains(&words[at - 1].as_str())
    };
    let names_us = |word: &str| word == "component-lease" || word.ends_with("/component-lease");
    let mut found: Vec<_> = (0..words.len())
        .filter(|at| names_us(&words[*at]) && begins(*at))
        .map(|at| {
            words[at + 1..]
                .iter()
                .take_while(|word| !["|", "&&", ";"].contains(&word.as_str()))
                .cloned()
                .collect()
        })
        .collect();
    // Containers of our own image are given arguments alone.
    if words.first().is_some_and(|word| word == "args:") {
        found.push(words[1..].to_vec());
    }
    found
}

/// The targets of `make` in a page.
pub(crate) fn targets(page: &Page) -> Vec<String> {
    let lines = page.blocks.iter().flat_map(|block| block.text.lines()).chain(page.spans());
    let mut found = Vec::new();
    for line in lines {
        let unquoted: String = line.split('"').step_by(2).collect();
        let mut words = unquoted.split_whitespace().skip_while(|word| word.contains('=')).peekable();
        if words.next_if_eq(&"make").is_none() {
            continue;
        }
        let names = words.take_while(|word| !word.starts_with('#') && !["&&", "|"].contains(word));
        found.extend(names.filter(|word| !word.contains('=')).map(str::to_owned));
    }
    found
}

#[test]
fn an_unknown_command_or_flag_is_noticed_however_it_is_written() {
    let mut program = Program::new();
    let mut wrong = |text: &str| {
        calls(&Page::parse(text)).iter().filter_map(|call| program.refuses(call)).collect::<Vec<_>>()
    };
    assert!(wrong("`component-lease epoch bump` ```\n").is_empty());
    assert!(
        wrong("```sh\ntarget/component-lease run --component a \\\n  --ttl 5 -- sh --anything\n```")
            .is_empty()
    );
    assert!(
        wrong("`helm install component-lease charts/x --wait` `component-lease COMMAND --help`").is_empty()
    );
    for text in [
        "`component-lease elect`",
        "`component-lease epoch bumps`",
        "```sh\ncomponent-lease run --component a \\\n  --tll 5 -- sh\n```",
        "```sh\ncd x && bin/component-lease migrate --first\n```",
        "```yaml\n  command: [/agent/component-lease, run, --componentt, a, --, /x]\n```",
        "```yaml\n  args: [agnet, --component, a]\n```",
    ] {
        assert_eq!(wrong(text).len(), 1, "{text}");
    }
}

#[test]
fn targets_of_make_are_found_among_variables_and_comments() {
    let page = Page::parse(
        "`make deny` and `KEEP=1 make demo`\n```sh\nmake a b  # c\nmake bench WHAT=\"x y\"\n```\n`make`",
    );
    assert_eq!(targets(&page), ["a", "b", "bench", "deny", "demo"]);
}
