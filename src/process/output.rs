//! What a command prints. A reader that has gone (`migrate | head -1`) is no failure: the work is done, and
//! nobody is left to tell. `print!` would panic.

use std::io::{self, ErrorKind, Write};

use super::exit::Failure;

/// Prints to standard output; the exit code 0.
///
/// # Errors
/// When it cannot be written for another reason than a reader that has gone, as to a full disk.
pub fn print(text: &str) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Failure::unexpected(format!("cannot write to standard output: {error}"))),
    }
}

/// Prints to standard error. Where that fails there is nowhere to say so; the exit code remains.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
