//! The processes of the supervised program: its process group, and whatever else runs below its
//! guardians, in whatever group or session. What is signalled, what is ended by force, and what
//! must be gone before the lease is released.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, kill_process_group};

use super::processes::{self, Id, Process};

/// Between two rounds of ending what runs: what is killed needs a moment to end.
pub(crate) const ROUND: Duration = Duration::from_millis(20);

/// Where the processes of a program are found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// They run below this process; when it has ended, what it had is below this very one.
    pub(crate) root: Option<Id>,
    /// Not the program's, together with everything below.
    pub(crate) apart: Vec<Id>,
    /// Between the root and the program, and no part of it.
    pub(crate) guardians: Vec<Id>,
    /// The group that the program leads, as long as its number cannot have been used again.
    pub(crate) group: Option<Pid>,
    /// What is not below the root is another program's, also when the root has ended.
    pub(crate) nowhere_else: bool,
}

/// One round of ending everything.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// What lived when the round began.
    pub(crate) living: Vec<Process>,
    /// What cannot be signalled, and why.
    pub(crate) refused: Vec<(Process, Errno)>,
}

impl Scope {
    pub(crate) fn living(&self) -> io::Result<Vec<Process>> {
        let all = processes::all()?;
        let root = all.iter().find(|process| Some(process.id) == self.root && process.lives());
        if root.is_none() && self.nowhere_else {
            return Ok(Vec::new());
        }
        let found = processes::below(&all, root.map_or_else(getpid, |root| root.id.pid), &self.apart);
        Ok(found.into_iter().filter(|process| !self.guardians.contains(&process.id)).cloned().collect())
    }

    /// Ends by force what lives now. Call it again until nothing is left: something may have been started meanwhile.
    pub(crate) fn kill(&self) -> io::Result<Round> {
        let living = match self.living() {
            Ok(living) => living,
            Err(error) => {
                if let Some(group) = self.group {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                return Err(error);
            }
        };
        for group in self.groups(&living) {
            // A group is killed at once, with the processes that it is starting. The next round finds those that were missed.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let refused = living.iter().filter_map(|process| match process.signal(Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => None,
            Err(error) => Some((process.clone(), error)),
        });
        Ok(Round { refused: refused.collect(), living })
    }

    /// The groups that consist of the program's processes alone, as one of them leads or led it.
    fn groups(&self, living: &[Process]) -> HashSet<Pid> {
        let leaders: HashSet<Pid> = living.iter().map(|process| process.id.pid).chain(self.group).collect();
        let groups = living.iter().filter_map(|process| Pid::from_raw(process.group));
        groups.filter(|group| leaders.contains(group)).collect()
    }
}

/// The program of the term that runs now, if any; shared with the thread that ends it by force.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    scope: Mutex<Option<Scope>>,
}

impl Tree {
    pub(crate) fn set(&self, scope: Option<Scope>) {
        *self.lock() = scope;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Scope>> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing while there is no program.
    pub(crate) fn scope(&self) -> Option<Scope> {
        self.lock().clone()
    }

    /// To the program's process group.
    pub(crate) fn signal(&self, signal: Signal) {
        // Held while it is sent: the number of a group that has ended is taken out under the same lock.
        if let Some(group) = self.lock().as_ref().and_then(|scope| scope.group)
            && let Err(error) = kill_process_group(group, signal)
            && error != Errno::SRCH
        {
            tracing::warn!(
                group = group.as_raw_nonzero(),
                signal = signal.as_raw(),
                %error,
                "cannot signal the program; does it run as another user?"
            );
        }
    }

    /// To stop by itself. A stopped process must be continued to hear it.
    pub(crate) fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// For the thread of last resort: ends everything that it sees, for as long as `limit`. Whether there was a program.
    pub(crate) fn kill(&self, limit: Duration) -> bool {
        let rounds = limit.as_millis() / ROUND.as_millis();
        for round in 0..rounds.max(1) {
            let Some(scope) = self.scope() else { return round > 0 };
            if scope.kill().is_ok_and(|round| round.living.is_empty()) {
                break;
            }
            thread::sleep(ROUND);
        }
        true
    }
}

/// What remains of a program that has ended, and was asked to stop.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    asked: HashSet<Id>,
}

impl Remains {
    /// Asks what is left to stop, each process once: first those of the program's own group, the others when
    /// none of those is left. A worker of the program may only be able to end in order before it does.
    pub(crate) fn ask_to_stop(&mut self, living: &[Process], group: Option<Pid>) {
        let number = group.map(|group| group.as_raw_nonzero().get());
        let in_group = living.iter().any(|process| Some(process.group) == number);
        for process in living.iter().filter(|process| !in_group || Some(process.group) == number) {
            if self.asked.insert(process.id) {
                let _ = process.signal(Signal::TERM);
                let _ = process.signal(Signal::CONT);
            }
        }
    }
}

/// For a person: who is in the way.
pub(crate) fn name(living: &io::Result<Vec<Process>>) -> String {
    const MOST: usize = 5;
    match living {
        Err(error) => format!("/proc cannot be read ({error}), so it is not known which process it is"),
        Ok(living) if living.is_empty() => {
            "/proc does not show which process it is (is it mounted with hidepid?)".to_owned()
        }
        Ok(living) => {
            let names: Vec<_> = living.iter().take(MOST).map(Process::describe).collect();
            let more = living.len().saturating_sub(MOST);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("process {}{more}", names.join(", "))
        }
    }
}
