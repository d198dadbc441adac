//! The terminal, if there is one: its width, its colours, its cursor.

use std::io::{self, IsTerminal as _};

use super::words::lines;
use crate::process::{Failure, output};

/// What standard output is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    terminal: bool,
    colour: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Columns; none where nobody looks at columns.
    pub(super) fn width(self) -> Option<usize> {
        self.terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| width.0.into())
    }

    /// Whether what was printed can be drawn anew.
    pub(super) fn is_live(self) -> bool {
        self.terminal
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Draws over what was there before.
    pub(super) fn draw(self, text: &str) -> Result<(), Failure> {
        if self.terminal {
            // Home, then each line up to its end: nothing flickers.
            let lines = lines(text.lines().map(|line| format!("{line}\x1b[K")));
            output::print(&format!("\x1b[H{lines}\x1b[J"))?;
        } else {
            output::print(text)?;
        }
        Ok(())
    }

    /// Makes room for [`Screen::draw`].
    pub(super) fn clear(self) -> Result<(), Failure> {
        if self.terminal {
            output::print("\x1b[2J\x1b[H")?;
        }
        Ok(())
    }
}
