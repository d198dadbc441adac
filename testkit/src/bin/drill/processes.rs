//! What this machine says about its processes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A process, told from a later one with the same number by when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    began: u64,
}

struct Entry {
    process: Process,
    parent: i32,
    state: char,
}

fn entry(pid: i32) -> Option<Entry> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may contain anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let process = Process { pid, began: fields.get(19)?.parse().ok()? };
    Some(Entry { process, parent: fields.get(1)?.parse().ok()?, state: fields.first()?.chars().next()? })
}

fn all() -> Result<Vec<Entry>> {
    let listed = std::fs::read_dir("/proc").context("cannot list the processes")?;
    let pids = listed.filter_map(|one| one.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(entry).filter(|entry| entry.state != 'Z').collect())
}

/// Those whose working folder is this data directory: PostgreSQL's are, whatever their parents are. A server in a tree
/// of its own sees another root.
pub(crate) fn of_server(data: &Path) -> Result<BTreeSet<Process>> {
    let below = data.strip_prefix("/").context("the data directory is no absolute path")?;
    let is_of = |entry: &Entry| {
        std::fs::read_link(format!("/proc/{}/cwd", entry.process.pid)).is_ok_and(|cwd| cwd.ends_with(below))
    };
    Ok(all()?.into_iter().filter(is_of).map(|entry| entry.process).collect())
}

/// A process and all that descend from it, parents first, then those of its server that do not; each with whether it
/// stands still.
fn family(first: i32, data: &Path) -> Result<Vec<(Process, bool)>> {
    let all = all()?;
    let mut found: Vec<&Entry> = all.iter().filter(|entry| entry.process.pid == first).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|entry| entry.process.pid) {
        found.extend(all.iter().filter(|entry| entry.parent == parent));
        at += 1;
    }
    let apart = of_server(data)?;
    let known: BTreeSet<Process> = found.iter().map(|entry| entry.process).collect();
    found.extend(all.iter().filter(|one| apart.contains(&one.process) && !known.contains(&one.process)));
    Ok(found.into_iter().map(|entry| (entry.process, matches!(entry.state, 'T' | 't'))).collect())
}

/// SIGSTOP to a process and all its descendants, parents first, so that none can mend or bear another one. Whether all
/// stand still; if not, it is to be called again.
pub(crate) fn freeze(first: i32, data: &Path) -> Result<bool> {
    let family = family(first, data)?;
    for (process, _) in family.iter().filter(|(_, stopped)| !stopped) {
        signal(process.pid, Signal::STOP)?;
    }
    Ok(family.iter().all(|(_, stopped)| *stopped))
}

/// SIGCONT to all of them, the youngest first: the server can acknowledge before its supervisor looks at a clock.
pub(crate) fn thaw(first: i32, data: &Path) -> Result<()> {
    family(first, data)?.iter().rev().try_for_each(|(process, _)| signal(process.pid, Signal::CONT))
}

/// Sends a signal; nothing happens where the process is gone.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no number of a process")?;
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot signal a process"),
    }
}
