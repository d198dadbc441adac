//! The processes of this machine as `/proc` shows them: which of them run below another one, and
//! how one of them is signalled without hitting a stranger that was given its number meanwhile.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};

/// One process. Number and start together name it: numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) pid: Pid,
    /// In clock ticks since boot.
    started: u64,
}

/// A process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: Id,
    pub(crate) group: i32,
    pub(crate) name: String,
    parent: i32,
    ended: bool,
}

impl Process {
    /// Reads one line of `/proc/PID/stat`.
    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.split_once(" (")?;
        // The name may contain anything, parentheses and newlines too.
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let state = *fields.first()?;
        let threads: u32 = fields.get(17)?.parse().ok()?;
        Some(Self {
            id: Id { pid: Pid::from_raw(pid.parse().ok()?)?, started: fields.get(19)?.parse().ok()? },
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            name: name.to_owned(),
            // A zombie has ended, unless only its first thread has.
            ended: matches!(state, "Z" | "X" | "x") && threads <= 1,
        })
    }

    pub(crate) fn read(pid: Pid) -> Option<Self> {
        let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    pub(crate) fn lives(&self) -> bool {
        !self.ended
    }

    pub(crate) fn is_child_of(&self, parent: Pid) -> bool {
        self.parent == parent.as_raw_nonzero().get()
    }

    /// Signals this very process; `SRCH` when it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let pid = self.id.pid;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(exact) if Self::read(pid).is_some_and(|now| now.id == self.id) => {
                pidfd_send_signal(exact, signal)
            }
            Ok(_) => Err(Errno::SRCH),
            // Kernels and sandboxes that do not know it: as exact as a number can be.
            Err(Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => {
                if Self::read(pid).is_none_or(|now| now.id != self.id) {
                    return Err(Errno::SRCH);
                }
                kill_process(pid, signal)
            }
            Err(error) => Err(error),
        }
    }

    /// For a person who has to find it: number, name and user.
    pub(crate) fn describe(&self) -> String {
        let pid = self.id.pid.as_raw_nonzero();
        match fs::metadata(format!("/proc/{pid}")) {
            Ok(folder) => format!("{pid} ({:?}, user {})", self.name, folder.uid()),
            Err(_) => format!("{pid} ({:?})", self.name),
        }
    }
}

/// All processes that this user may see. An error when `/proc` is not mounted, or is that of
/// another PID namespace, in which our numbers mean other processes.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    let me = getpid();
    let itself = fs::read_link("/proc/self")?;
    if itself.to_str() != Some(me.as_raw_nonzero().to_string().as_str()) {
        return Err(io::Error::other("/proc belongs to another PID namespace"));
    }
    let numbers = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    Ok(numbers.filter_map(Process::read).collect())
}

/// The living processes that run below `root`, children of children too. A process of `apart` is
/// left out together with everything below it.
pub(crate) fn below<'a>(all: &'a [Process], root: Pid, apart: &[Id]) -> Vec<&'a Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all.iter().filter(|process| !apart.contains(&process.id)) {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut parents) = (Vec::new(), vec![root.as_raw_nonzero().get()]);
    while let Some(parent) = parents.pop() {
        // Taken out: a list that was read while processes came and went may contain a circle.
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.id.pid.as_raw_nonzero().get());
            found.push(child);
        }
    }
    found.retain(|process| !process.ended);
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn process(pid: i32, parent: i32, state: char, threads: u32) -> Process {
        let text = format!(
            "{pid} (a (b) c) {state} {parent} {pid} 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 {threads} 0 {} 0 0\n",
            pid * 100
        );
        Process::parse(&text).unwrap()
    }

    fn numbers(found: &[&Process]) -> Vec<i32> {
        let mut numbers: Vec<_> = found.iter().map(|process| process.id.pid.as_raw_nonzero().get()).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_name_may_contain_whatever_separates_the_other_fields() {
        let read = process(7, 3, 'S', 1);
        assert_eq!((read.name.as_str(), read.parent, read.group), ("a (b) c", 3, 7));
        assert_eq!(read.id, Id { pid: Pid::from_raw(7).unwrap(), started: 700 });
        for nonsense in ["", "7", "7 (x", "7 (x) S 1", "x (x) S 3 7 1 0"] {
            assert_eq!(Process::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn everything_below_a_process_is_found_and_nothing_beside_it() {
        let all = [
            process(10, 1, 'S', 1),
            process(11, 10, 'S', 1),
            process(12, 11, 'S', 1),
            process(13, 12, 'S', 1),
            process(20, 1, 'S', 1),
            process(21, 20, 'S', 1),
        ];
        let root = Pid::from_raw(10).unwrap();
        assert_eq!(numbers(&below(&all, root, &[])), [11, 12, 13]);
        assert_eq!(numbers(&below(&all, root, &[all[2].id])), [11], "apart with all that is below it");
        let another = Id { started: 1, ..all[2].id };
        assert_eq!(numbers(&below(&all, root, &[another])), [11, 12, 13], "a number that was used again");
    }

    #[test]
    fn a_zombie_is_not_a_living_process_but_one_whose_first_thread_alone_has_ended_is() {
        let all = [process(11, 10, 'Z', 1), process(12, 10, 'Z', 2), process(13, 10, 'T', 1)];
        assert_eq!(numbers(&below(&all, Pid::from_raw(10).unwrap(), &[])), [12, 13]);
    }

    #[test]
    fn a_list_that_contradicts_itself_comes_to_an_end() {
        let all = [process(10, 11, 'S', 1), process(11, 10, 'S', 1)];
        assert_eq!(numbers(&below(&all, Pid::from_raw(10).unwrap(), &[])), [10, 11]);
    }

    #[test]
    fn a_process_is_signalled_and_never_the_next_one_of_its_number() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let seen = Process::read(Pid::from_child(&child)).unwrap();
        assert!(below(&all().unwrap(), getpid(), &[]).iter().any(|process| process.id == seen.id));
        let earlier = Process { id: Id { started: seen.id.started - 1, ..seen.id }, ..seen.clone() };
        assert_eq!(earlier.signal(Signal::KILL), Err(Errno::SRCH));
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        assert!(seen.describe().contains("\"sleep\", user"), "{}", seen.describe());
        seen.signal(Signal::KILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(seen.signal(Signal::KILL), Err(Errno::SRCH));
    }
}
