//! The person who runs a command.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::output;

/// Who this is, as far as the system says: a name of 253 characters at most. Nobody verifies it.
#[must_use]
pub fn name() -> String {
    let user =
        ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let user = user.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    format!("{user}@{host}").chars().take(253).collect()
}

/// Whether somebody at the terminal answers with exactly this word; `None` without a terminal.
#[must_use]
pub fn confirmed(question: &str, word: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    output::complain(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim() == word)
}
